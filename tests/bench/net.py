# SPDX-License-Identifier: GPL-2.0
"""TCP over the link, primary to secondary, against veth between two namespaces of the primary.

`net.tcp_x_veth`: one stream with default settings, bytes in the same time, link by veth, both in
each round and with the same two programs: a sender here, and busybox's nc into a cat into nothing.
Both are emulated, so the ratio says how much of the work there is less, not how fast a machine is.
`net.ping_x_veth` is the median round trip of 64-byte pings likewise; there less is better.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
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
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "lab")]

import net  # noqa: E402

from popcorn import Client  # noqa: E402
from popcorn.start import Spec, start_kernel  # noqa: E402

SINK = f"nc -ll -p {PORT} -e sh -c 'cat >/dev/null'"
SEND = """
import socket, sys, time
address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
block, sent = bytes(1 << 20), 0
with socket.create_connection((address, port)) as connection:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sent += connection.send(block)
print(sent)
"""


def inside(namespace: str | None) -> list[str]:
    return ["ip", "netns", "exec", namespace] if namespace else []


def stream(address: str, namespace: str | None = None) -> float:
    """Mbit/s of one stream."""
    command = [sys.executable, "-c", SEND, address, str(PORT), str(SECONDS)]
    return int(net.sh(*inside(namespace), *command)) * 8 / SECONDS / 1e6


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
    sink = subprocess.Popen(["ip", "netns", "exec", "v1", "busybox", "sh", "-c", SINK])
    time.sleep(1)
    try:
        yield "10.98.0.2"
    finally:
        sink.kill()
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
    try:
        yield address
    finally:
        client.kernel_kill(kernel.id)
        client.kernel_del(kernel.id)
        net.sh("popcornctl", "link", "del", "popcorn0")
        net.sh("modprobe", "-r", "popcorn_net")


def figure(values: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def main() -> int:
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    streams, pings = [], []
    with (
        tempfile.TemporaryDirectory() as directory,
        Client() as client,
        veth() as by_veth,
        secondary(client, Path(directory)) as by_link,
    ):
        for _round in range(ROUNDS):
            link, other = stream(by_link), stream(by_veth, "v0")
            link_ms, other_ms = round_trip(by_link), round_trip(by_veth, "v0")
            print(
                f"TCP {link:.0f} Mbit/s by the link, {other:.0f} by veth: {link / other:.2f};"
                f" ping {link_ms:.3f} ms, {other_ms:.3f}: {link_ms / other_ms:.2f}",
                flush=True,
            )
            streams.append(link / other)
            pings.append(link_ms / other_ms)
        print(net.sh("ethtool", "-S", "popcorn0"))
    figures = {"net.tcp_x_veth": figure(streams), "net.ping_x_veth": figure(pings)}
    out = Path(os.environ.get("LAB_OUT", str(ROOT / "build")))
    (out / "bench-net.json").write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
