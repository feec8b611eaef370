# SPDX-License-Identifier: GPL-2.0
"""The metrics of real modules: a known number of messages is in either text, exactly."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from guest import Starter, ctl, ctl_json, wait_for
from popcorn import Client, KernelState, LatencyStage, NodeState
from popcorn.models import Kernel

PINGS = 9973
SIZE = 24
LATENCY = "popcorn_message_latency_seconds"


class Values:
    """What was exported, by name and labels."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, metric: str, **labels: str) -> float:
        """The sum over all that have these labels; 0 if none has."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == metric and labels.items() <= sample.labels.items()
        )


def printed(_: Path) -> Values:
    """Of the OpenMetrics text."""
    done = ctl("metrics")
    assert (done.returncode, done.stderr) == (0, "")
    return Values(parse_openmetrics(done.stdout))


def written(directory: Path) -> Values:
    """Of the file for node_exporter."""
    path = directory / "popcorn.prom"
    done = ctl("metrics", "--textfile", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(directory.iterdir()) == [path]
    return Values(parse_prometheus(path.read_text()))


@pytest.mark.parametrize("look", [printed, written])
def test_every_message_is_counted_once(
    shared: Callable[..., Kernel], tmp_path: Path, look: Callable[[Path], Values]
) -> None:
    shared("web")
    before = look(tmp_path)
    result = ctl_json("ping", "web", "-c", str(PINGS), "-s", str(SIZE))
    assert (result["n"], result["lost"]) == (PINGS, 0)
    after = look(tmp_path)

    def grown(metric: str, **labels: str) -> float:
        return after(metric, **labels) - before(metric, **labels)

    here = {"node": "primary", "node_id": "0", "peer": "web", "peer_id": "1"}
    there = {"node": "web", "node_id": "1", "peer": "primary", "peer_id": "0"}
    for way in ("sent", "received"):
        assert grown(f"popcorn_channel_{way}_messages_total", **here) == PINGS
        assert grown(f"popcorn_channel_{way}_bytes_total", **here) == PINGS * (8 + SIZE)
    assert grown("popcorn_queue_messages_total", node="primary") == PINGS
    for ends in (here, there):
        delivered = {**ends, "stage": "deliver"}
        assert grown(f"{LATENCY}_bucket", **delivered, le="+Inf") == PINGS
        if look is written:
            assert grown(f"{LATENCY}_count", **delivered) == PINGS
        for stage in ("doorbell", "poll"):
            assert 0 <= grown(f"{LATENCY}_bucket", **ends, stage=stage, le="+Inf") <= PINGS
    rung = grown("popcorn_channel_doorbells_total", **here)
    assert grown(f"{LATENCY}_bucket", **there, stage="doorbell", le="+Inf") <= rung
    assert after("popcorn_channel_rejected_messages_total", **here) == 0


def test_metrics_are_what_the_other_commands_show(
    client: Client, shared: Callable[..., Kernel], tmp_path: Path
) -> None:
    shared("web")
    *_, result = client.ping(1, 100)
    assert result.n == 100
    # Counters only grow, and a doorbell may come at any time: one look before and one after.
    channels, queues, latencies = client.channels(), client.queues(), client.latencies()
    values = printed(tmp_path)
    assert channels and queues and latencies
    for old, new in zip(channels, client.channels(), strict=True):
        labels = {"peer_id": str(old.node_id), "queue": str(old.queue)}
        assert values("popcorn_channel_sent_messages_total", **labels) == old.sent
        rung = values("popcorn_channel_doorbells_total", **labels)
        assert old.doorbells_sent <= rung <= new.doorbells_sent
    for was, now in zip(queues, client.queues(), strict=True):
        polls = values("popcorn_queue_polls_total", queue=str(was.queue))
        assert was.polls <= polls <= now.polls
    for item in latencies:
        if item.stage == LatencyStage.DELIVER:
            labels = {"node_id": str(item.dst), "peer_id": str(item.src), "queue": str(item.queue)}
            labels |= {"stage": "deliver", "le": "+Inf"}
            assert values(f"{LATENCY}_bucket", **labels) == item.n
    assert values("popcorn_fabric_tsc_hertz") == client.fabric().tsc_khz * 1000
    assert values("popcorn_node_epoch", node="web") == client.node(1).epoch


def test_states(client: Client, start: Starter, tmp_path: Path) -> None:
    assert printed(tmp_path)("popcorn_kernel_state") == 0, "there is no kernel"
    start("web")
    values = printed(tmp_path)
    assert values("popcorn_kernel_state", kernel="web", popcorn_kernel_state="running") == 1
    assert values("popcorn_node_state", node="web", popcorn_node_state="up") == 1
    assert values("popcorn_kernel_cpus", kernel="web") == 1
    assert values("popcorn_kernel_join_seconds", kernel="web") > 0
    client.kernel_kill(1)
    wait_for(client, "web", KernelState.KILLED)
    deadline = time.monotonic() + 30
    while any(node.id == 1 and node.state == NodeState.UP for node in client.nodes()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    values = written(tmp_path)
    assert values("popcorn_kernel_state", kernel="web", popcorn_kernel_state="killed") == 1
    assert values("popcorn_kernel_state", kernel="web") == 1, "in one state at a time"
    assert values("popcorn_node_state", node="web", popcorn_node_state="up") == 0


def test_without_the_module_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "popcorn.prom"
    path.write_text("old\n")
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    try:
        done = ctl("metrics", "--textfile", str(path))
    finally:
        subprocess.run(["modprobe", "popcorn_host"], check=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hint: load it: modprobe popcorn_host" in done.stderr
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]
