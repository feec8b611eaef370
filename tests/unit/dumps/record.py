# SPDX-License-Identifier: GPL-2.0
"""Record what the real module says, for test_recorded.py. Run it as root where it is loaded:

    tests/lab/run -- env PYTHONPATH=tools /usr/bin/python3 tests/unit/dumps/record.py OUTPUT.json

It starts a kernel on CPUs 2-3 and gives it back, and makes a request of each kind that is refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from popcorn import Client, PopcornError, Spec, start_kernel
from popcorn.netlink import KernelTransport
from popcorn.uapi.netlink_gen import Cmd

SIZE = 256 << 20

RECORDED: dict[str, dict[str, list[str]]] = {}
current: dict[str, list[str]] = {}


class Recorder(KernelTransport):
    """The real socket, with a copy of everything that goes through it."""

    def send(self, data: bytes) -> None:
        current.setdefault("sent", []).append(data.hex())
        super().send(data)

    def receive(self) -> bytes:
        data = super().receive()
        current.setdefault("received", []).append(data.hex())
        return data


def record(name, act):
    """Do `act` with a client of its own and keep what went over the wire, and what came of it."""
    global current
    current = {}
    with Client(Recorder) as client:
        try:
            result = act(client)
        except PopcornError as error:
            result = f"{type(error).__name__}: {error.message}"
    RECORDED[name] = current
    print(f"{name}: {result}")
    return result


def request(cmd, *attributes):
    return lambda client: client._family.request(cmd, attributes)


def main() -> None:
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    record("fabric", lambda c: c.fabric())
    record("no kernels", lambda c: c.kernels())
    spec = Spec("web", cpus=(2, 3), memory_bytes=SIZE, timeout=300)
    globals()["current"] = {}
    with Client(Recorder) as watcher:
        stream = watcher.subscribe()
        with Client() as client:
            start_kernel(client, spec)
        events = RECORDED["events"] = {}
        globals()["current"] = events
        while found := watcher.read_events(stream, timeout=0.5):
            print("event:", found)
    record("kernels", lambda c: c.kernels())
    record("nodes", lambda c: c.nodes())
    record("node by name", lambda c: c.node("web"))
    record("ping", lambda c: list(c.ping(1, 5))[-1])
    record("ping too many", request(Cmd.PING, ("node-id", 1), ("count", 4097)))
    record("ping without node", request(Cmd.PING, ("count", 1)))
    record("ping nobody", request(Cmd.PING, ("node-id", 9), ("count", 1)))
    record("kernel nobody", lambda c: c.kernel("nobody"))
    record("kernel id out of range", request(Cmd.KERNEL_KILL, ("id", 16)))
    record("kernel without id", request(Cmd.KERNEL_KILL))
    record("name taken", lambda c: c.kernel_new("web", (1,), SIZE))
    record("name too long", lambda c: c.kernel_new("w" * 32, (1,), SIZE))
    record("name bad", lambda c: c.kernel_new("w b", (1,), SIZE))
    record("cpu leased", lambda c: c.kernel_new("db", (2,), SIZE))
    record("cpu unknown", lambda c: c.kernel_new("db", (99,), SIZE))
    record("cpu boot", lambda c: c.kernel_new("db", (0,), SIZE))
    record("cpu twice", lambda c: c.kernel_new("db", (1, 1), SIZE))
    record("no cpu", lambda c: c.kernel_new("db", (), SIZE))
    record("memory zero", lambda c: c.kernel_new("db", (1,), 0))
    record("memory odd", lambda c: c.kernel_new("db", (1,), SIZE + 4096))
    record("memory too large", lambda c: c.kernel_new("db", (1,), 1 << 40))
    record(
        "boot running",
        lambda c: c.kernel_boot(1, entry=1, boot_params=2, page_table_root=3, image="x"),
    )
    record("del running", lambda c: c.kernel_del(1))
    record("kill", lambda c: c.kernel_kill(1))
    record("prepare", lambda c: c.kernel_prepare(1))
    record(
        "boot outside",
        lambda c: c.kernel_boot(1, entry=1 << 40, boot_params=2, page_table_root=3, image="x"),
    )
    record("del", lambda c: c.kernel_del(1))
    Path(sys.argv[1]).write_text(json.dumps(RECORDED, indent=1) + "\n", encoding="utf-8")


main()
