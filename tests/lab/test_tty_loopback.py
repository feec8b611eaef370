# SPDX-License-Identifier: GPL-2.0
"""Terminals between kernels: the driver, with both ends in one kernel."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ttys import (
    MIB,
    attribute,
    in_background,
    modprobe,
    noise,
    opened,
    read_exactly,
    set_clocal,
    wait_until,
    write_all,
)


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


def counted(fd: int) -> tuple[int, int]:
    """What a line sent and received, ever (struct serial_icounter_struct: tx and rx)."""
    numbers = struct.unpack("=20i", fcntl.ioctl(fd, termios.TIOCGICOUNT, bytes(80)))
    return numbers[5], numbers[4]


def test_bytes_are_traced(loopback: None) -> None:
    """As many as were written, a prime, and as many as the lines count."""
    events = ("popcorn_tty_transmit", "popcorn_tty_receive")
    instance = Path("/sys/kernel/tracing/instances/popcorn-tty-test")
    sent = noise(100_003)
    instance.mkdir()
    try:
        with opened(9) as a, opened(129) as b:
            before = counted(a), counted(b)
            for event in events:
                (instance / "events/popcorn" / event / "enable").write_text("1")
            thread = in_background(write_all, a, sent)
            assert read_exactly(b, len(sent)) == sent
            thread.join()
            after = counted(a), counted(b)
            text = (instance / "trace").read_text()
    finally:
        instance.rmdir()
    assert (after[0][0] - before[0][0], after[1][1] - before[1][1]) == (len(sent), len(sent))
    for event in events:
        found = re.findall(rf"{event}: src=(\d+) dst=(\d+) line=(\d+) len=(\d+) left=(\d+)", text)
        assert {tuple(map(int, row[:3])) for row in found} == {(0, 1, 1)}
        assert sum(int(row[3]) for row in found) == len(sent)
        # All was sent, and all was taken.
        assert int(found[-1][4]) == 0
