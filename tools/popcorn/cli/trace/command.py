# SPDX-License-Identifier: GPL-2.0
"""Commands that trace while another one runs, in this kernel or in another one."""

from __future__ import annotations

import functools
import sys
from typing import Any

import click

from popcorn.cli.base import KERNEL, Command, settings
from popcorn.cli.trace.report import print_report, say

TRACED = "popcorn.traced"
WORDS = "popcorn.trace.words"
OTHER = "popcorn.trace.kernel"


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
    from popcorn.cli.trace import latency
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
        say(f"the image of '{name}' has no popcornctl: counted there by ftrace, by powers of two")
    options, limits = latency.options_of(ctx, **given)
    with remote.latency_place(there, options.tsc_khz) as place:
        return latencies.run(
            options,
            limits,
            show=lambda report: print_report(report, limits, latency.show_report),
            ready=say,
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
