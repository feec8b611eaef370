# SPDX-License-Identifier: GPL-2.0
"""The recorder without a kernel: its BPF program on the host, the timeline, its words."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tracing_host

from popcorn.cli import main
from popcorn.cli.trace import record as cli_trace
from popcorn.errors import PopcornError
from popcorn_tracing import record, timeline
from popcorn_tracing.common import Limits, Machine, UsageError
from popcorn_tracing.events import EVENT, EVENTS, KINDS, START_STAGES, Event, Sample, Summary
from popcorn_tracing.net import NO_PEER

HERE = Machine(2_000_000, 0, {0: "primary", 1: "web"})


def line(kind: str, **values: int) -> str:
    return tracing_host.event(EVENTS, f"popcorn_{kind}", **values)


#: A start, a message each way, a poll and an interrupt; two cycles are a nanosecond.
LINES = [
    line("kernel_stage", kernel=1, stage=7, tsc=900),
    line("node_state", node=1, epoch=4, state=2, tsc=950),
    line("msg_queued", src=0, dst=1, seq=5, service=1, len=24, tsc=1000),
    line("doorbell_sent", src=0, dst=1, apic_id=2, vector=33, tsc=1100),
    line("doorbell_irq", node=0, queue=0, tsc=4000),
    line("msg_delivered", src=1, dst=0, seq=6, service=1, len=24, queued=2000, doorbell=3000,
         irq=4000, poll=5000, delivered=7000),
    line("poll", node=0, queue=0, work=1, budget=64, begin=5000, end=8000),
    line("channel_full", src=0, dst=1, tsc=8100),
    line("service_peer", node=0, peer=1, service=1, up=1, tsc=8200),
]  # fmt: skip


@pytest.fixture(scope="module")
def bpf(tmp_path_factory: pytest.TempPathFactory):
    """Run the BPF program: its records, and (seen, lost) of each kind."""
    run = tracing_host.build(tmp_path_factory.mktemp("bpf"), "record_host.c", record.SOURCE)

    def call(lines: list[str], **defines: int):
        *records, numbers = run(lines, **defines).splitlines()
        counts = [int(number) for number in numbers.split()]
        pairs = zip(counts[::2], counts[1::2], strict=True)
        return [bytes.fromhex(r) for r in records], dict(zip(KINDS, pairs, strict=True))

    return call


def spool(records: list[bytes], limit: int = 1 << 20) -> record.Spool:
    kept = record.Spool(io.BytesIO(), limit)
    for data in records:
        kept.add(data)
    return kept


def drawn(records: list[bytes], samples: list[Sample] | None = None, **summary: Any) -> dict:
    """The file that is made of records."""
    kept = spool(records)
    end = Summary(Path("x.json"), {**kept.kept, **summary}, {}, kept.kept)
    out = io.StringIO()
    timeline.write(out, kept, samples or [], HERE, end)
    found: dict = json.loads(out.getvalue())
    return found


def named(found: dict, name: str) -> list[dict]:
    return [event for event in found["traceEvents"] if event["name"] == name]


# the BPF program


def test_every_event_has_all_its_values(bpf) -> None:
    for kind, fields in zip(KINDS, EVENTS.values(), strict=True):
        values = {name: 7 + n for n, name in enumerate(fields)}
        (data,), counts = bpf([line(kind, **values)])
        assert len(data) <= EVENT.size
        event = Event.parse(data.ljust(EVENT.size, b"\0"))
        assert (event.kind, event.values, event.cpu) == (kind, values, 3)
        assert counts == {**dict.fromkeys(KINDS, (0, 0)), kind: (1, 0)}


def test_lost_ones_are_counted(bpf) -> None:
    lines = [line("msg_queued", tsc=n) for n in range(9_973)] + [line("poll", end=1)] * 3
    lines += [line("net_drop", tsc=n) for n in range(997)] + [line("tty_receive", tsc=1)] * 5
    records, counts = bpf(lines, ROOM=7)
    assert len(records) == 7
    assert (counts["net_drop"], counts["tty_receive"]) == ((997, 997), (5, 5))
    assert (counts["msg_queued"], counts["poll"]) == ((9_973, 9_966), (3, 3))


def test_program_and_python_agree() -> None:
    names = tracing_host.enum(record.SOURCE, "event_kind")
    assert [name.lower() for name in names] == [*KINDS, "kinds"]
    for name, fields in EVENTS.items():
        assert tracing_host.arguments_of(name) == fields
    header = tracing_host.ROOT / "kmod/include/popcorn_host.h"
    stages = tracing_host.enum(header, "pcn_kernel_stage")
    assert [name.removeprefix("PCN_KERNEL_STAGE_").lower() for name in stages] == list(START_STAGES)


# the timeline


def test_a_message_is_an_arrow_between_two_kernels(bpf) -> None:
    found = drawn(bpf(LINES)[0])
    assert found["displayTimeUnit"] == "ns"
    # Of the message to the other kernel only the beginning is known.
    start, end = [e for e in named(found, "message") if (e["ph"], e["pid"]) != ("s", 1)]
    assert (start["ph"], end["ph"]) == ("s", "f")
    assert start["id"] == end["id"]
    # What an arrow is tied to is a slice that begins when the arrow does.
    (sent,) = [e for e in named(found, "send echo") if e["pid"] == 2]
    (taken,) = named(found, "deliver echo")
    assert (sent["tid"], sent["ts"]) == (start["tid"], start["ts"])
    assert (taken["tid"], taken["ts"]) == (end["tid"], end["ts"])
    assert taken["args"] == {"seq": 6, "bytes": 24, "cpu": 3, "ns": 2500}
    # Two cycles a nanosecond, since the first event that has a stamp of this kernel.
    (poll,) = named(found, "poll")
    assert poll["tid"] == taken["tid"]
    assert (round(1000 * (taken["ts"] - poll["ts"])), poll["dur"]) == (1000, 1.5)


def test_stages_are_slices(bpf) -> None:
    found = drawn(bpf(LINES)[0])
    way = [e for e in found["traceEvents"] if e.get("cat") == "way"]
    times = {(e["name"], e["ph"]): round(1000 * e["ts"]) for e in way}
    begin = times["echo from web", "b"]
    assert {key: value - begin for key, value in times.items()} == {
        ("echo from web", "b"): 0,
        ("queued-doorbell", "b"): 0,
        ("queued-doorbell", "e"): 500,
        ("doorbell-interrupt", "b"): 500,
        ("doorbell-interrupt", "e"): 1000,
        ("interrupt-poll", "b"): 1000,
        ("interrupt-poll", "e"): 1500,
        ("poll-delivered", "b"): 1500,
        ("poll-delivered", "e"): 2500,
        ("echo from web", "e"): 2500,
    }
    assert {e["id"] for e in way} == {1} and {e["pid"] for e in way} == {1}


def test_the_rest_has_its_place(bpf) -> None:
    found = drawn(bpf(LINES)[0])
    tracks = {
        (e["pid"], e["tid"]): e["args"]["name"]
        for e in found["traceEvents"]
        if e["name"] == "thread_name"
    }
    places = {
        e["name"]: (e["pid"], tracks[e["pid"], e["tid"]])
        for e in found["traceEvents"]
        if e["ph"] == "i"
    }
    assert places == {
        "begin init": (2, "start"),
        "node up": (2, "states"),
        "doorbell": (1, "to web, queue 0"),
        "interrupt": (1, "interrupts, queue 0"),
        "channel full": (1, "to web, queue 0"),
        "echo: peer 1 up": (1, "services"),
    }
    names = {e["args"]["name"] for e in named(found, "process_name")}
    assert names == {"primary (node 0)", "web (node 1)"}


#: Frames from here, from the other kernel and dropped ones; bytes of a line each way.
TRAFFIC = [
    line("net_transmit", ifindex=7, src=0, dst=1, queue=2, len=65_000, gso_size=1400, gso_segs=47,
         first=1, tsc=2000),
    line("net_receive", ifindex=7, src=1, dst=0, queue=3, len=331, queued=2000, tsc=5000),
    line("net_drop", ifindex=7, node=0, peer=1, queue=3, rx=1, reason=22, len=1009, tsc=6000),
    line("net_drop", ifindex=7, node=0, peer=NO_PEER, queue=2, reason=15, len=60, tsc=7000),
    line("tty_transmit", src=0, dst=1, line=4, len=100, left=7, tsc=8000),
    line("tty_receive", src=1, dst=0, line=4, len=97, tsc=9000),
]  # fmt: skip


def test_frames_and_lines_have_tracks_of_their_own(bpf) -> None:
    found = drawn(bpf(TRAFFIC)[0])
    tracks = {
        (e["pid"], e["tid"]): e["args"]["name"]
        for e in found["traceEvents"]
        if e["name"] == "thread_name"
    }
    shown = [
        (tracks[e["pid"], e["tid"]], e["name"], e["pid"], e["args"])
        for e in found["traceEvents"]
        if e["ph"] == "i"
    ]
    assert shown == [
        ("link to web, queue 2", "transmit", 1, {"bytes": 65_000, "segments": 47, "first": 1}),
        ("link from web, queue 3", "receive", 1, {"bytes": 331, "ns": 1500}),
        ("link from web, queue 3", "drop rx_too_long", 1, {"bytes": 1009}),
        ("link to nobody, queue 2", "drop tx_no_peer", 1, {"bytes": 60}),
        ("line 4 to web", "transmit", 1, {"bytes": 100, "left": 7}),
        ("line 4 from web", "receive", 1, {"bytes": 97, "left": 0}),
    ]
    # The way of a frame, which others overlap.
    begin, end = named(found, "frame from web")
    assert (begin["ph"], end["ph"], begin["id"]) == ("b", "e", end["id"])
    assert round(1000 * (end["ts"] - begin["ts"])) == 1500


def test_a_frame_from_the_future_takes_no_time(bpf) -> None:
    found = drawn(bpf([line("net_receive", src=1, queued=9000, tsc=5000)])[0])
    (taken,) = named(found, "receive")
    assert taken["args"]["ns"] == 0


def test_all_messages_are_in_the_file(bpf) -> None:
    lines = [
        line("msg_delivered", src=1, seq=n, service=1, queued=9 * n + 1, delivered=9 * n + 5)
        for n in range(997)
    ]
    found = drawn(bpf(lines)[0])
    count = Counter((e["ph"], e["name"]) for e in found["traceEvents"])
    for key in (("s", "message"), ("f", "message"), ("X", "deliver echo"), ("b", "echo from web")):
        assert count[key] == 997
    assert len({e["id"] for e in found["traceEvents"] if e["ph"] == "f"}) == 997


def test_both_ends_here_make_one_sender(bpf) -> None:
    lines = [
        line("msg_queued", src=1, dst=0, seq=6, service=1, tsc=2000),
        line("msg_delivered", src=1, dst=0, seq=6, service=1, queued=2000, delivered=7000),
    ]
    found = drawn(bpf(lines)[0])
    assert len(named(found, "send echo")) == 1
    assert [e["ph"] for e in found["traceEvents"] if e["name"] == "message"] == ["s", "f"]


def test_a_stamp_that_cannot_be_does_not_stretch_the_timeline(bpf) -> None:
    lines = [
        line("msg_queued", src=0, dst=1, tsc=10**15),
        line("msg_delivered", src=1, queued=1, delivered=10**15 + 2000),
    ]
    found = drawn(bpf(lines)[0])
    times = [event["ts"] for event in found["traceEvents"] if "ts" in event]
    assert min(times) == 0 and max(times) == 1.0


def test_what_the_others_counted(bpf) -> None:
    samples = [Sample(4000), Sample(5500, {(0, 1, 0): 9})]
    # The clock said 5000 when the counter was at 1000 cycles, which are 500 ns.
    found = drawn(bpf([line("msg_queued", src=0, dst=1, tsc=1000)])[0], samples)
    counters = [e for e in found["traceEvents"] if e["ph"] == "C"]
    assert [(e["pid"], e["args"]["messages"]) for e in counters] == [(2, 0), (2, 9)]
    (sent,) = named(found, "send echo") or named(found, "send control")
    assert round(1000 * (counters[1]["ts"] - sent["ts"])) == 500


def test_nothing_at_all() -> None:
    assert drawn([])["traceEvents"] == []


def test_the_file_says_what_is_not_in_it(bpf) -> None:
    found = drawn(bpf(LINES)[0], msg_queued=8)
    (told,) = [e for e in found["traceEvents"] if e.get("s") == "g"]
    assert told["name"] == "7 events are not in this file"
    assert told["args"]["msg_queued"] == 7
    assert found["otherData"]["events"]["msg_queued"] == {"seen": 8, "lost": 0, "left_out": 7}


def test_no_more_is_kept_than_the_limit(bpf) -> None:
    kept = spool(bpf(LINES)[0], 3 * EVENT.size)
    assert len(list(kept)) == 3 == sum(kept.kept.values())


# recording


def test_recording(bpf) -> None:
    records, detached = bpf(LINES)[0], []

    class Program(dict):
        def detach(self) -> None:
            detached.append(len(records))

        def ring(self, name: str) -> SimpleNamespace:
            return SimpleNamespace(take=lambda: [records.pop(0) for _ in list(records)])

    program = Program(seen=SimpleNamespace(sum=lambda n: 1), lost=SimpleNamespace(sum=lambda n: 0))
    kept = spool([])
    recorder = record.Recorder(program, kept, lambda: Sample(1))
    recorder.stop()
    # First, so that nothing comes any more.
    assert detached == [len(LINES)]
    assert len(list(kept)) == len(LINES)
    # Once at the beginning, once at the end.
    assert recorder.samples == [Sample(1), Sample(1)]


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    class Broken(record.Spool):
        def __iter__(self):
            raise OSError(28, "No space left on device")

    end = Summary(path, {}, {}, {})
    with pytest.raises(PopcornError, match="No space left"):
        record._write(path, Broken(io.BytesIO(), 1 << 20), [], HERE, end)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    record._write(path, spool([]), [], HERE, end)
    assert json.loads(path.read_text())["otherData"]["node"] == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_for_events_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(PopcornError, match=r"cannot write to .*/nothing: No such file"),
        record._spool(tmp_path / "nothing", 1 << 20),
    ):
        pass

    class Full(io.BytesIO):
        def write(self, data) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(PopcornError, match="cannot keep the events: No space left"):
        record.Spool(Full(), 1 << 20).add(b"")


@pytest.mark.parametrize("options", [{"buffer_bytes": 100}, {"limit_bytes": 1000}])
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(UsageError):
        record.Options(Path("x"), **options)


# popcornctl

SUMMARY = Summary(Path("t.json"), {"poll": 9, "msg_queued": 4}, {"poll": 2}, {"poll": 7}, 1)


@pytest.fixture
def ctl(monkeypatch, capsys):
    asked = []

    def run(options, limits, *, ready, end, output):
        asked.append((options, limits))
        ready("recording")
        end(SUMMARY)
        return 5 if limits.command else 0

    monkeypatch.setattr(record, "run", run)

    def call(*words: str):
        status = main(["trace", "record", *words])
        out, err = capsys.readouterr()
        return status, out, err, asked[-1]

    return call


def test_what_is_said_at_the_end(ctl) -> None:
    status, out, err, asked = ctl()
    assert (status, err) == (0, "recording\n")
    assert asked == (record.Options(Path("popcorn-trace.json")), Limits())
    lines = [text.split() for text in out.splitlines()]
    assert out.startswith("7 events are in t.json, 7 are not\nthe kernel missed 1\n")
    assert ["poll", "9", "2", "0"] in lines and ["msg_queued", "4", "0", "4"] in lines
    assert "--buffer" in out and "--limit" in out


def test_json(ctl) -> None:
    assert json.loads(ctl("--json")[1]) == SUMMARY.to_json()


def test_the_command_line(ctl) -> None:
    words = ["-o", "a.json", "--buffer", "1M", "--limit", "2M"]
    _, _, _, asked = ctl(*words, "--duration", "3")
    assert asked == (record.Options(Path("a.json"), 1 << 20, 2 << 20), Limits(duration=3))
    status, _, _, asked = ctl("--", "true")
    assert (status, asked[1]) == (5, Limits(command=("true",)))


def test_documentation() -> None:
    options = [name for option in cli_trace.record.params for name in option.opts]
    words = [*options, *SUMMARY.to_json(), *SUMMARY.to_json()["events"]["poll"], *KINDS]
    tracing_host.page_has_all("record", [word for word in words if word != "--debug"])
