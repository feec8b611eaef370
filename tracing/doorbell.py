# SPDX-License-Identifier: GPL-2.0
"""Doorbells against messages, by channel, queue and CPU: how much of the ringing is avoided.

A sender rings when the receiver sleeps; a receiver that polls on for its window (mitigation) is
not rung. So few doorbells for many messages is what should be, and a doorbell that finds nothing
is one too many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from popcorn.client import Client
from popcorn.models import Queue
from popcorn_tracing.common import (
    Limits,
    Machine,
    Session,
    asked,
    check,
    machine,
    node_id,
)
from popcorn_tracing.latency import EVENTS as LATENCY_EVENTS
from popcorn_tracing.loader import loaded
from popcorn_tracing.programs import Programs, cpu_numbers

__all__ = ("EVENTS", "Options", "Report", "Sent", "Taken", "Window", "run")

SOURCE = Path(__file__).with_suffix(".bpf.c")

#: Tracepoints and the fields that the BPF program counts on, in order.
EVENTS: Mapping[str, tuple[str, ...]] = {
    "popcorn_msg_queued": LATENCY_EVENTS["popcorn_msg_queued"],
    "popcorn_doorbell_sent": LATENCY_EVENTS["popcorn_doorbell_sent"],
    "popcorn_doorbell_irq": ("node", "queue", "tsc"),
    "popcorn_poll": ("node", "queue", "work", "budget", "begin", "end"),
}

#: Indices of enum counter_id in the BPF program.
MESSAGES = 0
UNRECORDED = 1

SENT = ("messages", "doorbells")
TAKEN = ("interrupts", "empty", "polls", "idle", "messages")


@dataclass(frozen=True)
class Options:
    """Whose channels to look at: a node by name or number, all if None. Queues are of all nodes."""

    node: str | None = None
    cache: bool = True


def _saved(messages: int, doorbells: int) -> float | None:
    """Share of messages that needed no doorbell; None without any message."""
    return max(0.0, 1 - doorbells / messages) if messages else None


@dataclass(frozen=True)
class Sent:
    """What one CPU of this kernel sent through a channel, and how often it rang."""

    src: int
    dst: int
    queue: int
    cpu: int
    messages: int
    doorbells: int

    @property
    def saved(self) -> float | None:
        """Share of the messages that needed no doorbell."""
        return _saved(self.messages, self.doorbells)

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "src": self.src,
            "dst": self.dst,
            "queue": self.queue,
            "cpu": self.cpu,
            "messages": self.messages,
            "doorbells": self.doorbells,
        }


@dataclass(frozen=True)
class Taken:
    """What one CPU did for a queue of a node here.

    `empty` are interrupts whose poll took no message, `idle` all polls that took none.
    """

    node: int
    queue: int
    cpu: int
    interrupts: int
    empty: int
    polls: int
    idle: int
    messages: int

    @property
    def saved(self) -> float | None:
        """Share of the messages that needed no interrupt."""
        return _saved(self.messages, self.interrupts)

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "node": self.node,
            "queue": self.queue,
            "cpu": self.cpu,
            "interrupts": self.interrupts,
            "empty": self.empty,
            "polls": self.polls,
            "idle_polls": self.idle,
            "messages": self.messages,
        }


@dataclass(frozen=True)
class Window:
    """What this kernel's module counted of one of its queues, and its polling window at the end.

    `hits` are messages that came while it polled on; `spurious` doorbells found no channel to look
    at; `sleeps` are the times that it asked to be rung.
    """

    queue: int
    hits: int
    sleeps: int
    spurious: int
    window_ns: int

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "queue": self.queue,
            "window_hits": self.hits,
            "sleeps": self.sleeps,
            "spurious": self.spurious,
            "window_ns": self.window_ns,
        }


@dataclass(frozen=True)
class Report:
    """What was seen in `seconds`. `missed` events are in no other number here."""

    here: Machine
    seconds: float
    sent: tuple[Sent, ...] = ()
    taken: tuple[Taken, ...] = ()
    windows: tuple[Window, ...] = ()
    missed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "node": self.here.node_id,
            "seconds": round(self.seconds, 3),
            "missed": self.missed,
            "messages": {
                "queued": sum(row.messages for row in self.sent),
                "taken": sum(row.messages for row in self.taken),
            },
            "doorbells": {
                "sent": sum(row.doorbells for row in self.sent),
                "interrupts": sum(row.interrupts for row in self.taken),
                "empty": sum(row.empty for row in self.taken),
            },
            "sent": [row.to_json() for row in self.sent],
            "taken": [row.to_json() for row in self.taken],
            "queues": [row.to_json() for row in self.windows],
        }


Counts = Mapping[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Reading:
    """All counts of one moment: `sent` by (src, dst, queue, cpu), `taken` by (node, queue, cpu)."""

    when: float
    sent: Counts = field(default_factory=dict)
    taken: Counts = field(default_factory=dict)
    queues: Mapping[int, Queue] = field(default_factory=dict)
    missed: int = 0

    def since(self, before: Reading, here: Machine) -> Report:
        """What came after `before`."""
        none = Queue(0)
        windows = []
        for number, queue in sorted(self.queues.items()):
            old = before.queues.get(number, none)
            windows.append(
                Window(
                    number,
                    queue.window_hits - old.window_hits,
                    queue.sleeps - old.sleeps,
                    queue.spurious - old.spurious,
                    queue.window_ns,
                )
            )
        return Report(
            here,
            self.when - before.when,
            tuple(Sent(*row) for row in _differences(self.sent, before.sent)),
            tuple(Taken(*row) for row in _differences(self.taken, before.taken)),
            tuple(windows),
            self.missed - before.missed,
        )


def _differences(now: Counts, before: Counts) -> list[tuple[int, ...]]:
    """Keys with what was added to their counts, where that is anything."""
    rows = []
    for key, counts in sorted(now.items()):
        old = before.get(key, (0,) * len(counts))
        added = tuple(a - b for a, b in zip(counts, old, strict=True))
        if any(added):
            rows.append((*key, *added))
    return rows


def read(
    program: Programs,
    when: float,
    queues: Mapping[int, Queue],
    numbers: tuple[int, ...] | None = None,
) -> Reading:
    """What the maps of the loaded BPF program hold now. `numbers` are those of the CPUs in them."""
    ids = cpu_numbers() if numbers is None else numbers
    sent: Counts = {
        (key.src, key.dst, key.queue, cpu): tuple(getattr(cell, name) for name in SENT)
        for key, cells in program["sent"].items()
        for cpu, cell in zip(ids, cells, strict=False)
    }
    taken: Counts = {
        (key.node, key.queue, cpu): tuple(getattr(cell, name) for name in TAKEN)
        for key, cells in program["taken"].items()
        for cpu, cell in zip(ids, cells, strict=False)
    }
    missed = program.missed() + program["counters"].sum(UNRECORDED)
    return Reading(when, sent, taken, queues, missed)


def _queues(client: Callable[[], Client] = Client) -> dict[int, Queue]:
    """What the module counts of this kernel's queues; nothing if it cannot be asked any more."""
    return asked(lambda module: {q.queue: q for q in module.queues()}, {}, client)


def run(
    options: Options,
    limits: Limits,
    *,
    show: Callable[[Report], None],
    ready: Callable[[str], None],
    output: IO[str] | None = None,
) -> int:
    """Trace, and hand a report to `show` when `limits` say so: each is of the time since the last.

    Otherwise as :func:`popcorn_tracing.latency.run`.
    """
    check(EVENTS)
    here = machine()
    defines: dict[str, int] = {}
    if options.node is not None:
        defines["ONLY_NODE"] = node_id(options.node, here)
    with loaded(SOURCE, defines, EVENTS, cached=options.cache) as program:
        last = Reading(time.monotonic(), queues=_queues())

        def since_last() -> Report:
            nonlocal last
            before, last = last, read(program, time.monotonic(), _queues())
            return last.since(before, here)

        session = Session(
            "tracing doorbells", since_last, lambda: program["counters"].sum(MESSAGES)
        )
        return session.watch(limits, show=show, ready=ready, output=output)
