# SPDX-License-Identifier: GPL-2.0
"""What a start of a kernel would do: all that can be found out, and refused, without a lease."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popcorn import boot, image
from popcorn.client import RESTING, Client
from popcorn.errors import (
    BusyError,
    ExistsError,
    ImageError,
    ModuleMissingError,
    PermissionDeniedError,
    PlanError,
)
from popcorn.initrd import Initrd, cache_directory, find_initrd
from popcorn.kernels import with_unpacked
from popcorn.models import Fabric, Kernel, label
from popcorn.root import PROFILE, ROOTS, Export, find_export, root_words
from popcorn.sysfs import System
from popcorn.uapi.netlink_gen import MEMORY_GRANULE, NAME_MAX
from popcorn.units import format_cpulist, format_size

if TYPE_CHECKING:
    from popcorn.link import Link

MAYBE_REGION = 4 << 30
"""Where a plan puts the memory when nobody knows yet where it will be."""

MAYBE_REGION_LOW = 256 << 20
"""The same for a kernel that cannot be loaded above 4 GiB."""

MAYBE_SLICE = (0x20000, 0x10000)
MAYBE_FABRIC_BYTES = 16 << 20
MAYBE_TSC_KHZ = 1_000_000
MAYBE_INITRD_BYTES = 4 << 20

DEFAULT_PROFILE = "light"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)


class IncompleteSpecError(PlanError):
    """Something that only the caller can say was not said."""

    exit_code = 2


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


def check_shape(spec: Spec, system: System, leased: dict[int, str]) -> tuple[int, ...]:
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


def find_links() -> tuple[Link, ...]:
    """This kernel's links."""
    from popcorn.link import Links

    with Links() as links:
        return links.list()


def export_for(
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


def make_plan(
    spec: Spec,
    system: System,
    fabric: Fabric | None,
    cache: Path | None,
    say: Callable[[str], None] = lambda detail: None,
    *,
    estimate: bool = False,
) -> Plan:
    """Plan on a lease as it might be.

    `estimate`: guess an initramfs that cannot be made, and leave the kernel packed, which takes
    the same memory.
    """
    _check_root(spec)
    links: tuple[Link, ...] = ()
    if spec.root is not None:
        say("looking at the link")
        links = find_links()
    say("reading the kernel image")
    kernel = boot.read_image(image_path(spec.kernel, system))
    if not estimate:
        say("unpacking the kernel")
        kernel = with_unpacked(kernel, cache or cache_directory())
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
    _, append = export_for(spec, target.node_id, links, system)
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
            spec = on_lease(spec, kernel)
            plan = make_plan(spec, system, fabric, cache, estimate=True)
            _, append = export_for(spec, kernel.id, plan.links, system)
            layout = boot.plan(target_of(kernel), plan.image, plan.initrd.size, append)
            return replace(plan, layout=layout, assumed=plan.assumed[: not plan.initrd.data])
    check_shape(spec, system, leased_cpus(leases))
    return make_plan(spec, system, fabric, cache, estimate=True)


def leased_cpus(kernels: tuple[Kernel, ...]) -> dict[int, str]:
    """Numbers of CPUs with the names of the kernels that have them."""
    return {cpu: kernel.name for kernel in kernels for cpu in kernel.cpus}


def on_lease(spec: Spec, kernel: Kernel) -> Spec:
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


def target_of(kernel: Kernel) -> boot.Target:
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
