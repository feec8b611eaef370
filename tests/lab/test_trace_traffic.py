# SPDX-License-Identifier: GPL-2.0
"""Frames and bytes between two kernels: known numbers of them, the same in each tracer."""

from __future__ import annotations

import collections
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import net
import pytest

from guest import ctl, ctl_json
from popcorn import Client
from popcorn.models import Kernel
from tracers import ORIGINS, Origin, Tracer
from ttys import modprobe, noise, opened, read_exactly, write_all

LINK = "popcorn0"
ECHOES, SIZE = 997, 331
TOO_LONG, LONG_SIZE, PIECES = 7, 1009, 2
"""These go in so many fragments, and come back in one frame, too long for the link here."""

SENT = ECHOES + TOO_LONG * PIECES
BYTES = 9_973

HEADERS = 14 + 20 + 8
"""Ethernet, IP and ICMP."""

LINE, INDEX = 4, 12
"""A line to node 1, and its device here."""

#: In the other kernel: what sends bytes of a line back, and nothing that speaks on its own.
ANSWERS = f"""
rm -f /srv/raw
(exec <>/dev/ttyPCN{LINE} >&0; stty raw -echo; touch /srv/raw; exec cat) 2>/dev/null &
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
"""


@pytest.fixture
def other(
    modules: None, shared: Callable[..., Kernel], run_image: Callable[[str], Path], client: Client
) -> Iterator[tuple[str, int]]:
    """The address of a second kernel that answers, on a link where nothing else is said, and the
    line to it."""
    modprobe("popcorn_tty")
    assert ctl("link", "add").returncode == 0
    shared("web", initrd=run_image(net.SERVE), memory_mib=384)
    (link,) = ctl_json("link", "list")
    (shown,) = json.loads(net.sh("ip", "-4", "-j", "address", "show", "dev", LINK))
    here = str(shown["addr_info"][0]["local"])
    there = f"{here.rpartition('.')[0]}.{client.node('web').id + 1}"
    net.wait_for_shell(there)
    net.remote(there, ANSWERS)
    mac = net.remote(there, f"cat /sys/class/net/{LINK}/address").strip()
    # Addresses that are known need not be asked for; and shorter than what the other one sends.
    net.remote(there, f"arp -i {LINK} -s {here} {link['mac']}")
    net.sh("ip", "neigh", "replace", there, "lladdr", mac, "nud", "permanent", "dev", LINK)
    net.sh("sysctl", "-qw", f"net.ipv6.conf.{LINK}.disable_ipv6=1")
    net.sh("ip", "link", "set", LINK, "mtu", "576")
    with opened(INDEX) as line:
        # What is sent before is lost, or echoed by the terminal; and to ask later would be counted.
        net.wait_until("the line is raw", lambda: "raw" in net.remote(there, "ls /srv"))
        yield there, line
    assert ctl("link", "del", LINK, "--force").returncode == 0
    modprobe("-r", "popcorn_tty")
    subprocess.run(["modprobe", "-r", "popcorn_net"], check=True)


def say(there: str) -> None:
    """Send what comes back, and what comes back too long."""
    said = net.sh("ping", "-q", "-c", str(ECHOES), "-i", "0.002", "-s", str(SIZE), there)
    assert f"{ECHOES} received, 0% packet loss" in said
    before = net.counters(LINK)["rx_too_long"]
    net.sh(
        "ping", "-q", "-c", str(TOO_LONG), "-i", "0.2", "-W", "1", "-s", str(LONG_SIZE), there,
        check=False,
    )  # fmt: skip
    net.wait_until(
        "the long answers", lambda: net.counters(LINK)["rx_too_long"] >= before + TOO_LONG
    )


@pytest.mark.parametrize("name", ORIGINS)
def test_every_tracer_counts_frames_and_bytes_exactly(
    other: tuple[str, int], tmp_path: Path, name: str
) -> None:
    there, line = other
    origin = Origin(name)
    file = str(tmp_path / "all.json")
    tracers = {
        "net": Tracer(tmp_path, "net", "--link", LINK, origin=origin),
        "flow": Tracer(tmp_path, "flow", "--link", LINK, "--buffer", "8M", origin=origin),
        "record": Tracer(tmp_path, "record", "-o", file, "--buffer", "32M", origin=origin),
    }
    for tracer in tracers.values():
        tracer.wait_ready()
    before = net.counters(LINK)
    say(there)
    data = noise(BYTES)
    write_all(line, data)
    assert read_exactly(line, BYTES) == data
    after = net.counters(LINK)
    found = {name: tracer.end() for name, tracer in tracers.items()}
    origin.check()
    counted = {name: after[name] - before[name] for name in after}
    check_net(json.loads(found["net"]), counted)
    check_flow([json.loads(line) for line in found["flow"].splitlines()])
    timeline = json.loads((tmp_path / "all.json").read_text())
    check_record(json.loads(found["record"]), timeline["traceEvents"], counted)


def check_net(found: dict[str, Any], counted: dict[str, int]) -> None:
    print(json.dumps(found["packets"]), json.dumps(found["received"][0]["latency"])[:200])
    assert found["missed"] == 0
    assert found["packets"] == {
        "sent": SENT, "copies": SENT,
        "received": ECHOES, "dropped": TOO_LONG,
    }  # fmt: skip
    assert (counted["tx_packets"], counted["rx_packets"], counted["rx_too_long"]) == (
        SENT, ECHOES, TOO_LONG,
    )  # fmt: skip
    assert counted["tx_copies"] == SENT
    assert sum(row["bytes"] for row in found["sent"]) == counted["tx_bytes"]
    assert sum(row["bytes"] for row in found["received"]) == counted["rx_bytes"]
    assert counted["rx_bytes"] == ECHOES * (HEADERS + SIZE)
    assert {(row["src"], row["dst"]) for row in found["sent"]} == {(0, 1)}
    assert {(row["src"], row["dst"], row["backwards"]) for row in found["received"]} == {(1, 0, 0)}
    assert {(row["peer"], row["reason"]) for row in found["dropped"]} == {(1, "rx_too_long")}


def check_flow(lines: list[dict[str, Any]]) -> None:
    *frames, last = lines
    assert last["summary"] == {
        "delivered": ECHOES, "slow": ECHOES + TOO_LONG, "shown": ECHOES + TOO_LONG,
        "lost": 0, "missed": 0, "dropped": TOO_LONG,
    }  # fmt: skip
    sizes = collections.Counter((frame["dropped"], frame["bytes"]) for frame in frames)
    assert sizes == {
        (None, HEADERS + SIZE): ECHOES,
        ("rx_too_long", HEADERS + LONG_SIZE): TOO_LONG,
    }
    assert {(frame["src"], frame["dst"]) for frame in frames} == {(1, 0)}
    for frame in frames:
        if frame["dropped"] is None:
            parts = [stage["ns"] for stage in frame["stages"]]
            assert 0 <= frame["total_ns"] - sum(parts) < len(parts)
            # It was found which message it came in.
            assert frame["stages"][-1]["name"] == "delivered-stack"


def check_record(
    said: dict[str, Any], events: list[dict[str, Any]], counted: dict[str, int]
) -> None:
    seen = {kind: number["seen"] for kind, number in said["events"].items()}
    assert not any(e["lost"] or e["left_out"] for e in said["events"].values())
    assert (seen["net_transmit"], seen["net_receive"], seen["net_drop"]) == (
        counted["tx_copies"], counted["rx_packets"], counted["rx_too_long"],
    )  # fmt: skip
    # Frames and lines, by name.
    assert {e["name"] for e in events if e["name"].startswith("send ")} == {
        "send popcorn.net", "send popcorn.tty"
    }  # fmt: skip
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    bytes_of: collections.Counter[str] = collections.Counter()
    number_of: collections.Counter[str] = collections.Counter()
    for e in events:
        if e["ph"] == "i" and e["pid"] == 1:
            track = names[e["pid"], e["tid"]].partition(", ")[0]
            number_of[f"{track}: {e['name']}"] += 1
            bytes_of[f"{track}: {e['name']}"] += e["args"].get("bytes", 0)
    assert number_of["link to web: transmit"] == SENT
    assert number_of["link from web: receive"] == ECHOES
    assert number_of["link from web: drop rx_too_long"] == TOO_LONG
    assert bytes_of["link to web: transmit"] == counted["tx_bytes"]
    assert bytes_of["link from web: receive"] == counted["rx_bytes"]
    assert bytes_of[f"line {LINE} to web: transmit"] == BYTES
    assert bytes_of[f"line {LINE} from web: receive"] == BYTES
    ways = collections.Counter((e["ph"], e["name"]) for e in events if e.get("cat") == "frame")
    assert ways == {("b", "frame from web"): ECHOES, ("e", "frame from web"): ECHOES}


def test_refusals(client: Client) -> None:
    for words, status, says in (
        (("flow", "--link", "nothing"), 1, "there is no link 'nothing'"),
        (("flow", "--link", "lo"), 1, "interface 'lo' is no link of Popcorn"),
        (("flow", "--frames", "--service", "echo"), 2, "all frames are of one service"),
    ):
        done = ctl("trace", *words)
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr
