# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace latency: how long messages take, stage by stage."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import settings
from popcorn.cli.output import histogram, table
from popcorn.cli.trace.command import Tracer
from popcorn.cli.trace.options import (
    BY,
    STAGES,
    after_so_many,
    every_interval,
    for_so_long,
    limits_of,
    only_node,
    only_service,
    without_cache,
)
from popcorn.cli.trace.report import namer, print_report, say, title

if TYPE_CHECKING:
    from popcorn_tracing.common import Limits, Times
    from popcorn_tracing.latency import Options, Report, Row


@click.command("latency", cls=Tracer)
@every_interval
@only_node
@only_service
@for_so_long
@after_so_many("messages were delivered")
@click.option("--by", type=click.Choice(BY), default="stage", help="A row for each of these.")
@click.option("--stage", type=click.Choice(STAGES), help="Only this stage.")
@click.option(
    "--source",
    type=click.Choice(["bpf", "ftrace", "fabric"]),
    help="Who counts: a BPF program in this kernel, ftrace in this kernel, or every kernel in the"
    " fabric, always. BPF if it is not given, and ftrace where bcc cannot load.",
)
@click.option(
    "--tsc-khz",
    type=click.IntRange(1),
    metavar="KHZ",
    help="Rate of the time stamp counter, if the module is not to be asked.",
)
@without_cache
@click.pass_context
def latency(ctx: click.Context, node: str | None, service: str | None, **given: Any) -> None:
    """Show how long messages to this kernel take, stage by stage.

    The stages are queued, doorbell, interrupt, poll and delivered, in nanoseconds and one way.
    Counts are exact; a report covers all since the trace began.

    Where bcc cannot load, ftrace counts instead, by powers of two, and a line says so.

    --source fabric needs no BPF and no root, and sees the messages of all kernels, but only three
    of the stages, by powers of two, and neither services nor CPUs. It says so.

    With INTERVAL (seconds), report so often, and end after REPORTS reports. With COMMAND, trace
    while it runs and exit with its status. Otherwise Ctrl-C ends the trace and prints the report.
    """
    from popcorn_tracing import fabric, ftrace
    from popcorn_tracing import latency as tracer

    source = given["source"]
    options, limits = options_of(ctx, node, service, **given)

    def show(report: Report) -> None:
        print_report(report, limits, show_report)

    # A command's own output must not get into ours when that is JSON.
    output = sys.stderr if settings().json else None
    if source == "fabric":
        ctx.exit(fabric.run(options, limits, show=show, ready=say, output=output))
    run = tracer.run
    if source == "ftrace":
        run = functools.partial(tracer.run, opened=ftrace.opened)
    elif source is None:
        run = functools.partial(tracer.run, instead=ftrace.opened)
    ctx.exit(run(options, limits, show=show, ready=say, output=output))


def options_of(
    ctx: click.Context, node: str | None, service: str | None, **given: Any
) -> tuple[Options, Limits]:
    """What the options of latency say."""
    from popcorn_tracing import latency as tracer

    only = given.pop("stage")
    view = tracer.View(given.pop("by"), tracer.STAGES if only is None else (only,))
    del given["source"]
    options = tracer.Options(node, service, given.pop("tsc_khz"), view, given.pop("cache"))
    return options, limits_of(ctx, **given)


def show_report(report: Report) -> None:
    """A summary of the stages, who sent what, and a histogram for every row."""
    _show_heading(report)
    rows = report.rows()
    columns = _columns(report)
    if report.nr_delivered:
        print()
        about = "" if report.source == "bpf" else "~"
        figures = ("N", f"{about}MIN", "~MEDIAN", "~P99", "~P99.9", f"{about}MAX")
        table(
            (*columns, "STAGE, NSECS", *figures),
            [
                (
                    *_cells(report, row),
                    title(row.stage.name),
                    row.stage.times.count,
                    *_figures(row.stage.times),
                )
                for row in rows
            ],
        )
    for row in rows:
        if row.stage.backwards:
            of = " ".join((*_cells(report, row), title(row.stage.name)))
            print(f"{of}: left out {row.stage.backwards} that ended before they began")
    _show_flows(report)
    for row in rows:
        if row.stage.times.count:
            words = zip(columns, _cells(report, row), strict=True)
            of = "".join(f"{name.lower()} {cell}, " for name, cell in words)
            print(f"\n{of}{title(row.stage.name)}")
            histogram(row.stage.times.buckets(), "nsecs")
    print(flush=True)


def _show_heading(report: Report) -> None:
    node = namer(report.here)
    if report.source == "fabric":
        print(f"{report.nr_delivered} messages delivered in {report.seconds:.1f} s, by all kernels")
        unseen = ", ".join(map(title, report.unseen))
        print(f"source: the fabric, which does not see: {unseen}; nor services, nor CPUs")
        return
    here = "this kernel" if report.here.node_id is None else f"node {node(report.here.node_id)}"
    print(
        f"{report.nr_delivered} messages delivered to {here} and {report.nr_queued} queued by it"
        f" in {report.seconds:.1f} s"
    )
    if report.missed:
        print(f"{report.missed} events were missed and are in none of the numbers")


def _show_flows(report: Report) -> None:
    """Who sent how much to whom."""

    node = namer(report.here)
    flows = [
        (
            what,
            node(flow.src),
            node(flow.dst),
            flow.queue,
            "-" if flow.service is None else report.here.service(flow.dst, flow.service),
            flow.messages,
            "-" if flow.bytes is None else flow.bytes,
        )
        for what, listed in (("delivered", report.delivered), ("queued", report.queued))
        for flow in listed
    ]
    rung = [
        ("doorbells", node(src), node(dst), "-", "-", count, "-")
        for (src, dst), count in sorted(report.doorbells.items())
    ]
    if flows or rung:
        print()
        table(("WHAT", "FROM", "TO", "QUEUE", "SERVICE", "COUNT", "BYTES"), [*flows, *rung])


def _columns(report: Report) -> tuple[str, ...]:
    """Headers of what the rows are broken down by."""
    columns = {"channel": ("FROM", "TO", "QUEUE"), "service": ("SERVICE",), "cpu": ("CPU",)}
    return columns.get(report.view.by, ())


def _cells(report: Report, row: Row) -> tuple[str, ...]:
    """What a row is of, for _columns()."""

    if report.view.by == "channel":
        node = namer(report.here)
        return node(row.of[0]), node(row.of[1]), str(row.of[2])
    if report.view.by == "service":
        return row.of
    return tuple(map(str, row.of))


def _figures(times: Times) -> tuple[object, ...]:
    from popcorn_tracing.common import FIGURES

    if not times.count:
        return ("-",) * (len(FIGURES) + 2)
    middle = (times.percentile(share) for share in FIGURES.values())
    return times.minimum, *middle, times.maximum
