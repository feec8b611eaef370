# SPDX-License-Identifier: GPL-2.0
"""Interfaces of kind `popcorn` and their addresses, by rtnetlink through pyroute2's IPRoute.

Attributes of the kind: kmod/uapi/popcorn_link.h. Written to what pyroute2 0.7.2 and 0.9 have in
common. Importing this module loads all of pyroute2, so only what deals with links does.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyroute2.iproute import IPRoute
from pyroute2.netlink import nla
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from popcorn.errors import (
    BusyError,
    ExistsError,
    KernelRefusedError,
    ModuleMissingError,
    NotFoundError,
    PermissionDeniedError,
    PopcornError,
)

__all__ = ("KIND", "Address", "Interface", "Rtnl")

KIND = "popcorn"
IFF_UP = 0x1

HINT_MODULE = "load the module: modprobe popcorn_net"
HINT_HOST = "load it: modprobe popcorn_host"
HINT_ROOT = "run it as root, or with CAP_NET_ADMIN"


class _PopcornData(nla):  # type: ignore[misc]
    """IFLA_INFO_DATA of the kind. pyroute2 wants this prefix for names in link() to work."""

    prefix = "IFLA_"
    nla_map = (
        ("IFLA_POPCORN_UNSPEC", "none"),
        ("IFLA_POPCORN_NODE", "uint32"),
        ("IFLA_POPCORN_MACHINE", "uint32"),
        ("IFLA_POPCORN_PEERS", "uint32"),
    )


@dataclass(frozen=True)
class Address:
    """An address of an interface, as `ip address` shows it."""

    interface: str
    address: str
    prefix: int

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


@dataclass(frozen=True)
class Interface:
    """A network interface. `node`, `machine` and `peers` (ids) are those of a popcorn link."""

    index: int
    name: str
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    is_up: bool = False
    carrier: bool = False
    master: int = 0
    below: int = 0
    node: int = 0
    machine: int = 0
    peers: tuple[int, ...] = ()
    stats: dict[str, int] = field(default_factory=dict)


_STATS = (
    "rx_packets",
    "rx_bytes",
    "rx_errors",
    "rx_dropped",
    "tx_packets",
    "tx_bytes",
    "tx_errors",
    "tx_dropped",
)


def _interface(message: Any) -> Interface:
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info is not None else None) or ""
    data = info.get_attr("IFLA_INFO_DATA") if kind == KIND else None

    def word(name: str) -> int:
        value = data.get_attr(name) if data is not None else None
        return int(value or 0)

    peers = word("IFLA_POPCORN_PEERS")
    stats = message.get_attr("IFLA_STATS64") or {}
    return Interface(
        index=int(message["index"]),
        name=message.get_attr("IFLA_IFNAME") or "",
        kind=kind,
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=int(message.get_attr("IFLA_MTU") or 0),
        is_up=bool(message["flags"] & IFF_UP),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        master=int(message.get_attr("IFLA_MASTER") or 0),
        below=int(message.get_attr("IFLA_LINK") or 0),
        node=word("IFLA_POPCORN_NODE"),
        machine=word("IFLA_POPCORN_MACHINE"),
        peers=tuple(bit for bit in range(32) if peers >> bit & 1),
        stats={name: int(stats.get(name, 0)) for name in _STATS},
    )


_ERRORS: dict[int, type[PopcornError]] = {
    errno.EEXIST: ExistsError,
    errno.EADDRINUSE: ExistsError,
    errno.ENODEV: NotFoundError,
    errno.ENOENT: NotFoundError,
    errno.EBUSY: BusyError,
}


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """The kernel's refusal as one of ours: its own words where it has some."""
    try:
        yield
    except NetlinkError as error:
        text = str(error.args[1]) if len(error.args) > 1 and error.args[1] else ""
        plain = text in ("", os.strerror(error.code))
        message = f"{what}: {text or os.strerror(error.code)}"
        if error.code in (errno.EPERM, errno.EACCES):
            raise PermissionDeniedError(
                f"{what}: not permitted" if plain else message, HINT_ROOT
            ) from error
        if "Unknown device type" in text:
            raise ModuleMissingError(
                f"{what}: the kernel module popcorn_net is not there", HINT_MODULE
            ) from error
        if "on no fabric" in text:
            raise ModuleMissingError(message, HINT_HOST) from error
        if error.code in _ERRORS:
            raise _ERRORS[error.code](message) from error
        raise KernelRefusedError(message, errno=error.code) from error
    except OSError as error:
        raise KernelRefusedError(f"{what}: {error.strerror}", errno=error.errno or 0) from error


class Rtnl:
    """Requests to rtnetlink in the network namespace of this process.

    `make` makes the IPRoute; tests put another in its place.
    """

    def __init__(self, make: Callable[[], Any] = lambda: IPRoute(ext_ack=True)) -> None:
        ifinfmsg.ifinfo.register_link_kind(module={KIND: _PopcornData})
        self._ip = make()

    def __enter__(self) -> Rtnl:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ip.close()

    def interfaces(self) -> tuple[Interface, ...]:
        """Every interface, by index."""
        with _refusals("interfaces"):
            found = [_interface(message) for message in self._ip.get_links()]
        return tuple(sorted(found, key=lambda interface: interface.index))

    def addresses(self) -> tuple[Address, ...]:
        """Every address of every interface."""
        with _refusals("addresses"):
            names = {m["index"]: m.get_attr("IFLA_IFNAME") for m in self._ip.get_links()}
            return tuple(
                Address(
                    names.get(message["index"], str(message["index"])),
                    message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS") or "",
                    int(message["prefixlen"]),
                )
                for message in self._ip.get_addr()
            )

    def add(self, name: str, *, mac: str | None, mtu: int | None, node: int | None) -> None:
        """Make a link of kind popcorn. ExistsError if the name or the node's place is taken."""
        wanted: dict[str, Any] = {"ifname": name, "kind": KIND}
        if mac is not None:
            wanted["address"] = mac
        if mtu is not None:
            wanted["mtu"] = mtu
        if node is not None:
            wanted["popcorn_node"] = node
        with _refusals(name):
            self._ip.link("add", **wanted)

    def set(self, index: int, name: str, **wanted: Any) -> None:
        """Change an interface: mtu, address (MAC), state ('up' or 'down'), ifname."""
        with _refusals(name):
            self._ip.link("set", index=index, **wanted)

    def delete(self, index: int, name: str) -> None:
        """Take an interface away."""
        with _refusals(name):
            self._ip.link("del", index=index)

    def change_address(self, command: str, index: int, name: str, address: str) -> None:
        """`command` is "add" or "del"; `address` has its prefix: 10.1.2.3/24."""
        host, _, prefix = address.partition("/")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with _refusals(f"{name}: {address}"):
            self._ip.addr(command, index=index, address=host, prefixlen=int(prefix), family=family)
