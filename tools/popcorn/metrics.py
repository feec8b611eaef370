# SPDX-License-Identifier: GPL-2.0
"""What the kernels count, for Prometheus: OpenMetrics text, and a file for node_exporter.

In every metric `node` is who counted and `peer` the other end. Names are as OpenMetrics 1.0 wants
them: base units, and `_total` behind counters. Needs the Python package prometheus_client, which
knows how the texts are written.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from popcorn.client import Client
from popcorn.errors import PopcornError
from popcorn.models import (
    Channel,
    Fabric,
    Kernel,
    KernelState,
    Latency,
    Node,
    NodeState,
    Queue,
    Service,
    label,
)

try:
    from prometheus_client import exposition
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
        StateSetMetricFamily,
    )
    from prometheus_client.openmetrics import exposition as openmetrics_exposition
    from prometheus_client.registry import Collector, CollectorRegistry
except ImportError as missing:
    raise PopcornError(
        f"prometheus_client is not available to this Python ({missing})",
        "apt-get install python3-prometheus-client, and run popcornctl with /usr/bin/python3",
    ) from missing

__all__ = (
    "Snapshot",
    "families",
    "openmetrics_text",
    "prometheus_text",
    "snapshot",
    "to_json",
    "write_textfile",
)

LATENCY = "popcorn_message_latency_seconds"

NODE = ("node", "node_id")
PEER = (*NODE, "peer", "peer_id")
KERNEL = ("kernel", "kernel_id")

#: Field of the value, name of the metric behind that of the thing, unit, and what it is.
Field = tuple[str, str, str, str]

CHANNEL_COUNTERS: Sequence[Field] = (
    ("sent", "sent_messages", "", "Messages to the peer."),
    ("sent_bytes", "sent_bytes", "bytes", "Payload of the messages to the peer."),
    ("received", "received_messages", "", "Messages from the peer."),
    ("received_bytes", "received_bytes", "bytes", "Payload of the messages from the peer."),
    ("doorbells_sent", "doorbells", "", "Doorbells rung at the peer for messages."),
    ("room_doorbells", "room_doorbells", "", "Doorbells rung at the peer as it waited for room."),
    ("full", "full", "", "Sends that found no room."),
    ("waits", "waits", "", "Sends that slept until there was room."),
    ("rejected", "rejected_messages", "", "Messages from the peer that failed a check."),
    ("answered", "answered_calls", "", "Calls from the peer that were answered in place."),
)
CHANNEL_GAUGES: Sequence[Field] = (
    ("ring_slots", "sent_slots", "", "Messages that the ring to the peer holds."),
    ("ring_slots_from", "received_slots", "", "Messages that the ring from the peer holds."),
    ("area_bytes", "area_bytes", "bytes", "What the peer has of this node's area."),
    ("armed", "armed", "", "1 if the node sleeps: the peer's next message rings its doorbell."),
)
QUEUE_COUNTERS: Sequence[Field] = (
    ("polls", "polls", "", "Times that the queue was polled."),
    ("poll_messages", "messages", "", "Messages that the polls found."),
    ("doorbell_irqs", "doorbells", "", "Doorbells that interrupted the queue."),
    ("spurious", "spurious_doorbells", "", "Doorbells that no message came with."),
    ("sleeps", "sleeps", "", "Times that it stopped polling and asked for a doorbell."),
    ("window_hits", "window_hits", "", "Messages that came in the window: doorbells saved."),
)


@dataclass(frozen=True)
class Snapshot:
    """All that the client tells, read one after the other. `kernels` only where there is a host."""

    fabric: Fabric
    nodes: tuple[Node, ...]
    kernels: tuple[Kernel, ...] = ()
    channels: tuple[Channel, ...] = ()
    queues: tuple[Queue, ...] = ()
    latencies: tuple[Latency, ...] = ()
    services: tuple[Service, ...] = ()

    def node(self, number: int) -> tuple[str, str]:
        """Labels of a node: its name, or its number if it has left meanwhile, and its number."""
        names = {node.id: node.name for node in self.nodes}
        return names.get(number) or str(number), str(number)

    @property
    def here(self) -> tuple[str, str]:
        """Labels of the node that answers."""
        return self.node(self.fabric.node_id)


def snapshot(client: Client) -> Snapshot:
    """Ask for everything. Nodes come first: what is named later may be none of them."""
    fabric = client.fabric()
    return Snapshot(
        fabric,
        client.nodes(),
        client.kernels() if fabric.host else (),
        client.channels(),
        client.queues(),
        client.latencies(),
        client.services(),
    )


def _numbers(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    thing: str,
    fields: Sequence[Field],
    labels: Sequence[str],
    rows: Sequence[tuple[Sequence[str], object]],
) -> Iterator[Metric]:
    """A family for each field, with a sample for each value in `rows`; None is left out."""
    for name, metric, unit, text in fields:
        family = kind(f"popcorn_{thing}_{metric}", text, labels=labels, unit=unit)
        for values, item in rows:
            number = getattr(item, name)
            if number is not None:
                family.add_metric(values, number)
        yield family


def _gauge(
    name: str,
    text: str,
    labels: Sequence[str],
    rows: Iterable[tuple[Sequence[str], float | None]],
    unit: str = "",
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels, unit=unit)
    for values, number in rows:
        if number is not None:
            family.add_metric(values, number)
    return family


def _states(
    name: str,
    text: str,
    labels: Sequence[str],
    known: type[IntEnum],
    rows: Iterable[tuple[Sequence[str], KernelState | NodeState | int]],
) -> Metric:
    """1 for the state that each is in, 0 for the others; one that a newer kernel made up, too."""
    family = StateSetMetricFamily(name, text, labels=labels)
    for values, state in rows:
        every = {label(member): False for member in known}
        family.add_metric(values, every | {label(state): True})
    return family


def _scaled(number: int | None, scale: float) -> float | None:
    return None if number is None else number / scale


def _fabric(shot: Snapshot) -> Iterator[Metric]:
    fabric = shot.fabric
    info = InfoMetricFamily("popcorn_fabric", "The fabric that the node is on.", labels=NODE)
    version = ".".join(map(str, fabric.version))
    info.add_metric(shot.here, {"version": version, "loopback": str(fabric.loopback).lower()})
    yield info
    yield _gauge(
        "popcorn_fabric_size_bytes",
        "Size of the fabric.",
        NODE,
        [(shot.here, fabric.size)],
        "bytes",
    )
    yield _gauge(
        "popcorn_fabric_tsc_hertz",
        "Rate of the time stamp counter that all kernels have in common.",
        NODE,
        [(shot.here, fabric.tsc_khz * 1000)],
        "hertz",
    )


def _kernels(shot: Snapshot) -> Iterator[Metric]:
    rows = [((kernel.name, str(kernel.id)), kernel) for kernel in shot.kernels]
    yield _states(
        "popcorn_kernel_state",
        "State of a kernel that has CPUs and memory of this one.",
        KERNEL,
        KernelState,
        ((values, kernel.state) for values, kernel in rows),
    )
    info = InfoMetricFamily("popcorn_kernel", "What was loaded, and why it ended.", labels=KERNEL)
    for values, kernel in rows:
        info.add_metric(values, {"image": kernel.image, "reason": kernel.reason})
    yield info
    yield _gauge(
        "popcorn_kernel_state_age_seconds",
        "Time since the kernel's last change of state.",
        KERNEL,
        ((values, kernel.age_ms / 1e3) for values, kernel in rows),
        "seconds",
    )
    yield _gauge(
        "popcorn_kernel_join_seconds",
        "Time from the first INIT to the registration on the fabric.",
        KERNEL,
        ((values, kernel.join_us / 1e6) for values, kernel in rows if kernel.join_us),
        "seconds",
    )
    yield _gauge(
        "popcorn_kernel_cpus",
        "CPUs that the kernel was lent.",
        KERNEL,
        ((values, len(kernel.cpus)) for values, kernel in rows),
    )
    yield _gauge(
        "popcorn_kernel_memory_bytes",
        "Memory that the kernel was lent.",
        KERNEL,
        ((values, kernel.memory_size) for values, kernel in rows),
        "bytes",
    )


def _nodes(shot: Snapshot) -> Iterator[Metric]:
    rows = [(shot.node(node.id), node) for node in shot.nodes]
    yield _states(
        "popcorn_node_state",
        "State of a node.",
        NODE,
        NodeState,
        ((values, node.state) for values, node in rows),
    )
    info = InfoMetricFamily("popcorn_node", "The kernel that the node is.", labels=NODE)
    for values, node in rows:
        info.add_metric(
            values,
            {
                "release": node.release,
                "machine": node.machine,
                "reason": node.reason,
                "here": str(node.is_self).lower(),
            },
        )
    yield info
    yield _gauge(
        "popcorn_node_epoch",
        "Grows by one each time that a kernel is prepared for the node.",
        NODE,
        ((values, node.epoch) for values, node in rows),
    )
    yield _gauge(
        "popcorn_node_heartbeat_age_seconds",
        "Time since the node's last sign of life.",
        NODE,
        ((values, _scaled(node.heartbeat_age_ms, 1e3)) for values, node in rows),
        "seconds",
    )
    yield _gauge(
        "popcorn_node_cpus",
        "CPUs that the node's kernel had when it registered.",
        NODE,
        ((values, node.nr_cpus) for values, node in rows),
    )
    yield _gauge(
        "popcorn_node_shut",
        "1 if the node sent garbage and nothing is taken from it until it comes back.",
        NODE,
        ((values, node.shut) for values, node in rows),
    )
    yield _gauge(
        "popcorn_node_poll_window_max_seconds",
        "Longest time that the node polls before it sleeps.",
        NODE,
        ((values, _scaled(node.window_max_us, 1e6)) for values, node in rows),
        "seconds",
    )
    yield _gauge(
        "popcorn_node_threaded",
        "1 if the node polls in kernel threads.",
        NODE,
        ((values, node.threaded) for values, node in rows),
    )
    yield _gauge(
        "popcorn_node_doorbell_cost_seconds",
        "What it costs the node to be woken by a doorbell, measured when it joined.",
        NODE,
        ((values, _scaled(node.doorbell_cost_ns, 1e9)) for values, node in rows),
        "seconds",
    )
    yield from _numbers(
        CounterMetricFamily,
        "ping",
        [("unanswered", "unanswered", "", "Pings from the peer whose answers were given up.")],
        PEER,
        [((*shot.here, *values), node) for values, node in rows if not node.is_self],
    )


def _messages(shot: Snapshot) -> Iterator[Metric]:
    labels: tuple[str, ...] = (*PEER, "queue")
    channels = [((*shot.here, *shot.node(c.node_id), str(c.queue)), c) for c in shot.channels]
    yield from _numbers(CounterMetricFamily, "channel", CHANNEL_COUNTERS, labels, channels)
    yield from _numbers(GaugeMetricFamily, "channel", CHANNEL_GAUGES, labels, channels)

    labels = (*NODE, "queue")
    queues = [((*shot.here, str(queue.queue)), queue) for queue in shot.queues]
    yield from _numbers(CounterMetricFamily, "queue", QUEUE_COUNTERS, labels, queues)
    yield _gauge(
        "popcorn_queue_window_seconds",
        "How long the queue polls for more before it sleeps, at present.",
        labels,
        ((values, queue.window_ns / 1e9) for values, queue in queues),
        "seconds",
    )
    info = InfoMetricFamily("popcorn_queue", "Where the queue's doorbell goes to.", labels=labels)
    for values, queue in queues:
        info.add_metric(values, {"cpu": str(queue.cpu), "irq": str(queue.irq)})
    yield info

    yield _gauge(
        "popcorn_service_talks",
        "1 if the node has a service of the peer in the same version, so that they talk.",
        (*PEER, "service", "version"),
        (
            ((*shot.here, *shot.node(s.node_id), s.name, str(s.version)), s.talks)
            for s in shot.services
            if s.node_id != shot.fabric.node_id
        ),
    )


def buckets(latency: Latency) -> list[tuple[str, float]]:
    """Upper bounds in seconds and how many were not slower, the last one without a bound.

    The i-th bucket of the fabric ends before 2^(i+1) TSC cycles, the last one never.
    """
    found: list[tuple[str, float]] = []
    total = 0
    for number, count in enumerate(latency.counts):
        total += count
        last = number == len(latency.counts) - 1
        found.append(("+Inf" if last else repr((2 << number) / (latency.tsc_khz * 1e3)), total))
    return found or [("+Inf", 0)]


def _latencies(shot: Snapshot, complete: bool) -> Iterator[Metric]:
    labels = (*PEER, "queue", "stage")
    family = HistogramMetricFamily(
        LATENCY, "How long a stage of messages from the peer took.", labels=labels, unit="seconds"
    )
    for item in shot.latencies:
        values = (*shot.node(item.dst), *shot.node(item.src), str(item.queue), label(item.stage))
        family.add_metric(values, buckets(item), sum_value=None)
        if complete:
            named = dict(zip(labels, values, strict=True))
            family.add_sample(f"{LATENCY}_count", named, item.n)
            family.add_sample(f"{LATENCY}_sum", named, float("nan"))
    yield family


def families(shot: Snapshot, *, complete: bool = False) -> Iterator[Metric]:
    """All metrics. `complete`: histograms have a count, and a sum, which nobody knows, as NaN.

    The Prometheus format has no histogram without both, and those who read it take what is missing
    for 0. OpenMetrics has no count without a sum, and no NaN for one.
    """
    yield from _fabric(shot)
    yield from _kernels(shot)
    yield from _nodes(shot)
    yield from _messages(shot)
    yield from _latencies(shot, complete)


class _Given(Collector):
    """What prometheus_client asks for metrics."""

    def __init__(self, given: Iterable[Metric]) -> None:
        self._given = tuple(given)

    def collect(self) -> Iterable[Metric]:
        """All of them, but for families without a sample."""
        return [metric for metric in self._given if metric.samples]


def _registry(given: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(given))
    return registry


def openmetrics_text(shot: Snapshot) -> str:
    """OpenMetrics text."""
    write: Callable[[CollectorRegistry], bytes] = openmetrics_exposition.generate_latest
    return write(_registry(families(shot))).decode()


def prometheus_text(shot: Snapshot) -> str:
    """Prometheus' older text format: what node_exporter's textfile collector reads."""
    return exposition.generate_latest(_registry(families(shot, complete=True))).decode()


def to_json(shot: Snapshot) -> list[dict[str, Any]]:
    """The metrics in JSON form: families with their samples, named as in OpenMetrics text."""
    return [
        {
            "name": metric.name,
            "type": metric.type,
            "unit": metric.unit,
            "help": metric.documentation,
            "samples": [
                {"name": sample.name, "labels": sample.labels, "value": sample.value}
                for sample in metric.samples
            ],
        }
        for metric in families(shot)
        if metric.samples
    ]


def write_textfile(path: Path, text: str) -> None:
    """Put `text` in place of the file at once: who reads it sees the old one or the new one.

    Whatever goes wrong, the file is as it was, and nothing else is left. PopcornError if the
    directory cannot be written to, or if `path` is something that is no file.
    """
    try:
        if path.exists() and not path.is_file():
            raise PopcornError(f"cannot write {path}: it is there and is no file")
        # node_exporter does not read it under this name.
        number, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except FileNotFoundError:
        raise PopcornError(
            f"cannot write {path}: there is no directory {path.parent}",
            "name the one that node_exporter was given as --collector.textfile.directory",
        ) from None
    except OSError as error:
        raise PopcornError(
            f"cannot write to the directory {path.parent}: {error.strerror}",
            "run it as a user who may",
        ) from error
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(number, 0o644)
        Path(made).replace(path)
    except BaseException as error:
        Path(made).unlink()
        if isinstance(error, OSError):
            raise PopcornError(f"cannot write {path}: {error.strerror}") from error
        raise
