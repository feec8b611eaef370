# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace record: a timeline of all kernels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import SIZE, settings
from popcorn.cli.output import print_json, table
from popcorn.cli.trace.command import Tracer
from popcorn.cli.trace.options import for_so_long, limits_of, without_cache
from popcorn.cli.trace.report import say

if TYPE_CHECKING:
    from popcorn_tracing.events import Summary


@click.command("record", cls=Tracer)
@for_so_long
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    default="popcorn-trace.json",
    show_default=True,
    help="The file to be written.",
)
@click.option(
    "--buffer",
    "buffer_bytes",
    type=SIZE,
    metavar="SIZE",
    default="8M",
    show_default=True,
    help="Room for events that wait in the kernel.",
)
@click.option(
    "--limit",
    "limit_bytes",
    type=SIZE,
    metavar="SIZE",
    default="64M",
    show_default=True,
    help="Keep so much of events, 80 bytes each, and count what comes after.",
)
@without_cache
@click.pass_context
def record(ctx: click.Context, duration: float | None, **given: Any) -> None:
    """Record all kernels into one timeline, for Perfetto.

    All events of this kernel, the messages that others sent it, and what they received, as a file
    that https://ui.perfetto.dev and chrome://tracing open. A message is an arrow from kernel to
    kernel; its stages are slices.

    With COMMAND, record while it runs and exit with its status. Otherwise Ctrl-C ends it. What was
    lost is said at the end and in the file.
    """
    from popcorn_tracing import record as tracer

    options = tracer.Options(**given)
    limits = limits_of(ctx, duration=duration)

    def end(summary: Summary) -> None:
        if settings().json:
            print_json(summary.to_json())
        else:
            _show_recorded(summary)

    output = sys.stderr if settings().json else None
    ctx.exit(tracer.run(options, limits, ready=say, end=end, output=output))


def _show_recorded(summary: Summary) -> None:
    """What is in the file, and what is not."""
    print(f"{summary.nr_written} events are in {summary.path}, {summary.nr_absent} are not")
    if summary.missed:
        print(f"the kernel missed {summary.missed}")
    headers = ("EVENT", "SEEN", "LOST", "LEFT OUT")
    rows = [
        (kind, seen, summary.lost.get(kind, 0), summary.left_out(kind))
        for kind, seen in summary.seen.items()
    ]
    table(headers, rows)
    if any(summary.lost.values()):
        print("use a larger --buffer to lose none")
    if any(left for *_, left in rows):
        print("use a larger --limit to keep all")
