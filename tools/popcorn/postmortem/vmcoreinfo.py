# SPDX-License-Identifier: GPL-2.0
"""The note in which a kernel says where things are in it, for programs that read its memory.

Documentation/admin-guide/kdump/vmcoreinfo.rst. crash_save_vmcoreinfo_init(), a subsys_initcall,
makes it: pages of their own, an ELF note header, lines of KEY=VALUE. It is found by its looks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from popcorn.errors import PostmortemError
from popcorn.postmortem.memory import CHUNK_BYTES, PAGE, Memory, chunks
from popcorn.postmortem.pagetable import KERNEL_IMAGE, PageTables

__all__ = ("NOTE_NAME", "VmcoreInfo", "find_notes", "page_tables", "parse")

NOTE_NAME = b"VMCOREINFO\0"
_HEADER = struct.Struct("<III")
_TEXT_AT = _HEADER.size + (len(NOTE_NAME) + 3 & ~3)
_FIRST_LINE = b"OSRELEASE="

TEXT_MAX = PAGE
"""VMCOREINFO_BYTES."""

_CHUNK_PAGES = CHUNK_BYTES // PAGE

STRUCT_MAX = 1 << 16
"""No structure of the ones that are read is as large as this; what says so is garbage."""


@dataclass(frozen=True)
class VmcoreInfo:
    """A note: where it is, its text as it stands there, and the values by their keys."""

    address: int
    text: bytes
    values: Mapping[str, str] = field(repr=False)

    @property
    def release(self) -> str:
        """The kernel's release."""
        return self.values.get("OSRELEASE", "")

    def number(self, key: str, default: int | None = None, base: int = 10) -> int:
        """A value as a number; PostmortemError if it is missing, without a default, or is none."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        try:
            return int(value or "", base)
        except ValueError:
            raise PostmortemError(f"its vmcoreinfo note has no usable {key}") from None

    def symbol(self, name: str) -> int:
        """A symbol's virtual address, KASLR included."""
        return self.number(f"SYMBOL({name})", base=16) % (1 << 64)

    def _small(self, key: str) -> int:
        found = self.number(key)
        if not 0 <= found < STRUCT_MAX:
            raise PostmortemError(f"its vmcoreinfo note has no usable {key}")
        return found

    def offset(self, name: str) -> int:
        """Where a member is in its structure."""
        return self._small(f"OFFSET({name})")

    def size(self, name: str) -> int:
        """Bytes of a structure; never 0."""
        found = self._small(f"SIZE({name})")
        if not found:
            raise PostmortemError(f"its vmcoreinfo note has no usable SIZE({name})")
        return found


def parse(address: int, text: bytes) -> VmcoreInfo:
    """The note whose text this is."""
    lines = text.rstrip(b"\0").decode("ascii", "replace").split("\n")
    pairs = (line.partition("=") for line in lines)
    return VmcoreInfo(address, text, {key: value for key, equals, value in pairs if equals})


def find_notes(memory: Memory) -> Iterator[VmcoreInfo]:
    """Every note that begins a page.

    From the end of the memory, where a kernel's page allocator begins to hand it out: the note is
    met soon. The kernel has its text in another page, too, without the header; that one is no note.
    """
    for start, data in chunks(memory, PAGE, backwards=True):
        words = memoryview(data)[: len(data) & ~3].cast("I")[:: PAGE // 4].tolist()
        for index, word in enumerate(words[:_CHUNK_PAGES]):
            if word == len(NOTE_NAME):
                text = _text(data[index * PAGE : index * PAGE + _TEXT_AT + TEXT_MAX])
                if text is not None:
                    yield parse(start + index * PAGE, text)


def _text(note: bytes) -> bytes | None:
    """The text of a note, None if it is not one of ours."""
    if len(note) < _TEXT_AT or not note[_HEADER.size :].startswith(NOTE_NAME):
        return None
    _, size, kind = _HEADER.unpack_from(note)
    text = note[_TEXT_AT : _TEXT_AT + size]
    if kind or size > TEXT_MAX or len(text) != size or not text.startswith(_FIRST_LINE):
        return None
    return text


def page_tables(memory: Memory, info: VmcoreInfo) -> PageTables:
    """The kernel's virtual memory; PostmortemError if the note is not one of an x86_64 kernel."""
    shift = info.number("NUMBER(phys_base)") - KERNEL_IMAGE
    levels = 5 if info.number("NUMBER(pgtable_l5_enabled)", 0) else 4
    return PageTables(
        memory,
        info.symbol("init_top_pgt") + shift,
        levels,
        shift,
        info.number("NUMBER(sme_mask)", 0),
    )
