# SPDX-License-Identifier: GPL-2.0
"""Options of several tracers, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import NODE, SECONDS
from popcorn.cli.trace.command import TRACED

if TYPE_CHECKING:
    from collections.abc import Callable

    from popcorn_tracing.common import Limits

#: As popcorn_tracing.latency has them; here so that help needs no import.
STAGES = (
    "queued-doorbell",
    "doorbell-interrupt",
    "interrupt-poll",
    "poll-delivered",
    "queued-delivered",
)
BY = ("stage", "channel", "service", "cpu")

only_node = click.option(
    "--node", type=NODE, help="Only messages from or to this node, an id or a name."
)
only_service = click.option(
    "--service",
    metavar="NAME|ID",
    help="Only messages of this service, a name (see: popcornctl service list) or an id.",
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


def limits_of(ctx: click.Context, **given: Any) -> Limits:
    """The limits of a tracer, with the command that follows `--`."""
    from popcorn_tracing.common import Limits

    return Limits(**given, command=ctx.meta.get(TRACED, ()))
