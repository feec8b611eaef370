# SPDX-License-Identifier: GPL-2.0
"""Latency from what every kernel counts in the fabric, always: no BPF, and of all kernels.

The receivers count by powers of two of TSC cycles (kmod/core/poller.c). Over netlink any kernel can
read the counts of all. What a trace reports is the difference between two readings.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Self

from popcorn.client import Client
from popcorn.models import Bucket, Latency, LatencyStage
from popcorn_tracing.common import Limits, Machine, Session, UsageError, machine, node_id
from popcorn_tracing.latency import STAGES, Arrivals, Options, Report, Stage, View

__all__ = ("SEEN", "CycleTimes", "opened", "run")

#: What the fabric counts of a message's way, and which stage of a trace that is.
SEEN: Mapping[LatencyStage, str] = {
    LatencyStage.DELIVER: "queued-delivered",
    LatencyStage.DOORBELL: "doorbell-interrupt",
    LatencyStage.POLL: "interrupt-poll",
}

UNSEEN = tuple(name for name in STAGES if name not in SEEN.values())

#: What it cannot be broken down by.
BLIND = ("service", "cpu")


@dataclass(frozen=True)
class CycleTimes:
    """Times as the fabric has them. All but `count` are estimates, of the right power of two."""

    latency: Latency | None = None

    @property
    def count(self) -> int:
        """How many."""
        return self.latency.n if self.latency else 0

    @property
    def minimum(self) -> int:
        """Lower end of the first bucket."""
        return (self.latency and self.latency.min) or 0

    @property
    def maximum(self) -> int:
        """Upper end of the last bucket."""
        return (self.latency and self.latency.max) or 0

    @property
    def mean(self) -> int | None:
        """Not known: the fabric has no sums."""
        return None

    def percentile(self, share: float) -> int | None:
        """About what `share` (0 to 1) of all do not exceed; None without any."""
        return self.latency.quantile(share) if self.latency else None

    def buckets(self) -> tuple[Bucket, ...]:
        """The rows from the first to the last that is not empty."""
        return self.latency.histogram() if self.latency else ()

    @classmethod
    def merged(cls, parts: Iterable[Self]) -> Self:
        """All `parts` as one; it keeps no channel."""
        some = [part.latency for part in parts if part.latency and part.latency.n]
        if not some:
            return cls()
        first = some[0]
        size = max(len(item.counts) for item in some)
        filled = [item.counts + (0,) * (size - len(item.counts)) for item in some]
        total = tuple(map(sum, zip(*filled, strict=True)))
        return cls(Latency(first.src, first.dst, first.queue, first.stage, first.tsc_khz, total))


@dataclass(frozen=True)
class Reading:
    """The counts of one moment, and the epoch that each node was in."""

    counts: Mapping[tuple[int, int, int, int], Latency]
    epochs: Mapping[int, int]

    @classmethod
    def now(cls, client: Client) -> Reading:
        """Ask the kernel. The epochs first: a node that joins in between counts as a new one."""
        epochs = {node.id: node.epoch for node in client.nodes()}
        return cls(
            {(item.src, item.dst, item.queue, item.stage): item for item in client.latencies()},
            epochs,
        )

    def since(self, before: Reading) -> list[Latency]:
        """What came after `before`. A node that has joined anew since then counts from zero."""
        found = []
        for key, item in self.counts.items():
            old = before.counts.get(key)
            counts = item.counts
            same = before.epochs.get(item.dst) == self.epochs.get(item.dst)
            if old and same and all(a >= b for a, b in zip(counts, old.counts, strict=False)):
                counts = tuple(a - b for a, b in zip(counts, old.counts, strict=False))
            if any(counts):
                found.append(
                    Latency(item.src, item.dst, item.queue, item.stage, item.tsc_khz, counts)
                )
        return found


def report(found: Iterable[Latency], here: Machine, seconds: float, view: View) -> Report:
    """A report of the same form as that of the BPF program, with less in it."""
    channels: dict[tuple[int, int, int], dict[str, CycleTimes]] = {}
    for item in found:
        name = SEEN.get(LatencyStage(item.stage)) if item.stage in list(LatencyStage) else None
        if name:
            key = (item.src, item.dst, item.queue)
            channels.setdefault(key, {})[name] = CycleTimes(item)
    delivered = []
    for (src, dst, queue), times in sorted(channels.items()):
        stages = tuple(Stage(name, times.get(name, CycleTimes())) for name in STAGES)
        messages = times.get("queued-delivered", CycleTimes()).count
        delivered.append(Arrivals(src, dst, queue, None, messages, None, {None: stages}))
    return Report(here, seconds, tuple(delivered), view=view, source="fabric", unseen=UNSEEN)


def check(options: Options) -> None:
    """Refuse what this source cannot tell."""
    if options.service is not None:
        raise UsageError(
            "the fabric does not count by service", "--source bpf does, in this kernel"
        )
    if options.view.by in BLIND:
        raise UsageError(
            f"the fabric does not count by {options.view.by}",
            "--by channel, or --source bpf for this kernel",
        )
    if options.tsc_khz is not None:
        raise UsageError("--tsc-khz is for --source bpf: here the module is asked in any case")
    for name in options.view.stages:
        if name in UNSEEN and options.view.stages != STAGES:
            raise UsageError(
                f"the fabric does not see the stage '{name}'",
                f"it sees {', '.join(SEEN.values())}; --source bpf sees all, in this kernel",
            )


@contextlib.contextmanager
def opened(options: Options, client: Callable[[], Client] = Client) -> Iterator[Session[Report]]:
    """As :func:`popcorn_tracing.latency.opened`, from the fabric; needs no privileges."""
    check(options)
    here = machine(client=client)
    wanted = None if options.node is None else node_id(options.node, here)
    with client() as asked:
        before = Reading.now(asked)
        begin = time.monotonic()

        def found() -> list[Latency]:
            latencies = Reading.now(asked).since(before)
            return [item for item in latencies if wanted in (None, item.src, item.dst)]

        yield Session(
            "counting the latency of messages between all kernels",
            lambda: report(found(), here, time.monotonic() - begin, options.view),
            lambda: sum(item.n for item in found() if item.stage == LatencyStage.DELIVER),
        )


def run(
    options: Options,
    limits: Limits,
    *,
    show: Callable[[Report], None],
    ready: Callable[[str], None],
    output: IO[str] | None = None,
    client: Callable[[], Client] = Client,
) -> int:
    """As :func:`popcorn_tracing.latency.run`, from the fabric; needs no privileges."""
    with opened(options, client) as session:
        return session.watch(limits, show=show, ready=ready, output=output)
