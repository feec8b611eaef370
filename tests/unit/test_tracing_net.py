# SPDX-License-Identifier: GPL-2.0
"""The tracer of links without a kernel: its BPF program on the host, its report, its words."""

from __future__ import annotations

import dataclasses
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import tracing_host

from popcorn.cli import main
from popcorn.cli.trace import net as cli_trace
from popcorn.errors import NotFoundError, PopcornError
from popcorn_tracing import net
from popcorn_tracing.common import Limits, LogHistogram, Machine

KHZ = 2_000_000
HERE = Machine(KHZ, 0, {0: "primary", 1: "web"})


def event(name: str, **values: int) -> str:
    return tracing_host.event(net.EVENTS, f"popcorn_net_{name}", **values)


@pytest.fixture(scope="module")
def bpf(tmp_path_factory: pytest.TempPathFactory):
    """Run the BPF program on events: what it counted."""
    run = tracing_host.build(tmp_path_factory.mktemp("bpf"), "net_host.c", net.SOURCE)
    return lambda lines, **defines: json.loads(run(lines, TSC_KHZ=KHZ, **defines))


# the BPF program


def test_packets_of_a_link(bpf) -> None:
    lines = [event("transmit", src=0, dst=1, queue=2, len=373, first=1)] * 9_973
    lines += [event("transmit", src=0, dst=1, queue=2, len=60_000, gso_size=1448, gso_segs=42,
                    first=1)] * 3  # fmt: skip
    # To everybody: one packet, a copy for each.
    lines += [event("transmit", src=0, dst=n, queue=0, len=60, first=2 - n) for n in (1, 2)]
    seen = bpf(lines)
    size = 9_973 * 373 + 3 * 60_000
    assert seen["sent"] == [
        [0, 1, 2, 9_976, size, 3, 126, [9_976, size, 373, 60_000, {"8": 9_973, "15": 3}]],
        [0, 1, 0, 1, 60, 0, 0, [1, 60, 60, 60, {"5": 1}]],
        [0, 2, 0, 0, 0, 0, 0, [1, 60, 60, 60, {"5": 1}]],
    ]
    assert seen["counters"] == [9_978, 0]


def receive(**values: int) -> str:
    return event("receive", **{"src": 1, "dst": 0, "queue": 0, "len": 64, **values})


def test_how_long_packets_took(bpf) -> None:
    begin = 7 << 40
    lines = [
        receive(queued=begin, tsc=begin + 2 * 900),
        receive(queued=begin, tsc=begin + 2 * 1_500),
        receive(queued=begin, tsc=begin),
        # A sender's clock is ours; a stamp of the future is forged.
        receive(queued=begin, tsc=begin - 1),
    ]
    seen = bpf(lines)
    assert seen["received"] == [
        [1, 0, 0, 1, [4, 256, 64, 64, {"6": 4}], [3, 2_400, 0, 1_500, {"0": 1, "9": 1, "10": 1}]]
    ]
    assert seen["counters"] == [4, 0]


def test_a_forged_time_is_the_longest(bpf) -> None:
    # In nanoseconds it would be 0 in 64 bits.
    (row,) = bpf([receive(queued=1, tsc=(1 << 58) + 1)])["received"]
    assert row[5][0] == 1
    assert row[5][4] == {"39": 1}


def drop(reason: str, **values: int) -> str:
    return event("drop", reason=net.REASONS.index(reason), **values)


def test_drops_by_reason(bpf) -> None:
    lines = [drop("rx_too_long", node=1, peer=0, queue=3, rx=1, len=1_523)] * 7
    lines += [drop("tx_no_peer", node=1, peer=net.NO_PEER, len=90)]
    seen = bpf(lines)
    too_long, no_peer = (net.REASONS.index(name) for name in ("rx_too_long", "tx_no_peer"))
    assert seen["dropped"] == [
        [1, 0, 3, 1, too_long, 7, 7 * 1_523],
        [1, net.NO_PEER, 0, 0, no_peer, 1, 90],
    ]
    # They are not among those that a limit counts.
    assert seen["counters"] == [0, 0]


def test_filters(bpf) -> None:
    lines = [
        event("transmit", src=0, dst=1, first=1),
        event("transmit", src=1, dst=2, first=1),
        receive(src=0, dst=1),
        receive(src=1, dst=2),
        drop("rx_too_long", node=0, peer=1, rx=1),
        drop("rx_too_long", node=1, peer=2, rx=1),
        drop("tx_no_peer", node=1, peer=net.NO_PEER),
    ]

    def counts(**defines: int) -> tuple[list[list[int]], ...]:
        seen = bpf(lines, **defines)
        return tuple([row[:2] for row in seen[name]] for name in ("sent", "received", "dropped"))

    assert counts(ONLY_NODE=0) == ([[0, 1]], [[0, 1]], [[0, 1]])
    # A link's: what it sent, what came to it, what it dropped.
    assert counts(ONLY_LINK=1) == ([[1, 2]], [[0, 1]], [[1, 2], [1, net.NO_PEER]])
    assert counts(ONLY_LINK=1, ONLY_NODE=2) == ([[1, 2]], [], [[1, 2]])


def test_events_without_room_are_counted(bpf) -> None:
    lines = [event("transmit", src=n) for n in range(257)]
    lines += [receive(src=n) for n in range(258)]
    lines += [event("drop", node=n) for n in range(1_029)]
    seen = bpf(lines)
    assert [len(seen[name]) for name in ("sent", "received", "dropped")] == [256, 256, 1_024]
    assert seen["counters"] == [512, 1 + 2 + 5]


def test_program_and_python_agree() -> None:
    names = tracing_host.enum(net.SOURCE, "counter_id")
    assert names[net.PACKETS] == "PACKETS"
    assert names[net.UNRECORDED] == "UNRECORDED"
    for name, fields in net.EVENTS.items():
        assert tracing_host.arguments_of(name) == fields


def test_reasons_are_the_counters_of_a_link() -> None:
    header = (tracing_host.ROOT / "kmod/net/count.h").read_text()
    kinds = dict(re.findall(r"^\tX\((\w+), (\w+)\)", header, re.MULTILINE))
    assert tuple(kinds) == net.REASONS
    assert net.reason_name(len(net.REASONS)) == str(len(net.REASONS))
    # What loses a packet is traced, with the reason and the number that the document tells.
    source = "".join(p.read_text() for p in sorted((tracing_host.ROOT / "kmod/net").glob("*.c")))
    document = (tracing_host.ROOT / "docs/tracepoints.md").read_text()
    told = dict(re.findall(r"^\| (\d+) `(\w+)` \|", document, re.MULTILINE))
    lost = [name for name, kind in kinds.items() if kind != "OK"]
    assert set(lost) <= set(told.values())
    assert {int(number): name for number, name in told.items()} == {
        net.REASONS.index(name): name for name in told.values()
    }
    for name in told.values():
        assert not re.search(rf"pcn_count_add\([^;]*PCN_COUNT_{name}\b", source), name


# reports

ZERO = {"count": 0, "total": 0, "min": 0, "max": 0, "slots": [0] * 40}


def numbers(*values: int) -> SimpleNamespace:
    slots = [0] * 40
    for value in values:
        slots[max(value.bit_length() - 1, 0)] += 1
    if not values:
        return SimpleNamespace(**ZERO)
    return SimpleNamespace(
        count=len(values), total=sum(values), min=min(values), max=max(values), slots=slots
    )


def key(**values: int):
    """Hashable."""
    return type("Key", (), values)()


def program() -> Any:
    """Loaded programs of two CPUs, with maps as dicts."""
    found = type("Program", (dict,), {"missed": lambda self: 0})()
    sent = {
        "packets": 2, "bytes": 433, "merged": 1, "segments": 5, "sizes": numbers(60, 373)
    }  # fmt: skip
    none = {"packets": 0, "bytes": 0, "merged": 0, "segments": 0, "sizes": numbers()}
    found.update(
        sent={key(src=0, dst=1, queue=2): [SimpleNamespace(**sent), SimpleNamespace(**none)]},
        received={
            key(src=1, dst=0, queue=0): [
                SimpleNamespace(backwards=0, sizes=numbers(64), times=numbers(1_500)),
                SimpleNamespace(backwards=1, sizes=numbers(64, 100), times=numbers(900)),
            ]
        },
        dropped={
            key(node=0, peer=net.NO_PEER, queue=1, rx=0, reason=15): [
                SimpleNamespace(packets=3, bytes=270), SimpleNamespace(packets=1, bytes=90)
            ],
            key(node=0, peer=1, queue=0, rx=1, reason=22): [
                SimpleNamespace(packets=0, bytes=0), SimpleNamespace(packets=7, bytes=700)
            ],
        },
        counters=SimpleNamespace(sum=lambda index: (99, 6)[index]),
    )  # fmt: skip
    return found


REPORT = net.read(program(), HERE, 1.5, {0: "popcorn0"})


def test_the_cpus_are_summed() -> None:
    (sent,) = REPORT.sent
    assert (sent.src, sent.dst, sent.queue, sent.packets, sent.bytes) == (0, 1, 2, 2, 433)
    assert (sent.merged, sent.segments, sent.sizes.count) == (1, 5, 2)
    (received,) = REPORT.received
    assert (received.sizes.count, received.sizes.total, received.backwards) == (3, 228, 1)
    assert (received.times.minimum, received.times.maximum, received.times.count) == (900, 1500, 2)
    assert REPORT.dropped == (
        net.Dropped(0, 1, 0, True, "rx_too_long", 7, 700),
        net.Dropped(0, None, 1, False, "tx_no_peer", 4, 360),
    )
    assert REPORT.missed == 6


def test_json_is_stable() -> None:
    found = REPORT.to_json()
    sizes = found["sent"][0].pop("sizes")
    assert sizes == {
        "min": 60, "mean": 216, "median": 60, "max": 373,
        "histogram": [
            {"low": 32, "high": 63, "count": 1}, {"low": 64, "high": 127, "count": 0},
            {"low": 128, "high": 255, "count": 0}, {"low": 256, "high": 511, "count": 1},
        ],
    }  # fmt: skip
    latency = found["received"][0].pop("latency")
    assert (latency["min_ns"], latency["mean_ns"], latency["max_ns"]) == (900, 1_200, 1_500)
    assert list(latency) == ["min_ns", "mean_ns", *net.FIGURES, "max_ns", "histogram"]
    del found["received"][0]["sizes"]
    assert found == {
        "node": 0,
        "seconds": 1.5,
        "missed": 6,
        "links": [{"node": 0, "name": "popcorn0"}],
        "packets": {"sent": 2, "copies": 2, "received": 3, "dropped": 11},
        "sent": [
            {"src": 0, "dst": 1, "queue": 2, "copies": 2, "packets": 2, "bytes": 433,
             "merged": 1, "segments": 5}
        ],
        "received": [
            {"src": 1, "dst": 0, "queue": 0, "packets": 3, "bytes": 228, "backwards": 1}
        ],
        "dropped": [
            {"node": 0, "peer": 1, "queue": 0, "direction": "receive", "reason": "rx_too_long",
             "packets": 7, "bytes": 700},
            {"node": 0, "peer": None, "queue": 1, "direction": "transmit", "reason": "tx_no_peer",
             "packets": 4, "bytes": 360},
        ],
    }  # fmt: skip


def test_without_a_time_there_is_none() -> None:
    row = dataclasses.replace(REPORT.received[0], times=LogHistogram())
    latency = row.to_json()["latency"]
    assert {latency[name] for name in ("min_ns", "mean_ns", "median_ns", "max_ns")} == {None}
    assert latency["histogram"] == []


# popcornctl


@pytest.fixture
def ctl(monkeypatch, capsys):
    """Run popcornctl with a tracer that reports REPORT: (status, out, err, what it was asked)."""
    asked = []

    def run(options, limits, *, show, ready, output):
        asked.append((options, limits))
        ready("tracing links")
        show(REPORT)
        return 0

    monkeypatch.setattr(net, "run", run)

    def call(*words: str):
        status = main(["trace", "net", *words])
        out, err = capsys.readouterr()
        return status, out, err, asked[-1] if asked else None

    return call


def test_tables_for_people(ctl) -> None:
    _, out, err, _ = ctl()
    assert err == "tracing links\n"
    heading, sent, received, times, dropped = out.strip().split("\n\n")
    assert heading.splitlines() == [
        "2 packets sent, 3 received, 11 dropped in 1.5 s",
        "6 events were missed and are in none of the numbers",
    ]
    for text, words in (
        (sent, ["popcorn0", "1", "(web)", "2", "2", "433", "60", "60", "373", "5"]),
        (received, ["popcorn0", "1", "(web)", "0", "3", "228", "64", "96", "100"]),
        (times, ["popcorn0", "1", "(web)", "0", "2", "0.90", "µs", "0.90", "µs", "1.50", "µs",
                 "1.50", "µs"]),
    ):  # fmt: skip
        assert text.splitlines()[1].split() == words
    assert [line.split() for line in dropped.splitlines()[1:]] == [
        ["popcorn0", "1", "(web)", "0", "rx_too_long", "7", "700"],
        ["popcorn0", "-", "1", "tx_no_peer", "4", "360"],
    ]
    assert max(map(len, out.splitlines())) < 100


def test_a_link_of_another_namespace_has_no_name(ctl, monkeypatch) -> None:
    import sys

    unnamed = dataclasses.replace(REPORT, links={})
    monkeypatch.setattr(sys.modules[__name__], "REPORT", unnamed)
    assert "(of node 0)" in ctl()[1]


def test_the_command_line(ctl) -> None:
    words = ("--json", "2", "5", "--node", "web", "--link", "popcorn0", "--count", "7")
    _, out, _, asked = ctl(*words)
    assert asked == (
        net.Options("web", "popcorn0"), Limits(interval=2, reports=5, messages=7)
    )  # fmt: skip
    assert json.loads(out) == REPORT.to_json()
    assert len(out.splitlines()) == 1
    assert json.loads(ctl("--json")[1]) == REPORT.to_json()


@pytest.mark.parametrize("words", [("soon",), ("--count", "0"), ("--",), ("1", "--", "true")])
def test_wrong_usage(ctl, words: tuple[str, ...]) -> None:
    status, out, err, _ = ctl(*words)
    assert (status, out) == (2, "")
    assert err.startswith("popcornctl: ")


class NoLinks:
    """popcorn.link.Links of a kernel that has none."""

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def list(self):
        return ()

    def get(self, name: str):
        raise NotFoundError(f"there is no link '{name}'", "see: popcornctl link list")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (net.Options(node="nobody"), "there is no node 'nobody'"),
        (net.Options(link="nothing"), "there is no link 'nothing'"),
    ],
)
def test_what_is_not_there(monkeypatch, options: net.Options, says: str) -> None:
    monkeypatch.setattr(net, "check", lambda events: None)
    monkeypatch.setattr(net, "machine", lambda: HERE)
    monkeypatch.setattr(net, "Links", NoLinks)
    # Refused before anything is compiled.
    monkeypatch.setattr(net, "loaded", None)
    with pytest.raises(PopcornError, match=says) as found:
        net.run(options, Limits(), show=print, ready=print)
    assert found.value.hint.startswith("see: popcornctl")


def test_documentation() -> None:
    options = [name for option in cli_trace.net.params for name in option.opts if name[0] == "-"]
    columns = ["SENT BY", "RECEIVED BY", "LATENCY AT", "DROPPED AT", "SEGMENTS", "REASON", "P99"]
    found = REPORT.to_json()
    words = [*options, *columns, *found, *found["packets"], *found["sent"][0]]
    words += [*found["received"][0], *found["received"][0]["latency"], *found["dropped"][0]]
    tracing_host.page_has_all("net", [word for word in words if word != "--debug"])
