# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace: the eBPF tools of popcorn_tracing, each in its own module."""

from __future__ import annotations

import click

from popcorn.cli.base import LazyGroup

__all__ = ("trace",)


@click.group(
    cls=LazyGroup,
    lazy={
        "boot": (
            "popcorn.cli.trace.boot:boot",
            "Show how long each stage of starting a kernel takes.",
        ),
        "doorbell": (
            "popcorn.cli.trace.doorbell:doorbell",
            "Show doorbells against messages, by channel, queue and CPU.",
        ),
        "flow": (
            "popcorn.cli.trace.flow:flow",
            "Show messages to this kernel one by one, and where their time went.",
        ),
        "heatmap": (
            "popcorn.cli.trace.heatmap:heatmap",
            "Show latency over time: a line every INTERVAL seconds, 1 if it is not given.",
        ),
        "latency": (
            "popcorn.cli.trace.latency:latency",
            "Show how long messages to this kernel take, stage by stage.",
        ),
        "net": (
            "popcorn.cli.trace.net:net",
            "Show the packets of links: sizes, latency and drops, by link and queue.",
        ),
        "record": (
            "popcorn.cli.trace.record:record",
            "Record all kernels into one timeline, for Perfetto.",
        ),
    },
)
def trace() -> None:
    """Trace what the kernels do, with eBPF.

    Needs root, python3-bpfcc and the headers of the running kernel; latency --source fabric does
    not. A line on standard error says when a trace has begun, which takes some seconds if the
    program is compiled: it is kept in /var/cache/popcorn for the next time.
    """
