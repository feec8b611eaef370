# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace boot: the stages of starting a kernel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from popcorn.cli.base import settings
from popcorn.cli.output import table
from popcorn.cli.trace.command import TracingCommand
from popcorn.cli.trace.options import for_so_long, limits_of
from popcorn.cli.trace.report import print_report, say

if TYPE_CHECKING:
    from popcorn_tracing.boot import Report, Start


@click.command("boot", cls=TracingCommand)
@for_so_long
@click.pass_context
def boot(ctx: click.Context, duration: float | None) -> None:
    """Show how long each stage of starting a kernel takes.

    From the memory that is taken until the kernel runs, as a waterfall. Needs root, but no BPF.

    With COMMAND, which is to start one, trace while it runs and exit with its status. Otherwise
    Ctrl-C ends the trace and prints the report.
    """
    from popcorn_tracing import boot as tracer

    limits = limits_of(ctx, duration=duration)

    def show(report: Report) -> None:
        print_report(report, limits, _show_starts)

    output = sys.stderr if settings().json else None
    ctx.exit(tracer.run(limits, show=show, ready=say, output=output))


#: Columns that a whole start is drawn over.
WATERFALL_WIDTH = 50


def _show_starts(report: Report) -> None:
    """A waterfall for each start."""
    if report.missed:
        print(f"{report.missed} events were missed and are in none of the starts")
    if not report.starts:
        print("no kernel was started")
    for number, start in enumerate(report.starts):
        if number:
            print()
        _show_start(start, report.names.get(start.kernel))


def _show_start(start: Start, name: str | None) -> None:
    from popcorn.models import label

    title = f"{start.kernel} ({name})" if name else str(start.kernel)
    if start.ns is None or start.state is None:
        print(f"kernel {title}: the end of this start was not seen")
    else:
        print(f"kernel {title}: {label(start.state)} after {start.ns / 1e6:.3f} ms")
    if not start.whole:
        print("its beginning was not seen")
    whole = start.ns or start.stages[-1].begin_ns or 1

    def bar(begin: int, ns: int | None) -> str:
        left = begin * WATERFALL_WIDTH // whole
        right = WATERFALL_WIDTH if ns is None else (begin + ns) * WATERFALL_WIDTH // whole
        return " " * left + ("#" * (right - left) or "|")

    rows = [
        (
            stage.name,
            f"{stage.begin_ns / 1e6:.3f}",
            "-" if stage.ns is None else f"{stage.ns / 1e6:.3f}",
            bar(stage.begin_ns, stage.ns),
        )
        for stage in start.stages
    ]
    table(("STAGE", "BEGIN, MS", "TIME, MS", ""), rows)
