# SPDX-License-Identifier: GPL-2.0
"""A stand-in for the kernel's side of the control protocol, and a stand-in for a machine.

The messages are packed here with struct alone (include/uapi/linux/{netlink,genetlink}.h), so that
the decoder under test is not tested against itself.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from popcorn.cli import main
from popcorn.client import Client
from popcorn.sysfs import System
from popcorn.uapi.netlink_gen import DO_SET, NLA_MAPS, Cmd, KernelState, MemoryBackend, NodeState

FAMILY_ID = 31
GENL_ID_CTRL = 16
GROUPS = {"node": 5, "kernel": 6, "service": 7}
NLM_F_DUMP = 0x300
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLM_F_MULTI = 2


def pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def nla(kind: int, payload: bytes) -> bytes:
    return pad(struct.pack("=HH", 4 + len(payload), kind) + payload)


def nlmsg(kind: int, flags: int, seq: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, seq, 0) + payload


def genl(cmd: int, attributes: bytes, *, seq: int = 0, flags: int = 0) -> bytes:
    return nlmsg(FAMILY_ID, flags, seq, struct.pack("=BBH", cmd, 1, 0) + attributes)


def encode(attribute_set: str, values: dict[str, Any]) -> bytes:
    """Attributes by their protocol names; lists become several, None and False nothing."""
    out = b""
    for number, (name, kind) in enumerate(NLA_MAPS[attribute_set]):
        key = name.removeprefix(f"POPCORN_A_{attribute_set.upper()}_").lower().replace("_", "-")
        given = values.get(key)
        for value in given if isinstance(given, list) else [given]:
            if value is None or value is False:
                continue
            payload = {
                "uint32": lambda v: struct.pack("=I", v),
                "uint64": lambda v: struct.pack("=Q", v),
                "asciiz": lambda v: v.encode() + b"\0",
                "flag": lambda v: b"",
            }[kind](value)
            out += nla(number, payload)
    return out


def decode(attribute_set: str, data: bytes) -> list[tuple[str, Any]]:
    """What a request holds: (protocol name, value) in order."""
    found = []
    while data:
        length, kind = struct.unpack_from("=HH", data)
        name, typ = NLA_MAPS[attribute_set][kind]
        payload = data[4:length]
        if typ in ("uint32", "uint64"):
            value: Any = struct.unpack("=I" if typ == "uint32" else "=Q", payload)[0]
        else:
            value = payload.rstrip(b"\0").decode()
        prefix = f"POPCORN_A_{attribute_set.upper()}_"
        found.append((name.removeprefix(prefix).lower().replace("_", "-"), value))
        data = data[(length + 3) & ~3 :]
    return found


class Refusal(Exception):
    """The module says no: errno, words, and the attribute to blame."""

    def __init__(self, code: int, text: str = "", attribute: str = "", missing: int = 0) -> None:
        super().__init__(text)
        self.code, self.text, self.attribute, self.missing = code, text, attribute, missing


class FakeTransport:
    """A netlink socket on which the fake module answers at once."""

    def __init__(self, module: FakeModule) -> None:
        self.module = module
        self.joined: set[int] = set()
        self.errors: list[OSError] = []
        self.closed = False
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def push(self, datagram: bytes) -> None:
        self._theirs.send(datagram)

    def lose(self) -> None:
        """What the socket does when its buffer was full: the next receive fails."""
        self.errors.append(OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)))
        self.push(b"\0")

    def send(self, data: bytes) -> None:
        for datagram in self.module.answer(data):
            self.push(datagram)

    def receive(self) -> bytes:
        assert select.select([self._ours], [], [], 0)[0], "would wait for ever"
        datagram = self._ours.recv(1 << 16)
        if self.errors:
            raise self.errors.pop(0)
        return datagram

    def join(self, group: int) -> None:
        self.joined.add(group)

    def wait(self, timeout: float | None) -> bool:
        if not select.select([self._ours], [], [], 0)[0]:
            self.module.idle(timeout)
        return bool(select.select([self._ours], [], [], 0)[0])

    def fileno(self) -> int:
        return self._ours.fileno()

    def close(self) -> None:
        self.closed = True
        self._ours.close()
        self._theirs.close()


class FakeModule:
    """The module's side: fabric, nodes, kernels, and the states they go through."""

    def __init__(self) -> None:
        self.loaded = True
        self.host = True
        self.capped = True
        self.tsc_khz = 1_000_000
        self.services: list[dict[str, Any]] = []
        self.channels: list[dict[str, Any]] = []
        self.queues: list[dict[str, Any]] = []
        self.latencies: list[dict[str, Any]] = []
        self.shape: dict[str, Any] = {"nr-queues": 2, "ring-slots": 64, "area-bytes": 1 << 20}
        self.nodes: dict[int, dict[str, Any]] = {
            0: {
                "id": 0,
                "name": "primary",
                "state": int(NodeState.UP),
                "release": "6.1.0-test",
                "machine": "x86_64",
                "nr-cpus": 2,
                "self": True,
            }
        }
        self.kernels: dict[int, dict[str, Any]] = {}
        self.requests: list[tuple[Cmd, list[tuple[str, Any]]]] = []
        self.refusals: dict[Cmd, Refusal] = {}
        self.on_idle: list[Callable[[], None]] = []
        self.idled: list[float | None] = []
        self.transports: list[FakeTransport] = []
        self.rtt: Callable[[int], int | None] = lambda number: 1000 + number
        self.pings = 0
        self.memory_start = 0x1_4000_0000
        self.after_boot: KernelState | None = KernelState.RUNNING
        self.joins = True

    # what tests use

    def transport(self) -> FakeTransport:
        self.transports.append(FakeTransport(self))
        return self.transports[-1]

    def client(self) -> Client:
        return Client(self.transport)

    def commands(self) -> list[Cmd]:
        return [cmd for cmd, _ in self.requests]

    def add_kernel(self, name: str, state: KernelState, **more: Any) -> dict[str, Any]:
        number = max(self.kernels, default=0) + 1
        self.kernels[number] = {
            "id": number,
            "name": name,
            "state": int(state),
            "cpu": [2, 3],
            "apic-id": [2, 3],
            "memory-backend": int(MemoryBackend.CONTIG),
            "memory-start": self.memory_start,
            "memory-size": 512 << 20,
            "slice-start": 0x20000,
            "slice-size": 0x10000,
            "bsp-apic-id": 0,
            "tsc-khz": self.tsc_khz,
            "fabric-start": 0x3000_0000,
            "fabric-size": 16 << 20,
            "age": 1500,
            **more,
        }
        return self.kernels[number]

    def set_state(self, number: int, state: KernelState, reason: str = "") -> None:
        self.kernels[number].update({"state": int(state), "reason": reason or None})
        self.notify("kernel", Cmd.KERNEL_NTF, self.kernels[number])

    def notify(self, group: str, cmd: Cmd, values: dict[str, Any]) -> None:
        datagram = genl(cmd, encode(DO_SET[cmd], values))
        for transport in self.transports:
            if GROUPS[group] in transport.joined and not transport.closed:
                transport.push(datagram)

    def idle(self, timeout: float | None) -> None:
        """Someone waits and nothing is there: let the next thing happen."""
        self.idled.append(timeout)
        if self.on_idle:
            self.on_idle.pop(0)()

    # the protocol

    def answer(self, data: bytes) -> list[bytes]:
        _, kind, flags, seq, _ = struct.unpack_from("=IHHII", data)
        cmd = data[16]
        if kind == GENL_ID_CTRL:
            return self._family(data, seq)
        assert kind == FAMILY_ID
        attributes = decode(DO_SET[Cmd(cmd)], data[20:])
        self.requests.append((Cmd(cmd), attributes))
        try:
            replies = self._do(Cmd(cmd), attributes, flags & NLM_F_DUMP == NLM_F_DUMP)
        except Refusal as no:
            return [self._error(data, seq, no)]
        attribute_set = DO_SET[Cmd(cmd)]
        if flags & NLM_F_DUMP == NLM_F_DUMP:
            body = b"".join(
                genl(cmd, encode(attribute_set, r), seq=seq, flags=NLM_F_MULTI) for r in replies
            )
            done = nlmsg(3, NLM_F_MULTI, seq, struct.pack("=i", 0))
            return [body, done] if body else [done]
        out = [genl(cmd, encode(attribute_set, reply), seq=seq) for reply in replies]
        return [*out, nlmsg(2, NLM_F_CAPPED, seq, struct.pack("=i", 0) + data[:16])]

    def _family(self, data: bytes, seq: int) -> list[bytes]:
        if not self.loaded:
            return [self._error(data, seq, Refusal(errno.ENOENT))]
        groups = b"".join(
            nla(i, nla(1, name.encode() + b"\0") + nla(2, struct.pack("=I", number)))
            for i, (name, number) in enumerate(GROUPS.items(), start=1)
        )
        attributes = nla(2, b"popcorn\0") + nla(1, struct.pack("=H", FAMILY_ID)) + nla(7, groups)
        reply = nlmsg(GENL_ID_CTRL, 0, seq, struct.pack("=BBH", 1, 2, 0) + attributes)
        return [reply, nlmsg(2, NLM_F_CAPPED, seq, struct.pack("=i", 0) + data[:16])]

    def _error(self, data: bytes, seq: int, no: Refusal) -> bytes:
        tlvs = nla(1, no.text.encode() + b"\0") if no.text else b""
        if no.attribute:
            attribute_set = DO_SET[Cmd(data[16])]
            offset = 20
            while offset < len(data):
                length, kind = struct.unpack_from("=HH", data, offset)
                name = NLA_MAPS[attribute_set][kind][0]
                if name.lower().replace("_", "-").endswith(f"-{no.attribute}"):
                    tlvs += nla(2, struct.pack("=I", offset))
                offset += (length + 3) & ~3
        if no.missing:
            tlvs += nla(5, struct.pack("=I", no.missing))
        flags = NLM_F_ACK_TLVS if tlvs else 0
        echoed = data[:16] if self.capped else pad(data)
        flags |= NLM_F_CAPPED if self.capped else 0
        return nlmsg(2, flags, seq, struct.pack("=i", -no.code) + echoed + tlvs)

    def _lists(self) -> dict[Cmd, list[dict[str, Any]]]:
        """What the commands that are dumps only tell."""
        return {
            Cmd.SERVICE_GET: self.services,
            Cmd.CHANNEL_GET: self.channels,
            Cmd.QUEUE_GET: self.queues,
            Cmd.LATENCY_GET: self.latencies,
        }

    def _kernel(self, attributes: dict[str, Any]) -> dict[str, Any]:
        for kernel in self.kernels.values():
            if kernel["id"] == attributes.get("id") or kernel["name"] == attributes.get("name"):
                return kernel
        raise Refusal(errno.ENOENT, "no such kernel")

    def _do(self, cmd: Cmd, listed: list[tuple[str, Any]], dump: bool) -> list[dict[str, Any]]:
        if cmd in self.refusals:
            raise self.refusals[cmd]
        given = dict(listed)
        if cmd.name.startswith("KERNEL") and not self.host:
            raise Refusal(errno.EOPNOTSUPP, "popcorn_host is not loaded")
        if cmd == Cmd.FABRIC_GET:
            fabric = {"phys": 0x3000_0000, "size": 16 << 20, "version": 0x10002, "node-id": 0}
            more = {"nr-nodes": 16, "tsc-khz": self.tsc_khz, "host": self.host}
            return [{**fabric, **more, **self.shape}]
        if cmd == Cmd.NODE_GET:
            if dump:
                return list(self.nodes.values())
            if given["id"] not in self.nodes:
                raise Refusal(errno.ENOENT, "no such node", "id")
            return [self.nodes[given["id"]]]
        if cmd in (lists := self._lists()):
            assert dump
            return list(lists[cmd])
        if cmd == Cmd.NODE_SET:
            self.nodes[0].update(given)
            return []
        if cmd == Cmd.PING:
            first = self.pings
            self.pings += given["count"]
            answers = [self.rtt(number) for number in range(first, self.pings)]
            rtt = [answer for answer in answers if answer is not None]
            lost = given["count"] - len(rtt)
            told = {"node-id": given["node-id"], "sent": given["count"], "lost": lost, "rtt": rtt}
            # As many at once as the window lets: they share the time.
            return [{**told, "elapsed": sum(rtt) // given.get("window", 1), "full": 1}]
        if cmd == Cmd.KERNEL_GET:
            return list(self.kernels.values()) if dump else [self._kernel(given)]
        if cmd == Cmd.KERNEL_NEW:
            cpus = [value for name, value in listed if name == "cpu"]
            return [
                self.add_kernel(
                    given["name"],
                    KernelState.LEASED,
                    **{
                        "cpu": cpus,
                        "apic-id": cpus,
                        "memory-size": given["memory-size"],
                        "memory-start": given.get("memory-start", self.memory_start),
                        "memory-backend": given.get("memory-backend", 0),
                    },
                )
            ]
        return self._change(cmd, self._kernel(given), given)

    def _change(
        self, cmd: Cmd, kernel: dict[str, Any], given: dict[str, Any]
    ) -> list[dict[str, Any]]:
        number = kernel["id"]
        if cmd == Cmd.KERNEL_PREPARE:
            kernel["state"] = int(KernelState.LEASED)
            return [kernel]
        if cmd == Cmd.KERNEL_BOOT:
            self.set_state(number, KernelState.STARTING)
            kernel["image"] = given["image"]
            kernel["recipe"] = given.get("recipe")
            if self.after_boot is not None:
                state = self.after_boot
                kernel["join-time"] = 1_250_000 if self.joins else 0
                self.on_idle.append(lambda: self.set_state(number, state, "as the test wants"))
        elif cmd == Cmd.KERNEL_STOP:
            self.set_state(number, KernelState.STOPPING)
        elif cmd == Cmd.KERNEL_KILL:
            self.set_state(number, KernelState.KILLED)
        elif cmd == Cmd.KERNEL_NMI:
            return [{**kernel, "cpu": kernel["cpu"][:1]}]
        elif cmd == Cmd.KERNEL_DEL:
            if kernel["state"] in (KernelState.STARTING, KernelState.RUNNING):
                raise Refusal(errno.EBUSY, "the kernel is running", "id")
            self.notify("kernel", Cmd.KERNEL_RELEASED, kernel)
            del self.kernels[number]
        return []


@pytest.fixture
def module() -> FakeModule:
    """The fake module, loaded, with its host part."""
    return FakeModule()


@pytest.fixture
def refusal() -> type[Refusal]:
    """What the fake module raises to say no."""
    return Refusal


class FakeMachine:
    """A root directory that describes a machine with four CPUs which can run Popcorn."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.system = System(root)
        self.release = "6.1.0-test"
        self.write("/proc/sys/kernel/osrelease", f"{self.release}\n")
        self.write("/proc/sys/kernel/arch", "x86_64\n")
        self.write("/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
        self.write("/proc/meminfo", "MemTotal: 4000000 kB\nMemAvailable: 3000000 kB\n")
        self.write("/proc/modules", "popcorn_host 1 0 - Live 0x0\npopcorn 1 1 - Live 0x0\n")
        flags = "fpu apic constant_tsc nonstop_tsc"
        cpus = (f"processor\t: {n}\nflags\t\t: {flags}\napicid\t\t: {n * 2}\n\n" for n in range(4))
        self.write("/proc/cpuinfo", "".join(cpus))
        for what in ("possible", "present", "online"):
            self.write(f"/sys/devices/system/cpu/{what}", "0-3\n")
        for cpu in (1, 2, 3):
            self.write(f"/sys/devices/system/cpu/cpu{cpu}/online", "1\n")
        self.write("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        self.write(f"/boot/config-{self.release}", "CONFIG_CONTIG_ALLOC=y\n")
        self.write("/sys/firmware/memmap/0/start", "0x0\n")
        self.write("/sys/firmware/memmap/0/end", "0x9fbff\n")
        self.write("/sys/firmware/memmap/0/type", "System RAM\n")
        self.write("/run/udev/control", "")
        self.write("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")

    def write(self, name: str, data: str | bytes) -> Path:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def remove(self, name: str) -> None:
        (self.root / name.lstrip("/")).unlink()

    def bzimage(self, name: str | None = None, size: int = 2 << 20, **change: int) -> Path:
        """A file that looks like a kernel image: header after Documentation/arch/x86/boot.rst."""
        banner = f"{self.release} (test) #1\0".encode()
        image = bytearray(4 * 512 + size)
        image[0x1F1] = 3  # setup_sects
        struct.pack_into("<I", image, 0x1F4, size // 16)
        image[0x1FE:0x200] = b"\x55\xaa"
        image[0x200:0x202] = b"\xeb\x66"
        image[0x202:0x206] = b"HdrS"
        struct.pack_into("<H", image, 0x206, change.get("protocol", 0x20F))
        struct.pack_into("<H", image, 0x20E, 0x400 - 0x200)
        image[0x400 : 0x400 + len(banner)] = banner
        struct.pack_into("<I", image, 0x22C, 0x7FFFFFFF)
        struct.pack_into("<I", image, 0x230, 2 << 20)
        image[0x234] = 1
        struct.pack_into("<H", image, 0x236, change.get("xloadflags", 0x7F))
        struct.pack_into("<I", image, 0x238, change.get("cmdline_size", 2047))
        struct.pack_into("<I", image, 0x260, 8 << 20)
        return self.write(name or f"/boot/vmlinuz-{self.release}", bytes(image))


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """A machine described by files; `machine.system` reads it."""
    return FakeMachine(tmp_path / "root")


@pytest.fixture
def ctl(module, machine, monkeypatch, capsys, tmp_path):
    """Run popcornctl against the fake module and machine: (exit code, stdout, stderr)."""
    from popcorn import client, device, initrd, plan, start, sysfs

    real = client.Client
    monkeypatch.setattr(client, "Client", lambda: real(module.transport))
    for home in (initrd, plan, start, sysfs):
        monkeypatch.setattr(home, "System", lambda: machine.system)
    memory = tmp_path / "memory"
    with memory.open("wb") as file:
        file.truncate(8 << 30)
    monkeypatch.setattr(start, "HostDevice", lambda: device.HostDevice(memory))

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def start_args(machine):
    machine.bzimage()
    initrd = machine.write("/srv/initrd", b"\x07" * 5000)
    return ["kernel", "start", "web", "--cpus", "2-3", "--memory", "256M", "--initrd", initrd]
