# SPDX-License-Identifier: GPL-2.0
"""The bzImage parser, on made-up images and on those of this machine."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from popcorn.boot import bzimage
from popcorn.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]
REAL = sorted([*Path("/boot").glob("vmlinuz-*"), *ROOT.glob("build/kernels/*/boot/vmlinuz-*")])

SETUP_SECTS = 3
PAYLOAD_AT = (SETUP_SECTS + 1) * 512
PAYLOAD = bytes(range(256)) * 16


def make_image(
    *,
    protocol: int = 0x020F,
    xloadflags: int = 0x7F,
    init_size: int = 64 << 20,
    alignment: int = 2 << 20,
    cmdline_size: int = 2047,
    relocatable: bool = True,
    banner: bytes = b"6.1.0-56-amd64 (build@host) #1 SMP",
    payload: bytes = PAYLOAD,
    trailer: bytes = b"",
) -> bytes:
    data = bytearray(PAYLOAD_AT)
    data[0:2] = b"MZ"
    data[0x1F1] = SETUP_SECTS
    struct.pack_into("<I", data, 0x1F4, len(payload) // 16)
    data[0x1FE:0x200] = b"\x55\xaa"
    data[0x200:0x202] = b"\xeb\x6a"
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x206, protocol)
    struct.pack_into("<H", data, 0x20E, 0x100)
    struct.pack_into("<I", data, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<I", data, 0x230, alignment)
    data[0x234] = relocatable
    struct.pack_into("<H", data, 0x236, xloadflags)
    struct.pack_into("<I", data, 0x238, cmdline_size)
    struct.pack_into("<I", data, 0x260, init_size)
    data[0x300 : 0x300 + len(banner)] = banner
    return bytes(data) + payload + trailer


def test_fields() -> None:
    image = bzimage.parse(make_image(), "x")
    assert image.protocol == 0x020F
    assert image.init_size == 64 << 20
    assert image.kernel_alignment == 2 << 20
    assert image.cmdline_size == 2047
    assert image.initrd_addr_max == 0x7FFFFFFF
    assert image.relocatable
    assert image.can_load_above_4g
    assert image.five_level
    assert image.release == "6.1.0-56-amd64"
    assert image.banner == "6.1.0-56-amd64 (build@host) #1 SMP"


def test_header_is_what_the_loader_must_copy() -> None:
    data = make_image()
    image = bzimage.parse(data, "x")
    assert image.setup_header == data[0x1F1 : 0x202 + 0x6A]


def test_payload_leaves_out_what_follows_it() -> None:
    image = bzimage.parse(make_image(trailer=b"signature"), "x")
    assert image.payload == PAYLOAD


def test_flags_off() -> None:
    image = bzimage.parse(make_image(xloadflags=1, relocatable=False), "x")
    assert not image.can_load_above_4g
    assert not image.five_level
    assert not image.relocatable


def test_setup_sects_zero_means_four() -> None:
    data = bytearray(make_image())
    data[0x1F1] = 0
    data[PAYLOAD_AT:PAYLOAD_AT] = bytes(512)
    assert bzimage.parse(bytes(data), "x").payload == PAYLOAD


def test_no_banner() -> None:
    data = bytearray(make_image())
    struct.pack_into("<H", data, 0x20E, 0)
    image = bzimage.parse(bytes(data), "x")
    assert (image.release, image.banner) == ("", "")


def patched(offset: int, value: bytes) -> Callable[[], bytes]:
    def make() -> bytes:
        data = bytearray(make_image())
        data[offset : offset + len(value)] = value
        return bytes(data)

    return make


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "truncated"),
    "header cut": (lambda: make_image()[:0x240], "truncated"),
    "mz only": (lambda: b"MZ" + bytes(30), "truncated"),
    "payload cut": (lambda: make_image()[:-1], "truncated"),
    "no payload": (lambda: make_image(payload=b""), "truncated"),
    "header longer than file": (lambda: make_image()[:0x268], "truncated"),
    "no HdrS": (patched(0x202, b"XXXX"), "EFI program"),
    "no boot flag": (patched(0x1FE, b"\0\0"), "EFI program"),
    "text": (lambda: b"#!/bin/sh\n" * 200, "no Linux boot header"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(2000), "gzip"),
    "elf": (lambda: b"\x7fELF" + bytes(2000), "ELF"),
    "short elf": (lambda: b"\x7fELF" + bytes(60), "ELF"),
    "cpio": (lambda: b"070701" + b"0" * 2000, "cpio"),
    "32 bit": (lambda: make_image(xloadflags=0x7E), "32-bit"),
    "old": (lambda: make_image(protocol=0x020B), "2.11 is too old"),
    "header too short": (patched(0x201, b"\x10"), "setup header ends"),
    "header too long": (patched(0x201, b"\xff"), "setup header ends"),
    "init_size": (lambda: make_image(init_size=16), "init_size"),
    "alignment": (lambda: make_image(alignment=3 << 20), "kernel_alignment"),
    "no alignment": (lambda: make_image(alignment=0), "kernel_alignment"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad(case: str) -> None:
    make, words = BAD[case]
    with pytest.raises(ImageError) as caught:
        bzimage.parse(make(), "some/file")
    assert caught.value.message.startswith("some/file: ")
    assert words in caught.value.message
    assert caught.value.hint


def test_any_cut_is_an_error() -> None:
    data = make_image()
    for length in range(0, len(data), 7):
        with pytest.raises(ImageError):
            bzimage.parse(data[:length], "x")


def test_elf_and_gzip_are_told_apart() -> None:
    hints = set()
    for magic in (b"\x7fELF", b"\x1f\x8b"):
        with pytest.raises(ImageError) as caught:
            bzimage.parse(magic + bytes(2000), "x")
        hints.add(caught.value.hint)
    assert len(hints) == 2


def test_read_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such kernel image") as caught:
        bzimage.read(tmp_path / "vmlinuz")
    assert str(tmp_path / "vmlinuz") in caught.value.message


def test_read_directory(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="can't read"):
        bzimage.read(tmp_path)


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_image())
    assert bzimage.read(path).name == str(path)


@pytest.mark.parametrize("path", REAL, ids=[path.name for path in REAL])
def test_real(path: Path) -> None:
    image = bzimage.read(path)
    assert path.name == f"vmlinuz-{image.release}"
    assert image.relocatable
    assert image.can_load_above_4g
    offset, length = struct.unpack_from("<II", image.setup_header, 0x248 - 0x1F1)
    assert 0 < offset + length <= len(image.payload)
