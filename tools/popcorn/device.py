# SPDX-License-Identifier: GPL-2.0
"""Leased memory, through the device of popcorn_host: the loader writes it, others only look.

The offset into /dev/popcorn/host is the physical address. The module lets it be read or mapped only
inside the memory or the low slice of one kernel, and mapped writable only while that kernel is
leased.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from popcorn.errors import (
    BusyError,
    KernelRefusedError,
    ModuleMissingError,
    PermissionDeniedError,
    PopcornError,
    PostmortemError,
)

__all__ = ("HOST_DEVICE", "HostDevice", "LeasedMemory", "Piece")

HOST_DEVICE = Path("/dev/popcorn/host")

CHUNK_BYTES = 4 << 20
"""Copied at a time: Ctrl-C and the progress wait for no more than that."""


class Piece(Protocol):
    """Bytes for a physical address, as :class:`popcorn.boot.Segment` has them."""

    @property
    def name(self) -> str:
        """What it is, for errors."""

    @property
    def start(self) -> int:
        """Physical address."""

    @property
    def data(self) -> bytes | memoryview:
        """Contents."""


class HostDevice:
    """The device of popcorn_host, or a file in its place, where the offset is the address."""

    def __init__(self, path: Path = HOST_DEVICE) -> None:
        self.path = path

    def write(
        self, pieces: Iterable[Piece], progress: Callable[[int], None] = lambda written: None
    ) -> int:
        """Write every piece to its address; returns the number of bytes written.

        `progress` is called with the bytes written so far. No mapping is left behind, not even when
        the write is interrupted. ModuleMissingError, PermissionDeniedError, BusyError (the
        kernel is not leased) or KernelRefusedError (the address is not in a lease).
        """
        written = 0
        fd = self._open(os.O_RDWR)
        try:
            for piece in pieces:
                for size in self._write_piece(fd, piece):
                    written += size
                    progress(written)
        finally:
            os.close(fd)
        return written

    def memory(self, base: int, size: int, *, pin: bool = False) -> LeasedMemory:
        """The memory of a kernel from the physical address `base` on, to read in any state.

        With `pin` it is neither wiped nor given back until it is closed: who tries is told that it
        is mapped. ModuleMissingError, PermissionDeniedError, KernelRefusedError if it is not
        leased.
        """
        fd = self._open(os.O_RDONLY)
        try:
            return LeasedMemory(fd, base, size, pin=pin)
        except BaseException:
            os.close(fd)
            raise

    def _open(self, access: int) -> int:
        try:
            return os.open(self.path, access | os.O_CLOEXEC)
        except OSError as error:
            raise self._open_error(error) from error

    def _write_piece(self, fd: int, piece: Piece) -> Iterable[int]:
        if not piece.data:
            return
        lead = piece.start % mmap.PAGESIZE
        length = -(-(lead + len(piece.data)) // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            mapping = mmap.mmap(
                fd,
                length,
                flags=mmap.MAP_SHARED,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
                offset=piece.start - lead,
            )
        except OSError as error:
            raise _map_error(error, piece) from error
        data = memoryview(piece.data)
        with mapping:
            for at in range(0, len(data), CHUNK_BYTES):
                chunk = data[at : at + CHUNK_BYTES]
                mapping[lead + at : lead + at + len(chunk)] = chunk
                yield len(chunk)

    def _open_error(self, error: OSError) -> PopcornError:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
            return ModuleMissingError(
                f"{self.path} is not there: popcorn_host is not loaded",
                "load it: modprobe popcorn_host",
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return PermissionDeniedError(
                f"not permitted to open {self.path}",
                "run it as root; a locked-down kernel (Secure Boot) refuses even root",
            )
        return KernelRefusedError(f"{self.path}: {error.strerror}", errno=error.errno or 0)


class LeasedMemory:
    """The memory of a kernel, as :class:`popcorn.postmortem.Memory` wants it; to be closed."""

    def __init__(self, fd: int, base: int, size: int, *, pin: bool = False) -> None:
        self.base = base
        self.size = size
        self._fd = fd
        self._pin: mmap.mmap | None = None
        if pin:
            try:
                self._pin = mmap.mmap(
                    fd, mmap.PAGESIZE, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=base
                )
            except OSError as error:
                raise KernelRefusedError(
                    f"cannot keep the memory at {base:#x}: {error.strerror}", errno=error.errno or 0
                ) from error

    def __enter__(self) -> LeasedMemory:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        if self._pin is not None:
            self._pin.close()
            self._pin = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from a physical address.

        PostmortemError if they are not all in the memory, KernelRefusedError if it is not leased
        any more.
        """
        if size < 0 or address < self.base or address + size > self.base + self.size:
            raise PostmortemError(f"{size} bytes at {address:#x} are outside of its memory")
        parts = []
        while size > 0:
            try:
                part = os.pread(self._fd, size, address)
            except OSError as error:
                raise KernelRefusedError(
                    f"cannot read the memory at {address:#x}: {error.strerror}",
                    errno=error.errno or 0,
                ) from error
            if not part:
                raise KernelRefusedError(f"cannot read the memory at {address:#x}: it ends there")
            parts.append(part)
            address, size = address + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _map_error(error: OSError, piece: Piece) -> PopcornError:
    where = f"{piece.name} at {piece.start:#x}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return PermissionDeniedError(f"not permitted to write {where}", "run it as root")
    if error.errno in (errno.EBUSY, errno.ETXTBSY):
        return BusyError(f"cannot write {where}: the kernel is not in state leased")
    return KernelRefusedError(f"cannot write {where}: {error.strerror}", errno=error.errno or 0)
