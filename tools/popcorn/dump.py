# SPDX-License-Identifier: GPL-2.0
"""A core file of a secondary: its memory, in a form that programs for crash dumps read.

The lease is pinned while it is read: neither wiped nor given back. What the kernel does is not
touched; if it runs, the parts of the file are from different moments.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from popcorn.client import RESTING, Client
from popcorn.device import HostDevice, LeasedMemory
from popcorn.errors import ExistsError, NotFoundError, PopcornError, PostmortemError
from popcorn.models import Kernel, KernelState, label
from popcorn.postmortem import Core, PageTables, VmcoreInfo, core, find_notes, page_tables, ring_of

__all__ = ("COMPRESSIONS", "Dumped", "Progress", "dump_kernel")

COMPRESSIONS = ("zstd",)

CHUNK_BYTES = 2 << 20
"""Read and written at once."""

PAGE = 4096


class Progress(Protocol):
    """Called as the file grows."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` bytes of memory are in the file."""


@dataclass(frozen=True)
class Dumped:
    """A core file that was written. `file_bytes` is what it takes on the disk."""

    kernel: Kernel
    output: Path
    release: str
    core_bytes: int
    file_bytes: int
    compression: str | None

    @property
    def ran(self) -> bool:
        """Whether the kernel ran meanwhile."""
        return self.kernel.state not in RESTING

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "kernel": self.kernel.name,
            "state": label(self.kernel.state),
            "release": self.release,
            "output": str(self.output),
            "core_bytes": self.core_bytes,
            "file_bytes": self.file_bytes,
            "compression": self.compression,
        }


def dump_kernel(
    client: Client,
    which: int | str,
    output: Path,
    *,
    compression: str | None = None,
    progress: Progress | None = None,
    device: HostDevice | None = None,
) -> Dumped:
    """Write a core file of a kernel's memory to `output`, which must not exist.

    Only its owner may read the file. An error or an interrupt removes it again. NotFoundError if
    there is no such kernel, or it did not come as far as to say where things are in it;
    ExistsError.
    """
    kernel = client.kernel(which)
    if kernel.state == KernelState.LEASED:
        raise NotFoundError(
            f"kernel '{kernel.name}' has nothing to dump: it was not started",
            f"start it: popcornctl kernel start {kernel.name}",
        )
    program = _compressor(compression)
    device = device or HostDevice()
    with (
        device.memory(kernel.memory_start, kernel.memory_size, pin=True) as memory,
        device.memory(kernel.slice_start, kernel.slice_size) as low,
    ):
        # What was started anew before the pin was in would be another kernel's.
        if (now := client.kernel(kernel.id)).epoch != kernel.epoch:
            raise NotFoundError(f"kernel '{kernel.name}' was started anew meanwhile")
        info, tables = _find(memory, kernel)
        pieces = [(piece, (piece.base, piece.size)) for piece in (low, memory) if piece.size]
        made = core(
            [place for _, place in pieces], tables.direct_map(), info.text, len(kernel.cpus)
        )
        source = _contents(made, [piece for piece, _ in pieces], progress)
        file_bytes = _write(output, made, source, program)
    return Dumped(now, output, info.release, made.size, file_bytes, compression)


def _compressor(compression: str | None) -> str | None:
    if compression is None:
        return None
    if compression not in COMPRESSIONS:
        raise PopcornError(
            f"there is no compression '{compression}'", f"choose one of {', '.join(COMPRESSIONS)}"
        )
    program = shutil.which(compression)
    if program is None:
        raise NotFoundError(
            f"the program {compression} is not installed",
            f"install it: apt-get install {compression}; or dump without --compress",
        )
    return program


def _find(memory: LeasedMemory, kernel: Kernel) -> tuple[VmcoreInfo, PageTables]:
    """The kernel's note, and its page tables. The right one leads to a log."""
    reasons = []
    for info in find_notes(memory):
        try:
            tables = page_tables(memory, info)
            ring_of(info, tables)
            tables.direct_map()
        except PostmortemError as error:
            reasons.append(f": {error.message}")
        else:
            return info, tables
    why = reasons[0] if reasons else ""
    raise NotFoundError(
        f"the memory of kernel '{kernel.name}' has no vmcoreinfo note that is right{why}",
        "it did not come that far, and nothing could read a dump; see if it has a log:"
        f" popcornctl kernel dmesg {kernel.name}",
    )


def _contents(
    made: Core, pieces: list[LeasedMemory], progress: Progress | None
) -> Iterator[tuple[int, bytes]]:
    """The memory as (offset in the file, bytes), ascending and without gaps."""
    total, done = made.size - made.segments[0].offset, 0
    for segment, piece in zip(made.segments, pieces, strict=True):
        for at in range(0, segment.size, CHUNK_BYTES):
            data = piece.read(segment.start + at, min(CHUNK_BYTES, segment.size - at))
            yield segment.offset + at, data
            done += len(data)
            if progress is not None:
                progress(done, total)


def _write(
    output: Path, made: Core, source: Iterator[tuple[int, bytes]], program: str | None
) -> int:
    """Write the file, or leave none; returns the bytes that it takes."""
    try:
        # All that a kernel knows is in it.
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise ExistsError(
            f"{output} exists already", "choose another name, or remove it first"
        ) from error
    except OSError as error:
        raise PopcornError(f"{output}: can't write the dump: {error.strerror}") from error
    try:
        try:
            if program is None:
                _write_sparse(fd, made, source)
            else:
                _write_compressed(fd, made, source, program)
            return os.fstat(fd).st_blocks * 512
        finally:
            os.close(fd)
    except OSError as error:
        output.unlink(missing_ok=True)
        hint = "it was removed again"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = f"{made.size >> 20} MiB at the most are needed; --compress makes it smaller"
        raise PopcornError(f"{output}: can't write the dump: {error.strerror}", hint) from error
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def _runs(data: bytes) -> Iterator[tuple[int, int]]:
    """The parts of some pages that are not zero, as (begin, end)."""
    begin = None
    for at in range(0, len(data), PAGE):
        page = data[at : at + PAGE]
        if page.count(0) == len(page):
            if begin is not None:
                yield begin, at
            begin = None
        elif begin is None:
            begin = at
    if begin is not None:
        yield begin, len(data)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _write_sparse(fd: int, made: Core, source: Iterator[tuple[int, bytes]]) -> None:
    """With holes where nothing is. The header comes last: a file without it is no core."""
    os.ftruncate(fd, made.size)
    for offset, data in source:
        view = memoryview(data)
        for begin, end in _runs(data):
            _write_all(fd, view[begin:end], offset + begin)
    _write_all(fd, memoryview(made.header), 0)
    os.fsync(fd)


def _write_compressed(
    fd: int, made: Core, source: Iterator[tuple[int, bytes]], program: str
) -> None:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [program, "--quiet", "--stdout"], stdin=subprocess.PIPE, stdout=fd, stderr=said
        )
        try:
            assert process.stdin is not None
            _feed(process.stdin, made, source)
        except BrokenPipeError:
            pass  # its own words say more
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.wait():
            said.seek(0)
            _raise_for(said.read().decode(errors="replace"), program, process.returncode)
    os.fsync(fd)


def _feed(pipe: IO[bytes], made: Core, source: Iterator[tuple[int, bytes]]) -> None:
    with pipe:
        pipe.write(made.header)
        for _, data in source:
            pipe.write(data)


def _raise_for(said: str, program: str, status: int) -> None:
    """Raise what a compressor that failed means."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        if os.strerror(number) in said:
            raise OSError(number, os.strerror(number))
    ended = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
    words = said.strip().splitlines()
    raise PopcornError(f"{Path(program).name} {ended}" + (f": {words[-1]}" if words else ""))
