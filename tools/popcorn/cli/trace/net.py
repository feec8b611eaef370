# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace net: packets of links."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import LINK, NODE, settings
from popcorn.cli.output import table
from popcorn.cli.trace.command import Tracer
from popcorn.cli.trace.options import (
    after_so_many,
    every_interval,
    for_so_long,
    limits_of,
    without_cache,
)
from popcorn.cli.trace.report import namer, print_report, say
from popcorn.units import format_micros

if TYPE_CHECKING:
    from popcorn_tracing.common import LogHistogram
    from popcorn_tracing.net import Report


@click.command("net", cls=Tracer)
@every_interval
@click.option("--node", type=NODE, help="Only packets from or to this node, an id or a name.")
@click.option("--link", type=LINK, help="Only packets of this link, an interface's name.")
@for_so_long
@after_so_many("packets were sent or received")
@without_cache
@click.pass_context
def net(ctx: click.Context, node: str | None, link: str | None, cache: bool, **given: Any) -> None:
    """Show the packets of links: sizes, latency and drops, by link and queue.

    Latency is the time from the sender's link to this kernel's network stack, one way. What was
    dropped has the name of the counter (ethtool -S) as its reason. Counts are exact; a report
    covers all since the trace began.

    With INTERVAL (seconds), report so often, and end after REPORTS reports. With COMMAND, trace
    while it runs and exit with its status. Otherwise Ctrl-C ends the trace and prints the report.
    """
    from popcorn_tracing import net as tracer

    limits = limits_of(ctx, **given)

    def show(report: Report) -> None:
        print_report(report, limits, _show_net)

    output = sys.stderr if settings().json else None
    options = tracer.Options(node, link, cache)
    ctx.exit(tracer.run(options, limits, show=show, ready=say, output=output))


def _show_net(report: Report) -> None:
    """What was sent, what came and how long it took, and what was dropped."""
    node = namer(report.here)

    def link(number: int) -> str:
        return report.links.get(number, f"(of node {number})")

    print(
        f"{sum(row.packets for row in report.sent)} packets sent,"
        f" {sum(row.sizes.count for row in report.received)} received,"
        f" {sum(row.packets for row in report.dropped)} dropped in {report.seconds:.1f} s"
    )
    if report.missed:
        print(f"{report.missed} events were missed and are in none of the numbers")
    _net_table(
        ("SENT BY", "TO", "QUEUE", *_SIZES, "SEGMENTS"),
        [(link(r.src), node(r.dst), r.queue, *_sizes(r.sizes), r.segments) for r in report.sent],
    )
    _net_table(
        ("RECEIVED BY", "FROM", "QUEUE", *_SIZES),
        [(link(r.dst), node(r.src), r.queue, *_sizes(r.sizes)) for r in report.received],
    )
    _net_table(
        ("LATENCY AT", "FROM", "QUEUE", "PACKETS", "MIN", "MEDIAN", "P99", "MAX"),
        [(link(r.dst), node(r.src), r.queue, *_net_times(r.times)) for r in report.received],
    )
    _net_table(
        ("DROPPED AT", "PEER", "QUEUE", "REASON", "PACKETS", "BYTES"),
        [
            (
                link(r.node),
                "-" if r.peer is None else node(r.peer),
                r.queue,
                r.reason,
                r.packets,
                r.bytes,
            )
            for r in report.dropped
        ],
    )
    print(flush=True)


_SIZES = ("PACKETS", "BYTES", "LEAST", "MEDIAN", "MOST")


def _net_table(headers: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """A table after an empty line, or nothing."""
    if rows:
        print()
        table(headers, rows)


def _sizes(sizes: LogHistogram) -> tuple[object, ...]:
    return sizes.count, sizes.total, sizes.minimum, sizes.percentile(0.5), sizes.maximum


def _net_times(times: LogHistogram) -> tuple[object, ...]:
    some = (times.minimum, times.percentile(0.5), times.percentile(0.99), times.maximum)
    return times.count, *(
        format_micros(nanos / 1000) if times.count and nanos is not None else "-" for nanos in some
    )
