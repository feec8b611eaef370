# SPDX-License-Identifier: GPL-2.0
"""Latency without bcc: the kernel's own histograms of a tracepoint (hist triggers of ftrace).

They count by powers of two of TSC cycles, of this kernel's messages. All is set up in an instance
of its own below tracefs, so that whoever traces meanwhile is not disturbed.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from popcorn.errors import PopcornError
from popcorn.models import Latency, LatencyStage
from popcorn_tracing.common import (
    Machine,
    Session,
    UsageError,
    machine,
    node_id,
    refreshed,
    tracefs_events,
)
from popcorn_tracing.fabric import CycleTimes
from popcorn_tracing.latency import STAGES, Arrivals, Departures, Options, Report, Stage
from popcorn_tracing.services import Filter

__all__ = ("Files", "Place", "Table", "opened")

DELIVERED = "popcorn_msg_delivered"
QUEUED = "popcorn_msg_queued"

#: Entries that a histogram has room for; what finds none is counted.
SIZE = 2048

_ENTRY = re.compile(r"^\{ (?P<keys>.*?) \} hitcount:\s+(?P<hits>\d+)(?:\s+len:\s+(?P<bytes>\d+))?")


def _field(stage: str) -> str:
    """The tracepoint's field that has the cycles of a stage."""
    return f"{stage.replace('-', '_')}_cycles"


def _triggers() -> list[tuple[str, str]]:
    """Event and trigger of each histogram."""
    # A histogram takes three keys at most: `flow` is four of them.
    counts = f"hist:keys=flow:vals=hitcount,len:size={SIZE}"
    stages = (
        f"hist:keys=flow,{_field(name)}.log2:size={SIZE} if {_field(name)} > 0" for name in STAGES
    )
    return [(QUEUED, counts), (DELIVERED, counts), *((DELIVERED, text) for text in stages)]


class Key(NamedTuple):
    """What a row of all histograms is of."""

    src: int
    dst: int
    queue: int
    service: int

    @classmethod
    def unpacked(cls, flow: int) -> Key:
        """Of the tracepoints' field (pcn_trace_flow() in kmod/core/trace.h)."""
        return cls(*(flow >> shift & 0xFFFF for shift in (48, 32, 16, 0)))


@dataclass(frozen=True)
class Table:
    """The histograms of one event: by source, destination, queue and service.

    `messages` has how many and their bytes. `stages` has, by stage and key, the counts by powers of
    two of cycles. `dropped` messages found no room in one of them.
    """

    messages: Mapping[Key, tuple[int, int]]
    stages: Mapping[tuple[str, Key], tuple[int, ...]]
    dropped: int = 0

    @classmethod
    def parse(cls, text: str) -> Table:
        """Of the event's `hist` file."""
        fields = {_field(name): name for name in STAGES}
        messages: dict[Key, tuple[int, int]] = {}
        counts: dict[tuple[str, Key], list[int]] = {}
        dropped = 0
        for line in text.splitlines():
            if line.strip().startswith("Dropped:"):
                dropped += int(line.split(":")[1])
            found = _ENTRY.match(line)
            if found is None:
                continue
            values = dict(part.split(":") for part in found["keys"].split(", "))
            pairs = {name.strip(): value.strip() for name, value in values.items()}
            key = Key.unpacked(int(pairs.pop("flow")))
            if not pairs:
                messages[key] = int(found["hits"]), int(found["bytes"] or 0)
                continue
            ((name, value),) = pairs.items()
            # Up to this power of two, and more than the one before it.
            slot = max(0, int(value.removeprefix("~ 2^")) - 1)
            slots = counts.setdefault((fields[name], key), [])
            slots.extend([0] * (slot + 1 - len(slots)))
            slots[slot] += int(found["hits"])
        return cls(messages, {key: tuple(slots) for key, slots in counts.items()}, dropped)


def report(
    delivered: Table, queued: Table, here: Machine, seconds: float, options: Options
) -> Report:
    """A report of the same form as that of the BPF program."""
    node = None if options.node is None else node_id(options.node, here)
    service = None if options.service is None else Filter.parse(options.service, here.services)

    def wanted(key: Key) -> bool:
        return node in (None, *key[:2]) and (
            service is None or service.passes(key.dst, key.service)
        )

    def stage(name: str, key: Key) -> Stage:
        counts = delivered.stages.get((name, key))
        if counts is None:
            return Stage(name, CycleTimes())
        # The stage of a Latency is one of the fabric's, which has no name for all of these.
        times = Latency(key.src, key.dst, key.queue, LatencyStage.DELIVER, here.tsc_khz, counts)
        return Stage(name, CycleTimes(times))

    return Report(
        here,
        seconds,
        tuple(
            Arrivals(*key, messages, size, cpus={None: tuple(stage(name, key) for name in STAGES)})
            for key, (messages, size) in sorted(delivered.messages.items())
            if wanted(key)
        ),
        tuple(
            Departures(*key, messages, size)
            for key, (messages, size) in sorted(queued.messages.items())
            if wanted(key)
        ),
        missed=delivered.dropped + queued.dropped,
        view=options.view,
        source="ftrace",
    )


class Files:
    """The files of a tracefs, here those of this kernel; all of it raises OSError."""

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        path.mkdir()

    def rmdir(self, path: Path) -> None:
        """Remove a directory."""
        path.rmdir()

    def append(self, path: Path, text: str) -> None:
        """Write at the end: add a trigger, or take away one that begins with `!`."""
        # Not write_text(): to truncate the file takes away those that are there.
        with path.open("a") as file:
            file.write(text)

    def read(self, path: Path) -> str:
        """All that is in a file."""
        return path.read_text()


@contextlib.contextmanager
def _instance(base: Path, files: Files) -> Iterator[Path]:
    """The events of an instance of ftrace with the histograms; gone after the block."""
    instance = base.parent / "instances" / f"popcorn-{os.getpid()}"
    events = instance / "events" / "popcorn"
    done: list[tuple[Path, str]] = []
    try:
        files.mkdir(instance)
    except OSError as error:
        raise PopcornError(f"cannot make {instance}: {error.strerror}") from error
    try:
        for event, trigger in _triggers():
            # Before: a Ctrl-C may come when it is there and we do not know yet.
            done.append((events / event / "trigger", trigger))
            try:
                files.append(events / event / "trigger", trigger)
            except OSError as error:
                raise PopcornError(
                    f"the kernel takes no histogram of {event}: {error.strerror}",
                    "it needs CONFIG_HIST_TRIGGERS, and the module of this popcornctl's version",
                ) from error
        yield events
    finally:
        for path, trigger in reversed(done):
            with contextlib.suppress(OSError):
                files.append(path, f"!{trigger}")
        files.rmdir(instance)


@dataclass(frozen=True)
class Place:
    """A kernel to count in: the events of its tracefs, what it is, and how to get at its files.

    `name` is for people, and empty for this kernel.
    """

    events: Path
    here: Machine
    files: Files
    name: str = ""


@contextlib.contextmanager
def opened(options: Options, place: Place | None = None) -> Iterator[Session[Report]]:
    """As :func:`popcorn_tracing.latency.opened`, by ftrace; in this kernel unless `place` says."""
    if options.view.by == "cpu":
        raise UsageError("ftrace does not count by cpu here", "--source bpf does")
    if place is None:
        place = Place(tracefs_events(), machine(options.tsc_khz), Files())
    here, files = place.here, place.files
    # For their errors, before anything is set up.
    report(Table({}, {}), Table({}, {}), here, 0, options)
    with _instance(place.events, files) as events:
        begin = time.monotonic()

        def read() -> Report:
            delivered, queued = (
                Table.parse(files.read(events / event / "hist")) for event in (DELIVERED, QUEUED)
            )
            return report(delivered, queued, refreshed(here), time.monotonic() - begin, options)

        where = f" in '{place.name}'" if place.name else ""
        yield Session(
            f"counting the latency of messages{where} by ftrace", read, lambda: read().nr_delivered
        )
