# SPDX-License-Identifier: GPL-2.0
"""The headers of an ELF core file of a kernel, as /proc/vmcore has them: elf(5).

One segment for each piece of physical memory, at the address where the kernel's direct map has it;
notes with the kernel's vmcoreinfo and with registers of each CPU. makedumpfile(8) and drgn
read it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from popcorn.postmortem.memory import PAGE
from popcorn.postmortem.vmcoreinfo import NOTE_NAME

__all__ = ("Core", "Segment", "core")

ET_CORE = 4
EM_X86_64 = 62
PT_LOAD = 1
#: What /proc/vmcore has, too; crash takes a file with any other for one of netdump, and then does
#: not look for the kernel's random offset.
NO_ALIGNMENT = 0
PT_NOTE = 4
READ_WRITE_EXECUTE = 7
NT_PRSTATUS = 1

PRSTATUS_BYTES = 336
"""sizeof(struct elf_prstatus) of x86_64."""

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_NHDR = struct.Struct("<III")


@dataclass(frozen=True)
class Segment:
    """A piece of memory: where it is, and where in the file; all multiples of the page size."""

    start: int
    size: int
    offset: int


@dataclass(frozen=True)
class Core:
    """What is at the beginning of the file, and where the memory comes behind it."""

    header: bytes
    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return max(segment.offset + segment.size for segment in self.segments)


def _note(name: bytes, kind: int, content: bytes) -> bytes:
    padded = [part + b"\0" * (-len(part) % 4) for part in (name, content)]
    return _NHDR.pack(len(name), len(content), kind) + b"".join(padded)


def core(pieces: Sequence[tuple[int, int]], direct_map: int, vmcoreinfo: bytes, cpus: int) -> Core:
    """The core file of `pieces` of memory, (physical address, bytes) each, ascending.

    `direct_map` is the virtual address of physical 0, `vmcoreinfo` the text of the note. The
    registers of the CPUs are zero: nobody can ask a CPU that runs, or was reset, for them.
    """
    notes = _note(b"CORE\0", NT_PRSTATUS, bytes(PRSTATUS_BYTES)) * cpus
    notes += _note(NOTE_NAME, 0, vmcoreinfo)
    at = _EHDR.size + _PHDR.size * (1 + len(pieces))
    headers = [_PHDR.pack(PT_NOTE, 0, at, 0, 0, len(notes), len(notes), 4)]
    segments = []
    offset = -(-(at + len(notes)) // PAGE) * PAGE
    for start, size in pieces:
        segments.append(Segment(start, size, offset))
        virtual = (direct_map + start) % (1 << 64)
        headers.append(
            _PHDR.pack(
                PT_LOAD, READ_WRITE_EXECUTE, offset, virtual, start, size, size, NO_ALIGNMENT
            )
        )
        offset += size
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    ehdr = _EHDR.pack(
        *(ident, ET_CORE, EM_X86_64, 1, 0, _EHDR.size, 0, 0),
        *(_EHDR.size, _PHDR.size, len(headers), 0, 0, 0),
    )
    header = ehdr + b"".join(headers) + notes
    return Core(header + b"\0" * (-len(header) % PAGE), tuple(segments))
