# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace: the eBPF tools of popcorn_tracing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import NODE, SECONDS, Command, Group, settings
from popcorn.cli.output import histogram, print_json, print_json_line, table

if TYPE_CHECKING:
    from popcorn_tracing.common import LogHistogram
    from popcorn_tracing.latency import Report, Stage

TRACED = "popcorn.traced"


@click.group(cls=Group)
def trace() -> None:
    """Trace what the kernels do, with eBPF.

    Needs root, python3-bpfcc and the headers of the running kernel. It takes some seconds until a
    trace has begun; a line on standard error says so.
    """


class TracingCommand(Command):
    """A command that takes a command line to trace after `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows `--` from click, which would take it for arguments of ours."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[TRACED] = tuple(args[at + 1 :])
            if not ctx.meta[TRACED]:
                raise click.UsageError("no command after '--'", ctx)
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line ends with the traced command."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@trace.command("latency", cls=TracingCommand)
@click.argument("interval", type=SECONDS, required=False)
@click.argument("reports", type=click.IntRange(1), required=False, metavar="[REPORTS]")
@click.option("--node", type=NODE, help="Only messages from or to this node, an id or a name.")
@click.option(
    "--service", metavar="NAME|ID", help="Only messages of this service: control, echo or an id."
)
@click.option("--duration", type=SECONDS, metavar="SECONDS", help="End after this time.")
@click.option(
    "--count",
    "messages",
    type=click.IntRange(1),
    metavar="N",
    help="End when so many messages were delivered.",
)
@click.option(
    "--tsc-khz",
    type=click.IntRange(1),
    metavar="KHZ",
    help="Rate of the time stamp counter, if the module is not to be asked.",
)
@click.pass_context
def latency(ctx: click.Context, node: str | None, service: str | None, **given: Any) -> None:
    """Show how long messages to this kernel take, stage by stage.

    The stages are queued, doorbell, interrupt, poll and delivered, in nanoseconds and one way.
    Counts are exact; a report covers all since the trace began.

    With INTERVAL (seconds), report so often, and end after REPORTS reports. With COMMAND, trace
    while it runs and exit with its status. Otherwise Ctrl-C ends the trace and prints the report.
    """
    from popcorn_tracing.common import Limits
    from popcorn_tracing.latency import Options, run

    options = Options(node, service, given.pop("tsc_khz"))
    limits = Limits(**given, command=ctx.meta.get(TRACED, ()))
    as_json = settings().json

    def show(report: Report) -> None:
        if not as_json:
            _show_latency(report)
        elif limits.interval:
            print_json_line(report.to_json())
        else:
            print_json(report.to_json())

    # A command's own output must not get into ours when that is JSON.
    output = sys.stderr if as_json else None
    status = run(options, limits, show=show, ready=_say, output=output)
    ctx.exit(status)


def _show_latency(report: Report) -> None:
    """A summary of the stages, who sent what, and a histogram for every stage."""
    from popcorn_tracing.common import service_name

    def node(number: int) -> str:
        name = report.here.names.get(number)
        return f"{number} ({name})" if name else str(number)

    here = "this kernel" if report.here.node_id is None else f"node {node(report.here.node_id)}"
    print(
        f"{report.nr_delivered} messages delivered to {here} and {report.nr_queued} queued by it"
        f" in {report.seconds:.1f} s"
    )
    if report.missed:
        print(f"{report.missed} events were missed and are in none of the numbers")
    stages = report.stages()
    if report.nr_delivered:
        print()
        rows = [(_title(stage), stage.times.count, *_figures(stage.times)) for stage in stages]
        table(("STAGE, NSECS", "N", "MIN", "~MEDIAN", "~P99", "MAX"), rows)
    for stage in stages:
        if stage.backwards:
            print(f"{_title(stage)}: left out {stage.backwards} that ended before they began")
    flows = [
        (
            what,
            node(flow.src),
            node(flow.dst),
            service_name(flow.service),
            flow.messages,
            flow.bytes,
        )
        for what, listed in (("delivered", report.delivered), ("queued", report.queued))
        for flow in listed
    ]
    rung = [
        ("doorbells", node(src), node(dst), "-", count, "-")
        for (src, dst), count in sorted(report.doorbells.items())
    ]
    if flows or rung:
        print()
        table(("WHAT", "FROM", "TO", "SERVICE", "COUNT", "BYTES"), [*flows, *rung])
    for stage in stages:
        if stage.times.count:
            print(f"\n{_title(stage)}")
            histogram(stage.times.buckets(), "nsecs")
    print(flush=True)


def _title(stage: Stage) -> str:
    return stage.name.replace("-", " -> ")


def _figures(times: LogHistogram) -> tuple[object, ...]:
    if not times.count:
        return ("-",) * 4
    return times.minimum, times.percentile(0.5), times.percentile(0.99), times.maximum


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
