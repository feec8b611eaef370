# SPDX-License-Identifier: GPL-2.0
"""Virtual addresses of an x86_64 kernel, through its own page tables.

Intel SDM volume 3, 4.5 "4-level paging and 5-level paging"; the areas of the kernel's address space
are in Documentation/arch/x86/x86_64/mm.rst.
"""

from __future__ import annotations

import struct

from popcorn.errors import PostmortemError
from popcorn.postmortem.memory import PAGE, Memory

__all__ = ("KERNEL_IMAGE", "KERNEL_IMAGE_BYTES", "PageTables")

KERNEL_IMAGE = 0xFFFF_FFFF_8000_0000
"""__START_KERNEL_map: the kernel image, one linear piece from here to KERNEL_IMAGE_BYTES on."""

KERNEL_IMAGE_BYTES = 1 << 30

PRESENT = 1
LARGE = 0x80
ADDRESS = 0x000F_FFFF_FFFF_F000

DIRECT_MAP_SLOT = 273
"""Of the top table: the direct map never begins below it, nor does anything else of the kernel but
the LDT's remap in the slot before it."""

TABLES_MAX = 4096
"""A search goes through this many tables at the most: they may be garbage that goes in circles."""

CACHE_MAX = 1 << 16


class PageTables:
    """Reads virtual memory. `root` is the top table's physical address, `levels` is 4 or 5.

    `image_shift` is added to an address of the kernel image to get the physical one; those need no
    tables. `encrypted` is the mask of the memory encryption bit (sme_mask), which is no address
    bit.
    """

    def __init__(
        self, memory: Memory, root: int, levels: int, image_shift: int, encrypted: int = 0
    ) -> None:
        self._memory = memory
        self._root = root
        self._top_shift = 12 + 9 * (levels - 1)
        self._image_shift = image_shift
        self._encrypted = encrypted
        self._pages: dict[int, int] = {}
        self._budget = 0

    @property
    def room(self) -> int:
        """Bytes of the memory: nothing that is mapped can be larger."""
        return self._memory.size

    def _entry(self, table: int, index: int) -> int:
        (entry,) = struct.unpack("<Q", self._memory.read(table + index * 8, 8))
        return int(entry)

    def _target(self, entry: int, shift: int) -> tuple[int, bool]:
        """Where an entry leads: the address, and whether it is memory and no further table."""
        leaf = shift == 12 or (shift in (21, 30) and bool(entry & LARGE))
        address = entry & ADDRESS & ~self._encrypted
        return (address & ~((1 << shift) - 1) if leaf else address), leaf

    def translate(self, address: int) -> int:
        """The physical address; PostmortemError if nothing is mapped there."""
        if KERNEL_IMAGE <= address < KERNEL_IMAGE + KERNEL_IMAGE_BYTES:
            return address + self._image_shift
        page = address // PAGE
        if page not in self._pages:
            if len(self._pages) >= CACHE_MAX:
                self._pages.clear()
            self._pages[page] = self._walk(address) // PAGE
        return self._pages[page] * PAGE + address % PAGE

    def _walk(self, address: int) -> int:
        table, shift = self._root, self._top_shift
        while True:
            entry = self._entry(table, address >> shift & 511)
            if not entry & PRESENT:
                raise PostmortemError(f"its virtual address {address:#x} is not mapped")
            table, leaf = self._target(entry, shift)
            if leaf:
                return table | address & ((1 << shift) - 1)
            shift -= 9

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from a virtual address; PostmortemError if not all of them can be had."""
        parts = []
        while size > 0:
            part = min(size, PAGE - address % PAGE)
            parts.append(self._memory.read(self.translate(address), part))
            address, size = address + part, size - part
        return b"".join(parts)

    def direct_map(self) -> int:
        """Where physical address 0 is in the direct map (page_offset_base, moved by KASLR).

        Told by the lowest address that is mapped from the slot on where the direct map may begin.
        """
        self._budget = TABLES_MAX
        found = self._lowest(
            self._root, self._top_shift, DIRECT_MAP_SLOT, -1 << (self._top_shift + 9)
        )
        if found is None:
            raise PostmortemError("its page tables have no direct map")
        return found % (1 << 64)

    def _lowest(self, table: int, shift: int, first: int, prefix: int) -> int | None:
        """The address where physical 0 would be, by the lowest thing that is mapped below a table.

        `prefix` is the address that the table begins at, a negative number.
        """
        self._budget -= 1
        if self._budget < 0:
            return None
        try:
            entries = struct.unpack("<512Q", self._memory.read(table, PAGE))
        except PostmortemError:
            return None
        for index in range(first, 512):
            entry = entries[index]
            if not entry & PRESENT:
                continue
            target, leaf = self._target(entry, shift)
            virtual = prefix | index << shift
            if leaf:
                return virtual - target
            found = self._lowest(target, shift - 9, 0, virtual)
            if found is not None:
                return found
        return None
