# SPDX-License-Identifier: GPL-2.0
"""Latency over time: the histograms of :mod:`popcorn_tracing.latency`, one for each interval.

The same data from the same sources; what is shown of an interval is the difference of two reports.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape

from popcorn_tracing import fabric, latency
from popcorn_tracing.common import Limits, Session, UsageError, begun, wait, writable
from popcorn_tracing.latency import Report, View

__all__ = ("SHADES", "Column", "Options", "level", "run", "svg")

#: From none to most.
SHADES = " .:-=+*#%@"

#: Powers of two of nanoseconds that a line has room for: 256 ns to a second. What is outside of
#: them is in the first and the last.
FIRST, LAST = 8, 29

Bounds = tuple[int, int]


@dataclass(frozen=True)
class Options:
    """What to show: the times of `stage`, each `interval` seconds, from `source` (bpf or fabric).

    `svg` is a file to be written at the end.
    """

    node: str | None = None
    service: str | None = None
    stage: str = "queued-delivered"
    source: str = "bpf"
    interval: float = 1.0
    svg: Path | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        if self.interval <= 0:
            raise UsageError("the interval must be more than 0 seconds")


@dataclass(frozen=True)
class Column:
    """The messages of one interval: `begin` and `end` in seconds since the trace began.

    `counts` has how many took from the first to the last nanosecond of each power of two.
    """

    begin: float
    end: float
    counts: Mapping[Bounds, int]

    @property
    def count(self) -> int:
        """All messages that went through the stage."""
        return sum(self.counts.values())

    def cells(self) -> tuple[int, ...]:
        """The counts from FIRST to LAST, each by where the middle of its bounds is."""
        found = [0] * (LAST - FIRST + 1)
        for (low, high), count in self.counts.items():
            slot = max((low + high) // 2, 1).bit_length() - 1
            found[min(max(slot, FIRST), LAST) - FIRST] += count
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "begin": round(self.begin, 3),
            "end": round(self.end, 3),
            "count": self.count,
            "histogram": [
                {"low_ns": low, "high_ns": high, "count": count}
                for (low, high), count in sorted(self.counts.items())
            ],
        }


def level(count: int, most: int, levels: int) -> int:
    """How dark `count` is, from 0 for none to `levels` - 1 for `most`; by the logarithm."""
    if count <= 0:
        return 0
    if most <= 1:
        return levels - 1
    return 1 + round((levels - 2) * math.log(min(count, most)) / math.log(most))


class Recorder:
    """Makes columns out of reports, one whenever an interval is over."""

    def __init__(
        self, session: Session[Report], options: Options, show: Callable[[Column], None]
    ) -> None:
        self._session = session
        self._options = options
        self._show = show
        self._before: Mapping[Bounds, int] = {}
        self._begin = self._last = time.monotonic()
        self._due = self._begin + options.interval
        self.columns: list[Column] = []
        self.missed = 0

    def pause(self, seconds: float) -> None:
        """Let so many seconds pass; what is due meanwhile is shown."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if now >= self._due:
                self.take()
                while self._due <= now:
                    self._due += self._options.interval
            time.sleep(max(0.0, min(self._due, end) - time.monotonic()))

    def take(self) -> None:
        """A column of all since the last one."""
        report = self._session.read()
        now = time.monotonic()
        counts = self._counts(report)
        added = {bounds: n - self._before.get(bounds, 0) for bounds, n in counts.items()}
        column = Column(
            self._last - self._begin,
            now - self._begin,
            {bounds: n for bounds, n in added.items() if n > 0},
        )
        self._before, self._last, self.missed = counts, now, report.missed
        self.columns.append(column)
        self._show(column)

    def _counts(self, report: Report) -> dict[Bounds, int]:
        stage = next(s for s in report.stages() if s.name == self._options.stage)
        return {(b.low, b.high): b.count for b in stage.times.buckets() if b.count}


# a picture

CELL_WIDTH, CELL_HEIGHT = 12, 16
LEFT, TOP, BOTTOM = 70, 40, 40
#: From few messages to many.
COLOURS = ("#fff3e0", "#ffd49a", "#ffb04d", "#f98315", "#dd5409", "#ad2b0c", "#74110f", "#3b0410")


def nanos(value: int) -> str:
    """A time for people, of nanoseconds: 256 ns, 4.1 µs, 1.05 ms."""
    for limit, unit in ((10**9, "s"), (10**6, "ms"), (10**3, "µs")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value} ns"


def svg(columns: Sequence[Column], title: str) -> str:
    """The columns as a picture: time to the right, latency upwards, a title for each cell."""
    rows = sorted({bounds for column in columns for bounds in column.counts})
    most = max((n for column in columns for n in column.counts.values()), default=0)
    # Those that nothing was in, in between, are shown empty.
    lows = _ladder(rows)
    width = LEFT + CELL_WIDTH * max(len(columns), 1) + 20
    height = TOP + CELL_HEIGHT * max(len(lows), 1) + BOTTOM
    bottom = TOP + CELL_HEIGHT * max(len(lows), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 480)}" height="{height}"'
        ' font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for row, (low, _) in enumerate(lows):
        y = bottom - CELL_HEIGHT * row
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{nanos(low)}</text>')
    for number, column in enumerate(columns):
        x = LEFT + CELL_WIDTH * number
        if number % 10 == 0:
            parts.append(f'<text x="{x}" y="{bottom + 16}">{column.begin:.0f} s</text>')
        for row, bounds in enumerate(lows):
            count = column.counts.get(bounds, 0)
            if not count:
                continue
            colour = COLOURS[level(count, most, len(COLOURS) + 1) - 1]
            y = bottom - CELL_HEIGHT * (row + 1)
            tip = (
                f"{column.begin:.1f} to {column.end:.1f} s,"
                f" {nanos(bounds[0])} to {nanos(bounds[1])}: {count}"
            )
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL_WIDTH}" height="{CELL_HEIGHT}"'
                f' fill="{colour}"><title>{escape(tip)}</title></rect>'
            )
    parts.append(
        f'<path d="M{LEFT} {TOP}V{bottom}H{LEFT + CELL_WIDTH * max(len(columns), 1)}"'
        ' fill="none" stroke="black"/>'
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _ladder(rows: Sequence[Bounds]) -> list[Bounds]:
    """All rows from the first to the last: those that are missing in between are made up."""
    found: list[Bounds] = []
    for low, high in rows:
        while found and found[-1][1] + 1 < low:
            below = found[-1][1] + 1
            # Twice as wide as the one below; not into the next one, whatever rounding does.
            found.append((below, min(2 * below - 1, low - 1)))
        found.append((low, high))
    return found


def run(
    options: Options,
    limits: Limits,
    *,
    show: Callable[[Column], None],
    ready: Callable[[str], None],
    output: IO[str] | None = None,
    opened: Callable[[latency.Options], Any] | None = None,
) -> int:
    """Trace, and hand a column to `show` after every interval, and one for the rest at the end.

    Otherwise as :func:`popcorn_tracing.latency.run`.
    """
    view = View("stage", (options.stage,))
    wanted = latency.Options(options.node, options.service, view=view, cache=options.cache)
    if options.svg is not None:
        writable(options.svg)
    if opened is None:
        opened = fabric.opened if options.source == "fabric" else latency.opened
    with opened(wanted) as session:
        recorder = Recorder(session, options, show)
        ready(begun(session.what, limits))
        status = wait(limits, recorder.take, session.messages, output, recorder.pause)
    if options.svg is not None:
        title = f"{options.stage.replace('-', ' to ')}, {options.interval:g} s a column"
        options.svg.write_text(svg(recorder.columns, title))
    if recorder.missed:
        ready(f"{recorder.missed} events were missed and are in none of the numbers")
    return status
