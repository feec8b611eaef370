# SPDX-License-Identifier: GPL-2.0
"""Bringing up a kernel anew on its lease, with what it was started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popcorn import boot
from popcorn.client import RESTING, Client
from popcorn.device import HostDevice
from popcorn.errors import BusyError, ImageError, PlanError, TimeoutExpiredError
from popcorn.models import Kernel, KernelState, label
from popcorn.plan import DEFAULT_PROFILE, Plan, Spec, export_for, make_plan, target_of
from popcorn.recipe import image_digest, initrd_digest, read_recipe
from popcorn.root import PROFILE, stop_server
from popcorn.start import (
    Clock,
    Progress,
    Started,
    check_capabilities,
    join,
    lease_text,
    load_and_boot,
)
from popcorn.sysfs import System

STAGES = ("check", "stop", "lease", "load", "boot", "join")
"""`stop` is left out for a kernel that does not run."""


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
        (plan.image.name, image_digest(plan) == recipe.get("kernel_sha256")),
        (
            f"the initramfs ({plan.initrd.name})",
            not kept_initrd or initrd_digest(plan) == recipe.get("initrd_sha256"),
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
    clock = Clock(progress)

    clock.enter("check", "asking the module")
    check_capabilities(system)
    fabric = client.fabric()
    before = client.kernel(name)
    if before.state == KernelState.STARTING and not force:
        raise BusyError(
            f"kernel '{before.name}' has not joined and cannot be asked to power off",
            f"to end it all the same: popcornctl kernel restart {before.name} --force",
        )
    recipe = read_recipe(before)
    plan = make_plan(_as_before(before, recipe, change, timeout), system, fabric, cache, clock.say)
    _check_same(plan, recipe, change)
    _, append = export_for(plan.spec, before.id, plan.links, system)
    boot.plan(target_of(before), plan.image, plan.initrd.size, append)
    clock.leave(f"{plan.image.release or plan.image.name} with {plan.initrd.name}")

    if before.state not in RESTING:
        clock.enter("stop", "ending it" if force else "waiting for it to power off")
        ended = _end(client, before, force, stop_timeout)
        clock.leave(f"it is {label(ended.state)}")
    stop_server(before.id)

    clock.enter("lease", "clearing its memory")
    kernel = client.kernel_prepare(before.id)
    clock.leave(lease_text(kernel))
    export = load_and_boot(client, device, plan, kernel, clock, system)
    kernel = join(client, kernel, export, timeout, clock)
    return Restarted(kernel, tuple(clock.done), before)
