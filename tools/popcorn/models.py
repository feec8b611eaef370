# SPDX-License-Identifier: GPL-2.0
"""What the control protocol talks about, as frozen values.

`to_json()` of each gives a dict of plain JSON types. Its keys are part of the command line's stable
output: keys are added, never renamed. Units are in the key where there is a choice (`_bytes`,
`_ms`, `_us`); states and backends are the lower-case names of the protocol.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from popcorn.uapi.netlink_gen import KernelState, LatencyStage, MemoryBackend, NodeState

__all__ = (
    "Bucket",
    "Channel",
    "Event",
    "Fabric",
    "Kernel",
    "KernelState",
    "Latency",
    "LatencyStage",
    "MemoryBackend",
    "Node",
    "NodeState",
    "PingResult",
    "Queue",
    "Service",
    "label",
    "log2_histogram",
)


def label(value: NodeState | KernelState | MemoryBackend | LatencyStage | int) -> str:
    """The protocol's name of an enum value; `unknown-9` for one that a newer kernel made up."""
    name = getattr(value, "name", None)
    return f"unknown-{int(value)}" if name is None else str(name).lower().replace("_", "-")


@dataclass(frozen=True)
class Fabric:
    """The shared memory that the kernels talk through, as the answering kernel sees it.

    `ring_slots` is what a channel holds as it is laid out, `area_bytes` what each node has for
    messages that fit no slot. `loopback`: it is inside one kernel, all of its nodes are.
    """

    phys: int
    size: int
    version: tuple[int, int]
    node_id: int
    nr_nodes: int
    tsc_khz: int
    host: bool
    nr_queues: int = 0
    ring_slots: int = 0
    area_bytes: int = 0
    loopback: bool = False

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "phys": self.phys,
            "size_bytes": self.size,
            "version": f"{self.version[0]}.{self.version[1]}",
            "node_id": self.node_id,
            "nr_nodes": self.nr_nodes,
            "tsc_khz": self.tsc_khz,
            "host": self.host,
            "nr_queues": self.nr_queues,
            "ring_slots": self.ring_slots,
            "area_bytes": self.area_bytes,
            "loopback": self.loopback,
        }


@dataclass(frozen=True)
class Service:
    """A service that a node shows. `talks`: the kernel that answers has it too and they talk."""

    node_id: int
    name: str
    version: int
    id: int
    talks: bool = False

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "node_id": self.node_id,
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "talks": self.talks,
        }


@dataclass(frozen=True)
class Node:
    """A kernel as a member of the fabric. Counters are those of the kernel that answers.

    `shut`: it sent garbage, and its channels stay shut until it comes back in a new epoch.
    `unanswered` are pings from it whose answers were given up for want of room. How a node waits
    for messages (`window_max_us`, `threaded`, `doorbell_cost_ns`) is known of the node that
    answers only.
    """

    id: int
    name: str
    state: NodeState | int
    epoch: int = 0
    release: str = ""
    machine: str = ""
    nr_cpus: int = 0
    heartbeat_age_ms: int | None = None
    reason: str = ""
    apic_id: int | None = None
    vector: int | None = None
    sent: int = 0
    received: int = 0
    doorbells_sent: int = 0
    rejected: int = 0
    is_self: bool = False
    shut: bool = False
    unanswered: int = 0
    window_max_us: int | None = None
    threaded: bool | None = None
    doorbell_cost_ns: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "id": self.id,
            "name": self.name,
            "state": label(self.state),
            "epoch": self.epoch,
            "release": self.release,
            "machine": self.machine,
            "nr_cpus": self.nr_cpus,
            "heartbeat_age_ms": self.heartbeat_age_ms,
            "reason": self.reason,
            "apic_id": self.apic_id,
            "vector": self.vector,
            "sent": self.sent,
            "received": self.received,
            "doorbells_sent": self.doorbells_sent,
            "rejected": self.rejected,
            "self": self.is_self,
            "shut": self.shut,
            "unanswered": self.unanswered,
            "window_max_us": self.window_max_us,
            "threaded": self.threaded,
            "doorbell_cost_ns": self.doorbell_cost_ns,
        }


@dataclass(frozen=True)
class Channel:
    """What the answering kernel counted of one queue's channels to and from another node.

    `ring_slots` is how many messages fit on the way there, `ring_slots_from` on the way here;
    `area_bytes` what that node has of this one's area. `armed`: this node sleeps, and the next
    message from there rings its doorbell.
    """

    node_id: int
    queue: int
    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0
    doorbells_sent: int = 0
    room_doorbells: int = 0
    full: int = 0
    waits: int = 0
    rejected: int = 0
    answered: int = 0
    ring_slots: int = 0
    ring_slots_from: int = 0
    area_bytes: int = 0
    armed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "node_id": self.node_id,
            "queue": self.queue,
            "sent": self.sent,
            "sent_bytes": self.sent_bytes,
            "received": self.received,
            "received_bytes": self.received_bytes,
            "doorbells_sent": self.doorbells_sent,
            "room_doorbells": self.room_doorbells,
            "full": self.full,
            "waits": self.waits,
            "rejected": self.rejected,
            "answered": self.answered,
            "ring_slots": self.ring_slots,
            "ring_slots_from": self.ring_slots_from,
            "area_bytes": self.area_bytes,
            "armed": self.armed,
        }


@dataclass(frozen=True)
class Queue:
    """A queue of the answering kernel, which polls the channels of that number from all nodes.

    `window_ns` is how long it polls for more, at present, before it sleeps and wants a doorbell;
    `window_hits` are the messages that came meanwhile.
    """

    queue: int
    polls: int = 0
    poll_messages: int = 0
    doorbell_irqs: int = 0
    spurious: int = 0
    sleeps: int = 0
    window_ns: int = 0
    window_hits: int = 0
    cpu: int = 0
    irq: int = 0

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "queue": self.queue,
            "polls": self.polls,
            "poll_messages": self.poll_messages,
            "doorbell_irqs": self.doorbell_irqs,
            "spurious": self.spurious,
            "sleeps": self.sleeps,
            "window_ns": self.window_ns,
            "window_hits": self.window_hits,
            "cpu": self.cpu,
            "irq": self.irq,
        }


@dataclass(frozen=True)
class Kernel:
    """A kernel that the primary leased CPUs and memory to.

    Addresses are physical, sizes in bytes. `cpus` are the primary's logical numbers, the first
    boots the kernel; `apic_ids` is in the same order. `join_us` is 0 until the kernel has joined.
    `since` is when it came into its state, in seconds since the epoch. `recipe` is how it was
    started, as :mod:`popcorn.recipe` notes it down; only known of a kernel that was asked for
    alone.
    """

    id: int
    name: str
    state: KernelState | int
    reason: str = ""
    cpus: tuple[int, ...] = ()
    apic_ids: tuple[int, ...] = ()
    memory_backend: MemoryBackend | int = MemoryBackend.CONTIG
    memory_start: int = 0
    memory_size: int = 0
    slice_start: int = 0
    slice_size: int = 0
    bsp_apic_id: int = 0
    tsc_khz: int = 0
    x2apic: bool = False
    fabric_start: int = 0
    fabric_size: int = 0
    entry: int = 0
    boot_params: int = 0
    page_table_root: int = 0
    image: str = ""
    epoch: int = 0
    age_ms: int = 0
    join_us: int = 0
    since: float = field(default=0.0, compare=False)
    recipe: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "id": self.id,
            "name": self.name,
            "state": label(self.state),
            "reason": self.reason,
            "cpus": list(self.cpus),
            "apic_ids": list(self.apic_ids),
            "memory_backend": label(self.memory_backend),
            "memory_start": self.memory_start,
            "memory_bytes": self.memory_size,
            "slice_start": self.slice_start,
            "slice_bytes": self.slice_size,
            "bsp_apic_id": self.bsp_apic_id,
            "tsc_khz": self.tsc_khz,
            "x2apic": self.x2apic,
            "fabric_start": self.fabric_start,
            "fabric_bytes": self.fabric_size,
            "entry": self.entry,
            "boot_params": self.boot_params,
            "page_table_root": self.page_table_root,
            "image": self.image,
            "epoch": self.epoch,
            "age_ms": self.age_ms,
            "since": round(self.since, 3),
            "join_us": self.join_us,
        }


@dataclass(frozen=True)
class Bucket:
    """One row of a histogram: `count` values from `low` to `high`, both included."""

    low: int
    high: int
    count: int


def log2_histogram(values: Iterable[int]) -> tuple[Bucket, ...]:
    """Powers of two from the smallest to the largest value that occurs; empty for no values.

    Rows are 0-1, 2-3, 4-7 and so on, as the bcc tools print them. Rows between two others are given
    even when they are empty, so that the shape can be seen.
    """
    counts: dict[int, int] = {}
    for value in values:
        slot = max(value, 1).bit_length() - 1
        counts[slot] = counts.get(slot, 0) + 1
    if not counts:
        return ()
    return tuple(
        Bucket((1 << slot) if slot else 0, (1 << slot + 1) - 1, counts.get(slot, 0))
        for slot in range(min(counts), max(counts) + 1)
    )


@dataclass(frozen=True)
class Latency:
    """How long one stage took in one channel, as its receiver has counted in the fabric.

    `counts[i]` took from 2^i to 2^(i+1) - 1 TSC cycles; the last bucket has what took longer, too.
    So the figures below are estimates, in nanoseconds, and None without any count.
    """

    src: int
    dst: int
    queue: int
    stage: LatencyStage | int
    tsc_khz: int
    counts: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.tsc_khz <= 0:
            raise ValueError("a latency needs the rate of the time stamp counter")

    def _nanos(self, cycles: float) -> int:
        return int(cycles * 1_000_000 // self.tsc_khz)

    @property
    def n(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def _used(self) -> list[int]:
        return [number for number, count in enumerate(self.counts) if count]

    def quantile(self, share: float) -> int | None:
        """What `share` (0 to 1) of all do not exceed, as if each bucket were filled evenly."""
        wanted = share * self.n
        seen = 0
        for number in self._used():
            count = self.counts[number]
            if seen + count >= wanted:
                low = 1 << number
                return self._nanos(low + low * (wanted - seen) / count)
            seen += count
        return None

    @property
    def min(self) -> int | None:
        """Lower end of the first bucket: nothing was faster."""
        used = self._used()
        return self._nanos(1 << used[0]) if used else None

    @property
    def median(self) -> int | None:
        """Half of all were faster."""
        return self.quantile(0.5)

    @property
    def p99(self) -> int | None:
        """99 of 100 were faster."""
        return self.quantile(0.99)

    @property
    def max(self) -> int | None:
        """Upper end of the last bucket: nothing was slower, unless it is the last that there is."""
        used = self._used()
        return self._nanos(2 << used[-1]) if used else None

    def histogram(self) -> tuple[Bucket, ...]:
        """The buckets from the first to the last that has something, bounds in nanoseconds."""
        used = self._used()
        if not used:
            return ()
        return tuple(
            Bucket(
                self._nanos(1 << number),
                max(self._nanos(2 << number) - 1, self._nanos(1 << number)),
                self.counts[number],
            )
            for number in range(used[0], used[-1] + 1)
        )

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form; all times are estimates in nanoseconds."""
        return {
            "src": self.src,
            "dst": self.dst,
            "queue": self.queue,
            "stage": label(self.stage),
            "n": self.n,
            "min_ns": self.min,
            "median_ns": self.median,
            "p99_ns": self.p99,
            "max_ns": self.max,
            "histogram": [
                {"low_ns": b.low, "high_ns": b.high, "count": b.count} for b in self.histogram()
            ],
        }


@dataclass(frozen=True)
class PingResult:
    """Round trips to one node. `cycles` are the answered ones, in TSC cycles, in order.

    `elapsed` is the time that all took together, in TSC cycles, without what passed between two
    requests to the kernel; `full` how often there was no room for a request at once.
    """

    node_id: int
    sent: int
    lost: int
    tsc_khz: int
    cycles: tuple[int, ...] = field(default=(), repr=False)
    elapsed: int = 0
    full: int = 0

    def __post_init__(self) -> None:
        if self.tsc_khz <= 0:
            raise ValueError("a ping result needs the rate of the time stamp counter")

    @property
    def n(self) -> int:
        """Round trips that were answered."""
        return len(self.cycles)

    def _micros(self, cycles: float) -> float:
        return round(cycles * 1000 / self.tsc_khz, 3)

    @property
    def min(self) -> float | None:
        """Shortest round trip, microseconds; None without any answer, like the others below."""
        return self._micros(min(self.cycles)) if self.cycles else None

    @property
    def median(self) -> float | None:
        """Middle round trip, microseconds."""
        # Not above: it imports much, which every other command would wait for.
        import statistics

        return self._micros(statistics.median(self.cycles)) if self.cycles else None

    @property
    def p99(self) -> float | None:
        """The smallest round trip that 99 of 100 do not exceed (nearest rank), microseconds."""
        if not self.cycles:
            return None
        return self._micros(sorted(self.cycles)[math.ceil(0.99 * self.n) - 1])

    @property
    def max(self) -> float | None:
        """Longest round trip, microseconds."""
        return self._micros(max(self.cycles)) if self.cycles else None

    @property
    def per_second(self) -> float | None:
        """Round trips that were made in a second; None if the kernel did not tell the time."""
        return self.n * self.tsc_khz * 1000 / self.elapsed if self.elapsed else None

    def histogram(self) -> tuple[Bucket, ...]:
        """Round trips in nanoseconds, in powers of two."""
        return log2_histogram(c * 1_000_000 // self.tsc_khz for c in self.cycles)

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form; times in microseconds, histogram bounds in nanoseconds."""
        return {
            "node_id": self.node_id,
            "sent": self.sent,
            "n": self.n,
            "lost": self.lost,
            "min": self.min,
            "median": self.median,
            "p99": self.p99,
            "max": self.max,
            "histogram": [
                {"low_ns": b.low, "high_ns": b.high, "count": b.count} for b in self.histogram()
            ],
            "full": self.full,
            "elapsed": self._micros(self.elapsed),
            "per_second": None if self.per_second is None else round(self.per_second, 1),
        }


@dataclass(frozen=True)
class Event:
    """Something that changed.

    `kind` is kernel, node, service, cpu, memory, popcorn (a uevent of the class) or resync: events
    were lost because nobody read them in time, and what follows with action `state` is how
    everything is now. `source` is netlink, udev or kernel (uevents without udevd). `time` is
    seconds since the epoch. `value` is the whole object for kernel, node and service events; a
    service is that of the other node, and up when this kernel has it too and they talk.
    """

    kind: str
    action: str
    source: str
    time: float
    name: str = ""
    state: str = ""
    value: Kernel | Node | Service | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "kind": self.kind,
            "action": self.action,
            "source": self.source,
            "time": self.time,
            "name": self.name,
            "state": self.state,
            "value": None if self.value is None else self.value.to_json(),
            "properties": dict(self.properties),
        }
