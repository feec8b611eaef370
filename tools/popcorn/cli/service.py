# SPDX-License-Identifier: GPL-2.0
"""popcornctl service: what the nodes can be sent."""

from __future__ import annotations

import click

from popcorn.cli.base import NODE, Group, settings
from popcorn.cli.output import print_json, table


@click.group(cls=Group)
def service() -> None:
    """Show the services of the nodes."""


@service.command("list")
@click.option("--node", type=NODE, help="Only those of this node, by id or name.")
def list_services(node: str | None) -> None:
    """List the services of every node that is up.

    Kernels talk through a service when both have it in the same version: then TALKS says yes.
    """
    from popcorn.client import Client

    with Client() as client:
        names = {n.id: n.name for n in client.nodes()}
        wanted = None if node is None else client.node(node).id
        services = [s for s in client.services() if wanted is None or s.node_id == wanted]
        here = client.fabric().node_id
    if settings().json:
        print_json([{**s.to_json(), "node": names.get(s.node_id, "")} for s in services])
        return
    table(
        ("NODE", "SERVICE", "VERSION", "ID", "TALKS"),
        (
            (
                names.get(s.node_id, str(s.node_id)),
                s.name,
                s.version,
                s.id,
                "(here)" if s.node_id == here else "yes" if s.talks else "no",
            )
            for s in services
        ),
    )
