# SPDX-License-Identifier: GPL-2.0
"""popcornctl node: the members of the fabric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from popcorn.cli.base import NODE, Group, settings
from popcorn.cli.output import histogram, pairs, print_json, table
from popcorn.units import format_micros

if TYPE_CHECKING:
    from collections.abc import Callable

    from popcorn.models import Latency, Node

WINDOW_MAX_US = 1_000_000
STAGES = ("deliver", "doorbell", "poll")


@click.group(cls=Group)
def node() -> None:
    """Show the members of the fabric, and set up this one."""


def _state(found: Node) -> str:
    from popcorn.models import label

    return label(found.state) + (", shut" if found.shut else "")


@node.command("list")
def list_nodes() -> None:
    """List the nodes: every kernel that has a slot in the fabric.

    A node that sent garbage is shut until it comes back: nothing is taken from it any more.
    """
    from popcorn.client import Client

    with Client() as client:
        nodes = client.nodes()
    if settings().json:
        print_json([n.to_json() for n in nodes])
        return
    table(
        ("ID", "NAME", "STATE", "CPUS", "RELEASE", "SENT", "RECEIVED", "REJECTED"),
        (
            (
                n.id,
                n.name + (" (here)" if n.is_self else ""),
                _state(n),
                n.nr_cpus,
                n.release or "-",
                n.sent,
                n.received,
                n.rejected,
            )
            for n in nodes
        ),
    )


@node.command("show")
@click.argument("node", type=NODE)
def show_node(node: str) -> None:
    """Show all about one node, by id or name.

    How a node waits for messages is known of this kernel's own only.
    """
    from popcorn.client import Client

    with Client() as client:
        found = client.node(node)
    shown = found.to_json()
    if settings().json:
        print_json(shown)
        return
    pairs((name, "-" if value in (None, "") else value) for name, value in shown.items())


@node.command("set")
@click.option(
    "--poll-window",
    type=click.IntRange(0, WINDOW_MAX_US),
    metavar="MICROSECONDS",
    help="Longest time to poll for more messages before sleeping; 0 to sleep at once.",
)
@click.option(
    "--threaded",
    type=click.Choice(["on", "off"]),
    help="Poll in kernel threads, which can be given priorities and CPUs.",
)
def set_node(poll_window: int | None, threaded: str | None) -> None:
    """Change how this kernel's node waits for messages.

    What is not given stays. It holds until the module is unloaded.
    """
    from popcorn.client import Client

    if poll_window is None and threaded is None:
        raise click.UsageError("nothing to set: give --poll-window or --threaded")
    with Client() as client:
        client.node_set(
            window_max_us=poll_window, threaded=None if threaded is None else threaded == "on"
        )
        found = client.node(client.fabric().node_id)
    if settings().json:
        print_json(found.to_json())
        return
    how = "in threads" if found.threaded else "in softirqs"
    window = f"for at most {found.window_max_us} µs" if found.window_max_us else "no time"
    cost = ""
    if found.doorbell_cost_ns:
        cost = f"; a doorbell costs {format_micros(found.doorbell_cost_ns / 1000)}"
    print(f"{found.name} polls {how}, {window} before it sleeps{cost}")


@node.command("latency")
@click.argument("node", type=NODE, required=False)
@click.option("--stage", type=click.Choice(STAGES), help="Only this stage.")
def latency(node: str | None, stage: str | None) -> None:
    """Show how long messages took, between all kernels or from and to NODE.

    Every kernel counts in the fabric, always: deliver is the time from sending to delivery, of
    which doorbell (from ringing to the interrupt) and poll (from there to the poll) are parts when
    the receiver slept. The counts are by powers of two of TSC cycles, so what is shown in
    nanoseconds are estimates, and since the receiver joined.
    """
    from popcorn.client import Client
    from popcorn.models import label

    with Client() as client:
        wanted = None if node is None else client.node(node).id
        names = {n.id: n.name for n in client.nodes()}
        found = [
            item
            for item in client.latencies()
            if wanted in (None, item.src, item.dst) and stage in (None, label(item.stage))
        ]

    def name(number: int) -> str:
        return names.get(number, str(number))

    if settings().json:
        named = ({"from": name(item.src), "to": name(item.dst)} for item in found)
        print_json([{**item.to_json(), **more} for item, more in zip(found, named, strict=True)])
        return
    _show_latencies(found, name)


def _show_latencies(found: list[Latency], name: Callable[[int], str]) -> None:
    from popcorn.models import label

    table(
        ("FROM", "TO", "QUEUE", "STAGE, NSECS", "N", "~MIN", "~MEDIAN", "~P99", "~MAX"),
        (
            (
                name(item.src),
                name(item.dst),
                item.queue,
                label(item.stage),
                item.n,
                item.min,
                item.median,
                item.p99,
                item.max,
            )
            for item in found
        ),
    )
    for item in found:
        print(f"\n{name(item.src)} to {name(item.dst)}, queue {item.queue}: {label(item.stage)}")
        histogram(item.histogram(), "nsecs")
