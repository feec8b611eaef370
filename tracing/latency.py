# SPDX-License-Identifier: GPL-2.0
"""How long messages take from one kernel to this one, stage by stage, and who sent how many.

Every message carries the time stamps of its stages, and the time stamp counter is the same for all
kernels of the machine. So the receiver alone measures one-way times; nothing is halved, and nothing
runs in the sender.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from popcorn_tracing.common import (
    Limits,
    LogHistogram,
    Machine,
    check,
    loaded,
    machine,
    missed_events,
    node_id,
    service_id,
    service_name,
    wait,
)

__all__ = ("EVENTS", "STAGES", "Arrivals", "Departures", "Options", "Report", "Stage", "run")

SOURCE = Path(__file__).with_suffix(".bpf.c")

#: Tracepoints and the fields that the BPF program counts on, in order.
EVENTS: Mapping[str, tuple[str, ...]] = {
    "popcorn_msg_queued": ("src", "dst", "queue", "seq", "service", "len", "tsc"),
    "popcorn_doorbell_sent": ("src", "dst", "queue", "apic_id", "vector", "tsc"),
    "popcorn_msg_delivered": (
        "src",
        "dst",
        "queue",
        "seq",
        "service",
        "len",
        "queued",
        "doorbell",
        "irq",
        "poll",
        "delivered",
    ),
}

#: In the order of enum stage_id in the BPF program.
STAGES = (
    "queued-doorbell",
    "doorbell-interrupt",
    "interrupt-poll",
    "poll-delivered",
    "queued-delivered",
)

#: Indices of enum counter_id in the BPF program.
DELIVERED = 0
UNRECORDED = 1


@dataclass(frozen=True)
class Options:
    """Whose messages to trace: node and service by name or number, all if None.

    `tsc_khz` overrides the rate of the time stamp counter that the module tells.
    """

    node: str | None = None
    service: str | None = None
    tsc_khz: int | None = None


@dataclass(frozen=True)
class Stage:
    """Times of one stage.

    `backwards` messages had it end before it began, and are not in the times: the interrupt came
    while the poll was running, or a sender's stamp cannot be.
    """

    name: str
    times: LogHistogram
    backwards: int = 0

    @classmethod
    def merged(cls, name: str, parts: Iterable[Stage]) -> Stage:
        """The stage over all `parts`."""
        listed = list(parts)
        times = LogHistogram.merged(part.times for part in listed)
        return cls(name, times, sum(part.backwards for part in listed))

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form; nanoseconds. Times are null if no message went through the stage."""
        some = bool(self.times.count)
        return {
            "name": self.name,
            "count": self.times.count,
            "backwards": self.backwards,
            "min_ns": self.times.minimum if some else None,
            "mean_ns": self.times.mean,
            "median_ns": self.times.percentile(0.5),
            "p99_ns": self.times.percentile(0.99),
            "max_ns": self.times.maximum if some else None,
            "histogram": [
                {"low_ns": b.low, "high_ns": b.high, "count": b.count} for b in self.times.buckets()
            ],
        }


@dataclass(frozen=True)
class Departures:
    """Messages of one service that this kernel sent from node `src` to node `dst`."""

    src: int
    dst: int
    service: int
    messages: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "src": self.src,
            "dst": self.dst,
            "service": service_name(self.service),
            "messages": self.messages,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Arrivals(Departures):
    """Messages that were delivered to this kernel, and how long their stages took."""

    stages: tuple[Stage, ...]

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {**super().to_json(), "stages": [stage.to_json() for stage in self.stages]}


@dataclass(frozen=True)
class Report:
    """All that was seen in the `seconds` since the trace began.

    `doorbells` counts those that this kernel rang, by (source, destination). `missed` events are in
    no other number here.
    """

    here: Machine
    seconds: float
    delivered: tuple[Arrivals, ...] = ()
    queued: tuple[Departures, ...] = ()
    doorbells: Mapping[tuple[int, int], int] = field(default_factory=dict)
    missed: int = 0

    @property
    def nr_queued(self) -> int:
        """Messages that this kernel sent."""
        return sum(flow.messages for flow in self.queued)

    @property
    def nr_delivered(self) -> int:
        """Messages that were delivered to this kernel."""
        return sum(flow.messages for flow in self.delivered)

    def stages(self) -> tuple[Stage, ...]:
        """The stages over all senders and services."""
        return tuple(
            Stage.merged(name, (flow.stages[index] for flow in self.delivered))
            for index, name in enumerate(STAGES)
        )

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "node": self.here.node_id,
            "tsc_khz": self.here.tsc_khz,
            "seconds": round(self.seconds, 3),
            "messages": {"queued": self.nr_queued, "delivered": self.nr_delivered},
            "missed": self.missed,
            "stages": [stage.to_json() for stage in self.stages()],
            "delivered": [flow.to_json() for flow in self.delivered],
            "queued": [flow.to_json() for flow in self.queued],
            "doorbells": [
                {"src": src, "dst": dst, "count": count}
                for (src, dst), count in sorted(self.doorbells.items())
            ],
        }


# from BPF maps


def _stage(name: str, cells: Iterable[Any]) -> Stage:
    """One stage from the values that each CPU has of it (struct stage)."""
    parts = [
        Stage(
            name,
            LogHistogram(cell.count, cell.total, cell.min, cell.max, tuple(cell.slots)),
            cell.backwards,
        )
        for cell in cells
    ]
    return Stage.merged(name, parts)


def read(program: Any, here: Machine, seconds: float) -> Report:
    """What the maps of the loaded BPF program hold now."""
    delivered = []
    for key, cpus in program["delivered"].items():
        stages = tuple(
            _stage(name, [cpu.stages[index] for cpu in cpus]) for index, name in enumerate(STAGES)
        )
        messages = sum(cpu.messages for cpu in cpus)
        size = sum(cpu.bytes for cpu in cpus)
        delivered.append(Arrivals(key.src, key.dst, key.service, messages, size, stages))
    queued = [
        Departures(
            key.src,
            key.dst,
            key.service,
            sum(cpu.messages for cpu in cpus),
            sum(cpu.bytes for cpu in cpus),
        )
        for key, cpus in program["queued"].items()
    ]
    doorbells = {(key.src, key.dst): sum(cpus) for key, cpus in program["doorbells"].items()}
    missed = missed_events(program) + program["counters"].sum(UNRECORDED).value
    return Report(
        here,
        seconds,
        tuple(sorted(delivered, key=_order)),
        tuple(sorted(queued, key=_order)),
        doorbells,
        missed,
    )


def _order(flow: Departures) -> tuple[int, int, int]:
    return flow.src, flow.dst, flow.service


def run(
    options: Options,
    limits: Limits,
    *,
    show: Callable[[Report], None],
    ready: Callable[[str], None],
    output: IO[str] | None = None,
) -> int:
    """Trace, and hand a report to `show` when `limits` say so; the reports are cumulative.

    `ready` gets one line when tracing has begun, which is seconds after the call. `output` and the
    return value are those of :func:`popcorn_tracing.common.wait`. Raises PopcornError and the
    classes below it for what :func:`popcorn_tracing.common.check` finds, for a node or service that
    is not there, and if bcc fails.
    """
    defines: dict[str, int] = {}
    if options.service is not None:
        defines["ONLY_SERVICE"] = service_id(options.service)
    check(EVENTS)
    here = machine(options.tsc_khz)
    defines["TSC_KHZ"] = here.tsc_khz
    if options.node is not None:
        defines["ONLY_NODE"] = node_id(options.node, here)
    with loaded(SOURCE, defines) as program:
        begin = time.monotonic()
        end = "" if limits.command else ", Ctrl-C ends it"
        ready(f"tracing the latency of messages{end}")
        return wait(
            limits,
            lambda: show(read(program, here, time.monotonic() - begin)),
            lambda: int(program["counters"].sum(DELIVERED).value),
            output,
        )
