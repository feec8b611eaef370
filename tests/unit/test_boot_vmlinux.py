# SPDX-License-Identifier: GPL-2.0
"""A kernel that is unpacked before it starts, and moved by the relocator."""

from __future__ import annotations

import ctypes
import dataclasses
import lzma
import mmap
import platform
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from test_boot_layout import IMAGE, SEED, TARGET

from popcorn import boot, kernels
from popcorn.boot import bzimage, layout, params, vmlinux
from popcorn.errors import ImageError

MIB = 1 << 20
BASE = 16 * MIB
MAP = vmlinux.START_KERNEL_MAP
ROOT = Path(__file__).resolve().parents[2]
REAL = sorted(ROOT.glob("build/kernels/6.1*/boot/vmlinuz-6.1.*"))

TEXT = struct.pack("<QQIIiI", MAP + BASE, 7, 0x81000000, 8, -100, 9) + b"\xc3"
DATA = b"data" + bytes(60)
"""It ends with zeros, which need not be written."""
DATA_AT, BSS = 0x2000, 0x1000
PLACES = ((0,), (24,), (16,))
"""From the start of TEXT: 64 bits, 32 bits to subtract from, 32 bits."""


def places(lists: tuple[tuple[int, ...], ...] = PLACES) -> bytes:
    """What is behind the ELF file."""
    words = [word for found in lists for word in (0, *(MAP + BASE + at for at in found))]
    return struct.pack(f"<{len(words)}I", *(word & 0xFFFFFFFF for word in words))


def elf(*, entry: int = BASE, machine: int = 62, behind: bytes | None = None) -> bytes:
    """A kernel of two pieces; the second has memory that is not in the file."""
    loads = ((BASE, TEXT, len(TEXT)), (BASE + DATA_AT, DATA, len(DATA) + BSS))
    at = 64 + 56 * (len(loads) + 1)
    headers, body = [], b""
    for address, content, size in loads:
        position = at + len(body)
        headers.append(
            struct.pack("<IIQQQQQQ", 1, 5, position, MAP, address, len(content), size, MIB)
        )
        body += content
    # A note, as the last one.
    headers.append(struct.pack("<IIQQQQQQ", 4, 4, at, 0, BASE, 4, 4, 4))
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    numbers = 2, machine, 1, entry, 64, at + len(body), 0, 64, 56, len(headers), 64, 2, 1
    head = struct.pack("<HHIQQQIHHHHHH", *numbers)
    sections = bytes(2 * 64)
    file = ident + head + b"".join(headers) + body + sections
    return file + (places() if behind is None else behind)


def image(file: bytes, *, packed: bytes | None = None, init_size: int = 32 * MIB) -> boot.BzImage:
    """A bzImage that holds it."""
    content = lzma.compress(file) if packed is None else packed
    # The size of what is unpacked is behind what is packed.
    payload = bytes(0x300) + content + struct.pack("<I", len(file)) + b"code"
    header = bytearray(IMAGE.setup_header)
    struct.pack_into("<II", header, vmlinux.PAYLOAD_OFFSET, 0x300, len(content) + 4)
    struct.pack_into("<Q", header, vmlinux.PREF_ADDRESS, BASE)
    return dataclasses.replace(
        IMAGE, setup_header=bytes(header), payload=payload, init_size=init_size
    )


def unpacked(file: bytes | None = None) -> vmlinux.Vmlinux:
    found = boot.unpack(image(elf() if file is None else file))
    assert found is not None
    return found


def test_the_pieces_lie_where_they_belong() -> None:
    found = unpacked()
    assert (found.base, found.size) == (BASE, DATA_AT + len(DATA) + BSS)
    assert found.source == image(elf()).digest()
    assert found.data == TEXT + bytes(DATA_AT - len(TEXT)) + b"data"
    assert found.movable
    assert found.places == places()[4:] + bytes(4)


@pytest.mark.parametrize(
    "odd",
    [
        image(elf(), packed=zlib.compress(elf())),
        image(elf(), packed=lzma.compress(elf())[:-40]),
        image(elf(entry=BASE + 4096)),
        image(elf(machine=183)),
        image(elf()[:100]),
        image(b"not an ELF file, but long enough to have had a header and more"),
        image(elf(behind=places()[:-2])),
        image(elf(behind=places(PLACES[:2]))),
        image(elf(behind=places()[4:])),
        image(elf(), init_size=DATA_AT),
        image(elf(), init_size=DATA_AT + 2 * 4096),
    ],
    ids=(
        "quick to unpack", "cut", "entry elsewhere", "another machine", "short", "no ELF",
        "half a place", "two lists", "no end", "larger than it says", "no room for the relocator",
    ),
)  # fmt: skip
def test_what_looks_different_unpacks_itself(odd: boot.BzImage) -> None:
    assert boot.unpack(odd) is None


def test_what_is_kept_is_what_was() -> None:
    found = unpacked()
    assert boot.parse_vmlinux(found.keep()) == found
    for bad in (b"", b"no", found.keep()[:-1], found.keep() + b"\0", b"X" + found.keep()[1:]):
        with pytest.raises(ImageError, match="not an unpacked kernel"):
            boot.parse_vmlinux(bad)


def test_the_relocator_is_what_its_source_says(tmp_path: Path) -> None:
    source, made = tmp_path / "relocator.S", tmp_path / "relocator.o"
    source.write_text(vmlinux.RELOCATOR_SOURCE)
    subprocess.run(["as", "--64", "-o", made, source], check=True)
    code = tmp_path / "relocator"
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, code], check=True)
    assert code.read_bytes() == vmlinux.RELOCATOR_CODE


@pytest.mark.skipif(platform.machine() != "x86_64", reason="it is a program for x86_64")
@pytest.mark.parametrize("offset", [0, 2 * MIB, 900 * MIB])
def test_the_relocator_moves_the_kernel(offset: int) -> None:
    """Run here: the kernel's entry returns."""
    entry = b"\xc3" + bytes(7)
    file = elf(behind=places(((8,), (8 + 24,), (8 + 16,))))
    # In front of what is to be moved, an entry.
    found = unpacked(file)
    found = dataclasses.replace(found, data=entry + bytes(found.data))
    with mmap.mmap(-1, MIB, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
        view = ctypes.c_char.from_buffer(memory)
        start = ctypes.addressof(view)
        memory[: len(found.data)] = found.data
        program = vmlinux.relocator(found, start, offset)
        assert len(program) == found.relocator_bytes
        memory[0x8000 : 0x8000 + len(program)] = program
        ctypes.CFUNCTYPE(None)(start + 0x8000)()
        got = struct.unpack_from("<QQIIiI", memory, len(entry))
        rest = memory[len(entry) + len(TEXT) : len(found.data)]
        del view
    assert got == (MAP + BASE + offset, 7, 0x81000000 + offset, 8, -100 - offset, 9)
    assert rest == bytes(found.data)[len(entry) + len(TEXT) :]


def test_a_kernel_that_cannot_be_moved_is_not() -> None:
    fixed = unpacked(elf(behind=b""))
    assert not fixed.movable
    assert vmlinux.random_offset(image(elf()), fixed, SEED) == 0
    assert fixed.places == bytes(12)


def test_offsets_are_random_and_leave_it_inside() -> None:
    whole, found = image(elf()), unpacked()
    drawn = [vmlinux.random_offset(whole, found, bytes([n]) * 32) for n in range(200)]
    assert len(set(drawn)) > 100
    assert not any(offset % whole.kernel_alignment for offset in drawn)
    assert max(drawn) + found.base + whole.init_size <= vmlinux.KERNEL_IMAGE_SIZE
    assert max(drawn) > vmlinux.KERNEL_IMAGE_SIZE // 2


def started(extra: str = "") -> tuple[layout.Layout, dict[str, boot.Segment], boot.BzImage]:
    whole = dataclasses.replace(image(elf()), unpacked=unpacked())
    planned = boot.plan(TARGET, whole, 5000, extra)
    pieces = boot.build(planned, whole, bytes(5000), SEED)
    return planned, {piece.name: piece for piece in pieces}, whole


def test_a_start_enters_the_relocator() -> None:
    planned, pieces, whole = started()
    kernel, relocator = pieces["kernel"], pieces["relocator"]
    assert whole.unpacked is not None
    assert kernel.data == whole.unpacked.data
    offset = vmlinux.random_offset(whole, whole.unpacked, SEED)
    assert offset > 0
    assert relocator.data == vmlinux.relocator(whole.unpacked, kernel.start, offset)
    assert planned.entry == relocator.start
    assert kernel.start + whole.unpacked.size <= relocator.start
    assert relocator.end <= kernel.start + whole.init_size
    assert any(start <= relocator.start and relocator.end <= end for start, end in planned.mapped)
    assert pieces["zero-page"].data[params.LOADFLAGS] & params.KASLR
    assert whole.digest() == image(elf()).digest()
    # As much is left as if it unpacked itself.
    packed = boot.plan(TARGET, dataclasses.replace(whole, unpacked=None), 5000)
    assert planned.ram_free == packed.ram_free
    assert packed.entry == kernel.start + layout.ENTRY_64
    assert packed.placement("relocator") is None
    assert not params.build(packed, whole)[params.LOADFLAGS] & params.KASLR


def test_memory_that_takes_five_levels_is_left_to_the_image() -> None:
    _, _, whole = started()
    for end, by_us in ((layout.FOUR_LEVEL_END, True), (layout.FOUR_LEVEL_END + 2 * MIB, False)):
        target = dataclasses.replace(TARGET, region_start=end - TARGET.region_bytes)
        planned = boot.plan(target, whole, 5000)
        assert (planned.placement("relocator") is not None) == by_us
        (kernel,) = (p for p in boot.build(planned, whole, bytes(5000), SEED) if p.name == "kernel")
        assert (kernel.data != whole.payload) == by_us


def test_nokaslr_is_obeyed() -> None:
    _, pieces, whole = started("quiet nokaslr")
    assert whole.unpacked is not None
    kernel = pieces["kernel"]
    assert pieces["relocator"].data == vmlinux.relocator(whole.unpacked, kernel.start, 0)
    assert not pieces["zero-page"].data[params.LOADFLAGS] & params.KASLR


def test_a_kernel_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dataclasses.replace(image(elf()), name=str(tmp_path / "vmlinuz"))
    Path(whole.name).write_text("1")
    cache = tmp_path / "cache"
    expected = unpacked()
    first = kernels.with_unpacked(whole, cache)
    assert first.unpacked == expected
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(boot, "unpack", lambda _: pytest.fail("again"))
        assert kernels.with_unpacked(whole, cache).unpacked == expected
    # One that is damaged is made again, and another file is another kernel.
    kept.write_bytes(kept.read_bytes()[:-1])
    assert kernels.with_unpacked(whole, cache).unpacked == expected
    assert boot.parse_vmlinux(kept.read_bytes()) == expected
    for number in range(kernels.CACHE_KEEP + 2):
        Path(whole.name).write_text("2" * (number + 2))
        kernels.with_unpacked(whole, cache)
    assert len(list(cache.iterdir())) == kernels.CACHE_KEEP


def test_without_a_cache_it_is_unpacked_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert kernels.with_unpacked(image(elf()), tmp_path / "file").unpacked == unpacked()


def test_an_image_that_unpacks_itself_is_left_alone(tmp_path: Path) -> None:
    assert kernels.with_unpacked(IMAGE, tmp_path) is IMAGE
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", REAL, ids=[path.parts[-3] for path in REAL])
def test_real_kernels_are_unpacked(path: Path) -> None:
    whole = bzimage.read(path)
    found = boot.unpack(whole)
    assert found is not None and found.movable
    assert whole.release.encode() in bytes(found.data)
    # The kernel's own 64-bit entry, of head_64.S, begins with the stack: lea ...(%rip), %rsp.
    assert bytes(found.data[:3]) == b"\x48\x8d\x25"
