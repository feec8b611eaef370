# SPDX-License-Identifier: GPL-2.0
"""Packets of this kernel's links: sizes, the time to the receiver's stack, and drops with reason.

Every message carries the time at which it was queued, and the time stamp counter is the same for
all kernels of the machine. So the receiver alone measures how long a packet took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from popcorn.errors import PopcornError
from popcorn.link import Links
from popcorn_tracing.common import (
    FIGURES,
    Limits,
    LogHistogram,
    Machine,
    Session,
    check,
    machine,
    node_id,
)
from popcorn_tracing.loader import loaded
from popcorn_tracing.programs import Programs

__all__ = ("EVENTS", "REASONS", "Dropped", "Options", "Received", "Report", "Sent", "run")

SOURCE = Path(__file__).with_suffix(".bpf.c")

#: Tracepoints and the fields that the BPF program counts on, in order.
EVENTS: Mapping[str, tuple[str, ...]] = {
    "popcorn_net_transmit": (
        "ifindex",
        "src",
        "dst",
        "queue",
        "len",
        "gso_size",
        "gso_segs",
        "first",
        "tsc",
    ),
    "popcorn_net_receive": ("ifindex", "src", "dst", "queue", "len", "queued", "tsc"),
    "popcorn_net_drop": ("ifindex", "node", "peer", "queue", "rx", "reason", "len", "tsc"),
}

#: The counters of a link (PCN_COUNTS in kmod/net/count.h), by the number that is a reason.
REASONS = (
    "rx_packets",
    "rx_bytes",
    "rx_multicast",
    "tx_packets",
    "tx_bytes",
    "tx_copies",
    "tx_flooded",
    "tx_stopped",
    "rx_hello",
    "rx_learned",
    "rx_filtered",
    "rx_filtered_group",
    "rx_xdp_drop",
    "rx_xdp_redirect",
    "tx_xdp",
    "tx_no_peer",
    "tx_peer_gone",
    "tx_too_long",
    "tx_bad_offload",
    "tx_xdp_full",
    "rx_no_memory",
    "rx_xdp_bad",
    "rx_too_long",
    "rx_bad_message",
    "rx_bad_length",
    "rx_bad_offload",
    "rx_bad_hello",
)

#: PCN_COUNT_NO_PEER in kmod/net/count.h: it was for or from nobody that is known.
NO_PEER = 0xFFFFFFFF

#: Indices of enum counter_id in the BPF program.
PACKETS = 0
UNRECORDED = 1


@dataclass(frozen=True)
class Options:
    """What to look at: packets from or to a node, by name or number; of a link, by its name."""

    node: str | None = None
    link: str | None = None
    cache: bool = True


def _sizes(sizes: LogHistogram) -> dict[str, Any]:
    """Bytes of packets in JSON; nulls without any."""
    some = bool(sizes.count)
    return {
        "min": sizes.minimum if some else None,
        "mean": sizes.mean,
        "median": sizes.percentile(0.5),
        "max": sizes.maximum if some else None,
        "histogram": [{"low": b.low, "high": b.high, "count": b.count} for b in sizes.buckets()],
    }


@dataclass(frozen=True)
class Sent:
    """What a link here gave the message layer for one node, through one of its queues.

    A packet for several nodes is in the row of each, and its `sizes` too; `packets` and `bytes`
    have it where it was sent first, so that their sums are tx_packets and tx_bytes. `merged` of
    them stand for several `segments`.
    """

    src: int
    dst: int
    queue: int
    packets: int
    bytes: int
    merged: int
    segments: int
    sizes: LogHistogram

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "src": self.src,
            "dst": self.dst,
            "queue": self.queue,
            "copies": self.sizes.count,
            "packets": self.packets,
            "bytes": self.bytes,
            "merged": self.merged,
            "segments": self.segments,
            "sizes": _sizes(self.sizes),
        }


@dataclass(frozen=True)
class Received:
    """What a link here got from one node through one queue, and how long that took.

    `times` are in nanoseconds. `backwards` packets were queued after they came, which only a broken
    sender says; they have no time.
    """

    src: int
    dst: int
    queue: int
    backwards: int
    sizes: LogHistogram
    times: LogHistogram

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        some = bool(self.times.count)
        return {
            "src": self.src,
            "dst": self.dst,
            "queue": self.queue,
            "packets": self.sizes.count,
            "bytes": self.sizes.total,
            "sizes": _sizes(self.sizes),
            "backwards": self.backwards,
            "latency": {
                "min_ns": self.times.minimum if some else None,
                "mean_ns": self.times.mean,
                **{key: self.times.percentile(share) for key, share in FIGURES.items()},
                "max_ns": self.times.maximum if some else None,
                "histogram": [
                    {"low_ns": b.low, "high_ns": b.high, "count": b.count}
                    for b in self.times.buckets()
                ],
            },
        }


@dataclass(frozen=True)
class Dropped:
    """What ended at a link here, for one reason; `peer` is None if it was for nobody.

    `rx` if it came from `peer`. `reason` is the counter of `ethtool -S` that has it too.
    """

    node: int
    peer: int | None
    queue: int
    rx: bool
    reason: str
    packets: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "node": self.node,
            "peer": self.peer,
            "queue": self.queue,
            "direction": "receive" if self.rx else "transmit",
            "reason": self.reason,
            "packets": self.packets,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Report:
    """All that was seen in the `seconds` since the trace began.

    `links` has the names of the links of this network namespace, by node. `missed` events are in no
    other number here.
    """

    here: Machine
    seconds: float
    links: Mapping[int, str]
    sent: tuple[Sent, ...] = ()
    received: tuple[Received, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    missed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "node": self.here.node_id,
            "seconds": round(self.seconds, 3),
            "missed": self.missed,
            "links": [{"node": node, "name": name} for node, name in sorted(self.links.items())],
            "packets": {
                "sent": sum(row.packets for row in self.sent),
                "copies": sum(row.sizes.count for row in self.sent),
                "received": sum(row.sizes.count for row in self.received),
                "dropped": sum(row.packets for row in self.dropped),
            },
            "sent": [row.to_json() for row in self.sent],
            "received": [row.to_json() for row in self.received],
            "dropped": [row.to_json() for row in self.dropped],
        }


def _numbers(cells: Iterable[Any], name: str) -> LogHistogram:
    """A struct numbers over all CPUs."""
    return LogHistogram.merged(LogHistogram.of(getattr(cell, name)) for cell in cells)


def _sum(cells: Iterable[Any], name: str) -> int:
    return sum(getattr(cell, name) for cell in cells)


def reason_name(number: int) -> str:
    """The counter that is a reason, or its number as text if the module is newer than we are."""
    return REASONS[number] if number < len(REASONS) else str(number)


def read(program: Programs, here: Machine, seconds: float, links: Mapping[int, str]) -> Report:
    """What the maps of the loaded BPF program hold now."""
    sent = [
        Sent(
            key.src,
            key.dst,
            key.queue,
            _sum(cells, "packets"),
            _sum(cells, "bytes"),
            _sum(cells, "merged"),
            _sum(cells, "segments"),
            _numbers(cells, "sizes"),
        )
        for key, cells in program["sent"].items()
    ]
    received = [
        Received(
            key.src,
            key.dst,
            key.queue,
            _sum(cells, "backwards"),
            _numbers(cells, "sizes"),
            _numbers(cells, "times"),
        )
        for key, cells in program["received"].items()
    ]
    dropped = [
        Dropped(
            key.node,
            None if key.peer == NO_PEER else key.peer,
            key.queue,
            bool(key.rx),
            reason_name(key.reason),
            _sum(cells, "packets"),
            _sum(cells, "bytes"),
        )
        for key, cells in program["dropped"].items()
    ]
    return Report(
        here,
        seconds,
        links,
        tuple(sorted(sent, key=lambda row: (row.src, row.dst, row.queue))),
        tuple(sorted(received, key=lambda row: (row.dst, row.src, row.queue))),
        tuple(sorted(dropped, key=_drop_order)),
        program.missed() + program["counters"].sum(UNRECORDED),
    )


def _drop_order(row: Dropped) -> tuple[int, str, int, int]:
    return row.node, row.reason, -1 if row.peer is None else row.peer, row.queue


def _links() -> dict[int, str]:
    """The links of this network namespace, node to name; none if it cannot be asked."""
    try:
        with Links() as links:
            return {link.node_id: link.name for link in links.list()}
    except PopcornError:
        return {}


def link_node(name: str) -> int:
    """The node whose link that is; NotFoundError if it is not in this network namespace."""
    with Links() as links:
        return links.get(name).node_id


def run(
    options: Options,
    limits: Limits,
    *,
    show: Callable[[Report], None],
    ready: Callable[[str], None],
    output: IO[str] | None = None,
) -> int:
    """Trace, and hand a report to `show` when `limits` say so; the reports are cumulative.

    Otherwise as :func:`popcorn_tracing.latency.run`, and NotFoundError for a link that is not in
    this network namespace.
    """
    check(EVENTS)
    here = machine()
    defines = {}
    values = {"tsc_khz": here.tsc_khz}
    if options.node is not None:
        defines["ONLY_NODE"] = node_id(options.node, here)
    if options.link is not None:
        defines["ONLY_LINK"] = link_node(options.link)
    with loaded(SOURCE, defines, EVENTS, values, cached=options.cache) as program:
        begin = time.monotonic()
        session = Session(
            "tracing links",
            lambda: read(program, here, time.monotonic() - begin, _links()),
            lambda: program["counters"].sum(PACKETS),
        )
        return session.watch(limits, show=show, ready=ready, output=output)
