# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace doorbell: doorbells against messages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import NODE, settings
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
    from popcorn_tracing.doorbell import Report


@click.command("doorbell", cls=Tracer)
@every_interval
@click.option("--node", type=NODE, help="Only channels from or to this node, an id or a name.")
@for_so_long
@after_so_many("messages were queued or taken")
@without_cache
@click.pass_context
def doorbell(ctx: click.Context, node: str | None, cache: bool, **given: Any) -> None:
    """Show doorbells against messages, by channel, queue and CPU.

    A receiver that polls on for a while after each message need not be rung. SAVED is the share of
    messages that went without a doorbell, EMPTY the doorbells whose poll took no message.

    With INTERVAL (seconds), report so often what came since the last report, and end after REPORTS
    reports. With COMMAND, trace while it runs and exit with its status. Otherwise Ctrl-C ends the
    trace and prints the report.
    """
    from popcorn_tracing import doorbell as tracer

    limits = limits_of(ctx, **given)

    def show(report: Report) -> None:
        print_report(report, limits, _show_doorbells)

    output = sys.stderr if settings().json else None
    options = tracer.Options(node, cache)
    ctx.exit(tracer.run(options, limits, show=show, ready=say, output=output))


def _show_doorbells(report: Report) -> None:
    """What was sent and rung, what interrupted, and what the polling window did."""
    node = namer(report.here)

    def share(saved: float | None) -> str:
        return "-" if saved is None else f"{100 * saved:.1f}%"

    rung = sum(row.doorbells for row in report.sent)
    print(
        f"{sum(row.messages for row in report.sent)} messages sent with {rung} doorbells,"
        f" {sum(row.messages for row in report.taken)} taken with"
        f" {sum(row.interrupts for row in report.taken)} interrupts in {report.seconds:.1f} s"
    )
    if report.missed:
        print(f"{report.missed} events were missed and are in none of the numbers")
    if report.sent:
        print()
        rows: list[tuple[object, ...]] = [
            (node(r.src), node(r.dst), r.queue, r.cpu, r.messages, r.doorbells, share(r.saved))
            for r in report.sent
        ]
        table(("FROM", "TO", "QUEUE", "CPU", "MESSAGES", "DOORBELLS", "SAVED"), rows)
    if report.taken:
        print()
        rows = [
            (
                node(r.node),
                r.queue,
                r.cpu,
                r.messages,
                r.interrupts,
                share(r.saved),
                r.empty,
                r.polls,
                r.idle,
            )
            for r in report.taken
        ]
        headers = (
            "AT",
            "QUEUE",
            "CPU",
            "MESSAGES",
            "INTERRUPTS",
            "SAVED",
            "EMPTY",
            "POLLS",
            "IDLE",
        )
        table(headers, rows)
    if report.windows:
        print()
        rows = [
            (w.queue, format_micros(w.window_ns / 1000), w.hits, w.sleeps, w.spurious)
            for w in report.windows
        ]
        table(("QUEUE", "WINDOW", "HITS", "SLEEPS", "SPURIOUS"), rows)
    print(flush=True)
