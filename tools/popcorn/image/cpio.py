# SPDX-License-Identifier: GPL-2.0
"""The archive format of an initramfs: cpio, "newc".

The layout is that of Documentation/driver-api/early-userspace/buffer-format.rst in the kernel: a
header of 110 ASCII bytes, the name with its NUL, the data; name and data end on a multiple of 4.
"""

from __future__ import annotations

import stat
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

from popcorn.errors import ImageError

__all__ = ("Entry", "device", "directory", "file", "read", "symlink", "with_parents", "write")

MAGIC = b"070701"
MAGIC_CRC = b"070702"
HEADER_BYTES = 110
FIELDS = 13
TRAILER = "TRAILER!!!"
# The kernel's limits (init/initramfs.c: PATH_MAX, and 32-bit sizes).
NAME_MAX = 4095
SIZE_MAX = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """A file of any kind. `name` has no leading slash; `mode` holds the type as in st_mode.

    `data` is the content, or the target of a symbolic link. `device` is (major, minor).
    """

    name: str
    mode: int
    data: bytes = field(default=b"", repr=False)
    device: tuple[int, int] = (0, 0)


def directory(name: str, permissions: int = 0o755) -> Entry:
    """Return a directory."""
    return Entry(name, stat.S_IFDIR | permissions)


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(name, stat.S_IFREG | permissions, data)


def symlink(name: str, target: str) -> Entry:
    """Return a symbolic link to `target`."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """Return a character device."""
    return Entry(name, stat.S_IFCHR | permissions, device=(major, minor))


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries, with the directories above each put in front of it where they lack.

    The kernel unpacks in order and skips what has no parent.
    """
    entries = list(entries)
    given = {entry.name for entry in entries}
    done: set[str] = set()
    result = []
    for entry in entries:
        parts = entry.name.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent in done:
                continue
            if parent in given:
                raise ImageError(
                    f"initramfs: {parent} comes after {entry.name}", "put directories first"
                )
            done.add(parent)
            result.append(directory(parent))
        done.add(entry.name)
        result.append(entry)
    return result


def write(entries: Iterable[Entry]) -> bytes:
    """Return the archive. The same entries always give the same bytes: no times, no owners.

    Raises ImageError for a name that is absolute, climbs, or is there twice.
    """
    blob = bytearray()
    seen: set[str] = set()
    for inode, entry in enumerate(entries, start=1):
        _check(entry, seen)
        seen.add(entry.name)
        _append(blob, entry, inode)
    _append(blob, Entry(TRAILER, 0), 0)
    # cpio(1) reads in blocks.
    blob += bytes(-len(blob) % 512)
    return bytes(blob)


def read(data: bytes, name: str = "initramfs") -> Iterator[Entry]:
    """Yield the entries of one or more archives on end; `name` is what errors call the file.

    Raises ImageError where the bytes are no archive, or end within one.
    """
    offset = 0
    while True:
        # Archives may be padded with zeros, and follow each other.
        while data[offset : offset + 4] == b"\0\0\0\0":
            offset += 4
        if not data[offset:].strip(b"\0"):
            return
        offset = yield from _read_archive(data, offset, name)


def _read_archive(data: bytes, offset: int, name: str) -> Generator[Entry, None, int]:
    """Yield the entries of one archive; return where it ends."""
    while True:
        entry, offset = _read_entry(data, offset, name)
        if entry.name == TRAILER:
            return offset
        yield entry


def _read_entry(data: bytes, offset: int, name: str) -> tuple[Entry, int]:
    header = data[offset : offset + HEADER_BYTES]
    if header[:6] not in (MAGIC, MAGIC_CRC):
        if len(header) < 6:
            raise _truncated(name, offset)
        raise ImageError(
            f"{name}: no cpio header at byte {offset}", "the file is damaged; build it again"
        )
    if len(header) < HEADER_BYTES:
        raise _truncated(name, offset)
    digits = header[6:]
    try:
        values = [int(digits[8 * i : 8 * i + 8], 16) for i in range(FIELDS)]
    except ValueError:
        raise ImageError(
            f"{name}: a damaged cpio header at byte {offset}", "build it again"
        ) from None
    mode, size, major, minor, name_size = (values[i] for i in (1, 6, 9, 10, 11))
    name_end = offset + HEADER_BYTES + name_size
    start = _up4(name_end)
    if name_size < 1 or start + size > len(data):
        raise _truncated(name, offset)
    path = data[offset + HEADER_BYTES : name_end - 1].decode("utf-8", "replace")
    content = data[start : start + size]
    return Entry(path, mode, content, (major, minor)), _up4(start + size)


def _append(blob: bytearray, entry: Entry, inode: int) -> None:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    values = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        links,
        0,  # mtime
        len(entry.data),
        0,  # device the file lies on
        0,
        *entry.device,
        len(name),
        0,  # checksum, of the other format only
    )
    blob += MAGIC + b"".join(b"%08x" % value for value in values) + name
    blob += bytes(-len(blob) % 4)
    blob += entry.data
    blob += bytes(-len(blob) % 4)


def _check(entry: Entry, seen: set[str]) -> None:
    name = entry.name
    if name == TRAILER or any(part in ("", ".", "..") for part in name.split("/")):
        raise ImageError(
            f"initramfs: {name!r} is no name for a file", "give a path below the root, without .."
        )
    if "\0" in name or len(name.encode()) > NAME_MAX:
        raise ImageError(f"initramfs: the name {name[:40]!r} is too long or holds a NUL")
    if name in seen:
        raise ImageError(f"initramfs: {name} is there twice", "leave one of them out")
    if len(entry.data) > SIZE_MAX:
        raise ImageError(f"initramfs: {name} is larger than 4 GiB", "cpio can't hold it")


def _truncated(name: str, offset: int) -> ImageError:
    return ImageError(
        f"{name}: truncated: the archive ends within the entry at byte {offset}",
        "the file is incomplete; build it again",
    )


def _up4(value: int) -> int:
    return -(-value // 4) * 4
