# SPDX-License-Identifier: GPL-2.0
"""popcornctl node: the members of the fabric."""

from __future__ import annotations

import click

from popcorn.cli.base import NODE, Group, settings
from popcorn.cli.output import pairs, print_json, table


@click.group(cls=Group)
def node() -> None:
    """Show the members of the fabric."""


@node.command("list")
def list_nodes() -> None:
    """List the nodes: every kernel that has a slot in the fabric."""
    from popcorn.client import Client
    from popcorn.models import label

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
                label(n.state),
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
    """Show all about one node, by id or name."""
    from popcorn.client import Client

    with Client() as client:
        found = client.node(node)
    shown = found.to_json()
    if settings().json:
        print_json(shown)
        return
    pairs((name, "-" if value in (None, "") else value) for name, value in shown.items())
