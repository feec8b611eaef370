# SPDX-License-Identifier: GPL-2.0
"""Plan what goes where in the memory of a secondary.

The region:

    +0          zero page (boot_params)
    +0x1000     command line
    +0x3000     setup_data
    +0x10000    ACPI tables, 64 KiB
    +0x20000    page tables below the root
    +1 MiB      RAM from here on
    +16 MiB     kernel, aligned as it asks for; behind one that is unpacked its relocator
    end         initrd

The slice in the first MiB: the trampoline's page, the page-table root, then RAM for the trampoline
that the secondary itself starts its other CPUs with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from popcorn.boot import acpi, cmdline, pagetables
from popcorn.boot.bzimage import BzImage
from popcorn.boot.target import Target
from popcorn.boot.vmlinux import Vmlinux
from popcorn.errors import PlanError

__all__ = ("E820Entry", "E820Type", "Layout", "Placement", "minimum_region", "plan")

KIB = 1 << 10
MIB = 1 << 20
FOUR_GIB = 4 << 30
PAGE = 4 * KIB

COMMAND_LINE = 0x1000
COMMAND_LINE_AREA = 0x1000
SETUP_DATA = 0x3000
# struct setup_data (16 bytes) and a seed of 32.
SETUP_DATA_BYTES = 48
ACPI = 0x10000
PAGE_TABLES = 0x20000
RAM = 1 * MIB
KERNEL = 16 * MIB

ROOT = 0x1000
SLICE_RAM = 0x2000
SLICE_RAM_MIN = 32 * KIB

# The 64-bit entry point, from the start of the protected-mode part (boot.rst).
ENTRY_64 = 0x200
# Besides the kernel, its initrd and the 15 MiB in front of it: something to run in.
WORKING_RAM = 32 * MIB
# Leased memory comes in these pieces (memory-granule of the netlink family).
GRANULE = 2 * MIB

XAPIC_CPUS_MAX = 255

# What a kernel reaches by page tables of four levels. One that unpacks itself goes over to five.
FOUR_LEVEL_END = 1 << 46

LOADED = ("kernel", "relocator", "initrd")


class E820Type(IntEnum):
    """Types of memory in the e820 table (ACPI specification, 15.1)."""

    RAM = 1
    RESERVED = 2
    ACPI = 3


@dataclass(frozen=True)
class E820Entry:
    """A range of the memory map that the secondary is told; bytes."""

    start: int
    size: int
    type: E820Type


@dataclass(frozen=True)
class Placement:
    """A named piece of memory that is spoken for at the start; physical address and bytes."""

    name: str
    start: int
    size: int

    @property
    def end(self) -> int:
        """First address behind the piece."""
        return self.start + self.size


@dataclass(frozen=True)
class Layout:
    """A plan that fits: all addresses physical, all sizes bytes.

    `entry`, `page_table_root` and `boot_params` are what the host module starts the kernel with.
    `placements` are sorted by address; the one of a packed kernel is what it needs while it unpacks
    itself, not what is loaded. `ram_free` is the RAM that neither kernel nor initrd takes.
    """

    target: Target
    placements: tuple[Placement, ...]
    e820: tuple[E820Entry, ...]
    command_line: str
    entry: int
    page_table_root: int
    boot_params: int
    ram_free: int

    def placement(self, name: str) -> Placement | None:
        """Return the piece called `name`, or None (there may be no initrd)."""
        return next((piece for piece in self.placements if piece.name == name), None)

    @property
    def randomized(self) -> bool:
        """Whether whoever loads the kernel is to move it: else it does so itself, or must not."""
        return bool(self.placement("relocator")) and "nokaslr" not in self.command_line.split()

    @property
    def mapped(self) -> tuple[tuple[int, int], ...]:
        """The spans of (start, end) that the page tables must cover besides the first 4 GiB."""
        loaded = [piece for piece in self.placements if piece.name in LOADED]
        return _spans(self.target.region_start, loaded)

    def start(self, name: str) -> int:
        """Return where the piece called `name` starts; raise KeyError if there is none."""
        piece = self.placement(name)
        if piece is None:
            raise KeyError(name)
        return piece.start


def minimum_region(image: BzImage, initrd_bytes: int, region_start: int = 0) -> int:
    """Return the size in bytes of the smallest region at `region_start` that `plan` accepts."""
    kernel_end = _kernel_start(image, region_start) - region_start + image.init_size
    need = _up(kernel_end, PAGE) + _up(initrd_bytes, PAGE) + WORKING_RAM
    return _up(need, GRANULE)


def plan(target: Target, image: BzImage, initrd_bytes: int, extra: str = "") -> Layout:
    """Lay out a start of `image` on `target`; `extra` is appended to the command line.

    Raises PlanError, with the numbers and a remedy, for whatever does not fit together.
    """
    _check_cpus(target)
    _check_slice(target)
    _check_region(target)
    _check_fabric(target)
    _check_fit(target, image, initrd_bytes)
    _check_reach(target, image)

    line = cmdline.build(target, extra)
    _check_command_line(line, image)

    start = target.region_start
    kernel = Placement("kernel", _kernel_start(image, start), image.init_size)
    entry = kernel.start + ENTRY_64
    loaded = [kernel]
    if image.unpacked and target.region_end <= FOUR_LEVEL_END:
        loaded = _unpacked(kernel.start, image.unpacked)
        entry = loaded[-1].start
    if initrd_bytes:
        initrd = Placement("initrd", _initrd_start(target, image, initrd_bytes), initrd_bytes)
        _check_initrd(kernel, initrd, image)
        loaded.append(initrd)
    tables_bytes = pagetables.bytes_needed(_spans(start, loaded))
    if PAGE_TABLES + tables_bytes > RAM:
        raise PlanError(
            f"the page tables take {tables_bytes // KIB} KiB, there is room for"
            f" {(RAM - PAGE_TABLES) // KIB} KiB",
            "use a smaller initrd",
        )
    placements = (
        Placement("page-table-root", target.slice_start + ROOT, PAGE),
        Placement("zero-page", start, PAGE),
        Placement("cmdline", start + COMMAND_LINE, len(line) + 1),
        Placement("setup-data", start + SETUP_DATA, SETUP_DATA_BYTES),
        Placement("acpi", start + ACPI, acpi.AREA),
        Placement("page-tables", start + PAGE_TABLES, tables_bytes),
        *loaded,
    )
    e820 = _e820(target)
    ram = sum(entry.size for entry in e820 if entry.type is E820Type.RAM)
    return Layout(
        target=target,
        placements=placements,
        e820=e820,
        command_line=line,
        entry=entry,
        page_table_root=target.slice_start + ROOT,
        boot_params=start,
        ram_free=ram - image.init_size - initrd_bytes,
    )


def _unpacked(start: int, kernel: Vmlinux) -> list[Placement]:
    """Return the pieces of a kernel that is unpacked; they take less than the image asks for."""
    itself = Placement("kernel", start, _up(kernel.size, PAGE))
    return [itself, Placement("relocator", itself.end, kernel.relocator_bytes)]


def _e820(target: Target) -> tuple[E820Entry, ...]:
    """Return the memory map; nothing else of the machine is listed."""
    start = target.region_start
    entries = (
        E820Entry(target.slice_start + SLICE_RAM, target.slice_bytes - SLICE_RAM, E820Type.RAM),
        E820Entry(start, ACPI, E820Type.RESERVED),
        E820Entry(start + ACPI, acpi.AREA, E820Type.ACPI),
        E820Entry(start + PAGE_TABLES, RAM - PAGE_TABLES, E820Type.RESERVED),
        E820Entry(start + RAM, target.region_bytes - RAM, E820Type.RAM),
        # Said aloud, so that nothing takes the gap for a place to put devices.
        E820Entry(target.fabric_start, target.fabric_bytes, E820Type.RESERVED),
    )
    return tuple(sorted(entries, key=lambda entry: entry.start))


def _spans(start: int, loaded: Iterable[Placement]) -> tuple[tuple[int, int], ...]:
    """Return what must be mapped when the kernel is entered: the header area and what is loaded.

    Not the whole region: for hundreds of GiB the tables would outgrow their area, and the kernel
    maps the rest itself.
    """
    return ((start, start + RAM), *((piece.start, piece.end) for piece in loaded))


def _kernel_start(image: BzImage, region_start: int) -> int:
    return _up(region_start + KERNEL, image.kernel_alignment)


def _initrd_limit(target: Target, image: BzImage) -> int:
    """Return the first address that the initrd must not touch."""
    if image.can_load_above_4g:
        return target.region_end
    return min(target.region_end, image.initrd_addr_max + 1, FOUR_GIB)


def _initrd_start(target: Target, image: BzImage, initrd_bytes: int) -> int:
    return _down(_initrd_limit(target, image) - initrd_bytes, PAGE)


def _check_cpus(target: Target) -> None:
    ids = target.apic_ids
    if not ids:
        raise PlanError("no CPU is given", "a kernel needs at least one CPU")
    if len(set(ids)) != len(ids):
        raise PlanError(f"an APIC ID is given twice in {_numbers(ids)}", "name each CPU once")
    if target.bsp_apic_id in ids:
        raise PlanError(
            f"APIC ID {target.bsp_apic_id} is the CPU the machine booted on",
            "leave that CPU to the primary",
        )
    if target.x2apic:
        return
    if len(ids) > XAPIC_CPUS_MAX:
        raise PlanError(
            f"{len(ids)} CPUs are more than the {XAPIC_CPUS_MAX} that 8-bit APIC IDs can name",
            "give the kernel fewer CPUs, or boot the machine with x2APIC",
        )
    large = [apic_id for apic_id in (target.bsp_apic_id, *ids) if apic_id >= acpi.XAPIC_ID_END]
    if large:
        raise PlanError(
            f"APIC ID {large[0]} does not fit in 8 bits, and x2APIC is off",
            "use CPUs with smaller APIC IDs, or boot the machine with x2APIC",
        )


def _check_slice(target: Target) -> None:
    start, end = target.slice_start, target.slice_end
    if start % PAGE or target.slice_bytes % PAGE:
        raise PlanError(
            f"the low slice {start:#x}-{end:#x} is not made of whole pages",
            "a SIPI can only start a CPU at a multiple of 4 KiB",
        )
    if start < PAGE or end > MIB:
        raise PlanError(
            f"the low slice {start:#x}-{end:#x} is not between 4 KiB and 1 MiB",
            "a SIPI can only start a CPU in the first MiB",
        )
    if target.slice_bytes < SLICE_RAM + SLICE_RAM_MIN:
        raise PlanError(
            f"the low slice has {target.slice_bytes // KIB} KiB,"
            f" {(SLICE_RAM + SLICE_RAM_MIN) // KIB} KiB are needed",
            "64 KiB is the usual size",
        )


def _check_region(target: Target) -> None:
    start, end = target.region_start, target.region_end
    if start % PAGE or target.region_bytes % PAGE:
        raise PlanError(
            f"the region {start:#x}-{end:#x} is not made of whole pages",
            "leased memory comes in multiples of 2 MiB",
        )
    if start < MIB or end > pagetables.ADDRESS_END:
        raise PlanError(
            f"the region {start:#x}-{end:#x} is not between 1 MiB and 128 TiB",
            "choose another memory range",
        )


def _check_fabric(target: Target) -> None:
    start, end = target.fabric_start, target.fabric_start + target.fabric_bytes
    if start < MIB or target.fabric_bytes <= 0:
        raise PlanError(
            f"the fabric can't be at {start:#x}, {target.fabric_bytes} bytes",
            "is popcorn_host loaded?",
        )
    if start < target.region_end and target.region_start < end:
        raise PlanError(
            f"the fabric {start:#x}-{end:#x} and the region"
            f" {target.region_start:#x}-{target.region_end:#x} overlap",
            "choose another memory range",
        )


def _check_fit(target: Target, image: BzImage, initrd_bytes: int) -> None:
    need = minimum_region(image, initrd_bytes, target.region_start)
    if need > target.region_bytes:
        raise PlanError(
            f"{image.name} ({_mib(image.init_size)}) and its initrd ({_mib(initrd_bytes)})"
            f" do not fit in a region of {_mib(target.region_bytes)}",
            f"give it at least {_mib(need)}",
        )


def _check_reach(target: Target, image: BzImage) -> None:
    """See that kernel and initrd may lie where the region is."""
    if not image.relocatable:
        raise PlanError(
            f"{image.name} can only run at a fixed address, which belongs to the primary",
            "use a kernel with CONFIG_RELOCATABLE",
        )
    if image.can_load_above_4g:
        return
    if _kernel_start(image, target.region_start) + image.init_size > FOUR_GIB:
        raise PlanError(
            f"{image.name} can't be loaded above 4 GiB, and the region starts at"
            f" {target.region_start:#x}",
            "choose memory below 4 GiB, or a newer kernel",
        )


def _check_initrd(kernel: Placement, initrd: Placement, image: BzImage) -> None:
    if initrd.start < _up(kernel.end, PAGE):
        raise PlanError(
            f"the initrd ({_mib(initrd.size)}) must end below {image.initrd_addr_max:#x} for"
            f" {image.name}, but there the kernel ends only at {kernel.end:#x}",
            "choose a region at a lower address, or a newer kernel",
        )


def _check_command_line(line: str, image: BzImage) -> None:
    # The NUL needs room in our page, but does not count in cmdline_size (boot.rst).
    limit = min(COMMAND_LINE_AREA - 1, image.cmdline_size)
    if len(line) > limit:
        raise PlanError(
            f"the command line has {len(line)} characters, {image.name} takes {limit}",
            f"shorten the added words by {len(line) - limit}",
        )


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _mib(size: int) -> str:
    """Return a size for people, rounded up."""
    return f"{-(-size // MIB)} MiB"


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _down(value: int, unit: int) -> int:
    return value // unit * unit
