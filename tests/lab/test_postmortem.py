# SPDX-License-Identifier: GPL-2.0
"""Reading the memory of kernels that are hung, dead, started anew, or watched while they run."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest import Starter, ctl, ctl_json, is_zero, look, memory_of
from popcorn import Client
from popcorn.device import HostDevice
from popcorn.errors import BusyError, TimeoutExpiredError
from popcorn.models import Kernel, KernelState

WORD = "a word that only the first life says"
NOTE = b"VMCOREINFO\0\0OSRELEASE="

# Without a clock source this early, it waits for ever to calibrate its delay loop: long before
# there is a vmcoreinfo note.
HANGS_EARLY = "clearcpuid=tsc"


def notes_in(memory: mmap.mmap) -> int:
    return sum(
        memory[at + 12 : at + 12 + len(NOTE)] == NOTE for at in range(0, len(memory), mmap.PAGESIZE)
    )


def test_memory_is_wiped_before_every_start(
    client: Client, start: Starter, run_image: Callable[[str], Path]
) -> None:
    """Else what a dead kernel left is taken for the living one."""
    kernel = client.kernel_new("web", (2, 3), 256 << 20)
    with memory_of(kernel) as memory:
        assert is_zero(memory), "a new lease"
    done = ctl("kernel", "dmesg", "web")
    assert done.returncode == 1
    assert "was not started" in done.stderr

    image = run_image(f"sleep 1\necho '{WORD}' >/dev/kmsg\necho c >/proc/sysrq-trigger\n")
    assert ctl("kernel", "start", "web", "--initrd", str(image)).returncode == 0
    client.wait_kernel("web", (KernelState.CRASHED,), 60)
    assert WORD in ctl("kernel", "dmesg", "web").stdout
    with memory_of(kernel) as memory:
        assert notes_in(memory) == 1

    kernel = client.kernel_prepare(kernel.id)
    with memory_of(kernel) as memory:
        assert is_zero(memory), "a lease that was used"
    assert ctl("kernel", "start", "web").returncode == 0
    with memory_of(kernel) as memory:
        assert notes_in(memory) == 1
    log = ctl("kernel", "dmesg", "web").stdout
    assert log.startswith("[    0.000000] Linux version ")
    assert WORD not in log and "Kernel panic" not in log
    assert ctl("kernel", "kill", "web").returncode == 0


def test_a_kernel_that_hangs_before_there_is_a_note(
    client: Client, start: Starter, tmp_path: Path
) -> None:
    with pytest.raises(TimeoutExpiredError):
        start("mute", append=HANGS_EARLY, timeout=5)
    deadline = time.monotonic() + 60
    while "Calibrating delay loop" not in (alive := ctl("kernel", "dmesg", "mute").stdout):
        assert time.monotonic() < deadline, alive
    kernel = client.kernel("mute")
    with memory_of(kernel) as memory:
        assert notes_in(memory) == 0
    shown = ctl_json("kernel", "dmesg", "mute")
    assert (shown["state"], shown["release"], shown["problems"]) == ("starting", "", [])
    assert alive.startswith("[    0.000000] Linux version ")
    assert HANGS_EARLY in alive
    assert "Calibrating delay loop" in alive.splitlines()[-1]
    # Killed, it says the same, and following it ends.
    assert ctl("kernel", "kill", "mute", "--keep").returncode == 0
    for more in ((), ("--follow",)):
        assert ctl("kernel", "dmesg", "mute", *more).stdout == alive
    done = ctl("kernel", "dump", "mute", "-o", str(tmp_path / "mute.core"))
    assert done.returncode == 1
    assert "no vmcoreinfo note" in done.stderr
    assert not (tmp_path / "mute.core").exists()


@pytest.fixture
def follower() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def follow(*words: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                ["popcornctl", "kernel", "dmesg", "--follow", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield follow
    for process in started:
        process.kill()
        process.communicate()


def test_follow_to_the_end(
    client: Client,
    start: Starter,
    run_image: Callable[[str], Path],
    follower: Callable[..., subprocess.Popen[str]],
) -> None:
    script = 'for n in $(seq 1 40); do echo "line $n." >/dev/kmsg; sleep 0.1; done\n'
    start("web", initrd=run_image(script))
    watch = follower("web")
    while "line 20." not in (line := watch.stdout.readline()):
        assert line, watch.stderr.read()
    # A follower is in nobody's way.
    done = ctl("kernel", "stop", "web")
    assert done.returncode == 0, done.stderr
    rest, err = watch.communicate(timeout=30)
    assert watch.returncode == 0, err
    assert "the primary asks this kernel to power off" in rest


def test_follow_a_panic(
    client: Client,
    start: Starter,
    run_image: Callable[[str], Path],
    follower: Callable[..., subprocess.Popen[str]],
) -> None:
    start("web", initrd=run_image("sleep 4\necho c >/proc/sysrq-trigger\n"))
    out, err = follower("web").communicate(timeout=60)
    assert err == ""
    assert out.startswith("[    0.000000] Linux version ")
    assert "---[ end Kernel panic" in out.splitlines()[-1]
    assert out == ctl("kernel", "dmesg", "web").stdout


def test_a_disk_that_is_full(client: Client, shared: Callable[..., Kernel], tmp_path: Path) -> None:
    shared("web", cpus=(2, 3))
    before = look(client)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", tmp_path], check=True)
    try:
        for more in ((), ("--compress", "zstd")):
            done = ctl("kernel", "dump", "web", "-o", str(tmp_path / "web.core"), *more)
            assert done.returncode == 1
            assert "No space left on device" in done.stderr
            assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert look(client) == before
    assert client.kernel("web").state == KernelState.RUNNING
    assert ctl_json("ping", "web", "-c", "100")["n"] == 100


def test_dump_of_a_live_kernel(
    client: Client, shared: Callable[..., Kernel], tmp_path: Path
) -> None:
    shared("web", cpus=(2, 3))
    core, packed = tmp_path / "web.core", tmp_path / "web.core.zst"
    done = ctl("kernel", "dump", "web", "-o", str(core))
    assert done.returncode == 0, done.stderr
    assert "ran meanwhile" in done.stdout
    subprocess.run(
        ["makedumpfile", "--dump-dmesg", core, tmp_path / "log"], check=True, capture_output=True
    )
    assert "popcorn-init: joined as web" in (tmp_path / "log").read_text(errors="replace")
    assert ctl("kernel", "dump", "web", "-o", str(core)).returncode == 1, "it exists"
    done = ctl("kernel", "dump", "web", "-o", str(packed), "--compress", "zstd")
    assert done.returncode == 0, done.stderr
    assert packed.stat().st_size < core.stat().st_blocks * 512
    subprocess.run(["zstd", "-q", "-t", packed], check=True)
    assert ctl_json("ping", "web", "-c", "100")["n"] == 100


def test_not_root(shared: Callable[..., Kernel], tmp_path: Path) -> None:
    shared("web", cpus=(2, 3))
    tmp_path.chmod(0o777)
    for words in (("dmesg", "web"), ("dump", "web", "-o", str(tmp_path / "web.core"))):
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
             "popcornctl", "kernel", *words],
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 1
        assert "hint: run it as root" in done.stderr


def test_many_readers_at_once(shared: Callable[..., Kernel]) -> None:
    shared("web", cpus=(2, 3))
    readers = [
        subprocess.Popen(["popcornctl", "kernel", "dmesg", "web"], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert len({reader.communicate(timeout=60)[0] for reader in readers}) == 1
    time.sleep(0.1)
    assert ctl("kernel", "stop", "web").returncode == 0


# the device


def test_memory_can_be_looked_at_in_every_state_and_written_only_when_leased(
    client: Client, start: Starter
) -> None:
    kernel = client.kernel_new("web", (2,), 256 << 20)
    fd = os.open("/dev/popcorn/host", os.O_RDWR)
    try:

        def writable() -> bool:
            try:
                mmap.mmap(
                    fd,
                    mmap.PAGESIZE,
                    mmap.MAP_SHARED,
                    mmap.PROT_READ | mmap.PROT_WRITE,
                    offset=kernel.memory_start,
                ).close()
            except OSError as error:
                assert error.errno == errno.EACCES
                return False
            return True

        assert writable()
        start("web", cpus=None)
        for end in (None, client.kernel_kill):
            if end is not None:
                end(kernel.id)
            assert not writable()
            assert len(os.pread(fd, 4096, kernel.memory_start)) == 4096
            with memory_of(kernel) as memory:
                assert len(memory[: 1 << 20]) == 1 << 20
        for where in (
            0,
            kernel.memory_start - 4096,
            kernel.memory_start + kernel.memory_size,
            (1 << 63) - 4096,
        ):
            with pytest.raises(OSError) as caught:
                os.pread(fd, 4096, where)
            assert caught.value.errno == errno.EINVAL
        # What reaches over the end is not read in part.
        end_of_it = kernel.memory_start + kernel.memory_size
        with pytest.raises(OSError):
            os.pread(fd, 8192, end_of_it - 4096)
        assert os.pread(fd, 0, 0) == b""
        assert os.pread(fd, 3, kernel.memory_start + 5) == b"\0\0\0"
        with pytest.raises(OSError):
            os.pwrite(fd, b"x", kernel.memory_start)
    finally:
        os.close(fd)


def test_reading_a_region_pins_it_only_when_asked(client: Client, start: Starter) -> None:
    kernel = start("web").kernel
    client.kernel_kill(kernel.id)
    with HostDevice().memory(kernel.memory_start, kernel.memory_size, pin=True) as memory:
        for release in (client.kernel_del, client.kernel_prepare):
            with pytest.raises(BusyError, match="mapped"):
                release(kernel.id)
        assert memory.read(kernel.memory_start, 4096)
    with HostDevice().memory(kernel.memory_start, kernel.memory_size) as memory:
        assert memory.read(kernel.memory_start, 4096)
        client.kernel_del(kernel.id)
        with pytest.raises(Exception, match="cannot read the memory"):
            memory.read(kernel.memory_start, 4096)
