# SPDX-License-Identifier: GPL-2.0
"""What the tools share: checks before anything is loaded, limits, and log2 histograms."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Generic, Protocol, Self, TypeVar

from popcorn.client import Client
from popcorn.errors import (
    ModuleMissingError,
    NotFoundError,
    PermissionDeniedError,
    PopcornError,
)
from popcorn.models import Bucket
from popcorn_tracing.services import Names, service_name

__all__ = (
    "FIGURES",
    "CannotCompileError",
    "Limits",
    "LogHistogram",
    "Machine",
    "Session",
    "Times",
    "UsageError",
    "asked",
    "begun",
    "check",
    "machine",
    "node_id",
    "refreshed",
    "tracefs_events",
    "wait",
    "writable",
)

Answer = TypeVar("Answer")

#: The report of a tool.
Told = TypeVar("Told")

TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
LOCKDOWN = Path("/sys/kernel/security/lockdown")

#: Time between two looks at how many messages came, seconds.
POLL_SECONDS = 0.1


class UsageError(PopcornError):
    """Options that do not go together."""

    exit_code = 2


class CannotCompileError(PopcornError):
    """bcc is missing, or does not get along with this kernel."""


# what is there to trace


@dataclass(frozen=True)
class Machine:
    """What a tool has to know of this kernel.

    `tsc_khz` is the rate of the time stamps in kHz; `node_id` is None and `names` (node id to name)
    and `services` empty if the module could not be asked.
    """

    tsc_khz: int
    node_id: int | None
    names: Mapping[int, str]
    services: Names = field(default_factory=dict)

    def service(self, node: int, number: int) -> str:
        """The name of a service of a node, or its number as text."""
        return service_name(self.services, node, number)


def asked(
    question: Callable[[Client], Answer], nothing: Answer, client: Callable[[], Client] = Client
) -> Answer:
    """What the module answers; `nothing` if it cannot be asked any more."""
    try:
        with client() as opened:
            return question(opened)
    except PopcornError:
        return nothing


def machine(tsc_khz: int | None = None, client: Callable[[], Client] = Client) -> Machine:
    """Ask the module. If it cannot be asked and the caller knows the rate, that alone is used."""
    try:
        with client() as asked:
            fabric = asked.fabric()
            names = {node.id: node.name for node in asked.nodes()}
            services = {(service.node_id, service.id): service.name for service in asked.services()}
    except PopcornError:
        if tsc_khz is None:
            raise
        return Machine(tsc_khz, None, {})
    return Machine(tsc_khz or fabric.tsc_khz, fabric.node_id, names, services)


def refreshed(here: Machine, client: Callable[[], Client] = Client) -> Machine:
    """The same with the names that came meanwhile; those that are gone are kept."""
    now = machine(here.tsc_khz, client)
    return replace(
        here, names={**here.names, **now.names}, services={**here.services, **now.services}
    )


def node_id(text: str, here: Machine) -> int:
    """The node that a name or a number means; NotFoundError if the machine has no such node."""
    if text.isdecimal():
        if here.names and int(text) not in here.names:
            raise NotFoundError(f"there is no node {text}", "see: popcornctl node list")
        return int(text)
    for number, name in here.names.items():
        if name == text:
            return number
    raise NotFoundError(f"there is no node '{text}'", "see: popcornctl node list")


# what is in the way


def check(
    events: Mapping[str, Sequence[str]],
    *,
    tracefs: Sequence[Path] = TRACEFS,
    lockdown: Path = LOCKDOWN,
) -> None:
    """Say what a trace of `events` (tracepoint of subsystem popcorn to its fields) would fail for.

    Asked before bcc, whose own complaints come after many seconds and name neither the cause nor
    the remedy. The field order of a tracepoint is that of its arguments, which raw tracepoints are
    read by, so another order than the tool's is refused.
    """
    base = tracefs_events(tracefs, lockdown)
    for event, fields in events.items():
        path = base / "popcorn" / event / "format"
        # Fields after those of the tool are new to it, or are none of the arguments.
        if not path.exists() or _fields(path.read_text())[: len(fields)] != tuple(fields):
            raise PopcornError(
                f"the loaded module's tracepoint {event} is not the one that this tool knows",
                "use the popcornctl and the popcorn module of the same version",
            )


def tracefs_events(tracefs: Sequence[Path] = TRACEFS, lockdown: Path = LOCKDOWN) -> Path:
    """Where the events are that may be traced; raises what is in the way."""
    if os.geteuid() != 0:
        raise PermissionDeniedError("tracing needs root", "run it with sudo")
    if lockdown.exists() and "[confidentiality]" in lockdown.read_text():
        raise PermissionDeniedError(
            "the kernel is locked down (confidentiality): nothing may be traced",
            "boot without lockdown=confidentiality",
        )
    base = next((path / "events" for path in tracefs if (path / "events").is_dir()), None)
    if base is None:
        raise PopcornError("tracefs is not mounted", f"mount -t tracefs nodev {tracefs[0]}")
    if not (base / "popcorn").is_dir():
        raise ModuleMissingError("the module popcorn is not loaded", "modprobe popcorn_host")
    return base


def _fields(text: str) -> tuple[str, ...]:
    """The fields of a tracefs format file but the common ones."""
    names = [
        line.split(";")[0].split()[-1] for line in text.splitlines() if line.startswith("\tfield:")
    ]
    return tuple(name for name in names if not name.startswith("common_"))


# how long


@dataclass(frozen=True)
class Limits:
    """When to report and when to end.

    Every `interval` seconds a report, at most `reports` of them; an end after `duration` seconds,
    after `messages` delivered ones, or with `command`. Without any, the end is Ctrl-C.
    """

    interval: float | None = None
    reports: int | None = None
    duration: float | None = None
    messages: int | None = None
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.interval is not None and self.interval <= 0:
            raise UsageError("the interval must be more than 0 seconds")
        if self.command and (self.duration or self.messages or self.interval):
            raise UsageError("a COMMAND ends the trace itself: give no other limit with it")


def wait(
    limits: Limits,
    report: Callable[[], None],
    messages: Callable[[], int],
    output: IO[str] | None = None,
    pause: Callable[[float], None] | None = None,
) -> int:
    """Call `report` as `limits` say, and once at the end; `messages` tells how many came so far.

    `output` is where a command's standard output goes, if not where ours does. `pause` lets so many
    seconds pass, for a tool that has something to do meanwhile. Returns the command's exit status
    as a shell gives it, 0 without a command. Ctrl-C ends the wait, too.
    """
    if limits.command:
        status = _run(limits.command, output, pause)
        report()
        return status
    try:
        if _reported_all(limits, report, messages, pause or time.sleep):
            return 0
    except KeyboardInterrupt:
        pass
    report()
    return 0


def begun(what: str, limits: Limits) -> str:
    """What is said when a trace has begun."""
    return what + ("" if limits.command else ", Ctrl-C ends it")


@dataclass(frozen=True)
class Session(Generic[Told]):
    """A trace that has begun: `read` gives a report, `messages` how many of what it counts came.

    `what` says what is being done, for people.
    """

    what: str
    read: Callable[[], Told]
    messages: Callable[[], int]

    def watch(
        self,
        limits: Limits,
        *,
        show: Callable[[Told], None],
        ready: Callable[[str], None],
        output: IO[str] | None = None,
    ) -> int:
        """Say so, and hand a report to `show` whenever `limits` say; otherwise as wait()."""
        ready(begun(self.what, limits))
        return wait(limits, lambda: show(self.read()), self.messages, output)


def _reported_all(
    limits: Limits,
    report: Callable[[], None],
    messages: Callable[[], int],
    pause: Callable[[float], None],
) -> bool:
    """Wait; whether the reports that were asked for have all been made."""
    begin = time.monotonic()
    end = begin + (math.inf if limits.duration is None else limits.duration)
    step = math.inf if limits.interval is None else limits.interval
    made = 0
    while True:
        now = time.monotonic()
        due = begin + (made + 1) * step
        # However late we are: what was due before the end is reported, and nothing after it.
        if due < end and now >= due:
            report()
            made += 1
            if made == limits.reports:
                return True
            continue
        if now >= end or (limits.messages is not None and messages() >= limits.messages):
            return False
        left = min(due, end) - now
        pause(min(left, POLL_SECONDS if limits.messages is not None else 1.0))


def _run(
    command: Sequence[str], output: IO[str] | None, pause: Callable[[float], None] | None
) -> int:
    try:
        process = subprocess.Popen(command, stdout=output)
    except OSError as error:
        raise PopcornError(f"cannot run '{command[0]}': {error.strerror}") from error
    while True:
        # A Ctrl-C goes to the command, too: it is the one to say what becomes of it.
        with contextlib.suppress(KeyboardInterrupt):
            while pause and process.poll() is None:
                _pause_beside(process, pause)
            status = process.wait()
            return 128 - status if status < 0 else status


def _pause_beside(process: subprocess.Popen[Any], pause: Callable[[float], None]) -> None:
    """Pause; if that fails, as when nobody reads our output any more, the command ends, too."""
    try:
        pause(POLL_SECONDS)
    except Exception:
        process.terminate()
        process.wait()
        raise


# files


def writable(path: Path) -> None:
    """Refuse a file that cannot be written before anything is traced; makes none that was not."""
    new = not path.exists()
    try:
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise PopcornError(f"cannot write {path}: {error.strerror}") from error


# histograms

#: Shares that a report tells beside the least and the greatest time: name in JSON to share.
FIGURES: Mapping[str, float] = {"median_ns": 0.5, "p99_ns": 0.99, "p999_ns": 0.999}


class Times(Protocol):
    """Times in nanoseconds that were counted, by whatever source."""

    @property
    def count(self) -> int:
        """How many."""

    @property
    def minimum(self) -> int:
        """The least; 0 without any."""

    @property
    def maximum(self) -> int:
        """The greatest; 0 without any."""

    @property
    def mean(self) -> int | None:
        """The average; None without any, and if the source does not tell."""

    def percentile(self, share: float) -> int | None:
        """About what `share` (0 to 1) of all do not exceed; None without any."""

    def buckets(self) -> tuple[Bucket, ...]:
        """The rows of a histogram."""

    @classmethod
    def merged(cls, parts: Iterable[Self]) -> Self:
        """All `parts` as one."""


@dataclass(frozen=True)
class LogHistogram:
    """Times in nanoseconds, counted by powers of two: slot 0 is 0 to 1, slot n is 2^n to 2^(n+1)-1.

    `count`, `total`, `minimum` and `maximum` are exact. The last slot holds all that is larger.
    """

    count: int = 0
    total: int = 0
    minimum: int = 0
    maximum: int = 0
    slots: tuple[int, ...] = ()

    @classmethod
    def of(cls, cell: Any) -> Self:
        """From a struct numbers (numbers.bpf.h)."""
        return cls(cell.count, cell.total, cell.min, cell.max, tuple(cell.slots))

    @classmethod
    def merged(cls, parts: Iterable[Self]) -> Self:
        """All of `parts`, e.g. those of the CPUs, as one. The parts have equally many slots."""
        filled = [part for part in parts if part.count]
        if not filled:
            return cls()
        return cls(
            sum(part.count for part in filled),
            sum(part.total for part in filled),
            min(part.minimum for part in filled),
            max(part.maximum for part in filled),
            tuple(map(sum, zip(*(part.slots for part in filled), strict=True))),
        )

    @property
    def mean(self) -> int | None:
        """Average, nanoseconds; None if nothing was counted."""
        return round(self.total / self.count) if self.count else None

    def percentile(self, share: float) -> int | None:
        """About the time that `share` (0 to 1) of all times do not exceed; None without any.

        Nearest rank, as if the times of a slot were spread over it evenly: the right slot is
        certain, the place in it is not. Never outside of the minimum and maximum.
        """
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        before = 0
        for slot, count in enumerate(self.slots):
            if before + count >= rank:
                low = (1 << slot) if slot else 0
                width = (2 << slot) - low
                value = low + int(width * (rank - before - 0.5) / count)
                return min(max(value, self.minimum), self.maximum)
            before += count
        return self.maximum

    def buckets(self) -> tuple[Bucket, ...]:
        """The rows from the first to the last that is not empty."""
        used = [slot for slot, count in enumerate(self.slots) if count]
        if not used:
            return ()
        return tuple(
            Bucket((1 << slot) if slot else 0, (2 << slot) - 1, self.slots[slot])
            for slot in range(used[0], used[-1] + 1)
        )
