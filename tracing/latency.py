# SPDX-License-Identifier: GPL-2.0
"""How long messages take from one kernel to this one, stage by stage, and who sent how many.

Every message carries the time stamps of its stages, and the time stamp counter is the same for all
kernels of the machine. So the receiver alone measures one-way times; nothing is halved, and nothing
runs in the sender.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from popcorn.errors import ModuleMissingError, NotFoundError, PopcornError
from popcorn_tracing.common import (
    FIGURES,
    CannotCompileError,
    Limits,
    LogHistogram,
    Machine,
    Session,
    Times,
    UsageError,
    check,
    machine,
    node_id,
    refreshed,
)
from popcorn_tracing.loader import loaded
from popcorn_tracing.programs import Programs, cpu_numbers
from popcorn_tracing.services import Filter

__all__ = (
    "BY",
    "EVENTS",
    "STAGES",
    "Arrivals",
    "Departures",
    "Options",
    "Report",
    "Row",
    "Stage",
    "View",
    "opened",
    "run",
)

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

#: What a report can be broken down by: the key of a row in JSON, but for the stage itself.
BY = ("stage", "channel", "service", "cpu")

#: Indices of enum counter_id in the BPF program.
DELIVERED = 0
UNRECORDED = 1


@dataclass(frozen=True)
class View:
    """What of a report is shown: a row for each of `by` (one of BY) and each of `stages`."""

    by: str = "stage"
    stages: tuple[str, ...] = STAGES

    def __post_init__(self) -> None:
        if self.by not in BY:
            raise UsageError(f"cannot break down by '{self.by}'", f"known: {', '.join(BY)}")
        for name in self.stages:
            if name not in STAGES:
                raise UsageError(f"there is no stage '{name}'", f"known: {', '.join(STAGES)}")


@dataclass(frozen=True)
class Options:
    """Whose messages to trace: node and service by name or number, all if None.

    `tsc_khz` overrides the rate of the time stamp counter that the module tells. Without `cache`,
    the BPF program is compiled in any case; so it is with the other tools.
    """

    node: str | None = None
    service: str | None = None
    tsc_khz: int | None = None
    view: View = View()
    cache: bool = True


@dataclass(frozen=True)
class Stage:
    """Times of one stage.

    `backwards` messages had it end before it began, and are not in the times: the interrupt came
    while the poll was running, or a sender's stamp cannot be.
    """

    name: str
    times: Times
    backwards: int = 0

    @classmethod
    def merged(cls, name: str, parts: Iterable[Stage]) -> Stage:
        """The stage over all `parts`, which are of one source."""
        listed = list(parts)
        kind = type(listed[0].times) if listed else LogHistogram
        times = kind.merged(part.times for part in listed)
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
            **{key: self.times.percentile(share) for key, share in FIGURES.items()},
            "max_ns": self.times.maximum if some else None,
            "histogram": [
                {"low_ns": b.low, "high_ns": b.high, "count": b.count} for b in self.times.buckets()
            ],
        }


@dataclass(frozen=True)
class Departures:
    """Messages of one service that went from node `src` to node `dst` through one queue.

    `service` and `bytes` are None if the source does not tell.
    """

    src: int
    dst: int
    queue: int
    service: int | None
    messages: int
    bytes: int | None

    def to_json(self, here: Machine) -> dict[str, Any]:
        """Stable JSON form, with the names that `here` has."""
        return {
            "src": self.src,
            "dst": self.dst,
            "queue": self.queue,
            "service": None if self.service is None else here.service(self.dst, self.service),
            "messages": self.messages,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Arrivals(Departures):
    """Messages that were delivered, and how long their stages took.

    `cpus` has the stages by the CPU that delivered, None for CPUs that the source does not tell.
    """

    cpus: Mapping[int | None, tuple[Stage, ...]]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages over all CPUs."""
        return _merged(self.cpus.values())

    def to_json(self, here: Machine) -> dict[str, Any]:
        """Stable JSON form, with the names that `here` has."""
        return {**super().to_json(here), "stages": [stage.to_json() for stage in self.stages]}


def _merged(parts: Iterable[tuple[Stage, ...]]) -> tuple[Stage, ...]:
    """Stage by stage over all `parts`."""
    listed = list(parts)
    return tuple(
        Stage.merged(name, [stages[index] for stages in listed])
        for index, name in enumerate(STAGES)
    )


@dataclass(frozen=True)
class Row:
    """One stage of a channel (source, destination, queue), a service (its name) or a CPU.

    `of` is what it is broken down by: empty when that is the stage alone.
    """

    of: tuple[Any, ...]
    stage: Stage

    def to_json(self, by: str) -> dict[str, Any]:
        """Stable JSON form."""
        key: Any = self.of[0] if self.of else None
        if by == "channel":
            key = dict(zip(("src", "dst", "queue"), self.of, strict=True))
        return {by: key, **self.stage.to_json()}


@dataclass(frozen=True)
class Report:
    """All that was seen in the `seconds` since the trace began.

    `doorbells` counts those that this kernel rang, by (source, destination). `missed` events are in
    no other number here. `unseen` are the stages that the source cannot see.
    """

    here: Machine
    seconds: float
    delivered: tuple[Arrivals, ...] = ()
    queued: tuple[Departures, ...] = ()
    doorbells: Mapping[tuple[int, int], int] = field(default_factory=dict)
    missed: int = 0
    view: View = View()
    source: str = "bpf"
    unseen: tuple[str, ...] = ()

    @property
    def nr_queued(self) -> int:
        """Messages that this kernel sent."""
        return sum(flow.messages for flow in self.queued)

    @property
    def nr_delivered(self) -> int:
        """Messages that were delivered."""
        return sum(flow.messages for flow in self.delivered)

    def stages(self) -> tuple[Stage, ...]:
        """The stages over all senders and services."""
        return _merged(flow.stages for flow in self.delivered)

    def rows(self) -> tuple[Row, ...]:
        """What the view asks for: each stage, or each of each channel, service or CPU."""
        groups: dict[tuple[Any, ...], list[tuple[Stage, ...]]] = {}
        if self.view.by == "stage":
            groups[()] = []
        for flow in self.delivered:
            for cpu, stages in flow.cpus.items():
                groups.setdefault(self._group(flow, cpu), []).append(stages)
        shown = set(self.view.stages) - set(self.unseen)
        return tuple(
            Row(of, stage)
            for of in sorted(groups)
            for stage in _merged(groups[of])
            if stage.name in shown
        )

    def _group(self, flow: Arrivals, cpu: int | None) -> tuple[Any, ...]:
        if self.view.by == "channel":
            return flow.src, flow.dst, flow.queue
        if self.view.by == "service" and flow.service is not None:
            return (self.here.service(flow.dst, flow.service),)
        if self.view.by == "cpu" and cpu is not None:
            return (cpu,)
        return ()

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        by = self.view.by
        return {
            "node": self.here.node_id,
            "tsc_khz": self.here.tsc_khz,
            "seconds": round(self.seconds, 3),
            "source": self.source,
            "unseen": list(self.unseen),
            "messages": {"queued": self.nr_queued, "delivered": self.nr_delivered},
            "missed": self.missed,
            "stages": [stage.to_json() for stage in self.stages()],
            "by": by,
            "rows": [] if by == "stage" else [row.to_json(by) for row in self.rows()],
            "delivered": [flow.to_json(self.here) for flow in self.delivered],
            "queued": [flow.to_json(self.here) for flow in self.queued],
            "doorbells": [
                {"src": src, "dst": dst, "count": count}
                for (src, dst), count in sorted(self.doorbells.items())
            ],
        }


# from BPF maps


def _stage(name: str, cell: Any) -> Stage:
    """One stage from the value that a CPU has of it (struct stage)."""
    return Stage(name, LogHistogram.of(cell.times), cell.backwards)


def _stages(cell: Any) -> tuple[Stage, ...]:
    """What one CPU counted (struct arrivals)."""
    return tuple(_stage(name, cell.stages[index]) for index, name in enumerate(STAGES))


def read(
    program: Programs,
    here: Machine,
    seconds: float,
    view: View = View(),
    numbers: tuple[int, ...] | None = None,
) -> Report:
    """What the maps of the loaded BPF program hold now. `numbers` are those of the CPUs in them."""
    ids = cpu_numbers() if numbers is None else numbers
    delivered = [
        Arrivals(
            key.src,
            key.dst,
            key.queue,
            key.service,
            sum(cell.messages for cell in cells),
            sum(cell.bytes for cell in cells),
            {cpu: _stages(cell) for cpu, cell in zip(ids, cells, strict=False) if cell.messages},
        )
        for key, cells in program["delivered"].items()
    ]
    queued = [
        Departures(
            key.src,
            key.dst,
            key.queue,
            key.service,
            sum(cell.messages for cell in cells),
            sum(cell.bytes for cell in cells),
        )
        for key, cells in program["queued"].items()
    ]
    doorbells = {(key.src, key.dst): sum(cells) for key, cells in program["doorbells"].items()}
    missed = program.missed() + program["counters"].sum(UNRECORDED)
    return Report(
        here,
        seconds,
        tuple(sorted(delivered, key=_order)),
        tuple(sorted(queued, key=_order)),
        doorbells,
        missed,
        view,
    )


def _order(flow: Departures) -> tuple[int, int, int, int]:
    return flow.src, flow.dst, flow.queue, -1 if flow.service is None else flow.service


@contextlib.contextmanager
def _or_fabric() -> Iterator[None]:
    """Where BPF does not go, say what else would."""
    try:
        yield
    except (ModuleMissingError, NotFoundError, UsageError):
        raise
    except PopcornError as error:
        error.hint += "; or without BPF, with less detail: --source fabric"
        raise


@contextlib.contextmanager
def opened(options: Options) -> Iterator[Session[Report]]:
    """A trace from here to the end of the block; raises what :func:`run` does."""
    with _or_fabric():
        check(EVENTS)
    here = machine(options.tsc_khz)
    defines: dict[str, int | str] = {}
    values = {"tsc_khz": here.tsc_khz}
    if options.service is not None:
        defines |= Filter.parse(options.service, here.services).defines()
    if options.node is not None:
        defines["ONLY_NODE"] = node_id(options.node, here)
    with contextlib.ExitStack() as stack:
        with _or_fabric():
            program = stack.enter_context(
                loaded(SOURCE, defines, EVENTS, values, cached=options.cache)
            )
        begin = time.monotonic()
        yield Session(
            "tracing the latency of messages",
            lambda: read(program, refreshed(here), time.monotonic() - begin, options.view),
            lambda: program["counters"].sum(DELIVERED),
        )


_opened = opened
Opener = Callable[[Options], contextlib.AbstractContextManager[Session[Report]]]


def run(
    options: Options,
    limits: Limits,
    *,
    show: Callable[[Report], None],
    ready: Callable[[str], None],
    output: IO[str] | None = None,
    opened: Opener | None = None,
    instead: Opener | None = None,
) -> int:
    """Trace, and hand a report to `show` when `limits` say so; the reports are cumulative.

    `ready` gets one line when tracing has begun, which is seconds after the call. `output` and the
    return value are those of :func:`popcorn_tracing.common.wait`. Raises PopcornError and the
    classes below it for what :func:`popcorn_tracing.common.check` finds, for a node or service that
    is not there, and if bcc fails. `opened` is for
    another source than BPF. With `instead`, that is used where bcc cannot be, after a line to
    `ready` that says so.
    """
    with contextlib.ExitStack() as stack:
        try:
            session = stack.enter_context((opened or _opened)(options))
        except CannotCompileError as error:
            if instead is None:
                raise
            session = stack.enter_context(instead(options))
            ready(f"no BPF: {error}; counted by ftrace, by powers of two")
        return session.watch(limits, show=show, ready=ready, output=output)
