# SPDX-License-Identifier: GPL-2.0
"""Latency by ftrace: what its histograms say, what is set up, and when it takes over."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from pathlib import Path

import pytest
import tracing_host

from popcorn.errors import PopcornError
from popcorn_tracing import ftrace, latency
from popcorn_tracing.common import CannotCompileError, Limits, Machine, Session, UsageError
from popcorn_tracing.latency import Options, View

HERE = Machine(1_000_000, 0, {0: "primary", 1: "web"})


def flow(src: int, dst: int, queue: int, service: int) -> int:
    """As the module puts them into one field."""
    return src << 48 | dst << 32 | queue << 16 | service


HIST = f"""\
# event histogram
#
# trigger info: hist:keys=flow:vals=hitcount,len:sort=hitcount:size=2048 [active]
#

{{ flow: {flow(1, 0, 0, 1)} }} hitcount:         12  len:        288
{{ flow: {flow(2, 0, 0, 7)} }} hitcount:          5  len:         50

Totals:
    Hits: 17
    Entries: 2
    Dropped: 3

# event histogram
#

{{ flow: {flow(1, 0, 0, 1)}, queued_delivered_cycles: ~ 2^12 }} hitcount:          9
{{ flow: {flow(1, 0, 0, 1)}, queued_delivered_cycles: ~ 2^13 }} hitcount:          3

Totals:
    Hits: 12
    Entries: 2
    Dropped: 0
"""

NOTHING = ftrace.Table({}, {})


ALL = Options()


def report(options: Options = ALL) -> latency.Report:
    return ftrace.report(ftrace.Table.parse(HIST), NOTHING, HERE, 1.0, options)


def test_what_the_histograms_say() -> None:
    found = report()
    assert found.source == "ftrace"
    assert (found.nr_delivered, found.missed) == (17, 3)
    assert [(flow.src, flow.service, flow.messages, flow.bytes) for flow in found.delivered] == [
        (1, 1, 12, 288), (2, 7, 5, 50),
    ]  # fmt: skip
    whole = found.stages()[-1]
    assert (whole.name, whole.times.count) == ("queued-delivered", 12)
    # A cycle is a nanosecond here.
    assert [(row.low, row.count) for row in whole.times.buckets()] == [(2048, 9), (4096, 3)]
    assert [stage.times.count for stage in found.stages()[:-1]] == [0, 0, 0, 0]


def test_the_four_in_one() -> None:
    assert ftrace.Key.unpacked(flow(0xFFFF, 2, 3, 0xFFFE)) == (0xFFFF, 2, 3, 0xFFFE)


def test_filters() -> None:
    assert report(Options(node="web")).nr_delivered == 12
    assert report(Options(service="7")).nr_delivered == 5
    named = dataclasses.replace(HERE, services={(0, 7): "hello", (1, 1): "hello"})
    table = ftrace.Table.parse(HIST)
    found = ftrace.report(table, NOTHING, named, 1.0, Options(service="hello"))
    assert found.nr_delivered == 5
    assert [flow.to_json(named)["service"] for flow in found.delivered] == ["hello"]
    with pytest.raises(PopcornError, match="nobody"):
        report(Options(node="nobody"))


def test_the_module_has_the_fields() -> None:
    header = (tracing_host.ROOT / "kmod/core/trace.h").read_text()
    for _, trigger in ftrace._triggers():
        for field in ("flow", *re.findall(r"\w+_cycles", trigger)):
            assert f"__field(u64, {field})" in header
        # A kernel refuses more (TRACING_MAP_KEYS_MAX).
        keys = re.search(r"keys=([^:]+):", trigger)
        assert keys is not None and len(keys[1].split(",")) <= 3


def test_the_instance_goes_with_the_trace(tmp_path: Path, monkeypatch) -> None:
    base, written, files = tmp_path / "events", [], ftrace.Files()
    (tmp_path / "instances").mkdir()
    events = tmp_path / "instances" / f"popcorn-{os.getpid()}" / "events" / "popcorn"
    monkeypatch.setattr(files, "append", lambda path, text: written.append((path, text)))
    with contextlib.suppress(KeyboardInterrupt), ftrace._instance(base, files) as found:
        assert found == events
        count = len(written)
        raise KeyboardInterrupt
    removed = [(path, text[1:]) for path, text in written[count:] if text[0] == "!"]
    assert removed[::-1] == written[:count]
    assert not list((tmp_path / "instances").iterdir())


def test_a_trigger_leaves_those_that_are_there(tmp_path: Path) -> None:
    # The kernel takes them all away when the file is truncated.
    path = tmp_path / "trigger"
    path.write_text("one\n")
    ftrace.Files().append(path, "two\n")
    assert path.read_text() == "one\ntwo\n"


def test_what_the_kernel_refuses(tmp_path: Path) -> None:
    (tmp_path / "instances").mkdir()
    with (
        pytest.raises(PopcornError, match="takes no histogram of popcorn_msg_queued"),
        ftrace._instance(tmp_path / "events", ftrace.Files()),
    ):
        pass
    assert not list((tmp_path / "instances").iterdir())
    with (
        pytest.raises(PopcornError, match="cannot make"),
        ftrace._instance(tmp_path / "no/events", ftrace.Files()),
    ):
        pass


def test_it_does_not_tell_cpus() -> None:
    with pytest.raises(UsageError, match="by cpu"), ftrace.opened(Options(view=View("cpu"))):
        pass


def test_it_takes_over_where_bcc_cannot_load() -> None:
    def opened(error: PopcornError):
        def fail(_: Options):
            raise error

        return fail

    @contextlib.contextmanager
    def instead(_: Options):
        yield Session("counting", report, lambda: 0)

    shown: list[latency.Report] = []
    said: list[str] = []
    words = {"show": shown.append, "ready": said.append}
    limits = Limits(command=("true",))
    no_bcc = opened(CannotCompileError("no bcc", "install it"))
    latency.run(Options(), limits, **words, opened=no_bcc, instead=instead)
    assert [found.source for found in shown] == ["ftrace"]
    assert said[0].startswith("no BPF: no bcc") and "ftrace" in said[0]
    # Not if BPF was asked for, nor for what stands in its way, too.
    with pytest.raises(CannotCompileError):
        latency.run(Options(), limits, **words, opened=no_bcc)
    other = opened(PopcornError("tracefs is not mounted"))
    with pytest.raises(PopcornError, match="tracefs"):
        latency.run(Options(), limits, **words, opened=other, instead=instead)
