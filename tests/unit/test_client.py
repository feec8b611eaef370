# SPDX-License-Identifier: GPL-2.0
"""The client's methods against the fake module."""

from __future__ import annotations

import pytest

from popcorn.errors import NotFoundError, PopcornError, TimeoutExpiredError
from popcorn.models import Fabric, KernelState, MemoryBackend, NodeState, PingResult, label
from popcorn.models import log2_histogram as histogram
from popcorn.uapi.netlink_gen import Cmd


def test_fabric(module):
    fabric = module.client().fabric()
    assert fabric == Fabric(0x3000_0000, 16 << 20, (1, 2), 0, 16, 1_000_000, True)
    assert fabric.to_json()["version"] == "1.2"


def test_nodes_by_id_and_name(module):
    module.nodes[3] = {"id": 3, "name": "db", "state": 2, "heartbeat-age": 12, "rejected": 4}
    client = module.client()
    assert [node.id for node in client.nodes()] == [0, 3]
    node = client.node("db")
    assert node == client.node(3) == client.node("3")
    assert (node.state, node.heartbeat_age_ms, node.rejected) == (NodeState.UP, 12, 4)
    assert client.node(0).is_self and not node.is_self
    for nobody in ("nobody", 9, "9"):
        with pytest.raises(NotFoundError, match=f"there is no node .*{nobody}"):
            client.node(nobody)


def test_kernels_by_id_and_name(module):
    module.add_kernel("web", KernelState.RUNNING, x2apic=True, image="6.1, light")
    module.add_kernel("db", KernelState.STOPPED, reason="poweroff")
    client = module.client()
    web, db = client.kernels()
    assert client.kernel("web") == client.kernel(1) == client.kernel("1") == web
    assert (web.cpus, web.apic_ids, web.memory_size) == ((2, 3), (2, 3), 512 << 20)
    assert web.memory_backend is MemoryBackend.CONTIG
    assert web.x2apic and not db.x2apic
    assert db.reason == "poweroff"
    with pytest.raises(NotFoundError, match="there is no kernel 'mail'"):
        client.kernel("mail")


def test_kernel_json_is_plain_and_complete(module):
    module.add_kernel("web", KernelState.RUNNING)
    shown = module.client().kernel("web").to_json()
    assert shown["state"] == "running"
    assert shown["cpus"] == [2, 3]
    assert shown["memory_bytes"] == 512 << 20
    assert shown["memory_backend"] == "contig"
    assert set(map(type, shown.values())) <= {int, str, bool, list}
    assert len(shown) == 23, "every attribute of the protocol is shown"


def test_states_of_a_newer_kernel_are_numbers(module):
    module.add_kernel("web", KernelState.RUNNING)["state"] = 42
    kernel = module.client().kernel("web")
    assert kernel.state == 42
    assert label(kernel.state) == "unknown-42"
    assert kernel.to_json()["state"] == "unknown-42"


def test_kernel_new_contig(module):
    kernel = module.client().kernel_new("web", (3, 2), 1 << 30)
    assert module.requests[-1] == (
        Cmd.KERNEL_NEW,
        [("name", "web"), ("cpu", 3), ("cpu", 2), ("memory-size", 1 << 30)],
    )
    assert kernel.cpus == (3, 2), "the first CPU boots: the order is kept"
    assert kernel.state is KernelState.LEASED


def test_kernel_new_reserved(module):
    kernel = module.client().kernel_new("web", (2,), 1 << 30, memory_start=5 << 30)
    assert ("memory-start", 5 << 30) in module.requests[-1][1]
    assert kernel.memory_backend is MemoryBackend.RESERVED


def test_boot_stop_kill_del(module):
    client = module.client()
    kernel = client.kernel_new("web", (2,), 1 << 30)
    client.kernel_boot(kernel.id, entry=1, boot_params=2, page_table_root=3, image="test")
    assert module.requests[-1][1] == [
        ("id", 1),
        ("entry", 1),
        ("boot-params", 2),
        ("page-table-root", 3),
        ("image", "test"),
    ]
    client.kernel_stop(kernel.id)
    client.kernel_kill(kernel.id)
    client.kernel_prepare(kernel.id)
    client.kernel_del(kernel.id)
    assert module.kernels == {}


def test_no_answer_is_an_error(module):
    client = module.client()
    module._do = lambda *_: []
    with pytest.raises(PopcornError, match="no answer to fabric-get"):
        client.fabric()


# ping


def counts(module):
    return [dict(given)["count"] for cmd, given in module.requests if cmd == Cmd.PING]


def test_ping_counts_exactly_and_in_batches(module):
    results = list(module.client().ping(1, 1000, size=8, timeout_ms=250))
    assert sum(counts(module)) == 1000
    assert max(counts(module)) == 256
    assert counts(module)[0] == 1, "one to see that somebody is there"
    last = results[-1]
    assert (last.sent, last.n, last.lost) == (1000, 1000, 0)
    assert last.cycles == tuple(range(1000, 2000))
    given = dict(module.requests[-1][1])
    assert (given["size"], given["timeout"]) == (8, 250)


def test_ping_to_nobody_waits_one_timeout_at_a_time(module):
    module.rtt = lambda number: None
    *_, last = module.client().ping(1, 5)
    assert counts(module) == [1] * 5
    assert (last.sent, last.lost, last.n) == (5, 5, 0)
    assert (last.min, last.median, last.p99, last.max) == (None,) * 4
    assert last.histogram() == ()


def test_ping_with_an_interval_stays_short(module, monkeypatch):
    slept = []
    monkeypatch.setattr("popcorn.client.time.sleep", slept.append)
    list(module.client().ping(1, 20, interval_us=100_000))
    assert max(counts(module)) == 5, "half a second in the kernel at most"
    assert slept == []
    module.requests.clear()
    list(module.client().ping(1, 3, interval_us=2_000_000))
    assert counts(module) == [1, 1, 1]
    assert slept == [2.0, 2.0], "long pauses are made where Ctrl-C works"
    assert all("interval" not in dict(given) for _, given in module.requests)


def test_ping_statistics():
    result = PingResult(1, 101, 1, 2_000_000, tuple(range(2000, 2000 + 100 * 20, 20)))
    assert result.n == 100
    assert result.min == 1.0
    assert result.max == 1.99
    assert result.median == 1.495
    assert result.p99 == 1.98, "nearest rank: the 99th of 100"
    assert PingResult(1, 1, 0, 1_000_000, (5000,)).p99 == 5.0
    with pytest.raises(ValueError, match="time stamp counter"):
        PingResult(1, 1, 0, 0, (5000,))


def test_histogram():
    rows = [(b.low, b.high, b.count) for b in histogram([0, 1, 2, 3, 16, 31])]
    assert rows == [(0, 1, 2), (2, 3, 2), (4, 7, 0), (8, 15, 0), (16, 31, 2)]
    assert histogram([]) == ()
    result = PingResult(1, 3, 0, 1_000_000, (1000, 1023, 1024))
    assert [(b.low, b.count) for b in result.histogram()] == [(512, 2), (1024, 1)]
    assert result.to_json()["histogram"][0] == {"low_ns": 512, "high_ns": 1023, "count": 2}


# waiting and events


def test_wait_returns_at_once(module):
    module.add_kernel("web", KernelState.RUNNING)
    assert module.client().wait_kernel("web", (KernelState.RUNNING,), 5).name == "web"
    assert module.idled == []


def test_wait_sees_the_change(module):
    module.add_kernel("web", KernelState.STARTING)
    module.on_idle = [lambda: None, lambda: module.set_state(1, KernelState.RUNNING)]
    kernel = module.client().wait_kernel("web", (KernelState.RUNNING,), 60)
    assert kernel.state is KernelState.RUNNING
    assert max(module.idled) <= 1.0, "looks by itself too"


def test_wait_gives_up(module):
    module.add_kernel("web", KernelState.STARTING)
    module.on_idle = [lambda: module.set_state(1, KernelState.CRASHED, "Oops")]
    kernel = module.client().wait_kernel(
        "web", (KernelState.RUNNING,), 60, give_up=(KernelState.CRASHED,)
    )
    assert (kernel.state, kernel.reason) == (KernelState.CRASHED, "Oops")


def test_wait_times_out_and_names_the_state(module):
    module.add_kernel("web", KernelState.STARTING)
    with pytest.raises(TimeoutExpiredError, match="'web' is starting and not running after 0 s"):
        module.client().wait_kernel("web", (KernelState.RUNNING,), 0)
    assert all(t.closed for t in module.transports[1:]), "the subscription is given back"


def test_wait_for_a_kernel_that_goes(module):
    module.add_kernel("web", KernelState.STARTING)
    module.on_idle = [module.kernels.clear]
    with pytest.raises(NotFoundError):
        module.client().wait_kernel("web", (KernelState.RUNNING,), 60)


def test_events(module):
    client = module.client()
    stream = client.subscribe()
    events = client.events(subscription=stream)
    module.add_kernel("web", KernelState.STARTING)
    module.set_state(1, KernelState.CRASHED, "Oops")
    event = next(events)
    assert (event.kind, event.action, event.name, event.state) == (
        "kernel",
        "change",
        "web",
        "crashed",
    )
    assert event.value.reason == "Oops"
    assert event.to_json()["value"]["state"] == "crashed"
    module.notify("node", Cmd.NODE_NTF, {"id": 1, "name": "web", "state": 5})
    event = next(events)
    assert (event.kind, event.name, event.state) == ("node", "web", "crashed")
    client.kernel_del(1)
    event = next(events)
    assert (event.kind, event.action, event.name) == ("kernel", "released", "web")


def test_lost_events_are_followed_by_the_present_state(module):
    client = module.client()
    module.add_kernel("web", KernelState.RUNNING)
    stream = client.subscribe()
    module.transports[-1].lose()
    events = client.events(subscription=stream)
    found = [next(events) for _ in range(3)]
    assert [(e.kind, e.action, e.name) for e in found] == [
        ("resync", "lost", ""),
        ("kernel", "state", "web"),
        ("node", "state", "primary"),
    ]


def test_a_closed_client_opens_again(module):
    client = module.client()
    with client:
        client.fabric()
    assert module.transports[0].closed
    assert client.fabric().host
