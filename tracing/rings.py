# SPDX-License-Identifier: GPL-2.0
"""Ring buffers that BPF programs put records into (BPF_MAP_TYPE_RINGBUF).

As Documentation/bpf/ringbuf.rst has it: a page with the position up to which records are consumed,
which is ours to write, one with the position up to which they are produced, and the data, twice in
a row, so that a record at the end is whole.
"""

from __future__ import annotations

import abc
import contextlib
import mmap
import select
import signal
import struct
import time
from collections.abc import Iterator
from typing import Any, Self

from popcorn_tracing.common import UsageError

__all__ = ("Ring", "RingReader", "ring_pages")

RING_MAX = 1 << 30

#: What is before each record: its length with two flags, and a number of no use here.
HEADER = struct.Struct("II")
BUSY = 1 << 31
DISCARDED = 1 << 30


def ring_pages(size: int) -> int:
    """Pages of a buffer of `size` bytes, a power of two, as the kernel wants it."""
    if not mmap.PAGESIZE <= size <= RING_MAX:
        raise UsageError(f"a buffer of {size} bytes cannot be", "from 4K to 1G, as 4M")
    return 1 << (-(-size // mmap.PAGESIZE) - 1).bit_length()


class Records:
    """The records in the memory of a buffer whose data is `size` bytes, and twice in `produced`."""

    def __init__(self, consumed: memoryview, produced: memoryview, size: int) -> None:
        # Native words, which are read and written as a whole.
        word = struct.calcsize("L")
        self._consumed = consumed[:word].cast("L")
        self._end = produced[:word].cast("L")
        self._data = produced[mmap.PAGESIZE :]
        self._mask = size - 1

    def take(self) -> Iterator[bytes]:
        """Take out those that are in it now, and none that come meanwhile."""
        at, end = self._consumed[0], self._end[0]
        while at < end:
            place = at & self._mask
            length, _ = HEADER.unpack_from(self._data, place)
            if length & BUSY:
                return
            begin = place + HEADER.size
            size = length & ~DISCARDED
            record = bytes(self._data[begin : begin + size])
            at += HEADER.size + -(-size // 8) * 8
            self._consumed[0] = at
            if not length & DISCARDED:
                yield record

    def release(self) -> None:
        """Let the memory go."""
        for view in (self._consumed, self._end, self._data):
            view.release()


class Ring:
    """A buffer in this process's memory."""

    def __init__(self, fd: int, size: int) -> None:
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        page = mmap.PAGESIZE
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            consumed = stack.enter_context(mmap.mmap(fd, page, mmap.MAP_SHARED))
            produced = stack.enter_context(
                mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
            )
            views = [stack.enter_context(memoryview(memory)) for memory in (consumed, produced)]
            self._records = Records(views[0], views[1], size)
            stack.callback(self._records.release)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait(self, seconds: float) -> None:
        """Wait until there is something in it, but not longer."""
        self._poll.poll(int(seconds * 1000))

    def take(self) -> Iterator[bytes]:
        """What is in it now."""
        return self._records.take()


@contextlib.contextmanager
def _interrupted_after() -> Iterator[None]:
    """Ctrl-C in the block comes at its end: a record is taken out and used, or neither."""
    came: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


class RingReader(abc.ABC):
    """Takes what BPF programs put into their buffer `events`; `take` gets each record."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self._ring = program.ring("events")

    @abc.abstractmethod
    def take(self, data: bytes) -> None:
        """Do something with a record; what it raises ends the trace."""

    def pause(self, seconds: float) -> None:
        """Wait so long, and take what comes."""
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            self._ring.wait(left)
            self.rest()
            if not left:
                return

    def rest(self) -> None:
        """Take what is in the buffer."""
        with _interrupted_after():
            for record in self._ring.take():
                self.take(record)
