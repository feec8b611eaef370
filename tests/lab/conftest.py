# SPDX-License-Identifier: GPL-2.0
"""What the tests in the lab share. They run as root in the guest, against the real modules."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from popcorn import Client  # noqa: E402
from popcorn.errors import PopcornError  # noqa: E402
from popcorn.models import Kernel, KernelState  # noqa: E402
from popcorn.start import Spec, Started, start_kernel  # noqa: E402


@dataclass(frozen=True)
class Machine:
    """What must be the same before and after. `free_kib` is without the page cache."""

    online: str
    present: str
    iomem: str
    free_kib: int
    kernels: tuple[str, ...]
    boot_id: str

    def same_but_memory(self, other: Machine) -> bool:
        return (self.online, self.present, self.iomem, self.kernels, self.boot_id) == (
            other.online,
            other.present,
            other.iomem,
            other.kernels,
            other.boot_id,
        )


def _read(path: str) -> str:
    return Path(path).read_text().strip()


def look(client: Client) -> Machine:
    """The machine as it is now."""
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    free = next(line for line in _read("/proc/meminfo").splitlines() if line.startswith("MemFree:"))
    return Machine(
        online=_read("/sys/devices/system/cpu/online"),
        present=_read("/sys/devices/system/cpu/present"),
        iomem=_read("/proc/iomem"),
        free_kib=int(free.split()[1]),
        kernels=tuple(k.name for k in client.kernels()),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
    )


def ctl(*args: str, timeout: float = 180, **env: str) -> subprocess.CompletedProcess[str]:
    """Run popcornctl as a user would."""
    return subprocess.run(
        ["popcornctl", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **env},
    )


def ctl_json(*args: str) -> Any:
    done = ctl("--json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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


def quiet(name: str, detail: str, seconds: float | None) -> None:
    """Progress that nobody looks at."""


def release_all(client: Client) -> None:
    """Kill and give back whatever is there."""
    for kernel in client.kernels():
        if kernel.state in (KernelState.STARTING, KernelState.RUNNING, KernelState.STOPPING):
            client.kernel_kill(kernel.id)
        client.kernel_del(kernel.id)


@pytest.fixture(scope="session", autouse=True)
def modules() -> Iterator[None]:
    """Load the modules; unloading them at the end proves that nothing holds them."""
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    yield
    with Client() as client:
        release_all(client)
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    assert not Path("/sys/module/popcorn").exists()


@pytest.fixture
def client() -> Iterator[Client]:
    """A client, and no kernels before and after."""
    with Client() as client:
        release_all(client)
        yield client
        release_all(client)


Starter = Callable[..., Started]


@pytest.fixture
def start(client: Client) -> Starter:
    """Start a kernel: `start(name, cpus=(2,), memory_mib=256, ...)`."""

    def starter(name: str, **options: Any) -> Started:
        options.setdefault("cpus", (2,))
        options["memory_bytes"] = options.pop("memory_mib", 256) << 20
        return start_kernel(client, Spec(name=name, **options), quiet)

    return starter


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


@pytest.fixture
def run_image(tmp_path: Path) -> Callable[[str], Path]:
    """An initramfs whose kernel runs a script once it has joined."""

    def build(script: str) -> Path:
        source, image = tmp_path / "run.sh", tmp_path / "run.img"
        source.write_text("#!/bin/sh\n" + script)
        done = ctl("image", "build", "--profile", "shell", "--run", str(source), "-o", str(image))
        assert done.returncode == 0, done.stderr
        return image

    return build


__all__ = ("PopcornError", "ctl", "ctl_json", "look", "memory_of", "quiet", "wait_for")
