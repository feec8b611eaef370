# SPDX-License-Identifier: GPL-2.0
"""Terminals between two kernels, as popcornctl console shows them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest import Starter, release_all
from popcorn import Client
from popcorn.models import Kernel
from stress import SOAK
from ttys import MIB, attribute, in_background, is_open, modprobe, noise, wait_until


@pytest.fixture
def module(client: Client) -> Iterator[None]:
    """The module in this kernel; that it can be unloaded shows that nothing is left open."""
    modprobe("popcorn_tty")
    yield
    modprobe("-r", "popcorn_tty")


class Terminal:
    """popcornctl console on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execvp("popcornctl", ["popcornctl", "console", *words])
        self.before = termios.tcgetattr(self.fd)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def send(self, data: bytes) -> None:
        os.write(self.fd, data)

    def expect(self, mark: bytes, seconds: float = 60) -> bytes:
        """What comes up to the mark; only what comes after it is looked at later."""
        deadline = time.monotonic() + seconds
        while mark not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], self.seen
            self.seen += os.read(self.fd, 4096)
        before, _, self.seen = self.seen.partition(mark)
        return before + mark

    def ask(self, command: str) -> str:
        """Run a command in the shell there, which is at its prompt; what it printed."""
        self.send(f"{command}; echo e''nd\n".encode())
        return self.expect(b"end\r\n").decode()

    def end(self, seconds: float = 30) -> tuple[int, str]:
        """Exit status, and what was printed until then; the terminal is as it was."""
        rest = self.seen
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            while select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                rest += os.read(self.fd, 4096)
        _, status = os.waitpid(self.pid, 0)
        assert termios.tcgetattr(self.fd) == self.before
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status), rest.decode()

    def leave(self) -> None:
        self.send(b"\x1d.")
        assert self.end()[0] == 0


@pytest.fixture
def shell(client: Client, module: None, start: Starter) -> Iterator[Kernel]:
    """A kernel with a shell on its first lines."""
    yield start("web", profile="shell").kernel
    release_all(client)


def console(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["popcornctl", "console", *words], input=given, capture_output=True, timeout=180
    )


def test_shell_on_a_terminal(shell: Kernel, client: Client, start: Starter) -> None:
    assert "popcorn_net" not in Path("/proc/modules").read_text()
    wait_until(lambda: all(Path(f"/dev/popcorn/web/tty{n}").exists() for n in range(8)))
    first = Terminal("web")
    first.resize(24, 80)
    first.expect(b"connected to line 0 to 'web'")
    first.send(b"\n")
    first.expect(b"# ")
    assert "24 80" in first.ask("stty size")
    first.resize(50, 132)
    assert "50 132" in first.ask("sleep 1; stty size")
    # Spelled so that the echo of the command is not taken for what it prints.
    # Not `wait`: one that begins after the signal came waits for the rest of the time.
    loop = b"while :; do sleep 1; done"
    first.send(b'sh -c \'trap "echo w\\inch; exit" WINCH; echo re""ady; ' + loop + b"'\n")
    first.expect(b"ready")
    first.resize(30, 100)
    first.expect(b"winch")
    first.expect(b"# ")
    assert "web" in first.ask("hostname")

    # A program that takes the whole screen follows the window, and leaves it as it was.
    first.resize(24, 80)
    first.send(b"vi /tmp/text\n")
    first.expect(b"\x1b[24;1H")
    first.resize(30, 100)
    first.expect(b"\x1b[30;1H")
    first.send(b"iwritten in vi")
    first.expect(b"written in vi")
    # With a colon behind it, it would begin a key's sequence.
    first.send(b"\x1b")
    first.expect(b"- /tmp/text [Modified]")
    first.send(b":wq\n")
    first.expect(b"# ")
    assert "written in vi" in first.ask("cat /tmp/text")
    first.send(b"top -d 1\n")
    first.expect(b"Load average:")
    first.resize(24, 80)
    first.expect(b"Load average:")
    first.send(b"q")
    first.expect(b"# ")
    assert "24 80" in first.ask("stty size")

    # Another line is another shell.
    second = Terminal("web", "--line", "1")
    second.expect(b"connected")
    assert "/dev/ttyPCN1" in second.ask("tty")
    second.send(b"\x1d?")
    second.expect(b"send a break")

    # One writes, others look.
    status, words = Terminal("web").end()
    assert status == 1
    assert f"line 0 to 'web' is in use by process {first.pid}" in words
    watcher = Terminal("web", "--watch")
    watcher.expect(b"winch")
    first.ask("echo se''en")
    watcher.expect(b"seen")
    watcher.leave()

    # What runs there stays when one leaves, and is there for the next.
    first.send(b"left=here\n")
    first.leave()
    first = Terminal("web")
    first.expect(b"connected")
    assert "here" in first.ask("echo $left")
    # A watcher that holds the line makes room.
    second.leave()
    watcher = Terminal("web", "--watch", "--line", "1")
    watcher.expect(b"looking on")
    second = Terminal("web", "--line", "1")
    second.expect(b"connected")
    second.ask("echo o''ver")
    watcher.expect(b"over")
    second.leave()
    watcher.leave()

    # The kernel dies while somebody types.
    first.send(b"echo half a li")
    client.kernel_kill(shell.id)
    status, words = first.end()
    assert status == 1
    assert "line 0 to 'web' was hung up: kernel 'web' is killed" in words
    done = console("web")
    assert done.returncode == 1 and b"web" in done.stderr
    wait_until(lambda: not Path("/dev/popcorn/web").exists())

    # And comes back.
    client.kernel_del(shell.id)
    start("web", profile="shell")
    first = Terminal("web")
    first.expect(b"connected")
    first.ask("echo again")
    assert "root" in first.ask("ls /")
    first.leave()


def test_pipe(shell: Kernel, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = console("web", "--log", str(log), given=b"echo $((6 * 7)) $(hostname)\n")
    assert done.returncode == 0, done.stderr
    assert b"\n42 web\r\n" in done.stdout
    assert log.read_bytes() == done.stdout
    assert done.stderr == b""


def test_bad_input(client: Client, start: Starter) -> None:
    start("web")
    done = console("web")
    assert done.returncode == 1
    assert b"popcorn_tty is not loaded" in done.stderr
    modprobe("popcorn_tty")
    try:
        assert console("web", "--line", "8").returncode == 2
        done = console("nobody")
        assert done.returncode == 1 and b"nobody" in done.stderr
        done = console("web", "--log", "/nowhere/log")
        assert done.returncode == 1 and b"/nowhere/log" in done.stderr
        wait_until(lambda: console("web").returncode == 0)
        with Path("/dev/popcorn/web/tty0").open("rb", buffering=0) as taken:
            fcntl.flock(taken, fcntl.LOCK_EX)
            done = console("web")
            assert done.returncode == 1 and b"in use by another program" in done.stderr
    finally:
        modprobe("-r", "popcorn_tty")


def test_megabytes_each_way_through_two_kernels(
    client: Client, module: None, start: Starter, run_image: Callable[[str], Path], tmp_path: Path
) -> None:
    image = run_image(
        """exec <>/dev/ttyPCN4 >&0
        stty raw -echo
        exec cat
        """
    )
    start("web", initrd=image)
    data = noise((100 if SOAK else 4) * MIB)
    wait_until(lambda: is_open(12))
    result: list[subprocess.CompletedProcess[bytes]] = []
    paste = in_background(lambda: result.append(console("web", "--line", "4", given=data)))
    other = Terminal("web", "--line", "1")
    other.expect(b"connected")
    answers = 0
    while paste.is_alive():
        other.ask("echo $((1 + 1))")
        answers += 1
    other.leave()
    assert result[0].returncode == 0, result[0].stderr
    assert hashlib.sha256(result[0].stdout).digest() == hashlib.sha256(data).digest()
    assert answers > 2
    assert attribute(12, "errors") == "0"


def test_console_of_the_kernel(client: Client, module: None, start: Starter) -> None:
    start("web", append="console=ttyPCN0 sysrq_always_enabled")
    looking = Terminal("web")
    looking.expect(b"] Linux version ")
    looking.expect(b"joined as web")
    # A break, then a byte: meant for the kernel.
    looking.send(b"\x1db")
    time.sleep(1)
    looking.send(b"h")
    looking.expect(b"sysrq: HELP : ")
    looking.leave()
