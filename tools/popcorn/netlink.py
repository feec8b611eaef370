# SPDX-License-Identifier: GPL-2.0
"""The generic netlink family `popcorn`: requests, replies, refusals and notifications.

The only module that knows pyroute2, and it uses its message classes alone. The socket is a plain
one, because pyroute2's own (0.7.2) repeats a request that was refused with EBUSY for nine seconds,
drops the attribute that an extended acknowledgement blames, and turns a full receive buffer into an
exception among many; a control tool must not do any of these. What is used of pyroute2 (`genlmsg`,
`ctrlmsg`, `nla_map`) is the same in 0.7 and 0.9.

Extended acknowledgements: NLMSG_ERROR followed by NLMSGERR_ATTR_* (include/uapi/linux/netlink.h).
With NETLINK_CAP_ACK the kernel repeats only the header of the request, so they follow at a fixed
place.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import itertools
import os
import re
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from popcorn.errors import (
    BusyError,
    ExistsError,
    KernelRefusedError,
    ModuleMissingError,
    NotFoundError,
    PermissionDeniedError,
    PopcornError,
    TimeoutExpiredError,
)
from popcorn.uapi.netlink_gen import DO_SET, FAMILY, NLA_MAPS, VERSION, Cmd


def _messages() -> tuple[Any, Any, Any]:
    """`genlmsg`, `ctrlmsg` and `NetlinkDecodeError` of pyroute2, without the rest of it.

    `import pyroute2` loads every protocol that it knows, ten times as much as a command takes for
    everything else. So the package is entered without its `__init__`, and forgotten again: whoever
    imports pyroute2 afterwards gets it whole.
    """

    def ours(name: str) -> bool:
        return name.partition(".")[0] == "pyroute2"

    before = {name: module for name, module in sys.modules.items() if ours(name)}
    if not before:
        found = importlib.util.find_spec("pyroute2")
        if found is None:
            raise ModuleNotFoundError("No module named 'pyroute2'", name="pyroute2")
        sys.modules["pyroute2"] = importlib.util.module_from_spec(found)
    try:
        from pyroute2.netlink import ctrlmsg, genlmsg
        from pyroute2.netlink.exceptions import NetlinkDecodeError
    finally:
        if not before:
            for name in [name for name in sys.modules if ours(name)]:
                del sys.modules[name]
    return genlmsg, ctrlmsg, NetlinkDecodeError


genlmsg, ctrlmsg, NetlinkDecodeError = _messages()

__all__ = (
    "Family",
    "KernelTransport",
    "Lost",
    "Message",
    "Subscription",
    "Transport",
)

NETLINK_GENERIC = 16
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11

NLMSG_HDRLEN = 16
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
GENL_HDRLEN = 4
GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY = 3

NLMSGERR_ATTR_MSG = 1
NLMSGERR_ATTR_OFFS = 2
NLMSGERR_ATTR_MISS_TYPE = 5

RECEIVE_BYTES = 1 << 16
"""Larger than any datagram the kernel makes: dumps come in pieces of at most 32 KiB."""

EVENT_BUFFER_BYTES = 1 << 20

HINT_MODULE = "load it: modprobe popcorn_host"
HINT_ROOT = "run it as root, or with CAP_NET_ADMIN, CAP_SYS_BOOT and CAP_SYS_RAWIO"

_HOST_MISSING = {
    (errno.ENODEV, "this kernel is on no fabric"),
    (errno.EOPNOTSUPP, "popcorn_host is not loaded"),
}


class Transport(Protocol):
    """A netlink socket: whole datagrams in and out. Tests put recorded ones in its place."""

    def send(self, data: bytes) -> None:
        """Send one message."""

    def receive(self) -> bytes:
        """Wait for one datagram. OSError as the socket gives it, ENOBUFS for lost ones."""

    def join(self, group: int) -> None:
        """Subscribe to a multicast group, by its number."""

    def wait(self, timeout: float | None) -> bool:
        """Whether there is something to receive within `timeout` seconds; None waits for ever."""

    def fileno(self) -> int:
        """For poll()."""

    def close(self) -> None:
        """Give the socket back."""


class KernelTransport:
    """The real socket, with extended acknowledgements switched on."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC
        )
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EVENT_BUFFER_BYTES)
        self._socket.bind((0, 0))

    def send(self, data: bytes) -> None:
        """Hand one message to the kernel, which works on it before this returns."""
        self._socket.send(data)

    def receive(self) -> bytes:
        """One datagram; a truncated one is an error, never half a message."""
        data, _, flags, _ = self._socket.recvmsg(RECEIVE_BYTES)
        if flags & socket.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, "netlink message larger than the buffer")
        return data

    def join(self, group: int) -> None:
        """Subscribe to a multicast group."""
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def wait(self, timeout: float | None) -> bool:
        """Whether there is something to receive in time."""
        return bool(select.select([self._socket], [], [], timeout)[0])

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


@dataclass(frozen=True)
class Message:
    """A decoded reply or notification: `attributes` maps names to lists of values."""

    cmd: Cmd | int
    attributes: Mapping[str, list[Any]]

    def get(self, name: str, default: Any = None) -> Any:
        """The first value of attribute `name`, or `default`."""
        values = self.attributes.get(name)
        return values[0] if values else default

    def all(self, name: str) -> tuple[Any, ...]:
        """Every value of a multi-attr attribute, in order."""
        return tuple(self.attributes.get(name, ()))


@dataclass(frozen=True)
class Lost:
    """Notifications were lost: the receive buffer was full (ENOBUFS)."""


def _prefix(attribute_set: str) -> str:
    return f"POPCORN_A_{attribute_set.upper().replace('-', '_')}_"


def _nla_name(attribute_set: str, name: str) -> str:
    return _prefix(attribute_set) + name.upper().replace("-", "_")


def _public_name(attribute_set: str, nla_name: str) -> str:
    return nla_name.removeprefix(_prefix(attribute_set)).lower().replace("_", "-")


_CLASSES: dict[str, type[Any]] = {
    name: type(f"{name}msg", (genlmsg,), {"__slots__": (), "nla_map": nla_map})
    for name, nla_map in NLA_MAPS.items()
}


@dataclass(frozen=True)
class _Header:
    length: int
    type: int
    flags: int
    seq: int


def _split(datagram: bytes) -> Iterator[tuple[_Header, bytes]]:
    """The messages of a datagram, each with its header; a damaged length ends in an error."""
    offset = 0
    while offset + NLMSG_HDRLEN <= len(datagram):
        length, kind, flags, seq, _ = struct.unpack_from("=IHHII", datagram, offset)
        if length < NLMSG_HDRLEN or offset + length > len(datagram):
            raise PopcornError(f"netlink message with a wrong length, {length} bytes")
        yield _Header(length, kind, flags, seq), datagram[offset : offset + length]
        offset += (length + 3) & ~3


def _tlvs(data: bytes, offset: int) -> Iterator[tuple[int, int, bytes]]:
    """(offset, type, payload) of each attribute from `offset` on."""
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4 or offset + length > len(data):
            return
        yield offset, kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


@dataclass(frozen=True)
class _Ack:
    """An acknowledgement: errno (0 is success), the kernel's words, and where it points."""

    errno: int
    text: str = ""
    offset: int | None = None
    missing: int | None = None


def _parse_ack(header: _Header, data: bytes) -> _Ack:
    if len(data) < NLMSG_HDRLEN + 4:
        raise PopcornError("netlink acknowledgement that is too short")
    code = -struct.unpack_from("=i", data, NLMSG_HDRLEN)[0]
    if not header.flags & NLM_F_ACK_TLVS:
        return _Ack(code)
    start = NLMSG_HDRLEN + 4
    if header.type == NLMSG_ERROR:
        # The request follows, whole or (NLM_F_CAPPED) its header only; the length in that header
        # is the request's own in both cases.
        repeated = NLMSG_HDRLEN
        if not header.flags & NLM_F_CAPPED and len(data) >= start + 4:
            repeated = struct.unpack_from("=I", data, start)[0]
        start += (repeated + 3) & ~3
    text, offset, missing = "", None, None
    for _, kind, payload in _tlvs(data, start):
        if kind == NLMSGERR_ATTR_MSG:
            text = payload.rstrip(b"\0").decode("utf-8", "replace")
        elif kind == NLMSGERR_ATTR_OFFS and len(payload) == 4:
            offset = struct.unpack("=I", payload)[0]
        elif kind == NLMSGERR_ATTR_MISS_TYPE and len(payload) == 4:
            missing = struct.unpack("=I", payload)[0]
    return _Ack(code, text, offset, missing)


def _blamed(ack: _Ack, request: bytes, attribute_set: str) -> str:
    """Name of the attribute that the kernel points at, or an empty string."""
    kind = ack.missing
    if kind is None and ack.offset is not None:
        for offset, found, payload in _tlvs(request, NLMSG_HDRLEN + GENL_HDRLEN):
            if offset <= ack.offset < offset + 4 + len(payload):
                kind = found
    nla_map = NLA_MAPS[attribute_set]
    if kind is None or not 0 < kind < len(nla_map):
        return ""
    return _public_name(attribute_set, nla_map[kind][0])


def _refuse(ack: _Ack, request: bytes, attribute_set: str) -> NoReturn:
    attribute = _blamed(ack, request, attribute_set)
    message = ack.text or os.strerror(ack.errno)
    named = re.search(rf"(?<![\w-]){attribute}(?![\w-])", message.replace("_", "-"), re.IGNORECASE)
    if attribute and not named:
        message = f"{message} (attribute '{attribute}')"
    if ack.errno in (errno.EPERM, errno.EACCES):
        if not ack.text:
            message = "not permitted"
        raise PermissionDeniedError(message, HINT_ROOT)
    # Where popcorn_host is not loaded there is no fabric, and nobody leads kernels.
    if (ack.errno, ack.text) in _HOST_MISSING:
        raise ModuleMissingError(message, HINT_MODULE)
    simple: dict[int, type[PopcornError]] = {
        errno.ENOENT: NotFoundError,
        errno.ESRCH: NotFoundError,
        errno.ENODEV: NotFoundError,
        errno.EEXIST: ExistsError,
        errno.EBUSY: BusyError,
        errno.ETIMEDOUT: TimeoutExpiredError,
    }
    if ack.errno in simple:
        raise simple[ack.errno](message)
    raise KernelRefusedError(message, errno=ack.errno, attribute=attribute)


def _decode(attribute_set: str, data: bytes) -> Message:
    message = _CLASSES[attribute_set](data)
    try:
        message.decode()
    except (NetlinkDecodeError, struct.error) as error:
        raise PopcornError(f"netlink message that cannot be decoded: {error}") from error
    attributes: dict[str, list[Any]] = {}
    for cell in message["attrs"]:
        nla_name, value = cell[0], cell[1]
        if not nla_name.startswith("POPCORN_A_"):
            continue  # from a kernel that knows more attributes than this program
        if isinstance(value, bytes):
            value = value.rstrip(b"\0").decode("utf-8", "replace")
        attributes.setdefault(_public_name(attribute_set, nla_name), []).append(value)
    cmd: Cmd | int = int(message["cmd"])
    with contextlib.suppress(ValueError):
        cmd = Cmd(cmd)
    return Message(cmd, attributes)


class Family:
    """Requests to the family. The family is looked up, and so loaded, at the first one.

    A request that is under way can be interrupted with Ctrl-C as soon as the kernel lets go of it:
    the next request starts with a new sequence number and skips what is left of the old one.
    """

    def __init__(self, transport: Transport | None = None) -> None:
        self._transport: Transport = KernelTransport() if transport is None else transport
        self._sequence = itertools.count(int(time.monotonic() * 1000) & 0x3FFFFFFF)
        self._id: int | None = None
        self._groups: dict[str, int] = {}

    def close(self) -> None:
        """Give the socket back."""
        self._transport.close()

    def _lookup(self) -> int:
        if self._id is not None:
            return self._id
        message = ctrlmsg()
        message["cmd"] = CTRL_CMD_GETFAMILY
        message["version"] = 1
        message["attrs"] = [["CTRL_ATTR_FAMILY_NAME", FAMILY]]
        request = self._encode(message, GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK)
        ack, replies = self._exchange(request)
        if ack.errno == errno.ENOENT or (ack.errno == 0 and not replies):
            raise ModuleMissingError("the kernel module popcorn is not loaded", HINT_MODULE)
        if ack.errno:
            raise KernelRefusedError(ack.text or os.strerror(ack.errno), errno=ack.errno)
        reply = ctrlmsg(replies[0])
        reply.decode()
        self._groups = {
            group.get_attr("CTRL_ATTR_MCAST_GRP_NAME"): group.get_attr("CTRL_ATTR_MCAST_GRP_ID")
            for group in reply.get_attr("CTRL_ATTR_MCAST_GROUPS") or ()
        }
        self._id = int(reply.get_attr("CTRL_ATTR_FAMILY_ID"))
        return self._id

    def _encode(self, message: Any, kind: int, flags: int) -> bytes:
        message["header"]["type"] = kind
        message["header"]["flags"] = flags
        message["header"]["sequence_number"] = next(self._sequence)
        message["header"]["pid"] = 0
        message.encode()
        return bytes(message.data)

    def _exchange(self, request: bytes) -> tuple[_Ack, list[bytes]]:
        """Send a request; its acknowledgement and the replies before it."""
        sequence = struct.unpack_from("=I", request, 8)[0]
        dump = struct.unpack_from("=H", request, 6)[0] & NLM_F_DUMP == NLM_F_DUMP
        self._transport.send(request)
        replies: list[bytes] = []
        interrupted = False
        while True:
            try:
                datagram = self._transport.receive()
            except OSError as error:
                raise KernelRefusedError(
                    f"the netlink socket failed: {error.strerror}", errno=error.errno or 0
                ) from error
            for header, data in _split(datagram):
                if header.seq != sequence:
                    continue
                interrupted |= bool(dump and header.flags & NLM_F_DUMP_INTR)
                if header.type in (NLMSG_ERROR, NLMSG_DONE):
                    ack = _parse_ack(header, data)
                    return (_Ack(errno.EAGAIN) if interrupted and not ack.errno else ack), replies
                replies.append(data)

    def request(
        self,
        cmd: Cmd,
        attributes: Sequence[tuple[str, int | str | bool]] = (),
        *,
        dump: bool = False,
    ) -> list[Message]:
        """Send `cmd`; the replies, none for commands that only acknowledge.

        `attributes` are the protocol's names (`memory-size`) with values; a multi-attr one may
        occur several times. Raises what the kernel refused with, see `popcorn.errors`.
        """
        attribute_set = DO_SET[cmd]
        kind = self._lookup()
        ack = _Ack(errno.EAGAIN)
        for _ in range(5):  # a dump that was overtaken by a change is asked for again
            message = _CLASSES[attribute_set]()
            message["cmd"] = int(cmd)
            message["version"] = VERSION
            message["attrs"] = [[_nla_name(attribute_set, n), v] for n, v in attributes]
            flags = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_DUMP if dump else 0)
            request = self._encode(message, kind, flags)
            ack, replies = self._exchange(request)
            if not ack.errno:
                return [_decode(attribute_set, reply) for reply in replies]
            if not (dump and ack.errno == errno.EAGAIN):
                _refuse(ack, request, attribute_set)
        raise BusyError("the list changes faster than it can be read")

    def subscribe(self, groups: Sequence[str], transport: Transport | None = None) -> Subscription:
        """Notifications of the multicast groups, on a socket of their own."""
        self._lookup()
        for group in groups:
            if group not in self._groups:
                raise NotFoundError(f"the popcorn module has no event group '{group}'")
        subscription = Subscription(KernelTransport() if transport is None else transport)
        for group in groups:
            subscription.transport.join(self._groups[group])
        return subscription


class Subscription:
    """Notifications as they come."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def fileno(self) -> int:
        """For poll()."""
        return self.transport.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self.transport.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self, timeout: float | None = None) -> list[Message | Lost]:
        """What came in one datagram; nothing if none came in `timeout` seconds.

        `Lost` stands where the kernel had to throw notifications away. It is never left out.
        """
        if not self.transport.wait(timeout):
            return []
        try:
            datagram = self.transport.receive()
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return [Lost()]
            raise KernelRefusedError(
                f"the netlink socket failed: {error.strerror}", errno=error.errno or 0
            ) from error
        found: list[Message | Lost] = []
        for header, data in _split(datagram):
            if header.type < GENL_ID_CTRL or len(data) < NLMSG_HDRLEN + GENL_HDRLEN:
                continue
            attribute_set = _notification_set(data[NLMSG_HDRLEN])
            if attribute_set is not None:
                found.append(_decode(attribute_set, data))
        return found


def _notification_set(cmd: int) -> str | None:
    try:
        return DO_SET[Cmd(cmd)]
    except (KeyError, ValueError):
        return None  # a command of a newer kernel
