# SPDX-License-Identifier: GPL-2.0
"""The netlink family against requests that no client of ours sends."""

from __future__ import annotations

import os
import random
import socket
import struct

import pytest

from guest import look
from popcorn import Client
from popcorn.uapi import netlink_gen as nl

NETLINK_GENERIC = 16
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11
REQUEST, ACK = 1, 4
EINVAL, ERANGE, ENOENT = 22, 34, 2
ATTR_MSG, ATTR_OFFS = 1, 2


def attr(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


class Raw:
    """A generic netlink socket with nothing between the test and the bytes."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self.socket.settimeout(20)
        self.socket.bind((0, 0))
        self.family = 16
        code, _text, _offset, payload = self.ask(3, attr(2, nl.FAMILY.encode() + b"\0"), version=2)
        assert code == 0
        offset = 4
        while offset < len(payload):
            size, kind = struct.unpack_from("=HH", payload, offset)
            if kind == 1:
                self.family = struct.unpack_from("=H", payload, offset + 4)[0]
            offset += size + (-size % 4)

    def ask(
        self, cmd: int, attributes: bytes, version: int = nl.VERSION
    ) -> tuple[int, str, int | None, bytes]:
        """Returns errno, the text, the offset of the bad attribute, and the reply's payload."""
        body = struct.pack("=BBH", cmd, version, 0) + attributes
        self.socket.send(
            struct.pack("=IHHII", 16 + len(body), self.family, REQUEST | ACK, 1, 0) + body
        )
        payload = b""
        while True:
            data = self.socket.recv(65536)
            kind = struct.unpack_from("=H", data, 4)[0]
            if kind != 2:
                payload = data[16:]
                continue
            code = -struct.unpack_from("=i", data, 16)[0]
            text, bad = "", None
            offset = 16 + 4 + 16
            while offset + 4 <= len(data):
                size, tag = struct.unpack_from("=HH", data, offset)
                if tag == ATTR_MSG:
                    text = data[offset + 4 : offset + size].rstrip(b"\0").decode()
                elif tag == ATTR_OFFS:
                    bad = struct.unpack_from("=I", data, offset + 4)[0]
                offset += size + (-size % 4)
            return code, text, bad, payload


@pytest.fixture
def raw() -> Raw:
    return Raw()


FIRST = 20  # where the first attribute lies: netlink header and generic header before it


def test_missing_attributes_are_named(client: Client, raw: Raw) -> None:
    new = int(nl.Cmd.KERNEL_NEW)
    name = attr(nl.KernelAttr.NAME, b"x\0")
    size = attr(nl.KernelAttr.MEMORY_SIZE, struct.pack("=Q", 256 << 20))
    cpu = attr(nl.KernelAttr.CPU, struct.pack("=I", 2))
    for given, missing in ((size + cpu, "name"), (name + cpu, "memory-size"), (name + size, "cpu")):
        code, text, _bad, _payload = raw.ask(new, given)
        assert code == EINVAL
        assert missing in text
    for cmd in (nl.Cmd.KERNEL_PREPARE, nl.Cmd.KERNEL_BOOT, nl.Cmd.KERNEL_STOP, nl.Cmd.KERNEL_KILL,
                nl.Cmd.KERNEL_DEL):  # fmt: skip
        code, text, _bad, _payload = raw.ask(int(cmd), b"")
        assert code == EINVAL
        assert "id" in text
    assert client.kernels() == ()


@pytest.mark.parametrize(
    ("cmd", "attribute"),
    [
        (nl.Cmd.NODE_GET, attr(nl.NodeAttr.ID, struct.pack("=I", 16))),
        (nl.Cmd.NODE_GET, attr(nl.NodeAttr.ID, b"\0\0")),
        (nl.Cmd.NODE_GET, attr(nl.NodeAttr.ID, b"\0" * 12)),
        (nl.Cmd.NODE_GET, attr(99, b"\0" * 4)),
        (nl.Cmd.PING, attr(nl.PingAttr.NODE_ID, struct.pack("=I", 1 << 31))),
        (nl.Cmd.PING, attr(nl.PingAttr.COUNT, struct.pack("=I", 4097))),
        (nl.Cmd.PING, attr(nl.PingAttr.COUNT, struct.pack("=I", 0))),
        (nl.Cmd.PING, attr(nl.PingAttr.SIZE, struct.pack("=I", 131065))),
        (nl.Cmd.PING, attr(nl.PingAttr.WINDOW, struct.pack("=I", 0))),
        (nl.Cmd.PING, attr(nl.PingAttr.WINDOW, struct.pack("=I", 257))),
        (nl.Cmd.PING, attr(nl.PingAttr.CALL, b"\0")),
        (nl.Cmd.NODE_SET, attr(nl.NodeAttr.WINDOW_MAX, struct.pack("=I", 1000001))),
        (nl.Cmd.NODE_SET, attr(nl.NodeAttr.THREADED, struct.pack("=I", 2))),
        (nl.Cmd.NODE_SET, attr(nl.NodeAttr.ID, struct.pack("=I", 1))),
        (nl.Cmd.KERNEL_NEW, attr(nl.KernelAttr.NAME, b"x" * 40 + b"\0")),
        (nl.Cmd.KERNEL_NEW, attr(nl.KernelAttr.NAME, b"no end")),
        (nl.Cmd.KERNEL_NEW, attr(nl.KernelAttr.MEMORY_SIZE, b"\0" * 4)),
        (nl.Cmd.KERNEL_NEW, attr(nl.KernelAttr.MEMORY_BACKEND, struct.pack("=I", 7))),
        (nl.Cmd.KERNEL_BOOT, attr(nl.KernelAttr.ID, struct.pack("=I", 0))),
        (nl.Cmd.KERNEL_BOOT, attr(nl.KernelAttr.IMAGE, b"x" * 300 + b"\0")),
    ],
)
def test_malformed_attribute_is_blamed(raw: Raw, cmd: nl.Cmd, attribute: bytes) -> None:
    code, text, bad, _payload = raw.ask(int(cmd), attribute)
    assert code in (EINVAL, ERANGE)
    assert text
    # A short attribute and an unknown one are blamed by their place; so is one out of range.
    assert bad == FIRST


def test_random_requests_do_no_harm(client: Client, raw: Raw) -> None:
    before = look(client)
    seed = int(os.environ.get("POPCORN_SEED", random.randrange(1 << 32)))
    print(f"POPCORN_SEED={seed}")
    dice = random.Random(seed)
    for _round in range(3000):
        cmd = dice.randrange(0, max(nl.Cmd) + 3)
        if cmd == nl.Cmd.KERNEL_NEW:
            # A valid lease would be no harm either, but is not what this test is about.
            attributes = attr(nl.KernelAttr.NAME, dice.randbytes(dice.randrange(8)))
        else:
            attributes = b"".join(
                attr(dice.randrange(30), dice.randbytes(dice.choice((0, 1, 4, 8, 64))))
                for _ in range(dice.randrange(4))
            )
        if dice.randrange(4) == 0:
            attributes += dice.randbytes(dice.randrange(8))
        raw.ask(cmd, attributes)
    assert look(client) == before
