# SPDX-License-Identifier: GPL-2.0
"""What the control protocol talks about, as frozen values.

`to_json()` of each gives a dict of plain JSON types. Its keys are part of the command line's stable
output: keys are added, never renamed. Units are in the key where there is a choice (`_bytes`,
`_ms`, `_us`); states and backends are the lower-case names of the protocol.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from popcorn.uapi.netlink_gen import KernelState, MemoryBackend, NodeState

__all__ = (
    "Bucket",
    "Event",
    "Fabric",
    "Kernel",
    "KernelState",
    "MemoryBackend",
    "Node",
    "NodeState",
    "PingResult",
    "label",
    "log2_histogram",
)


def label(value: NodeState | KernelState | MemoryBackend | int) -> str:
    """The protocol's name of an enum value; `unknown-9` for one that a newer kernel made up."""
    name = getattr(value, "name", None)
    return f"unknown-{int(value)}" if name is None else str(name).lower().replace("_", "-")


@dataclass(frozen=True)
class Fabric:
    """The shared memory that the kernels talk through, as the answering kernel sees it."""

    phys: int
    size: int
    version: tuple[int, int]
    node_id: int
    nr_nodes: int
    tsc_khz: int
    host: bool

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
    """A kernel as a member of the fabric. Counters are those of the kernel that answers."""

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
        }


@dataclass(frozen=True)
class Kernel:
    """A kernel that the primary leased CPUs and memory to.

    Addresses are physical, sizes in bytes. `cpus` are the primary's logical numbers, the first
    boots the kernel; `apic_ids` is in the same order. `join_us` is 0 until the kernel has joined.
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
class PingResult:
    """Round trips to one node. `cycles` are the answered ones, in TSC cycles, in order."""

    node_id: int
    sent: int
    lost: int
    tsc_khz: int
    cycles: tuple[int, ...] = field(default=(), repr=False)

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
        }


@dataclass(frozen=True)
class Event:
    """Something that changed.

    `kind` is kernel, node, cpu, memory, popcorn (a uevent of the class) or resync: events were lost
    because nobody read them in time, and what follows with action `state` is how everything is
    now. `source` is netlink, udev or kernel (uevents without udevd). `time` is seconds since the
    epoch. `value` is the whole object for kernel and node events.
    """

    kind: str
    action: str
    source: str
    time: float
    name: str = ""
    state: str = ""
    value: Kernel | Node | None = None
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
