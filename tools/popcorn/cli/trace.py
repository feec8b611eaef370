# SPDX-License-Identifier: GPL-2.0
"""popcornctl trace: the eBPF tools of popcorn_tracing."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import KERNEL, LINK, NODE, SECONDS, SIZE, Command, Group, parsed, settings
from popcorn.cli.output import coloured, histogram, print_json, print_json_line, table
from popcorn.units import format_micros

if TYPE_CHECKING:
    from collections.abc import Callable

    from popcorn_tracing.boot import Report as BootReport
    from popcorn_tracing.boot import Start
    from popcorn_tracing.common import Limits, LogHistogram, Machine, Times
    from popcorn_tracing.doorbell import Report as DoorbellReport
    from popcorn_tracing.flow import Flow, Frame, Summary
    from popcorn_tracing.heatmap import Column
    from popcorn_tracing.latency import Options, Report, Row
    from popcorn_tracing.net import Report as NetReport
    from popcorn_tracing.record import Summary as Recorded

TRACED = "popcorn.traced"
WORDS = "popcorn.trace.words"
OTHER = "popcorn.trace.kernel"

#: As popcorn_tracing.latency has them; here so that help needs no import.
STAGES = (
    "queued-doorbell",
    "doorbell-interrupt",
    "interrupt-poll",
    "poll-delivered",
    "queued-delivered",
)
BY = ("stage", "channel", "service", "cpu")


@click.group(cls=Group)
def trace() -> None:
    """Trace what the kernels do, with eBPF.

    Needs root, python3-bpfcc and the headers of the running kernel; latency --source fabric does
    not. A line on standard error says when a trace has begun, which takes some seconds if the
    program is compiled: it is kept in /var/cache/popcorn for the next time.
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
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line ends with the traced command."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def _in_kernel(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    ctx.meta[OTHER] = value


class Tracer(TracingCommand):
    """A tracer, which runs in another kernel if it is told to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        option = click.Option(
            ["--kernel"],
            type=KERNEL,
            expose_value=False,
            callback=_in_kernel,
            help="Trace in this kernel, whose image has what that takes; COMMAND runs here.",
        )
        self.params.insert(len(self.params) - 2, option)

    def invoke(self, ctx: click.Context) -> Any:
        """Run here, or there."""
        name = ctx.meta.get(OTHER)
        return super().invoke(ctx) if name is None else ctx.exit(_trace_in(name, self, ctx))


def _trace_in(name: str, tool: Tracer, ctx: click.Context) -> int:
    from popcorn.cli.execute import passed_on, stream
    from popcorn_tracing import ftrace, remote
    from popcorn_tracing import latency as latencies
    from popcorn_tracing.common import Limits, UsageError

    given, command = ctx.params, ctx.meta.get(TRACED, ())
    source = given.get("source")
    if source == "fabric":
        raise UsageError(
            "what the fabric counts is the same in all kernels: --kernel is for the other sources",
            f"leave out --kernel; --node {name} is for the messages of that kernel",
        )
    # For its errors, before anything is done.
    Limits(
        interval=given.get("interval"),
        duration=given.get("duration"),
        messages=given.get("messages"),
        command=command,
    )
    there = remote.reach(name)
    as_json = settings().json
    # A command's own output must not get into ours when that is JSON.
    output = sys.stderr if as_json or tool.name == "flow" else None
    if there.has_popcornctl():
        words = [str(tool.name), *_without_kernel(ctx.meta[WORDS])]
        if as_json and "--json" not in words:
            words.append("--json")
        sys.stdout.flush()
        with passed_on() as signals:
            return remote.run_there(
                there,
                words,
                command=command,
                output=stream(sys.stdout.fileno()),
                error=stream(sys.stderr.fileno()),
                command_output=output,
                signals=signals,
            )
    if tool.name != "latency" or source == "bpf":
        raise remote.without_popcornctl(there, str(tool.name))
    if source is None:
        _say(f"the image of '{name}' has no popcornctl: counted there by ftrace, by powers of two")
    options, limits = _latency_of(ctx, **given)
    with remote.latency_place(there, options.tsc_khz) as place:
        return latencies.run(
            options,
            limits,
            show=lambda report: _print_report(report, limits, _show_latency),
            ready=_say,
            output=output,
            opened=functools.partial(ftrace.opened, place=place),
        )


def _without_kernel(words: tuple[str, ...]) -> list[str]:
    """The words of a tracer but for --kernel and its name."""
    left, rest = [], iter(words)
    for word in rest:
        if word == "--kernel":
            next(rest, None)
        elif not word.startswith("--kernel="):
            left.append(word)
    return left


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

# Options of several tracers.

only_node = click.option(
    "--node", type=NODE, help="Only messages from or to this node, an id or a name."
)
only_service = click.option(
    "--service", metavar="NAME|ID", help="Only messages of this service: control, echo or an id."
)
for_so_long = click.option(
    "--duration", type=SECONDS, metavar="SECONDS", help="End after this time."
)
from_source = click.option(
    "--source",
    type=click.Choice(["bpf", "fabric"]),
    default="bpf",
    help="Who counts: a BPF program in this kernel, or every kernel in the fabric, always.",
)


without_cache = click.option(
    "--no-cache",
    "cache",
    flag_value=False,
    default=True,
    help="Compile the BPF program, whether it is in /var/cache/popcorn or not.",
)


def after_so_many(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option to end after so many of what a tracer counts."""
    return click.option(
        "--count",
        "messages",
        type=click.IntRange(1),
        metavar="N",
        help=f"End when so many {what}.",
    )


def every_interval(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments of a tracer that reports now and then."""
    reports = click.argument("reports", type=click.IntRange(1), required=False, metavar="[REPORTS]")
    return click.argument("interval", type=SECONDS, required=False)(reports(command))


def _limits(ctx: click.Context, **given: Any) -> Limits:
    """The limits of a tracer, with the command that follows `--`."""
    from popcorn_tracing.common import Limits

    return Limits(**given, command=ctx.meta.get(TRACED, ()))


def _print_report(report: Any, limits: Limits, show: Callable[[Any], None]) -> None:
    """For people by `show`, or as JSON: a line of it if more of them come."""
    if not settings().json:
        show(report)
    elif limits.interval:
        print_json_line(report.to_json())
    else:
        print_json(report.to_json())


#: Columns of a flow: header, its width, and which of flow.POINTS it ends at.
FLOW_STAGES = (("BELL", "doorbell"), ("IRQ", "interrupt"), ("POLL", "poll"), ("DELIV", "delivered"))
FLOW_FORMAT = (
    "{:>11}  {:<{node}}  {:<{node}}  {:>2}  {:<8}  {:>7}  {:>3}  {:>9}"
    "  {:>9}  {:>9}  {:>9}  {:>9}  {}"
)
FRAME_STAGES = (*FLOW_STAGES, ("STACK", "stack"))
FRAME_FORMAT = (
    "{:>11}  {:<{node}}  {:<{node}}  {:>2}  {:>7}  {:>3}  {:>9}"
    "  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {}"
)


@trace.command("latency", cls=Tracer)
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
    options, limits = _latency_of(ctx, node, service, **given)

    def show(report: Report) -> None:
        _print_report(report, limits, _show_latency)

    # A command's own output must not get into ours when that is JSON.
    output = sys.stderr if settings().json else None
    if source == "fabric":
        ctx.exit(fabric.run(options, limits, show=show, ready=_say, output=output))
    run = tracer.run
    if source == "ftrace":
        run = functools.partial(tracer.run, opened=ftrace.opened)
    elif source is None:
        run = functools.partial(tracer.run, instead=ftrace.opened)
    ctx.exit(run(options, limits, show=show, ready=_say, output=output))


def _latency_of(
    ctx: click.Context, node: str | None, service: str | None, **given: Any
) -> tuple[Options, Limits]:
    """What the options of latency say."""
    from popcorn_tracing import latency as tracer

    only = given.pop("stage")
    view = tracer.View(given.pop("by"), tracer.STAGES if only is None else (only,))
    del given["source"]
    options = tracer.Options(node, service, given.pop("tsc_khz"), view, given.pop("cache"))
    return options, _limits(ctx, **given)


@trace.command("flow", cls=Tracer)
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
    limits = _limits(ctx, duration=duration, messages=messages)
    as_json = settings().json

    def ready(text: str) -> None:
        _say(text)
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
            _say(_flow_end(summary))

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
    from popcorn_tracing.common import service_name
    from popcorn_tracing.flow import Flow

    def node(number: int | None) -> str:
        return "-" if number is None else str(number)

    where = (f"{found.when:.6f}", node(found.src), node(found.dst), str(found.queue))
    size = (str(found.bytes), str(found.cpu))
    if isinstance(found, Flow):
        times = _passage_times(found, FLOW_STAGES)
        return _flow_line((*where, service_name(found.service), *size, *times))
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
        f"{_title(longest.name)} {share}%",
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


@trace.command("doorbell", cls=Tracer)
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

    limits = _limits(ctx, **given)

    def show(report: DoorbellReport) -> None:
        _print_report(report, limits, _show_doorbells)

    output = sys.stderr if settings().json else None
    options = tracer.Options(node, cache)
    ctx.exit(tracer.run(options, limits, show=show, ready=_say, output=output))


def _show_doorbells(report: DoorbellReport) -> None:
    """What was sent and rung, what interrupted, and what the polling window did."""
    node = _namer(report.here)

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


@trace.command("net", cls=Tracer)
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

    limits = _limits(ctx, **given)

    def show(report: NetReport) -> None:
        _print_report(report, limits, _show_net)

    output = sys.stderr if settings().json else None
    options = tracer.Options(node, link, cache)
    ctx.exit(tracer.run(options, limits, show=show, ready=_say, output=output))


def _show_net(report: NetReport) -> None:
    """What was sent, what came and how long it took, and what was dropped."""
    node = _namer(report.here)

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


@trace.command("heatmap", cls=Tracer)
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
    limits = _limits(ctx, duration=duration)
    as_json = settings().json

    def ready(text: str) -> None:
        _say(text)

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


@trace.command("record", cls=Tracer)
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
    limits = _limits(ctx, duration=duration)

    def end(summary: Recorded) -> None:
        if settings().json:
            print_json(summary.to_json())
        else:
            _show_recorded(summary)

    output = sys.stderr if settings().json else None
    ctx.exit(tracer.run(options, limits, ready=_say, end=end, output=output))


def _show_recorded(summary: Recorded) -> None:
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


@trace.command("boot", cls=TracingCommand)
@for_so_long
@click.pass_context
def boot(ctx: click.Context, duration: float | None) -> None:
    """Show how long each stage of starting a kernel takes.

    From the memory that is taken until the kernel runs, as a waterfall. Needs root, but no BPF.

    With COMMAND, which is to start one, trace while it runs and exit with its status. Otherwise
    Ctrl-C ends the trace and prints the report.
    """
    from popcorn_tracing import boot as tracer

    limits = _limits(ctx, duration=duration)

    def show(report: BootReport) -> None:
        _print_report(report, limits, _show_starts)

    output = sys.stderr if settings().json else None
    ctx.exit(tracer.run(limits, show=show, ready=_say, output=output))


#: Columns that a whole start is drawn over.
WATERFALL_WIDTH = 50


def _show_starts(report: BootReport) -> None:
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


def _namer(here: Machine) -> Callable[[int], str]:
    """How a node is shown."""

    def node(number: int) -> str:
        name = here.names.get(number)
        return f"{number} ({name})" if name else str(number)

    return node


def _show_latency(report: Report) -> None:
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
                    _title(row.stage.name),
                    row.stage.times.count,
                    *_figures(row.stage.times),
                )
                for row in rows
            ],
        )
    for row in rows:
        if row.stage.backwards:
            of = " ".join((*_cells(report, row), _title(row.stage.name)))
            print(f"{of}: left out {row.stage.backwards} that ended before they began")
    _show_flows(report)
    for row in rows:
        if row.stage.times.count:
            words = zip(columns, _cells(report, row), strict=True)
            of = "".join(f"{name.lower()} {cell}, " for name, cell in words)
            print(f"\n{of}{_title(row.stage.name)}")
            histogram(row.stage.times.buckets(), "nsecs")
    print(flush=True)


def _show_heading(report: Report) -> None:
    node = _namer(report.here)
    if report.source == "fabric":
        print(f"{report.nr_delivered} messages delivered in {report.seconds:.1f} s, by all kernels")
        unseen = ", ".join(map(_title, report.unseen))
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
    from popcorn_tracing.common import service_name

    node = _namer(report.here)
    flows = [
        (
            what,
            node(flow.src),
            node(flow.dst),
            flow.queue,
            "-" if flow.service is None else service_name(flow.service),
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
    from popcorn_tracing.common import service_name

    if report.view.by == "channel":
        node = _namer(report.here)
        return node(row.of[0]), node(row.of[1]), str(row.of[2])
    if report.view.by == "service":
        return (service_name(row.of[0]),)
    return tuple(map(str, row.of))


def _title(stage: str) -> str:
    return stage.replace("-", " -> ")


def _figures(times: Times) -> tuple[object, ...]:
    from popcorn_tracing.common import FIGURES

    if not times.count:
        return ("-",) * (len(FIGURES) + 2)
    middle = (times.percentile(share) for share in FIGURES.values())
    return times.minimum, *middle, times.maximum


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
