# SPDX-License-Identifier: GPL-2.0
"""Replay what a real module on a Debian 6.1 kernel said (dumps/record.py made the recording)."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from popcorn.client import Client
from popcorn.errors import BusyError, ExistsError, KernelRefusedError, NotFoundError
from popcorn.models import KernelState, NodeState
from popcorn.uapi.netlink_gen import Cmd

RECORDED = json.loads((Path(__file__).parent / "dumps/recorded.json").read_text())


class Replay:
    """A transport that plays one recording; sequence numbers are those of the new requests."""

    def __init__(self, name):
        self.sent = [bytes.fromhex(text) for text in RECORDED[name].get("sent", ())]
        self.received = [bytes.fromhex(text) for text in RECORDED[name].get("received", ())]
        self.numbers = {}

    def send(self, data):
        wanted = self.sent.pop(0)
        # The lookup of the family is the same every time; the rest has the id of that boot.
        assert data[:8] == wanted[:8] and data[16:] == wanted[16:], "a request has changed"
        self.numbers[wanted[8:12]] = data[8:12]

    def receive(self):
        data = bytearray(self.received.pop(0))
        at = 0
        while at + 16 <= len(data):
            number = bytes(data[at + 8 : at + 12])
            data[at + 8 : at + 12] = self.numbers.get(number, number)
            at += (struct.unpack_from("=I", data, at)[0] + 3) & ~3
        return bytes(data)

    def wait(self, timeout):
        return bool(self.received)

    def join(self, group):
        pass

    def close(self):
        assert not self.received, "something was not read"


def replay(name, act):
    with Client(lambda: Replay(name)) as client:
        return act(client)


def test_fabric():
    fabric = replay("fabric", lambda c: c.fabric())
    assert fabric.host and fabric.nr_nodes == 16 and fabric.size == 32 << 20
    assert (fabric.nr_queues, fabric.ring_slots) == (4, 64) and fabric.area_bytes % 4096 == 0
    assert not fabric.loopback
    assert fabric.phys % 4096 == 0 and fabric.tsc_khz > 100_000


def test_no_kernels():
    assert replay("no kernels", lambda c: c.kernels()) == ()


def test_kernels():
    (kernel,) = replay("kernels", lambda c: c.kernels())
    assert (kernel.id, kernel.name, kernel.state) == (1, "web", KernelState.RUNNING)
    assert (kernel.cpus, kernel.apic_ids) == ((2, 3), (2, 3))
    assert kernel.memory_size == 256 << 20
    assert kernel.entry == kernel.memory_start + (16 << 20) + 0x200
    assert kernel.boot_params == kernel.memory_start
    assert kernel.page_table_root == kernel.slice_start + 4096
    assert kernel.image.endswith(", profile light")
    assert kernel.join_us > 0


def test_nodes():
    primary, web = replay("nodes", lambda c: c.nodes())
    assert primary.is_self and not web.is_self
    assert (web.name, web.state, web.nr_cpus) == ("web", NodeState.UP, 2)
    assert web.release == "6.1.0-56-amd64" and web.machine == "x86_64"
    assert replay("node by name", lambda c: c.node("web")).id == 1


def test_ping():
    result = replay("ping", lambda c: list(c.ping(1, 5))[-1])
    assert (result.sent, result.n, result.lost) == (5, 5, 0)
    assert 0 < result.min <= result.median <= result.max
    assert result.elapsed >= sum(result.cycles)


def test_the_events_of_a_start():
    """They were read from a subscription, whose socket sends nothing."""
    events = []
    client = Client(lambda: Replay("fabric"))
    stream = Replay("events")
    from popcorn.netlink import Subscription

    while stream.received:
        events += client.read_events(Subscription(stream), timeout=0)
    assert [(e.kind, e.state) for e in events] == [
        ("node", "expected"),
        ("kernel", "leased"),
        ("kernel", "starting"),
        ("service", "up"),
        ("service", "up"),
        ("node", "up"),
        ("kernel", "running"),
    ]
    names = {e.name for e in events if e.kind != "service"}
    assert names == {"web"}
    assert {e.name for e in events if e.kind == "service"} == {"popcorn.control", "popcorn.echo"}


def request(cmd, *attributes):
    return lambda client: client._family.request(cmd, attributes)


SIZE = 256 << 20


@pytest.mark.parametrize(
    ("name", "act", "kind", "blamed"),
    [
        (
            "ping too many",
            request(Cmd.PING, ("node-id", 1), ("count", 4097)),
            KernelRefusedError,
            "count",
        ),
        ("ping without node", request(Cmd.PING, ("count", 1)), KernelRefusedError, "node-id"),
        ("kernel nobody", lambda c: c.kernel("nobody"), NotFoundError, "nobody"),
        (
            "kernel id out of range",
            request(Cmd.KERNEL_KILL, ("id", 16)),
            KernelRefusedError,
            "id",
        ),
        ("kernel without id", request(Cmd.KERNEL_KILL), KernelRefusedError, "id"),
        ("name taken", lambda c: c.kernel_new("web", (1,), SIZE), ExistsError, "web"),
        ("name too long", lambda c: c.kernel_new("w" * 32, (1,), SIZE), KernelRefusedError, "name"),
        ("cpu leased", lambda c: c.kernel_new("db", (2,), SIZE), BusyError, "CPU 2"),
        ("cpu unknown", lambda c: c.kernel_new("db", (99,), SIZE), NotFoundError, "CPU 99"),
        ("no cpu", lambda c: c.kernel_new("db", (), SIZE), KernelRefusedError, "cpu"),
        ("memory zero", lambda c: c.kernel_new("db", (1,), 0), KernelRefusedError, "memory-size"),
        (
            "memory too large",
            lambda c: c.kernel_new("db", (1,), 1 << 40),
            KernelRefusedError,
            "MiB",
        ),
        ("del running", lambda c: c.kernel_del(1), BusyError, "running"),
    ],
)
def test_refusals(name, act, kind, blamed):
    with pytest.raises(kind, match=rf"\b{blamed}\b"):
        replay(name, act)
