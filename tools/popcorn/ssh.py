# SPDX-License-Identifier: GPL-2.0
"""Into a kernel by ssh, over the link."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from popcorn.errors import NotFoundError
from popcorn.link import private_address

if TYPE_CHECKING:
    from popcorn.link import Links
    from popcorn.models import Node

__all__ = ("ssh_address", "ssh_command")

Which = Callable[[str], str | None]


def ssh_address(node: Node, links: Links) -> str:
    """Where the node is on this kernel's link, unless it was given another address.

    NotFoundError if this kernel has no link, or the node has none.
    """
    if node.is_self:
        raise NotFoundError(f"'{node.name}' is this kernel")
    found = links.list()
    if not found:
        raise NotFoundError("this kernel has no link", "make it: popcornctl link add")
    for link in found:
        if node.id in link.peers:
            return private_address(link.machine, node.id).partition("/")[0]
    raise NotFoundError(
        f"'{node.name}' is not on the link",
        f"has its image popcorn_net? And is the link on: popcornctl link show {found[0].name}",
    )


def ssh_command(
    address: str, command: Sequence[str] = (), *, identity: str | None = None,
    which: Which = shutil.which,
) -> list[str]:  # fmt: skip
    """The program to run: ssh, or dropbear's client.

    A kernel makes its host key when it starts, and the way there is memory of this machine: the
    key is neither asked about nor kept.
    """
    key = ["-i", identity] if identity else []
    if which("ssh"):
        quiet = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        options = [word for option in quiet for word in ("-o", option)]
        return ["ssh", *options, *key, f"root@{address}", *command]
    if which("dbclient"):
        return ["dbclient", "-y", "-y", *key, f"root@{address}", *command]
    raise NotFoundError("there is no ssh here", "install openssh-client")
