# SPDX-License-Identifier: GPL-2.0
"""Latency out of the fabric: what was counted between two readings, and what it cannot tell."""

from __future__ import annotations

import json
import re

import pytest

from popcorn.cli import main
from popcorn.errors import ModuleMissingError, NotFoundError
from popcorn.models import Latency, LatencyStage
from popcorn_tracing import fabric
from popcorn_tracing.common import Limits, UsageError
from popcorn_tracing.latency import Options, Report, View

ALL = Options()
DELIVER, DOORBELL, POLL = (int(stage) for stage in LatencyStage)


def counts(**buckets: int) -> list[int]:
    """`b10=3`: three in bucket 10."""
    found = [0] * 32
    for name, count in buckets.items():
        found[int(name[1:])] = count
    return found


def row(src: int, dst: int, stage: int, **buckets: int) -> dict:
    return {"src": src, "dst": dst, "queue": 0, "stage": stage, "count": counts(**buckets)}


@pytest.fixture
def traffic(module, monkeypatch):
    """Trace while `later` comes to be counted: traffic(later, options...) gives the reports."""
    module.nodes[1] = {"id": 1, "name": "web", "state": 2, "epoch": 3}
    module.latencies = [row(0, 1, DELIVER, b10=5, b12=1), row(1, 0, DOORBELL, b11=2)]

    def run(later: list[dict], options: Options = ALL, epoch: int = 3) -> Report:
        reports: list[Report] = []

        def ready(text: str) -> None:
            module.latencies = later
            module.nodes[1]["epoch"] = epoch

        fabric.run(
            options,
            Limits(command=("true",)),
            show=reports.append,
            ready=ready,
            client=module.client,
        )
        assert len(reports) == 1
        return reports[0]

    return run


def test_only_what_came_meanwhile_counts(traffic) -> None:
    report = traffic([row(0, 1, DELIVER, b10=9_978, b12=1), row(1, 0, DOORBELL, b11=2)])
    assert report.nr_delivered == 9_973
    (flow,) = report.delivered
    assert (flow.src, flow.dst, flow.queue, flow.service, flow.bytes) == (0, 1, 0, None, None)
    whole = report.stages()[4]
    # The module's clock has a cycle a nanosecond.
    assert [(b.low, b.high, b.count) for b in whole.times.buckets()] == [(1024, 2047, 9_973)]
    assert (whole.times.minimum, whole.times.maximum) == (1024, 2048)
    assert whole.times.percentile(0.5) == 1536
    assert whole.times.mean is None


def test_stages_are_those_of_the_tracer(traffic) -> None:
    later = [row(0, 1, DELIVER, b10=6), row(0, 1, POLL, b3=1), row(1, 0, DOORBELL, b11=4)]
    later[0]["count"] = counts(b10=6, b12=1)
    report = traffic(later)
    assert [(s.name, s.times.count) for s in report.stages()] == [
        ("queued-doorbell", 0),
        ("doorbell-interrupt", 2),
        ("interrupt-poll", 1),
        ("poll-delivered", 0),
        ("queued-delivered", 1),
    ]
    assert report.unseen == ("queued-doorbell", "poll-delivered")
    assert [row.stage.name for row in report.rows()] == [
        "doorbell-interrupt", "interrupt-poll", "queued-delivered"
    ]  # fmt: skip


def test_a_node_that_joined_anew_counts_from_zero(traffic) -> None:
    later = [row(0, 1, DELIVER, b10=7, b12=1)]
    assert traffic(later, epoch=4).nr_delivered == 8


def test_counts_that_went_back_are_new_ones(traffic) -> None:
    assert traffic([row(0, 1, DELIVER, b10=4)]).nr_delivered == 4


def test_by_channel_and_node(traffic, module) -> None:
    later = [row(0, 1, DELIVER, b10=6, b12=1), row(2, 0, DELIVER, b9=2)]
    rows = traffic(later, Options(view=View("channel", ("queued-delivered",)))).rows()
    assert [(r.of, r.stage.times.count) for r in rows] == [((0, 1, 0), 1), ((2, 0, 0), 2)]
    module.latencies = []
    assert [f.src for f in traffic(later, Options(node="web")).delivered] == [0]
    with pytest.raises(NotFoundError, match="nobody"):
        traffic(later, Options(node="nobody"))


def test_merging_needs_no_equal_lengths() -> None:
    short = fabric.CycleTimes(Latency(0, 1, 0, 0, 1_000_000, (1, 2)))
    long = fabric.CycleTimes(Latency(0, 2, 0, 0, 1_000_000, (1, 2, 3)))
    empty = fabric.CycleTimes()
    merged = fabric.CycleTimes.merged([empty, short, long])
    assert (merged.count, merged.latency.counts) == (9, (2, 4, 3))
    assert fabric.CycleTimes.merged([empty]) == empty
    assert (empty.minimum, empty.maximum, empty.percentile(0.5), empty.buckets()) == (
        0,
        0,
        None,
        (),
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(service="echo"), "by service"),
        (Options(view=View("service")), "by service"),
        (Options(view=View("cpu")), "by cpu"),
        (Options(tsc_khz=7), "tsc-khz"),
        (Options(view=View(stages=("poll-delivered",))), "poll-delivered"),
    ],
)
def test_what_it_cannot_tell_is_refused(traffic, options: Options, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        traffic([], options)


def test_no_module(traffic, module) -> None:
    module.loaded = False
    with pytest.raises(ModuleMissingError):
        traffic([])


# popcornctl


@pytest.fixture
def ctl(traffic, module, monkeypatch, capsys):
    """Run popcornctl on reports of the fabric."""
    later = [row(0, 1, DELIVER, b10=6, b12=1), row(1, 0, DOORBELL, b11=4)]

    real = fabric.run

    def wrapped(options, limits, *, show, ready, output):
        def begun(text: str) -> None:
            ready(text)
            module.latencies = later

        return real(options, limits, show=show, ready=begun, output=output, client=module.client)

    monkeypatch.setattr(fabric, "run", wrapped)

    def call(*words: str):
        status = main(["trace", "latency", "--source", "fabric", *words])
        return (status, *capsys.readouterr())

    return call


def test_it_says_what_it_cannot_see(ctl) -> None:
    status, out, err = ctl("--", "true")
    assert status == 0, err
    first, second, *_ = out.splitlines()
    assert re.fullmatch(r"1 messages delivered in \d+\.\d s, by all kernels", first)
    assert second == (
        "source: the fabric, which does not see: queued -> doorbell, poll -> delivered;"
        " nor services, nor CPUs"
    )
    assert "between all kernels" in err
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("STAGE"))
    assert lines[at].split()[2:] == ["N", "~MIN", "~MEDIAN", "~P99", "~P99.9", "~MAX"]
    assert [line.split()[:4] for line in lines[at + 1 : at + 4]] == [
        ["doorbell", "->", "interrupt", "2"],
        ["interrupt", "->", "poll", "0"],
        ["queued", "->", "delivered", "1"],
    ]
    assert re.search(r"^delivered +0 \(primary\) +1 \(web\) +0 +- +1 +-$", out, re.MULTILINE)


def test_json(ctl) -> None:
    status, out, _ = ctl("--json", "--by", "channel", "--duration", "0.01")
    assert status == 0
    found = json.loads(out)
    assert (found["source"], found["by"]) == ("fabric", "channel")
    assert found["unseen"] == ["queued-doorbell", "poll-delivered"]
    assert found["messages"]["delivered"] == 1
    rows = [row for row in found["rows"] if row["count"]]
    assert [(row["channel"]["src"], row["name"]) for row in rows] == [
        (0, "queued-delivered"), (1, "doorbell-interrupt")
    ]  # fmt: skip


def test_refusals(ctl) -> None:
    status, out, err = ctl("--by", "cpu")
    assert (status, out) == (2, "")
    assert "does not count by cpu" in err and "hint: --by channel" in err
    assert ctl("--node", "nobody")[0] == 1
