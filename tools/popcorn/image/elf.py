# SPDX-License-Identifier: GPL-2.0
"""The little that has to be known of ELF files: elf(5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from popcorn.errors import ImageError

__all__ = ("interpreter", "modinfo", "needed")

MAGIC_64_LE = b"\x7fELF\x02\x01"
EM_X86_64 = 62
PT_LOAD = 1
PT_DYNAMIC = 2
PT_INTERP = 3
DT_NEEDED = 1
DT_STRTAB = 5
HEADER_BYTES = 64
SECTION_BYTES = 64
SEGMENT_BYTES = 56


def interpreter(data: bytes, name: str) -> str:
    """Return the dynamic loader that a program asks for, "" if it is static.

    Raises ImageError if it is no x86_64 ELF file, or cut short.
    """
    for kind, offset, _, file_size in _segments(data, name):
        if kind == PT_INTERP:
            text = data[offset : offset + file_size]
            return text.rstrip(b"\0").decode("ascii", "replace")
    return ""


def needed(data: bytes, name: str) -> tuple[str, ...]:
    """Return the names of the shared libraries that a program or a library asks for, in order.

    Raises ImageError if it is no x86_64 ELF file, or cut short.
    """
    segments = list(_segments(data, name))
    offsets, strings = [], None
    for kind, offset, _, file_size in segments:
        if kind != PT_DYNAMIC:
            continue
        if offset + file_size > len(data):
            raise _truncated(name)
        for tag, value in struct.iter_unpack("<qQ", data[offset : offset + file_size // 16 * 16]):
            if tag == DT_NEEDED:
                offsets.append(value)
            elif tag == DT_STRTAB:
                strings = value
    if not offsets or strings is None:
        return ()
    for kind, offset, address, file_size in segments:
        if kind == PT_LOAD and address <= strings < address + file_size:
            table = data[offset + strings - address : offset + file_size]
            return tuple(table[at:].partition(b"\0")[0].decode("ascii") for at in offsets)
    raise _truncated(name)


def _segments(data: bytes, name: str) -> Iterator[tuple[int, int, int, int]]:
    """(type, offset, address, bytes in the file) of each."""
    _check(data, name)
    start, size, count = struct.unpack_from("<Q14xHH", data, 0x20)
    for number in range(count):
        at = start + number * size
        if size < SEGMENT_BYTES or at + SEGMENT_BYTES > len(data):
            raise _truncated(name)
        yield struct.unpack_from("<I4xQQ8xQ", data, at)


def modinfo(data: bytes, name: str) -> dict[str, str]:
    """Return the modinfo strings of a kernel module; of a key that is there twice, the first.

    Raises ImageError if it is no x86_64 kernel module, or cut short.
    """
    _check(data, name)
    start, size, count, names_at = struct.unpack_from("<Q10xHHH", data, 0x28)
    if size != SECTION_BYTES or start + count * size > len(data) or names_at >= count:
        raise _truncated(name)
    sections = [
        struct.unpack_from("<I20xQQ", data, start + number * size) for number in range(count)
    ]
    names = _slice(data, sections[names_at], name)
    for section in sections:
        if names[section[0] :].startswith(b".modinfo\0"):
            return _pairs(_slice(data, section, name))
    raise ImageError(f"{name}: not a kernel module: no .modinfo section", "give a .ko file")


def _pairs(text: bytes) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in text.split(b"\0"):
        key, separator, value = item.decode("utf-8", "replace").partition("=")
        if separator:
            pairs.setdefault(key, value)
    return pairs


def _slice(data: bytes, section: tuple[int, ...], name: str) -> bytes:
    _, offset, size = section
    if offset + size > len(data):
        raise _truncated(name)
    return data[offset : offset + size]


def _check(data: bytes, name: str) -> None:
    if not data.startswith(MAGIC_64_LE):
        raise ImageError(f"{name}: not a 64-bit ELF file", "it must be made for x86_64")
    if len(data) < HEADER_BYTES:
        raise _truncated(name)
    if int.from_bytes(data[0x12:0x14], "little") != EM_X86_64:
        raise ImageError(f"{name}: made for another architecture", "it must be made for x86_64")


def _truncated(name: str) -> ImageError:
    return ImageError(f"{name}: truncated ELF file", "the file is incomplete; make it again")
