# SPDX-License-Identifier: GPL-2.0
"""The start of a kernel, stage by stage: what takes how long until it runs.

It is a handful of events, so ftrace itself records them, in an instance of its own: neither bcc nor
the headers of the running kernel are needed, and tracing has begun at once.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from popcorn.client import Client
from popcorn.errors import PopcornError
from popcorn.models import KernelState, label
from popcorn_tracing.common import Limits, Machine, Session, asked, machine, tracefs_events
from popcorn_tracing.events import START_STAGES

__all__ = ("Event", "Report", "Stage", "Start", "events", "run", "starts")

STAGE = "popcorn_kernel_stage"
STATE = "popcorn_kernel_state"

#: Stages that a start begins with: of a new kernel, and of one that has its lease.
FIRST = ("memory", "wipe")

#: For each CPU. An event takes some 40 bytes.
BUFFER_KB = 64

_EVENT = re.compile(
    r" popcorn_kernel_(?P<kind>stage|state): kernel=(?P<kernel>\d+) (?P=kind)=(?P<value>\d+)"
    r" tsc=(?P<tsc>\d+)$"
)
_WRITTEN = re.compile(r"entries-in-buffer/entries-written: (\d+)/(\d+)")


@dataclass(frozen=True)
class Event:
    """A stage that began (`stage` is its name), or a state that a kernel got (`state`)."""

    kernel: int
    tsc: int
    stage: str | None = None
    state: KernelState | None = None


@dataclass(frozen=True)
class Stage:
    """A stage: from when, since the start began, and how long, both nanoseconds.

    `ns` is None for the last one of a start whose end was not seen.
    """

    name: str
    begin_ns: int
    ns: int | None

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {"name": self.name, "begin_ns": self.begin_ns, "ns": self.ns}


@dataclass(frozen=True)
class Start:
    """A start of a kernel; `whole` if its beginning was seen.

    `state` is what it ended in: running, or what became of it instead; None if that was not seen.
    """

    kernel: int
    stages: tuple[Stage, ...]
    state: KernelState | None
    whole: bool

    @property
    def ns(self) -> int | None:
        """From the first stage to the end, nanoseconds; None without an end."""
        last = self.stages[-1]
        return None if last.ns is None else last.begin_ns + last.ns

    def to_json(self, names: Mapping[int, str]) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "kernel": self.kernel,
            "name": names.get(self.kernel),
            "state": None if self.state is None else label(self.state),
            "whole": self.whole,
            "ns": self.ns,
            "stages": [stage.to_json() for stage in self.stages],
        }


@dataclass(frozen=True)
class Report:
    """The starts that were seen. `missed` events are in none of them."""

    starts: tuple[Start, ...]
    names: Mapping[int, str]
    missed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "missed": self.missed,
            "starts": [start.to_json(self.names) for start in self.starts],
        }


def _known(state: int) -> KernelState | None:
    try:
        return KernelState(state)
    except ValueError:
        return None


def events(text: str) -> tuple[tuple[Event, ...], int]:
    """What ftrace's file `trace` has, by the events' own stamps, and how many it lost."""
    found: list[Event] = []
    missed = 0
    for line in text.splitlines():
        match = _EVENT.search(line)
        if match is None:
            if written := _WRITTEN.search(line):
                missed = int(written[2]) - int(written[1])
            continue
        kernel, value, tsc = (int(match[name]) for name in ("kernel", "value", "tsc"))
        if match["kind"] == "state":
            found.append(Event(kernel, tsc, state=_known(value)))
        else:
            # A newer module may have stages that have no name here.
            name = START_STAGES[value] if value < len(START_STAGES) else str(value)
            found.append(Event(kernel, tsc, stage=name))
    # A kernel that joined has stamped that itself, before it was seen.
    return tuple(sorted(found, key=lambda event: event.tsc)), missed


def starts(found: Iterable[Event], tsc_khz: int) -> tuple[Start, ...]:
    """The starts that events in their order tell of."""
    done: list[tuple[int, Start]] = []
    under_way: dict[int, list[Event]] = {}

    def end(kernel: int, tsc: int | None, state: KernelState | None) -> None:
        stages = under_way.pop(kernel, None)
        if not stages:
            return
        first = stages[0].tsc
        ends = [*(stage.tsc for stage in stages[1:]), tsc]

        def nanoseconds(cycles: int) -> int:
            return cycles * 1_000_000 // tsc_khz

        # Differences of rounded times, so that the stages' sum is the whole.
        rows = tuple(
            Stage(
                stage.stage or "",
                nanoseconds(stage.tsc - first),
                None if to is None else nanoseconds(to - first) - nanoseconds(stage.tsc - first),
            )
            for stage, to in zip(stages, ends, strict=True)
        )
        done.append((first, Start(kernel, rows, state, stages[0].stage in FIRST)))

    for event in found:
        if event.stage in FIRST:
            # Whatever there was before came to no end that was seen.
            end(event.kernel, None, None)
        if event.stage is not None:
            under_way.setdefault(event.kernel, []).append(event)
        elif event.state not in (None, KernelState.LEASED, KernelState.STARTING):
            end(event.kernel, event.tsc, event.state)
    for kernel in list(under_way):
        end(kernel, None, None)
    return tuple(start for _, start in sorted(done, key=lambda pair: pair[0]))


@contextlib.contextmanager
def _instance(base: Path) -> Iterator[Path]:
    """An instance of ftrace that records the events; gone after the block."""
    instance = base.parent / "instances" / f"popcorn-boot-{os.getpid()}"
    try:
        instance.mkdir()
    except OSError as error:
        raise PopcornError(f"cannot make {instance}: {error.strerror}") from error
    try:
        settings = {"buffer_size_kb": str(BUFFER_KB)} | {
            f"events/popcorn/{event}/enable": "1" for event in (STAGE, STATE)
        }
        for name, value in settings.items():
            try:
                (instance / name).write_text(value)
            except OSError as error:
                raise PopcornError(
                    f"the kernel does not take {name}: {error.strerror}",
                    "use the popcornctl and the popcorn module of the same version",
                ) from error
        yield instance
    finally:
        instance.rmdir()


def _names(client: Callable[[], Client] = Client) -> dict[int, str]:
    """Kernels' names; nothing if the module cannot be asked any more."""
    return asked(lambda module: {k.id: k.name for k in module.kernels()}, {}, client)


def run(
    limits: Limits,
    *,
    show: Callable[[Report], None],
    ready: Callable[[str], None],
    output: IO[str] | None = None,
) -> int:
    """Record until `limits` say so, and hand the report to `show`.

    Otherwise as :func:`popcorn_tracing.latency.run`.
    """
    base = tracefs_events()
    here: Machine = machine()
    with _instance(base) as instance:

        def read() -> Report:
            found, missed = events((instance / "trace").read_text())
            return Report(starts(found, here.tsc_khz), {**here.names, **_names()}, missed)

        session = Session("recording starts of kernels", read, lambda: 0)
        return session.watch(limits, show=show, ready=ready, output=output)
