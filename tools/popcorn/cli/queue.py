# SPDX-License-Identifier: GPL-2.0
"""popcornctl queue: how this kernel waits for messages."""

from __future__ import annotations

import click

from popcorn.cli.base import Group, settings
from popcorn.cli.output import print_json, table
from popcorn.units import format_micros


@click.group(cls=Group)
def queue() -> None:
    """Show the queues of this kernel."""


@queue.command("list")
def list_queues() -> None:
    """List the queues of this kernel, each of which polls its channels from all nodes.

    BELLS are doorbells that interrupted it, EMPTY those of them that no message came with. A queue
    polls on for its WINDOW before it sleeps; HITS are messages that came meanwhile and needed no
    doorbell.
    """
    from popcorn.client import Client

    with Client() as client:
        queues = client.queues()
    if settings().json:
        print_json([q.to_json() for q in queues])
        return
    table(
        (
            "QUEUE",
            "CPU",
            "IRQ",
            "POLLS",
            "MESSAGES",
            "BELLS",
            "EMPTY",
            "SLEEPS",
            "WINDOW",
            "HITS",
        ),
        (
            (
                q.queue,
                q.cpu,
                q.irq,
                q.polls,
                q.poll_messages,
                q.doorbell_irqs,
                q.spurious,
                q.sleeps,
                format_micros(q.window_ns / 1000),
                q.window_hits,
            )
            for q in queues
        ),
    )
