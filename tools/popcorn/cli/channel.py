# SPDX-License-Identifier: GPL-2.0
"""popcornctl channel: what goes between this kernel and each other."""

from __future__ import annotations

import click

from popcorn.cli.base import NODE, Group, settings
from popcorn.cli.output import print_json, table
from popcorn.units import format_size


@click.group(cls=Group)
def channel() -> None:
    """Show the channels of this kernel."""


@channel.command("list")
@click.argument("node", type=NODE, required=False)
def list_channels(node: str | None) -> None:
    """List the channels between this kernel and every other node, or NODE alone.

    SENT, BELLS (doorbells rung there), FULL (sends that found no room), WAITS (of them, those that
    slept) and SLOTS are of the way there; RECEIVED, BAD (messages that failed a check) and CALLS
    (answered in place) of the way here. AREA is what the other node has of this one's memory for
    long messages. SLEEPS says whether this kernel waits for a doorbell. --json has all.
    """
    from popcorn.client import Client

    with Client() as client:
        wanted = None if node is None else client.node(node).id
        names = {n.id: n.name for n in client.nodes()}
        channels = [c for c in client.channels() if wanted is None or c.node_id == wanted]
    if settings().json:
        print_json([{**c.to_json(), "node": names.get(c.node_id, "")} for c in channels])
        return
    table(
        (
            "NODE",
            "QUEUE",
            "SENT",
            "BELLS",
            "FULL",
            "WAITS",
            "SLOTS",
            "AREA",
            "RECEIVED",
            "BAD",
            "CALLS",
            "SLEEPS",
        ),
        (
            (
                names.get(c.node_id, str(c.node_id)),
                c.queue,
                c.sent,
                c.doorbells_sent,
                c.full,
                c.waits,
                c.ring_slots,
                format_size(c.area_bytes),
                c.received,
                c.rejected,
                c.answered,
                "yes" if c.armed else "no",
            )
            for c in channels
        ),
    )
