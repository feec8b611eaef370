# SPDX-License-Identifier: GPL-2.0
"""The family's socket: what goes out, what comes back, and how refusals are told."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from pathlib import Path

import pytest

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
from popcorn.netlink import Family, Lost, Message
from popcorn.uapi.netlink_gen import Cmd, KernelAttr, KernelState

TOOLS = Path(__file__).resolve().parents[2] / "tools"


class Canned:
    """A transport that answers with given datagrams; `{seq}` of the request is put into them."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []
        self.seq = 0

    def send(self, data):
        self.sent.append(data)
        self.seq = struct.unpack_from("=I", data, 8)[0]

    def receive(self):
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer(self.seq) if callable(answer) else answer

    def close(self):
        pass


def message(kind, flags, seq, payload):
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, seq, 0) + payload


def family_reply(seq):
    # CTRL_ATTR_FAMILY_ID = 31, no groups
    return message(16, 0, seq, b"\1\2\0\0" + struct.pack("=HHHxx", 6, 1, 31))


def ack(seq):
    return message(2, 0x100, seq, struct.pack("=i", 0) + b"\0" * 16)


def opened(*answers):
    transport = Canned(family_reply, ack, *answers)
    return Family(transport), transport


def test_a_request_as_the_kernel_expects_it():
    family, transport = opened(ack)
    family.request(
        Cmd.KERNEL_NEW, [("name", "web"), ("cpu", 2), ("cpu", 3), ("memory-size", 512 << 20)]
    )
    length, kind, flags, _, pid = struct.unpack_from("=IHHII", transport.sent[1])
    assert (length, kind, flags, pid) == (len(transport.sent[1]), 31, 0x5, 0)
    assert transport.sent[1][16:] == bytes.fromhex(
        "07010000"  # KERNEL_NEW, version 1
        "08000200 77656200"  # name "web\0"
        "08000500 02000000"
        "08000500 03000000"
        "0c000900 0000002000000000"
    )


def test_the_family_is_looked_up_once():
    family, transport = opened(ack, ack)
    family.request(Cmd.KERNEL_KILL, [("id", 1)])
    family.request(Cmd.KERNEL_DEL, [("id", 1)])
    assert len(transport.sent) == 3
    assert b"popcorn\0" in transport.sent[0]


def test_missing_family(module):
    module.loaded = False
    with pytest.raises(ModuleMissingError, match="popcorn is not loaded") as caught:
        module.client().fabric()
    assert "modprobe popcorn_host" in caught.value.hint


def test_missing_host_module(module):
    module.host = False
    with pytest.raises(ModuleMissingError, match="popcorn_host is not loaded") as caught:
        module.client().kernels()
    assert "modprobe popcorn_host" in caught.value.hint


def test_a_kernel_on_no_fabric(module, refusal):
    module.refusals[Cmd.FABRIC_GET] = refusal(errno.ENODEV, "this kernel is on no fabric")
    with pytest.raises(ModuleMissingError, match="on no fabric") as caught:
        module.client().fabric()
    assert "modprobe popcorn_host" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EPERM, PermissionDeniedError),
        (errno.EACCES, PermissionDeniedError),
        (errno.ENOENT, NotFoundError),
        (errno.ENODEV, NotFoundError),
        (errno.EEXIST, ExistsError),
        (errno.EBUSY, BusyError),
        (errno.ETIMEDOUT, TimeoutExpiredError),
        (errno.EINVAL, KernelRefusedError),
        (errno.ENOMEM, KernelRefusedError),
        (errno.EOPNOTSUPP, KernelRefusedError),
    ],
)
def test_errno_becomes_an_exception(module, refusal, code, kind):
    module.refusals[Cmd.KERNEL_KILL] = refusal(code, "because I say so")
    with pytest.raises(PopcornError, match="because I say so") as caught:
        module.client().kernel_kill(1)
    assert type(caught.value) is kind
    assert len(module.requests) == 1, "a refused request must not be repeated"


def test_an_attribute_that_the_message_names_is_not_named_twice(module, refusal):
    words = "boot_params 0x2 is not a page"
    module.refusals[Cmd.KERNEL_BOOT] = refusal(errno.EINVAL, words, "boot-params")
    with pytest.raises(KernelRefusedError) as caught:
        module.client().kernel_boot(1, entry=1, boot_params=2, page_table_root=3, image="")
    assert (caught.value.message, caught.value.attribute) == (words, "boot-params")


@pytest.mark.parametrize("capped", [True, False])
def test_the_blamed_attribute_is_named(module, refusal, capped):
    module.capped = capped
    module.refusals[Cmd.KERNEL_NEW] = refusal(errno.ERANGE, "integer out of range", "memory-size")
    with pytest.raises(KernelRefusedError) as caught:
        module.client().kernel_new("web", (2, 3), 512 << 20)
    assert caught.value.message == "integer out of range (attribute 'memory-size')"
    assert caught.value.attribute == "memory-size"
    assert caught.value.errno == errno.ERANGE


def test_a_missing_attribute_is_named(module, refusal):
    module.refusals[Cmd.KERNEL_KILL] = refusal(errno.EINVAL, missing=int(KernelAttr.ID))
    with pytest.raises(KernelRefusedError, match="attribute 'id'"):
        module.client().kernel_kill(1)


def test_permission_without_words(module, refusal):
    module.refusals[Cmd.KERNEL_KILL] = refusal(errno.EPERM)
    with pytest.raises(PermissionDeniedError) as caught:
        module.client().kernel_kill(1)
    assert caught.value.message == "not permitted"
    assert "root" in caught.value.hint


def test_offsets_that_point_nowhere_are_not_believed():
    def refuse(seq):
        tlvs = struct.pack("=HHI", 8, 2, 5000) + struct.pack("=HH", 3, 1)
        return message(2, 0x300, seq, struct.pack("=i", -22) + b"\0" * 16 + tlvs)

    family, _ = opened(refuse)
    with pytest.raises(KernelRefusedError, match="Invalid argument") as caught:
        family.request(Cmd.KERNEL_KILL, [("id", 1)])
    assert caught.value.attribute == ""


def test_leftovers_of_an_interrupted_request_are_skipped():
    def old(seq):
        return message(31, 0, seq - 1, b"\5\1\0\0" + struct.pack("=HHI", 8, 1, 9))

    def new(seq):
        return message(31, 0, seq, b"\5\1\0\0" + struct.pack("=HHI", 8, 1, 4)) + ack(seq)

    family, _ = opened(old, new)
    replies = family.request(Cmd.KERNEL_GET, [("id", 4)])
    assert [reply.get("id") for reply in replies] == [4]


def test_a_request_can_be_interrupted_and_the_family_used_again():
    family, _ = opened(KeyboardInterrupt(), ack)
    with pytest.raises(KeyboardInterrupt):
        family.request(Cmd.KERNEL_KILL, [("id", 1)])
    assert family.request(Cmd.KERNEL_KILL, [("id", 1)]) == []


def dump_of(*ids, flags=2, code=0):
    def answer(seq):
        parts = [message(31, flags, seq, b"\5\1\0\0" + struct.pack("=HHI", 8, 1, i)) for i in ids]
        return b"".join(parts) + message(3, 2, seq, struct.pack("=i", code))

    return answer


def test_dumps_over_several_datagrams():
    def first(seq):
        return message(31, 2, seq, b"\5\1\0\0" + struct.pack("=HHI", 8, 1, 1))

    family, transport = opened(first, dump_of(2, 3))
    replies = family.request(Cmd.KERNEL_GET, dump=True)
    assert [reply.get("id") for reply in replies] == [1, 2, 3]
    assert struct.unpack_from("=H", transport.sent[1], 6)[0] == 0x305


def test_a_dump_that_was_overtaken_is_repeated():
    family, transport = opened(dump_of(1, flags=0x12), dump_of(1, 2))
    replies = family.request(Cmd.KERNEL_GET, dump=True)
    assert [reply.get("id") for reply in replies] == [1, 2]
    assert len(transport.sent) == 3


def test_a_dump_that_is_always_overtaken_ends():
    family, _ = opened(*[dump_of(1, flags=0x12)] * 5)
    with pytest.raises(BusyError, match="changes faster"):
        family.request(Cmd.KERNEL_GET, dump=True)


def test_a_dump_that_fails_at_its_end():
    family, _ = opened(dump_of(1, code=-12))
    with pytest.raises(KernelRefusedError, match="Cannot allocate memory"):
        family.request(Cmd.KERNEL_GET, dump=True)


@pytest.mark.parametrize("length", [0, 15, 4000])
def test_damaged_lengths_end_in_an_error(length):
    family, _ = opened(struct.pack("=IHHII", length, 31, 0, 1, 0) + b"\0" * 16)
    with pytest.raises(PopcornError, match="wrong length"):
        family.request(Cmd.KERNEL_KILL, [("id", 1)])


def test_a_socket_that_fails():
    family, _ = opened(OSError(errno.ENOBUFS, "No buffer space available"))
    with pytest.raises(KernelRefusedError, match="No buffer space"):
        family.request(Cmd.KERNEL_KILL, [("id", 1)])


def test_attributes_of_a_newer_kernel_are_left_out():
    def reply(seq):
        known = struct.pack("=HHI", 8, 1, 4)
        return message(31, 0, seq, b"\5\1\0\0" + known + struct.pack("=HHI", 8, 99, 1)) + ack(seq)

    family, _ = opened(reply)
    (reply_,) = family.request(Cmd.KERNEL_GET, [("id", 4)])
    assert reply_ == Message(Cmd.KERNEL_GET, {"id": [4]})


def test_notifications(module):
    client = module.client()
    kernel = module.add_kernel("web", KernelState.STARTING)
    with client.subscribe(("kernel",)) as stream:
        assert stream.read(0) == []
        module.set_state(kernel["id"], KernelState.CRASHED, "Oops")
        (item,) = stream.read(0)
        assert item.cmd is Cmd.KERNEL_NTF
        assert item.get("name") == "web"
        assert item.get("reason") == "Oops"
        assert item.all("cpu") == (2, 3)
        module.notify("node", Cmd.NODE_NTF, module.nodes[0])
        assert stream.read(0) == [], "only groups that were joined"


def test_lost_notifications_are_told(module):
    client = module.client()
    with client.subscribe() as stream:
        module.transports[-1].lose()
        assert stream.read(0) == [Lost()]


def test_unknown_notifications_are_skipped(module):
    client = module.client()
    with client.subscribe() as stream:
        module.transports[-1].push(message(31, 0, 0, b"\x63\1\0\0"))
        assert stream.read(0) == []


def test_unknown_group(module):
    with pytest.raises(NotFoundError, match="no event group 'lease'"):
        module.client().subscribe(("lease",))


def test_pyroute2_is_taken_in_part_and_left_whole() -> None:
    """A command loads only its messages, and a program can still import all of it afterwards."""
    code = (
        "import sys, popcorn.netlink\n"
        "assert not [m for m in sys.modules if m.startswith('pyroute2')]\n"
        "import pyroute2\n"
        "assert pyroute2.IPRoute and pyroute2.netlink.genlmsg\n"
        "assert pyroute2.netlink.genlmsg is not popcorn.netlink.genlmsg\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(TOOLS)})
