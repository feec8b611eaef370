# SPDX-License-Identifier: GPL-2.0
"""What is recorded for a timeline: events of tracepoints, and what became of all of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popcorn_tracing.doorbell import EVENTS as DOORBELL_EVENTS
from popcorn_tracing.latency import EVENTS as LATENCY_EVENTS
from popcorn_tracing.net import EVENTS as NET_EVENTS

__all__ = ("EVENT", "EVENTS", "KINDS", "START_STAGES", "Event", "Sample", "Summary")

#: Tracepoints and the fields that the BPF program counts on, in order; and in the order of
#: enum event_kind there.
EVENTS: Mapping[str, tuple[str, ...]] = {
    "popcorn_msg_queued": LATENCY_EVENTS["popcorn_msg_queued"],
    "popcorn_doorbell_sent": LATENCY_EVENTS["popcorn_doorbell_sent"],
    "popcorn_doorbell_irq": DOORBELL_EVENTS["popcorn_doorbell_irq"],
    "popcorn_msg_delivered": LATENCY_EVENTS["popcorn_msg_delivered"],
    "popcorn_poll": DOORBELL_EVENTS["popcorn_poll"],
    "popcorn_channel_full": ("src", "dst", "queue", "tsc"),
    "popcorn_channel_room": ("src", "dst", "queue", "tsc"),
    "popcorn_service_peer": ("node", "peer", "service", "up", "tsc"),
    "popcorn_node_state": ("node", "epoch", "state", "tsc"),
    "popcorn_kernel_state": ("kernel", "state", "tsc"),
    "popcorn_kernel_stage": ("kernel", "stage", "tsc"),
    "popcorn_net_transmit": NET_EVENTS["popcorn_net_transmit"],
    "popcorn_net_receive": NET_EVENTS["popcorn_net_receive"],
    "popcorn_net_drop": NET_EVENTS["popcorn_net_drop"],
    "popcorn_tty_transmit": ("src", "dst", "line", "len", "left", "tsc"),
    "popcorn_tty_receive": ("src", "dst", "line", "len", "left", "tsc"),
}

KINDS = tuple(name.removeprefix("popcorn_") for name in EVENTS)

#: enum pcn_kernel_stage (kmod/include/popcorn_host.h).
START_STAGES = (
    "memory",
    "slice",
    "cpus",
    "slot",
    "wipe",
    "load",
    "check",
    "init",
    "entry",
    "joined",
)

#: struct event in the BPF program: kind, cpu, words, clock, stamps; native, as it is aligned by
#: hand. One with fewer stamps ends early.
EVENT = struct.Struct("=2I6IQ5Q")


@dataclass(frozen=True)
class Sample:
    """What the fabric told at one moment of `clock` (CLOCK_MONOTONIC, nanoseconds).

    `delivered` are messages that each kernel received, by (source, destination, queue).
    """

    clock: int
    delivered: Mapping[tuple[int, int, int], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What became of the events, by kind.

    Of those `seen`, `written` ones are in the file and `lost` ones found the buffer full; the rest
    came after the limit was reached. `missed` are in none of these: the kernel left them out.
    """

    path: Path
    seen: Mapping[str, int]
    lost: Mapping[str, int]
    written: Mapping[str, int]
    missed: int = 0

    def left_out(self, kind: str) -> int:
        """Events of a kind that came after the limit was reached."""
        seen, lost, written = (
            counts.get(kind, 0) for counts in (self.seen, self.lost, self.written)
        )
        return seen - lost - written

    @property
    def nr_written(self) -> int:
        """Events that are in the file."""
        return sum(self.written.values())

    @property
    def nr_absent(self) -> int:
        """Events that are not."""
        return sum(self.seen.values()) - self.nr_written + self.missed

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "file": str(self.path),
            "written": self.nr_written,
            "missed": self.missed,
            "events": {
                kind: {
                    "seen": self.seen.get(kind, 0),
                    "lost": self.lost.get(kind, 0),
                    "left_out": self.left_out(kind),
                }
                for kind in KINDS
            },
        }


@dataclass(frozen=True)
class Event:
    """A record of the buffer: `values` are the fields of its tracepoint, by name."""

    kind: str
    cpu: int
    clock: int
    values: Mapping[str, int]

    @classmethod
    def parse(cls, data: bytes) -> Event:
        """From a record that is filled up with zeros."""
        number, cpu, *rest = EVENT.unpack(data)
        words, clock, stamps = rest[:6], rest[6], rest[7:]
        name, fields = _SHAPES[number]
        nr_words = len(fields) - _STAMPS[name]
        values = [*words[:nr_words], *stamps[: _STAMPS[name]]]
        return cls(name, cpu, clock, dict(zip(fields, values, strict=True)))

    @property
    def now(self) -> int:
        """The stamp of when it was recorded, in cycles; 0 for one that tells another time."""
        if self.kind == "kernel_stage":
            return 0
        return self.values[_NOW.get(self.kind, "tsc")]


_SHAPES = tuple((kind, fields) for kind, fields in zip(KINDS, EVENTS.values(), strict=True))
#: Of each kind, how many of its last values are in the places of stamps: those that are some, and
#: what does not fit into the six words.
_STAMPS = dict.fromkeys(KINDS, 1) | {
    "msg_delivered": 5,
    "poll": 2,
    "net_transmit": 3,
    "net_receive": 2,
    "net_drop": 2,
}
_NOW = {"msg_delivered": "delivered", "poll": "end"}
