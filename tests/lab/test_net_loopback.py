# SPDX-License-Identifier: GPL-2.0
"""Links of three nodes inside one kernel, each in a network namespace.

What stands on a link, and what a link makes of frames that make no sense.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import net
import pytest

from guest import ctl
from popcorn.link import Links

NODES = (0, 1, 2)
RAW = Path("/sys/module/popcorn_raw/parameters/send")

FRAME, HELLO = 1, 2
NEEDS_CSUM, GSO_TCPV4, GSO_UDP, GSO_TCPV6 = 1, 1, 3, 4


def address(node: int) -> str:
    return f"10.99.0.{node + 1}"


@pytest.fixture(scope="module", autouse=True)
def loopback(modules: None) -> Iterator[None]:
    """A fabric of three nodes in this kernel, instead of the host's."""
    net.sh("modprobe", "-r", "popcorn_host")
    net.sh("modprobe", "popcorn", "loopback=3")
    yield
    net.sh("modprobe", "-r", "popcorn_net")
    net.sh("modprobe", "-r", "popcorn")
    net.sh("modprobe", "popcorn_host")


def add(node: int) -> None:
    """A link in a namespace of its own, n0 for node 0."""
    name = f"pop{node}"
    with Links() as links:
        links.add(name, node=node, addresses=(), up=False)
    net.sh("ip", "netns", "add", f"n{node}")
    net.sh("ip", "link", "set", name, "netns", f"n{node}")
    # By one program: to start one takes long under emulation.
    words = f"address add {address(node)}/24 dev {name}\nlink set lo up\nlink set {name} up\n"
    subprocess.run(["ip", "-n", f"n{node}", "-batch", "-"], input=words, text=True, check=True)


def remove(node: int) -> None:
    net.in_netns(f"n{node}", "ip", "link", "del", f"pop{node}", check=False)
    net.sh("ip", "netns", "del", f"n{node}", check=False)


@pytest.fixture
def segment() -> Iterator[None]:
    """All three nodes have a link."""
    for node in NODES:
        add(node)
    yield
    for node in NODES:
        remove(node)


@pytest.fixture
def pair_and_raw() -> Iterator[None]:
    """Nodes 0 and 1 have a link; node 2 has something that sends what it is told to."""
    add(0)
    add(1)
    net.sh("modprobe", "popcorn_raw", "name=popcorn.net", "version=1", "node=2")
    yield
    net.sh("modprobe", "-r", "popcorn_raw")
    remove(0)
    remove(1)


def iperf(server: str, client: str, at: str, *options: str) -> float:
    """A second of iperf3 from one namespace to another; Mbit/s that arrived."""
    serving = subprocess.Popen(
        ["ip", "netns", "exec", server, "iperf3", "-s", "-1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        ready = ("ss", "-Hltn", "sport", "=", ":5201")
        net.wait_until("iperf3 listens", lambda: net.in_netns(server, *ready).strip())
        out = net.in_netns(client, "iperf3", "-J", "-t", "1", "-c", at, *options)
        serving.wait(timeout=20)
    finally:
        serving.kill()
    end = json.loads(out)["end"]
    return float(end.get("sum_received", end.get("sum"))["bits_per_second"]) / 1e6


def test_everybody_reaches_everybody(segment: None) -> None:
    for one in NODES:
        for other in NODES:
            if one != other:
                assert net.answers(address(other), f"n{one}"), (one, other)
    for node in NODES:
        link = net.link_of(f"n{node}", f"pop{node}")
        assert link["address"].endswith(f":{node:02x}")
        assert "LOWER_UP" in link["flags"]
        assert net.lost(f"pop{node}", f"n{node}") == {}


def test_traffic_in_all_shapes(segment: None) -> None:
    """Figures are for whoever reads the output; what counts is that nothing gets lost."""
    shapes = {
        "TCP": (), "TCP back": ("-R",), "TCP, 8 streams": ("-P", "8"),
        "TCP, pieces of 100 bytes": ("-l", "100"), "UDP": ("-u", "-b", "50M", "-l", "64"),
    }  # fmt: skip
    for name, options in shapes.items():
        print(f"{name}: {iperf('n1', 'n0', address(1), *options):.0f} Mbit/s")
    for name, switched in (("TSO", "tso"), ("checksums", "tx"), ("scatter-gather", "sg")):
        net.in_netns("n0", "ethtool", "-K", "pop0", switched, "off")
        print(f"TCP without {name}: {iperf('n1', 'n0', address(1)):.0f} Mbit/s")
    for node in NODES:
        assert net.lost(f"pop{node}", f"n{node}") == {}


def unicast(node: int) -> dict[str, int]:
    """Frames to single addresses at a node: its own, others', and those that it sent.

    IPv6 tells and asks groups of this and that whenever it likes, and groups are everybody's.
    """
    found = net.counters(f"pop{node}", f"n{node}")
    return {
        "received": found["rx_packets"] - found["rx_multicast"],
        "filtered": found["rx_filtered"],
        "sent": found["tx_packets"] - found["tx_flooded"],
    }


def test_third_node_hears_nothing_of_unicast(segment: None) -> None:
    assert net.answers(address(1), "n0")
    before, busy = unicast(2), unicast(1)
    iperf("n1", "n0", address(1))
    assert unicast(2) == before
    assert unicast(1)["received"] > busy["received"]


def test_unicast_to_nobody_is_told_from_groups(segment: None) -> None:
    """What is flooded for want of an owner is counted apart from what goes to a group."""
    text = (
        "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
        "s.bind(('pop0', 0))\nfor first in {}: s.send(bytes([first, 0x50, 0, 0, 0, 0x77])"
        " + bytes(6) + b'\\x88\\xb5' + bytes(50))\n"
    )
    before = net.counters("pop2", "n2")
    net.in_netns("n0", "/usr/bin/python3", "-c", text.format("[2] * 7"))
    net.wait_until(
        "the frames", lambda: net.counters("pop2", "n2")["rx_filtered"] >= before["rx_filtered"] + 7
    )
    net.in_netns("n0", "/usr/bin/python3", "-c", text.format("[3] * 5"))
    group = "rx_filtered_group"
    net.wait_until("those", lambda: net.counters("pop2", "n2")[group] >= before[group] + 5)
    assert net.counters("pop2", "n2")["rx_filtered"] == before["rx_filtered"] + 7


def test_changed_address_is_told_to_the_others(segment: None) -> None:
    assert net.answers(address(1), "n0")
    net.in_netns("n0", "ip", "link", "set", "pop0", "address", "02:00:00:00:00:42")
    net.in_netns("n1", "ip", "neigh", "flush", "dev", "pop1")
    before = net.counters("pop2", "n2")
    iperf("n1", "n0", address(1))
    after = net.counters("pop2", "n2")
    assert after["rx_filtered"] == before["rx_filtered"]
    assert after["rx_hello"] == before["rx_hello"]


def test_carrier_follows_the_peers(segment: None) -> None:
    def has_carrier() -> bool:
        return "LOWER_UP" in net.link_of("n0", "pop0")["flags"]

    assert has_carrier()
    net.in_netns("n1", "ip", "link", "set", "pop1", "down")
    assert has_carrier(), "node 2 is there"
    net.in_netns("n2", "ip", "link", "set", "pop2", "down")
    net.wait_until("no carrier", lambda: not has_carrier())
    net.in_netns("n2", "ip", "link", "set", "pop2", "up")
    net.wait_until("carrier", has_carrier)
    assert net.answers(address(2), "n0")


def test_vlan(segment: None) -> None:
    for node in (0, 1):
        space, name = f"n{node}", f"pop{node}"
        net.in_netns(
            space, "ip", "link", "add", "link", name, "name", "v7", "type", "vlan", "id", "7"
        )
        net.in_netns(space, "ip", "address", "add", f"10.7.0.{node + 1}/24", "dev", "v7")
        net.in_netns(space, "ip", "link", "set", "v7", "up")
    assert net.answers("10.7.0.2", "n0")
    print(f"TCP in a VLAN: {iperf('n1', 'n0', '10.7.0.2'):.0f} Mbit/s")
    assert net.lost("pop1", "n1") == {}


@pytest.fixture
def behind_bridge(segment: None) -> Iterator[None]:
    """n1's link is a port of a bridge; behind it, on a wire without offloads, a namespace: out."""
    net.sh("ip", "netns", "add", "out")
    net.in_netns("n1", "ip", "link", "add", "br0", "type", "bridge")
    net.in_netns(
        "n1", "ip", "link", "add", "wire", "type", "veth", "peer", "name", "eth0", "netns", "out"
    )
    net.in_netns("n1", "ip", "address", "flush", "dev", "pop1")
    for port in ("pop1", "wire"):
        net.in_netns("n1", "ip", "link", "set", port, "master", "br0")
    for name in ("br0", "wire"):
        net.in_netns("n1", "ip", "link", "set", name, "up")
    net.in_netns("n1", "ethtool", "-K", "wire", "tx", "off", "tso", "off", "gso", "off")
    net.in_netns("out", "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off")
    net.in_netns("out", "ip", "address", "add", "10.99.0.77/24", "dev", "eth0")
    net.in_netns("out", "ip", "link", "set", "eth0", "up")
    yield
    net.in_netns("n1", "ip", "link", "del", "br0")
    net.sh("ip", "netns", "del", "out")


def test_bridge_and_checksums_on_a_wire(behind_bridge: None, tmp_path: Path) -> None:
    net.wait_until("the bridge forwards", lambda: net.answers("10.99.0.77", "n0"), 60)
    capture = tmp_path / "wire.pcap"
    watching = subprocess.Popen(
        ["ip", "netns", "exec", "out", "tcpdump", "-U", "-i", "eth0", "-s", "0", "-c", "200",
         "-w", str(capture), "tcp", "and", "src", "host", address(0)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stderr is not None and "listening" in watching.stderr.readline()
    before, busy = unicast(2), net.counters("pop0", "n0")
    print(f"TCP out of a bridge: {iperf('out', 'n0', '10.99.0.77'):.0f} Mbit/s")
    watching.wait(timeout=30)
    shown = net.sh("tcpdump", "-nn", "-vv", "-r", str(capture))
    assert len(re.findall(r"cksum 0x[0-9a-f]+ \(correct\)", shown)) >= 190
    assert "incorrect" not in shown
    # What is behind node 1 was learned, so node 2 is not bothered, but by groups: a new port of a
    # bridge reports its groups and looks for routers for a while.
    assert unicast(2) == before
    after = net.counters("pop0", "n0")
    assert after["tx_packets"] - busy["tx_packets"] > after["tx_flooded"] - busy["tx_flooded"]
    assert after["rx_learned"] >= 1


def test_tcpdump_nftables_and_netem(segment: None) -> None:
    watching = subprocess.Popen(
        ["ip", "netns", "exec", "n1", "tcpdump", "-nn", "-i", "pop1", "-c", "3", "icmp"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stderr is not None
    while "listening" not in watching.stderr.readline():
        pass
    assert net.answers(address(1), "n0")
    out, _ = watching.communicate(timeout=30)
    assert f"IP {address(0)} > {address(1)}: ICMP echo request" in out

    net.in_netns("n1", "nft", "add table ip t;"
                 " add chain ip t in { type filter hook input priority 0; };"
                 " add rule ip t in iifname pop1 icmp type echo-request drop")  # fmt: skip
    assert not net.answers(address(1), "n0")
    net.in_netns("n1", "nft", "flush ruleset")
    assert net.answers(address(1), "n0")

    net.in_netns("n0", "tc", "qdisc", "replace", "dev", "pop0", "root", "netem", "delay", "200ms")
    out = net.in_netns("n0", "ping", "-c", "2", address(1))
    found = re.search(r"min/avg/max/mdev = ([\d.]+)/", out)
    assert found is not None and float(found[1]) >= 200
    net.in_netns("n0", "tc", "qdisc", "del", "dev", "pop0", "root")


def test_large_packets(segment: None) -> None:
    for mtu in (65520, 1500):
        for node in (0, 1):
            net.in_netns(f"n{node}", "ip", "link", "set", f"pop{node}", "mtu", str(mtu))
        assert net.answers(address(1), "n0", "-s", str(mtu - 28), "-M", "do")
        print(f"TCP with MTU {mtu}: {iperf('n1', 'n0', address(1)):.0f} Mbit/s")
    assert net.lost("pop1", "n1") == {}
    # Frames that are longer than the receiver's MTU are counted and dropped.
    net.in_netns("n0", "ip", "link", "set", "pop0", "mtu", "9000")
    assert not net.answers(address(1), "n0", "-s", "8000", "-M", "do")
    assert net.lost("pop1", "n1") == {"rx_too_long": 3}


def ethtool(*words: str) -> dict[str, str]:
    """What ethtool says of pop0, by the name of each line; of lines of one name the last one."""
    out = net.in_netns("n0", "ethtool", *words)
    pairs = (line.partition(":") for line in out.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs if value.strip()}


def ethtool_refuses(option: str, *cases: tuple[tuple[str, ...], str]) -> None:
    """Ethtool does not do what each case says to pop0, and says why: a pattern."""
    for words, says in cases:
        done = subprocess.run(
            ["ip", "netns", "exec", "n0", "ethtool", option, "pop0", *words],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode != 0, words
        assert re.search(says, done.stderr), (words, done.stderr)


def test_ethtool_coalesce(segment: None) -> None:
    """The polling window, which is the node's."""
    assert ethtool("-c", "pop0")["Adaptive RX"] == "on  TX: n/a"
    for window in ("50", "1000000", "0"):
        net.in_netns("n0", "ethtool", "-C", "pop0", "rx-usecs", window)
        assert ethtool("-c", "pop0")["rx-usecs"] == window
        assert net.answers(address(1), "n0")
    ethtool_refuses(
        "-C",
        (("rx-usecs", "1000001"), "a second at most"),
        (("adaptive-rx", "off"), "the polling window always adapts"),
        (("tx-usecs", "10"), "unsupported|not supported"),
        (("rx-frames", "10"), "unsupported|not supported"),
    )
    assert ethtool("-c", "pop0")["rx-usecs"] == "0"
    # Also of a link that is down.
    net.in_netns("n0", "ip", "link", "set", "pop0", "down")
    net.in_netns("n0", "ethtool", "-C", "pop0", "rx-usecs", "20")
    assert ethtool("-c", "pop0")["rx-usecs"] == "20"


def test_ethtool_rings(segment: None) -> None:
    before = ethtool("-g", "pop0")
    assert before["RX"] == "n/a"  # the peers' own
    for slots in ("64", "4096"):
        net.in_netns("n0", "ethtool", "-G", "pop0", "tx", slots)
        assert ethtool("-g", "pop0")["TX"] == slots
        iperf("n1", "n0", address(1), "-l", "100")
    ethtool_refuses(
        "-G",
        (("tx", "100"), "power of two"),
        (("tx", "0"), "power of two"),
        (("tx", "2"), "from the start"),
        (("tx", "8192"), "exceeds|maximum|Invalid"),
        (("rx", "64"), "exceeds|maximum|not supported|Invalid"),
    )
    assert ethtool("-g", "pop0")["TX"] == "4096"
    # It stays when the link comes and goes.
    net.in_netns("n0", "ip", "link", "set", "pop0", "down")
    net.in_netns("n0", "ip", "link", "set", "pop0", "up")
    assert ethtool("-g", "pop0")["TX"] == "4096"
    for node in NODES:
        assert net.lost(f"pop{node}", f"n{node}") == {}


def test_ethtool(segment: None) -> None:
    channels = net.in_netns("n0", "ethtool", "-l", "pop0")
    assert len(set(re.findall(r"Combined:\s+(\d+)", channels))) == 1
    refused = net.in_netns("n0", "ethtool", "-L", "pop0", "combined", "9", check=False)
    assert "maximum" in refused or "Invalid" in refused, refused
    net.in_netns("n0", "ethtool", "-L", "pop0", "combined", "1")
    assert net.answers(address(1), "n0")
    features = net.in_netns("n0", "ethtool", "-k", "pop0")
    for name in ("tcp-segmentation-offload", "tx-checksumming", "scatter-gather", "rx-checksumming",
                 "generic-receive-offload"):  # fmt: skip
        assert f"{name}: on" in features
    assert "driver: popcorn" in net.in_netns("n0", "ethtool", "-i", "pop0")
    assert "Link detected: yes" in net.in_netns("n0", "ethtool", "pop0")


RMEM_MAX = Path("/proc/sys/net/core/rmem_max")


@pytest.fixture
def large_sockets() -> Iterator[None]:
    """Let ping have room for all its answers: what its socket drops, the link did not lose."""
    before = RMEM_MAX.read_text()
    RMEM_MAX.write_text(f"{16 << 20}")
    yield
    RMEM_MAX.write_text(before)


def test_nothing_gets_lost_when_the_receiver_is_slow(segment: None, large_sockets: None) -> None:
    """Queues stop and go on; what does not fit waits in the queueing discipline."""
    net.in_netns("n0", "ip", "link", "set", "pop0", "txqueuelen", "10000")
    sent = 0
    for _ in range(3):
        out = net.in_netns(
            "n0", "ping", "-f", "-q", "-l", "64", "-c", "2000", "-s", "8000", address(1)
        )
        found = re.search(r"(\d+) packets transmitted, (\d+) received", out)
        assert found is not None and found[1] == found[2]
        sent += int(found[1])
    print(f"{sent} pings; stopped {net.counters('pop0', 'n0')['tx_stopped']} times")
    for node in (0, 1):
        assert net.lost(f"pop{node}", f"n{node}") == {}


def send_raw(dst: int, head: bytes, body: bytes = b"", length: int | None = None) -> None:
    size = len(body) if length is None else length
    RAW.write_text(f"{dst} {head.hex() or '-'} {body.hex() or '-'} {size}\n")


def frame_head(
    flags: int = 0, gso: int = 0, gso_size: int = 0, start: int = 0, offset: int = 0
) -> bytes:
    """struct pcn_net_frame."""
    return bytes([FRAME, 0, 0, 0, 0, 0]) + struct.pack(
        "<BBHHHH", flags, gso, 0, gso_size, start, offset
    )


def tcp_frame(destination: bytes, payload: int = 0, protocol: int = 0x0800) -> bytes:
    """An Ethernet frame with the headers of IPv4 and TCP."""
    ends = bytes([10, 99, 0, 3]), bytes([10, 99, 0, 1])
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + payload, 1, 0, 64, 6, 0, *ends)
    total = sum(struct.unpack(">10H", ip))
    ip = ip[:10] + struct.pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + ip[12:]
    tcp = struct.pack(">HHIIBBHHH", 1, 2, 0, 0, 0x50, 0x10, 1000, 0, 0)
    ether = destination + bytes.fromhex("025000000002") + struct.pack(">H", protocol)
    return ether + ip + tcp + bytes(payload)


def wait_for_count(what: str, value: int) -> dict[str, int]:
    """The counters of n0, once one of them has grown; or after a while."""
    deadline = time.monotonic() + 10
    found = net.counters("pop0", "n0")
    while found[what] < value and time.monotonic() < deadline:
        time.sleep(0.02)
        found = net.counters("pop0", "n0")
    return found


def test_what_makes_no_sense_is_rejected_and_counted(pair_and_raw: None) -> None:
    mine = bytes.fromhex(net.link_of("n0", "pop0")["address"].replace(":", ""))
    others = bytes.fromhex(net.link_of("n1", "pop1")["address"].replace(":", ""))
    good, long = tcp_frame(mine), tcp_frame(mine, 1000)
    tso = {"flags": NEEDS_CSUM, "start": 34, "offset": 16}
    cases: list[tuple[str, bytes, bytes, int | None]] = [
        # no message of this protocol
        ("rx_bad_message", b"", b"", None),
        ("rx_bad_message", b"\x01", b"", None),
        ("rx_bad_message", b"\x09" + bytes(15), good, None),
        ("rx_bad_message", frame_head(), b"", None),
        ("rx_bad_message", frame_head()[:-1], good, None),
        ("rx_bad_message", frame_head() + b"\0", good, None),
        ("rx_bad_message", bytes([HELLO, 0]) + bytes(14), good, None),
        # no frame
        ("rx_bad_length", frame_head(), good[:13], None),
        ("rx_bad_length", frame_head(), good[:1], None),
        ("rx_bad_length", frame_head(), good, 128 << 10),
        ("rx_bad_length", frame_head(), good, 14 + 8 + 65536 + 1),
        # longer than the MTU, with nothing to cut it by
        ("rx_too_long", frame_head(), good, 1519),
        ("rx_too_long", frame_head(), good, 60000),
        # checksums out of the frame, or where no checksum can be
        ("rx_bad_offload", frame_head(NEEDS_CSUM, start=0xFFFF, offset=0), good, None),
        ("rx_bad_offload", frame_head(NEEDS_CSUM, start=34, offset=0xFFFF), good, None),
        ("rx_bad_offload", frame_head(NEEDS_CSUM, start=len(good), offset=0), good, None),
        ("rx_bad_offload", frame_head(NEEDS_CSUM, start=len(good) - 1, offset=0), good, None),
        ("rx_bad_offload", frame_head(0x80), good, None),
        ("rx_bad_offload", frame_head(0xFF, 0xFF, 0xFFFF, 0xFFFF, 0xFFFF), good, None),
        # segmentation
        ("rx_bad_offload", frame_head(gso=GSO_TCPV4, gso_size=500), long, None),
        ("rx_bad_offload", frame_head(**tso, gso=GSO_TCPV4, gso_size=0), long, None),
        ("rx_bad_offload", frame_head(**tso, gso=GSO_TCPV4, gso_size=1), long, None),
        ("rx_bad_offload", frame_head(**tso, gso=GSO_TCPV4, gso_size=47), long, None),
        ("rx_bad_offload", frame_head(**tso, gso=GSO_TCPV4, gso_size=0xFFFF), good, 65000),
        ("rx_bad_offload", frame_head(**tso, gso=GSO_TCPV6, gso_size=500), long, None),
        ("rx_bad_offload", frame_head(**tso, gso=GSO_UDP, gso_size=500), long, None),
        ("rx_bad_offload", frame_head(**tso, gso=5, gso_size=500), long, None),
        ("rx_bad_offload", frame_head(**tso, gso=0x7F, gso_size=500), long, None),
        ("rx_bad_offload", frame_head(NEEDS_CSUM, GSO_TCPV4, 500, 34, 6), long, None),
        ("rx_bad_offload", frame_head(**tso, gso=GSO_TCPV4, gso_size=500),
         tcp_frame(mine, 1000, 0x88CC), None),
        # addresses
        ("rx_bad_hello", bytes([HELLO, 0]) + bytes(14), b"", None),
        ("rx_bad_hello", bytes([HELLO, 0]) + mine + bytes(8), b"", None),
        ("rx_bad_hello", bytes([HELLO, 0]) + others + bytes(8), b"", None),
        ("rx_bad_hello", bytes([HELLO, 0]) + b"\xff" * 6 + bytes(8), b"", None),
    ]  # fmt: skip
    for what, head, body, length in cases:
        before = net.counters("pop0", "n0")
        send_raw(0, head, body, length)
        case = f"{what}: {head.hex()} and {len(body)} of {length} bytes"
        after = wait_for_count(what, before[what] + 1)
        grown = {k: after[k] - before[k] for k in after if k in net.LOST and after[k] != before[k]}
        assert grown == {what: 1}, case
    # And the link is as it was.
    assert net.answers(address(1), "n0")


def test_lies_that_are_plausible_do_no_harm(pair_and_raw: None) -> None:
    """Well-formed as far as a link can tell; the stack above it makes of them what it wants."""
    mine = bytes.fromhex(net.link_of("n0", "pop0")["address"].replace(":", ""))
    for gso_size in (48, 500, 1448, 60000):
        for start in (14, 20, 34, 40):
            send_raw(
                0, frame_head(NEEDS_CSUM, GSO_TCPV4, gso_size, start, 16), tcp_frame(mine, 1000)
            )
            send_raw(
                0, frame_head(NEEDS_CSUM, GSO_TCPV4, gso_size, start, 16), tcp_frame(mine), 60000
            )
    for length in (14, 15, 33, 34, 53):
        send_raw(0, frame_head(), tcp_frame(mine)[:length])
    # Many addresses: the table of learned ones is bounded.
    frame = bytearray(tcp_frame(b"\xff" * 6))
    for index in range(5000):
        frame[6:12] = bytes([2, 0, 0, 0]) + index.to_bytes(2, "big")
        while True:
            try:
                send_raw(0, frame_head(), bytes(frame))
                break
            except OSError:
                time.sleep(0.01)
    assert net.answers(address(1), "n0")
    assert 1000 < net.counters("pop0", "n0")["rx_learned"] <= 4096 + 10


def test_a_user_namespace_gets_no_link(segment: None) -> None:
    remove(2)
    out = net.sh("unshare", "--user", "--map-root-user", "--net", "ip", "link", "add", "x", "type",
                 "popcorn", check=False)  # fmt: skip
    assert "CAP_NET_ADMIN in the initial user namespace" in out or "not permitted" in out
    add(2)


def test_links_come_and_go(segment: None) -> None:
    """Also while frames are on their way."""
    flood = subprocess.Popen(
        ["ip", "netns", "exec", "n0", "ping", "-f", "-q", "-s", "5000", address(1)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(10):
            net.in_netns("n1", "ip", "link", "set", "pop1", "down")
            net.in_netns("n1", "ip", "link", "set", "pop1", "up")
        for _ in range(5):
            remove(1)
            add(1)
    finally:
        flood.kill()
        flood.wait()
    assert net.answers(address(1), "n0")


XDP = r"""
int popcorn_test(struct xdp_md *ctx)
{
    unsigned char *p = (void *)(long)ctx->data, byte;
    void *end = (void *)(long)ctx->data_end;
    int i;

    if ((void *)(p + 42) > end || p[12] != 8 || p[13] != 0 || p[23] != 17)
        return XDP_PASS;
    if (p[36] != 77)
        return XDP_PASS;
    if (p[37] == 1)
        return XDP_DROP;
    if (p[37] != 2 && p[37] != 3)
        return XDP_PASS;
#pragma unroll
    for (i = 0; i < 6; i++) {
        byte = p[i];
        p[i] = p[i + 6];
        p[i + 6] = byte;
    }
    return p[37] == 2 ? XDP_TX : bpf_redirect(ctx->ingress_ifindex, 0);
}
"""
XDP_LOADER = f"""
import sys, bcc
program = bcc.BPF(text={XDP!r})
program.attach_xdp(sys.argv[1], program.load_func("popcorn_test", bcc.BPF.XDP), int(sys.argv[2]))
print("attached", flush=True)
sys.stdin.read()
program.remove_xdp(sys.argv[1], int(sys.argv[2]))
"""
NATIVE, GENERIC = 1 << 2, 1 << 1


def say(port: int, count: int = 5) -> None:
    """Some datagrams from n0 to a port of n1."""
    text = (
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"for _ in range({count}): s.sendto(b'x' * 100, ('{address(1)}', {port}))\n"
    )
    net.in_netns("n0", "/usr/bin/python3", "-c", text)


@pytest.mark.parametrize("mode", [NATIVE, GENERIC], ids=["native", "generic"])
def test_xdp(segment: None, mode: int) -> None:
    """Programs that drop a port, send back and redirect; all else goes on as before."""
    assert net.answers(address(1), "n0")
    loader = subprocess.Popen(
        ["ip", "netns", "exec", "n1", "/usr/bin/python3", "-c", XDP_LOADER, "pop1", str(mode)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert loader.stdin is not None and loader.stdout is not None
    try:
        assert loader.stdout.readline() == "attached\n"
        shown = net.in_netns("n1", "ip", "link", "show", "pop1")
        assert ("xdpgeneric" in shown) == (mode == GENERIC) and "xdp" in shown
        before, sender = net.counters("pop1", "n1"), net.counters("pop0", "n0")
        for port, reason in ((77, "drop"), (77, "tx"), (77, "redirect")):
            say((port << 8) + {"drop": 1, "tx": 2, "redirect": 3}[reason])
        if mode == NATIVE:
            net.wait_until(
                "the program's work",
                lambda: net.counters("pop0", "n0")["rx_packets"] - sender["rx_packets"] >= 10,
            )
            after = net.counters("pop1", "n1")
            for name, value in (("rx_xdp_drop", 5), ("tx_xdp", 10), ("rx_xdp_redirect", 5)):
                assert after[name] - before[name] == value, name
        assert net.answers(address(1), "n0")
        print(f"TCP through XDP: {iperf('n1', 'n0', address(1)):.0f} Mbit/s")
    finally:
        loader.stdin.close()
        loader.wait(timeout=60)
    assert net.answers(address(1), "n0")
    assert net.lost("pop1", "n1") == {}


DATAGRAMS, TOO_LONG, STRAY = 997, 7, 5
NOBODY = "10.99.0.77"

#: Sends so many datagrams to each of: another link, the same in a size too long for it, nobody.
DATAGRAM_SENDER = """
import socket, sys
there, nobody, *counts = sys.argv[1:]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for address, size, count in zip((there, there, nobody), (331, 1009, 331), map(int, counts)):
    for _ in range(count):
        sender.sendto(bytes(size), (address, 7777))
"""

DATAGRAM_SINK = """
import socket, sys
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("", 7777))
print("bound", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def quiet_pair() -> Iterator[None]:
    """Nodes 0 and 1 have a link, and send nothing on their own."""
    for node in (0, 1):
        add(node)
    for node in (0, 1):
        name = f"n{node}"
        net.in_netns(name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        known = {
            address(1 - node): net.link_of(f"n{1 - node}", f"pop{1 - node}")["address"],
            NOBODY: "02:11:22:33:44:55",
        }
        for there, mac in known.items():
            net.in_netns(name, "ip", "neigh", "replace", there, "lladdr", mac, "nud", "permanent",
                         "dev", f"pop{node}")  # fmt: skip
    # Shorter than what the other one sends.
    net.in_netns("n1", "ip", "link", "set", "pop1", "mtu", "576")
    yield
    for node in (0, 1):
        remove(node)


def trace_net(*words: str, counts: tuple[int, int, int] = (DATAGRAMS, TOO_LONG, STRAY)) -> Any:
    """What popcornctl trace net says, in JSON, of datagrams from n0 to n1."""
    done = ctl(
        "--json", "trace", "net", *words, "--", "ip", "netns", "exec", "n0", "/usr/bin/python3",
        "-c", DATAGRAM_SENDER, address(1), NOBODY, *map(str, counts), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_tracer_counts_what_the_links_count(quiet_pair: None) -> None:
    sink = subprocess.Popen(
        ["ip", "netns", "exec", "n1", "/usr/bin/python3", "-c", DATAGRAM_SINK],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert sink.stdin is not None and sink.stdout is not None
    try:
        assert sink.stdout.readline() == "bound\n"
        before = net.counters("pop0", "n0"), net.counters("pop1", "n1")
        found = trace_net()
        after = net.counters("pop0", "n0"), net.counters("pop1", "n1")
    finally:
        sink.stdin.close()
        sink.wait(timeout=60)
    tx, rx = ({n: b[n] - a[n] for n in b} for a, b in zip(before, after, strict=True))
    print(json.dumps(found["packets"]), json.dumps(found["received"][0]["latency"]))
    assert found["missed"] == 0
    sent = DATAGRAMS + TOO_LONG + STRAY
    assert found["packets"] == {
        "sent": sent, "copies": sent, "received": DATAGRAMS, "dropped": TOO_LONG + STRAY
    }  # fmt: skip
    assert (tx["tx_packets"], tx["tx_copies"], rx["rx_packets"]) == (sent, sent, DATAGRAMS)
    assert sum(row["bytes"] for row in found["sent"]) == tx["tx_bytes"]
    assert sum(row["bytes"] for row in found["received"]) == rx["rx_bytes"]
    dropped: dict[str, int] = {}
    for row in found["dropped"]:
        assert (row["node"], row["peer"], row["direction"]) == (1, 0, "receive")
        dropped[row["reason"]] = dropped.get(row["reason"], 0) + row["packets"]
    assert dropped == {"rx_too_long": TOO_LONG, "rx_filtered": STRAY}
    assert all(rx[reason] == packets for reason, packets in dropped.items())
    for row in found["received"]:
        assert (row["src"], row["dst"], row["backwards"]) == (0, 1, 0)
        assert sum(b["count"] for b in row["latency"]["histogram"]) == row["packets"]
        assert 0 < row["latency"]["min_ns"] <= row["latency"]["median_ns"]
        # Ethernet, IP and UDP before the 331 bytes.
        assert row["sizes"]["min"] == row["sizes"]["max"] == 14 + 20 + 8 + 331


def test_the_tracer_of_one_link_sees_no_other(quiet_pair: None) -> None:
    net.in_netns("n1", "ip", "link", "set", "pop1", "netns", "1")
    try:
        # Quiet here as well: IPv6 takes no link of so small an MTU.
        net.sh("ip", "link", "set", "pop1", "up")
        net.wait_until("a carrier", lambda: net.carrier("pop1"))
        found = trace_net("--link", "pop1", "--node", "0", counts=(0, 0, STRAY))
        assert found["links"] == [{"node": 1, "name": "pop1"}]
        assert (found["packets"]["sent"], found["packets"]["dropped"]) == (0, STRAY)
        assert {row["reason"] for row in found["dropped"]} == {"rx_filtered"}
        for words, says in (
            (("--link", "nothing"), "there is no link 'nothing'"),
            (("--link", "lo"), "interface 'lo' is no link of Popcorn"),
            (("--node", "9"), "there is no node 9"),
        ):
            done = ctl("trace", "net", *words)
            assert (done.returncode, done.stdout) == (1, ""), done.stderr
            assert says in done.stderr and "popcornctl" in done.stderr
    finally:
        net.sh("ip", "link", "del", "pop1", check=False)
