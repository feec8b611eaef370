# SPDX-License-Identifier: GPL-2.0
"""Links: addresses, what is refused, and what rtnetlink is asked for."""

from __future__ import annotations

import errno
import json
import subprocess

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from popcorn import link as module_link
from popcorn import rtnl
from popcorn.cli import main
from popcorn.errors import (
    BusyError,
    ExistsError,
    KernelRefusedError,
    ModuleMissingError,
    NotFoundError,
    PermissionDeniedError,
    PlanError,
    PopcornError,
)
from popcorn.link import (
    Links,
    check_name,
    link_local,
    parse_interface_address,
    parse_mac,
    private_address,
)
from popcorn.uplink import Nat

MACHINE = 0x7F10FF


class Attributes(dict):
    """A message or an attribute with others in it, as pyroute2 gives them."""

    def get_attr(self, name):
        return self.get(name)


class FakeIPRoute:
    """Interfaces and addresses as rtnetlink would show them; it keeps what it was asked for."""

    def __init__(self):
        self.links = {}
        self.addresses = []
        self.asked = []
        self.refuse = {}
        self.closed = False

    def close(self):
        self.closed = True

    def plain(self, name, **attributes):
        """An interface of another kind."""
        index = len(self.links) + 1
        self.links[index] = {"name": name, "kind": "dummy", "node": None, **attributes}
        return index

    def get_links(self):
        found = []
        for index, link in self.links.items():
            data = None
            if link["node"] is not None:
                data = Attributes(
                    IFLA_POPCORN_NODE=link["node"],
                    IFLA_POPCORN_MACHINE=MACHINE,
                    IFLA_POPCORN_PEERS=link.get("peers", 0),
                )
            found.append(
                Attributes(
                    index=index,
                    flags=1 if link.get("up") else 0,
                    IFLA_IFNAME=link["name"],
                    IFLA_ADDRESS=link.get("mac", "02:50:7f:10:ff:00"),
                    IFLA_MTU=link.get("mtu", 1500),
                    IFLA_CARRIER=1 if link.get("peers") else 0,
                    IFLA_MASTER=link.get("master"),
                    IFLA_LINK=link.get("below"),
                    IFLA_STATS64={"rx_packets": 5, "tx_bytes": 7},
                    IFLA_LINKINFO=Attributes(IFLA_INFO_KIND=link["kind"], IFLA_INFO_DATA=data),
                )
            )
        return found

    def get_addr(self):
        return [
            Attributes(index=index, prefixlen=int(prefix), IFA_ADDRESS=address)
            for index, address, prefix in self.addresses
        ]

    def link(self, command, **wanted):
        self.asked.append((command, wanted))
        if command in self.refuse:
            raise self.refuse[command]
        if command == "add":
            made = self.plain(wanted["ifname"])
            self.links[made] |= {"kind": "popcorn", "node": wanted.get("popcorn_node", 0)}
            self.links[made] |= {k: wanted[k] for k in ("mtu",) if k in wanted}
        elif command == "del":
            del self.links[wanted["index"]]
            self.addresses = [a for a in self.addresses if a[0] != wanted["index"]]
        else:
            link = self.links[wanted["index"]]
            link["name"] = wanted.get("ifname", link["name"])
            link["mtu"] = wanted.get("mtu", link.get("mtu", 1500))
            link["up"] = wanted.get("state", "up" if link.get("up") else "down") == "up"

    def addr(self, command, index, address, prefixlen, family):
        self.asked.append((f"address {command}", (index, address, prefixlen, int(family))))
        if "address" in self.refuse:
            raise self.refuse["address"]
        entry = (index, address, prefixlen)
        self.addresses.append(entry) if command == "add" else self.addresses.remove(entry)


@pytest.fixture
def ip():
    return FakeIPRoute()


class FakeNft:
    """nft with one table; keeps what it was asked for."""

    def __init__(self):
        self.asked = []
        self.table = None
        self.refuse = ""

    def __call__(self, command, text):
        self.asked.append((" ".join(command[1:]), text))
        code, out = 0, ""
        if command[1] == "list":
            code, out = (1, "") if self.table is None else (0, self.table)
        elif command[1] == "delete":
            self.table = None
        elif self.refuse:
            return subprocess.CompletedProcess(command, 1, "", self.refuse)
        else:
            self.table = text
        return subprocess.CompletedProcess(command, code, out, "")


@pytest.fixture
def nft():
    return FakeNft()


@pytest.fixture
def forward(tmp_path):
    """What says whether this kernel forwards."""
    path = tmp_path / "proc/sys/net/ipv4/ip_forward"
    path.parent.mkdir(parents=True)
    path.write_text("0\n")
    return path


@pytest.fixture
def links(ip, nft, forward, tmp_path):
    return Links(lambda: rtnl.Rtnl(lambda: ip), lambda: Nat(nft, tmp_path))


@pytest.fixture
def ctl(ip, nft, forward, tmp_path, monkeypatch, capsys):
    """Run popcornctl on the fake: (exit code, stdout, stderr)."""
    real = module_link.Links
    monkeypatch.setattr(
        module_link,
        "Links",
        lambda: real(lambda: rtnl.Rtnl(lambda: ip), lambda: Nat(nft, tmp_path)),
    )

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_private_addresses_follow_from_machine_and_node():
    assert private_address(MACHINE, 0) == "10.16.255.1/24"
    assert private_address(MACHINE, 15) == "10.16.255.16/24"
    assert private_address(0, 0) == "10.0.0.1/24"


def test_link_local_follows_from_the_mac():
    # The example of RFC 4291, appendix A: bit 2 of the first octet is turned over.
    assert link_local("34:56:78:9a:bc:de") == "fe80::3656:78ff:fe9a:bcde/64"
    assert link_local("02:50:7f:10:ff:00") == "fe80::50:7fff:fe10:ff00/64"


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (check_name, "x" * 16, "too long"),
        (check_name, "", "not a name"),
        (check_name, "a b", "not a name"),
        (check_name, "a/b", "not a name"),
        (check_name, "..", "not a name"),
        (parse_mac, "02:50:00:00:00", "not a MAC"),
        (parse_mac, "02-50-00-00-00-01", "not a MAC"),
        (parse_mac, "01:00:5e:00:00:01", "address of a group"),
        (parse_mac, "00:00:00:00:00:00", "not the address"),
        (parse_interface_address, "10.1.2.3", "no prefix"),
        (parse_interface_address, "10.1.2.3/33", "not an address"),
        (parse_interface_address, "10.1.2/24", "not an address"),
    ],
)
def test_what_cannot_be_is_named(parse, text, says):
    with pytest.raises(ValueError, match=says) as caught:
        parse(text)
    assert f"'{text}'" in str(caught.value)


def test_what_can_be_is_written_as_the_kernel_does():
    assert check_name("x" * 15) == "x" * 15
    assert parse_mac("02:50:AA:00:00:01") == "02:50:aa:00:00:01"
    assert parse_interface_address("FD00:0::1/64") == "fd00::1/64"


def test_add_gives_the_private_address_and_switches_on(ip, links):
    made = links.add()
    assert ip.asked == [
        ("add", {"ifname": "popcorn0", "kind": "popcorn"}),
        ("address add", (1, "10.16.255.1", 24, 2)),
        ("set", {"index": 1, "state": "up"}),
    ]
    assert (made.name, made.state, made.addresses) == ("popcorn0", "no-peer", ("10.16.255.1/24",))
    assert (made.node_id, made.peers, made.mtu) == (0, (), 1500)


def test_add_with_everything(ip, links):
    made = links.add(
        "net1", addresses=["192.168.7.1/24", "fd00::1/64"], mac="02:00:00:00:00:05",
        mtu=9000, node=2, up=False,
    )  # fmt: skip
    assert ip.asked[0] == (
        "add",
        {"ifname": "net1", "kind": "popcorn", "address": "02:00:00:00:00:05", "mtu": 9000,
         "popcorn_node": 2},
    )  # fmt: skip
    assert [what for what, _ in ip.asked] == ["add", "address add", "address add"]
    assert (made.state, made.node_id) == ("down", 2)
    links.delete("net1")
    assert links.add(addresses=()).addresses == ()


def test_add_is_all_or_nothing(ip, links):
    ip.refuse["address"] = NetlinkError(errno.EACCES)
    with pytest.raises(PermissionDeniedError):
        links.add()
    assert not ip.links


@pytest.mark.parametrize(
    ("there", "wanted", "says"),
    [
        ((1, "10.16.255.1", 24), None, "10.16.255.1 is the address of eth0"),
        ((1, "10.0.0.1", 8), None, "10.16.255.0/24 is in use: eth0 has 10.0.0.1/8"),
        ((1, "192.168.7.9", 24), ["192.168.7.1/24"], "192.168.7.0/24 is in use"),
        ((1, "fd00::9", 64), ["fd00::1/64"], "fd00::/64 is in use"),
    ],
)
def test_address_in_use_is_refused(ip, links, there, wanted, says):
    ip.plain("eth0")
    ip.addresses.append(there)
    with pytest.raises(BusyError, match=says) as caught:
        links.add(addresses=wanted)
    assert "--address" in caught.value.hint
    assert [link["name"] for link in ip.links.values()] == ["eth0"], "taken back"


def test_address_in_use_is_not_added_later(ip, links):
    links.add(addresses=())
    ip.addresses.append((ip.plain("eth0"), "192.168.7.9", 24))
    with pytest.raises(BusyError, match=r"192\.168\.7\.0/24 is in use: eth0"):
        links.set("popcorn0", add_addresses=["192.168.7.1/24"])
    assert [index for index, _, _ in ip.addresses] == [2]


def test_link_local_addresses_are_alike_everywhere(ip, links):
    ip.addresses.append((ip.plain("eth0"), "fe80::9", 64))
    assert links.add(addresses=["fe80::1/64"]).addresses == ("fe80::1/64",)
    with pytest.raises(BusyError, match="fe80::9 is the address of eth0"):
        links.set("popcorn0", add_addresses=["fe80::9/64"])


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (NetlinkError(errno.EEXIST, "this node has a link already"), ExistsError, "this node has"),
        (NetlinkError(errno.EOPNOTSUPP, "Unknown device type"), ModuleMissingError, "popcorn_net"),
        (NetlinkError(errno.ENODEV, "this kernel is on no fabric"), ModuleMissingError, "fabric"),
        (NetlinkError(errno.ENODEV, "that node is not in this kernel"), NotFoundError, "that node"),
        (NetlinkError(errno.EPERM), PermissionDeniedError, "not permitted"),
        (NetlinkError(errno.EINVAL, "mtu greater than device maximum"), KernelRefusedError, "mtu"),
        (OSError(errno.ENOBUFS, "no buffers"), KernelRefusedError, "no buffers"),
    ],
)
def test_refusals_of_the_kernel(ip, links, error, kind, says):
    ip.refuse["add"] = error
    with pytest.raises(kind, match=says) as caught:
        links.add()
    assert "popcorn0" in caught.value.message


def test_name_that_is_taken(ip, links):
    ip.plain("popcorn0")
    with pytest.raises(ExistsError, match="an interface 'popcorn0'"):
        links.add()
    assert not ip.asked


def test_only_ours_are_shown_and_touched(ip, links):
    ip.plain("eth0")
    assert links.list() == ()
    for act in (links.get, links.delete, lambda name: links.set(name, mtu=9000)):
        with pytest.raises(NotFoundError, match="'eth0' is no link"):
            act("eth0")
        with pytest.raises(NotFoundError, match="no link 'nothing'"):
            act("nothing")
    assert not ip.asked


def test_set(ip, links):
    links.add()
    del ip.asked[:]
    changed = links.set(
        "popcorn0", mac="02:00:00:00:00:09", mtu=65520, up=False, new_name="net0",
        add_addresses=["10.9.9.1/24"], remove_addresses=["10.16.255.1/24"],
    )  # fmt: skip
    assert ip.asked == [
        ("set", {"index": 1, "address": "02:00:00:00:00:09"}),
        ("set", {"index": 1, "mtu": 65520}),
        ("address del", (1, "10.16.255.1", 24, 2)),
        ("address add", (1, "10.9.9.1", 24, 2)),
        ("set", {"index": 1, "state": "down"}),
        ("set", {"index": 1, "ifname": "net0"}),
    ]
    assert (changed.name, changed.mtu, changed.addresses) == ("net0", 65520, ("10.9.9.1/24",))


@pytest.mark.parametrize("mtu", [0, 67, 65521])
def test_mtu_that_cannot_be(ip, links, mtu):
    links.add()
    with pytest.raises(PlanError, match=f"MTU {mtu} is not between 68 and 65520"):
        links.set("popcorn0", mtu=mtu)


def test_link_in_use_is_not_deleted(ip, links):
    links.add()
    bridge = ip.plain("br0")
    ip.links[1]["master"] = bridge
    ip.plain("popcorn0.7", below=1)
    with pytest.raises(BusyError, match=r"in use by br0, popcorn0\.7"):
        links.delete("popcorn0")
    links.delete("popcorn0", force=True)
    assert [link["name"] for link in ip.links.values()] == ["br0", "popcorn0.7"]


def test_commands(ip, ctl):
    code, out, err = ctl("link", "add")
    assert (code, err) == (0, "")
    assert out == (
        "popcorn0: 02:50:7f:10:ff:00, 10.16.255.1/24 fe80::50:7fff:fe10:ff00/64, no-peer\n"
    )
    ip.links[1]["peers"] = 0b110
    code, out, _ = ctl("link", "list")
    assert code == 0 and out.splitlines()[1].split() == [
        "popcorn0", "up", "02:50:7f:10:ff:00", "1500", "10.16.255.1/24", "1", "2",
    ]  # fmt: skip
    code, out, _ = ctl("link", "show")
    assert code == 0 and "peer        2 2  10.16.255.3" in out
    code, out, _ = ctl("--json", "link", "list")
    (shown,) = json.loads(out)
    assert (shown["peers"], shown["peer_names"], shown["rx_packets"]) == ([1, 2], ["1", "2"], 5)
    assert ctl("link", "set", "popcorn0", "--mtu", "9000")[0] == 0
    assert ip.links[1]["mtu"] == 9000
    assert ctl("link", "del", "popcorn0")[0] == 0
    assert not ip.links and ip.closed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "x" * 16), "too long for an interface"),
        (("add", "--mac", "02:50"), "'02:50' is not a MAC address"),
        (("add", "--mac", "33:33:00:00:00:01"), "address of a group"),
        (("add", "--mtu", "67"), "67 is not in the range 68<=x<=65520"),
        (("add", "--mtu", "65521"), "65521 is not in the range"),
        (("add", "--address", "10.0.0.1"), "has no prefix"),
        (("add", "--no-address", "--address", "10.0.0.1/8"), "exclude each other"),
        (("set", "popcorn0"), "nothing to change"),
        (("set", "popcorn0", "--name", "y" * 16), "too long"),
    ],
)
def test_wrong_usage(ip, ctl, arguments, says):
    code, out, err = ctl("link", *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert not ip.asked


def test_nat_is_switched_on_and_off_with_the_link(links, nft, forward):
    links.add(uplink="nat")
    assert forward.read_text().strip() == "1"
    assert 'ip saddr 10.16.255.0/24 oifname != "popcorn0" masquerade' in nft.table
    assert 'comment "ip_forward was 0"' in nft.table
    links.delete("popcorn0")
    assert (nft.table, forward.read_text().strip()) == (None, "0")


def test_forwarding_that_was_on_stays_on(links, nft, forward):
    forward.write_text("1\n")
    links.add(uplink="nat")
    links.delete("popcorn0")
    assert (nft.table, forward.read_text().strip()) == (None, "1")


def test_what_a_lost_link_left_is_not_taken_for_the_original(links, nft, forward, ip):
    links.add(uplink="nat")
    ip.links.clear()  # by ip(8), say
    links.add(uplink="nat")
    assert 'comment "ip_forward was 0"' in nft.table
    links.delete("popcorn0")
    assert (nft.table, forward.read_text().strip()) == (None, "0")


def test_nat_that_cannot_be_leaves_nothing(links, nft, forward, ip):
    nft.refuse = "Error: Could not process rule: Operation not permitted"
    with pytest.raises(PermissionDeniedError, match="popcorn0: Error: Could not process"):
        links.add(uplink="nat")
    assert not ip.links and forward.read_text().strip() == "0"
    with pytest.raises(PlanError, match="needs an IPv4 address"):
        links.add(uplink="nat", addresses=())
    assert not ip.links

    def missing(command, text):
        raise FileNotFoundError(command[0])

    links._nat._nft = missing
    with pytest.raises(PopcornError, match="nft is not there") as caught:
        links._nat.switch_on("popcorn0", "10.0.0.0/24")
    assert caught.value.hint == "install nftables"


def test_a_link_can_be_a_port_of_a_bridge(links, ip):
    bridge = ip.plain("br0")
    ip.plain("eth0")
    ip.links[bridge]["kind"] = "bridge"
    made = links.add(uplink="bridge:br0")
    assert made.addresses == ()
    assert ("set", {"index": 3, "master": bridge}) in ip.asked
    links.delete("popcorn0", force=True)
    for name, says in (("br9", "there is no bridge 'br9'"), ("eth0", "'eth0' is no bridge")):
        with pytest.raises(NotFoundError, match=says):
            links.add(uplink=f"bridge:{name}")
    assert len(ip.links) == 2


@pytest.mark.parametrize("text", ["", "masquerade", "bridge", "bridge:"])
def test_uplinks_that_are_none(ctl, ip, text):
    code, _, err = ctl("link", "add", "--uplink", text)
    assert (code, "write nat or bridge:NAME" in err) == (2, True)
    assert not ip.asked
