# SPDX-License-Identifier: GPL-2.0
"""popcornctl link: the network interface on the segment of all kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.base import LINK, Group, parsed, settings
from popcorn.cli.output import pairs, print_json, table
from popcorn.link import (
    DEFAULT_NAME,
    MTU_MAX,
    MTU_MIN,
    check_name,
    link_local,
    parse_interface_address,
    parse_mac,
    private_address,
)
from popcorn.uplink import parse_uplink

if TYPE_CHECKING:
    from popcorn.link import Link

NEW_NAME = parsed("name", check_name)
MAC = parsed("mac", parse_mac)
INTERFACE_ADDRESS = parsed("address/prefix", parse_interface_address)
UPLINK = parsed("uplink", parse_uplink)
MTU = click.IntRange(MTU_MIN, MTU_MAX)


@click.group(cls=Group)
def link() -> None:
    """Make and show the network between the kernels."""


def _node_names() -> dict[int, str]:
    """Names where the kernel can be asked for them."""
    from popcorn.client import Client
    from popcorn.errors import PopcornError

    try:
        with Client() as client:
            return {node.id: node.name for node in client.nodes()}
    except (PopcornError, OSError):
        return {}


def _peers(found: Link, names: dict[int, str]) -> list[str]:
    return [names.get(peer, str(peer)) for peer in found.peers]


def _json(found: Link, names: dict[int, str]) -> dict[str, Any]:
    return {**found.to_json(), "peer_names": _peers(found, names)}


@link.command("list")
def list_links() -> None:
    """List the links of this kernel: one, or none."""
    from popcorn.link import Links

    with Links() as links:
        found = links.list()
    names = _node_names() if found else {}
    if settings().json:
        print_json([_json(one, names) for one in found])
        return
    table(
        ("NAME", "STATE", "MAC", "MTU", "ADDRESSES", "PEERS"),
        (
            (
                one.name,
                one.state,
                one.mac,
                one.mtu,
                " ".join(one.addresses) or "-",
                " ".join(_peers(one, names)) or "-",
            )
            for one in found
        ),
    )


@link.command("show")
@click.argument("name", type=LINK, default=DEFAULT_NAME)
def show_link(name: str) -> None:
    """Show all about a link, and where the others are.

    Peers are shown with the addresses that they have unless they were given others.
    """
    from popcorn.link import Links

    with Links() as links:
        found = links.get(name)
    names = _node_names()
    if settings().json:
        print_json(_json(found, names))
        return
    rows: list[tuple[str, object]] = [
        ("name", found.name),
        ("state", found.state),
        ("mac", found.mac),
        ("mtu", found.mtu),
        ("node", f"{found.node_id} {names.get(found.node_id, '')}".rstrip()),
    ]
    rows += [("address", address) for address in found.addresses] or [("address", "-")]
    for peer, peer_name in zip(found.peers, _peers(found, names), strict=True):
        address = private_address(found.machine, peer).partition("/")[0]
        rows.append(("peer", f"{peer} {peer_name}  {address}"))
    rows += [("used by", other) for other in found.used_by]
    rows += list(found.stats.items())
    pairs(rows)


@link.command("add")
@click.argument("name", type=NEW_NAME, default=DEFAULT_NAME)
@click.option(
    "--address",
    "addresses",
    type=INTERFACE_ADDRESS,
    multiple=True,
    help="Give it this address instead of the private one; may be repeated.",
)
@click.option("--no-address", is_flag=True, help="Give it none but the link-local one.")
@click.option("--mac", type=MAC, help="MAC address, instead of the one made from machine and node.")
@click.option("--mtu", type=MTU, help="Longest packet in bytes; 1500 by default.")
@click.option(
    "--uplink",
    type=UPLINK,
    metavar="nat|bridge:NAME",
    help="Give the other kernels the outside: forward with this kernel's address, or be a port of"
    " that bridge. Undone when the link is taken away.",
)
@click.option("--down", is_flag=True, help="Do not switch it on.")
@click.option(
    "--node",
    type=click.IntRange(min=0),
    metavar="ID",
    help="Which of the nodes in this kernel, where it has several (loopback).",
)
def add_link(
    name: str,
    addresses: tuple[str, ...],
    no_address: bool,
    mac: str | None,
    mtu: int | None,
    uplink: str | None,
    down: bool,
    node: int | None,
) -> None:
    """Make this kernel's link and switch it on.

    It gets a private address that follows from the machine and the node, so kernels find each
    other without anything to configure. A started kernel's image does the same there.
    """
    from popcorn.link import Links

    if addresses and no_address:
        raise click.UsageError("--address and --no-address exclude each other")
    chosen = addresses if addresses or no_address else None
    with Links() as links:
        made = links.add(
            name, addresses=chosen, mac=mac, mtu=mtu, node=node, up=not down, uplink=uplink
        )
    if settings().json:
        print_json(_json(made, _node_names()))
        return
    # The kernel shows the link-local one when there is a peer.
    shown = [a for a in made.addresses if not a.startswith("fe80:")] + [link_local(made.mac)]
    print(f"{made.name}: {made.mac}, {' '.join(shown)}, {made.state}")


@link.command("set")
@click.argument("name", type=LINK)
@click.option("--mac", type=MAC, help="MAC address.")
@click.option("--mtu", type=MTU, help="Longest packet in bytes.")
@click.option("--up/--down", default=None, help="Switch it on or off.")
@click.option(
    "--add-address",
    "add_addresses",
    type=INTERFACE_ADDRESS,
    multiple=True,
    help="Give it one more address; may be repeated.",
)
@click.option(
    "--remove-address",
    "remove_addresses",
    type=INTERFACE_ADDRESS,
    multiple=True,
    help="Take an address from it; may be repeated.",
)
@click.option("--name", "new_name", type=NEW_NAME, help="New name; it must be down for that.")
def set_link(
    name: str,
    mac: str | None,
    mtu: int | None,
    up: bool | None,
    add_addresses: tuple[str, ...],
    remove_addresses: tuple[str, ...],
    new_name: str | None,
) -> None:
    """Change a link."""
    from popcorn.link import Links

    nothing = mac is None and mtu is None and up is None and new_name is None
    if nothing and not add_addresses and not remove_addresses:
        raise click.UsageError("nothing to change: give an option")
    with Links() as links:
        changed = links.set(
            name,
            mac=mac,
            mtu=mtu,
            up=up,
            new_name=new_name,
            add_addresses=add_addresses,
            remove_addresses=remove_addresses,
        )
    if settings().json:
        print_json(_json(changed, _node_names()))


@link.command("del")
@click.argument("name", type=LINK)
@click.option("--force", is_flag=True, help="Even if a bridge or a VLAN stands on it.")
def del_link(name: str, force: bool) -> None:
    """Take a link away; the other kernels see it go."""
    from popcorn.link import Links

    with Links() as links:
        links.delete(name, force=force)
