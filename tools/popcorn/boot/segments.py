# SPDX-License-Identifier: GPL-2.0
"""Everything that is written to memory before a secondary is started."""

from __future__ import annotations

from dataclasses import dataclass, field

from popcorn.boot import acpi, pagetables, params, vmlinux
from popcorn.boot.bzimage import BzImage
from popcorn.boot.layout import Layout
from popcorn.errors import PlanError

__all__ = ("Segment", "build")


@dataclass(frozen=True)
class Segment:
    """Bytes for a physical address; `name` is that of the placement in the layout."""

    name: str
    start: int
    data: bytes | memoryview = field(repr=False)

    @property
    def end(self) -> int:
        """First address behind the data."""
        return self.start + len(self.data)


def build(layout: Layout, image: BzImage, initrd: bytes, seed: bytes) -> tuple[Segment, ...]:
    """Return what to write for `layout`, sorted by address; no two overlap.

    `image` and `initrd` must be those that were planned with. `seed` is fresh randomness, 32 bytes
    (see params.SEED_BYTES). Raises PlanError if the arguments don't belong to the layout.
    """
    target = layout.target
    tables = pagetables.identity(layout.mapped, layout.start("page-tables"))
    contents: dict[str, bytes | memoryview] = {
        "page-table-root": tables.root,
        "zero-page": params.build(layout, image),
        "cmdline": layout.command_line.encode("ascii") + b"\0",
        "setup-data": params.setup_data(seed),
        "acpi": acpi.build(layout.start("acpi"), target.bsp_apic_id, target.apic_ids),
        "page-tables": tables.tables,
        "kernel": image.payload,
    }
    if image.unpacked and layout.placement("relocator"):
        offset = vmlinux.random_offset(image, image.unpacked, seed) if layout.randomized else 0
        contents["kernel"] = image.unpacked.data
        contents["relocator"] = vmlinux.relocator(image.unpacked, layout.start("kernel"), offset)
    if initrd:
        contents["initrd"] = initrd

    planned = {piece.name: piece for piece in layout.placements}
    if planned.keys() != contents.keys():
        odd = ", ".join(sorted(planned.keys() ^ contents.keys()))
        raise PlanError(f"only one of plan and contents has: {odd}", "plan the start again")
    for name, piece in planned.items():
        size = len(contents[name])
        wrong = size != piece.size if name == "initrd" else size > piece.size
        if wrong:
            raise PlanError(
                f"{name} has {size} bytes, {piece.size} were planned", "plan the start again"
            )
    return tuple(
        Segment(piece.name, piece.start, contents[piece.name])
        for piece in sorted(layout.placements, key=lambda piece: piece.start)
    )
