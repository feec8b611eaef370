# SPDX-License-Identifier: GPL-2.0
"""Heat maps: columns out of reports, shades, the picture, and the words around them."""

from __future__ import annotations

import contextlib
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import tracing_host

from popcorn.cli import main
from popcorn.cli.trace import heatmap as cli_trace
from popcorn.errors import PopcornError
from popcorn_tracing import common, heatmap, latency
from popcorn_tracing.common import Limits, LogHistogram, Machine, Session, UsageError
from popcorn_tracing.heatmap import Column
from popcorn_tracing.latency import STAGES, Arrivals, Report, Stage

HERE = Machine(2_000_000, 0, {})


def report(fast: int, slow: int, missed: int = 0) -> Report:
    """So many messages of 1024 to 2047 ns, so many of 2^20 ns and more, the whole way."""
    slots = [0] * 40
    slots[10], slots[20] = fast, slow
    whole = LogHistogram(fast + slow, 0, 1024, 1 << 20, tuple(slots))
    stages = tuple(
        Stage(name, whole if name == "queued-delivered" else LogHistogram()) for name in STAGES
    )
    flow = Arrivals(1, 0, 0, 1, fast + slow, 0, {0: stages})
    return Report(HERE, 1.0, (flow,), missed=missed)


class Source:
    """A trace that gives `reports`, one after the other, and the last one again and again."""

    def __init__(self, *reports: Report) -> None:
        self.reports = list(reports)
        self.options: latency.Options | None = None

    def read(self) -> Report:
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    @contextlib.contextmanager
    def __call__(self, options: latency.Options):
        self.options = options
        yield Session("tracing", self.read, lambda: 0)


def run(source: Source, limits: Limits, **options: object) -> list[Column]:
    columns: list[Column] = []
    status = heatmap.run(
        heatmap.Options(**options), limits, show=columns.append, ready=print, opened=source
    )
    assert status == 0
    return columns


LONG, SHORT = (1 << 20, (2 << 20) - 1), (1024, 2047)


class Clock:
    """Time that passes in sleep() alone, and exactly as long as asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_column_is_what_came_since_the_last_one(monkeypatch) -> None:
    clock = Clock()
    for module in (common, heatmap):
        monkeypatch.setattr(module, "time", clock)
    source = Source(report(9_000, 0), report(9_970, 2), report(9_970, 3))
    # Powers of two, so that the sums of the clock are exact.
    columns = run(source, Limits(duration=0.625), interval=0.25)
    assert [dict(column.counts) for column in columns] == [
        {SHORT: 9_000}, {SHORT: 970, LONG: 2}, {LONG: 1}
    ]  # fmt: skip
    assert sum(column.count for column in columns) == 9_973
    assert [(column.begin, column.end) for column in columns] == [
        (0, 0.25), (0.25, 0.5), (0.5, 0.625)
    ]  # fmt: skip
    assert source.options.view.stages == ("queued-delivered",)


def test_a_command_is_watched_all_along(tmp_path: Path) -> None:
    over = tmp_path / "over"

    class Until(Source):
        """Ends the command with the second reading."""

        read_before = False

        def read(self) -> Report:
            if self.read_before:
                over.touch()
            self.read_before = True
            return super().read()

    # It ends on its own, too, so that a trace that does not watch it fails instead of waiting.
    script = f"for _ in $(seq 1000); do [ -e '{over}' ] && exit; sleep 0.01; done; exit 1"
    columns = run(Until(report(1, 0)), Limits(command=("sh", "-c", script)), interval=0.01)
    assert len(columns) >= 3
    assert sum(column.count for column in columns) == 1


def test_another_stage() -> None:
    columns = run(Source(report(5, 5)), Limits(duration=0.01), stage="interrupt-poll")
    assert [column.count for column in columns] == [0]


def test_what_was_missed_is_said(capsys) -> None:
    run(Source(report(5, 5, missed=3)), Limits(duration=0.01))
    assert "3 events were missed" in capsys.readouterr().out


def test_cells_are_from_end_to_end() -> None:
    counts = {(0, 1): 1, (256, 511): 2, SHORT: 3, LONG: 4, (1 << 35, (2 << 35) - 1): 5}
    cells = Column(0, 1, counts).cells()
    assert len(cells) == heatmap.LAST - heatmap.FIRST + 1
    assert (cells[0], cells[2], cells[12], cells[-1]) == (3, 3, 4, 5)
    assert sum(cells) == 15
    # Powers of two of cycles are not those of nanoseconds: the middle counts.
    assert Column(0, 1, {(853, 1706): 1}).cells()[2] == 1


def test_darkness() -> None:
    assert [heatmap.level(n, 1000, 10) for n in (0, 1, 1000, 5000)] == [0, 1, 9, 9]
    assert heatmap.level(1, 1, 10) == 9
    levels = [heatmap.level(n, 1000, 10) for n in range(1001)]
    assert levels == sorted(levels)


def test_the_picture() -> None:
    columns = [Column(0, 1, {SHORT: 5}), Column(1, 2, {}), Column(2, 3, {SHORT: 1, LONG: 900})]
    text = heatmap.svg(columns, "a <title> & more")
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    cells = [rect for rect in root.iter(f"{space}rect") if rect.find(f"{space}title") is not None]
    assert len(cells) == 3
    places = {(float(cell.get("x")), float(cell.get("y"))): cell.get("fill") for cell in cells}
    assert len(places) == 3
    # Upwards is slower, to the right is later.
    x, y = min(places, key=lambda place: place[1])
    assert x == heatmap.LEFT + 2 * heatmap.CELL_WIDTH
    assert places[x, y] == heatmap.COLOURS[-1]
    # All powers of two in between have a row.
    assert max(place[1] for place in places) - y == 10 * heatmap.CELL_HEIGHT
    assert "900" in text and "a &lt;title&gt; &amp; more" in text
    ElementTree.fromstring(heatmap.svg([], "nothing"))


def test_the_file_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "heat.svg"
    run(Source(report(5, 5)), Limits(duration=0.01), svg=path)
    assert path.read_text().startswith("<svg")


def test_a_file_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    source = Source(report(5, 5))
    with pytest.raises(PopcornError, match=r"cannot write .*: No such file"):
        run(source, Limits(duration=0.01), svg=tmp_path / "no/heat.svg")
    assert source.options is None


def test_a_trace_that_cannot_begin_leaves_no_file(tmp_path: Path) -> None:
    def opened(options: latency.Options):
        raise PopcornError("no bcc")

    old, new = tmp_path / "old.svg", tmp_path / "new.svg"
    old.write_text("a picture")
    for path in (old, new):
        with pytest.raises(PopcornError, match="no bcc"):
            heatmap.run(heatmap.Options(svg=path), Limits(), show=print, ready=print, opened=opened)
    assert old.read_text() == "a picture"
    assert not new.exists()


def test_no_interval() -> None:
    with pytest.raises(UsageError):
        heatmap.Options(interval=0.0)


def test_times_for_people() -> None:
    assert [heatmap.nanos(1 << n) for n in (8, 12, 16, 20, 30)] == [
        "256 ns", "4.1 µs", "65.5 µs", "1.05 ms", "1.07 s"
    ]  # fmt: skip


# popcornctl


@pytest.fixture
def ctl(monkeypatch, capsys):
    """Run popcornctl with a tracer that shows two columns: (status, out, err, what was asked)."""
    asked = []

    def run(options, limits, *, show, ready, output):
        asked.append((options, limits))
        assert output is sys.stderr
        ready("tracing")
        show(Column(0, 1, {SHORT: 1000, LONG: 1}))
        show(Column(1, 2.04, {}))
        return 0

    monkeypatch.setattr(heatmap, "run", run)

    def call(*words: str):
        status = main(["trace", "heatmap", *words])
        out, err = capsys.readouterr()
        return status, out, err, asked[-1] if asked else None

    return call


def test_lines_for_people(ctl) -> None:
    status, out, err, asked = ctl()
    assert (status, err) == (0, "tracing\n")
    head, first, second = out.splitlines()
    assert head.split()[:5] == ["TIME,", "S", "N", "256", "ns"]
    start = head.index("256 ns")
    assert first[:start].split() == ["1.0", "1001"]
    assert first[start:] == " " * 4 + "@@" + " " * 18 + ".."
    assert head[start + 24 :].startswith("1.05 ms")
    assert second.split() == ["2.0", "0"]
    assert asked == (heatmap.Options(), Limits())


def test_colours_on_a_terminal(ctl, monkeypatch) -> None:
    monkeypatch.setattr(cli_trace, "coloured", lambda stream: True)
    _, out, _, _ = ctl()
    assert "\x1b[48;2;59;4;16m  \x1b[0m" in out


def test_the_command_line(ctl, tmp_path: Path) -> None:
    words = ["0.5", "--node", "web", "--source", "fabric", "--stage", "interrupt-poll"]
    _, out, _, asked = ctl("--json", *words, "--svg", "x.svg", "--duration", "3")
    assert asked == (
        heatmap.Options("web", None, "interrupt-poll", "fabric", 0.5, Path("x.svg")),
        Limits(duration=3),
    )
    first, _ = [json.loads(line) for line in out.splitlines()]
    assert first == Column(0, 1, {SHORT: 1000, LONG: 1}).to_json()


@pytest.mark.parametrize("words", [("soon",), ("0",), ("--stage", "thought"), ("--",)])
def test_wrong_usage(ctl, words: tuple[str, ...]) -> None:
    status, _, err, _ = ctl(*words)
    assert status == 2
    assert err.startswith("popcornctl: ")


def test_documentation() -> None:
    options = [o for p in cli_trace.heatmap.params for o in p.opts if o.startswith("--")]
    words = [*options, *Column(0, 1, {SHORT: 1}).to_json()]
    tracing_host.page_has_all("heatmap", [word for word in words if word != "--debug"])
