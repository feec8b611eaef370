# SPDX-License-Identifier: GPL-2.0
"""Starts of kernels: what ftrace's file says, the stages out of it, and what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tracing_host

from popcorn.cli import main
from popcorn.cli.trace import boot as cli_trace
from popcorn.errors import PopcornError
from popcorn.models import KernelState
from popcorn_tracing import boot
from popcorn_tracing.boot import Event, Report, Start

#: In another order than that of the stamps: a kernel stamps itself that it joined.
TRACE = """\
# tracer: nop
#
# entries-in-buffer/entries-written: 12/15   #P:4
#
      popcornctl-71      [000] .....    12.000001: popcorn_kernel_stage: kernel=1 stage=0 tsc=1000
      popcornctl-71      [000] .....    12.000002: popcorn_kernel_stage: kernel=1 stage=1 tsc=3000
      popcornctl-71      [000] .....    12.000003: popcorn_kernel_stage: kernel=1 stage=5 tsc=3500
      popcornctl-71      [000] .....    12.000004: popcorn_kernel_state: kernel=1 state=0 tsc=3600
      popcornctl-71      [001] .....    12.000005: popcorn_kernel_stage: kernel=2 stage=4 tsc=3700
      popcornctl-71      [000] .....    12.000006: popcorn_kernel_state: kernel=1 state=1 tsc=4000
      popcornctl-71      [000] .....    12.000007: popcorn_kernel_stage: kernel=1 stage=8 tsc=5000
      popcornctl-71      [000] .....    12.000008: popcorn_kernel_state: kernel=1 state=2 tsc=9901
      popcornctl-71      [000] .....    12.000009: popcorn_kernel_stage: kernel=1 stage=9 tsc=9000
      popcornctl-71      [001] .....    12.000010: popcorn_kernel_stage: kernel=2 stage=77 tsc=9950
      popcornctl-71      [001] .....    12.000011: popcorn_kernel_state: kernel=2 state=5 tsc=9990
      popcornctl-71      [001] .....    12.000012: popcorn_kernel_state: kernel=1 state=5 tsc=9999
"""


def of(text: str, tsc_khz: int = 2_000_000) -> tuple[Start, ...]:
    return boot.starts(boot.events(text)[0], tsc_khz)


def rows(start: Start) -> list[tuple[str, int, int | None]]:
    return [(stage.name, stage.begin_ns, stage.ns) for stage in start.stages]


def test_each_stage_lasts_until_the_next_one() -> None:
    web, other = of(TRACE)
    assert (web.kernel, web.state, web.whole) == (1, KernelState.RUNNING, True)
    assert rows(web) == [
        ("memory", 0, 1000), ("slice", 1000, 250), ("load", 1250, 750), ("entry", 2000, 2000),
        ("joined", 4000, 450),
    ]  # fmt: skip
    assert web.ns == 4450 == sum(stage.ns or 0 for stage in web.stages)
    # A stage that has no name yet, and an end that is none of the wanted ones.
    assert (other.kernel, other.state) == (2, KernelState.CRASHED)
    assert rows(other) == [("wipe", 0, 3125), ("77", 3125, 20)]


def test_what_was_lost_is_counted() -> None:
    assert boot.events(TRACE)[1] == 3
    assert boot.events("") == ((), 0)


def test_a_start_seen_in_part() -> None:
    begun = [Event(1, 10, "memory"), Event(1, 30, "cpus")]
    (cut,) = boot.starts(begun, 1_000_000)
    assert (cut.state, cut.ns, rows(cut)) == (None, None, [("memory", 0, 20), ("cpus", 20, None)])
    # The next one of the same kernel is another.
    anew = [*begun, Event(1, 50, "wipe"), Event(1, 60, state=KernelState.RUNNING)]
    assert [(start.state, start.ns) for start in boot.starts(anew, 1_000_000)] == [
        (None, None), (KernelState.RUNNING, 10)
    ]  # fmt: skip
    (late,) = boot.starts([Event(1, 5, "entry"), Event(1, 9, state=KernelState.RUNNING)], 1_000_000)
    assert (late.whole, late.ns) == (False, 4)
    # A state without a start is none.
    assert boot.starts([Event(1, 9, state=KernelState.STOPPED)], 1_000_000) == ()


def test_the_module_prints_what_is_read() -> None:
    header = (tracing_host.ROOT / "kmod/core/trace.h").read_text()
    for kind in ("stage", "state"):
        assert tracing_host.arguments_of(f"popcorn_kernel_{kind}") == ("kernel", kind, "tsc")
        assert f'TP_printk("kernel=%u {kind}=%u tsc=%llu"' in header


def test_the_instance_goes_with_the_trace(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "instances").mkdir()
    written: list[tuple[str, str]] = []

    def write(path: Path, text: str) -> None:
        written.append((path.name, text))

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(KeyboardInterrupt), boot._instance(tmp_path / "events") as instance:
        assert instance.is_dir()
        raise KeyboardInterrupt
    assert written == [("buffer_size_kb", str(boot.BUFFER_KB)), ("enable", "1"), ("enable", "1")]
    assert not list((tmp_path / "instances").iterdir())


def test_what_the_kernel_refuses(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "instances").mkdir()

    def refuse(path: Path, text: str) -> None:
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(Path, "write_text", refuse)
    with (
        pytest.raises(PopcornError, match="does not take buffer_size_kb"),
        boot._instance(tmp_path / "events"),
    ):
        pass
    assert not list((tmp_path / "instances").iterdir())
    with pytest.raises(PopcornError, match="cannot make"), boot._instance(tmp_path / "no/events"):
        pass


# popcornctl


@pytest.fixture
def ctl(monkeypatch, capsys):
    """Run popcornctl with a tracer that saw what TRACE has: (status, out, err)."""

    def call(*words: str, report: Report | None = None):
        def run(limits, *, show, ready, output):
            ready("recording")
            show(report or Report(of(TRACE), {1: "web"}, 3))
            return 7

        monkeypatch.setattr(boot, "run", run)
        status = main([*words[:1], "trace", "boot", *words[1:]] if words else ["trace", "boot"])
        return status, *capsys.readouterr()

    return call


def test_a_waterfall_for_people(ctl) -> None:
    status, out, err = ctl()
    assert (status, err) == (7, "recording\n")
    lines = out.splitlines()
    assert lines[0].startswith("3 events were missed")
    assert lines[1] == "kernel 1 (web): running after 0.004 ms"
    bars = [line[line.rindex("  ") :] for line in lines[3:8]]
    assert all(set(bar.strip()) == {"#"} for bar in bars)
    # Each begins where the one before it ended, and all of them are the whole.
    ends = [len(line) for line in lines[3:8]]
    begins = [line.index("#") for line in lines[3:8]]
    assert begins[1:] == ends[:-1]
    assert ends[-1] - begins[0] == cli_trace.WATERFALL_WIDTH
    assert "kernel 2: crashed after" in out


def test_nothing_was_started(ctl) -> None:
    assert ctl(report=Report((), {}))[1] == "no kernel was started\n"


def test_a_start_without_an_end(ctl) -> None:
    begun = boot.starts([Event(1, 10, "load")], 1_000_000)
    out = ctl(report=Report(begun, {}))[1]
    assert "the end of this start was not seen" in out
    assert "its beginning was not seen" in out


def test_json(ctl) -> None:
    found = json.loads(ctl("--json")[1])
    assert found["missed"] == 3
    assert [(start["name"], start["state"]) for start in found["starts"]] == [
        ("web", "running"), (None, "crashed")
    ]  # fmt: skip
    assert found == Report(of(TRACE), {1: "web"}, 3).to_json()


def test_documentation() -> None:
    found = Report(of(TRACE), {1: "web"}).to_json()
    words = [*found, *found["starts"][0], *found["starts"][0]["stages"][0], "--duration"]
    tracing_host.page_has_all("boot", words)
