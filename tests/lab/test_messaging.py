# SPDX-License-Identifier: GPL-2.0
"""What can be seen of the message layer and set, and the ways to ping, beside a second kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from guest import Starter, ctl, ctl_json
from popcorn import Client, KernelRefusedError, LatencyStage
from popcorn.models import Event, Kernel
from popcorn.uapi.netlink_gen import PING_SIZE_MAX, Cmd

WEB = 1


@pytest.fixture
def web(shared: Callable[..., Kernel]) -> None:
    """A second kernel, node 1."""
    shared("web")


def channel_sums(client: Client) -> dict[str, int]:
    """Counters of all channels to and from node 1 together."""
    found = [c.to_json() for c in client.channels() if c.node_id == WEB]
    assert found
    names = ("sent", "sent_bytes", "received", "received_bytes", "rejected", "area_bytes")
    return {name: sum(channel[name] for channel in found) for name in names}


def delivered(client: Client, src: int, dst: int) -> int:
    """Messages that the receiver has in its histograms, whoever it is."""
    return sum(
        item.n
        for item in client.latencies()
        if (item.src, item.dst, item.stage) == (src, dst, LatencyStage.DELIVER)
    )


@pytest.mark.parametrize(
    "options",
    [
        ["-s", "0"],
        ["-s", "40"],
        ["-s", "41"],
        ["-s", str(PING_SIZE_MAX)],
        ["--in-place"],
        ["--in-place", "-s", "40"],
        ["--busy"],
        ["--rate", "200/s"],
        ["--flood"],
        ["--flood", "--window", "256"],
        ["--flood", "--busy", "-s", "4K", "--window", "16"],
    ],
    ids=" ".join,
)
def test_every_way_to_ping(client: Client, web: None, options: list[str]) -> None:
    count = 2000 if "--flood" in options else 100
    before = channel_sums(client)
    result = ctl_json("ping", "web", "-c", str(count), *options)
    after = channel_sums(client)
    assert (result["sent"], result["n"], result["lost"]) == (count, count, 0)
    assert result["elapsed"] > 0
    assert after["sent"] - before["sent"] == count
    assert after["rejected"] == 0
    if "--in-place" not in options:
        assert after["received"] - before["received"] == count
        bytes_each = 8 + result["size_bytes"]
        assert after["sent_bytes"] - before["sent_bytes"] == count * bytes_each
        assert after["received_bytes"] - before["received_bytes"] == count * bytes_each


def test_every_message_is_in_the_histograms(client: Client, web: None) -> None:
    before = delivered(client, 0, WEB), delivered(client, WEB, 0)
    *_, result = client.ping(WEB, 500)
    assert result.n == 500
    after = delivered(client, 0, WEB), delivered(client, WEB, 0)
    assert (after[0] - before[0], after[1] - before[1]) == (500, 500)
    shown = ctl("node", "latency", "web", "--stage", "deliver")
    assert shown.returncode == 0 and "web to primary" in shown.stdout.replace("\n", " ")


def test_queues_count(client: Client, web: None) -> None:
    before = sum(queue.poll_messages for queue in client.queues())
    list(client.ping(WEB, 200))
    queues = client.queues()
    assert sum(queue.poll_messages for queue in queues) - before == 200
    assert all(queue.irq > 0 for queue in queues)


@pytest.fixture
def as_before(client: Client) -> Iterator[None]:
    """Settings are put back."""
    here = client.node(0)
    yield
    client.node_set(window_max_us=here.window_max_us, threaded=here.threaded)


def test_settings(client: Client, web: None, as_before: None) -> None:
    assert client.node(WEB).window_max_us is None, "of this kernel's node only"
    for window, threaded in ((0, True), (500, True), (500, False), (0, False)):
        client.node_set(window_max_us=window, threaded=threaded)
        here = client.node(0)
        assert (here.window_max_us, here.threaded) == (window, threaded)
        *_, result = client.ping(WEB, 100)
        assert (result.n, result.lost) == (100, 0)
    hits = sum(queue.window_hits for queue in client.queues())
    list(client.ping(WEB, 100))
    assert sum(queue.window_hits for queue in client.queues()) == hits, "there is no window"


@pytest.mark.parametrize(
    ("cmd", "attributes", "blamed"),
    [
        (Cmd.PING, [("node-id", WEB), ("call", True), ("window", 2)], "window"),
        (Cmd.PING, [("node-id", WEB), ("call", True), ("size", 41)], "size"),
        (Cmd.PING, [("node-id", WEB), ("call", True), ("busy", True)], "busy"),
        (Cmd.NODE_SET, [], "window-max"),
    ],
)
def test_refusals(
    client: Client, cmd: Cmd, attributes: list[tuple[str, int | bool]], blamed: str
) -> None:
    with pytest.raises(KernelRefusedError, match=rf"\b{blamed}\b"):
        client._family.request(cmd, attributes)


def services(events: list[Event]) -> set[tuple[str, str]]:
    return {(event.name, event.state) for event in events if event.kind == "service"}


def test_services_come_and_go(client: Client, start: Starter) -> None:
    def wait(state: str) -> None:
        wanted = {("popcorn.echo", state), ("popcorn.control", state)}
        found: set[tuple[str, str]] = set()
        deadline = time.monotonic() + 20
        while not wanted <= found and time.monotonic() < deadline:
            found |= services(client.read_events(stream, ("service",), timeout=1))
        assert found == wanted

    with client.subscribe(("service",)) as stream:
        start("web")
        wait("up")
        client.kernel_kill(WEB)
        wait("down")


def test_plan_knows_the_fabric(client: Client) -> None:
    fabric = client.fabric()
    assert fabric.nr_queues >= 1 and fabric.ring_slots >= 2 and fabric.area_bytes > 0
    assert not fabric.loopback
    done = ctl("kernel", "plan", "x", "--cpus", "2", "--memory", "256M")
    assert f"{fabric.nr_queues} queues of {fabric.ring_slots} messages" in done.stdout
