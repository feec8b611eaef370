# SPDX-License-Identifier: GPL-2.0
"""The latency tracer without a kernel: its arithmetic, its BPF program on the host, its words."""

from __future__ import annotations

import configparser
import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from popcorn.cli import main
from popcorn.cli.trace import latency as cli_trace
from popcorn.cli.trace import options as cli_options
from popcorn.errors import ModuleMissingError, NotFoundError, PermissionDeniedError, PopcornError
from popcorn.models import Bucket
from popcorn_tracing import common, latency
from popcorn_tracing.common import Limits, LogHistogram, Machine
from popcorn_tracing.services import Filter

ROOT = Path(__file__).resolve().parents[2]
HERE = Machine(2_000_000, 0, {0: "primary", 1: "web"})


def histogram(values: list[int]) -> LogHistogram:
    """What the BPF program would count, by the definition of the slots."""
    slots = [0] * 40
    for value in values:
        slots[max(value, 1).bit_length() - 1] += 1
    return LogHistogram(len(values), sum(values), min(values), max(values), tuple(slots))


# histograms


def test_merging_is_as_if_counted_together() -> None:
    left, right = [3, 900, 17], [1, 2_000_000]
    empty = LogHistogram(slots=(0,) * 40)
    merged = LogHistogram.merged([histogram(left), empty, histogram(right)])
    assert merged == histogram(left + right)
    assert LogHistogram.merged([empty]) == LogHistogram()


def test_buckets_run_from_the_first_to_the_last_used() -> None:
    assert histogram([1, 8, 9, 40]).buckets() == (
        Bucket(0, 1, 1),
        Bucket(2, 3, 0),
        Bucket(4, 7, 0),
        Bucket(8, 15, 2),
        Bucket(16, 31, 0),
        Bucket(32, 63, 1),
    )
    assert LogHistogram().buckets() == ()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_percentile_is_in_the_right_slot(share: float) -> None:
    numbers = random.Random(23)
    values = sorted(int(numbers.lognormvariate(9, 1.5)) for _ in range(997))
    exact = values[max(0, -(-int(share * 100) * len(values) // 100) - 1)]
    about = histogram(values).percentile(share)
    assert about is not None
    assert about.bit_length() == exact.bit_length()


def test_percentile_never_leaves_what_was_seen() -> None:
    assert histogram([1000] * 7).percentile(0.5) == 1000
    assert histogram([1023]).percentile(0.01) == 1023
    assert histogram([512]).percentile(0.99) == 512
    assert LogHistogram().percentile(0.5) is None
    assert LogHistogram().mean is None


# the BPF program, compiled for this machine with stand-ins for bcc's macros


def arguments(event: str, **values: int) -> str:
    """A line for the host program: the tracepoint's arguments in the order of its fields."""
    fields = latency.EVENTS[event]
    assert set(values) <= set(fields)
    numbers = [values.get(name, 0) for name in fields]
    return " ".join(map(str, numbers + [0] * (12 - len(numbers))))


def message(**values: int) -> str:
    return "m " + arguments("popcorn_msg_delivered", **values)


@pytest.fixture(scope="module")
def bpf(tmp_path_factory: pytest.TempPathFactory):
    """Run the BPF program on events: `bpf(lines, TSC_KHZ=...)`."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    directory = tmp_path_factory.mktemp("bpf")
    source = Path(__file__).with_name("latency_host.c")

    def run(lines: list[str], **defines: int):
        program = directory / "program"
        flags = [f"-D{name}={value}" for name, value in {"TSC_KHZ": 2_000_000, **defines}.items()]
        where = f'-DSOURCE="{latency.SOURCE}"'
        subprocess.run(
            ["cc", "-Wall", "-Werror", *flags, where, "-o", program, source],
            check=True,
        )
        done = subprocess.run(
            [program], input="\n".join(lines), check=True, capture_output=True, text=True
        )
        return json.loads(done.stdout)

    return run


def test_stages_go_from_stamp_to_stamp_in_nanoseconds(bpf) -> None:
    stamps = {"queued": 1000, "doorbell": 1200, "irq": 2000, "poll": 5000, "delivered": 21000}
    seen = bpf([message(src=1, dst=0, service=1, len=16, **stamps)], TSC_KHZ=2_000_000)
    assert seen["delivered"] == [1, 16]
    assert seen["counters"] == [1, 0]
    # Two cycles are a nanosecond.
    assert seen["stages"] == [
        [1, 0, 100, 100, 100, {"6": 1}],
        [1, 0, 400, 400, 400, {"8": 1}],
        [1, 0, 1500, 1500, 1500, {"10": 1}],
        [1, 0, 8000, 8000, 8000, {"12": 1}],
        [1, 0, 10000, 10000, 10000, {"13": 1}],
    ]


def test_stages_that_did_not_happen_are_not_counted(bpf) -> None:
    seen = bpf([message(queued=1000, delivered=3000)])
    assert [stage[0] for stage in seen["stages"]] == [0, 0, 0, 0, 1]


def test_stamps_in_the_wrong_order_are_counted_apart(bpf) -> None:
    seen = bpf([message(queued=1000, irq=9000, poll=8999, delivered=9001)])
    assert seen["stages"][2] == [0, 1, 0, 0, 0, {}]
    assert seen["stages"][4][0] == 1


@pytest.mark.parametrize(
    ("cycles", "slot"),
    [(0, "0"), (2, "0"), (4, "1"), (2**40, "39"), (2**43 - 1, "39"), (2**63, "39")],
)
def test_no_time_is_too_short_or_too_long(bpf, cycles: int, slot: str) -> None:
    total = bpf([message(queued=1, delivered=1 + cycles)])["stages"][4]
    assert total[0] == 1
    assert total[5] == {slot: 1}
    if cycles < 2**43:
        assert total[3] == total[4] == cycles // 2


def test_extremes_and_sums_over_many(bpf) -> None:
    times = [50, 7, 100, 7, 3000]
    total = bpf([message(queued=10, delivered=10 + 2 * t) for t in times])["stages"][4]
    assert total[:5] == [len(times), 0, sum(times), min(times), max(times)]


def test_filters_hold_for_every_event(bpf) -> None:
    lines = []
    for src, dst, service in ((1, 0, 0), (1, 0, 1), (2, 0, 1), (0, 1, 1), (0, 2, 1)):
        both = {"src": src, "dst": dst, "service": service, "len": 10}
        lines.append(message(**both))
        lines.append("q " + arguments("popcorn_msg_queued", **both))
        lines.append("d " + arguments("popcorn_doorbell_sent", src=src, dst=dst))
    everything = bpf(lines)
    assert (everything["delivered"], everything["queued"]) == ([5, 50], [5, 50])
    assert everything["rung"] == 5
    some = bpf(lines, ONLY_NODE=1, **Filter(((None, 1),)).defines())
    assert (some["delivered"], some["queued"], some["rung"]) == ([2, 20], [2, 20], 3)
    # A number is one node's, that of the receiver.
    some = bpf(lines, **Filter(((0, 0), (2, 1), (1, 0))).defines())
    assert (some["delivered"], some["queued"], some["rung"]) == ([2, 20], [2, 20], 5)


def test_events_without_room_are_counted(bpf) -> None:
    lines = [message(src=1), "q " + arguments("popcorn_msg_queued")]
    lines.append("d " + arguments("popcorn_doorbell_sent"))
    seen = bpf([line.capitalize() for line in lines] + lines)
    assert seen["counters"] == [1, 3]
    assert (seen["delivered"][0], seen["queued"][0], seen["rung"]) == (1, 1, 1)


def test_program_and_python_number_alike() -> None:
    source = latency.SOURCE.read_text()

    def enum(name: str) -> list[str]:
        body = re.search(rf"enum {name} \{{(.*?)\}};", source, re.DOTALL)
        assert body is not None
        return re.findall(r"^\t(\w+)", body[1], re.MULTILINE)

    assert enum("stage_id") == [name.upper().replace("-", "_") for name in latency.STAGES] + [
        "STAGES"
    ]
    assert enum("counter_id")[latency.DELIVERED] == "DELIVERED"
    assert enum("counter_id")[latency.UNRECORDED] == "UNRECORDED"


@pytest.mark.parametrize("event", latency.EVENTS)
def test_the_module_has_these_tracepoints(event: str) -> None:
    header = (ROOT / "kmod/core/trace.h").read_text()
    found = re.search(rf"TRACE_EVENT\({event},\s+TP_PROTO\((.*?)\)", header, re.DOTALL)
    assert found is not None
    # Raw tracepoints are read by position, and only scalars are the values themselves.
    declared = [argument.split() for argument in found[1].split(",")]
    assert {kind for kind, _ in declared} <= {"u32", "u64"}
    assert tuple(name for _, name in declared) == latency.EVENTS[event]


# reports


def cpu(count: int, nanoseconds: int) -> SimpleNamespace:
    """What one CPU's struct arrivals looks like through bcc, all messages alike."""
    slots = [0] * 40
    slots[nanoseconds.bit_length() - 1] = count
    times = SimpleNamespace(
        count=count,
        total=count * nanoseconds,
        min=nanoseconds if count else 0,
        max=nanoseconds if count else 0,
        slots=slots,
    )
    stage = SimpleNamespace(backwards=count, times=times)
    return SimpleNamespace(messages=count, bytes=16 * count, stages=[stage] * 5)


class FakeProgram(dict):
    """Loaded programs with maps as dicts."""

    def __init__(self, misses: int) -> None:
        flow = SimpleNamespace(src=1, dst=0, queue=0, service=1)
        back = SimpleNamespace(src=0, dst=1, queue=2, service=1)
        sent = [SimpleNamespace(messages=3, bytes=48), SimpleNamespace(messages=4, bytes=64)]
        super().__init__(
            delivered={_key(flow): [cpu(5, 100), cpu(0, 1), cpu(2, 3000)]},
            queued={_key(back): sent},
            doorbells={_key(back): [1, 6]},
            counters=SimpleNamespace(sum=lambda index: (7, 2)[index]),
        )
        self.misses = misses

    def missed(self) -> int:
        return self.misses


def _key(item: SimpleNamespace):
    """Hashable."""
    return type("Key", (), dict(vars(item)))()


def read(by: str) -> latency.Report:
    return latency.read(FakeProgram(0), HERE, 1.5, latency.View(by), (0, 1, 4))


REPORT = read("stage")


def test_reading_merges_the_cpus() -> None:
    assert (REPORT.nr_delivered, REPORT.nr_queued) == (7, 7)
    assert REPORT.delivered[0].bytes == 7 * 16
    times = REPORT.stages()[4].times
    assert (times.count, times.minimum, times.maximum, times.total) == (7, 100, 3000, 6500)
    assert REPORT.stages()[0].backwards == 7
    assert REPORT.doorbells == {(0, 1): 7}
    assert REPORT.missed == 2


def test_json_is_stable() -> None:
    found = REPORT.to_json()
    assert list(found) == [
        "node",
        "tsc_khz",
        "seconds",
        "source",
        "unseen",
        "messages",
        "missed",
        "stages",
        "by",
        "rows",
        "delivered",
        "queued",
        "doorbells",
    ]
    assert found["messages"] == {"queued": 7, "delivered": 7}
    assert [stage["name"] for stage in found["stages"]] == list(latency.STAGES)
    stage = found["stages"][4]
    assert stage["histogram"][0] == {"low_ns": 64, "high_ns": 127, "count": 5}
    assert (stage["count"], stage["min_ns"], stage["max_ns"], stage["mean_ns"]) == (
        7,
        100,
        3000,
        929,
    )
    assert stage["backwards"] == 7
    assert found["queued"] == [
        {"src": 0, "dst": 1, "queue": 2, "service": "echo", "messages": 7, "bytes": 112}
    ]
    assert (found["source"], found["unseen"]) == ("bpf", [])
    assert (found["by"], found["rows"]) == ("stage", [])
    assert found["doorbells"] == [{"src": 0, "dst": 1, "count": 7}]
    assert found["delivered"][0]["stages"] == found["stages"]
    empty = latency.Report(HERE, 0.1).to_json()["stages"][0]
    assert (empty["count"], empty["min_ns"], empty["median_ns"]) == (0, None, None)


@pytest.mark.parametrize(
    ("by", "of"),
    [
        ("channel", [({"src": 1, "dst": 0, "queue": 0}, 7)]),
        ("service", [("echo", 7)]),
        ("cpu", [(0, 5), (4, 2)]),
    ],
)
def test_breaking_down(by: str, of: list) -> None:
    found = read(by).to_json()
    assert found["stages"] == REPORT.to_json()["stages"]
    assert found["by"] == by
    assert len(found["rows"]) == len(of) * len(latency.STAGES)
    rows = [row for row in found["rows"] if row["name"] == "queued-delivered"]
    assert [(row[by], row["count"]) for row in rows] == of
    assert sum(row["count"] for row in rows) == REPORT.nr_delivered


def test_one_stage_alone() -> None:
    view = latency.View("cpu", ("interrupt-poll",))
    rows = dataclasses.replace(REPORT, view=view).rows()
    assert [(row.of, row.stage.name) for row in rows] == [
        ((0,), "interrupt-poll"),
        ((4,), "interrupt-poll"),
    ]


@pytest.mark.parametrize("words", [("colour", latency.STAGES), ("cpu", ("thought",))])
def test_views_that_are_not_there(words: tuple) -> None:
    with pytest.raises(common.UsageError, match=r"colour|thought") as caught:
        latency.View(*words)
    assert caught.value.hint.startswith("known: ")


def test_what_the_kernel_missed_is_in_the_report() -> None:
    assert latency.read(FakeProgram(5), HERE, 1, numbers=(0, 1, 4)).missed == 5 + 2


# what can go wrong before


@pytest.fixture
def tracefs(tmp_path: Path, monkeypatch):
    """A root user's machine on which everything is as it should be; returns check() for it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for event, fields in latency.EVENTS.items():
        path = tmp_path / "tracing/events/popcorn" / event / "format"
        path.parent.mkdir(parents=True)
        lines = ["\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;"]
        lines += [f"\tfield:u32 {name};\toffset:8;\tsize:4;\tsigned:0;" for name in fields]
        path.write_text("name: x\nformat:\n" + "\n".join(lines) + "\n")

    def run() -> None:
        common.check(
            latency.EVENTS,
            tracefs=[tmp_path / "tracing"],
            lockdown=tmp_path / "lockdown",
        )

    run.root = tmp_path
    return run


def test_nothing_wrong(tracefs) -> None:
    tracefs()


def test_not_root(tracefs, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionDeniedError, match="needs root"):
        tracefs()


def test_lockdown(tracefs) -> None:
    (tracefs.root / "lockdown").write_text("none [integrity] confidentiality\n")
    tracefs()
    (tracefs.root / "lockdown").write_text("none integrity [confidentiality]\n")
    with pytest.raises(PermissionDeniedError, match="locked down") as caught:
        tracefs()
    assert caught.value.hint


def test_no_tracefs(tracefs) -> None:
    shutil.rmtree(tracefs.root / "tracing")
    with pytest.raises(PopcornError, match="tracefs is not mounted") as caught:
        tracefs()
    assert caught.value.hint.startswith("mount -t tracefs")


def test_no_module(tracefs) -> None:
    shutil.rmtree(tracefs.root / "tracing/events/popcorn")
    with pytest.raises(ModuleMissingError) as caught:
        tracefs()
    assert caught.value.hint == "modprobe popcorn_host"


@pytest.mark.parametrize("change", [("src", "dst"), ("len", "bytes")])
def test_other_tracepoints(tracefs, change: tuple[str, str]) -> None:
    path = tracefs.root / "tracing/events/popcorn/popcorn_msg_queued/format"
    path.write_text(path.read_text().replace(f" {change[0]};", f" {change[1]};"))
    with pytest.raises(PopcornError, match="popcorn_msg_queued is not the one"):
        tracefs()


def test_what_bcc_reads_is_in_the_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["popcorn_tracing"].split()
    for path in (ROOT / "tracing").glob("*.[ch]"):
        assert any(path.match(pattern) for pattern in patterns), path


def fails(error: PopcornError):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("where", ["check", "loaded"])
def test_what_else_there_is_without_bpf(monkeypatch, where: str) -> None:
    monkeypatch.setattr(latency, "check", lambda events: None)
    monkeypatch.setattr(latency, "machine", lambda khz: HERE)
    monkeypatch.setattr(latency, where, fails(PopcornError("no bcc", "install it")))
    with pytest.raises(PopcornError) as caught:
        latency.run(latency.Options(), Limits(), show=print, ready=print)
    assert caught.value.hint == "install it; or without BPF, with less detail: --source fabric"
    monkeypatch.setattr(latency, where, fails(ModuleMissingError("no module", "load it")))
    with pytest.raises(ModuleMissingError) as missing:
        latency.run(latency.Options(), Limits(), show=print, ready=print)
    assert missing.value.hint == "load it"


def test_names_and_numbers() -> None:
    assert common.node_id("web", HERE) == common.node_id("1", HERE) == 1
    for text in ("nope", "5"):
        with pytest.raises(NotFoundError, match=text):
            common.node_id(text, HERE)


def test_services_are_of_a_node_and_a_number() -> None:
    names = {(0, 7): "hello", (1, 9): "hello", (1, 7): "other"}
    assert Filter.parse("echo", names) == Filter.parse("1", {}) == Filter(((None, 1),))
    assert Filter.parse("77", names) == Filter(((None, 77),))
    hello = Filter.parse("hello", names)
    assert hello.services == ((0, 7), (1, 9))
    pairs = [(node, number) for node in range(3) for number in (1, 7, 9)]
    assert [pair for pair in pairs if hello.passes(*pair)] == [(0, 7), (1, 9)]
    with pytest.raises(NotFoundError, match=f"there is no service '{2**32}'"):
        Filter.parse(str(2**32), names)
    with pytest.raises(NotFoundError, match="there is no service 'nope'") as caught:
        Filter.parse("nope", names)
    assert caught.value.hint == "see: popcornctl service list; or give its number"
    here = dataclasses.replace(HERE, services=names)
    assert [here.service(*pair) for pair in ((2, 1), (1, 7), (0, 7), (2, 7))] == [
        "echo", "other", "hello", "7"
    ]  # fmt: skip


def test_names_come_and_are_kept(module) -> None:
    module.services = [{"node-id": 0, "name": "hello", "version": 1, "id": 7}]
    before = common.machine(client=module.client)
    assert before.services == {(0, 7): "hello"}
    module.services = [{"node-id": 0, "name": "later", "version": 1, "id": 8}]
    now = common.refreshed(before, module.client)
    assert now.services == {(0, 7): "hello", (0, 8): "later"}
    assert (now.names, now.tsc_khz, now.node_id) == (before.names, before.tsc_khz, 0)
    module.loaded = False
    assert common.refreshed(now, module.client) == now


def test_the_module_tells_the_rate(module) -> None:
    assert common.machine(client=module.client) == Machine(1_000_000, 0, {0: "primary"})
    assert common.machine(5, module.client).tsc_khz == 5
    module.loaded = False
    assert common.machine(5, module.client) == Machine(5, None, {})
    with pytest.raises(ModuleMissingError):
        common.machine(client=module.client)


# when it ends


class Reports(list):
    def __call__(self) -> None:
        self.append(True)


def forever() -> int:
    return 0


def test_reports_at_intervals() -> None:
    reports = Reports()
    assert common.wait(Limits(interval=0.01, reports=3), reports, forever) == 0
    assert len(reports) == 3


def test_one_more_report_at_the_end() -> None:
    reports = Reports()
    assert common.wait(Limits(interval=0.04, duration=0.1), reports, forever) == 0
    assert len(reports) == 3
    # At the end itself one is enough.
    reports.clear()
    assert common.wait(Limits(interval=0.02, duration=0.04), reports, forever) == 0
    assert len(reports) == 2


def test_enough_messages() -> None:
    seen = iter([0, 499, 500])
    reports = Reports()
    assert common.wait(Limits(messages=500), reports, lambda: next(seen)) == 0
    assert len(reports) == 1


def test_interrupt_reports_and_is_no_error() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    reports = Reports()
    assert common.wait(Limits(messages=500), reports, interrupted) == 0
    assert len(reports) == 1


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -TERM $$", 143)])
def test_a_command_ends_the_trace_with_its_status(script: str, status: int) -> None:
    reports = Reports()
    assert common.wait(Limits(command=("sh", "-c", script)), reports, forever) == status
    assert len(reports) == 1


def test_something_to_do_meanwhile(tmp_path: Path) -> None:
    """As long as a command takes, which here ends when it was done; and until the time is over."""
    pauses: list[float] = []
    done = tmp_path / "done"

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        done.touch()
        time.sleep(0.01)

    until = ("sh", "-c", f"until test -e {done}; do sleep 0.01; done")
    for limits in (Limits(command=until), Limits(duration=0.5)):
        assert common.wait(limits, Reports(), forever, None, pause) == 0
        assert pauses and max(pauses) <= 1
        pauses.clear()


def test_a_command_ends_if_nobody_reads_what_it_is_traced_for() -> None:
    def pause(seconds: float) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        common.wait(Limits(command=("sleep", "600")), Reports(), forever, None, pause)


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(PopcornError, match="cannot run '/nowhere/at-all': No such file"):
        common.wait(Limits(command=("/nowhere/at-all",)), Reports(), forever)


@pytest.mark.parametrize("limits", [{"interval": 0.0}, {"command": ("true",), "duration": 1.0}])
def test_limits_that_make_no_sense(limits: dict) -> None:
    with pytest.raises(common.UsageError):
        Limits(**limits)


# popcornctl


@pytest.fixture
def ctl(monkeypatch, capsys):
    """Run popcornctl with a tracer that reports REPORT: (status, out, err, what it was asked)."""
    asked = []

    def run(options, limits, *, show, ready, output, **_):
        asked.append((options, limits, output))
        ready("tracing")
        show(REPORT)
        return 3 if limits.command else 0

    monkeypatch.setattr(latency, "run", run)

    def call(*words: str):
        status = main(["trace", "latency", *words])
        out, err = capsys.readouterr()
        return status, out, err, asked[-1] if asked else None

    return call


def test_the_command_line(ctl) -> None:
    status, _, err, asked = ctl("--node", "web", "--service", "echo", "0.5", "4", "--count", "9")
    assert (status, err) == (0, "tracing\n")
    assert asked[0] == latency.Options("web", "echo")
    assert asked[1] == Limits(interval=0.5, reports=4, messages=9)


def test_what_follows_the_dashes_is_left_alone(ctl) -> None:
    words = ("popcornctl", "--json", "ping", "web", "-c", "1000", "--", "x")
    status, out, _, asked = ctl("--", *words)
    assert status == 3
    assert asked[1].command == words
    assert asked[2] is None
    assert out.startswith("7 messages delivered to node 0 (primary) and 7 queued by it in 1.5 s\n")


def test_json_keeps_the_commands_output_apart(ctl) -> None:
    _, out, _, asked = ctl("--json", "--", "true")
    assert json.loads(out) == REPORT.to_json()
    assert asked[2] is sys.stderr
    _, out, _, _ = ctl("--json", "1")
    assert json.loads(out.splitlines()[0]) == REPORT.to_json()


def test_the_report_for_people(ctl) -> None:
    _, out, _, _ = ctl()
    assert "2 events were missed" in out
    row = next(line for line in out.splitlines() if line.startswith("queued -> delivered"))
    assert row.split()[3:] == ["7", "100", "108", "3000", "3000", "3000"]
    assert "queued -> doorbell: left out 7 that ended before they began" in out
    assert re.search(r"^delivered +1 \(web\) +0 \(primary\) +0 +echo +7 +112$", out, re.MULTILINE)
    assert re.search(r"^doorbells +0 \(primary\) +1 \(web\) +- +- +7 +-$", out, re.MULTILINE)
    assert re.search(r"^ +64 -> 127 +: 5 ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) < 80


@pytest.mark.parametrize(
    ("by", "columns", "first"),
    [
        ("channel", ["FROM", "TO", "QUEUE"], ["1", "(web)", "0", "(primary)", "0"]),
        ("service", ["SERVICE"], ["echo"]),
        ("cpu", ["CPU"], ["0"]),
    ],
)
def test_rows_for_people(ctl, monkeypatch, by: str, columns: list, first: list) -> None:
    monkeypatch.setattr(sys.modules[__name__], "REPORT", read(by))
    _, out, _, asked = ctl("--by", by, "--stage", "poll-delivered")
    assert asked[0].view == latency.View(by, ("poll-delivered",))
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(columns[0]))
    assert lines[at].split() == [
        *columns, "STAGE,", "NSECS", "N", "MIN", "~MEDIAN", "~P99", "~P99.9", "MAX"
    ]  # fmt: skip
    assert lines[at + 1].split()[: len(first) + 3] == [*first, "queued", "->", "doorbell"]


def test_the_command_line_knows_the_tracer() -> None:
    assert (cli_options.STAGES, cli_options.BY) == (latency.STAGES, latency.BY)


@pytest.mark.parametrize(
    "words",
    [
        ("--",),
        ("--duration", "1", "--", "true"),
        ("--count", "0"),
        ("--stage", "thought"),
        ("--by", "colour"),
    ],
)
def test_wrong_usage(ctl, words: tuple[str, ...]) -> None:
    status, out, err, _ = ctl(*words)
    assert (status, out) == (2, "")
    assert err.startswith("popcornctl: ")


def test_no_bcc_is_imported_for_help() -> None:
    code = (
        "import sys; from popcorn.cli import main; main(['trace', 'latency', '--help']);"
        "sys.exit('bcc' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
    )


# documentation


def test_the_man_page_has_every_option() -> None:
    page = (ROOT / "tracing/man/popcorn-latency.8").read_text().replace("\\-", "-")
    options = {
        name for option in cli_trace.latency.params for name in option.opts if name[0] == "-"
    }
    assert options >= {"--node", "--service", "--duration", "--count", "--by", "--source"}
    for option in options - {"--debug"}:
        assert option in page
    for section in ("OVERHEAD", "FIELDS", "EXIT STATUS"):
        assert f".SH {section}" in page
    for stage in latency.STAGES:
        assert stage in page
    for key in REPORT.to_json():
        assert key in page
