# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace heatmap: latency over time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import SECONDS, settings
from popcorn.cli.output import coloured, print_json_line
from popcorn.cli.trace.command import Tracer
from popcorn.cli.trace.options import (
    STAGES,
    for_so_long,
    from_source,
    limits_of,
    only_node,
    only_service,
    without_cache,
)
from popcorn.cli.trace.report import say

if TYPE_CHECKING:
    from popcorn_tracing.heatmap import Column


@click.command("heatmap", cls=Tracer)
@click.argument("interval", type=SECONDS, default="1")
@only_node
@only_service
@click.option(
    "--stage",
    type=click.Choice(STAGES),
    default="queued-delivered",
    show_default=True,
    help="The stage whose times are shown.",
)
@from_source
@for_so_long
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="At the end, write a picture of it all to this file.",
)
@without_cache
@click.pass_context
def heatmap(ctx: click.Context, duration: float | None, **given: Any) -> None:
    """Show latency over time: a line every INTERVAL seconds, 1 if it is not given.

    Each line is a histogram: times from 256 ns to a second from left to right, by powers of two,
    the darker the more messages. With COMMAND, trace while it runs and exit with its status.
    Otherwise Ctrl-C ends the trace.
    """
    from popcorn_tracing import heatmap as tracer

    options = tracer.Options(**given)
    limits = limits_of(ctx, duration=duration)
    as_json = settings().json

    def ready(text: str) -> None:
        say(text)

    def show(column: Column) -> None:
        if as_json:
            print_json_line(column.to_json())
        else:
            print(_heat_line(column), flush=True)

    if not as_json:
        labels = (tracer.nanos(1 << slot) for slot in range(tracer.FIRST, tracer.LAST + 1, 4))
        print(f"{'TIME, S':>9}  {'N':>8}  " + "".join(f"{label:<8}" for label in labels).rstrip())
    # Lines come while the command runs: what it prints does not belong between them.
    ctx.exit(tracer.run(options, limits, show=show, ready=ready, output=sys.stderr))


def _heat_line(column: Column) -> str:
    """A line of a heat map; colours where they belong, characters elsewhere."""
    from popcorn_tracing.heatmap import COLOURS, SHADES, level

    cells = column.cells()
    most = max(cells)
    shown = []
    for count in cells:
        if coloured(sys.stdout):
            dark = level(count, most, len(COLOURS) + 1)
            shown.append(click.style("  ", bg=_rgb(COLOURS[dark - 1])) if dark else "  ")
        else:
            shown.append(SHADES[level(count, most, len(SHADES))] * 2)
    return (f"{column.end:>9.1f}  {column.count:>8}  " + "".join(shown)).rstrip(" ")


def _rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
