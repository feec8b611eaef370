# SPDX-License-Identifier: GPL-2.0
"""Bringing up a kernel: check, lease, load, boot, join.

Whatever can be found out without a lease is found out first, so that bad input costs nothing.
From the lease on the module holds the state: whoever is interrupted, even by SIGKILL, leaves a
kernel that `kernel list` shows and `kernel kill` takes away.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from popcorn import boot, image
from popcorn.client import RESTING, Client
from popcorn.device import HostDevice
from popcorn.errors import (
    BusyError,
    ExistsError,
    ImageError,
    ModuleMissingError,
    NotFoundError,
    PermissionDeniedError,
    PlanError,
    PopcornError,
    TimeoutExpiredError,
)
from popcorn.initrd import Initrd, find_initrd
from popcorn.models import Fabric, Kernel, KernelState, label
from popcorn.root import (
    PROFILE,
    ROOTS,
    Export,
    find_export,
    root_words,
    start_server,
    stop_server,
    wait_mounted,
)
from popcorn.sysfs import System
from popcorn.uapi.netlink_gen import MEMORY_GRANULE, NAME_MAX
from popcorn.units import format_cpulist, format_size

if TYPE_CHECKING:
    from popcorn.link import Link

__all__ = (
    "RESTART_STAGES",
    "STAGES",
    "Change",
    "IncompleteSpecError",
    "Plan",
    "Progress",
    "Restarted",
    "Spec",
    "Stage",
    "Started",
    "check_name",
    "plan_start",
    "restart_kernel",
    "start_kernel",
)

STAGES = ("check", "lease", "load", "boot", "join")

RESTART_STAGES = ("check", "stop", "lease", "load", "boot", "join")
"""`stop` is left out for a kernel that does not run."""

MAYBE_REGION = 4 << 30
"""Where a plan puts the memory when nobody knows yet where it will be."""

MAYBE_REGION_LOW = 256 << 20
"""The same for a kernel that cannot be loaded above 4 GiB."""

MAYBE_SLICE = (0x20000, 0x10000)
MAYBE_FABRIC_BYTES = 16 << 20
MAYBE_TSC_KHZ = 1_000_000
MAYBE_INITRD_BYTES = 4 << 20

DEFAULT_PROFILE = "light"

IMAGE_TEXT_MAX = 255
"""The module keeps this many bytes of what was loaded (attribute `image`)."""

RECIPE_TEXT_MAX = 2047
"""And this many of how to load it again (attribute `recipe`)."""

CAPABILITIES = {12: "CAP_NET_ADMIN", 17: "CAP_SYS_RAWIO", 22: "CAP_SYS_BOOT"}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)


class IncompleteSpecError(PlanError):
    """Something that only the caller can say was not said."""

    exit_code = 2


class Progress(Protocol):
    """Called as a stage goes on, and once with `seconds` when it is done."""

    def __call__(self, name: str, detail: str, seconds: float | None) -> None:
        """Stage `name` of :data:`STAGES` is at `detail`."""


@dataclass(frozen=True)
class Spec:
    """What to start. `cpus` and `memory_bytes` may be left out for a kernel that has its lease.

    `kernel` is a path or a release; None means the running kernel's own. `initrd` is a path; None
    means one that is made for the kernel, of `profile`; no profile means light, or full with a
    `root`: "host", the primary's, served over the link. `memory_start` is a physical address, for
    memory that the primary was booted without. `timeout` is how long to wait for the kernel to
    join, seconds.
    """

    name: str
    cpus: tuple[int, ...] | None = None
    memory_bytes: int | None = None
    memory_start: int | None = None
    kernel: str | None = None
    initrd: Path | None = None
    profile: str | None = None
    append: str = ""
    timeout: float = 60.0
    root: str | None = None

    @property
    def image_profile(self) -> str:
        """The profile of an initramfs that is made."""
        return self.profile or (DEFAULT_PROFILE if self.root is None else PROFILE)


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


@dataclass(frozen=True)
class Restarted(Started):
    """A kernel that runs again. `before` is what it was when that was asked for."""

    before: Kernel

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        before = {
            "state": label(self.before.state),
            "reason": self.before.reason,
            "epoch": self.before.epoch,
        }
        return {**super().to_json(), "before": before}


@dataclass(frozen=True)
class Change:
    """What is to be other than last time when a kernel is restarted; None stays as it was.

    With `reload` the files are taken as they are now, without it they must be what they were.
    """

    kernel: str | None = None
    initrd: Path | None = None
    profile: str | None = None
    append: str | None = None
    reload: bool = False


@dataclass(frozen=True)
class Plan:
    """What a start would do. `assumed` are the things that are only known with the lease.

    `fabric` is what the kernel would join, None if the module could not be asked. `links` are this
    kernel's, looked at if the kernel is to have its root over one.
    """

    spec: Spec
    image: boot.BzImage
    initrd: Initrd
    layout: boot.Layout
    memory_minimum: int
    assumed: tuple[str, ...]
    fabric: Fabric | None = None
    links: tuple[Link, ...] = ()

    @property
    def target(self) -> boot.Target:
        """The lease that the plan is for."""
        return self.layout.target

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "name": self.spec.name,
            "cpus": list(self.spec.cpus or ()),
            "apic_ids": list(self.target.apic_ids),
            "memory_start": self.target.region_start,
            "memory_bytes": self.target.region_bytes,
            "memory_minimum_bytes": self.memory_minimum,
            "memory_free_bytes": self.layout.ram_free,
            "image": self.image.name,
            "release": self.image.release,
            "root": self.spec.root,
            "initrd": self.initrd.name,
            "initrd_bytes": self.initrd.size,
            "command_line": self.layout.command_line,
            "entry": self.layout.entry,
            "boot_params": self.layout.boot_params,
            "page_table_root": self.layout.page_table_root,
            "segments": [
                {"name": p.name, "start": p.start, "bytes": p.size} for p in self.layout.placements
            ],
            "e820": [
                {"start": e.start, "bytes": e.size, "type": e.type.name.lower()}
                for e in self.layout.e820
            ],
            "assumed": list(self.assumed),
            "fabric": None if self.fabric is None else self.fabric.to_json(),
        }


def check_name(name: str) -> None:
    """PlanError if `name` is no name for a kernel."""
    if len(name.encode()) > NAME_MAX:
        raise PlanError(
            f"the name '{name}' has {len(name.encode())} bytes", f"at most {NAME_MAX} are allowed"
        )
    if _NAME.fullmatch(name) is None:
        raise PlanError(
            f"'{name}' is not a name for a kernel",
            "use letters, digits, dot, dash and underscore, beginning with a letter",
        )


def _check_cpus(cpus: tuple[int, ...], system: System, leased: dict[int, str]) -> None:
    if not cpus:
        raise PlanError("a kernel needs at least one CPU", "give it some: --cpus 2-3")
    for cpu in cpus:
        if cpus.count(cpu) > 1:
            raise PlanError(f"CPU {cpu} is named twice")
        if cpu in leased:
            raise BusyError(
                f"CPU {cpu} is leased to kernel '{leased[cpu]}'",
                f"give it back: popcornctl kernel stop {leased[cpu]}",
            )
    present = system.cpus("present")
    for cpu in cpus:
        if present and cpu not in present:
            raise PlanError(
                f"CPU {cpu} does not exist", f"this machine has {format_cpulist(present)}"
            )
    if 0 in cpus:
        raise PlanError("CPU 0 booted the machine and stays with the primary", "choose other CPUs")
    online = set(system.cpus("online"))
    if online and not online - set(cpus):
        raise PlanError("no CPU would be left for the primary", "leave it at least one")


def _check_memory(size: int, start: int | None) -> None:
    granule = format_size(MEMORY_GRANULE)
    if size <= 0:
        raise PlanError("a kernel needs memory, not zero bytes", "give it some: --memory 512M")
    if size % MEMORY_GRANULE:
        lower = size // MEMORY_GRANULE * MEMORY_GRANULE
        near = f"{format_size(lower + MEMORY_GRANULE)}"
        if lower:
            near = f"{format_size(lower)} or {near}"
        raise PlanError(
            f"{format_size(size)} of memory is not a multiple of {granule}", f"the nearest: {near}"
        )
    if start is not None and start % MEMORY_GRANULE:
        raise PlanError(f"the memory's start {start:#x} is not a multiple of {granule}")


def image_path(kernel: str | None, system: System) -> Path:
    """The kernel image that is meant: a path, a release, or that of the running kernel."""
    if kernel is None:
        return system.path(f"/boot/vmlinuz-{system.release()}")
    if "/" in kernel:
        return Path(kernel)
    installed = system.path(f"/boot/vmlinuz-{kernel}")
    if not installed.exists() and Path(kernel).exists():
        return Path(kernel)
    return installed


def _check_shape(spec: Spec, system: System, leased: dict[int, str]) -> tuple[int, ...]:
    """Check name, CPUs and memory of a kernel that is to be new; returns the CPUs."""
    check_name(spec.name)
    missing = [
        option
        for option, value in (("--cpus", spec.cpus), ("--memory", spec.memory_bytes))
        if value is None
    ]
    if missing or spec.cpus is None or spec.memory_bytes is None:
        raise IncompleteSpecError(
            f"there is no kernel '{spec.name}' yet: a new one needs {' and '.join(missing)}",
            "for example --cpus 2-3 --memory 512M",
        )
    _check_memory(spec.memory_bytes, spec.memory_start)
    _check_cpus(spec.cpus, system, leased)
    return spec.cpus


def _check_root(spec: Spec) -> None:
    """PlanError for a root that there is not, or an initramfs that does not mount one."""
    if spec.root is not None and spec.root not in ROOTS:
        raise PlanError(f"there is no root '{spec.root}'", f"roots: {', '.join(ROOTS)}")
    if spec.initrd is None and spec.root is not None and spec.image_profile != PROFILE:
        raise PlanError(
            f"images of profile {spec.image_profile} do not mount a root",
            f"leave --profile out: with --root it is {PROFILE}",
        )
    if spec.initrd is None and spec.root is None and spec.profile == PROFILE:
        raise PlanError(f"images of profile {PROFILE} mount a root", "say which: --root host")


def _check_initrd(spec: Spec, initrd: Initrd) -> None:
    """ImageError for an initramfs that was given and does not mount the root."""
    if spec.root is not None and spec.initrd is not None:
        found = image.inspect(initrd.data, initrd.name)
        if found.profile != PROFILE:
            raise ImageError(
                f"{initrd.name} is of profile {found.profile} and does not mount a root",
                f"popcornctl image build --profile {PROFILE} makes one that does",
            )


def _links() -> tuple[Link, ...]:
    from popcorn.link import Links

    with Links() as links:
        return links.list()


def _export(
    spec: Spec, node: int, links: tuple[Link, ...], system: System
) -> tuple[Export | None, str]:
    """What is served to the kernel as node `node`, and all that is appended to its command line."""
    if spec.root is None:
        return None, spec.append
    export = find_export(spec.name, node, links, spec.append, system=system)
    return export, f"{root_words(export)} {spec.append}".rstrip()


def _maybe_target(
    spec: Spec, image: boot.BzImage, system: System, fabric: Fabric | None
) -> tuple[boot.Target, tuple[str, ...]]:
    """A target as the lease might be, and what of it is assumed."""
    assumed = []
    cpus, size = spec.cpus or (), spec.memory_bytes or 0
    known = system.apic_ids()
    unknown = [cpu for cpu in cpus if cpu not in known]
    if unknown:
        assumed.append(f"APIC IDs of CPUs {format_cpulist(unknown)} (taken as their numbers)")
    start = spec.memory_start
    if start is None:
        start = MAYBE_REGION if image.can_load_above_4g else MAYBE_REGION_LOW
        assumed.append(f"start of the memory ({start:#x})")
    assumed.append(f"low slice ({MAYBE_SLICE[0]:#x})")
    if fabric is None:
        assumed.append("fabric and rate of the time stamp counter")
        fabric = Fabric(start + size, MAYBE_FABRIC_BYTES, (0, 0), 0, 0, MAYBE_TSC_KHZ, False)
    elif spec.memory_start is None and fabric.phys < start + size:
        # Where the fabric is, the lease won't be.
        start = max(start, _up(fabric.phys + fabric.size, MEMORY_GRANULE))
    target = boot.Target(
        node_id=1,
        region_start=start,
        region_bytes=size,
        slice_start=MAYBE_SLICE[0],
        slice_bytes=MAYBE_SLICE[1],
        apic_ids=tuple(known.get(cpu, cpu) for cpu in cpus),
        bsp_apic_id=known.get(0, 0),
        tsc_khz=fabric.tsc_khz,
        fabric_start=fabric.phys,
        fabric_bytes=fabric.size,
        x2apic=True,
        name=spec.name,
    )
    return target, tuple(assumed)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _plan(
    spec: Spec,
    system: System,
    fabric: Fabric | None,
    cache: Path | None,
    say: Callable[[str], None] = lambda detail: None,
    *,
    estimate: bool = False,
) -> Plan:
    """Plan on a lease as it might be. `estimate`: guess an initramfs that cannot be made."""
    _check_root(spec)
    links: tuple[Link, ...] = ()
    if spec.root is not None:
        say("looking at the link")
        links = _links()
    say("reading the kernel image")
    kernel = boot.read_image(image_path(spec.kernel, system))
    say("preparing the initramfs")
    guessed: tuple[str, ...] = ()
    profile = spec.image_profile
    try:
        initrd = find_initrd(spec.initrd, profile, kernel.release, system=system, cache=cache)
    except ImageError as error:
        if not estimate or spec.initrd is not None:
            raise
        initrd = Initrd(f"profile {profile}", b"", MAYBE_INITRD_BYTES)
        guessed = (f"size of the initramfs ({error.message})",)
    _check_initrd(spec, initrd)
    target, assumed = _maybe_target(spec, kernel, system, fabric)
    _, append = _export(spec, target.node_id, links, system)
    if spec.root is not None:
        assumed = (*assumed, f"number of the node ({target.node_id}), which the root's port is of")
    layout = boot.plan(target, kernel, initrd.size, append)
    minimum = boot.minimum_region(kernel, initrd.size, target.region_start)
    return Plan(spec, kernel, initrd, layout, minimum, guessed + assumed, fabric, links)


def plan_start(
    spec: Spec,
    *,
    client: Client | None = None,
    system: System | None = None,
    cache: Path | None = None,
) -> Plan:
    """What :func:`start_kernel` would do. Needs neither root nor the modules.

    With a `client`, or where the module is loaded, the fabric is taken from it, and for a kernel
    that has its lease already that lease is planned for.
    """
    system = system or System()
    fabric: Fabric | None = None
    leases: tuple[Kernel, ...] = ()
    if client is not None or system.path("/sys/class/popcorn").exists():
        with contextlib.suppress(ModuleMissingError, PermissionDeniedError):
            client = client or Client()
            fabric = client.fabric()
            leases = client.kernels() if fabric.host else ()
    for kernel in leases:
        if kernel.name == spec.name:
            spec = _on_lease(spec, kernel)
            plan = _plan(spec, system, fabric, cache, estimate=True)
            _, append = _export(spec, kernel.id, plan.links, system)
            layout = boot.plan(_target(kernel), plan.image, plan.initrd.size, append)
            return replace(plan, layout=layout, assumed=plan.assumed[: not plan.initrd.data])
    _check_shape(spec, system, _leased_cpus(leases))
    return _plan(spec, system, fabric, cache, estimate=True)


def _leased_cpus(kernels: tuple[Kernel, ...]) -> dict[int, str]:
    return {cpu: kernel.name for kernel in kernels for cpu in kernel.cpus}


def _on_lease(spec: Spec, kernel: Kernel) -> Spec:
    """`spec` for a kernel that exists; ExistsError if it cannot be started on its lease."""
    if kernel.state not in RESTING:
        raise ExistsError(
            f"the name '{kernel.name}' is taken: that kernel is {label(kernel.state)}",
            f"choose another name, or end it: popcornctl kernel stop {kernel.name}",
        )
    differs = (
        (spec.cpus is not None and set(spec.cpus) != set(kernel.cpus))
        or (spec.memory_bytes is not None and spec.memory_bytes != kernel.memory_size)
        or (spec.memory_start is not None and spec.memory_start != kernel.memory_start)
    )
    if differs:
        raise ExistsError(
            f"kernel '{kernel.name}' is {label(kernel.state)} and has CPUs"
            f" {format_cpulist(kernel.cpus)} and {format_size(kernel.memory_size)} at"
            f" {kernel.memory_start:#x} already",
            f"start it without --cpus and --memory, or give them back: popcornctl kernel kill"
            f" {kernel.name}",
        )
    return replace(
        spec,
        cpus=kernel.cpus,
        memory_bytes=kernel.memory_size,
        memory_start=kernel.memory_start,
    )


def _target(kernel: Kernel) -> boot.Target:
    """The lease as the boot code wants it."""
    return boot.Target(
        node_id=kernel.id,
        region_start=kernel.memory_start,
        region_bytes=kernel.memory_size,
        slice_start=kernel.slice_start,
        slice_bytes=kernel.slice_size,
        apic_ids=kernel.apic_ids,
        bsp_apic_id=kernel.bsp_apic_id,
        tsc_khz=kernel.tsc_khz,
        fabric_start=kernel.fabric_start,
        fabric_bytes=kernel.fabric_size,
        x2apic=kernel.x2apic,
        name=kernel.name,
    )


class _Clock:
    """Stages as they are entered and left, for the progress and the result."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._name = ""
        self._since = 0.0
        self.done: list[Stage] = []

    def enter(self, name: str, detail: str) -> None:
        self._name, self._since = name, time.monotonic()
        self.say(detail)

    def say(self, detail: str) -> None:
        if self._progress is not None:
            self._progress(self._name, detail, None)

    def leave(self, detail: str) -> None:
        stage = Stage(self._name, detail, time.monotonic() - self._since)
        self.done.append(stage)
        if self._progress is not None:
            self._progress(stage.name, stage.detail, stage.seconds)


def _check_capabilities(system: System) -> None:
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
    clock = _Clock(progress)

    clock.enter("check", "asking the module")
    check_name(spec.name)
    _check_capabilities(system)
    fabric = client.fabric()
    if not fabric.host:
        raise ModuleMissingError("popcorn_host is not loaded", "load it: modprobe popcorn_host")
    existing = _look_up(client, spec.name)
    if existing is not None:
        spec = _on_lease(spec, existing)
    else:
        _check_shape(spec, system, _leased_cpus(client.kernels()))
    plan = _plan(spec, system, fabric, cache, clock.say)
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
    clock.leave(
        f"node {kernel.id}: CPUs {format_cpulist(kernel.cpus)},"
        f" {format_size(kernel.memory_size)} at {kernel.memory_start:#x}"
    )

    try:
        export = _load_and_boot(client, device, plan, kernel, clock, system)
    except Exception:
        if existing is None:
            # The first error is the one to tell; the lease stays visible if this fails too.
            with contextlib.suppress(PopcornError):
                client.kernel_del(kernel.id)
        raise

    clock.enter("join", "waiting for it to register")
    kernel = _join(client, kernel, export, spec.timeout, clock)
    clock.leave(f"{kernel.name} is running, {kernel.join_us / 1e6:.2f} s after its first INIT")
    return Started(kernel, tuple(clock.done))


def _load_and_boot(
    client: Client, device: HostDevice, plan: Plan, kernel: Kernel, clock: _Clock, system: System
) -> Export | None:
    clock.enter("load", "building what is written")
    export, append = _export(plan.spec, kernel.id, plan.links, system)
    layout = boot.plan(_target(kernel), plan.image, plan.initrd.size, append)
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
            recipe=_recipe(plan),
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


def _join(
    client: Client, kernel: Kernel, export: Export | None, timeout: float, clock: _Clock
) -> Kernel:
    """Wait until the kernel has registered, and is on its root if it is to have one."""
    deadline = time.monotonic() + timeout
    found = _registered(client, kernel, timeout)
    if export is not None:
        clock.say("waiting for it to mount its root")
        wait_mounted(kernel.id, kernel.name, deadline - time.monotonic())
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
    if found.state != KernelState.RUNNING:
        because = f": {found.reason}" if found.reason else ""
        raise PopcornError(
            f"kernel '{kernel.name}' ended before it joined, it is {label(found.state)}{because}",
            _what_to_do(kernel),
        )
    return found


def _image_digest(plan: Plan) -> str:
    return hashlib.sha256(plan.image.setup_header + plan.image.payload).hexdigest()


def _initrd_digest(plan: Plan) -> str:
    return hashlib.sha256(plan.initrd.data).hexdigest()


def _recipe(plan: Plan) -> str:
    """How to load it again, for the module to keep; empty if that is too much to be kept."""
    spec = plan.spec
    text = json.dumps(
        {
            "kernel": str(Path(plan.image.name).absolute()),
            "kernel_sha256": _image_digest(plan),
            "initrd": None if spec.initrd is None else str(spec.initrd.absolute()),
            "initrd_sha256": _initrd_digest(plan),
            "profile": spec.image_profile,
            "append": spec.append,
            "root": spec.root,
        },
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return text if len(text) <= RECIPE_TEXT_MAX else ""


def _read_recipe(kernel: Kernel) -> dict[str, Any]:
    """What :func:`_recipe` wrote; empty if this is nothing of the kind."""
    try:
        found = json.loads(kernel.recipe)
        if not all(isinstance(found[key], str) for key in ("kernel", "profile", "append")):
            return {}
    except (ValueError, TypeError, KeyError):
        return {}
    return dict(found)


def _as_before(kernel: Kernel, recipe: dict[str, Any], change: Change, timeout: float) -> Spec:
    """What to start: what was started last, but for what is to change."""
    if not recipe and change.kernel is None:
        raise PlanError(
            f"it is not known what kernel '{kernel.name}' was started with",
            f"say what to start: popcornctl kernel restart {kernel.name} --kernel PATH|RELEASE",
        )
    initrd, root = recipe.get("initrd"), recipe.get("root")
    if change.initrd is None and change.profile is not None:
        initrd = None
    if change.profile not in (None, PROFILE):
        root = None
    return Spec(
        name=kernel.name,
        cpus=kernel.cpus,
        memory_bytes=kernel.memory_size,
        memory_start=kernel.memory_start,
        kernel=change.kernel or recipe.get("kernel"),
        initrd=change.initrd or (None if initrd is None else Path(initrd)),
        profile=change.profile or recipe.get("profile", DEFAULT_PROFILE),
        append=recipe.get("append", "") if change.append is None else change.append,
        timeout=timeout,
        root=root,
    )


def _check_same(plan: Plan, recipe: dict[str, Any], change: Change) -> None:
    """ImageError if a file that was not to change did."""
    if change.reload or change.kernel is not None:
        return  # with another kernel, an initramfs that is made for it is another one
    kept_initrd = change.initrd is None and change.profile is None
    for what, same in (
        (plan.image.name, _image_digest(plan) == recipe.get("kernel_sha256")),
        (
            f"the initramfs ({plan.initrd.name})",
            not kept_initrd or _initrd_digest(plan) == recipe.get("initrd_sha256"),
        ),
    ):
        if not same:
            raise ImageError(
                f"{what} is not what kernel '{plan.spec.name}' was started with: it has changed",
                f"to take it as it is now: popcornctl kernel restart {plan.spec.name} --reload",
            )


def _end(client: Client, kernel: Kernel, force: bool, timeout: float) -> Kernel:
    """End a kernel: one that can be asked to power off is asked, unless it is to be forced."""
    state = kernel.state
    if not force and state != KernelState.HUNG:
        if state != KernelState.STOPPING:
            client.kernel_stop(kernel.id)
        try:
            ended = client.wait_kernel(kernel.id, RESTING, timeout, give_up=(KernelState.HUNG,))
        except TimeoutExpiredError:
            now = client.kernel(kernel.id)
            raise TimeoutExpiredError(
                f"kernel '{kernel.name}' did not power off within {timeout:g} s:"
                f" it is {label(now.state)}",
                f"to restart it all the same: popcornctl kernel restart {kernel.name} --force",
            ) from None
        if ended.state in RESTING:
            return ended
    client.kernel_kill(kernel.id)
    return client.kernel(kernel.id)


def restart_kernel(
    client: Client,
    name: int | str,
    change: Change | None = None,
    *,
    force: bool = False,
    stop_timeout: float = 30.0,
    timeout: float = 60.0,
    progress: Progress | None = None,
    device: HostDevice | None = None,
    system: System | None = None,
    cache: Path | None = None,
) -> Restarted:
    """Start a kernel anew on its lease, with what it was started with last, and wait for it.

    One that runs is asked to power off first, for up to `stop_timeout` seconds; with `force`, or
    if it is hung, it is killed. All that can be found out is found out before. From then on the
    lease stays whatever happens, and the same again is the way on.
    """
    system = system or System()
    device = device or HostDevice()
    change = change or Change()
    clock = _Clock(progress)

    clock.enter("check", "asking the module")
    _check_capabilities(system)
    fabric = client.fabric()
    before = client.kernel(name)
    if before.state == KernelState.STARTING and not force:
        raise BusyError(
            f"kernel '{before.name}' has not joined and cannot be asked to power off",
            f"to end it all the same: popcornctl kernel restart {before.name} --force",
        )
    recipe = _read_recipe(before)
    plan = _plan(_as_before(before, recipe, change, timeout), system, fabric, cache, clock.say)
    _check_same(plan, recipe, change)
    _, append = _export(plan.spec, before.id, plan.links, system)
    boot.plan(_target(before), plan.image, plan.initrd.size, append)
    clock.leave(f"{plan.image.release or plan.image.name} with {plan.initrd.name}")

    if before.state not in RESTING:
        clock.enter("stop", "ending it" if force else "waiting for it to power off")
        ended = _end(client, before, force, stop_timeout)
        clock.leave(f"it is {label(ended.state)}")
    stop_server(before.id)

    clock.enter("lease", "clearing its memory")
    kernel = client.kernel_prepare(before.id)
    clock.leave(
        f"node {kernel.id}: CPUs {format_cpulist(kernel.cpus)},"
        f" {format_size(kernel.memory_size)} at {kernel.memory_start:#x}"
    )
    export = _load_and_boot(client, device, plan, kernel, clock, system)

    clock.enter("join", "waiting for it to register")
    kernel = _join(client, kernel, export, timeout, clock)
    clock.leave(f"{kernel.name} is running, {kernel.join_us / 1e6:.2f} s after its first INIT")
    return Restarted(kernel, tuple(clock.done), before)
