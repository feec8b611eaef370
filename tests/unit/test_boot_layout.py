# SPDX-License-Identifier: GPL-2.0
"""The plan, the command line and the bytes made from them."""

from __future__ import annotations

import dataclasses
import itertools
import random
import struct
from typing import Any

import pytest

from popcorn.boot import (
    SEED_BYTES,
    BzImage,
    E820Type,
    Layout,
    Target,
    build,
    cmdline,
    minimum_region,
    params,
    plan,
)
from popcorn.errors import PlanError

MIB = 1 << 20
GIB = 1 << 30

TARGET = Target(
    node_id=1,
    region_start=0x40000000,
    region_bytes=512 * MIB,
    slice_start=0x20000,
    slice_bytes=0x10000,
    apic_ids=(2, 3),
    bsp_apic_id=0,
    tsc_khz=2_400_000,
    fabric_start=0x7F000000,
    fabric_bytes=16 * MIB,
    x2apic=False,
)
IMAGE = BzImage(
    name="vmlinuz",
    protocol=0x020F,
    setup_header=bytes([4]) + bytes(0x78),
    payload=b"kernel" * 5000,
    init_size=63 * MIB + 0x5000,
    kernel_alignment=2 * MIB,
    xloadflags=0x7F,
    cmdline_size=2047,
    initrd_addr_max=0x7FFFFFFF,
    relocatable=True,
    release="6.1.0-56-amd64",
    banner="6.1.0-56-amd64 (x)",
)
OLD_IMAGE = dataclasses.replace(IMAGE, xloadflags=1)
INITRD = b"initrd" * 1000
SEED = bytes(range(SEED_BYTES))


def target(**changes: Any) -> Target:
    return dataclasses.replace(TARGET, **changes)


def check_layout(layout: Layout, image: BzImage, initrd_bytes: int) -> None:
    """What must hold for every plan."""
    goal = layout.target
    kernel = layout.placement("kernel")
    assert kernel is not None
    assert kernel.start % image.kernel_alignment == 0
    assert kernel.start >= goal.region_start + 16 * MIB
    assert kernel.size == image.init_size
    assert layout.entry == kernel.start + 0x200
    assert layout.boot_params == goal.region_start
    assert layout.page_table_root == goal.slice_start + 0x1000

    starts = [piece.start for piece in layout.placements]
    assert starts == sorted(starts)
    for before, after in itertools.pairwise(layout.placements):
        assert before.end <= after.start
    for piece in layout.placements:
        if piece.name == "page-table-root":
            assert goal.slice_start < piece.start and piece.end <= goal.slice_end
        else:
            assert goal.region_start <= piece.start and piece.end <= goal.region_end

    for low, high in itertools.pairwise(layout.e820):
        assert low.start + low.size <= high.start
    ram = [entry for entry in layout.e820 if entry.type is E820Type.RAM]
    assert {(entry.start, entry.size) for entry in ram} == {
        (goal.slice_start + 0x2000, goal.slice_bytes - 0x2000),
        (goal.region_start + MIB, goal.region_bytes - MIB),
    }

    def inside(start: int, end: int, kind: E820Type) -> bool:
        return any(
            entry.type is kind and entry.start <= start and end <= entry.start + entry.size
            for entry in layout.e820
        )

    kinds = {"kernel": E820Type.RAM, "initrd": E820Type.RAM, "acpi": E820Type.ACPI}
    for piece in layout.placements:
        if piece.name != "page-table-root":
            assert inside(piece.start, piece.end, kinds.get(piece.name, E820Type.RESERVED))
    initrd = layout.placement("initrd")
    assert (initrd is not None) == (initrd_bytes > 0)
    if initrd:
        assert initrd.start % 4096 == 0
        assert initrd.size == initrd_bytes
    assert layout.ram_free == sum(e.size for e in ram) - image.init_size - initrd_bytes
    assert layout.ram_free > 0


def test_plan() -> None:
    layout = plan(TARGET, IMAGE, len(INITRD), "quiet")
    check_layout(layout, IMAGE, len(INITRD))
    base = TARGET.region_start
    assert {piece.name: piece.start for piece in layout.placements} == {
        "page-table-root": 0x21000,
        "zero-page": base,
        "cmdline": base + 0x1000,
        "setup-data": base + 0x3000,
        "acpi": base + 0x10000,
        "page-tables": base + 0x20000,
        "kernel": base + 16 * MIB,
        "initrd": TARGET.region_end - 8192,
    }
    assert layout.command_line.endswith(" quiet")


@pytest.mark.parametrize("seed", range(200))
def test_any_region(seed: int) -> None:
    rng = random.Random(seed)
    image = dataclasses.replace(
        IMAGE,
        init_size=rng.randrange(1, 128 * MIB) + len(IMAGE.payload),
        kernel_alignment=rng.choice([4096, 2 * MIB, 16 * MIB]),
    )
    initrd_bytes = rng.choice([0, 1, 4095, 4096, rng.randrange(1, 300 * MIB)])
    start = rng.choice([MIB, 0xFF000000, 4 * GIB, rng.randrange(1 << 26) * MIB])
    start = max(start, MIB)
    smallest = minimum_region(image, initrd_bytes, start)
    size = smallest + rng.choice([0, 2 * MIB, 300 * GIB])
    fabric = start + size + rng.choice([0, GIB])
    goal = target(region_start=start, region_bytes=size, fabric_start=fabric)
    layout = plan(goal, image, initrd_bytes)
    check_layout(layout, image, initrd_bytes)

    with pytest.raises(PlanError, match="do not fit"):
        plan(target(region_start=start, region_bytes=smallest - 4096), image, initrd_bytes)


@pytest.mark.parametrize("start", [0x40000000, 0xF0000000, 0x140000000, 0x40000000000])
@pytest.mark.parametrize("initrd", [b"", INITRD])
def test_segments(start: int, initrd: bytes) -> None:
    goal = target(region_start=start, fabric_start=0x90000000)
    layout = plan(goal, IMAGE, len(initrd))
    segments = build(layout, IMAGE, initrd, SEED)
    assert [s.name for s in segments] == [p.name for p in layout.placements]
    for before, after in itertools.pairwise(segments):
        assert before.end <= after.start
    for segment in segments:
        piece = layout.placement(segment.name)
        assert piece is not None and segment.start == piece.start
        assert len(segment.data) <= piece.size
        in_slice = goal.slice_start + 0x1000 <= segment.start and segment.end <= goal.slice_end
        in_region = goal.region_start <= segment.start and segment.end <= goal.region_end
        assert in_slice != in_region
    data = {segment.name: segment.data for segment in segments}
    assert data["kernel"] == IMAGE.payload
    assert data.get("initrd", b"") == initrd
    assert data["cmdline"] == layout.command_line.encode() + b"\0"
    assert data["acpi"].startswith(b"RSD PTR ")


def test_segments_of_another_initrd() -> None:
    layout = plan(TARGET, IMAGE, len(INITRD))
    for initrd in (INITRD + b"x", INITRD[:-1], b""):
        with pytest.raises(PlanError):
            build(layout, IMAGE, initrd, SEED)


def test_segments_of_another_kernel() -> None:
    layout = plan(TARGET, IMAGE, len(INITRD))
    larger = dataclasses.replace(IMAGE, payload=bytes(IMAGE.init_size + 1))
    with pytest.raises(PlanError, match="kernel has"):
        build(layout, larger, INITRD, SEED)


@pytest.mark.parametrize("start", [0x40000000, 0x140000000])
def test_zero_page(start: int) -> None:
    goal = target(region_start=start)
    header = bytearray(0x79)
    header[0x211 - 0x1F1] = 0x80
    header[0x230 - 0x1F1 : 0x234 - 0x1F1] = b"\0\0\x20\0"
    image = dataclasses.replace(IMAGE, setup_header=bytes(header))
    layout = plan(goal, image, len(INITRD))
    page = params.build(layout, image)
    assert len(page) == 4096

    def u32(offset: int) -> int:
        value: int = struct.unpack_from("<I", page, offset)[0]
        return value

    assert struct.unpack_from("<Q", page, 0x070) == (layout.start("acpi"),)
    assert u32(0x228) | u32(0x0C8) << 32 == layout.start("cmdline")
    assert u32(0x218) | u32(0x0C0) << 32 == layout.start("initrd")
    assert u32(0x21C) | u32(0x0C4) << 32 == len(INITRD)
    assert struct.unpack_from("<Q", page, 0x250) == (layout.start("setup-data"),)
    assert page[0x210] == 0xFF
    assert page[0x211] == 0x81
    assert u32(0x230) == 2 * MIB
    assert page[0x1EF] == 0  # the sentinel
    assert page[:0x40] == bytes(0x40)  # screen_info
    table = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * i) for i in range(page[0x1E8])]
    assert table == [(e.start, e.size, int(e.type)) for e in layout.e820]
    # All that is not one of these is zero.
    rest = bytearray(page)
    for offset, size in ((0x070, 8), (0x0C0, 12), (0x1E8, 1), (0x1F1, 0x79), (0x2D0, 2560)):
        rest[offset : offset + size] = bytes(size)
    assert not any(rest)


def test_zero_page_without_initrd() -> None:
    page = params.build(plan(TARGET, IMAGE, 0), IMAGE)
    assert page[0x218:0x220] == bytes(8)


def test_setup_data() -> None:
    assert params.setup_data(SEED) == struct.pack("<QII", 0, 9, 32) + SEED
    with pytest.raises(PlanError, match="31 bytes"):
        params.setup_data(SEED[1:])


BAD_TARGETS: dict[str, tuple[dict[str, Any], str]] = {
    "no cpu": ({"apic_ids": ()}, "no CPU"),
    "cpu twice": ({"apic_ids": (1, 2, 1)}, "twice"),
    "bsp": ({"apic_ids": (0, 1)}, "booted on"),
    "large id": ({"apic_ids": (2, 255)}, "APIC ID 255 does not fit"),
    "large bsp": ({"bsp_apic_id": 300}, "APIC ID 300 does not fit"),
    "many cpus": ({"apic_ids": tuple(range(1, 257))}, "256 CPUs"),
    "slice unaligned": ({"slice_start": 0x20800}, "whole pages"),
    "slice size": ({"slice_bytes": 0xF800}, "whole pages"),
    "slice at zero": ({"slice_start": 0}, "not between"),
    "slice above": ({"slice_start": 0x100000}, "not between"),
    "slice over the end": ({"slice_start": 0xF8000}, "not between"),
    "slice small": ({"slice_bytes": 0x8000}, "32 KiB, 40 KiB are needed"),
    "region unaligned": ({"region_start": 0x40000800}, "whole pages"),
    "region low": ({"region_start": 0}, "not between"),
    "region high": ({"region_start": 1 << 47}, "not between"),
    "fabric in region": ({"fabric_start": 0x41000000}, "overlap"),
    "no fabric": ({"fabric_bytes": 0}, "fabric"),
    "low fabric": ({"fabric_start": 0}, "fabric"),
    "tsc": ({"tsc_khz": 0}, "TSC"),
    "name": ({"name": "two words"}, "name"),
    "name quote": ({"name": 'a"b'}, "name"),
    "name newline": ({"name": "a\n"}, "name"),
    "region small": ({"region_bytes": 64 * MIB}, "at least"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_bad_target(case: str) -> None:
    changes, words = BAD_TARGETS[case]
    with pytest.raises(PlanError) as caught:
        plan(target(**changes), IMAGE, len(INITRD))
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint


def test_x2apic_takes_large_ids() -> None:
    ids = tuple(range(1, 600))
    goal = target(x2apic=True, apic_ids=ids)
    data = {s.name: s.data for s in build(plan(goal, IMAGE, 0), IMAGE, b"", SEED)}
    assert len(data["acpi"]) > 255 * 8 + 344 * 16


def test_too_many_cpus_for_the_tables() -> None:
    goal = target(x2apic=True, apic_ids=tuple(range(1, 5000)))
    with pytest.raises(PlanError, match="4999 CPUs"):
        build(plan(goal, IMAGE, 0), IMAGE, b"", SEED)


def test_too_small_says_what_would_do() -> None:
    need = minimum_region(IMAGE, 100 * MIB, TARGET.region_start)
    with pytest.raises(PlanError, match="100 MiB") as caught:
        plan(target(region_bytes=128 * MIB), IMAGE, 100 * MIB)
    assert f"at least {need // MIB} MiB" in caught.value.hint
    plan(target(region_bytes=need), IMAGE, 100 * MIB)


def test_not_relocatable() -> None:
    with pytest.raises(PlanError, match="fixed address"):
        plan(TARGET, dataclasses.replace(IMAGE, relocatable=False), 0)


@pytest.mark.parametrize("start", [4 * GIB, 4 * GIB - 64 * MIB])
def test_old_kernel_above_4g(start: int) -> None:
    goal = target(region_start=start)
    plan(goal, IMAGE, 0)
    with pytest.raises(PlanError, match="above 4 GiB"):
        plan(goal, OLD_IMAGE, 0)


def test_old_kernel_keeps_initrd_below_its_limit() -> None:
    goal = target(region_start=0x70000000, fabric_start=0x140000000)
    layout = plan(goal, OLD_IMAGE, len(INITRD))
    check_layout(layout, OLD_IMAGE, len(INITRD))
    assert layout.start("initrd") == 0x80000000 - 8192
    assert plan(goal, IMAGE, len(INITRD)).start("initrd") == goal.region_end - 8192


def test_old_kernel_above_its_initrd_limit() -> None:
    goal = target(region_start=0x80000000)
    with pytest.raises(PlanError, match="must end below 0x7fffffff"):
        plan(goal, OLD_IMAGE, len(INITRD))
    plan(goal, OLD_IMAGE, 0)


def test_initrd_too_large_for_the_page_tables() -> None:
    # The tables have room for 218 pages of 1 GiB each; the initrd alone would take more.
    goal = target(region_start=4 * GIB, region_bytes=400 * GIB)
    with pytest.raises(PlanError, match="page tables"):
        plan(goal, IMAGE, 300 * GIB)


def test_command_line_words() -> None:
    words = cmdline.build(target(name="web", bsp_apic_id=7), "root=/dev/x  a=b").split(" ")
    for word in (
        "tsc_early_khz=2400000",
        "tsc=reliable",
        "pci=off",
        "noapic",
        "acpi_sci=edge",
        "no_ipi_broadcast=1",
        "8250.nr_uarts=0",
        "i8042.noaux",
        "nmi_watchdog=0",
        "panic=0",
        "disable_cpu_apicid=7",
        "popcorn.fabric=0x7f000000",
        "popcorn.fabric_bytes=0x1000000",
        "popcorn.node=1",
        "popcorn.name=web",
    ):
        assert words.count(word) == 1
    assert words[-3:] == ["root=/dev/x", "", "a=b"]


def test_command_line_keeps_duplicates_and_quotes() -> None:
    extra = 'console=ttyS0 console=ttyS1 init="/bin/a b"'
    assert cmdline.build(TARGET, f"  {extra} ").endswith(f" {extra}")


def test_command_line_without_name_and_extra() -> None:
    line = cmdline.build(TARGET)
    assert "popcorn.name" not in line
    assert line == line.strip()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("a\0b", "a NUL at position 1"),
        ("ab\nc", "a newline at position 2"),
        ("a\tb", "a tab"),
        ("é", "'é'"),
        ('a="b', "not closed"),
    ],
)
def test_bad_extra(extra: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        cmdline.build(TARGET, extra)


@pytest.mark.parametrize(("cmdline_size", "limit"), [(2047, 2047), (65536, 4095)])
def test_command_line_limit(cmdline_size: int, limit: int) -> None:
    image = dataclasses.replace(IMAGE, cmdline_size=cmdline_size)
    room = limit - len(cmdline.build(TARGET)) - 1
    assert len(plan(TARGET, image, 0, "x" * room).command_line) == limit
    with pytest.raises(PlanError) as caught:
        plan(TARGET, image, 0, "x" * (room + 3))
    assert f"has {limit + 3} characters" in caught.value.message
    assert f"takes {limit}" in caught.value.message
    assert "by 3" in caught.value.hint
