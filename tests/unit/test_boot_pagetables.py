# SPDX-License-Identifier: GPL-2.0
"""The page tables, walked as a CPU would."""

from __future__ import annotations

import struct

import pytest

from popcorn.boot import pagetables
from popcorn.errors import PlanError

GIB = 1 << 30
TABLES = 0x140020000


def translate(tables: pagetables.PageTables, address: int) -> int | None:
    """Return the physical address that a virtual one leads to, None if it is not mapped."""

    def entry(page: bytes, shift: int) -> int:
        value: int = struct.unpack_from("<Q", page, (address >> shift & 511) * 8)[0]
        return value

    def follow(value: int) -> bytes:
        offset = (value & ~0xFFF) - TABLES
        page = tables.tables[offset : offset + 4096]
        assert len(page) == 4096
        return page

    pml4e = entry(tables.root, 39)
    if not pml4e & 1:
        return None
    pdpte = entry(follow(pml4e), 30)
    if not pdpte & 1:
        return None
    pde = entry(follow(pdpte), 21)
    assert pde & 0x83 == 0x83, "a present, writable 2 MiB page"
    return (pde & ~0x1FFFFF) | (address & 0x1FFFFF)


@pytest.mark.parametrize(
    "spans",
    [
        (),
        ((0x40000000, 0x60000000),),
        ((0x140000000, 0x160000000),),
        ((5 * GIB + 7, 5 * GIB + 8), (900 * GIB, 902 * GIB + 1)),
        ((511 * GIB, 513 * GIB),),
        (((1 << 47) - 4096, 1 << 47),),
    ],
)
def test_identity(spans: tuple[tuple[int, int], ...]) -> None:
    tables = pagetables.identity(spans, TABLES)
    assert len(tables.root) == 4096
    assert len(tables.tables) == pagetables.bytes_needed(spans)
    mapped = [0, GIB - 1, 4 * GIB - 1, 0xFEE00000]
    for start, end in spans:
        mapped += [start, (start + end) // 2, end - 1]
    for address in mapped:
        assert translate(tables, address) == address


def test_no_more_than_asked() -> None:
    tables = pagetables.identity(((6 * GIB + 5, 7 * GIB),), TABLES)
    for address in (4 * GIB, 6 * GIB - 1, 7 * GIB, 600 * GIB):
        assert translate(tables, address) is None
    # One PDPT, and one PD per GiB.
    assert len(tables.tables) == (1 + 5) * 4096


@pytest.mark.parametrize("span", [(-1, 5), (5, 4), (0, (1 << 47) + 1)])
def test_bad_span(span: tuple[int, int]) -> None:
    with pytest.raises(PlanError, match="can't map"):
        pagetables.identity((span,), TABLES)
