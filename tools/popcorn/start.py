# SPDX-License-Identifier: GPL-2.0
"""Bringing up a kernel: check, lease, load, boot, join.

Whatever can be found out without a lease is found out first, so that bad input costs nothing.
From the lease on the module holds the state: whoever is interrupted, even by SIGKILL, leaves a
kernel that `kernel list` shows and `kernel kill` takes away.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from popcorn import boot
from popcorn.client import RESTING, Client
from popcorn.device import HostDevice
from popcorn.errors import (
    ModuleMissingError,
    NotFoundError,
    PermissionDeniedError,
    PopcornError,
    TimeoutExpiredError,
)
from popcorn.models import Kernel, KernelState, label
from popcorn.plan import (
    Plan,
    Spec,
    check_name,
    check_shape,
    export_for,
    leased_cpus,
    make_plan,
    on_lease,
    target_of,
)
from popcorn.recipe import write_recipe
from popcorn.root import Export, start_server, stop_server, wait_mounted
from popcorn.sysfs import System
from popcorn.units import format_cpulist, format_size

STAGES = ("check", "lease", "load", "boot", "join")

IMAGE_TEXT_MAX = 255
"""The module keeps this many bytes of what was loaded (attribute `image`)."""

CAPABILITIES = {12: "CAP_NET_ADMIN", 17: "CAP_SYS_RAWIO", 22: "CAP_SYS_BOOT"}


class Progress(Protocol):
    """Called as a stage goes on, and once with `seconds` when it is done."""

    def __call__(self, name: str, detail: str, seconds: float | None) -> None:
        """Stage `name` of :data:`STAGES` is at `detail`."""


@dataclass(frozen=True)
class Stage:
    """A stage that is done."""

    name: str
    detail: str
    seconds: float


@dataclass(frozen=True)
class Started:
    """A kernel that runs, and how it came up."""

    kernel: Kernel
    stages: tuple[Stage, ...]

    @property
    def seconds(self) -> float:
        """From the first check to the registration."""
        return sum(stage.seconds for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "kernel": self.kernel.to_json(),
            "stages": [
                {"name": s.name, "detail": s.detail, "seconds": round(s.seconds, 3)}
                for s in self.stages
            ],
            "seconds": round(self.seconds, 3),
        }


class Clock:
    """Stages as they are entered and left, for the progress and the result.

    `done` are those that were left, in their order.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._name = ""
        self._since = 0.0
        self.done: list[Stage] = []

    def enter(self, name: str, detail: str) -> None:
        """Stage `name` begins."""
        self._name, self._since = name, time.monotonic()
        self.say(detail)

    def say(self, detail: str) -> None:
        """The stage is at `detail`."""
        if self._progress is not None:
            self._progress(self._name, detail, None)

    def leave(self, detail: str) -> None:
        """The stage is done."""
        stage = Stage(self._name, detail, time.monotonic() - self._since)
        self.done.append(stage)
        if self._progress is not None:
            self._progress(stage.name, stage.detail, stage.seconds)


def check_capabilities(system: System) -> None:
    """PermissionDeniedError if this process may not start kernels."""
    have = system.capabilities()
    missing = [name for bit, name in CAPABILITIES.items() if not have >> bit & 1]
    if missing:
        raise PermissionDeniedError(
            f"not permitted to start a kernel: {', '.join(missing)} missing", "run it as root"
        )


def _look_up(client: Client, name: str) -> Kernel | None:
    try:
        return client.kernel(name)
    except NotFoundError:
        return None


def start_kernel(
    client: Client,
    spec: Spec,
    *,
    progress: Progress | None = None,
    device: HostDevice | None = None,
    system: System | None = None,
    cache: Path | None = None,
) -> Started:
    """Start a kernel and wait until it has joined the fabric.

    A name that is new gets a new lease; one that rests on its lease starts again there. An error
    before the kernel was sent off gives a new lease back. After that it stays, with whatever
    state the kernel is in: TimeoutExpiredError if it did not join in `spec.timeout` seconds.
    """
    system = system or System()
    device = device or HostDevice()
    clock = Clock(progress)

    clock.enter("check", "asking the module")
    check_name(spec.name)
    check_capabilities(system)
    fabric = client.fabric()
    if not fabric.host:
        raise ModuleMissingError("popcorn_host is not loaded", "load it: modprobe popcorn_host")
    existing = _look_up(client, spec.name)
    if existing is not None:
        spec = on_lease(spec, existing)
    else:
        check_shape(spec, system, leased_cpus(client.kernels()))
    plan = make_plan(spec, system, fabric, cache, clock.say)
    what = f"{plan.image.release or plan.image.name} with {plan.initrd.name}"
    clock.leave(what)

    clock.enter("lease", "taking CPUs and memory")
    if existing is not None:
        kernel = client.kernel_prepare(existing.id)
    else:
        kernel = client.kernel_new(
            spec.name,
            spec.cpus or (),
            spec.memory_bytes or 0,
            memory_start=spec.memory_start,
        )
    clock.leave(lease_text(kernel))

    try:
        export = load_and_boot(client, device, plan, kernel, clock, system)
    except Exception:
        if existing is None:
            # The first error is the one to tell; the lease stays visible if this fails too.
            with contextlib.suppress(PopcornError):
                client.kernel_del(kernel.id)
        raise

    kernel = join(client, kernel, export, spec.timeout, clock)
    return Started(kernel, tuple(clock.done))


def lease_text(kernel: Kernel) -> str:
    """What the stage `lease` ends with."""
    return (
        f"node {kernel.id}: CPUs {format_cpulist(kernel.cpus)},"
        f" {format_size(kernel.memory_size)} at {kernel.memory_start:#x}"
    )


def load_and_boot(
    client: Client, device: HostDevice, plan: Plan, kernel: Kernel, clock: Clock, system: System
) -> Export | None:
    """Stages `load` and `boot`; returns what is served to it."""
    clock.enter("load", "building what is written")
    export, append = export_for(plan.spec, kernel.id, plan.links, system)
    layout = boot.plan(target_of(kernel), plan.image, plan.initrd.size, append)
    segments = boot.build(layout, plan.image, plan.initrd.data, os.urandom(boot.SEED_BYTES))
    total = sum(len(segment.data) for segment in segments)
    device.write(
        segments, lambda written: clock.say(f"{written >> 20} of {total >> 20} MiB written")
    )
    # From its start the server ends with the kernel, and with the lease if that never runs.
    if export is not None:
        clock.say(f"serving its root at {export.address}:{export.port}")
        start_server(export, system=system)
    clock.leave(f"{total / (1 << 20):.1f} MiB in {len(segments)} segments")

    clock.enter("boot", f"starting CPU {kernel.cpus[0]}")
    text = f"{plan.image.release or plan.image.name}, {plan.initrd.name}"
    try:
        client.kernel_boot(
            kernel.id,
            entry=layout.entry,
            boot_params=layout.boot_params,
            page_table_root=layout.page_table_root,
            image=text.encode()[:IMAGE_TEXT_MAX].decode("utf-8", "ignore"),
            recipe=write_recipe(plan),
        )
    except Exception:
        if export is not None:
            stop_server(kernel.id)
        raise
    clock.leave(f"CPU {kernel.cpus[0]} sent to {layout.entry:#x}")
    return export


def _what_to_do(kernel: Kernel) -> str:
    return (
        f"it keeps its lease; to give that back: popcornctl kernel kill {kernel.name};"
        f" to see why: popcornctl kernel dmesg {kernel.name}"
    )


def join(
    client: Client, kernel: Kernel, export: Export | None, timeout: float, clock: Clock
) -> Kernel:
    """Stage `join`: wait until it has registered, and is on its root if it is to have one.

    One with little to do may have powered off again by the time that it is looked at, but it has
    to have had its root.
    """
    clock.enter("join", "waiting for it to register")
    deadline = time.monotonic() + timeout
    found = _registered(client, kernel, timeout)
    if export is not None:
        clock.say("waiting for it to mount its root")
        wait_mounted(kernel.id, kernel.name, deadline - time.monotonic())
    after = f"{found.join_us / 1e6:.2f} s after its first INIT"
    if found.state == KernelState.RUNNING:
        clock.leave(f"{found.name} is running, {after}")
    else:
        clock.leave(f"{found.name} joined {after}, and is {label(found.state)}")
    return found


def _registered(client: Client, kernel: Kernel, timeout: float) -> Kernel:
    ended = (*RESTING, KernelState.STOPPING, KernelState.HUNG)
    try:
        found = client.wait_kernel(kernel.id, (KernelState.RUNNING,), timeout, give_up=ended)
    except TimeoutExpiredError:
        now = client.kernel(kernel.id)
        if now.state == KernelState.RUNNING:
            return now
        raise TimeoutExpiredError(
            f"kernel '{kernel.name}' did not join within {timeout:g} s: it is {label(now.state)}",
            _what_to_do(kernel),
        ) from None
    joined = bool(found.join_us)
    if joined and found.state in (KernelState.RUNNING, KernelState.STOPPING, KernelState.STOPPED):
        return found
    so_far = "joined, and at once" if joined else "ended before it joined,"
    because = f": {found.reason}" if found.reason else ""
    raise PopcornError(
        f"kernel '{kernel.name}' {so_far} it is {label(found.state)}{because}",
        _what_to_do(kernel),
    )
