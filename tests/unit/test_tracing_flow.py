# SPDX-License-Identifier: GPL-2.0
"""The flow tracer without a kernel: its BPF program on the host, a message's way, its words."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tracing_host

from popcorn.cli import main
from popcorn.cli.trace import flow as cli_trace
from popcorn.errors import NotFoundError
from popcorn_tracing import flow
from popcorn_tracing.common import Limits, Machine, UsageError
from popcorn_tracing.services import Filter

HERE = Machine(2_000_000, 0, {0: "primary", 1: "web"})

#: Stamps in cycles of a message that was rung for; two cycles are a nanosecond.
RUNG = {"queued": 1000, "doorbell": 1200, "irq": 2000, "poll": 5000, "delivered": 21000}


def message(**values: int) -> str:
    return tracing_host.event(flow.EVENTS, "popcorn_msg_delivered", **values)


@pytest.fixture(scope="module")
def bpf(tmp_path_factory: pytest.TempPathFactory):
    """Run the BPF program: its records, and its counters."""
    run = tracing_host.build(tmp_path_factory.mktemp("bpf"), "flow_host.c", flow.SOURCE)

    def call(lines: list[str], **defines: int):
        *records, counters = run(lines, **defines).splitlines()
        return [bytes.fromhex(record) for record in records], [int(n) for n in counters.split()]

    return call


# the BPF program


def test_a_record_has_everything(bpf) -> None:
    (record,), counters = bpf([message(src=1, dst=0, queue=2, seq=77, service=1, len=24, **RUNG)])
    assert len(record) == flow.EVENT.size
    assert counters == [1, 1, 0]
    found = flow.parse(record, 1000, HERE)
    assert (found.when, found.src, found.dst, found.queue, found.seq) == (0, 1, 0, 2, 77)
    assert (found.service, found.bytes, found.cpu, found.nanos) == (1, 24, 3, 10_000)


@pytest.mark.parametrize(
    ("defines", "sequences"),
    [
        ({}, [1, 2, 3, 4]),
        ({"ONLY_NODE": 2}, [2]),
        (Filter(((None, 1),)).defines(), [1, 2, 3]),
        (Filter(((2, 1), (0, 7))).defines(), [4]),
        ({"LEN_MIN": 100}, [3, 4]),
        ({"LEN_MAX": 100}, [1, 2, 3]),
        ({"LEN_MIN": 100, "LEN_MAX": 100}, [3]),
    ],
)
def test_filters(bpf, defines: dict[str, int], sequences: list[int]) -> None:
    lines = [
        message(src=1, dst=0, seq=1, service=1, len=10, queued=1, delivered=2),
        message(src=2, dst=0, seq=2, service=1, len=10, queued=1, delivered=2),
        message(src=1, dst=0, seq=3, service=1, len=100, queued=1, delivered=2),
        message(src=1, dst=0, seq=4, service=7, len=101, queued=1, delivered=2),
    ]
    records, counters = bpf(lines, **defines)
    assert [flow.parse(record, 0, HERE).seq for record in records] == sequences
    assert counters == [len(sequences), len(sequences), 0]


def test_only_slower_ones(bpf) -> None:
    lines = [message(seq=n, queued=1000, delivered=1000 + n) for n in (0, 499, 500, 501, 9000)]
    lines.append(message(seq=8, queued=2000, delivered=1000))
    records, counters = bpf(lines, SLOWER=1, SLOWER_CYCLES=500)
    assert [flow.parse(record, 0, HERE).seq for record in records] == [501, 9000]
    assert counters == [6, 2, 0]


def test_lost_ones_are_counted(bpf) -> None:
    records, counters = bpf([message(queued=1, delivered=2)] * 9_973, ROOM=7)
    assert len(records) == 7
    assert counters == [9_973, 9_973, 9_966]


def test_program_and_python_agree() -> None:
    names = tracing_host.enum(flow.SOURCE, "counter_id")
    assert [names[n] for n in (flow.DELIVERED, flow.SLOW, flow.LOST)] == [
        "DELIVERED", "SLOW", "LOST"
    ]  # fmt: skip
    assert names[flow.DROPPED] == "DROPPED"
    for name, fields in flow.FRAME_EVENTS.items():
        assert tracing_host.arguments_of(name) == fields


# frames


def event(name: str, **values: int) -> str:
    return tracing_host.event(flow.FRAME_EVENTS, f"popcorn_{name}", **values)


def received(**values: int) -> str:
    return event("net_receive", **{"src": 1, "dst": 0, "queue": 2, "queued": 1000, **values})


def frames_of(bpf, lines: list[str], **defines: int) -> tuple[list[flow.Frame], list[int]]:
    records, counters = bpf(lines, FRAMES=1, **defines)
    assert {len(record) for record in records} <= {flow.FRAME.size}
    return [flow.parse_frame(record, 1000, HERE) for record in records], counters


def test_a_frame_has_the_stages_of_its_message(bpf) -> None:
    lines = [
        message(src=1, dst=0, queue=2, seq=7, service=5, len=99, **RUNG),
        received(len=60, tsc=31_000),
    ]
    (frame,), counters = frames_of(bpf, lines)
    assert counters == [1, 1, 0, 0]
    assert (frame.src, frame.dst, frame.queue, frame.bytes, frame.cpu) == (1, 0, 2, 60, 3)
    assert [(span.name, span.nanos) for span in frame.spans] == [
        ("queued-doorbell", 100),
        ("doorbell-interrupt", 400),
        ("interrupt-poll", 1500),
        ("poll-delivered", 8000),
        ("delivered-stack", 5000),
    ]
    assert (frame.nanos, frame.dropped, frame.longest.name) == (15_000, None, "poll-delivered")
    assert frame.to_json()["dropped"] is None


def test_a_frame_does_not_take_the_stages_of_another_message(bpf) -> None:
    # Of another queue, another time, another sender.
    for other in ({"queue": 3}, {"queued": 999}, {"src": 2}):
        given = {"src": 1, "dst": 0, "queue": 2, **RUNG, **other}
        (frame,), _ = frames_of(bpf, [message(**given), received(tsc=31_000)])
        assert [span.name for span in frame.spans] == ["queued-stack"]


def test_drops_are_frames_too(bpf) -> None:
    lines = [
        event("net_drop", node=0, peer=1, queue=2, rx=1, reason=22, len=1009, tsc=3000),
        event("net_drop", node=0, peer=flow.NO_PEER, queue=1, reason=15, len=60, tsc=5000),
    ]
    (came, went), counters = frames_of(bpf, lines)
    assert counters == [0, 2, 0, 2]
    assert (came.src, came.dst, came.dropped, came.bytes) == (1, 0, "rx_too_long", 1009)
    assert (went.src, went.dst, went.dropped, went.bytes) == (0, None, "tx_no_peer", 60)
    assert went.to_json() == {
        "time": 2e-06, "src": 0, "dst": None, "queue": 1, "dropped": "tx_no_peer", "bytes": 60,
        "cpu": 3, "total_ns": None, "stages": [], "longest": None,
    }  # fmt: skip
    assert cli_trace._passage_line(went).split() == [
        "0.000002", "0", "-", "1", "60", "3", *"------", "dropped:", "tx_no_peer",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("defines", "sizes", "counters"),
    [
        ({}, [1, 2, 3, 4, 5], [3, 5, 0, 2]),
        ({"ONLY_NODE": 2}, [2, 5], [1, 2, 0, 1]),
        ({"ONLY_LINK": 0}, [1, 2, 5], [2, 3, 0, 1]),
        ({"LEN_MIN": 2, "LEN_MAX": 4}, [2, 3, 4], [2, 3, 0, 1]),
        # What was dropped took no time.
        ({"SLOWER": 1, "SLOWER_CYCLES": 0}, [1, 2, 3], [3, 3, 0, 2]),
        ({"SLOWER": 1, "SLOWER_CYCLES": 500}, [3], [3, 1, 0, 2]),
    ],
)
def test_filters_of_frames(bpf, defines: dict[str, int], sizes: list[int], counters: list[int]):
    lines = [
        received(len=1, tsc=1001),
        received(len=2, src=2, tsc=1500),
        received(len=3, dst=3, tsc=1501),
        event("net_drop", node=3, peer=1, rx=1, reason=10, len=4, tsc=1),
        event("net_drop", node=0, peer=2, reason=16, len=5, tsc=1),
    ]
    found, counted = frames_of(bpf, lines, **defines)
    assert ([frame.bytes for frame in found], counted) == (sizes, counters)


def test_a_prime_number_of_frames(bpf) -> None:
    lines = [received(tsc=1001)] * 9_973 + [event("net_drop", reason=22, tsc=1)] * 997
    assert frames_of(bpf, lines, ROOM=7)[1] == [9_973, 10_970, 10_963, 997]


def test_a_line_of_a_frame() -> None:
    parts = (flow.Span("queued", "poll", 500), flow.Span("poll", "stack", 1500))
    frame = flow.Frame(0.25, 1, 0, 2, 331, 3, 2000, parts, None)
    cells = cli_trace._passage_line(frame).split()
    assert cells == [
        "0.250000", "1", "0", "2", "331", "3", "2.0",
        "-", "-", "0.5", "-", "1.5", "poll", "->", "stack", "75%",
    ]  # fmt: skip


def test_frames_and_a_service_do_not_go_together() -> None:
    for given in ({"frames": True}, {"link": "popcorn0"}):
        with pytest.raises(UsageError, match="one service"):
            flow.Options(service="echo", **given)


# a message's way


def way(**stamps: int) -> list[tuple[str, int]]:
    names = {"irq": "interrupt"}
    given = dict.fromkeys(flow.POINTS, 0) | {names.get(k, k): v for k, v in stamps.items()}
    return [(span.name, span.nanos) for span in flow.spans(given, 1_000_000)]


def test_the_parts_follow_one_another() -> None:
    assert way(**RUNG) == [
        ("queued-doorbell", 200),
        ("doorbell-interrupt", 800),
        ("interrupt-poll", 3000),
        ("poll-delivered", 16000),
    ]


def test_what_was_not_passed_is_left_out() -> None:
    assert way(queued=10, delivered=25) == [("queued-delivered", 15)]
    assert way(queued=10, poll=12, delivered=25) == [("queued-poll", 2), ("poll-delivered", 13)]


def test_an_interrupt_during_the_poll_was_not_on_the_way() -> None:
    assert way(queued=10, doorbell=11, irq=15, poll=12, delivered=25) == [
        ("queued-doorbell", 1), ("doorbell-poll", 1), ("poll-delivered", 13)
    ]  # fmt: skip


def test_stamps_that_cannot_be() -> None:
    assert way(queued=10, doorbell=5, irq=99, delivered=25) == [("queued-delivered", 15)]
    assert way(queued=30, delivered=25) == [("queued-delivered", 0)]


@pytest.mark.parametrize("khz", [1_000_000, 2_399_987])
def test_the_parts_are_the_whole(khz: int) -> None:
    stamps = {"queued": 10**15, "doorbell": 10**15 + 7, "interrupt": 10**15 + 999}
    stamps |= {"poll": 10**15 + 1002, "delivered": 10**15 + 123_457}
    whole = 123_457 * 1_000_000 // khz
    parts = [span.nanos for span in flow.spans(stamps, khz)]
    assert 0 <= whole - sum(parts) < len(parts)


def record(seq: int, service: int = 1, **stamps: int) -> bytes:
    found = RUNG | stamps
    return struct.pack("=6I5Q2I", 1, 0, 0, seq, service, 24, *found.values(), 3, 0)


SLOW = flow.parse(record(1), -3000, HERE)


def test_json_is_stable() -> None:
    assert SLOW.to_json() == {
        "time": 2e-06,
        "src": 1,
        "dst": 0,
        "queue": 0,
        "seq": 1,
        "service": "echo",
        "bytes": 24,
        "cpu": 3,
        "total_ns": 10000,
        "stages": [
            {"name": "queued-doorbell", "ns": 100},
            {"name": "doorbell-interrupt", "ns": 400},
            {"name": "interrupt-poll", "ns": 1500},
            {"name": "poll-delivered", "ns": 8000},
        ],
        "longest": "poll-delivered",
    }


# reading the buffer


class FakeProgram(dict):
    """Loaded programs whose buffer holds `records`."""

    def __init__(self, records: list[bytes], lost: int = 0) -> None:
        numbers = (len(records) + lost, len(records) + lost, lost)
        super().__init__(counters=SimpleNamespace(sum=lambda n: numbers[n]))
        self.records = records
        self.interrupt = False

    def missed(self) -> int:
        return 0

    def ring(self, name: str) -> FakeProgram:
        assert name == "events"
        return self

    def take(self) -> Iterator[bytes]:
        while self.records:
            yield self.records.pop(0)
            if self.interrupt:
                os.kill(os.getpid(), signal.SIGINT)

    def wait(self, seconds: float) -> None:
        pass


def test_messages_are_shown_in_order_until_enough() -> None:
    shown: list[flow.Flow] = []
    program = FakeProgram([record(n, queued=1000 + n, delivered=3000 + n) for n in range(5)], 2)
    reader = flow.Reader(program, HERE, shown.append, 3)
    reader.pause(0)
    assert [found.seq for found in shown] == [0, 1, 2]
    # Time is since the first one.
    assert [round(found.when * 2e9) for found in shown] == [0, 1, 2]
    assert reader.summary() == flow.Summary(7, 7, 3, 2)


def test_a_service_that_came_later_gets_its_name() -> None:
    shown: list[flow.Flow] = []
    asked = []

    def refresh(here: Machine) -> Machine:
        asked.append(here)
        return dataclasses.replace(here, services={(0, 7): "hello"})

    records = [record(n, service=service) for n, service in enumerate((1, 7, 8, 7))]
    reader = flow.Reader(FakeProgram(records), HERE, shown.append, None, refresh=refresh)
    reader.rest()
    assert [found.name for found in shown] == ["echo", "hello", "8", "hello"]
    # Once, however many of them nobody knows.
    assert asked == [HERE]
    assert shown[1].to_json()["service"] == "hello"


def test_what_show_raises_is_not_forgotten() -> None:
    def show(_: flow.Flow) -> None:
        raise BrokenPipeError

    reader = flow.Reader(FakeProgram([record(1), record(2)]), HERE, show, None)
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            reader.rest()
    reader.rest()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler, also where a shell started the tests in the background without one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_messages_are_shown(ctrl_c: None) -> None:
    shown: list[flow.Flow] = []
    program = FakeProgram([record(1), record(2)])
    program.interrupt = True
    reader = flow.Reader(program, HERE, shown.append, None)
    with pytest.raises(KeyboardInterrupt):
        reader.pause(0)
    # All that the buffer gave was shown first.
    assert len(shown) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# options


def test_what_the_program_gets() -> None:
    options = flow.Options("web", "echo", 10, 20, 250.5, 10_000)
    assert flow._defines(options, HERE) == {
        "PAGES": 4,
        "ONLY_NODE": 1,
        "ONLY_SERVICE(node, id)": "((id) == 1)",
        "LEN_MIN": 10,
        "LEN_MAX": 20,
        "SLOWER": 1,
    }
    assert flow._values(options, HERE) == {"slower_cycles": 501_000}
    assert flow._defines(flow.Options(), HERE) == {"PAGES": 1024}
    assert flow._values(flow.Options(), HERE) == {}
    with pytest.raises(NotFoundError, match="nobody"):
        flow._defines(flow.Options("nobody"), HERE)


@pytest.mark.parametrize(
    "options", [{"size_min": 3, "size_max": 2}, {"buffer_bytes": 100}, {"buffer_bytes": 1 << 40}]
)
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(UsageError):
        flow.Options(**options)


# popcornctl


@pytest.fixture
def ctl(monkeypatch, capsys):
    """Run popcornctl with a tracer that shows SLOW: (status, out, err, what it was asked)."""
    asked = []

    def run(options, limits, *, show, ready, end, output):
        asked.append((options, limits))
        assert output is sys.stderr
        ready("tracing messages")
        show(SLOW)
        end(flow.Summary(9, 3, 1, 2, 4))
        return 5 if limits.command else 0

    monkeypatch.setattr(flow, "run", run)

    def call(*words: str):
        status = main(["trace", "flow", *words])
        out, err = capsys.readouterr()
        return status, out, err, asked[-1] if asked else None

    return call


def test_lines_for_people(ctl) -> None:
    status, out, err, _ = ctl()
    assert status == 0
    head, line = out.splitlines()
    assert line.split() == [
        "0.000002", "1", "0", "0", "echo", "24", "3", "10.0",
        "0.1", "0.4", "1.5", "8.0", "poll", "->", "delivered", "80%",
    ]  # fmt: skip
    assert head.split()[-5:] == ["BELL", "IRQ", "POLL", "DELIV", "LONGEST"]
    assert err.splitlines() == [
        "tracing messages",
        "9 messages delivered, 3 slow enough, 1 shown, 2 lost (use a larger --buffer, or a filter),"
        " 4 missed by the kernel",
    ]


def test_frames_have_columns_of_their_own(ctl) -> None:
    status, out, _, asked = ctl("--link", "popcorn0")
    assert (status, asked[0]) == (0, flow.Options(link="popcorn0"))
    assert out.splitlines()[0].split()[-4:] == ["POLL", "DELIV", "STACK", "LONGEST"]
    assert ctl("--frames", "--service", "echo")[0] == 2


def test_json_lines(ctl) -> None:
    _, out, _, _ = ctl("--json")
    first, last = [json.loads(line) for line in out.splitlines()]
    assert first == SLOW.to_json()
    assert last == {"summary": {"delivered": 9, "slow": 3, "shown": 1, "lost": 2, "missed": 4}}


def test_the_command_line(ctl) -> None:
    words = ["--node", "web", "--service", "1", "--min-size", "1K", "--max-size", "2K"]
    words += ["--slower", "0.5", "--buffer", "8M", "--count", "7", "--duration", "3"]
    _, _, _, asked = ctl(*words)
    assert asked == (
        flow.Options("web", "1", 1024, 2048, 0.5, 8 << 20),
        Limits(duration=3, messages=7),
    )
    status, _, _, asked = ctl("--", "true", "--json")
    assert (status, asked[1]) == (5, Limits(command=("true", "--json")))
    assert asked[0] == flow.Options()


@pytest.mark.parametrize(
    ("summary", "says"),
    [
        (flow.Summary(5, 5, 5), "5 messages delivered, 5 shown, 0 lost"),
        (flow.Summary(9, 9, 5), "9 messages delivered, 5 shown, 4 came too late to be, 0 lost"),
        (flow.Summary(9, 2, 2), "9 messages delivered, 2 slow enough, 2 shown, 0 lost"),
        (flow.Summary(9, 11, 11, dropped=2), "9 frames received, 2 dropped, 11 shown, 0 lost"),
        (
            flow.Summary(9, 1, 1, dropped=2),
            "9 frames received, 2 dropped, 1 slow enough, 1 shown, 0 lost",
        ),
    ],
)
def test_what_is_said_at_the_end(summary: flow.Summary, says: str) -> None:
    assert cli_trace._flow_end(summary) == says


@pytest.mark.parametrize(
    "words",
    [
        ("--slower", "soon"),
        ("--slower", "-1"),
        ("--buffer", "none"),
        ("--min-size", "2K", "--max-size", "1K"),
        ("--count", "0"),
        ("--",),
    ],
)
def test_wrong_usage(ctl, words: tuple[str, ...]) -> None:
    status, out, err, _ = ctl(*words)
    assert (status, out) == (2, "")
    assert err.startswith("popcornctl: ")


def test_documentation() -> None:
    options = [name for option in cli_trace.flow.params for name in option.opts]
    words = [*options, *SLOW.to_json(), *flow.Summary().to_json(), *flow.POINTS]
    tracing_host.page_has_all("flow", [word for word in words if word != "--debug"])
    assert Path(flow.SOURCE).exists()
