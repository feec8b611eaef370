# SPDX-License-Identifier: GPL-2.0
"""The link, primary to secondary, against veth between two namespaces of the primary.

`net.tcp_x_veth`: one stream with default settings, bytes in the same time, link by veth, both in
each round and with the same two programs: a sender here, and busybox's nc into a cat into nothing.
Both are emulated, so the ratio says how much of the work there is less, not how fast a machine is.
`net.tcp_tuned_x_veth` is the same with buffers of 4 MiB and the largest MTU, for both;
`net.udp_x_veth` the number of 64-byte datagrams that iperf3 got in the same time.
Of two, less is better: `net.tcp_cpu_x_veth` is the CPU time for each byte of the first stream, of
both kernels together; `net.ping_x_veth` the median round trip of 64-byte pings.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROUNDS = 5
SECONDS = 3
PORT = 5001
MTU = "65520"
BUFFER = 4 << 20
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "lab")]

import net  # noqa: E402
from figures import figure  # noqa: E402

from popcorn import Client  # noqa: E402
from popcorn.plan import Spec  # noqa: E402
from popcorn.start import start_kernel  # noqa: E402

SINK = f"exec nc -ll -p {PORT} -e sh -c 'cat >/dev/null'"
SEND = """
import socket, sys, time
address, port, seconds, room = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
block, sent = bytes(1 << 20), 0
with socket.socket() as connection:
    if room:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    connection.connect((address, port))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sent += connection.send(block)
print(sent)
"""


def inside(namespace: str | None) -> list[str]:
    return ["ip", "netns", "exec", namespace] if namespace else []


def stream(address: str, namespace: str | None = None, buffer: int = 0) -> float:
    """Mbit/s of one stream."""
    command = [sys.executable, "-c", SEND, address, str(PORT), str(SECONDS), str(buffer)]
    return int(net.sh(*inside(namespace), *command)) * 8 / SECONDS / 1e6


def busy(stat: str) -> int:
    """Time that CPUs were not idle, out of /proc/stat; in its ticks."""
    user, nice, system, _idle, _iowait, *interrupts = map(int, stat.split("\n")[0].split()[1:9])
    return user + nice + system + sum(interrupts)


def busy_here_and(address: str | None) -> int:
    """Of this kernel, and of the one at an address; ticks."""
    there = busy(net.remote(address, "cat /proc/stat")) if address else 0
    return busy(Path("/proc/stat").read_text()) + there


def datagrams(address: str, namespace: str | None = None) -> float:
    """64-byte datagrams a second that arrived, of as many as go."""
    command = ["iperf3", "-J", "-u", "-b", "0", "-l", "64", "-t", str(SECONDS), "-c", address]
    (stream,) = json.loads(net.sh(*inside(namespace), *command))["end"]["streams"]
    return float(stream["udp"]["packets"] - stream["udp"]["lost_packets"]) / SECONDS


def round_trip(address: str, namespace: str | None = None) -> float:
    """Median of 100, ms."""
    out = net.sh(*inside(namespace), "ping", "-c", "100", "-i", "0.02", "-s", "56", address)
    return statistics.median(float(time) for time in re.findall(r"time=([\d.]+)", out))


@contextlib.contextmanager
def veth() -> Iterator[str]:
    """Two namespaces with a sink in one of them; its address."""
    net.sh("ip", "netns", "add", "v0")
    net.sh("ip", "netns", "add", "v1")
    net.sh("ip", "link", "add", "e0", "netns", "v0", "type", "veth", "peer", "name", "e1",
           "netns", "v1")  # fmt: skip
    for space, name, address in (("v0", "e0", "10.98.0.1/24"), ("v1", "e1", "10.98.0.2/24")):
        net.in_netns(space, "ip", "address", "add", address, "dev", name)
        net.in_netns(space, "ip", "link", "set", name, "up")
    sink = subprocess.Popen(
        ["ip", "netns", "exec", "v1", "busybox", "sh", "-c", SINK], start_new_session=True
    )
    net.in_netns("v1", "iperf3", "-s", "-D", "-I", "/run/bench-iperf3.pid")
    time.sleep(1)
    try:
        yield "10.98.0.2"
    finally:
        os.killpg(sink.pid, signal.SIGKILL)
        os.kill(int(Path("/run/bench-iperf3.pid").read_text().rstrip("\0\n")), signal.SIGKILL)
        net.sh("ip", "netns", "del", "v0")
        net.sh("ip", "netns", "del", "v1")


@contextlib.contextmanager
def secondary(client: Client, directory: Path) -> Iterator[str]:
    """A second kernel with a sink; its address."""
    script, image = directory / "sink.sh", directory / "sink.img"
    script.write_text(f"#!/bin/sh\n{net.SERVE.strip()} &\n{SINK}\n")
    net.sh("popcornctl", "image", "build", "--profile", "shell", "--run", str(script),
           "-o", str(image))  # fmt: skip
    net.sh("popcornctl", "link", "add")
    spec = Spec("bench", cpus=(2, 3), memory_bytes=512 << 20, initrd=image)
    kernel = start_kernel(client, spec).kernel
    (link,) = json.loads(net.sh("popcornctl", "--json", "link", "list"))
    (own,) = [a for a in link["addresses"] if a.startswith("10.")]
    address = own.rpartition(".")[0] + f".{client.node('bench').id + 1}"
    net.wait_for_shell(address)
    net.deliver(address, own.partition("/")[0], directory, "iperf3")
    net.remote(address, "mkdir -p /tmp; iperf3 -s -D")
    try:
        yield address
    finally:
        client.kernel_kill(kernel.id)
        client.kernel_del(kernel.id)
        net.sh("popcornctl", "link", "del", "popcorn0")
        net.sh("modprobe", "-r", "popcorn_net")


def tune(address: str) -> None:
    """Give both sides of both kinds the largest MTU and large buffers."""
    room = f"4096 {BUFFER} {2 * BUFFER}"
    Path("/proc/sys/net/core/wmem_max").write_text(str(BUFFER))
    set_room = f"echo '{room}' >/proc/sys/net/ipv4/tcp_rmem"
    for space, name in (("v0", "e0"), ("v1", "e1")):
        net.in_netns(space, "ip", "link", "set", name, "mtu", MTU)
        net.in_netns(space, "sh", "-c", set_room)
    net.sh("ip", "link", "set", "popcorn0", "mtu", MTU)
    net.remote(address, f"ip link set popcorn0 mtu {MTU}; {set_room}")


def main() -> int:
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    ratios: dict[str, list[float]] = {}

    def compare(name: str, unit: str, link: float, other: float) -> None:
        print(f"{name}: {link:.3f} {unit} by the link, {other:.3f} by veth", flush=True)
        ratios.setdefault(name, []).append(link / other)

    with (
        tempfile.TemporaryDirectory() as directory,
        Client() as client,
        veth() as by_veth,
        secondary(client, Path(directory)) as by_link,
    ):
        for _round in range(ROUNDS):
            before = busy_here_and(by_link)
            link = stream(by_link)
            link_busy = busy_here_and(by_link) - before
            before = busy_here_and(None)
            other = stream(by_veth, "v0")
            other_busy = busy_here_and(None) - before
            compare("tcp_x_veth", "Mbit/s", link, other)
            compare("tcp_cpu_x_veth", "ticks/Gbit", link_busy / link * 1e3 / SECONDS,
                    other_busy / other * 1e3 / SECONDS)  # fmt: skip
            compare("udp_x_veth", "datagrams/s", datagrams(by_link), datagrams(by_veth, "v0"))
            compare("ping_x_veth", "ms", round_trip(by_link), round_trip(by_veth, "v0"))
        print(net.sh("ethtool", "-S", "popcorn0"))
        print(net.sh("popcornctl", "--json", "node", "show", "bench"))
        tune(by_link)
        for _round in range(ROUNDS):
            link, other = stream(by_link, None, BUFFER), stream(by_veth, "v0", BUFFER)
            compare("tcp_tuned_x_veth", "Mbit/s", link, other)
        print(net.sh("ethtool", "-S", "popcorn0"))
    figures = {f"net.{name}": figure(values) for name, values in ratios.items()}
    out = Path(os.environ.get("LAB_OUT", str(ROOT / "build")))
    (out / "bench-net.json").write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
