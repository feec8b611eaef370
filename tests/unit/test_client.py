# SPDX-License-Identifier: GPL-2.0
"""The client's methods against the fake module."""

from __future__ import annotations

import errno
import time
from types import SimpleNamespace

import pytest

from popcorn.errors import KernelRefusedError, NotFoundError, PopcornError, TimeoutExpiredError
from popcorn.models import (
    Fabric,
    KernelState,
    Latency,
    LatencyStage,
    MemoryBackend,
    NodeState,
    PingResult,
    Queue,
    label,
)
from popcorn.models import log2_histogram as histogram
from popcorn.uapi.netlink_gen import PING_BATCH_MAX, ChannelAttr, Cmd, QueueAttr


def test_fabric(module):
    fabric = module.client().fabric()
    assert fabric == Fabric(
        0x3000_0000, 16 << 20, (1, 2), 0, 16, 1_000_000, True, 2, 64, 1 << 20, False
    )
    assert fabric.to_json()["version"] == "1.2"
    module.shape = {"loopback": True}
    fabric = module.client().fabric()
    assert (fabric.nr_queues, fabric.ring_slots, fabric.area_bytes) == (0, 0, 0), "an older module"
    assert fabric.to_json()["loopback"] is True


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


def test_nodes_tell_how_they_are(module):
    module.nodes[0] |= {"window-max": 0, "threaded": 1, "doorbell-cost": 1200}
    module.nodes[3] = {"id": 3, "name": "db", "state": 7, "shut": True, "unanswered": 2}
    module.nodes[4] = {"id": 4, "name": "web", "state": 6}
    here, db, web = module.client().nodes()
    assert (here.window_max_us, here.threaded, here.doorbell_cost_ns) == (0, True, 1200)
    assert (db.window_max_us, db.threaded, db.doorbell_cost_ns) == (None, None, None)
    assert (db.state, db.shut, db.unanswered) == (NodeState.HUNG, True, 2)
    assert (web.state, web.shut) == (NodeState.JOINING, False)
    assert here.to_json()["threaded"] is True
    assert db.to_json().items() >= {"state": "hung", "shut": True, "threaded": None}.items()


def test_channels(module):
    module.channels = [
        {"node-id": 3, "queue": 0, "sent": 5, "armed": True},
        {"node-id": 1, "queue": 1},
        {"node-id": 1, "queue": 0, **{name: n for n, name in enumerate(CHANNEL, start=10)}},
    ]
    first, second, third = module.client().channels()
    assert [(c.node_id, c.queue) for c in (first, second, third)] == [(1, 0), (1, 1), (3, 0)]
    assert module.requests[-1] == (Cmd.CHANNEL_GET, [])
    shown = first.to_json()
    assert [shown[name.replace("-", "_")] for name in CHANNEL] == list(range(10, 23))
    assert third.armed and not first.armed
    assert set(shown) == {a.name.lower() for a in ChannelAttr}, "every attribute is shown"


CHANNEL = (
    "sent",
    "sent-bytes",
    "received",
    "received-bytes",
    "doorbells-sent",
    "room-doorbells",
    "full",
    "waits",
    "rejected",
    "answered",
    "ring-slots",
    "ring-slots-from",
    "area-bytes",
)


def test_queues(module):
    values = {"polls": 1, "poll-messages": 2, "doorbell-irqs": 3, "spurious": 4, "sleeps": 5}
    values |= {"window": 6000, "window-hits": 7, "cpu": 8, "irq": 9}
    module.queues = [{"queue": 1}, {"queue": 0, **values}]
    first, second = module.client().queues()
    assert (first.queue, second) == (0, Queue(1))
    assert list(first.to_json().values()) == [0, 1, 2, 3, 4, 5, 6000, 7, 8, 9]
    assert len(first.to_json()) == len(QueueAttr)


def buckets(**counts):
    """32 counts; `b10=3` are three in bucket 10."""
    return [counts.get(f"b{number}", 0) for number in range(32)]


def test_latencies(module):
    one = {"queue": 0, "count": buckets(b10=90, b12=10)}
    module.latencies = [
        {"src": 1, "dst": 0, "stage": 2, **one},
        {"src": 0, "dst": 1, "stage": 9, **one},
        {"src": 1, "dst": 0, "stage": 0, **one},
    ]
    newer, deliver, poll = module.client().latencies()
    assert (newer.stage, label(newer.stage)) == (9, "unknown-9"), "of a newer module"
    assert (deliver.stage, poll.stage) == (LatencyStage.DELIVER, LatencyStage.POLL)
    assert (deliver.n, deliver.min, deliver.max) == (100, 1024, 8192)
    # As if a bucket were filled evenly: 50 of the 90 in 1024-2047, 9 of the 10 in 4096-8191.
    assert (deliver.median, deliver.p99) == (1024 + 1024 * 50 // 90, 4096 + 4096 * 9 // 10)
    rows = [(b.low, b.high, b.count) for b in deliver.histogram()]
    assert rows == [(1024, 2047, 90), (2048, 4095, 0), (4096, 8191, 10)]
    shown = deliver.to_json()
    assert (shown["stage"], shown["p99_ns"]) == ("deliver", 7782)
    assert shown["histogram"][0] == {"low_ns": 1024, "high_ns": 2047, "count": 90}


def test_latencies_are_nanoseconds():
    latency = Latency(0, 1, 0, LatencyStage.DELIVER, 4_000_000, tuple(buckets(b0=1, b2=1)))
    assert (latency.min, latency.max) == (0, 2)
    rows = [(b.low, b.high) for b in latency.histogram()]
    assert rows == [(0, 0), (0, 0), (1, 1)], "less than a nanosecond is no row that runs backwards"
    empty = Latency(0, 1, 0, LatencyStage.DELIVER, 1_000_000, tuple(buckets()))
    assert (empty.n, empty.min, empty.median, empty.p99, empty.max) == (0, None, None, None, None)
    assert empty.histogram() == ()
    with pytest.raises(ValueError, match="time stamp counter"):
        Latency(0, 1, 0, LatencyStage.DELIVER, 0)


def test_node_set(module):
    client = module.client()
    client.node_set(window_max_us=0)
    client.node_set(threaded=True)
    client.node_set(window_max_us=50, threaded=False)
    assert [given for _, given in module.requests] == [
        [("window-max", 0)],
        [("threaded", 1)],
        [("window-max", 50), ("threaded", 0)],
    ]
    assert (client.node(0).window_max_us, client.node(0).threaded) == (50, False)


def test_node_set_that_is_refused(module, refusal):
    module.refusals[Cmd.NODE_SET] = refusal(errno.ERANGE, "integer out of range", "window-max")
    with pytest.raises(KernelRefusedError, match="attribute 'window-max'"):
        module.client().node_set(window_max_us=1 << 31)


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
    assert set(map(type, shown.values())) <= {int, float, str, bool, list}
    assert len(shown) == 24, "every attribute of the protocol is shown"


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
    assert max(counts(module)) == 489 and len(counts(module)) == 10
    assert counts(module)[0] == 1, "one to see that somebody is there"
    last = results[-1]
    assert (last.sent, last.n, last.lost) == (1000, 1000, 0)
    assert last.cycles == tuple(range(1000, 2000))
    given = dict(module.requests[-1][1])
    assert (given["size"], given["timeout"]) == (8, 250)
    assert not {"window", "call", "busy", "interval"} & set(given)
    assert (last.elapsed, last.full) == (sum(range(1000, 2000)), 10)
    assert last.per_second == pytest.approx(1000 * 1e9 / last.elapsed)


def test_ping_batches_have_a_limit(module):
    list(module.client().ping(1, 20_000))
    assert max(counts(module)) == PING_BATCH_MAX


def test_ping_with_a_window_begins_and_begins_again_with_one(module):
    module.rtt = lambda number: None if number == 200 else 1000
    *_, last = module.client().ping(1, 1000, window=64, busy=True)
    assert counts(module) == [64, 128, 256, 64, 128, 256, 104]
    given = dict(module.requests[-1][1])
    assert given["window"] == 64 and "busy" in given and "call" not in given
    assert (last.n, last.lost) == (999, 1)
    assert last.per_second == pytest.approx(64e6, rel=0.01)


def test_ping_calls(module):
    list(module.client().ping(1, 3, call=True))
    given = dict(module.requests[-1][1])
    assert "call" in given and "window" not in given


def test_ping_of_a_module_that_tells_no_time(module):
    assert PingResult(1, 1, 0, 1_000_000, (5,)).per_second is None
    assert PingResult(1, 1, 0, 1_000_000, (5,)).to_json()["per_second"] is None


def test_ping_to_nobody_waits_one_timeout_at_a_time(module):
    module.rtt = lambda number: None
    *_, last = module.client().ping(1, 5)
    assert counts(module) == [1] * 5
    assert (last.sent, last.lost, last.n) == (5, 5, 0)
    assert (last.min, last.median, last.p99, last.max) == (None,) * 4
    assert last.histogram() == ()


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by sleeping alone: what was slept."""

    class Clock:
        now, slept = 100.0, []

        def sleep(self, seconds):
            self.slept.append(round(seconds, 6))
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(
        "popcorn.client.time",
        SimpleNamespace(sleep=clock.sleep, monotonic=lambda: clock.now, time=time.time),
    )
    return clock


def test_ping_with_an_interval_stays_short(module, clock):
    list(module.client().ping(1, 20, interval_us=100_000))
    assert counts(module) == [1, 2, 4, 5, 5, 3], "half a second in the kernel at most"
    # The kernel keeps the time within a request, and here it takes none.
    assert clock.slept == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert [dict(given).get("interval") for _, given in module.requests[1:3]] == [None, 100_000]


def test_ping_with_a_long_interval_can_be_interrupted(module, clock):
    list(module.client().ping(1, 3, interval_us=2_000_000))
    assert counts(module) == [1, 1, 1]
    assert clock.slept == [2.0, 2.0], "long pauses are made where Ctrl-C works"
    assert all("interval" not in dict(given) for _, given in module.requests)


def test_ping_that_is_late_makes_up_for_one_interval(module, clock):
    def answer(number):
        clock.now += 7.5 if number == 1 else 0
        return 1000

    module.rtt = answer
    list(module.client().ping(1, 5, interval_us=1_000_000))
    assert clock.slept == [1.0, 0.0, 0.0, 1.0]


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
    shown = {"node-id": 1, "name": "popcorn.echo", "version": 1, "id": 1}
    for peer, state in ((True, "up"), (False, "down")):
        module.notify("service", Cmd.SERVICE_NTF, {**shown, "peer": peer})
        event = next(events)
        assert (event.kind, event.action, event.name, event.state) == (
            "service",
            "change",
            "popcorn.echo",
            state,
        )
        assert event.to_json()["value"]["node_id"] == 1


def test_lost_events_are_followed_by_the_present_state(module):
    client = module.client()
    module.add_kernel("web", KernelState.RUNNING)
    module.services = [
        {"node-id": 1, "name": "popcorn.echo", "version": 1, "id": 1, "peer": True},
        {"node-id": 1, "name": "strange", "version": 1, "id": 9},
    ]
    stream = client.subscribe()
    module.transports[-1].lose()
    found = client.read_events(stream)
    assert [(e.kind, e.action, e.name) for e in found] == [
        ("resync", "lost", ""),
        ("kernel", "state", "web"),
        ("node", "state", "primary"),
        ("service", "state", "popcorn.echo"),
    ]


def test_a_closed_client_opens_again(module):
    client = module.client()
    with client:
        client.fabric()
    assert module.transports[0].closed
    assert client.fabric().host
