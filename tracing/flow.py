# SPDX-License-Identifier: GPL-2.0
"""Messages to this kernel one by one, each with the time that its stages took.

Where :mod:`popcorn_tracing.latency` counts, this shows: which message it was that took so long, and
which stage of its way. What the buffer has no room for is counted.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from popcorn_tracing.common import (
    Limits,
    Machine,
    RingReader,
    UsageError,
    check,
    loaded,
    machine,
    missed_events,
    node_id,
    ring_pages,
    service_id,
    service_name,
    wait,
)
from popcorn_tracing.latency import EVENTS as LATENCY_EVENTS

__all__ = ("EVENTS", "POINTS", "Flow", "Options", "Span", "Summary", "run")

SOURCE = Path(__file__).with_suffix(".bpf.c")

#: Tracepoints and the fields that the BPF program counts on, in order.
EVENTS: Mapping[str, tuple[str, ...]] = {
    "popcorn_msg_delivered": LATENCY_EVENTS["popcorn_msg_delivered"],
}

#: The stamps of a message, in the order of its way.
POINTS = ("queued", "doorbell", "interrupt", "poll", "delivered")

#: Indices of enum counter_id in the BPF program.
DELIVERED = 0
SLOW = 1
LOST = 2

#: struct event in the BPF program: native, as it is aligned by hand.
EVENT = struct.Struct("=6I5Q2I")

#: What the buffer holds unless it is said: 4 MiB, some 50,000 messages.
BUFFER_BYTES = 4 << 20


@dataclass(frozen=True)
class Options:
    """Which messages to show: all that is not None must hold.

    Node and service by name or number; sizes in bytes, both included; `slower_us` is more than so
    many microseconds from queued to delivered. `buffer_bytes` is for those that wait to be shown.
    """

    node: str | None = None
    service: str | None = None
    size_min: int | None = None
    size_max: int | None = None
    slower_us: float | None = None
    buffer_bytes: int = BUFFER_BYTES

    def __post_init__(self) -> None:
        if self.size_max is not None and (self.size_min or 0) > self.size_max:
            raise UsageError("no message is as long as --min-size and as short as --max-size")
        ring_pages(self.buffer_bytes)


@dataclass(frozen=True)
class Span:
    """A part of a message's way: from one of POINTS to a later one, in nanoseconds."""

    begin: str
    end: str
    nanos: int

    @property
    def name(self) -> str:
        """As a stage of a latency trace, if it is one."""
        return f"{self.begin}-{self.end}"


@dataclass(frozen=True)
class Flow:
    """One message. `when` is when it was queued, seconds after the first one; `cpu` delivered it.

    `spans` follow one another and their sum is `nanos`, the whole way, but for rounding.
    """

    when: float
    src: int
    dst: int
    queue: int
    seq: int
    service: int
    bytes: int
    cpu: int
    nanos: int
    spans: tuple[Span, ...]

    @property
    def longest(self) -> Span:
        """The part that took most of the time."""
        return max(self.spans, key=lambda span: span.nanos)

    def until(self, point: str) -> int | None:
        """What the part that ends at one of POINTS took; None if the message did not pass it."""
        return next((span.nanos for span in self.spans if span.end == point), None)

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "time": round(self.when, 9),
            "src": self.src,
            "dst": self.dst,
            "queue": self.queue,
            "seq": self.seq,
            "service": service_name(self.service),
            "bytes": self.bytes,
            "cpu": self.cpu,
            "total_ns": self.nanos,
            "stages": [{"name": span.name, "ns": span.nanos} for span in self.spans],
            "longest": self.longest.name,
        }


def way(stamps: Mapping[str, int]) -> list[tuple[str, int]]:
    """The POINTS that a message passed, each with its stamp; of `stamps`, 0 is none.

    What happened after the poll that found it began, as an interrupt during that poll, was not on
    its way; nor was a stamp that is out of order, which only a broken sender makes.
    """
    found = [("queued", stamps["queued"])]
    end = stamps["delivered"]
    bound = stamps["poll"] or end
    for name in POINTS[1:-1]:
        stamp = stamps[name]
        if stamp and found[-1][1] <= stamp <= min(bound, end):
            found.append((name, stamp))
    found.append(("delivered", max(end, found[-1][1])))
    return found


def spans(stamps: Mapping[str, int], tsc_khz: int) -> tuple[Span, ...]:
    """The parts of a message's :func:`way`, from the stamps of POINTS in cycles."""
    return tuple(
        Span(first, second, (b - a) * 1_000_000 // tsc_khz)
        for (first, a), (second, b) in itertools.pairwise(way(stamps))
    )


def parse(data: bytes, begin_tsc: int, tsc_khz: int) -> Flow:
    """A record of the buffer (struct event). `begin_tsc` is when time began."""
    src, dst, queue, seq, service, size, *stamps, cpu, _ = EVENT.unpack(data[: EVENT.size])
    way = dict(zip(POINTS, stamps, strict=True))
    when = (way["queued"] - begin_tsc) / (tsc_khz * 1000)
    nanos = max(0, way["delivered"] - way["queued"]) * 1_000_000 // tsc_khz
    return Flow(when, src, dst, queue, seq, service, size, cpu, nanos, spans(way, tsc_khz))


@dataclass(frozen=True)
class Summary:
    """What became of the messages: `delivered` passed the filters but the time, `slow` that, too.

    Of the slow ones, `shown` were, `lost` found the buffer full. `missed` events are in none of
    these: the kernel left them out.
    """

    delivered: int = 0
    slow: int = 0
    shown: int = 0
    lost: int = 0
    missed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "delivered": self.delivered,
            "slow": self.slow,
            "shown": self.shown,
            "lost": self.lost,
            "missed": self.missed,
        }


class Reader(RingReader):
    """Takes messages out of the buffer and hands them on, `most` of them at the most."""

    def __init__(
        self, program: Any, here: Machine, show: Callable[[Flow], None], most: int | None
    ) -> None:
        super().__init__(program)
        self._khz = here.tsc_khz
        self._show = show
        self._most = most
        self._begin: int | None = None
        self.shown = 0

    def take(self, data: bytes) -> None:
        """Show a message."""
        if self._most is not None and self.shown >= self._most:
            return
        if self._begin is None:
            # The first message's: there is no time stamp counter in Python.
            self._begin = EVENT.unpack(data[: EVENT.size])[6]
        self._show(parse(data, self._begin, self._khz))
        self.shown += 1

    def summary(self) -> Summary:
        """What became of the messages so far."""
        counters = self.program["counters"]
        delivered, slow, lost = (counters.sum(i).value for i in (DELIVERED, SLOW, LOST))
        return Summary(delivered, slow, self.shown, lost, missed_events(self.program))


def _defines(options: Options, here: Machine, service: int | None) -> dict[str, int]:
    cycles = None
    if options.slower_us is not None:
        cycles = int(options.slower_us * here.tsc_khz // 1000)
    node = None if options.node is None else node_id(options.node, here)
    given = {
        "ONLY_NODE": node,
        "ONLY_SERVICE": service,
        "LEN_MIN": options.size_min,
        "LEN_MAX": options.size_max,
        "SLOWER_CYCLES": cycles,
    }
    some = {name: value for name, value in given.items() if value is not None}
    return {"TSC_KHZ": here.tsc_khz, "PAGES": ring_pages(options.buffer_bytes), **some}


def run(
    options: Options,
    limits: Limits,
    *,
    show: Callable[[Flow], None],
    ready: Callable[[str], None],
    end: Callable[[Summary], None],
    output: IO[str] | None = None,
) -> int:
    """Trace, and hand each message to `show`; `end` gets what became of them all, at the end.

    `ready` gets one line when tracing has begun, which is seconds after the call. `output` and the
    return value are those of :func:`popcorn_tracing.common.wait`, and so are the limits, but for an
    interval, which there is none of. Raises what :func:`popcorn_tracing.latency.run` does.
    """
    service = None if options.service is None else service_id(options.service)
    check(EVENTS)
    here = machine()
    with loaded(SOURCE, _defines(options, here, service)) as program:
        reader = Reader(program, here, show, limits.messages)
        ready("tracing messages" + ("" if limits.command else ", Ctrl-C ends it"))

        def finish() -> None:
            # Ctrl-C at the end: what is left is not shown, but how many were is said.
            with contextlib.suppress(KeyboardInterrupt):
                reader.rest()
            end(reader.summary())

        return wait(limits, finish, lambda: reader.shown, output, reader.pause)
