# SPDX-License-Identifier: GPL-2.0
"""Links: the network interface that each kernel has on the segment of all kernels of the machine.

Every link has two addresses by itself. The link-local one (IPv6) the kernel makes from the MAC
address. The private one is 10.X.Y.N/24: X and Y are the lowest 16 bits of the machine's number,
which is in the MAC address too, and N is the node's id plus one. So kernels find each other without
a server, and two machines rarely have the same subnet.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from popcorn.errors import BusyError, ExistsError, NotFoundError, PlanError

if TYPE_CHECKING:
    from popcorn.rtnl import Interface, Rtnl
    from popcorn.uplink import Nat

__all__ = (
    "DEFAULT_NAME",
    "Link",
    "Links",
    "check_name",
    "link_local",
    "parse_interface_address",
    "parse_mac",
    "private_address",
)

DEFAULT_NAME = "popcorn0"
NAME_MAX = 15
"""IFNAMSIZ less the NUL."""
MTU_MIN = 68
MTU_MAX = 65520
PRIVATE_PREFIX = 24


def check_name(name: str) -> str:
    """A name that an interface can have, or ValueError."""
    if len(name.encode()) > NAME_MAX:
        raise ValueError(f"'{name}' is too long for an interface: at most {NAME_MAX} bytes")
    if not name or name in (".", "..") or re.search(r"[\s/:%]", name):
        raise ValueError(f"'{name}' is not a name for an interface")
    return name


def parse_mac(text: str) -> str:
    """A MAC address that an interface can have, in lower case, or ValueError."""
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise ValueError(f"'{text}' is not a MAC address: write it like 02:50:00:00:00:01")
    if int(text[:2], 16) & 1:
        raise ValueError(f"'{text}' is the address of a group, not of an interface")
    if not int(text.replace(":", ""), 16):
        raise ValueError(f"'{text}' is not the address of an interface")
    return text.lower()


def parse_interface_address(text: str) -> str:
    """An IP address with its prefix, as the kernel writes it, or ValueError."""
    if "/" not in text:
        raise ValueError(f"'{text}' has no prefix: write it like 10.1.2.3/24")
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError:
        raise ValueError(f"'{text}' is not an address: write it like 10.1.2.3/24") from None


def private_address(machine: int, node: int) -> str:
    """The private address of a node: 10.X.Y.N/24."""
    return f"10.{machine >> 8 & 0xFF}.{machine & 0xFF}.{node + 1}/{PRIVATE_PREFIX}"


def link_local(mac: str) -> str:
    """The IPv6 link-local address that belongs to a MAC address (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    host = bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + host)) + "/64"


@dataclass(frozen=True)
class Link:
    """A link. `peers` are the ids of the nodes that it reaches; `used_by` are interfaces."""

    name: str
    state: str
    mac: str
    mtu: int
    node_id: int
    machine: int
    peers: tuple[int, ...]
    addresses: tuple[str, ...]
    used_by: tuple[str, ...]
    stats: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "name": self.name,
            "state": self.state,
            "mac": self.mac,
            "mtu": self.mtu,
            "node_id": self.node_id,
            "peers": list(self.peers),
            "addresses": list(self.addresses),
            "used_by": list(self.used_by),
            **dict(self.stats),
        }


def _state(interface: Interface) -> str:
    if not interface.is_up:
        return "down"
    return "up" if interface.carrier else "no-peer"


def _open() -> Rtnl:
    from popcorn.rtnl import Rtnl

    return Rtnl()


def _nat() -> Nat:
    from popcorn.uplink import Nat

    return Nat()


class Links:
    """The links of this kernel, in the network namespace of this process."""

    def __init__(
        self, make: Callable[[], Rtnl] = _open, make_nat: Callable[[], Nat] = _nat
    ) -> None:
        self._rtnl = make()
        self._nat = make_nat()

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *exc: object) -> None:
        self._rtnl.__exit__(*exc)

    def list(self) -> tuple[Link, ...]:
        """All links, by index."""
        interfaces = self._rtnl.interfaces()
        links = [i for i in interfaces if i.kind == "popcorn"]
        addresses = self._rtnl.addresses() if links else ()
        names = {i.index: i.name for i in interfaces}
        return tuple(
            Link(
                name=link.name,
                state=_state(link),
                mac=link.mac,
                mtu=link.mtu,
                node_id=link.node,
                machine=link.machine,
                peers=link.peers,
                addresses=tuple(str(a) for a in addresses if a.interface == link.name),
                used_by=(
                    *((names.get(link.master, str(link.master)),) if link.master else ()),
                    *(i.name for i in interfaces if i.below == link.index and i is not link),
                ),
                stats=link.stats,
            )
            for link in links
        )

    def get(self, name: str) -> Link:
        """The link of that name. NotFoundError if there is none, or if it is something else."""
        for link in self.list():
            if link.name == name:
                return link
        self._find(name)
        raise NotFoundError(f"there is no link '{name}'", "see: popcornctl link list")

    def _find(self, name: str) -> Interface:
        for interface in self._rtnl.interfaces():
            if interface.name == name:
                if interface.kind != "popcorn":
                    raise NotFoundError(
                        f"interface '{name}' is no link of Popcorn", "see: popcornctl link list"
                    )
                return interface
        raise NotFoundError(f"there is no link '{name}'", "see: popcornctl link list")

    def add(
        self,
        name: str = DEFAULT_NAME,
        *,
        addresses: Sequence[str] | None = None,
        mac: str | None = None,
        mtu: int | None = None,
        node: int | None = None,
        up: bool = True,
        uplink: str | None = None,
    ) -> Link:
        """Make this kernel's link, give it addresses and switch it on: all of it or nothing.

        `addresses` with their prefixes; None for the private one, empty for none. `uplink` is
        `nat`, or `bridge:NAME` for a port of that bridge, which has no address of its own.
        ExistsError if there is an interface of that name, or this node has a link; BusyError if an
        address is in use here; NotFoundError for a bridge that is none.
        """
        bridge = self._bridge(uplink)
        if bridge is not None and addresses is None:
            addresses = ()
        if any(i.name == name for i in self._rtnl.interfaces()):
            raise ExistsError(
                f"there is an interface '{name}' already", "see: popcornctl link list"
            )
        self._rtnl.add(name, mac=mac, mtu=mtu, node=node)
        made = self._find(name)
        try:
            wanted = addresses
            if wanted is None:
                wanted = (private_address(made.machine, made.node),)
            for address in wanted:
                self._check_free(address, name)
                self._rtnl.change_address("add", made.index, name, address)
            if bridge is not None:
                self._rtnl.set(made.index, name, master=bridge)
            if uplink == "nat":
                self._switch_nat_on(name, wanted)
            if up:
                self._rtnl.set(made.index, name, state="up")
        except BaseException:
            if uplink == "nat":
                self._nat.switch_off()
            self._rtnl.delete(made.index, name)
            raise
        return self.get(name)

    def _bridge(self, uplink: str | None) -> int | None:
        """Index of the bridge of `bridge:NAME`."""
        if uplink is None or not uplink.startswith("bridge:"):
            return None
        wanted = uplink.partition(":")[2]
        for interface in self._rtnl.interfaces():
            if interface.name == wanted and interface.kind == "bridge":
                return interface.index
            if interface.name == wanted:
                raise NotFoundError(f"interface '{wanted}' is no bridge", "see: bridge link")
        raise NotFoundError(
            f"there is no bridge '{wanted}'", f"make one: ip link add {wanted} type bridge"
        )

    def _switch_nat_on(self, name: str, addresses: Sequence[str]) -> None:
        for address in addresses:
            network = ipaddress.ip_interface(address).network
            if network.version == 4:
                self._nat.switch_on(name, str(network))
                return
        raise PlanError(f"{name}: an uplink by nat needs an IPv4 address", "leave --no-address out")

    def _check_free(self, address: str, name: str) -> None:
        """The kernel would take an address twice, and a subnet that leads elsewhere."""
        new = ipaddress.ip_interface(address)
        for other in self._rtnl.addresses():
            there = ipaddress.ip_interface(str(other))
            if there.version != new.version or other.interface == name:
                continue
            if there.ip == new.ip:
                raise BusyError(
                    f"{new.ip} is the address of {other.interface} already",
                    "choose another: --address ADDRESS/PREFIX",
                )
            if there.network.overlaps(new.network) and not there.is_link_local:
                raise BusyError(
                    f"{new.network} is in use: {other.interface} has {other}",
                    "choose another: --address ADDRESS/PREFIX, or --no-address",
                )

    def set(
        self,
        name: str,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        up: bool | None = None,
        new_name: str | None = None,
        add_addresses: Sequence[str] = (),
        remove_addresses: Sequence[str] = (),
    ) -> Link:
        """Change a link. What the kernel refuses ends it; what was done before stays."""
        found = self._find(name)
        if mac is not None:
            self._rtnl.set(found.index, name, address=mac)
        if mtu is not None:
            if not MTU_MIN <= mtu <= MTU_MAX:
                raise PlanError(f"{name}: MTU {mtu} is not between {MTU_MIN} and {MTU_MAX}")
            self._rtnl.set(found.index, name, mtu=mtu)
        for address in remove_addresses:
            self._rtnl.change_address("del", found.index, name, address)
        for address in add_addresses:
            self._check_free(address, name)
            self._rtnl.change_address("add", found.index, name, address)
        if up is not None:
            self._rtnl.set(found.index, name, state="up" if up else "down")
        if new_name is not None:
            self._rtnl.set(found.index, name, ifname=new_name)
            name = new_name
        return self.get(name)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Take a link away, and its uplink. BusyError if another interface stands on it.

        `force` does it all the same.
        """
        found = self._find(name)
        used_by = self.get(name).used_by
        if used_by and not force:
            raise BusyError(
                f"'{name}' is in use by {', '.join(used_by)}", "take that away first, or --force"
            )
        self._rtnl.delete(found.index, name)
        if not any(i.kind == "popcorn" for i in self._rtnl.interfaces()):
            self._nat.switch_off()
