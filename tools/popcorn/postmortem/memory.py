# SPDX-License-Identifier: GPL-2.0
"""The memory of another kernel, as everything here reads it: by physical address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from popcorn.errors import PostmortemError

__all__ = ("CHUNK_BYTES", "PAGE", "ImageMemory", "Memory", "chunks", "find")

PAGE = 4096

CHUNK_BYTES = 4 << 20
"""Read at once where all of the memory is looked at."""


class Memory(Protocol):
    """A range of physical memory. What is in it may be anything, and may change at any time."""

    @property
    def base(self) -> int:
        """Physical address of the first byte; a multiple of the page size."""

    @property
    def size(self) -> int:
        """Bytes; a multiple of the page size."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from a physical address; PostmortemError if not all are in the range."""


class ImageMemory:
    """Memory that was saved, or made by a test: bytes, a mapping of a file."""

    def __init__(self, image: bytes | bytearray | memoryview, base: int) -> None:
        self._image = memoryview(image)
        self.base = base
        self.size = len(self._image)

    def read(self, address: int, size: int) -> bytes:
        """As :class:`Memory` says."""
        at = address - self.base
        if size < 0 or at < 0 or at + size > self.size:
            raise PostmortemError(f"{size} bytes at {address:#x} are outside of its memory")
        return bytes(self._image[at : at + size])


def chunks(
    memory: Memory, overlap: int = 0, *, backwards: bool = False
) -> Iterator[tuple[int, bytes]]:
    """All of the memory in pieces, as (address, bytes); each reaches `overlap` into the next."""
    starts = range(memory.base, memory.base + memory.size, CHUNK_BYTES)
    end = memory.base + memory.size
    for start in reversed(starts) if backwards else starts:
        yield start, memory.read(start, min(CHUNK_BYTES + overlap, end - start))


def find(memory: Memory, pattern: bytes, align: int = 1) -> Iterator[int]:
    """Addresses of `pattern`, ascending, those that are multiples of `align`."""
    for start, data in chunks(memory, len(pattern) - 1):
        at = data.find(pattern)
        while at >= 0:
            if (start + at) % align == 0:
                yield start + at
            at = data.find(pattern, at + 1)
