# SPDX-License-Identifier: GPL-2.0
"""Tables, pairs, histograms and JSON on standard output; progress on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

import click

from popcorn.models import Bucket

__all__ = ("Progress", "histogram", "pairs", "print_json", "print_json_line", "state", "table")

HISTOGRAM_STARS = 40

_COLOURS = {
    "running": "green",
    "up": "green",
    "ok": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "expected": "yellow",
    "joining": "yellow",
    "warn": "yellow",
    "crashed": "red",
    "killed": "red",
    "hung": "red",
    "up, shut": "red",
    "down": "yellow",
    "fail": "red",
}


def coloured(stream: IO[str]) -> bool:
    """Whether colour belongs on the stream: a terminal, and nobody said NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def state(word: str, padded: str | None = None) -> str:
    """A state in its colour, or as it is; `padded` is what to show for it."""
    shown = word if padded is None else padded
    if word in _COLOURS and coloured(sys.stdout):
        return click.style(shown, fg=_COLOURS[word])
    return shown


def print_json(value: Any) -> None:
    """One JSON value, indented."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """One JSON value on one line, out at once: for streams."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell, two spaces apart; nothing after the last one.

    A column whose header is STATE or STATUS gets the colour of the state.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    print("  ".join(h.ljust(w) for h, w in zip(headers, widths, strict=True)).rstrip())
    for row in cells:
        line = []
        for header, width, cell in zip(headers, widths, row, strict=True):
            padded = cell.ljust(width)
            line.append(state(cell, padded) if header in ("STATE", "STATUS") else padded)
        print("  ".join(line).rstrip())


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Names and values, one to a line, the values aligned."""
    listed = [(name, str(value)) for name, value in rows]
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        print(f"{name.ljust(width)}  {state(value) if name == 'state' else value}".rstrip())


def histogram(buckets: Sequence[Bucket], unit: str) -> None:
    """A log2 histogram as the bcc tools print them."""
    if not buckets:
        return
    most = max(bucket.count for bucket in buckets)
    width = max(9, len(str(buckets[-1].high)))
    print(f"{unit:>{2 * width + 4}} : count     distribution")
    for bucket in buckets:
        stars = "*" * (HISTOGRAM_STARS * bucket.count // most)
        values = f"{bucket.low:>{width}} -> {bucket.high:<{width}}"
        print(f"{values} : {bucket.count:<8} |{stars:<{HISTOGRAM_STARS}}|")


class Progress:
    """Stages of something that takes a while, on standard error.

    On a terminal one line that changes until its stage is done; elsewhere one line per stage that
    is done, so that a log reads well.
    """

    def __init__(self, stream: IO[str] | None = None, *, silent: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._silent = silent
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._open = False

    def __call__(self, name: str, detail: str, seconds: float | None) -> None:
        """Stage `name` is at `detail`; `seconds` is given when it is done."""
        if self._silent:
            return
        if seconds is not None:
            line = f"{name:<6} {detail}  ({seconds:.1f} s)"
            self._write(f"\r\x1b[K{line}\n" if self._live else f"{line}\n")
            self._open = False
        elif self._live:
            self._write(f"\r\x1b[K{name:<6} {detail} ...")
            self._open = True

    def close(self) -> None:
        """End a line that is still open, so that what follows starts on one of its own."""
        if self._open:
            self._write("\n")
            self._open = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
