# SPDX-License-Identifier: GPL-2.0
"""Messages to this kernel, or frames of its links, one by one, with the time that each stage took.

Where :mod:`popcorn_tracing.latency` counts, this shows: which message it was that took so long, and
which stage of its way. What the buffer has no room for is counted.

A line's bytes are not shown: they carry no time of their own. Those of several writes travel in
one message, which is shown, and are handed to a reader in other pieces than they came in.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from popcorn_tracing.common import (
    Limits,
    Machine,
    UsageError,
    begun,
    check,
    machine,
    node_id,
    refreshed,
    wait,
)
from popcorn_tracing.latency import EVENTS as LATENCY_EVENTS
from popcorn_tracing.loader import loaded
from popcorn_tracing.net import EVENTS as NET_EVENTS
from popcorn_tracing.net import NO_PEER, link_node, reason_name
from popcorn_tracing.programs import Programs
from popcorn_tracing.rings import RingReader, ring_pages
from popcorn_tracing.services import Filter

__all__ = ("EVENTS", "FRAME_EVENTS", "POINTS", "Flow", "Frame", "Options", "Span", "Summary", "run")

SOURCE = Path(__file__).with_suffix(".bpf.c")

#: Tracepoints and the fields that the BPF program counts on, in order.
EVENTS: Mapping[str, tuple[str, ...]] = {
    "popcorn_msg_delivered": LATENCY_EVENTS["popcorn_msg_delivered"],
}

#: The same for frames, which are told by their messages where they were before.
FRAME_EVENTS: Mapping[str, tuple[str, ...]] = {
    **EVENTS,
    "popcorn_net_receive": NET_EVENTS["popcorn_net_receive"],
    "popcorn_net_drop": NET_EVENTS["popcorn_net_drop"],
}

#: The stamps of a message, in the order of its way; a frame comes to the network stack then.
POINTS = ("queued", "doorbell", "interrupt", "poll", "delivered")
FRAME_POINTS = (*POINTS, "stack")

#: Indices of enum counter_id in the BPF program.
DELIVERED = 0
SLOW = 1
LOST = 2
DROPPED = 3

#: struct event in the BPF program: native, as it is aligned by hand; and that of a frame.
EVENT = struct.Struct("=6I5Q2I")
FRAME = struct.Struct("=6I5Q2IQ")

#: What the buffer holds unless it is said: 4 MiB, some 50,000 messages.
BUFFER_BYTES = 4 << 20

#: Time between two looks at the names of services, if there is one that nobody knows.
REFRESH_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """Which messages to show: all that is not None must hold.

    Node and service by name or number; sizes in bytes, both included; `slower_us` is more than so
    many microseconds from queued to delivered. `buffer_bytes` is for those that wait to be shown.
    `frames` are shown instead if it is set or a `link`, whose alone they are then; theirs is the
    time until the network stack has them.
    """

    node: str | None = None
    service: str | None = None
    size_min: int | None = None
    size_max: int | None = None
    slower_us: float | None = None
    buffer_bytes: int = BUFFER_BYTES
    frames: bool = False
    link: str | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        if self.of_frames and self.service is not None:
            raise UsageError(
                "all frames are of one service", "give --service without --frames and --link"
            )
        if self.size_max is not None and (self.size_min or 0) > self.size_max:
            raise UsageError("no message is as long as --min-size and as short as --max-size")
        ring_pages(self.buffer_bytes)

    @property
    def of_frames(self) -> bool:
        """Whether frames are shown."""
        return self.frames or self.link is not None


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
class Passage:
    """What came. `when` is when it was queued, seconds after the first one; `cpu` took it.

    `spans` follow one another and their sum is `nanos`, the whole way, but for rounding.
    """

    when: float
    src: int | None
    dst: int | None
    queue: int
    bytes: int
    cpu: int
    nanos: int
    spans: tuple[Span, ...]

    @property
    def longest(self) -> Span:
        """The part that took most of the time."""
        return max(self.spans, key=lambda span: span.nanos)

    def until(self, point: str) -> int | None:
        """What the part that ends at one of POINTS took; None if it was not passed."""
        return next((span.nanos for span in self.spans if span.end == point), None)

    def _json(self, **more: Any) -> dict[str, Any]:
        return {
            "time": round(self.when, 9),
            "src": self.src,
            "dst": self.dst,
            "queue": self.queue,
            **more,
            "bytes": self.bytes,
            "cpu": self.cpu,
            "total_ns": self.nanos,
            "stages": [{"name": span.name, "ns": span.nanos} for span in self.spans],
            "longest": self.longest.name if self.spans else None,
        }


@dataclass(frozen=True)
class Flow(Passage):
    """A message. `name` is that of the service, its number as text if nobody knows it."""

    seq: int
    service: int
    name: str

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return self._json(seq=self.seq, service=self.name)


@dataclass(frozen=True)
class Frame(Passage):
    """A frame that a link handed to the network stack, or `dropped`, for that reason.

    One that was dropped has no spans; `when` is when that was. `src` or `dst` is None if it was
    from or for nobody in particular.
    """

    dropped: str | None

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        found = self._json(dropped=self.dropped)
        return found if self.dropped is None else {**found, "total_ns": None}


def way(stamps: Mapping[str, int], points: Sequence[str] = POINTS) -> list[tuple[str, int]]:
    """The `points` that a message passed, each with its stamp; of `stamps`, 0 is none.

    What happened after the poll that found it began, as an interrupt during that poll, was not on
    its way; nor was a stamp that is out of order, which only a broken sender makes.
    """
    found = [("queued", stamps["queued"])]
    end = stamps[points[-1]]
    poll = stamps["poll"] or end
    for name in points[1:-1]:
        stamp = stamps[name]
        bound = end if name == "delivered" else min(poll, end)
        if stamp and found[-1][1] <= stamp <= bound:
            found.append((name, stamp))
    found.append((points[-1], max(end, found[-1][1])))
    return found


def spans(
    stamps: Mapping[str, int], tsc_khz: int, points: Sequence[str] = POINTS
) -> tuple[Span, ...]:
    """The parts of a message's :func:`way`, from the stamps of `points` in cycles."""
    return tuple(
        Span(first, second, (b - a) * 1_000_000 // tsc_khz)
        for (first, a), (second, b) in itertools.pairwise(way(stamps, points))
    )


def parse(data: bytes, begin_tsc: int, here: Machine) -> Flow:
    """A record of the buffer (struct event). `begin_tsc` is when time began."""
    tsc_khz = here.tsc_khz
    src, dst, queue, seq, service, size, *stamps, cpu, _ = EVENT.unpack(data[: EVENT.size])
    way = dict(zip(POINTS, stamps, strict=True))
    when = (way["queued"] - begin_tsc) / (tsc_khz * 1000)
    nanos = max(0, way["delivered"] - way["queued"]) * 1_000_000 // tsc_khz
    name = here.service(dst, service)
    return Flow(when, src, dst, queue, size, cpu, nanos, spans(way, tsc_khz), seq, service, name)


def parse_frame(data: bytes, begin_tsc: int, here: Machine) -> Frame:
    """Likewise of a frame."""
    tsc_khz = here.tsc_khz
    found = FRAME.unpack(data[: FRAME.size])
    src, dst, queue, _, _, size, *stamps, cpu, reason, stack = found
    way = dict(zip(FRAME_POINTS, (*stamps, stack), strict=True))
    when = (way["queued"] - begin_tsc) / (tsc_khz * 1000)
    sender, receiver = (None if node == NO_PEER else node for node in (src, dst))
    if reason:
        return Frame(when, sender, receiver, queue, size, cpu, 0, (), reason_name(reason))
    nanos = max(0, stack - way["queued"]) * 1_000_000 // tsc_khz
    parts = spans(way, tsc_khz, FRAME_POINTS)
    return Frame(when, sender, receiver, queue, size, cpu, nanos, parts, None)


@dataclass(frozen=True)
class Summary:
    """What became of the messages: `delivered` passed the filters but the time, `slow` that, too.

    Of the slow ones, `shown` were, `lost` found the buffer full. `missed` events are in none of
    these: the kernel left them out. Of frames, `delivered` are those received, and `dropped` ones
    are among the slow if those were not asked for; None of messages.
    """

    delivered: int = 0
    slow: int = 0
    shown: int = 0
    lost: int = 0
    missed: int = 0
    dropped: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        found = {
            "delivered": self.delivered,
            "slow": self.slow,
            "shown": self.shown,
            "lost": self.lost,
            "missed": self.missed,
        }
        return found if self.dropped is None else {**found, "dropped": self.dropped}


class Reader(RingReader):
    """Takes messages or frames out of the buffer and hands them on, at most `most` of them."""

    def __init__(
        self,
        program: Programs,
        here: Machine,
        show: Callable[[Any], None],
        most: int | None,
        frames: bool = False,
        refresh: Callable[[Machine], Machine] = refreshed,
    ) -> None:
        super().__init__(program)
        self._here = here
        self._refresh = refresh
        self._due = 0.0
        self._show = show
        self._most = most
        self._frames = frames
        self._begin: int | None = None
        self.shown = 0

    def take(self, data: bytes) -> None:
        """Show a message."""
        if self._most is not None and self.shown >= self._most:
            return
        if self._begin is None:
            # The first message's: there is no time stamp counter in Python.
            self._begin = EVENT.unpack(data[: EVENT.size])[6]
        if self._frames:
            self._show(parse_frame(data, self._begin, self._here))
        else:
            self._show(self._named(data, self._begin))
        self.shown += 1

    def _named(self, data: bytes, begin: int) -> Flow:
        """A message; its service may have come after the trace began, and is asked for then."""
        found = parse(data, begin, self._here)
        now = time.monotonic()
        if found.name == str(found.service) and now >= self._due:
            self._here = self._refresh(self._here)
            self._due = now + REFRESH_SECONDS
            found = parse(data, begin, self._here)
        return found

    def summary(self) -> Summary:
        """What became of the messages so far."""
        counters = self.program["counters"]
        delivered, slow, lost = (counters.sum(i) for i in (DELIVERED, SLOW, LOST))
        dropped = counters.sum(DROPPED) if self._frames else None
        missed = self.program.missed()
        return Summary(delivered, slow, self.shown, lost, missed, dropped)


def _values(options: Options, here: Machine) -> dict[str, int]:
    if options.slower_us is None:
        return {}
    return {"slower_cycles": int(options.slower_us * here.tsc_khz // 1000)}


def _defines(options: Options, here: Machine) -> dict[str, int | str]:
    node = None if options.node is None else node_id(options.node, here)
    given: dict[str, int | str | None] = {
        "ONLY_NODE": node,
        "LEN_MIN": options.size_min,
        "LEN_MAX": options.size_max,
        "SLOWER": None if options.slower_us is None else 1,
        "FRAMES": 1 if options.of_frames else None,
        "ONLY_LINK": None if options.link is None else link_node(options.link),
    }
    some = {name: value for name, value in given.items() if value is not None}
    if options.service is not None:
        some |= Filter.parse(options.service, here.services).defines()
    return {"PAGES": ring_pages(options.buffer_bytes), **some}


def run(
    options: Options,
    limits: Limits,
    *,
    show: Callable[[Flow | Frame], None],
    ready: Callable[[str], None],
    end: Callable[[Summary], None],
    output: IO[str] | None = None,
) -> int:
    """Trace, and hand each message or frame to `show`; `end` gets what became of them, at the end.

    `ready` gets one line when tracing has begun, which is seconds after the call. `output` and the
    return value are those of :func:`popcorn_tracing.common.wait`, and so are the limits, but for an
    interval, which there is none of. Raises what :func:`popcorn_tracing.latency.run` does, and
    NotFoundError for a link that is not in this network namespace.
    """
    events = FRAME_EVENTS if options.of_frames else EVENTS
    check(events)
    here = machine()
    defines, values = _defines(options, here), _values(options, here)
    with loaded(SOURCE, defines, events, values, cached=options.cache) as program:
        reader = Reader(program, here, show, limits.messages, options.of_frames)
        what = "frames" if options.of_frames else "messages"
        ready(begun(f"tracing {what}", limits))

        def finish() -> None:
            # Ctrl-C at the end: what is left is not shown, but how many were is said.
            with contextlib.suppress(KeyboardInterrupt):
                reader.rest()
            end(reader.summary())

        return wait(limits, finish, lambda: reader.shown, output, reader.pause)
