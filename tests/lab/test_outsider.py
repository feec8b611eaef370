# SPDX-License-Identifier: GPL-2.0
"""The outsider's test: a kernel with traffic on everything crashes or hangs, again and again.

Whoever looks from outside sees that kernel end and come back with all that it had, and the others
go on as if nothing had happened. Needs six CPUs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import net
import pytest

import stress
from guest import Starter, ctl, free_kib, look, release_all, wait_for, wait_memory_back
from popcorn import Client
from popcorn.models import KernelState
from stress import AGAIN, BATCH, CALL, PATIENCE_S, SOAK, WAIT, Stress, mask
from ttys import is_open, modprobe, opened, read_exactly, write_all
from vsock_guest import ECHO, HOST, dial, make_image, take, unload

PRIMARY, SIBLING, VICTIM = 0, 1, 2
ALL = mask(PRIMARY, SIBLING, VICTIM)
LINK = "popcorn0"
LINE = 4
LINES = 8
"""To each node; the minors of those to node N begin at 8 * N."""

HANG = 2
"""How of the order "crash": all CPUs loop with interrupts off."""

ROUNDS = int(os.environ.get("POPCORN_ROUNDS", 100 if SOAK else 1))
SLACK_KIB = 8 * 1024
"""What is free in the end may be less by this much; a leak of 100 KiB a round would show."""

SETTLED = 2
"""After so many rounds all that grows once has grown."""

STREAMS = {
    "messages": 0,
    "queues": 2,
    "senders": 1,
    "modes": WAIT | AGAIN | BATCH | CALL,
    "max": 16 << 10,
    "pause_us": 20000,
}

#: On the link an echo, on a line an echo, and vsock_peer, which has one.
RUN = f"""#!/bin/sh
{net.SERVE.strip()} &
nc -ll -p 7 -e cat &
sh -c 'exec <>/dev/ttyPCN{LINE} >&0; stty raw -echo; touch /srv/raw; exec cat' &
exec vsock_peer
"""


class Echo(ABC, threading.Thread):
    """Sends numbered blocks to a kernel, one after the other, and gets each back.

    `steady` is for one that must never fail. The other one's connection may break, and is made
    again.
    """

    BLOCK = 4096

    def __init__(self, node: int, steady: bool) -> None:
        super().__init__(daemon=True, name=f"{type(self).__name__} to node {node}")
        self.node = node
        self.steady = steady
        self.blocks = self.breaks = 0
        self.failure: str | None = None
        self._over = threading.Event()

    @abstractmethod
    def connect(self) -> contextlib.AbstractContextManager[Callable[[bytes], bytes]]:
        """A connection: what sends a block, and returns the one that comes back. OSError."""

    def run(self) -> None:
        while not self._over.is_set() and not self.failure:
            try:
                with self.connect() as exchange:
                    while not self._over.is_set() and not self.failure:
                        self._one(exchange)
                        # Others want to run, too.
                        time.sleep(0.1)
            except (OSError, AssertionError) as error:
                # The first connection is made before the other kernel is ready.
                if self.blocks:
                    self.breaks += 1
                    if self.steady and not self._over.is_set():
                        self.failure = f"{self.name} broke after {self.blocks} blocks: {error!r}"
                time.sleep(0.1)

    def _one(self, exchange: Callable[[bytes], bytes]) -> None:
        sent = struct.pack("=Q", self.blocks) * (self.BLOCK // 8)
        got = exchange(sent)
        if len(got) < len(sent):
            raise ConnectionError(f"{len(got)} bytes, then it ended")
        if got != sent:
            self.failure = f"{self.name}: block {self.blocks} came back as {got[:64]!r}..."
        self.blocks += 1

    def end(self) -> None:
        """No more blocks; the connection is closed."""
        self._over.set()
        self.join(60)
        assert not self.is_alive(), self.name


class BySocket(Echo):
    """A socket of whatever kind; `dial` connects it."""

    @abstractmethod
    def dial(self) -> socket.socket:
        """One that is connected."""

    @contextlib.contextmanager
    def connect(self) -> Iterator[Callable[[bytes], bytes]]:
        with self.dial() as sock:
            yield lambda block: (sock.sendall(block), take(sock, len(block)))[1]


class ByLink(BySocket):
    """TCP."""

    def __init__(self, node: int, steady: bool, address: str) -> None:
        super().__init__(node, steady)
        self._address = address

    def dial(self) -> socket.socket:
        return socket.create_connection((self._address, 7), timeout=120 if self.steady else 3)


class ByVsock(BySocket):
    """AF_VSOCK."""

    def dial(self) -> socket.socket:
        return dial(HOST + self.node, ECHO)


class ByLine(Echo):
    """A terminal in raw mode."""

    def __init__(self, node: int, steady: bool, address: str) -> None:
        super().__init__(node, steady)
        self._address = address

    @contextlib.contextmanager
    def connect(self) -> Iterator[Callable[[bytes], bytes]]:
        index = LINES * self.node + LINE
        # Before it is raw, it echoes on its own account.
        net.remote(self._address, "test -e /srv/raw", timeout=3)
        if not is_open(index):
            raise ConnectionError("nobody is there")
        with opened(index) as line:
            patience = 120 if self.steady else 5
            yield lambda block: (write_all(line, block), read_exactly(line, len(block), patience))[
                1
            ]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outsider") / "outsider.img"
    modules = ("popcorn_net", "popcorn_stress", "popcorn_tty")
    return make_image(path, modules=modules, run=RUN.encode())


@pytest.fixture
def module(client: Client) -> Iterator[Stress]:
    """All clients of the message layer; that they can be unloaded shows that nothing is in use."""
    modprobe("popcorn_tty")
    modprobe("popcorn_vsock")
    assert ctl("link", "add").returncode == 0
    with stress.loaded() as module:
        yield module
        release_all(client)
    assert ctl("link", "del", LINK).returncode == 0
    unload()
    modprobe("-r", "popcorn_net", "popcorn_tty")


def address_of(node: int) -> str:
    (own,) = (
        word.split("/")[0]
        for word in net.sh("ip", "-4", "-o", "address", "show", "dev", LINK).split()
        if word.startswith("10.") and "/" in word
    )
    return own.rpartition(".")[0] + f".{node + 1}"


def identity(address: str) -> tuple[str, float]:
    """Boot id, and seconds since the boot."""
    text = net.remote(address, "cat /proc/sys/kernel/random/boot_id /proc/uptime")
    boot, uptime, *_ = text.split()
    return boot, float(uptime)


def own_uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def wait_for_more(traffic: list[Echo], blocks: int = 3) -> None:
    """Until all of them got some more blocks back."""
    before = [echo.blocks for echo in traffic]
    deadline = time.monotonic() + 120
    while not all(e.blocks >= was + blocks for e, was in zip(traffic, before, strict=True)):
        broken = [echo.failure for echo in traffic if echo.failure]
        assert not broken, broken
        assert time.monotonic() < deadline, [
            f"{e.name}: {e.blocks} blocks, {e.blocks - was} of them new"
            for e, was in zip(traffic, before, strict=True)
        ]
        time.sleep(0.05)


def end_by_crash(client: Client, module: Stress) -> KernelState:
    address = address_of(VICTIM), net.SHELL_PORT
    with socket.create_connection(address, timeout=30) as shell:
        shell.sendall(b"echo c >/proc/sysrq-trigger\n")
        wait_for(client, "victim", KernelState.CRASHED, 60)
    return KernelState.CRASHED


def end_by_hang(client: Client, module: Stress) -> KernelState:
    begin = time.monotonic()
    module.order("crash", **{"from": mask(VICTIM)}, how=HANG)
    client.wait_kernel("victim", (KernelState.HUNG,), 60)
    print(f"found to hang after {time.monotonic() - begin:.2f} s", flush=True)
    return KernelState.HUNG


def survivors_talk(module: Stress) -> None:
    """The primary and the sibling hear of each other, both ways, and miss nothing."""
    pairs = (PRIMARY, SIBLING), (SIBLING, PRIMARY)
    before = module.ask(mask(SIBLING))
    now = module.wait(
        lambda now: all(now[p]["received"] > before[p]["received"] for p in pairs), mask(SIBLING)
    )
    assert not any(now[pair].faults for pair in pairs), now


@pytest.mark.parametrize("end", [end_by_crash, end_by_hang])
def test_one_of_two_ends_in_traffic(
    client: Client,
    start: Starter,
    module: Stress,
    image: Path,
    end: Callable[[Client, Stress], KernelState],
) -> None:
    before_all = look(client)
    start("sibling", cpus=(2,), initrd=image)
    first = start("victim", cpus=(4, 5), initrd=image).kernel
    assert (client.kernel("sibling").id, client.kernel("victim").id) == (SIBLING, VICTIM)
    sibling, victim = address_of(SIBLING), address_of(VICTIM)
    for address in (sibling, victim):
        net.wait_for_shell(address)
    interface = f"cat /sys/class/net/{LINK}/address"
    mac = net.remote(victim, interface)
    module.wait(lambda now: (SIBLING, VICTIM) in now and now[SIBLING, VICTIM].up, mask(SIBLING))
    module.start(ALL, ALL, **STREAMS)
    steady: list[Echo] = [
        ByLink(SIBLING, True, sibling), ByVsock(SIBLING, True), ByLine(SIBLING, True, sibling)
    ]  # fmt: skip
    unsteady: list[Echo] = [
        ByLink(VICTIM, False, victim), ByVsock(VICTIM, False), ByLine(VICTIM, False, victim)
    ]  # fmt: skip
    for echo in (*steady, *unsteady):
        echo.start()
    wait_for_more([*steady, *unsteady])
    identities = look(client).boot_id, identity(sibling)[0]
    uptimes = own_uptime(), identity(sibling)[1]
    boots, available = {identity(victim)[0]}, 0

    for number in range(1, ROUNDS + 1):
        state = end(client, module)
        survivors_talk(module)
        wait_for_more(steady)
        # What TCP still has for the dead one, it would keep for minutes.
        net.sh("ss", "-K", "dst", victim)
        assert client.kernel("victim").state == state

        done = ctl("kernel", "restart", "victim", "--timeout", str(PATIENCE_S), timeout=300)
        assert done.returncode == 0, done.stderr + ctl("kernel", "dmesg", "victim").stdout
        kernel = client.kernel("victim")
        assert kernel.epoch == first.epoch + number
        assert (kernel.memory_start, kernel.cpus) == (first.memory_start, first.cpus)
        net.wait_for_shell(victim)
        assert net.remote(victim, interface) == mac
        boots.add(identity(victim)[0])
        assert len(boots) == number + 1
        module.wait(lambda now: now[PRIMARY, VICTIM].up and now[SIBLING, VICTIM].up, mask(SIBLING))
        module.start(mask(VICTIM), ALL, **STREAMS)
        wait_for_more([*steady, *unsteady])
        *_, result = client.ping(VICTIM, 10)
        assert result.n == 10
        survivors_talk(module)
        assert (look(client).boot_id, identity(sibling)[0]) == identities
        for was, now in zip(uptimes, (own_uptime(), identity(sibling)[1]), strict=True):
            assert now > was
        uptimes = own_uptime(), identity(sibling)[1]
        assert not any(echo.breaks for echo in steady)
        if number == min(SETTLED, ROUNDS):
            interfaces, available = sorted(Path("/sys/class/net").iterdir()), free_kib()
        print(f"round {number}: {state.name.lower()}, restarted", flush=True)

    assert all(echo.breaks >= ROUNDS for echo in unsteady), [echo.breaks for echo in unsteady]
    module.stop(ALL)
    for echo in (*steady, *unsteady):
        echo.end()
        assert not echo.failure, echo.failure
    # Nothing is on the way any more, and nothing got lost.
    for _settle in range(2):
        reports = module.ask(mask(SIBLING, VICTIM))
        time.sleep(1)
    assert not stress.faults(reports), stress.faults(reports)
    for pair in ((PRIMARY, SIBLING), (SIBLING, PRIMARY)):
        assert (reports[pair]["ups"], reports[pair]["downs"]) == (1, 0)
    wait_memory_back(available, SLACK_KIB)
    assert sorted(Path("/sys/class/net").iterdir()) == interfaces

    release_all(client)
    assert look(client) == before_all
    assert (
        subprocess.run(["dmesg", "--level", "emerg,alert,crit"], capture_output=True).stdout == b""
    )
