# SPDX-License-Identifier: GPL-2.0
"""The link between two kernels: what works by itself, traffic, and the end of a kernel."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import net
import pytest

from guest import Starter, ctl, ctl_json, free_kib, wait_memory_back
from popcorn import Client
from popcorn.errors import PopcornError
from popcorn.models import Kernel
from stress import SOAK

LINK = "popcorn0"
MIB = 24
ROUNDS = 100 if SOAK else 3
STREAMS = 8
STREAM_SECONDS = 60 if SOAK else 3
FILE_MIB = 2048 if SOAK else 4
"""What goes by ssh and by rsync."""
SLACK_KIB = 8 * 1024
"""What is free after all rounds may be less by this much: a leak of 100 KiB in each would show."""


def here() -> dict[str, Any]:
    """This kernel's link."""
    (link,) = ctl_json("link", "list")
    found: dict[str, Any] = link
    return found


def address_here() -> str:
    """Its private address; not by popcornctl, which is slow to start under emulation."""
    (shown,) = json.loads(net.sh("ip", "-4", "-j", "address", "show", "dev", LINK))
    (address,) = shown["addr_info"]
    return str(address["local"])


def address_of(node: int) -> str:
    return address_here().rpartition(".")[0] + f".{node + 1}"


def make_link() -> None:
    done = ctl("link", "add")
    assert done.returncode == 0, done.stderr


def is_there() -> bool:
    return Path(f"/sys/class/net/{LINK}").exists()


@pytest.fixture(scope="module", autouse=True)
def no_module_afterwards(modules: None) -> Iterator[None]:
    """The module goes again, which proves that nothing of it is in use."""
    yield
    if is_there():
        assert ctl("link", "del", LINK, "--force").returncode == 0
    subprocess.run(["modprobe", "-r", "popcorn_net"], check=True)


@pytest.fixture
def link(client: Client) -> None:
    """This kernel has its link, which the test before may have left."""
    if not is_there():
        make_link()


@pytest.fixture
def no_link(client: Client) -> None:
    """This kernel has none."""
    if is_there():
        assert ctl("link", "del", LINK, "--force").returncode == 0


@pytest.fixture
def pair(
    link: None, shared: Callable[..., Kernel], run_image: Callable[[str], Path], client: Client
) -> tuple[Callable[[], str], Callable[..., str]]:
    """A second kernel on the link: (start it if it does not run, run a command in it)."""
    image = run_image(net.SERVE)

    def again() -> str:
        shared("web", initrd=image, memory_mib=384)
        node = client.node("web").id
        net.wait_for_shell(address_of(node))
        return address_of(node)

    def command(text: str, timeout: float = 60) -> str:
        return net.remote(address_of(1), text, timeout)

    again()
    return again, command


@pytest.fixture
def iperf3_there(pair: Any, tmp_path: Path) -> None:
    """A server of iperf3 in the second kernel."""
    _, other = pair
    if "iperf3" not in other("ps"):
        net.deliver(address_of(1), address_here(), tmp_path, "iperf3")
        other("mkdir -p /tmp; iperf3 --server --daemon")


def test_out_of_the_box(pair: Any) -> None:
    _, other = pair
    link = here()
    assert (link["state"], link["node_id"], link["peers"], link["peer_names"]) == (
        "up", 0, [1], ["web"],
    )  # fmt: skip
    assert link["mac"].startswith("02:50:") and link["mac"].endswith(":00")
    mac = other(f"cat /sys/class/net/{LINK}/address").strip()
    assert mac == link["mac"][:-2] + "01"
    # Both ways, by the private and by the link-local address.
    assert net.answers(address_of(1))
    assert " 0% packet loss" in other(f"ping -c 3 {address_here()}")
    (local,) = [a.partition("/")[0] for a in link["addresses"] if a.startswith("fe80:")]
    assert " 0% packet loss" in other(f"ping6 -c 3 {local}%{LINK}")
    shown = ctl("link", "show").stdout
    assert f"1 web  {address_of(1)}" in shown
    assert net.lost(LINK) == {}


def test_files_both_ways(pair: Any, tmp_path: Path) -> None:
    _, other = pair
    there = other(f"head -c {MIB}m /dev/urandom >/srv/file; sha256sum /srv/file", 180).split()[0]
    with urllib.request.urlopen(f"http://{address_of(1)}/file", timeout=120) as reply:
        assert hashlib.sha256(reply.read()).hexdigest() == there
    sent = net.random_file(tmp_path / "file", MIB)
    with net.web_server(tmp_path, address_here(), 8000):
        got = other(f"wget -q -O - http://{address_here()}:8000/file | sha256sum", 180)
    assert got.split()[0] == sent
    found = net.counters(LINK)
    # In large pieces, both ways.
    for way in ("rx", "tx"):
        assert found[f"{way}_bytes"] > MIB << 20
    assert net.lost(LINK) == {}


@pytest.mark.parametrize("way", ["out", "back", "both"])
def test_streams(pair: Any, iperf3_there: None, way: str) -> None:
    """Eight streams at once: all of them move, in each direction, and no frame is lost."""
    before = net.lost(LINK)
    options = {"out": [], "back": ["--reverse"], "both": ["--bidir"]}[way]
    text = net.sh("iperf3", "--json", "--client", address_of(1), "--parallel", str(STREAMS),
                  "--time", str(STREAM_SECONDS), *options,
                  timeout=STREAM_SECONDS + 120)  # fmt: skip
    result = json.loads(text)
    assert "error" not in result, result["error"]
    streams = result["end"]["streams"]
    assert len(streams) == STREAMS * (2 if way == "both" else 1)
    sent_here = [stream["sender"]["sender"] for stream in streams]
    assert sent_here.count(True) == (0 if way == "back" else STREAMS)
    for stream in streams:
        assert stream["sender"]["bytes"] > 0
        assert stream["receiver"]["bytes"] > 0
    moved = sum(stream["receiver"]["bytes"] for stream in streams)
    print(f"{way}: {moved >> 20} MiB received in {STREAM_SECONDS} s, {STREAMS} streams")
    assert net.lost(LINK) == before


def test_mtu(pair: Any) -> None:
    _, other = pair
    for mtu in ("65520", "9000", "1500"):
        assert ctl("link", "set", LINK, "--mtu", mtu).returncode == 0
        other(f"ip link set {LINK} mtu {mtu}")
        assert here()["mtu"] == int(mtu)
        # As large as fits, and not to be cut (-M do).
        size = str(int(mtu) - 28)
        assert net.answers(address_of(1), None, "-s", size, "-M", "do")
        assert not net.answers(address_of(1), None, "-s", str(int(size) + 1), "-M", "do")
    assert net.lost(LINK) == {}


def test_down_and_up(pair: Any) -> None:
    assert ctl("link", "set", LINK, "--down").returncode == 0
    assert here()["state"] == "down"
    assert ctl("link", "set", LINK, "--up").returncode == 0
    net.wait_until("the peer is back", lambda: here()["state"] == "up")
    assert net.answers(address_of(1))


def end_in_traffic(other: Callable[..., str], client: Client, end: str) -> float:
    """End the other kernel while as much goes both ways as can; when the carrier dropped."""
    # To a sink there, and from a source there.
    other(
        "nc -ll -p 5001 -e sh -c 'cat >/dev/null' >/dev/null 2>&1 &\n"
        "nc -ll -p 5002 -e cat /dev/zero >/dev/null 2>&1 &"
    )
    time.sleep(1)
    before = net.counters(LINK)
    send = f"exec 3<>/dev/tcp/{address_of(1)}/5001; cat /dev/zero >&3"
    receive = f"cat </dev/tcp/{address_of(1)}/5002 >/dev/null"
    traffic = [subprocess.Popen(["bash", "-c", text]) for text in (send, receive)]

    def busy() -> bool:
        now = net.counters(LINK)
        return all(now[way] - before[way] > 1 << 20 for way in ("tx_bytes", "rx_bytes"))

    net.wait_until("traffic both ways", busy)
    if end == "kill":
        client.kernel_kill(client.kernel("web").id)
    else:
        with_shell = net.socket.create_connection((address_of(1), net.SHELL_PORT), timeout=20)
        with_shell.sendall(b"echo c >/proc/sysrq-trigger\n")
    took = net.wait_until("the carrier drops", lambda: not net.carrier(LINK))
    for process in traffic:
        process.kill()
        process.wait()
    # What TCP still has for the dead one, it would keep for minutes.
    net.sh("ss", "-K", "dst", address_of(1))
    return took


def test_ends_in_traffic(pair: Any, client: Client) -> None:
    again, other = pair
    mac = other(f"cat /sys/class/net/{LINK}/address").strip()
    took: dict[str, list[float]] = {"kill": [], "panic": []}
    available = 0
    for number, end in zip(range(ROUNDS), itertools.cycle(took), strict=False):
        took[end].append(end_in_traffic(other, client, end))
        assert here()["state"] == "no-peer"
        client.kernel_del(client.kernel("web").id)
        again()
        # Nothing is stuck, and the other one has the address that it had.
        assert other(f"cat /sys/class/net/{LINK}/address").strip() == mac
        assert net.answers(address_of(1))
        print(f"round {number + 1}: the carrier dropped after {took[end][-1]:.2f} s ({end})")
        if number == 1:
            available, interfaces = free_kib(), sorted(Path("/sys/class/net").iterdir())
    # What grew, grew once.
    assert sorted(Path("/sys/class/net").iterdir()) == interfaces
    wait_memory_back(available, SLACK_KIB)


def test_addresses_of_ones_own(no_link: None, start: Starter) -> None:
    done = ctl("link", "add", "net7", "--address", "192.168.77.1/24", "--mtu", "9000")
    assert done.returncode == 0, done.stderr
    try:
        start("web", append="popcorn_link.address=192.168.77.2/24 popcorn_link.mtu=9000")
        net.wait_until("an answer", lambda: net.answers("192.168.77.2"), 40)
        assert net.answers("192.168.77.2", None, "-s", "8900", "-M", "do")
    finally:
        assert ctl("link", "del", "net7").returncode == 0


BAD_INPUT = (
    (("add", "second"), "this node has a link already", 1),
    (("add", LINK), f"there is an interface '{LINK}' already", 1),
    (("add", "lo"), "there is an interface 'lo' already", 1),
    (("add", "x" * 16), "too long", 2),
    (("add", "second", "--node", "9"), "that node is not in this kernel", 1),
    (("add", "second", "--node", "16"), "out of range|policy|range", 1),
    (("add", "second", "--mtu", "65521"), "range", 2),
    (("set", LINK, "--mtu", "9"), "range", 2),
    (("set", LINK, "--mac", "01:00:00:00:00:00"), "address of a group", 2),
    (("set", LINK, "--add-address", "127.0.0.1/8"), "127.0.0.1 is the address of lo", 1),
    (("set", "nothing", "--up"), "there is no link 'nothing'", 1),
    (("set", "lo", "--up"), "'lo' is no link of Popcorn", 1),
    (("del", "nothing"), "there is no link 'nothing'", 1),
)


def test_bad_input(link: None) -> None:
    before = here()
    for arguments, says, status in BAD_INPUT:
        done = ctl("link", *arguments)
        assert (done.returncode, done.stdout) == (status, ""), arguments
        assert re.search(says, done.stderr), (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    after = here()
    assert [after[key] for key in ("name", "mac", "mtu")] == [
        before[key] for key in ("name", "mac", "mtu")
    ]


def test_kernel_words_reach_other_tools(link: None) -> None:
    """What ip(8) shows is the kernel's own text."""
    out = net.sh("ip", "link", "add", "second", "type", LINK.rstrip("0"), check=False)
    assert "this node has a link already" in out
    out = net.sh("ip", "link", "set", LINK, "mtu", "70000", check=False)
    assert "mtu greater than device maximum" in out
    out = net.sh("ip", "link", "set", LINK, "address", "01:00:00:00:00:00", check=False)
    assert "Cannot assign requested address" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("address 02:50", "a MAC address has six bytes"),
        ("address 01:00:5e:00:00:01", "it is zero or a group's"),
        ("address 00:00:00:00:00:00", "it is zero or a group's"),
        ("numtxqueues 9", "more queues than a node can have"),
        ("numrxqueues 9", "more queues than a node can have"),
    ],
)
def test_kernel_makes_no_such_link(link: None, words: str, says: str) -> None:
    """popcornctl would not ask for it; ip(8) does."""
    out = net.sh("ip", "link", "add", "second", *words.split(), "type", "popcorn", check=False)
    assert says in out
    assert not Path("/sys/class/net/second").exists()


def test_link_stays_with_its_node(link: None) -> None:
    from popcorn.rtnl import Rtnl

    with Rtnl() as rtnl:
        (found,) = (i for i in rtnl.interfaces() if i.name == LINK)
        rtnl.set(found.index, LINK, kind=found.kind, popcorn_node=found.node)
        with pytest.raises(PopcornError, match="a link stays with its node"):
            rtnl.set(found.index, LINK, kind=found.kind, popcorn_node=found.node + 1)
        assert [i.node for i in rtnl.interfaces() if i.name == LINK] == [found.node]


def test_link_in_use_is_not_deleted(link: None) -> None:
    net.sh("ip", "link", "add", "link", LINK, "name", f"{LINK}.7", "type", "vlan", "id", "7")
    done = ctl("link", "del", LINK)
    assert (done.returncode, f"in use by {LINK}.7" in done.stderr) == (1, True)
    assert ctl("link", "del", LINK, "--force").returncode == 0
    make_link()


def test_no_link_without_a_fabric(no_link: None) -> None:
    net.sh("modprobe", "popcorn_net")
    net.sh("modprobe", "-r", "popcorn_host")
    try:
        done = ctl("link", "add")
        assert done.returncode == 1
        assert "this kernel is on no fabric" in done.stderr
        assert "modprobe popcorn_host" in done.stderr
    finally:
        net.sh("modprobe", "popcorn_host")


@pytest.fixture
def outside() -> Iterator[str]:
    """A machine beyond the primary, 198.51.100.2, that knows nothing of the link's subnet: a
    namespace at the other end of `wan`.
    """
    net.sh("ip", "netns", "add", "out")
    net.sh("ip", "link", "add", "wan", "type", "veth", "peer", "name", "eth0", "netns", "out")
    try:
        net.sh("ip", "address", "add", "198.51.100.1/24", "dev", "wan")
        net.sh("ip", "link", "set", "wan", "up")
        net.in_netns("out", "ip", "address", "add", "198.51.100.2/24", "dev", "eth0")
        net.in_netns("out", "ip", "link", "set", "eth0", "up")
        yield "out"
    finally:
        net.sh("ip", "link", "del", "wan")
        net.sh("ip", "netns", "del", "out")


def fetch(namespace: str, url: str) -> str:
    """SHA-256 of what a web server answers to somebody in a namespace."""
    command = f"set -o pipefail; busybox wget -q -O - {url} | sha256sum"
    return net.in_netns(namespace, "bash", "-c", command).split()[0]


def test_uplink_by_nat(
    no_link: None,
    outside: str,
    client: Client,
    start: Starter,
    run_image: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Out of the other kernel to a web server beyond the primary, and from there to its own."""
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    before = forward.read_text()
    sent = net.random_file(tmp_path / "file", 4)
    server = subprocess.Popen(
        ["ip", "netns", "exec", outside, "busybox", "httpd", "-f", "-p", "80", "-h", str(tmp_path)]
    )
    try:
        done = ctl("link", "add", "--uplink", "nat")
        assert done.returncode == 0, done.stderr
        start("web", initrd=run_image(net.SERVE))
        there = address_of(1)
        net.wait_for_shell(there)
        got = net.remote(there, "wget -q -O - http://198.51.100.2/file | sha256sum")
        assert got.split()[0] == sent
        assert " 0% packet loss" in net.remote(there, "ping -c 3 198.51.100.2")
        # The other way a peer has to know the way: by a route, or by a port of the primary's.
        made = "head -c 4m /dev/urandom >/srv/file; sha256sum /srv/file"
        theirs = net.remote(there, made).split()[0]
        subnet = there.rpartition(".")[0] + ".0/24"
        net.in_netns(outside, "ip", "route", "add", subnet, "via", "198.51.100.1")
        assert fetch(outside, f"http://{there}/file") == theirs
        net.in_netns(outside, "ip", "route", "del", subnet)
        net.sh(
            "nft",
            f"""
            add table ip forwarded
            add chain ip forwarded in {{ type nat hook prerouting priority dstnat; }}
            add rule ip forwarded in iifname wan tcp dport 8080 dnat to {there}:80
        """,
        )
        assert fetch(outside, "http://198.51.100.1:8080/file") == theirs
        client.kernel_kill(client.kernel("web").id)
        assert ctl("link", "del", LINK).returncode == 0
    finally:
        server.kill()
        server.wait()
        net.sh("nft", "delete table ip forwarded", check=False)
    assert forward.read_text() == before
    assert "popcorn" not in net.sh("nft", "list", "tables")


def test_uplink_by_a_bridge(no_link: None) -> None:
    done = ctl("link", "add", "--uplink", "bridge:br9")
    assert (done.returncode, "there is no bridge 'br9'" in done.stderr) == (1, True)
    net.sh("ip", "link", "add", "br9", "type", "bridge")
    try:
        assert ctl("link", "add", "--uplink", "bridge:br9").returncode == 0
        assert here()["used_by"] == ["br9"]
        done = ctl("link", "del", LINK)
        assert (done.returncode, "in use by br9" in done.stderr) == (1, True)
        assert ctl("link", "del", LINK, "--force").returncode == 0
    finally:
        net.sh("ip", "link", "del", "br9")


def test_ssh(link: None, start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile shell lets in who made it, with his key and in no other way."""
    home = tmp_path / "home"
    key = home / ".ssh" / "id_ed25519"
    key.parent.mkdir(parents=True, mode=0o700)
    net.sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    monkeypatch.setenv("HOME", str(home))
    image = tmp_path / "ssh.img"
    assert ctl("image", "build", "--profile", "shell", "-o", str(image)).returncode == 0
    # The file goes into its memory.
    start("web", initrd=image, memory_mib=FILE_MIB + 512)

    def into(*command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return ctl("kernel", "ssh", "--identity", str(key), "web", *command, timeout=timeout)

    hostname = "cat", "/proc/sys/kernel/hostname"
    net.wait_until("a login", lambda: into(*hostname).stdout.strip() == "web", 60)
    assert into("exit", "7").returncode == 7
    stranger = tmp_path / "stranger"
    net.sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger))
    done = ctl("kernel", "ssh", "--identity", str(stranger), "web", "true",
               HOME=str(tmp_path), timeout=60)  # fmt: skip
    assert done.returncode == 255, (done.stdout, done.stderr)
    key_and_name = ["--identity", str(key), "web"]
    send_and_fetch_by_ssh(key_and_name)
    into("mount", "-o", "remount,size=90%", "/tmp")
    net.deliver_by(lambda command: ["popcornctl", "kernel", "ssh", *key_and_name, command],
                   tmp_path, "rsync")  # fmt: skip
    send_and_fetch_by_rsync(into, key)


def send_and_fetch_by_ssh(key_and_name: list[str]) -> None:
    """A long stream there and another one back, which both sides sum up; neither keeps it."""
    ssh = ["popcornctl", "kernel", "ssh", *key_and_name]
    with subprocess.Popen(
        [*ssh, "sha256sum"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as there:
        assert there.stdin
        assert there.stdout
        here = hashlib.sha256()
        for block in net.random_blocks(FILE_MIB):
            there.stdin.write(block)
            here.update(block)
        there.stdin.close()
        assert there.stdout.read().split()[0].decode() == here.hexdigest()
    make = (
        "rm -f /tmp/copy; mkfifo /tmp/copy; sha256sum </tmp/copy >/tmp/sum & "
        f"head -c {FILE_MIB}m /dev/urandom | tee /tmp/copy; wait"
    )
    with subprocess.Popen([*ssh, make], stdout=subprocess.PIPE) as back:
        assert back.stdout
        got, size = hashlib.sha256(), 0
        while block := back.stdout.read(1 << 20):
            got.update(block)
            size += len(block)
    assert (back.returncode, size) == (0, FILE_MIB << 20)
    said = subprocess.run([*ssh, "cat /tmp/sum"], capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == got.hexdigest()


def send_and_fetch_by_rsync(
    into: Callable[..., subprocess.CompletedProcess[str]], key: Path
) -> None:
    """A file there and back again; here it is where it takes no memory of this machine."""
    place = Path(os.environ["LAB_OUT"])
    file, copy = place / "sent-by-rsync", place / "fetched-by-rsync"
    remote_shell = (
        f"ssh -i {key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        " -o LogLevel=ERROR"
    )
    rsync = ["rsync", "--whole-file", "--inplace", "-e", remote_shell]
    there = f"root@{address_of(1)}:/tmp/file"
    hour = 3600
    try:
        sent = net.random_file(file, FILE_MIB)
        net.sh(*rsync, str(file), there, timeout=hour)
        summed = into("sha256sum /tmp/file", timeout=hour)
        assert summed.stdout.split()[0] == sent, summed.stderr
        net.sh(*rsync, there, str(copy), timeout=hour)
        assert net.sha256(copy) == sent
    finally:
        file.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
