# SPDX-License-Identifier: GPL-2.0
"""Terminals between kernels: the driver in one kernel (loopback), and with a second one."""

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
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest import Starter, release_all
from popcorn import Client
from popcorn.models import Kernel

MIB = 1 << 20
SYSFS = Path("/sys/class/tty")


def modprobe(*words: str) -> None:
    subprocess.run(["modprobe", *words], check=True)


@pytest.fixture(scope="module")
def loopback() -> Iterator[None]:
    """Both ends of the lines from node 0 to 1 are in this kernel: ttyPCN8+N and ttyPCN128+N."""
    modprobe("-r", "popcorn_host")
    modprobe("popcorn", "loopback=2")
    modprobe("popcorn_tty", "loopback=1")
    wait_until(lambda: Path("/dev/ttyPCN8").exists() and Path("/dev/ttyPCN128").exists())
    yield
    modprobe("-r", "popcorn_tty", "popcorn")
    modprobe("popcorn_host")


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


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


@contextlib.contextmanager
def opened(index: int, raw: bool = True) -> Iterator[int]:
    """A line, open whatever its mode and the other end."""
    fd = os.open(f"/dev/ttyPCN{index}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        os.set_blocking(fd, True)
        set_clocal(fd, True)
        if raw:
            tty.setraw(fd, termios.TCSANOW)
        yield fd
    finally:
        with contextlib.suppress(termios.error):
            termios.tcflush(fd, termios.TCIOFLUSH)
        os.close(fd)


def set_clocal(fd: int, on: bool) -> None:
    mode = termios.tcgetattr(fd)
    mode[2] = mode[2] | termios.CLOCAL if on else mode[2] & ~termios.CLOCAL
    termios.tcsetattr(fd, termios.TCSANOW, mode)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:65536]) :]


def read_exactly(fd: int, count: int, seconds: float = 120) -> bytes:
    found = bytearray()
    deadline = time.monotonic() + seconds
    while len(found) < count:
        left = deadline - time.monotonic()
        assert left > 0 and select.select([fd], [], [], left)[0], f"{len(found)} of {count} bytes"
        piece = os.read(fd, min(65536, count - len(found)))
        assert piece, f"hung up after {len(found)} of {count} bytes"
        found += piece
    return bytes(found)


def read_until(fd: int, mark: bytes, seconds: float = 60) -> bytes:
    found = b""
    deadline = time.monotonic() + seconds
    while mark not in found:
        left = deadline - time.monotonic()
        assert left > 0 and select.select([fd], [], [], left)[0], found
        piece = os.read(fd, 4096)
        assert piece, found
        found += piece
    return found


def in_background(function: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def attribute(index: int, name: str) -> str:
    return (SYSFS / f"ttyPCN{index}" / "popcorn" / name).read_text().strip()


def noise(count: int) -> bytes:
    return os.urandom(MIB) * (count // MIB) if count >= MIB else os.urandom(count)


# One kernel


def test_both_ways_at_once_while_another_line_answers(loopback: None) -> None:
    there, back = noise(10 * MIB), noise(10 * MIB)
    got: dict[str, str] = {}

    def take(fd: int, name: str) -> None:
        got[name] = hashlib.sha256(read_exactly(fd, 10 * MIB)).hexdigest()

    with opened(8) as a, opened(128) as b, opened(9) as ping, opened(129) as pong:
        threads = [
            in_background(take, b, "there"),
            in_background(take, a, "back"),
            in_background(write_all, a, there),
            in_background(write_all, b, back),
        ]
        trips = 0
        while any(thread.is_alive() for thread in threads):
            os.write(ping, b"x")
            assert read_exactly(pong, 1) == b"x"
            os.write(pong, b"y")
            assert read_exactly(ping, 1) == b"y"
            trips += 1
    assert got == {
        "there": hashlib.sha256(there).hexdigest(),
        "back": hashlib.sha256(back).hexdigest(),
    }
    assert trips > 10
    assert {attribute(index, "errors") for index in (8, 9, 128, 129)} == {"0"}


def test_slow_reader_loses_nothing_and_stops_the_writer(loopback: None) -> None:
    data = noise(MIB)
    with opened(8) as a, opened(128) as b:
        writer = in_background(write_all, a, data)
        time.sleep(1)
        assert writer.is_alive()  # nobody reads: it waits, and no more than that
        found = b""
        while len(found) < 2000:
            found += os.read(b, 100)
            time.sleep(0.01)
        assert writer.is_alive()
        found += read_exactly(b, MIB - len(found))
        writer.join(30)
    assert found == data


def test_one_write_of_64_kib(loopback: None) -> None:
    data = noise(65536)
    with opened(8) as a, opened(128) as b:
        assert os.write(a, data) == 65536
        assert read_exactly(b, 65536) == data


def test_drain_waits_for_the_reader(loopback: None) -> None:
    with opened(8) as a, opened(128) as b:
        write_all(a, noise(100_000))
        drained = in_background(termios.tcdrain, a)
        time.sleep(0.5)
        assert drained.is_alive()
        read_exactly(b, 100_000)
        drained.join(30)
        assert not drained.is_alive()


def test_ctrl_s_stops_output(loopback: None) -> None:
    with opened(8) as a, opened(128) as b:
        termios.tcflow(a, termios.TCOOFF)
        os.write(a, b"later")
        assert not select.select([b], [], [], 0.5)[0]
        termios.tcflow(a, termios.TCOON)
        assert read_exactly(b, 5) == b"later"


def test_terminal_begins_raw_and_shell_end_with_echo(loopback: None) -> None:
    with opened(14, raw=False) as a, opened(134, raw=False) as b:
        assert not termios.tcgetattr(a)[3] & (termios.ECHO | termios.ICANON)
        assert termios.tcgetattr(b)[3] & termios.ECHO
        os.write(a, b"hello\n")
        assert read_exactly(a, 7) == b"hello\r\n"
        assert os.read(b, 100) == b"hello\n"


def test_size_goes_across(loopback: None) -> None:
    with opened(8) as a, opened(128) as b:
        for end, other, size in ((a, b, (24, 80, 640, 480)), (b, a, (50, 132, 0, 0))):
            fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", *size))
            wait_until(
                lambda other=other, size=size: (
                    struct.unpack("4H", fcntl.ioctl(other, termios.TIOCGWINSZ, bytes(8))) == size
                )
            )


def test_break(loopback: None) -> None:
    with opened(8) as a, opened(128) as b:
        mode = termios.tcgetattr(b)
        mode[0] |= termios.PARMRK
        mode[0] &= ~(termios.IGNBRK | termios.BRKINT)
        termios.tcsetattr(b, termios.TCSANOW, mode)
        os.write(a, b"before")
        termios.tcsendbreak(a, 0)
        os.write(a, b"after")
        assert read_exactly(b, 14) == b"before\xff\0\0after"


def test_carrier_is_the_other_end_being_open(loopback: None) -> None:
    def carrier(fd: int) -> bool:
        bits = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCMGET, bytes(4)))[0]
        return bool(bits & termios.TIOCM_CAR)

    with opened(8) as a:
        wait_until(lambda: not carrier(a))
        assert attribute(8, "state") == "closed"
        with opened(128):
            wait_until(lambda: carrier(a))
            assert attribute(8, "state") == "open"
        wait_until(lambda: not carrier(a))
        os.write(a, b"x")  # clocal: not hung up

        set_clocal(a, False)
        with opened(128) as b:
            wait_until(lambda: carrier(a))
            os.write(b, b"last words")
            termios.tcdrain(b)
        wait_until(lambda: not carrier(a))
        time.sleep(0.5)  # nothing is lost to who reads late
        assert read_exactly(a, 10) == b"last words"
        assert os.read(a, 1) == b""


def test_open_waits_for_the_carrier_unless_clocal(loopback: None) -> None:
    with opened(8) as a:
        set_clocal(a, False)
    waiting = in_background(lambda: os.close(os.open("/dev/ttyPCN8", os.O_RDWR | os.O_NOCTTY)))
    time.sleep(0.5)
    assert waiting.is_alive()
    with opened(128):
        waiting.join(30)
        assert not waiting.is_alive()
    with opened(8):
        pass


def test_terminal_keeps_what_nobody_saw_and_the_shell_end_does_not(loopback: None) -> None:
    with opened(9), opened(129):
        pass  # both have room for it from here on
    with opened(129) as b:
        write_all(b, b"x" * 100_000 + b"the end")  # nobody waits for a line that is not open
        termios.tcdrain(b)
    with opened(9) as a:
        kept = read_exactly(a, 32768)
        assert kept == b"x" * (32768 - 7) + b"the end"
        write_all(a, b"y" * 100_000)
        termios.tcdrain(a)
        with opened(129) as b:
            os.write(a, b"now")
            assert read_exactly(b, 3) == b"now"


def test_modules_stay_while_a_line_is_open(loopback: None) -> None:
    with opened(8):
        done = subprocess.run(["modprobe", "-r", "popcorn_tty"], capture_output=True, text=True)
        assert done.returncode != 0
        assert "in use" in done.stderr


# Two kernels


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
    names = {path.name for path in Path("/dev/popcorn/web").iterdir()}
    assert names == {f"tty{n}" for n in range(8)}
    first = Terminal("web")
    first.resize(24, 80)
    first.expect(b"connected to line 0 to 'web'")
    first.send(b"\n")
    first.expect(b"# ")
    assert "24 80" in first.ask("stty size")
    first.resize(50, 132)
    assert "50 132" in first.ask("sleep 1; stty size")
    first.send(b"trap 'echo w''inch' WINCH; sleep 60\n")
    time.sleep(1)
    first.resize(30, 100)
    time.sleep(1)
    first.send(b"\x03")
    first.expect(b"winch")
    assert "web" in first.ask("hostname")

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
    assert not Path("/dev/popcorn/web").exists()

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


def test_ten_mib_each_way_through_two_kernels(
    client: Client, module: None, start: Starter, run_image: Callable[[str], Path], tmp_path: Path
) -> None:
    image = run_image(
        """exec <>/dev/ttyPCN4 >&0
        stty raw -echo
        exec cat
        """
    )
    start("web", initrd=image)
    data = noise(10 * MIB)
    wait_until(lambda: attribute(12, "state") == "open")
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
