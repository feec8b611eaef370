# SPDX-License-Identifier: GPL-2.0
"""The page tables that a secondary starts on: an identity map with 2 MiB pages.

The 64-bit boot protocol wants the kernel, its zero page and its command line mapped at their
physical addresses (Documentation/arch/x86/boot.rst); the kernel then builds tables of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from popcorn.errors import PlanError

__all__ = ("PAGE", "PageTables", "bytes_needed", "identity")

PAGE = 4096
ENTRIES = 512
LARGE_PAGE = 2 << 20
GIB = 1 << 30
PML4_SPAN = 512 * GIB
# The lower half of a four-level address space: identity addresses must not need a sign extension.
ADDRESS_END = 1 << 47

PRESENT_WRITABLE = 0x3
PRESENT_WRITABLE_LARGE = 0x83


@dataclass(frozen=True)
class PageTables:
    """`root` is the PML4 page, `tables` the pages it points to: first all PDPTs, then all PDs."""

    root: bytes
    tables: bytes


def bytes_needed(spans: Iterable[tuple[int, int]]) -> int:
    """Return the size of `PageTables.tables` for the same spans."""
    gibs = _gibs(spans)
    return (len(_pdpts(gibs)) + len(gibs)) * PAGE


def identity(spans: Iterable[tuple[int, int]], tables_start: int) -> PageTables:
    """Map the first 4 GiB and every span of (start, end), each rounded out to whole GiB.

    `tables_start` is the physical address that `tables` will be written to, page-aligned.
    Raises PlanError for a span outside of 0 .. 128 TiB.
    """
    gibs = _gibs(spans)
    pdpts = _pdpts(gibs)
    pds_start = tables_start + len(pdpts) * PAGE

    root = [0] * ENTRIES
    for number, pdpt in enumerate(pdpts):
        root[pdpt] = tables_start + number * PAGE | PRESENT_WRITABLE

    pdpt_entries = {pdpt: [0] * ENTRIES for pdpt in pdpts}
    pages = []
    for number, gib in enumerate(gibs):
        pdpt, slot = divmod(gib, ENTRIES)
        pdpt_entries[pdpt][slot] = pds_start + number * PAGE | PRESENT_WRITABLE
        first = gib * GIB
        pages.append([first + i * LARGE_PAGE | PRESENT_WRITABLE_LARGE for i in range(ENTRIES)])
    return PageTables(_page(root), b"".join(map(_page, [*pdpt_entries.values(), *pages])))


def _gibs(spans: Iterable[tuple[int, int]]) -> list[int]:
    """Return the numbers of the GiB to be mapped, in order."""
    gibs = {0, 1, 2, 3}
    for start, end in spans:
        if not 0 <= start <= end <= ADDRESS_END:
            raise PlanError(
                f"can't map {start:#x}-{end:#x} for the start",
                f"memory of a secondary must end below {ADDRESS_END:#x}",
            )
        gibs.update(range(start // GIB, -(-end // GIB)))
    return sorted(gibs)


def _pdpts(gibs: list[int]) -> list[int]:
    return sorted({gib // ENTRIES for gib in gibs})


def _page(entries: list[int]) -> bytes:
    return struct.pack(f"<{ENTRIES}Q", *entries)
