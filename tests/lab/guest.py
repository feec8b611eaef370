# SPDX-License-Identifier: GPL-2.0
"""What the tests in the lab share: looking at the machine, running popcornctl, waiting."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import mmap
import os
import pkgutil
import platform
import re
import select
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import popcorn.cli
from popcorn import Client
from popcorn.client import RESTING
from popcorn.models import Kernel, KernelState, NodeState
from popcorn.start import Started

SECONDARIES = dict(
    pair.split("=", 1) for pair in os.environ.get("LAB_SECONDARIES", "").split() if "=" in pair
) or {"own": platform.release()}
"""The kernels to try as secondaries: a name and the release of each."""

CHECKED = Path("/sys/kernel/debug/kmemleak").exists()
"""Whether the running kernel checks itself. That makes it large and slow."""

RELEASE = next(iter(SECONDARIES.values())) if CHECKED else platform.release()
"""The kernel that tests start unless they say otherwise: the running one, or beside one that checks
itself the first of SECONDARIES, so that a suite takes minutes and not an hour."""

NETWORK = "popcorn.rtnl"
"""It imports all of pyroute2, which takes seconds; what has to do with links needs it."""


@dataclass(frozen=True)
class Machine:
    """What must be the same before and after."""

    online: str
    present: str
    iomem: str
    kernels: tuple[str, ...]
    boot_id: str


def _read(path: str) -> str:
    return Path(path).read_text().strip()


def look(client: Client) -> Machine:
    """The machine as it is now."""
    return Machine(
        online=_read("/sys/devices/system/cpu/online"),
        present=_read("/sys/devices/system/cpu/present"),
        iomem=_read("/proc/iomem"),
        kernels=tuple(k.name for k in client.kernels()),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
    )


def free_kib() -> int:
    """Memory that the kernel has not lost: free, listed by CPUs as free, or some process's own.

    Those lists come and go with tens of MiB, which MemFree lacks. Without the page cache: expensive
    here, whatever runs next is read again through the emulated file system.
    """
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    fields = dict(line.split(":") for line in _read("/proc/meminfo").splitlines())
    listed = re.findall(r"^ +count: +([0-9]+)$", _read("/proc/zoneinfo"), re.MULTILINE)
    assert listed, "no per-CPU lists in /proc/zoneinfo"
    kib = sum(int(fields[name].split()[0]) for name in ("MemFree", "AnonPages"))
    return kib + sum(map(int, listed)) * mmap.PAGESIZE // 1024


def wait_memory_back(before_kib: int, slack_kib: int, seconds: float = 20) -> None:
    """Wait until as much is there as before, but for a slack; AssertionError if it never is.

    What waits for a grace period comes back; what leaked does not.
    """
    deadline = time.monotonic() + seconds
    gc.collect()
    while (missing := before_kib - free_kib()) >= slack_kib:
        assert time.monotonic() < deadline, f"{missing} KiB are missing"
        time.sleep(2)


def program(*args: str, timeout: float = 180, **env: str) -> subprocess.CompletedProcess[str]:
    """Run popcornctl as a user would; kernels are of RELEASE if `args` do not say."""
    return subprocess.run(
        ["popcornctl", *_of_release(args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **env},
    )


def ctl(*args: str, timeout: float = 180, **env: str) -> subprocess.CompletedProcess[str]:
    """The same in a fork of this process, which has imported already what popcornctl imports.

    Under emulation that is nearly all that a command takes. test_bad_input.py compares the two.
    """
    args = _of_release(args)
    _import_all()
    if {"link", "ssh", "--root"} & {*args}:
        importlib.import_module(NETWORK)
    with contextlib.ExitStack() as files:
        # Files, as they have room for everything while nobody reads.
        out, err = (
            files.enter_context(os.fdopen(os.memfd_create(name), "r+")) for name in ("out", "err")
        )
        pid = os.fork()
        if not pid:
            _be_program(args, (out.fileno(), err.fileno()), env)
        pidfd = os.pidfd_open(pid)
        try:
            in_time = select.select([pidfd], [], [], timeout)[0]
        finally:
            os.close(pidfd)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for file in (out, err):
            file.seek(0)
        done = subprocess.CompletedProcess(["popcornctl", *args], status, out.read(), err.read())
    if not in_time:
        raise subprocess.TimeoutExpired(done.args, timeout, done.stdout, done.stderr)
    return done


def _of_release(args: tuple[str, ...]) -> tuple[str, ...]:
    word = {("kernel", "start"): "--kernel", ("image", "build"): "--release"}.get(args[:2])
    if CHECKED and word and word not in args:
        return (*args[:2], word, RELEASE, *args[2:])
    return args


@functools.cache
def _import_all() -> None:
    """Here, so that no fork has to do it."""
    for module in pkgutil.walk_packages(popcorn.__path__, "popcorn."):
        if module.name not in ("popcorn.cli.__main__", NETWORK):
            importlib.import_module(module.name)


def _be_program(args: tuple[str, ...], outputs: tuple[int, int], env: dict[str, str]) -> NoReturn:
    """In a fork: run popcornctl's main(), and end."""
    code = 255
    try:
        # What the tests dropped is not this process's to clear away.
        gc.freeze()
        for fd, wanted in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
            os.dup2(wanted, fd)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace")
        sys.argv = ["popcornctl", *args]
        os.environ.update(env)
        try:
            code = popcorn.cli.main()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def ctl_json(*args: str) -> Any:
    done = ctl("--json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def static_key(symbol: str) -> bool:
    """Is a static key of the running kernel on? Read out of /proc/kcore (an ELF core file)."""
    address = next(
        int(line.split()[0], 16)
        for line in Path("/proc/kallsyms").read_text().splitlines()
        if line.split()[2] == symbol
    )
    with Path("/proc/kcore").open("rb") as core:
        header = core.read(64)
        offset, size, count = (
            *struct.unpack_from("=Q", header, 32),
            *struct.unpack_from("=HH", header, 54),
        )
        for index in range(count):
            core.seek(offset + index * size)
            kind, _flags, start, virtual, _physical, length = struct.unpack(
                "=IIQQQQ", core.read(40)
            )
            if kind == 1 and virtual <= address < virtual + length:
                core.seek(start + address - virtual)
                # struct static_key begins with the atomic_t `enabled`.
                return bool(struct.unpack("=i", core.read(4))[0] > 0)
    raise RuntimeError(f"{symbol} is not in /proc/kcore")


@contextlib.contextmanager
def memory_of(kernel: Kernel) -> Iterator[mmap.mmap]:
    """The leased memory of a kernel, to read."""
    fd = os.open("/dev/popcorn/host", os.O_RDONLY)
    try:
        with mmap.mmap(
            fd, kernel.memory_size, mmap.MAP_SHARED, mmap.PROT_READ, offset=kernel.memory_start
        ) as memory:
            yield memory
    finally:
        os.close(fd)


def is_zero(memory: mmap.mmap) -> bool:
    """Is there nothing in it?"""
    zero, step = bytes(1 << 20), 1 << 20
    return all(memory[at : at + step] == zero for at in range(0, len(memory), step))


def quiet(name: str, detail: str, seconds: float | None) -> None:
    """Progress that nobody looks at."""


def release_all(client: Client, but: Container[str] = ()) -> None:
    """Kill and give back whatever is there, but for the kernels of these names."""
    for kernel in client.kernels():
        if kernel.name not in but:
            if kernel.state not in RESTING:
                client.kernel_kill(kernel.id)
            client.kernel_del(kernel.id)


Starter = Callable[..., Started]


class Shared:
    """Kernels that tests use one after the other, by name: see the fixture `shared`."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[dict[str, Any], int]] = {}

    def get(self, client: Client, name: str, start: Starter, options: dict[str, Any]) -> Kernel:
        """The kernel that was started with these options and still runs, or else a new one."""
        found = {kernel.name: kernel for kernel in client.kernels()}
        if name in found and self._is_sound(client, found[name], options):
            return found[name]
        release_all(client, but=found.keys() - {name})
        kernel = start(name, **options).kernel
        self._started[name] = options, kernel.epoch
        return kernel

    def _is_sound(self, client: Client, kernel: Kernel, options: dict[str, Any]) -> bool:
        if (options, kernel.epoch) != self._started.get(kernel.name):
            return False
        if kernel.state != KernelState.RUNNING:
            return False
        node = client.node(kernel.id)
        if node.state != NodeState.UP or node.shut:
            return False
        *_, result = client.ping(kernel.id, 1)
        return bool(result.n == 1)

    def names(self) -> Container[str]:
        """Which there are or were."""
        return self._started

    def check(self, client: Client) -> None:
        """AssertionError if one has ended other than by being told to."""
        for kernel in client.kernels():
            if kernel.name in self._started:
                assert kernel.state not in (KernelState.CRASHED, KernelState.HUNG), kernel.reason


def wait_listening(process: subprocess.Popen[Any], groups: int, seconds: float = 60) -> None:
    """Wait until a process listens to so many multicast groups of netlink (proc_net(5))."""
    deadline = time.monotonic() + seconds
    while (found := _groups(process.pid)) < groups:
        assert process.poll() is None, f"it ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"it listens to {found} groups"
        time.sleep(0.1)


def _groups(pid: int) -> int:
    """How many of them a process is in, over all of its sockets."""
    sockets = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(str(path.readlink()))
    rows = [line.split() for line in _read("/proc/net/netlink").splitlines()[1:]]
    return sum(int(row[3], 16).bit_count() for row in rows if f"socket:[{row[-1]}]" in sockets)


def wait_for(client: Client, name: str, state: KernelState, seconds: float = 30) -> Kernel:
    """Wait until a kernel has a state."""
    deadline = time.monotonic() + seconds
    while True:
        kernel = client.kernel(name)
        if kernel.state == state:
            return kernel
        if time.monotonic() > deadline:
            raise AssertionError(f"{name} is {kernel.state!r} ({kernel.reason}), not {state!r}")
        time.sleep(0.1)
