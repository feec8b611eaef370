# SPDX-License-Identifier: GPL-2.0
"""popcornctl node, ping and what else there is of the message layer."""

from __future__ import annotations

import errno
import json

import pytest

from popcorn.uapi.netlink_gen import Cmd


def test_nodes(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2, "nr-cpus": 2, "release": "6.12"}
    code, out, _ = ctl("node", "list")
    assert code == 0
    assert out.splitlines()[1].startswith("0   primary (here)  up ")
    assert out.splitlines()[2].startswith("1   web             up ")
    assert json.loads(ctl("node", "show", "web", "--json")[1])["release"] == "6.12"
    assert "release           6.12" in ctl("node", "show", "1")[1]


def test_nodes_that_are_not_well(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2, "shut": True}
    module.nodes[2] = {"id": 2, "name": "db", "state": 7}
    module.nodes[3] = {"id": 3, "name": "job", "state": 6}
    _, *lines = ctl("node", "list")[1].splitlines()
    assert [line[20:28].strip() for line in lines] == ["up", "up, shut", "hung", "joining"]
    assert "shut              True" in ctl("node", "show", "web")[1]
    assert "window_max_us     -" in ctl("node", "show", "web")[1]


def test_node_set(ctl, module):
    module.nodes[0] |= {"doorbell-cost": 1500, "threaded": 0}
    code, out, _ = ctl("node", "set", "--poll-window", "40")
    assert (code, out) == (
        0,
        "primary polls in softirqs, for at most 40 µs before it sleeps; a doorbell costs 1.50 µs\n",
    )
    module.nodes[0]["doorbell-cost"] = 0
    code, out, _ = ctl("node", "set", "--poll-window", "0", "--threaded", "on")
    assert out == "primary polls in threads, no time before it sleeps\n"
    assert (Cmd.NODE_SET, [("window-max", 0), ("threaded", 1)]) in module.requests
    shown = json.loads(ctl("node", "set", "--threaded", "off", "--json")[1])
    assert (shown["threaded"], shown["window_max_us"]) == (False, 0)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "nothing to set"),
        (["--poll-window", "-1"], "--poll-window"),
        (["--poll-window", "1000001"], "--poll-window"),
        (["--poll-window", "long"], "--poll-window"),
        (["--threaded", "maybe"], "--threaded"),
        (["web", "--threaded", "on"], "web"),
    ],
)
def test_node_set_with_bad_input(ctl, module, arguments, why):
    code, out, err = ctl("node", "set", *arguments)
    assert (code, out) == (2, "")
    assert why in err
    assert module.requests == []


def test_node_set_that_is_refused(ctl, module, refusal):
    words = "this kernel cannot poll in threads (error 95)"
    module.refusals[Cmd.NODE_SET] = refusal(errno.EOPNOTSUPP, words, "threaded")
    code, out, err = ctl("node", "set", "--threaded", "on")
    assert (code, out, err) == (1, "", f"popcornctl: {words} (attribute 'threaded')\n")
    module.refusals[Cmd.NODE_SET] = refusal(errno.EPERM)
    assert "run it as root" in ctl("node", "set", "--threaded", "on")[2]


@pytest.fixture
def latencies(module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2}
    count = [0] * 10 + [6, 2] + [0] * 20
    module.latencies = [
        {"src": 0, "dst": 1, "queue": 0, "stage": 0, "count": count},
        {"src": 1, "dst": 0, "queue": 1, "stage": 1, "count": count},
        {"src": 1, "dst": 5, "queue": 0, "stage": 2, "count": count},
    ]
    return module.latencies


def test_node_latency(ctl, latencies):
    code, out, _ = ctl("node", "latency")
    assert code == 0
    table, *histograms = out.split("\n\n")
    assert [line.split() for line in table.splitlines()] == [
        ["FROM", "TO", "QUEUE", "STAGE,", "NSECS", "N", "~MIN", "~MEDIAN", "~P99", "~MAX"],
        ["primary", "web", "0", "deliver", "8", "1024", "1706", "4014", "4096"],
        ["web", "primary", "1", "doorbell", "8", "1024", "1706", "4014", "4096"],
        ["web", "5", "0", "poll", "8", "1024", "1706", "4014", "4096"],
    ]
    assert len(histograms) == 3
    assert histograms[0].splitlines() == [
        "primary to web, queue 0: deliver",
        "                 nsecs : count     distribution",
        f"     1024 -> 2047      : 6        |{'*' * 40}|",
        f"     2048 -> 4095      : 2        |{'*' * 13:<40}|",
    ]


def test_node_latency_of_some(ctl, latencies):
    assert ctl("node", "latency", "primary")[1].count("distribution") == 2
    assert ctl("node", "latency", "--stage", "poll")[1].count("distribution") == 1
    shown = json.loads(ctl("node", "latency", "0", "--stage", "doorbell", "--json")[1])
    assert [(item["from"], item["to"], item["n"]) for item in shown] == [("web", "primary", 8)]
    assert ctl("node", "latency", "nobody")[0] == 1
    assert ctl("node", "latency", "--stage", "queued")[0] == 2
    latencies.clear()
    assert json.loads(ctl("node", "latency", "--json")[1]) == []
    assert ctl("node", "latency")[1].startswith("FROM  TO  QUEUE")


def test_channels(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2}
    module.channels = [
        {"node-id": 1, "queue": 0, "sent": 7, "doorbells-sent": 2, "full": 3, "waits": 1}
        | {"ring-slots": 64, "received": 9, "rejected": 4, "answered": 5, "area-bytes": 2048}
        | {"sent-bytes": 112},
        {"node-id": 2, "queue": 1, "armed": True},
    ]
    code, out, _ = ctl("channel", "list")
    assert code == 0
    head, web, other = (line.split() for line in out.splitlines())
    assert web == ["web", "0", "7", "2", "3", "1", "64", "2K", "9", "4", "5", "no"]
    assert other == ["2", "1", "0", "0", "0", "0", "0", "0", "0", "0", "0", "yes"]
    assert len(head) == len(web)
    assert len(ctl("channel", "list", "web")[1].splitlines()) == 2
    (shown,) = json.loads(ctl("channel", "list", "web", "--json")[1])
    assert (shown["node"], shown["sent_bytes"], shown["armed"]) == ("web", 112, False)
    code, _, err = ctl("channel", "list", "nobody")
    assert (code, err.splitlines()[0]) == (1, "popcornctl: there is no node 'nobody'")


def test_queues(ctl, module):
    module.queues = [{"queue": 0, "cpu": 1, "irq": 33, "polls": 9, "window": 12_500, "sleeps": 3}]
    code, out, _ = ctl("queue", "list")
    assert code == 0
    assert out.splitlines()[1].split() == ["0", "1", "33", "9", *"0003", "12.50", "µs", "0"]
    (shown,) = json.loads(ctl("queue", "list", "--json")[1])
    assert shown["window_ns"] == 12_500


@pytest.mark.parametrize("command", [["channel", "list"], ["queue", "list"], ["node", "latency"]])
def test_message_layer_without_a_fabric(ctl, module, refusal, command):
    for cmd in (Cmd.CHANNEL_GET, Cmd.QUEUE_GET, Cmd.FABRIC_GET, Cmd.NODE_GET):
        module.refusals[cmd] = refusal(errno.ENODEV, "this kernel is on no fabric")
    code, out, err = ctl(*command)
    assert (code, out) == (1, "")
    assert "on no fabric\nhint: load it: modprobe popcorn_host" in err


def test_services(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2}
    module.services = [
        {"node-id": 1, "name": "popcorn.echo", "version": 2, "id": 33},
        {"node-id": 1, "name": "popcorn.control", "version": 1, "id": 0, "peer": True},
        {"node-id": 0, "name": "popcorn.echo", "version": 1, "id": 1},
    ]
    code, out, _ = ctl("service", "list")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["NODE", "SERVICE", "VERSION", "ID", "TALKS"],
        ["primary", "popcorn.echo", "1", "1", "(here)"],
        ["web", "popcorn.control", "1", "0", "yes"],
        ["web", "popcorn.echo", "2", "33", "no"],
    ]
    shown = json.loads(ctl("--json", "service", "list", "--node", "web")[1])
    assert shown[1] == {
        "node_id": 1,
        "node": "web",
        "name": "popcorn.echo",
        "version": 2,
        "id": 33,
        "talks": False,
    }
    assert ctl("service", "list", "--node", "nobody")[0] == 1


def test_ping(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2}
    module.rtt = lambda number: 3000 if number != 5 else None
    code, out, _ = ctl("ping", "web", "-c", "100")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "web (node 1): 100 sent, 99 answered, 1 lost"
    assert lines[1] == "round trip min/median/p99/max = 3.00 µs / 3.00 µs / 3.00 µs / 3.00 µs"
    assert lines[3].strip().startswith("2048 -> 4095      : 99")
    assert lines[3].count("*") == 40


def test_ping_json(ctl, module):
    module.rtt = lambda number: 2000 + number
    code, out, _ = ctl("ping", "0", "-c", "3", "-s", "0", "--json")
    assert code == 0
    shown = json.loads(out)
    wanted = {"sent": 3, "n": 3, "lost": 0, "min": 2.0, "median": 2.001, "max": 2.002}
    assert shown.items() >= wanted.items()
    assert shown["p99"] == 2.002
    assert shown["histogram"] == [{"low_ns": 1024, "high_ns": 2047, "count": 3}]


def test_ping_without_answers(ctl, module):
    module.rtt = lambda number: None
    code, out, _ = ctl("ping", "0", "-c", "2", "-W", "0.01")
    assert code == 1
    assert out == "primary (node 0): 2 sent, 0 answered, 2 lost\n"


def test_interrupted_ping_shows_what_it_has(ctl, module):
    def answer(number):
        if number > 10:
            raise KeyboardInterrupt
        return 1000

    module.rtt = answer
    code, out, _ = ctl("ping", "0", "-c", "1000")
    assert code == 130
    assert "7 sent, 7 answered" in out


def test_ping_that_fails_shows_what_it_has(ctl, module, refusal):
    def answer(number):
        if number > 10:
            raise refusal(errno.ENOTCONN, "node 0 is not up", "node-id")
        return 1000

    module.rtt = answer
    code, out, err = ctl("ping", "0", "-c", "1000")
    assert code == 1
    assert "7 sent, 7 answered" in out
    assert "node 0 is not up" in err


def asked(module):
    cmd, given = module.requests[-1]
    assert cmd == Cmd.PING
    return dict(given)


def test_flood(ctl, module):
    module.rtt = lambda number: 64_000
    code, out, _ = ctl("ping", "0", "--flood", "-c", "6400", "--size", "64K")
    assert code == 0
    assert out.splitlines()[:2] == [
        "primary (node 0): 6400 sent, 6400 answered, 0 lost",
        "1000000 messages/s and 65536.0 MB/s each way, 64 at once; no room 7 times",
    ]
    assert (asked(module)["window"], asked(module)["size"]) == (64, 64 << 10)
    shown = json.loads(ctl("ping", "0", "-f", "--window", "32", "--json")[1])
    assert shown["sent"] == 100_000
    wanted = {"window": 32, "per_second": 500_000, "bytes_per_second": 8_000_000, "full": 31}
    assert shown.items() >= wanted.items()


def test_ping_in_place_busy_and_at_a_rate(ctl, module, monkeypatch):
    monkeypatch.setattr("popcorn.client.time.sleep", lambda seconds: None)
    assert ctl("ping", "0", "--in-place", "-s", "40", "-c", "3")[0] == 0
    assert "call" in asked(module) and "busy" not in asked(module)
    out = ctl("ping", "0", "--busy", "-c", "3")[1]
    assert "busy" in asked(module) and "call" not in asked(module)
    assert "messages/s" not in out, "one at a time is no throughput"
    assert ctl("ping", "0", "--rate", "1000/s", "-c", "3")[0] == 0
    assert asked(module)["interval"] == 1000


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-c", "0"], "--count"),
        (["-s", "131065"], "at most 131064 bytes"),
        (["-s", "128K"], "at most 131064 bytes"),
        (["-s", "much"], "is not a size"),
        (["-W", "0"], "--timeout"),
        (["-W", "11"], "--timeout"),
        (["-i", "x"], "is not a time"),
        (["-i", "-1"], "is not a time"),
        (["-i", "3601"], "at most an hour"),
        (["--rate", "0"], "is not a rate"),
        (["--rate", "-5/s"], "is not a rate"),
        (["--rate", "often"], "is not a rate"),
        (["--rate", "nan"], "is not a rate"),
        (["--rate", "inf"], "is not a rate"),
        (["--rate", "1000001"], "more is --flood"),
        (["--rate", "0.0001"], "one in an hour"),
        (["--rate", "10", "-i", "1"], "say the same"),
        (["--flood", "--rate", "10"], "leave --rate away"),
        (["--flood", "-i", "0"], "leave --interval away"),
        (["--window", "2"], "--window is for --flood"),
        (["--flood", "--window", "0"], "--window"),
        (["--flood", "--window", "257"], "--window"),
        (["--flood", "--in-place"], "one call at a time"),
        (["--in-place", "--busy"], "leave --busy away"),
        (["--in-place", "-s", "41"], "--in-place has room for 40 bytes"),
    ],
)
def test_ping_with_bad_input(ctl, module, arguments, why):
    code, out, err = ctl("ping", "0", *arguments)
    assert (code, out) == (2, "")
    assert why in err
    assert Cmd.PING not in module.commands()


def test_limits_are_those_of_the_protocol():
    from popcorn.cli import node, ping
    from popcorn.models import LatencyStage, label
    from popcorn.uapi import netlink_gen as gen

    assert ping.SIZE_MAX == gen.PING_SIZE_MAX
    assert ping.SIZE_MAX_IN_PLACE == gen.PING_CALL_SIZE_MAX
    assert ping.WINDOW <= ping.WINDOW_MAX == gen.PING_WINDOW_MAX
    assert node.WINDOW_MAX_US == gen.POLL_WINDOW_MAX
    assert tuple(label(stage) for stage in LatencyStage) == node.STAGES


def test_ping_of_nobody(ctl):
    code, _, err = ctl("ping", "nobody")
    assert (code, err.splitlines()[0]) == (1, "popcornctl: there is no node 'nobody'")
