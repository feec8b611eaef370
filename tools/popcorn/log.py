# SPDX-License-Identifier: GPL-2.0
"""The log of a secondary, read out of its memory by the primary: alive, hung or dead.

The other kernel takes no part in it and is not disturbed. Nothing is mapped while it is read, so
that nobody who stops or starts a kernel at the same time meets an obstacle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from popcorn.client import RESTING, Client
from popcorn.device import HostDevice, LeasedMemory
from popcorn.errors import KernelRefusedError, NotFoundError, PopcornError, PostmortemError
from popcorn.models import Kernel, KernelState, label
from popcorn.postmortem import (
    ID_MASK,
    Memory,
    Record,
    Ring,
    Slot,
    Snapshot,
    Status,
    TextChain,
    distance,
    find_notes,
    page_tables,
    ring_of,
    search,
    snapshot,
)
from popcorn.postmortem.dmesg import Style, facility_name, level_name
from popcorn.postmortem.dmesg import lines as printed

__all__ = (
    "DEAD",
    "Log",
    "Lost",
    "follow_log",
    "last_lines",
    "open_ring",
    "read_log",
    "record_to_json",
)

DEAD = frozenset((KernelState.CRASHED, KernelState.HUNG))
"""States that only the log explains."""

LAST_LINES = 10

POLL_SECONDS = 0.2

PATIENCE_SECONDS = 1.0
"""How long a follower waits for a line that was begun, and after the end for what comes late: the
CPUs of a kernel that crashed are left alone for half a second."""

SEARCH_PAUSE_SECONDS = 1.0
"""Between two looks for a log that is not there yet: each reads all of the memory."""

MISSED_MAX = 1 << 40
"""Records that can have been missed; a number above it is one below zero."""

COMPLETE_LINES = frozenset((KernelState.RUNNING, KernelState.STOPPING))
"""States in which a line that is not finished yet will be."""

CPU_CALLER = 0x8000_0000

_JOINED = (b"popcorn-init: joined as ", b"popcorn: loading out-of-tree module")
_ENDED = {
    KernelState.CRASHED: b"Kernel panic - not syncing",
    KernelState.STOPPED: b"popcorn: this kernel ends here",
}


@dataclass(frozen=True)
class Log:
    """The log of a kernel at one moment.

    `release` is that of the kernel, empty if it died before it could be told. `booted` is when the
    log's clock was 0, in seconds since the epoch; None if that cannot be told. `problems` say what
    could not be read.
    """

    kernel: Kernel
    release: str
    records: tuple[Record, ...]
    problems: tuple[str, ...]
    booted: float | None

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "kernel": self.kernel.name,
            "state": label(self.kernel.state),
            "release": self.release,
            "boot_time": None if self.booted is None else round(self.booted, 3),
            "records": [record_to_json(record) for record in self.records],
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class Lost:
    """Records that a follower did not get: they were overwritten, or could not be read."""

    count: int
    reason: str


def record_to_json(record: Record) -> dict[str, Any]:
    """Stable JSON form of a record; `time_ns` is that of the kernel's own clock."""
    caller = record.caller
    if caller is not None and caller & CPU_CALLER:
        who: str | None = f"C{caller & ~CPU_CALLER}"
    else:
        who = None if caller is None else f"T{caller}"
    return {
        "seq": record.seq,
        "time_ns": record.ns,
        "level": None if record.level is None else level_name(record.level),
        "facility": None if record.facility is None else facility_name(record.facility),
        "caller": who,
        "text": record.text.decode("utf-8", "backslashreplace"),
    }


@dataclass(frozen=True)
class _Found:
    """A log that was found: by a note, which names the release, or by its looks."""

    ring: Ring | TextChain
    release: str
    problems: tuple[str, ...]

    def snapshot(self, *, live: bool) -> Snapshot:
        if isinstance(self.ring, TextChain):
            return self.ring.snapshot()
        return snapshot(self.ring, live=live)


def open_ring(memory: Memory) -> _Found | None:
    """Find the log in a kernel's memory; None if it has none."""
    problems = []
    for info in find_notes(memory):
        try:
            ring = ring_of(info, page_tables(memory, info))
            if snapshot(ring, live=False).records:
                return _Found(ring, info.release, ())
        except PostmortemError as error:
            problems.append(f"its vmcoreinfo note leads nowhere: {error.message}")
    found = search(memory)
    return None if found is None else _Found(found, "", tuple(problems))


def _memory(kernel: Kernel, device: HostDevice | None) -> LeasedMemory:
    return (device or HostDevice()).memory(kernel.memory_start, kernel.memory_size)


def _no_log(kernel: Kernel) -> NotFoundError:
    hint = f"see its state: popcornctl kernel show {kernel.name}"
    if kernel.state == KernelState.STARTING:
        hint = "it may still be unpacking itself; --follow waits for it"
    return NotFoundError(f"no log is to be found in the memory of kernel '{kernel.name}'", hint)


def _check_started(kernel: Kernel) -> None:
    if kernel.state == KernelState.LEASED:
        raise NotFoundError(
            f"kernel '{kernel.name}' has no log: it was not started",
            f"start it: popcornctl kernel start {kernel.name}",
        )


def read_log(client: Client, which: int | str, *, device: HostDevice | None = None) -> Log:
    """The whole log of a kernel, from the first line of its boot if that is still in it.

    NotFoundError if there is no such kernel or it has no log.
    """
    return _read(client.kernel(which), device)


def last_lines(
    kernel: Kernel, count: int = LAST_LINES, *, device: HostDevice | None = None
) -> tuple[str, ...] | None:
    """The end of a kernel's log as dmesg(1) prints it; None where it cannot be read.

    For looking on: that the caller may not read it, or that there is no log, is no error.
    """
    try:
        records = _read(kernel, device).records
    except (PopcornError, OSError):
        return None
    found: list[str] = []
    for record in reversed(records):
        found[:0] = printed(record, Style()).splitlines()
        if len(found) >= count:
            break
    return tuple(found[-count:])


def _read(kernel: Kernel, device: HostDevice | None) -> Log:
    _check_started(kernel)
    with _memory(kernel, device) as memory:
        found = open_ring(memory)
        if found is None:
            raise _no_log(kernel)
        got = found.snapshot(live=kernel.state in COMPLETE_LINES)
    return Log(
        kernel,
        found.release,
        got.records,
        found.problems + got.problems,
        _booted(kernel, got.records),
    )


def _booted(kernel: Kernel, records: tuple[Record, ...]) -> float | None:
    """When the log's clock was 0, by the wall clock.

    The module tells how long ago the kernel joined or ended; the log has a line of that moment.
    """
    at: Record | None = None
    if kernel.state == KernelState.RUNNING and not kernel.reason:
        for text in _JOINED:
            at = at or next((r for r in records if r.text.startswith(text)), None)
    elif kernel.state in _ENDED:
        text = _ENDED[KernelState(kernel.state)]
        at = next((r for r in reversed(records) if r.text.startswith(text)), None)
    if at is None or at.ns is None:
        return None
    return time.time() - kernel.age_ms / 1000 - at.ns / 1e9


class _Follower:
    """Records one after the other, also across the moment at which the kernel makes its note."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._found: _Found | None = None
        self._next: int | None = None
        self._seq = -1
        self._skip = False
        self._waits_for: int | None = None
        self._waits_since = 0.0
        self._searched = float("-inf")

    @property
    def found(self) -> bool:
        """Whether there is a log."""
        return self._found is not None

    def read(self, *, last: bool) -> Iterator[Record | Lost]:
        """What is new. Unless it is the `last` time, a line that is not finished may wait."""
        now = time.monotonic()
        if (self._found is None or not self._found.release) and (
            last or now - self._searched >= SEARCH_PAUSE_SECONDS
        ):
            self._search()
        if self._found is None:
            return
        ring = self._found.ring
        if isinstance(ring, TextChain):
            for record in ring.snapshot().records:
                if record.seq > self._seq:
                    self._seq = record.seq
                    yield record
        else:
            yield from self._read_ring(ring, last)

    def _search(self) -> None:
        found = open_ring(self._memory)
        self._searched = time.monotonic()
        if found is not None and (self._found is None or found.release):
            # The ids of another ring mean nothing, but the sequence numbers go on.
            self._found, self._next, self._skip = found, None, self._seq >= 0

    def _read_ring(self, ring: Ring, last: bool) -> Iterator[Record | Lost]:
        try:
            tail, head = ring.bounds()
        except PostmortemError as error:
            # Perhaps they were moved between the two looks.
            if last:
                yield Lost(0, f"the bounds of the log are damaged: {error.message}")
            return
        if self._next is None:
            self._next = tail
        if 0 < (missed := distance(self._next, tail)) <= MISSED_MAX:
            yield Lost(missed, "overwritten before they could be read")
            self._next = tail
        left = distance(self._next, head) + 1 & ID_MASK
        if left > ring.slots:
            self._next = head  # nothing is as it was
            left = 1
        for _ in range(left):
            found = ring.look(self._next)
            if not last and self._waits(self._next, found):
                return
            self._next = self._next + 1 & ID_MASK
            yield from self._tell(found)

    def _waits(self, id_: int, found: Slot) -> bool:
        """Whether to come back for it: it is being written, and may not be for long."""
        if found.status not in (Status.OPEN, Status.WRITING):
            return False
        now = time.monotonic()
        if self._waits_for != id_:
            self._waits_for, self._waits_since = id_, now
        return now - self._waits_since < PATIENCE_SECONDS

    def _tell(self, found: Slot) -> Iterator[Record | Lost]:
        record = found.record
        if record is not None:
            if self._skip and record.seq <= self._seq:
                return
            self._skip, self._seq = False, record.seq
            yield record
        elif found.status is Status.WRITING:
            yield Lost(1, "it was being written")
        elif found.status is Status.LOST:
            yield Lost(1, "there was no room for its text")
        elif found.status is Status.DAMAGED:
            yield Lost(1, found.reason)


def _still(client: Client, kernel: Kernel) -> Kernel | None:
    """The kernel as it is now, None if it is gone or was started anew."""
    try:
        now = client.kernel(kernel.id)
    except NotFoundError:
        return None
    return now if (now.name, now.epoch) == (kernel.name, kernel.epoch) else None


def follow_log(
    client: Client, which: int | str, *, device: HostDevice | None = None
) -> Iterator[Record | Lost]:
    """The log of a kernel and then every line as it is written, until the kernel has ended.

    For a kernel that has ended, that is its log. Waits for the log of one that has just been sent
    off. NotFoundError if there is no such kernel, or it ended without a log.
    """
    kernel = client.kernel(which)
    _check_started(kernel)
    with client.subscribe(("kernel",)) as stream, _memory(kernel, device) as memory:
        follower = _Follower(memory)
        while (now := _still(client, kernel)) is not None:
            rests = now.state in RESTING
            last = rests and now.age_ms >= PATIENCE_SECONDS * 1000
            try:
                yield from follower.read(last=last)
            except KernelRefusedError:
                if rests or _still(client, kernel) is None:
                    return  # its memory is being wiped
                raise
            if last:
                if not follower.found:
                    raise _no_log(now)
                return
            stream.read(POLL_SECONDS)
