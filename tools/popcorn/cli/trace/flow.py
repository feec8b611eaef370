# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace flow: messages or frames one by one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import LINK, SIZE, parsed, settings
from popcorn.cli.output import print_json_line
from popcorn.cli.trace.command import Tracer
from popcorn.cli.trace.options import for_so_long, limits_of, only_node, only_service, without_cache
from popcorn.cli.trace.report import say, title

if TYPE_CHECKING:
    from popcorn_tracing.flow import Flow, Frame, Summary


#: Columns of a flow: header, its width, and which of flow.POINTS it ends at.
FLOW_STAGES = (("BELL", "doorbell"), ("IRQ", "interrupt"), ("POLL", "poll"), ("DELIV", "delivered"))
FLOW_FORMAT = (
    "{:>11}  {:<{node}}  {:<{node}}  {:>2}  {:<13}  {:>7}  {:>3}  {:>9}"
    "  {:>9}  {:>9}  {:>9}  {:>9}  {}"
)
FRAME_STAGES = (*FLOW_STAGES, ("STACK", "stack"))
FRAME_FORMAT = (
    "{:>11}  {:<{node}}  {:<{node}}  {:>2}  {:>7}  {:>3}  {:>9}"
    "  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {}"
)


def _parse_micros(text: str) -> float:
    number = text.removesuffix("us").removesuffix("µs")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise ValueError(f"'{text}' is not a time: write microseconds, like 250 or 0.5")
    return value


MICROS = parsed("microseconds", _parse_micros)


@click.command("flow", cls=Tracer)
@only_node
@only_service
@click.option("--min-size", type=SIZE, metavar="SIZE", help="Only messages of so many bytes.")
@click.option("--max-size", type=SIZE, metavar="SIZE", help="Only messages of at most so many.")
@click.option(
    "--slower", type=MICROS, metavar="MICROSECONDS", help="Only messages that took longer."
)
@for_so_long
@click.option(
    "--count", "messages", type=click.IntRange(1), metavar="N", help="End after so many messages."
)
@click.option(
    "--buffer",
    type=SIZE,
    metavar="SIZE",
    default="4M",
    show_default=True,
    help="Room for messages that wait to be shown.",
)
@click.option("--frames", is_flag=True, help="Show frames of links instead, and drops.")
@click.option("--link", type=LINK, help="Likewise, of this link only, an interface's name.")
@without_cache
@click.pass_context
def flow(ctx: click.Context, duration: float | None, messages: int | None, **given: Any) -> None:
    """Show messages to this kernel one by one, and where their time went.

    Each line is a message: when it was queued, who sent it, and for each stage the microseconds
    until it was reached; a stage that the message did not go through is a dash, and its time is in
    the next one. The last column names the part that took the longest.

    With --frames or --link, each line is a frame that a link of this kernel received, with the time
    until the network stack had it, or dropped, with the reason.

    With COMMAND, trace while it runs and exit with its status. Otherwise Ctrl-C ends the trace. At
    the end it says how many messages there were, and how many of them were lost to the buffer.
    """
    from popcorn_tracing import flow as tracer

    options = tracer.Options(
        given["node"],
        given["service"],
        given["min_size"],
        given["max_size"],
        given["slower"],
        given["buffer"],
        given["frames"],
        given["link"],
        given["cache"],
    )
    shown_frames = options.of_frames
    limits = limits_of(ctx, duration=duration, messages=messages)
    as_json = settings().json

    def ready(text: str) -> None:
        say(text)
        if not as_json:
            print(_frame_line(_FRAME_HEAD) if shown_frames else _flow_line(_FLOW_HEAD), flush=True)

    def show(found: Flow | Frame) -> None:
        if as_json:
            print_json_line(found.to_json())
        else:
            print(_passage_line(found), flush=True)

    def end(summary: Summary) -> None:
        if as_json:
            print_json_line({"summary": summary.to_json()})
        else:
            say(_flow_end(summary))

    # Lines come while the command runs: what it prints does not belong between them.
    ctx.exit(tracer.run(options, limits, show=show, ready=ready, end=end, output=sys.stderr))


_FLOW_HEAD = (
    "TIME, S", "FROM", "TO", "Q", "SERVICE", "BYTES", "CPU", "TOTAL, µs",
    *(header for header, _ in FLOW_STAGES), "LONGEST",
)  # fmt: skip


def _flow_line(cells: tuple[str, ...]) -> str:
    return FLOW_FORMAT.format(*cells, node=4).rstrip()


_FRAME_HEAD = (
    "TIME, S", "FROM", "TO", "Q", "BYTES", "CPU", "TOTAL, µs",
    *(header for header, _ in FRAME_STAGES), "LONGEST",
)  # fmt: skip


def _frame_line(cells: tuple[str, ...]) -> str:
    return FRAME_FORMAT.format(*cells, node=4).rstrip()


def _passage_line(found: Flow | Frame) -> str:
    from popcorn_tracing.flow import Flow

    def node(number: int | None) -> str:
        return "-" if number is None else str(number)

    where = (f"{found.when:.6f}", node(found.src), node(found.dst), str(found.queue))
    size = (str(found.bytes), str(found.cpu))
    if isinstance(found, Flow):
        times = _passage_times(found, FLOW_STAGES)
        return _flow_line((*where, found.name, *size, *times))
    if found.dropped is not None:
        dashes = ("-",) * (1 + len(FRAME_STAGES))
        return _frame_line((*where, *size, *dashes, f"dropped: {found.dropped}"))
    return _frame_line((*where, *size, *_passage_times(found, FRAME_STAGES)))


def _passage_times(found: Flow | Frame, stages: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The whole, each part, and which was the longest."""

    def micros(nanos: int | None) -> str:
        return "-" if nanos is None else f"{nanos / 1000:.1f}"

    longest = found.longest
    share = 100 * longest.nanos // found.nanos if found.nanos else 0
    return (
        micros(found.nanos),
        *(micros(found.until(point)) for _, point in stages),
        f"{title(longest.name)} {share}%",
    )


def _flow_end(summary: Summary) -> str:
    if summary.dropped is None:
        parts, all_of_them = [f"{summary.delivered} messages delivered"], summary.delivered
    else:
        parts = [f"{summary.delivered} frames received", f"{summary.dropped} dropped"]
        all_of_them = summary.delivered + summary.dropped
    if summary.slow != all_of_them:
        parts.append(f"{summary.slow} slow enough")
    parts.append(f"{summary.shown} shown")
    left = summary.slow - summary.shown - summary.lost
    if left > 0:
        parts.append(f"{left} came too late to be")
    full = " (use a larger --buffer, or a filter)" if summary.lost else ""
    parts.append(f"{summary.lost} lost{full}")
    if summary.missed:
        parts.append(f"{summary.missed} missed by the kernel")
    return ", ".join(parts)
