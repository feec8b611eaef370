# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel dmesg: the log of a kernel, out of its memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import KERNEL, Command, settings
from popcorn.cli.output import print_json, print_json_line

if TYPE_CHECKING:
    from popcorn.client import Client
    from popcorn.postmortem import Record
    from popcorn.postmortem.dmesg import Style


def _levels(ctx: click.Context, param: click.Parameter, value: str | None) -> frozenset[int] | None:
    from popcorn.postmortem.dmesg import LEVELS

    if value is None:
        return None
    words = [word.strip() for word in value.split(",")]
    for word in words:
        if word not in LEVELS:
            raise click.BadParameter(f"'{word}' is not one of {', '.join(LEVELS)}", ctx, param)
    return frozenset(LEVELS.index(word) for word in words)


@click.command("dmesg", cls=Command)
@click.argument("name", type=KERNEL)
@click.option(
    "-f",
    "-w",
    "--follow",
    is_flag=True,
    help="Print new messages as they come, until the kernel has ended.",
)
@click.option("-T", "--ctime", is_flag=True, help="Print times of the wall clock, about right.")
@click.option("-t", "--notime", is_flag=True, help="Print no times.")
@click.option("-x", "--decode", is_flag=True, help="Print facility and level as words.")
@click.option("-r", "--raw", is_flag=True, help="Print the priority as a number, like /proc/kmsg.")
@click.option(
    "-l",
    "--level",
    "levels",
    callback=_levels,
    metavar="LIST",
    help="Only messages of these levels, like err,warn.",
)
def dmesg(
    name: str,
    follow: bool,
    ctime: bool,
    notime: bool,
    decode: bool,
    raw: bool,
    levels: frozenset[int] | None,
) -> None:
    """Print the log of a kernel, alive, hung or dead.

    It is read out of the kernel's memory, from the first line of its boot, and needs nothing of
    that kernel. Lines are printed as by dmesg(1). What could not be read is said on standard error.

    With --json and --follow every message is one line of JSON.
    """
    if raw and (ctime or notime or decode):
        raise click.UsageError("--raw goes with none of --ctime, --notime and --decode")
    if ctime and notime:
        raise click.UsageError("--ctime and --notime exclude each other")
    from popcorn.client import Client
    from popcorn.postmortem.dmesg import Style

    style = Style(times=not notime, decode=decode, raw=raw)
    with Client() as client:
        if follow:
            _follow(client, name, style, ctime, levels)
        else:
            _print(client, name, style, ctime, levels)


def _wanted(record: Record, levels: frozenset[int] | None) -> bool:
    """Whether to print it; a message whose level is not known always is."""
    return levels is None or record.level is None or record.level in levels


def _on_the_wall(style: Style, booted: float | None, name: str) -> Style:
    from dataclasses import replace

    from popcorn.errors import NotFoundError

    if booted is None:
        raise NotFoundError(
            f"it is not known what time it was in the log of kernel '{name}'",
            "it is known of a kernel that runs, crashed or stopped; leave out --ctime",
        )
    return replace(style, booted=booted)


def _print(
    client: Client, name: str, style: Style, ctime: bool, levels: frozenset[int] | None
) -> None:
    from popcorn.log import read_log
    from popcorn.postmortem.dmesg import lines

    log = read_log(client, name)
    records = [record for record in log.records if _wanted(record, levels)]
    if settings().json:
        from popcorn.log import record_to_json

        shown: dict[str, Any] = log.to_json()
        shown["records"] = [record_to_json(record) for record in records]
        print_json(shown)
        return
    if ctime:
        style = _on_the_wall(style, log.booted, log.kernel.name)
    for record in records:
        print(lines(record, style))
    for problem in log.problems:
        _warn(log.kernel.name, problem)


def _follow(
    client: Client, name: str, style: Style, ctime: bool, levels: frozenset[int] | None
) -> None:
    from popcorn.log import Lost, follow_log, read_log, record_to_json
    from popcorn.postmortem.dmesg import lines

    if ctime and not settings().json:
        style = _on_the_wall(style, read_log(client, name).booted, name)
    for item in follow_log(client, name):
        if isinstance(item, Lost):
            if settings().json:
                print_json_line({"lost": item.count, "reason": item.reason})
            else:
                _warn(name, f"{item.count} of its records: {item.reason}")
        elif _wanted(item, levels):
            if settings().json:
                print_json_line(record_to_json(item))
            else:
                print(lines(item, style), flush=True)


def _warn(name: str, problem: str) -> None:
    sys.stdout.flush()
    print(f"popcornctl: log of '{name}' is not whole: {problem}", file=sys.stderr)
