# SPDX-License-Identifier: GPL-2.0
"""A line to another kernel against a pty pair of the primary, in the lab.

`tty.latency_x_pty`: the median time from writing a byte until it has come back, by a line whose
other end is a cat in a secondary, divided by that by a pty with such a cat on it; less is better.
`tty.throughput_x_pty`: bytes in the same time that the cat sends back, likewise; more is better. In
raw mode, with busybox's cat on both, one right after the other in each round.
"""

from __future__ import annotations

import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path

ROUNDS = 5
KEYS = 200
MIB = 1 << 20
BYTES = 4 * MIB
LINE = 4
"""The shells and the agent have others."""
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "lab")]

from figures import figure  # noqa: E402

import ttys  # noqa: E402
from popcorn import Client  # noqa: E402
from popcorn.plan import Spec  # noqa: E402
from popcorn.start import start_kernel  # noqa: E402

ECHO = f"""#!/bin/sh
exec <>/dev/ttyPCN{LINE} >&0
stty raw -echo
exec cat
"""


def key_seconds(fd: int) -> float:
    """The median of a byte's way there and back."""
    times = []
    for number in range(KEYS):
        key = bytes([ord("a") + number % 26])
        begin = time.perf_counter()
        os.write(fd, key)
        found = os.read(fd, 64)
        times.append(time.perf_counter() - begin)
        if found != key:
            raise RuntimeError(f"wrote {key!r}, {found!r} came back")
    return statistics.median(times)


def bytes_per_second(fd: int) -> float:
    """Of what is sent and comes back, byte for byte."""
    data = ttys.noise(BYTES)
    begin = time.perf_counter()
    writer = ttys.in_background(ttys.write_all, fd, data)
    found = ttys.read_exactly(fd, len(data))
    seconds = time.perf_counter() - begin
    writer.join()
    if found != data:
        raise RuntimeError("what came back is not what was sent")
    return BYTES / seconds


def wait_for_echo(fd: int) -> None:
    """Until the cat is there and nothing else answers."""
    os.set_blocking(fd, False)
    seen = b""
    deadline = time.monotonic() + 60
    number = 0
    while f"<{number}>".encode() not in seen:
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody echoes: {seen!r}")
        number += 1
        os.write(fd, f"<{number}>".encode())
        time.sleep(0.5)
        try:
            seen = os.read(fd, 4096)
        except BlockingIOError:
            seen = b""
    os.set_blocking(fd, True)


def main() -> int:
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    ttys.modprobe("popcorn_tty")
    latencies, rates = [], []
    with tempfile.TemporaryDirectory() as directory, Client() as client:
        script, image = Path(directory) / "echo.sh", Path(directory) / "echo.img"
        script.write_text(ECHO)
        subprocess.run(
            ["popcornctl", "image", "build", "--profile", "shell", "--run", script, "-o", image],
            check=True,
        )
        start_kernel(client, Spec("bench", cpus=(2, 3), memory_bytes=256 * MIB, initrd=image))
        master, slave = pty.openpty()
        tty.setraw(slave)
        cat = subprocess.Popen(["busybox", "cat"], stdin=slave, stdout=slave)
        line = Path(f"/dev/popcorn/bench/tty{LINE}")
        ttys.wait_until(line.exists)
        index = int(line.resolve().name.removeprefix("ttyPCN"))
        ttys.wait_until(lambda: ttys.is_open(index))
        try:
            with ttys.opened(index) as fd:
                wait_for_echo(fd)
                for _round in range(ROUNDS):
                    keys = key_seconds(fd), key_seconds(master)
                    flows = bytes_per_second(fd), bytes_per_second(master)
                    print(
                        f"a key {keys[0] * 1e6:.0f} us by the line, {keys[1] * 1e6:.0f} by a pty:"
                        f" {keys[0] / keys[1]:.2f}; {flows[0] / MIB:.1f} MiB/s by the line,"
                        f" {flows[1] / MIB:.1f} by a pty: {flows[0] / flows[1]:.2f}",
                        flush=True,
                    )
                    latencies.append(keys[0] / keys[1])
                    rates.append(flows[0] / flows[1])
        finally:
            cat.kill()
            os.close(master)
            os.close(slave)
            for kernel in client.kernels():
                client.kernel_kill(kernel.id)
                client.kernel_del(kernel.id)
    figures = {"tty.latency_x_pty": figure(latencies), "tty.throughput_x_pty": figure(rates)}
    (Path(os.environ["LAB_OUT"]) / "bench-line.json").write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
