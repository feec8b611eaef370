# SPDX-License-Identifier: GPL-2.0
"""popcornctl monitor: events as they come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from popcorn.cli.base import Command, settings
from popcorn.cli.output import print_json_line, state

if TYPE_CHECKING:
    from popcorn.models import Event

TYPES = ("kernel", "node", "service", "cpu", "memory")


def _types(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    if value is None:
        return TYPES
    wanted = tuple(word.strip() for word in value.split(","))
    for word in wanted:
        if word not in TYPES:
            raise click.BadParameter(f"'{word}' is not one of {', '.join(TYPES)}", ctx, param)
    return wanted


@click.command(cls=Command)
@click.option(
    "--type", "types", callback=_types, metavar="LIST", help=f"Only these: {','.join(TYPES)}."
)
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time.")
@click.option("-n", "--count", type=click.IntRange(1), help="Stop after this many events.")
def monitor(types: tuple[str, ...], timestamps: bool, count: int | None) -> None:
    """Print events as they come.

    Kernel, node and service events come from the module, CPU, memory and node device events from
    udev. A service is up when another node has the same as this kernel, so that they talk. With
    --json every event is one line. If events were lost because they came faster than they were
    read, an event of kind resync says so, followed by the present state of everything. When a
    kernel crashed or is hung, the last lines of its log follow.
    """
    from popcorn.client import Client
    from popcorn.monitor import watch

    with Client() as client:
        for number, event in enumerate(watch(client, types), start=1):
            log = _log(event)
            if settings().json:
                shown = event.to_json()
                if log is not None:
                    shown["log_tail"] = list(log)
                print_json_line(shown)
            else:
                print("\n    ".join((_line(event, timestamps), *(log or ()))), flush=True)
            if count is not None and number >= count:
                return


def _log(event: Event) -> tuple[str, ...] | None:
    """The end of the log of a kernel that has just died; None of anything else."""
    from popcorn.log import DEAD, last_lines
    from popcorn.models import Kernel

    if isinstance(event.value, Kernel) and event.value.state in DEAD:
        return None if event.action == "released" else last_lines(event.value)
    return None


def _line(event: Event, timestamps: bool) -> str:
    words = []
    if timestamps:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(event.time))
        words.append(f"{seconds}.{int(event.time * 1000) % 1000:03d}")
    words.append(f"{event.kind:<7}")
    words.append(f"{event.action:<8}")
    if event.name:
        words.append(event.name)
    if event.kind == "service":
        words.append(f"node {getattr(event.value, 'node_id', '?')}")
    if event.state:
        words.append(state(event.state))
    reason = getattr(event.value, "reason", "")
    if reason and reason != event.state:
        words.append(f"({reason})")
    if event.source != "netlink":
        words.append(f"[{event.source}]")
    return " ".join(words).rstrip()
