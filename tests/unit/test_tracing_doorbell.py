# SPDX-License-Identifier: GPL-2.0
"""The doorbell tracer without a kernel: its BPF program on the host, differences, its words."""

from __future__ import annotations

import dataclasses
import json
import re
from types import SimpleNamespace

import pytest
import tracing_host

from popcorn.cli import main
from popcorn.cli.trace import doorbell as cli_trace
from popcorn.errors import PopcornError
from popcorn.models import Queue
from popcorn_tracing import doorbell
from popcorn_tracing.common import Limits, Machine

HERE = Machine(2_000_000, 0, {0: "primary", 1: "web"})


def event(name: str, **values: int) -> str:
    return tracing_host.event(doorbell.EVENTS, f"popcorn_{name}", **values)


@pytest.fixture(scope="module")
def bpf(tmp_path_factory: pytest.TempPathFactory):
    """Run the BPF program on events: what it counted."""
    run = tracing_host.build(tmp_path_factory.mktemp("bpf"), "doorbell_host.c", doorbell.SOURCE)
    return lambda lines, **defines: json.loads(run(lines, **defines))


# the BPF program


def test_messages_and_doorbells_of_a_channel(bpf) -> None:
    lines = [event("msg_queued", src=0, dst=1, queue=2)] * 9_973
    lines += [event("doorbell_sent", src=0, dst=1, queue=2)] * 7
    lines += [event("msg_queued", src=0, dst=2)]
    seen = bpf(lines)
    assert seen["sent"] == [[0, 1, 2, 9_973, 7], [0, 2, 0, 1, 0]]
    assert seen["counters"] == [9_974, 0]
    assert bpf(lines, ONLY_NODE=2)["sent"] == [[0, 2, 0, 1, 0]]


def irq(tsc: int) -> str:
    return event("doorbell_irq", node=0, queue=1, tsc=tsc)


def poll(begin: int, work: int) -> str:
    return event("poll", node=0, queue=1, work=work, begin=begin, end=begin + 9)


@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        # interrupts, empty, polls, idle, messages
        ([irq(10), poll(12, 64), poll(30, 3)], [1, 0, 2, 0, 67]),
        ([irq(10), poll(12, 0)], [1, 1, 1, 1, 0]),
        # Only the first poll after an interrupt was what it asked for.
        ([irq(10), poll(12, 5), poll(30, 0)], [1, 0, 2, 1, 5]),
        # One that comes during a poll is answered by the next one.
        ([irq(15), poll(12, 0), poll(30, 2)], [1, 0, 2, 1, 2]),
        ([irq(15), poll(12, 2), poll(30, 0)], [1, 1, 2, 1, 2]),
        ([poll(12, 0)], [0, 0, 1, 1, 0]),
    ],
)
def test_what_an_interrupt_found(bpf, lines: list[str], taken: list[int]) -> None:
    seen = bpf(lines)
    assert seen["taken"] == [[0, 1, *taken]]
    assert seen["counters"] == [taken[-1], 0]


def test_events_without_room_are_counted(bpf) -> None:
    lines = [event("msg_queued", src=n, dst=0) for n in range(258)]
    lines.append(event("doorbell_sent", src=999))
    lines += [event("poll", node=n, work=1) for n in range(65)]
    lines.append(event("doorbell_irq", node=999, tsc=5))
    seen = bpf(lines)
    assert (len(seen["sent"]), len(seen["taken"])) == (256, 64)
    assert seen["counters"] == [256 + 64, 2 + 1 + 1 + 1]


def test_program_and_python_agree() -> None:
    names = tracing_host.enum(doorbell.SOURCE, "counter_id")
    assert names[doorbell.MESSAGES] == "MESSAGES"
    assert names[doorbell.UNRECORDED] == "UNRECORDED"
    for name, fields in doorbell.EVENTS.items():
        assert tracing_host.arguments_of(name) == fields
    source = doorbell.SOURCE.read_text()
    for struct, fields in (("sent", doorbell.SENT), ("taken", doorbell.TAKEN)):
        body = re.search(rf"struct {struct} \{{(.*?)\}};", source, re.DOTALL)
        assert body is not None
        assert tuple(re.findall(r"u64 (\w+);", body[1])) == fields


# reports


def cells(names: tuple[str, ...], *cpus: tuple[int, ...]) -> list[SimpleNamespace]:
    return [SimpleNamespace(**dict(zip(names, cpu, strict=True))) for cpu in cpus]


def key(**values: int):
    """Hashable."""
    return type("Key", (), values)()


def program(more: int) -> dict:
    """Loaded programs with maps as dicts; `more` messages on CPU 4 than at first."""
    found = type("Program", (dict,), {"missed": lambda self: 0})()
    channel, queue = key(src=0, dst=1, queue=0), key(node=0, queue=0)
    found.update(
        sent={channel: cells(doorbell.SENT, (10, 5), (0, 0), (20 + more, 2))},
        taken={queue: cells(doorbell.TAKEN, (5, 1, 9, 3, 40), (0,) * 5, (1, 0, 1, 0, 7 + more))},
        counters=SimpleNamespace(sum=lambda index: (99, more)[index]),
    )
    return found


def reading(more: int, when: float) -> doorbell.Reading:
    queues = {0: Queue(0, window_hits=3 + more, sleeps=9, spurious=1, window_ns=12_500)}
    return doorbell.read(program(more), when, queues, (0, 1, 4))


FIRST = reading(0, 2.0).since(doorbell.Reading(0.5), HERE)


def test_the_first_report() -> None:
    assert FIRST.sent == (doorbell.Sent(0, 1, 0, 0, 10, 5), doorbell.Sent(0, 1, 0, 4, 20, 2))
    assert FIRST.taken == (
        doorbell.Taken(0, 0, 0, 5, 1, 9, 3, 40),
        doorbell.Taken(0, 0, 4, 1, 0, 1, 0, 7),
    )
    assert FIRST.sent[0].saved == 0.5
    assert dataclasses.replace(FIRST.sent[0], messages=0).saved is None
    # Doorbells for room, or for news of a node, come without a message.
    assert dataclasses.replace(FIRST.sent[0], doorbells=11).saved == 0


def test_the_next_report_has_what_came_since() -> None:
    report = reading(6, 3.5).since(reading(0, 2.0), HERE)
    assert report.seconds == 1.5
    assert report.sent == (doorbell.Sent(0, 1, 0, 4, 6, 0),)
    assert report.taken == (doorbell.Taken(0, 0, 4, 0, 0, 0, 0, 6),)
    assert report.windows == (doorbell.Window(0, 6, 0, 0, 12_500),)
    assert report.missed == 6


def test_json_is_stable() -> None:
    assert FIRST.to_json() == {
        "node": 0,
        "seconds": 1.5,
        "missed": 0,
        "messages": {"queued": 30, "taken": 47},
        "doorbells": {"sent": 7, "interrupts": 6, "empty": 1},
        "sent": [
            {"src": 0, "dst": 1, "queue": 0, "cpu": 0, "messages": 10, "doorbells": 5},
            {"src": 0, "dst": 1, "queue": 0, "cpu": 4, "messages": 20, "doorbells": 2},
        ],
        "taken": [
            {"node": 0, "queue": 0, "cpu": 0, "interrupts": 5, "empty": 1, "polls": 9,
             "idle_polls": 3, "messages": 40},
            {"node": 0, "queue": 0, "cpu": 4, "interrupts": 1, "empty": 0, "polls": 1,
             "idle_polls": 0, "messages": 7},
        ],
        "queues": [
            {"queue": 0, "window_hits": 3, "sleeps": 9, "spurious": 1, "window_ns": 12_500}
        ],
    }  # fmt: skip


def test_the_module_may_go_meanwhile(module) -> None:
    module.queues = [{"queue": 0, "sleeps": 4, "window-hits": 2}]
    assert doorbell._queues(module.client)[0].sleeps == 4
    module.loaded = False
    assert doorbell._queues(module.client) == {}


# popcornctl


@pytest.fixture
def ctl(monkeypatch, capsys):
    """Run popcornctl with a tracer that reports FIRST: (status, out, err, what it was asked)."""
    asked = []

    def run(options, limits, *, show, ready, output):
        asked.append((options, limits))
        ready("tracing doorbells")
        show(FIRST)
        return 0

    monkeypatch.setattr(doorbell, "run", run)

    def call(*words: str):
        status = main(["trace", "doorbell", *words])
        out, err = capsys.readouterr()
        return status, out, err, asked[-1] if asked else None

    return call


def test_tables_for_people(ctl) -> None:
    _, out, err, _ = ctl()
    assert err == "tracing doorbells\n"
    heading, sent, taken, queues = out.strip().split("\n\n")
    assert heading == "30 messages sent with 7 doorbells, 47 taken with 6 interrupts in 1.5 s"
    assert [line.split() for line in sent.splitlines()] == [
        ["FROM", "TO", "QUEUE", "CPU", "MESSAGES", "DOORBELLS", "SAVED"],
        ["0", "(primary)", "1", "(web)", "0", "0", "10", "5", "50.0%"],
        ["0", "(primary)", "1", "(web)", "0", "4", "20", "2", "90.0%"],
    ]
    assert [line.split() for line in taken.splitlines()] == [
        ["AT", "QUEUE", "CPU", "MESSAGES", "INTERRUPTS", "SAVED", "EMPTY", "POLLS", "IDLE"],
        ["0", "(primary)", "0", "0", "40", "5", "87.5%", "1", "9", "3"],
        ["0", "(primary)", "0", "4", "7", "1", "85.7%", "0", "1", "0"],
    ]
    assert queues.splitlines()[1].split() == ["0", "12.50", "µs", "3", "9", "1"]
    assert max(map(len, out.splitlines())) < 100


def test_the_command_line(ctl) -> None:
    _, out, _, asked = ctl("--json", "2", "5", "--node", "web", "--count", "7")
    assert asked == (doorbell.Options("web"), Limits(interval=2, reports=5, messages=7))
    assert json.loads(out) == FIRST.to_json()
    assert len(out.splitlines()) == 1
    assert json.loads(ctl("--json")[1]) == FIRST.to_json()


@pytest.mark.parametrize("words", [("soon",), ("--count", "0"), ("--",), ("1", "--", "true")])
def test_wrong_usage(ctl, words: tuple[str, ...]) -> None:
    status, out, err, _ = ctl(*words)
    assert (status, out) == (2, "")
    assert err.startswith("popcornctl: ")


def test_missed_events_are_said(ctl, monkeypatch) -> None:
    import sys

    missed = dataclasses.replace(FIRST, missed=3)
    monkeypatch.setattr(sys.modules[__name__], "FIRST", missed)
    assert "3 events were missed" in ctl()[1]


def test_no_such_node(monkeypatch, capsys) -> None:
    monkeypatch.setattr(doorbell, "check", lambda events: None)
    monkeypatch.setattr(doorbell, "machine", lambda: HERE)
    with pytest.raises(PopcornError, match="nobody"):
        doorbell.run(doorbell.Options("nobody"), Limits(), show=print, ready=print)


def test_documentation() -> None:
    options = [
        name for option in cli_trace.doorbell.params for name in option.opts if name[0] == "-"
    ]
    columns = ["SAVED", "EMPTY", "POLLS", "IDLE", "WINDOW", "HITS", "SLEEPS", "SPURIOUS"]
    words = [*options, *columns, *FIRST.to_json(), *FIRST.sent[0].to_json()]
    words += [*FIRST.taken[0].to_json(), *FIRST.windows[0].to_json()]
    tracing_host.page_has_all("doorbell", [word for word in words if word != "--debug"])
