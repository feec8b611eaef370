# SPDX-License-Identifier: GPL-2.0
"""popcornctl ping: round trips through the message layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from popcorn.cli.base import NODE, SECONDS, Command, settings
from popcorn.cli.output import histogram, print_json
from popcorn.units import format_micros

if TYPE_CHECKING:
    from popcorn.models import Node, PingResult

INTERVAL_MAX = 3600.0
TIMEOUT_MAX_MS = 10_000


@click.command(cls=Command)
@click.argument("node", type=NODE)
@click.option(
    "-c", "--count", type=click.IntRange(1), default=100, show_default=True, help="Round trips."
)
@click.option(
    "-i", "--interval", type=SECONDS, default="0", metavar="SECONDS", help="Pause between them."
)
@click.option(
    "-s",
    "--size",
    type=click.IntRange(0, 40),
    default=16,
    show_default=True,
    help="Bytes of payload.",
)
@click.option(
    "-W",
    "--timeout",
    type=SECONDS,
    default="1",
    metavar="SECONDS",
    help="Time to wait for each answer, at most 10; 1 by default.",
)
@click.pass_context
def ping(
    ctx: click.Context, node: str, count: int, interval: float, size: int, timeout: float
) -> None:
    """Measure round trips to a node.

    NODE is an id or a name. The messages go through shared memory and a doorbell interrupt, one
    after the other. Ctrl-C ends early and prints what was measured. Exit status 1 if nothing was
    answered.
    """
    from popcorn.client import Client

    timeout_ms = round(timeout * 1000)
    if not 1 <= timeout_ms <= TIMEOUT_MAX_MS:
        raise click.BadParameter("must be from 0.001 to 10 seconds", param_hint="'--timeout'")
    if interval > INTERVAL_MAX:
        raise click.BadParameter("must be at most an hour", param_hint="'--interval'")
    result: PingResult | None = None
    with Client() as client:
        target = client.node(node)
        try:
            for latest in client.ping(
                target.id,
                count,
                size=size,
                timeout_ms=timeout_ms,
                interval_us=round(interval * 1_000_000),
            ):
                result = latest
        except KeyboardInterrupt:
            if result is not None:
                _show(target, result, size)
            raise
    if result is not None:
        _show(target, result, size)
        ctx.exit(0 if result.n else 1)


def _show(target: Node, result: PingResult, size: int) -> None:
    if settings().json:
        print_json({"node": target.name, "size_bytes": size, **result.to_json()})
        return
    print(
        f"{target.name} (node {target.id}): {result.sent} sent, {result.n} answered,"
        f" {result.lost} lost"
    )
    times = (result.min, result.median, result.p99, result.max)
    if None in times:
        return
    shown = " / ".join(format_micros(value) for value in times if value is not None)
    print(f"round trip min/median/p99/max = {shown}")
    histogram(result.histogram(), "nsecs")
