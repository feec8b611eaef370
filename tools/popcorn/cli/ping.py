# SPDX-License-Identifier: GPL-2.0
"""popcornctl ping: round trips through the message layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from popcorn.cli.base import NODE, RATE, SECONDS, SIZE, Command, settings
from popcorn.cli.output import histogram, print_json
from popcorn.units import format_micros

if TYPE_CHECKING:
    from popcorn.models import Node, PingResult

COUNT = 100
COUNT_FLOOD = 100_000
INTERVAL_MAX = 3600.0
RATE_MAX = 1_000_000
SIZE_MAX = 131_064
SIZE_MAX_IN_PLACE = 40
TIMEOUT_MAX_MS = 10_000
WINDOW = 64
WINDOW_MAX = 256


@dataclass(frozen=True)
class _Shape:
    """What the options ask for, checked."""

    size: int
    timeout_ms: int
    interval_us: int
    flood: bool
    window: int
    in_place: bool
    busy: bool


def _shape(
    interval: float | None,
    rate: float | None,
    size: int,
    timeout: float,
    flood: bool,
    window: int | None,
    in_place: bool,
    busy: bool,
) -> _Shape:
    for wrong, why in (
        (rate is not None and interval is not None, "--rate and --interval say the same"),
        (flood and rate is not None, "--flood goes as fast as it can: leave --rate away"),
        (flood and interval is not None, "--flood makes no pause: leave --interval away"),
        (window is not None and not flood, "--window is for --flood"),
        (flood and in_place, "--in-place is one call at a time: leave --flood away"),
        (busy and in_place, "a call looks for its answer by itself: leave --busy away"),
        (
            in_place and size > SIZE_MAX_IN_PLACE,
            f"--in-place has room for {SIZE_MAX_IN_PLACE} bytes: --size {size} is more",
        ),
    ):
        if wrong:
            raise click.UsageError(why)
    timeout_ms = round(timeout * 1000)
    if not 1 <= timeout_ms <= TIMEOUT_MAX_MS:
        raise click.BadParameter("must be from 0.001 to 10 seconds", param_hint="'--timeout'")
    if interval is not None and interval > INTERVAL_MAX:
        raise click.BadParameter("must be at most an hour", param_hint="'--interval'")
    if rate is not None and not 1 / INTERVAL_MAX <= rate <= RATE_MAX:
        raise click.BadParameter(
            f"must be from one in an hour to {RATE_MAX} in a second; more is --flood",
            param_hint="'--rate'",
        )
    if size > SIZE_MAX:
        raise click.BadParameter(f"must be at most {SIZE_MAX} bytes", param_hint="'--size'")
    seconds = 1 / rate if rate is not None else interval or 0.0
    return _Shape(
        size,
        timeout_ms,
        round(seconds * 1_000_000),
        flood,
        (window or WINDOW) if flood else 1,
        in_place,
        busy,
    )


@click.command(cls=Command)
@click.argument("node", type=NODE)
@click.option(
    "-c",
    "--count",
    type=click.IntRange(1),
    help=f"Round trips; {COUNT} by default, {COUNT_FLOOD} with --flood.",
)
@click.option(
    "-i", "--interval", type=SECONDS, metavar="SECONDS", help="Time from one to the next."
)
@click.option("--rate", type=RATE, metavar="N/s", help="So many in a second.")
@click.option(
    "-s",
    "--size",
    type=SIZE,
    default="16",
    metavar="BYTES",
    help=f"Bytes of payload, like 40 or 64K, at most {SIZE_MAX}; 16 by default.",
)
@click.option(
    "-W",
    "--timeout",
    type=SECONDS,
    default="1",
    metavar="SECONDS",
    help="Time to wait for each answer, at most 10; 1 by default.",
)
@click.option("-f", "--flood", is_flag=True, help="Many at once, as fast as they go.")
@click.option(
    "--window",
    type=click.IntRange(1, WINDOW_MAX),
    help=f"How many at once with --flood; {WINDOW} by default.",
)
@click.option(
    "--in-place", is_flag=True, help="Make calls, which are answered in the request's own slot."
)
@click.option(
    "--busy", is_flag=True, help="Look for answers all the time; do not sleep until they come."
)
@click.pass_context
def ping(
    ctx: click.Context,
    node: str,
    count: int | None,
    interval: float | None,
    rate: float | None,
    size: int,
    timeout: float,
    flood: bool,
    window: int | None,
    in_place: bool,
    busy: bool,
) -> None:
    """Measure round trips to a node.

    NODE is an id or a name. The messages go through shared memory, and a doorbell interrupt when
    the node sleeps, one after the other. With --flood there are many on the way, and the rate is
    what counts. Ctrl-C ends early and prints what was measured. Exit status 1 if nothing was
    answered.
    """
    from popcorn.client import Client
    from popcorn.errors import PopcornError

    shape = _shape(interval, rate, size, timeout, flood, window, in_place, busy)
    result: PingResult | None = None
    with Client() as client:
        target = client.node(node)
        try:
            for latest in client.ping(
                target.id,
                count or (COUNT_FLOOD if flood else COUNT),
                size=shape.size,
                timeout_ms=shape.timeout_ms,
                interval_us=shape.interval_us,
                window=shape.window,
                call=shape.in_place,
                busy=shape.busy,
            ):
                result = latest
        except (KeyboardInterrupt, PopcornError):
            # What was measured until then is worth showing.
            if result is not None:
                _show(target, result, shape)
            raise
    if result is not None:
        _show(target, result, shape)
        ctx.exit(0 if result.n else 1)


def _show(target: Node, result: PingResult, shape: _Shape) -> None:
    rate = result.per_second
    if settings().json:
        print_json(
            {
                "node": target.name,
                "size_bytes": shape.size,
                **result.to_json(),
                "window": shape.window,
                "in_place": shape.in_place,
                "busy": shape.busy,
                "bytes_per_second": None if rate is None else round(rate * shape.size),
            }
        )
        return
    print(
        f"{target.name} (node {target.id}): {result.sent} sent, {result.n} answered,"
        f" {result.lost} lost"
    )
    times = (result.min, result.median, result.p99, result.max)
    if None in times:
        return
    if shape.flood and rate is not None:
        print(
            f"{rate:.0f} messages/s and {rate * shape.size / 1e6:.1f} MB/s each way,"
            f" {shape.window} at once; no room {result.full} times"
        )
    shown = " / ".join(format_micros(value) for value in times if value is not None)
    print(f"round trip min/median/p99/max = {shown}")
    histogram(result.histogram(), "nsecs")
