# SPDX-License-Identifier: GPL-2.0
"""Everything that the module does, recorded for one timeline of all kernels in Perfetto.

The events of this kernel's tracepoints, and what its messages and the fabric tell of the others: a
message carries the stamps of its sender, and every kernel counts in the fabric what it received.
Events are kept as they are while the trace runs, and made into the file at its end.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from popcorn.client import Client
from popcorn.errors import PopcornError
from popcorn.models import LatencyStage
from popcorn_tracing import timeline
from popcorn_tracing.common import (
    Limits,
    Machine,
    UsageError,
    asked,
    begun,
    check,
    machine,
    refreshed,
    wait,
    writable,
)
from popcorn_tracing.events import EVENT, EVENTS, KINDS, Event, Sample, Summary
from popcorn_tracing.loader import loaded
from popcorn_tracing.programs import Programs
from popcorn_tracing.rings import RingReader, ring_pages

__all__ = ("Options", "run")

SOURCE = Path(__file__).with_suffix(".bpf.c")

BUFFER_BYTES = 8 << 20
LIMIT_BYTES = 64 << 20
LIMIT_MIN = 1 << 16

#: Time between two looks at what the other kernels counted, seconds.
SAMPLE_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """Where to write, and how much to keep.

    `buffer_bytes` is for events that wait to be taken out of the kernel, `limit_bytes` for all that
    are kept until the file is written.
    """

    output: Path
    buffer_bytes: int = BUFFER_BYTES
    limit_bytes: int = LIMIT_BYTES
    cache: bool = True

    def __post_init__(self) -> None:
        ring_pages(self.buffer_bytes)
        if self.limit_bytes < LIMIT_MIN:
            raise UsageError(f"a limit of {self.limit_bytes} bytes is too low", "64K at least")


class Spool:
    """Records in a file, as long as there are not more than fit into `limit` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit // EVENT.size
        self._count = 0
        self.kept: dict[str, int] = {}

    def add(self, data: bytes) -> None:
        """Keep a record if there is room."""
        if self._count == self._limit:
            return
        try:
            self._file.write(data[: EVENT.size].ljust(EVENT.size, b"\0"))
        except OSError as error:
            raise PopcornError(f"cannot keep the events: {error.strerror}") from error
        self._count += 1
        kind = KINDS[int.from_bytes(data[:4], "little")]
        self.kept[kind] = self.kept.get(kind, 0) + 1

    def __iter__(self) -> Iterator[Event]:
        self._file.seek(0)
        for _ in range(self._count):
            yield Event.parse(self._file.read(EVENT.size))


@contextlib.contextmanager
def _spool(directory: Path, limit: int) -> Iterator[Spool]:
    """In a file that has no name, so that nothing of it is left whatever happens."""
    try:
        file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
    except OSError as error:
        raise PopcornError(f"cannot write to {directory}: {error.strerror}") from error
    with file:
        yield Spool(file, limit)


class Recorder(RingReader):
    """Keeps what comes out of the buffer, and asks the fabric every second."""

    def __init__(
        self, program: Programs, spool: Spool, sample: Callable[[], Sample | None]
    ) -> None:
        super().__init__(program)
        self._spool = spool
        self._sample = sample
        self._due = 0.0
        self.samples: list[Sample] = []
        self.look()

    def take(self, data: bytes) -> None:
        """Keep an event."""
        self._spool.add(data)

    def look(self) -> None:
        """Ask the fabric."""
        found = self._sample()
        if found is not None:
            self.samples.append(found)
        self._due = time.monotonic() + SAMPLE_SECONDS

    def pause(self, seconds: float) -> None:
        """Wait so long, and keep what comes."""
        super().pause(seconds)
        if time.monotonic() >= self._due:
            self.look()

    def stop(self) -> None:
        """No event comes any more; keep what is in the buffer."""
        self.program.detach()
        # Ctrl-C again: what is left is not kept, but how much it was is said.
        with contextlib.suppress(KeyboardInterrupt):
            self.rest()
        self.look()

    def _numbers(self, name: str) -> dict[str, int]:
        table = self.program[name]
        return {kind: table.sum(n) for n, kind in enumerate(KINDS)}

    def summary(self, path: Path) -> Summary:
        """What became of the events."""
        seen, lost = self._numbers("seen"), self._numbers("lost")
        return Summary(path, seen, lost, self._spool.kept, self.program.missed())


def _sample(client: Callable[[], Client] = Client) -> Sample | None:
    """What the fabric tells now; nothing if it cannot be asked any more."""

    def delivered(module: Client) -> Sample:
        found = [item for item in module.latencies() if item.stage == LatencyStage.DELIVER]
        counts = {(item.src, item.dst, item.queue): item.n for item in found}
        return Sample(time.monotonic_ns(), counts)

    return asked(delivered, None, client)


def _write(path: Path, spool: Spool, samples: list[Sample], here: Machine, end: Summary) -> None:
    """Write the file as a whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as out:
            timeline.write(out, spool, samples, here, end)
        partial.replace(path)
    except OSError as error:
        raise PopcornError(f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def run(
    options: Options,
    limits: Limits,
    *,
    ready: Callable[[str], None],
    end: Callable[[Summary], None],
    output: IO[str] | None = None,
) -> int:
    """Record, and write the file at the end; `end` gets what became of the events.

    `ready` gets a line when recording has begun, and one when it is over. The rest is as with
    :func:`popcorn_tracing.flow.run`.
    """
    writable(options.output)
    check(EVENTS)
    here = machine()
    defines = {"PAGES": ring_pages(options.buffer_bytes)}
    with _spool(options.output.parent, options.limit_bytes) as spool:
        with loaded(SOURCE, defines, EVENTS, cached=options.cache) as program:
            recorder = Recorder(program, spool, _sample)
            ready(begun("recording", limits))
            status = wait(limits, recorder.stop, lambda: 0, output, recorder.pause)
            summary = recorder.summary(options.output)
        ready(f"writing {options.output}")
        _write(options.output, spool, recorder.samples, refreshed(here), summary)
    end(summary)
    return status
