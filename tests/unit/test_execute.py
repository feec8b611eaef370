# SPDX-License-Identifier: GPL-2.0
"""Commands on another kernel: the real agent, at the other end of a pty."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import subprocess
import threading
import time
import tty
from pathlib import Path

import pytest

from popcorn.console import Line
from popcorn.errors import BusyError
from popcorn.execute import CommandError, LostError, execute

SOURCE = Path(__file__).parents[2] / "agent/agent.c"

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "popcorn-agent"
    flags = "-Wall -Wextra -Werror -O1 -g -fsanitize=address,undefined"
    subprocess.run(["gcc", *flags.split(), "-o", path, SOURCE], check=True)
    return path


@pytest.fixture
def line(program, request):
    """A line with the agent at its other end, which is what a pty's master is to a line.

    With a parameter, what comes in the first so many seconds is thrown away: nobody is there yet.
    """
    master, slave = pty.openpty()
    tty.setraw(slave)
    here, there = pty.openpty()
    tty.setraw(there)
    stop = threading.Event()
    since = time.monotonic() + getattr(request, "param", 0.0)

    # Two ptys back to back: each program gets a slave, as each end of a line is a tty.
    def carry(source, target):
        while not stop.is_set():
            try:
                data = os.read(source, 4096)
                if time.monotonic() >= since:
                    os.write(target, data)
            except OSError:
                return

    threads = [
        threading.Thread(target=carry, args=pair, daemon=True)
        for pair in ((master, here), (here, master))
    ]
    for thread in threads:
        thread.start()
    # As a shell starts what is to run in the background, which is how an image's init does.
    agent = subprocess.Popen(
        ["sh", "-c", 'trap \'\' INT QUIT; exec "$0" "$1"', program, os.ttyname(there)]
    )
    yield Line(os.ttyname(slave), 1, "web", 7, "open")
    stop.set()
    agent.kill()
    agent.wait()
    for fd in (slave, there):
        os.close(fd)


class Result:
    def __init__(self):
        self.out, self.err = bytearray(), bytearray()
        self.status = None

    def __eq__(self, other):
        return (self.status, bytes(self.out), bytes(self.err)) == other


def run(line, *words, **options):
    result = Result()
    result.status = execute(
        [line], words, output=result.out.extend, error=result.err.extend, **options
    )
    return result


def given(data):
    source, give = os.pipe()

    def write():
        # A command may end before it has read everything.
        with contextlib.suppress(BrokenPipeError), os.fdopen(give, "wb") as file:
            file.write(data)

    threading.Thread(target=write, daemon=True).start()
    return source


def test_streams_apart_and_status(line):
    assert run(line, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


@pytest.mark.parametrize("line", [1.5], indirect=True)
def test_an_agent_that_comes_late(line):
    assert run(line, "echo", "here") == (0, b"here\n", b"")


def test_a_command_ignores_no_interrupt(line):
    assert run(line, "sh", "-c", "trap 'exit 5' INT; kill -INT $$; exit 0").status == 5
    assert run(line, "sh", "-c", "kill -QUIT $$; exit 0").status == 128 + signal.SIGQUIT


def test_words_are_words(line):
    assert run(line, "printf", "%s|", "a b", "", "*", "\xe9") == (0, "a b||*|\xe9|".encode(), b"")


def test_many(line):
    assert [run(line, "sh", "-c", f"exit {n}").status for n in range(50)] == list(range(50))


def test_standard_input_both_ways_and_binary(line):
    data = os.urandom(1 << 20)
    source = given(data)
    assert run(line, "cat", source=source) == (0, data, b"")
    os.close(source)


def test_no_standard_input(line):
    assert run(line, "cat") == (0, b"", b"")


def test_input_that_nobody_reads(line):
    source = given(bytes(1 << 20))
    assert run(line, "sh", "-c", "exec <&-; echo done", source=source) == (0, b"done\n", b"")
    os.close(source)


def test_much_output(line):
    assert len(run(line, "head", "-c", "2000000", "/dev/zero").out) == 2_000_000


def test_signals(line):
    source, send = os.pipe()
    timer = threading.Timer(0.5, os.write, (send, bytes((signal.SIGTERM,))))
    timer.start()
    assert run(line, "sleep", "60", signals=source).status == 128 + signal.SIGTERM
    os.close(source)
    os.close(send)


def test_ended_by_its_own_signal(line):
    assert run(line, "sh", "-c", "kill -9 $$").status == 128 + signal.SIGKILL


def test_what_is_left_in_the_background_is_not_waited_for(line):
    begin = time.monotonic()
    assert run(line, "sh", "-c", "sleep 30 & echo started") == (0, b"started\n", b"")
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize(("word", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
def test_what_cannot_be_run(line, word, code):
    with pytest.raises(CommandError, match=word) as caught:
        run(line, word)
    assert caught.value.exit_code == code
    assert run(line, "true").status == 0


def test_too_long_a_command(line):
    with pytest.raises(CommandError, match="longer than"):
        run(line, "echo", "x" * 200_000)
    assert len(run(line, "echo", "x" * 100_000).out) == 100_001


def test_after_somebody_who_left_in_the_middle(line):
    fd = os.open(line.device, os.O_RDWR | os.O_NOCTTY)
    os.write(fd, b"W\0\xff\x0fhalf a frame")
    os.close(fd)
    assert run(line, "echo", "fine") == (0, b"fine\n", b"")


def test_whoever_begins_ends_what_ran(line):
    # As if the one who started it had been killed: the line is free, and the command runs on.
    fd = os.open(line.device, os.O_RDWR | os.O_NOCTTY)
    words = b"sleep\x00987.5\0"
    os.write(fd, b"W\0" + bytes((len(words), 0)) + words + b"X\0\0\0")
    deadline = time.monotonic() + 10
    while not running("sleep 987.5"):
        assert time.monotonic() < deadline
    os.close(fd)
    assert run(line, "echo", "next") == (0, b"next\n", b"")
    assert not running("sleep 987.5")


def running(command):
    return subprocess.run(["pgrep", "-fx", command], capture_output=True).returncode == 0


def test_a_line_in_use(line):
    fd = os.open(line.device, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(BusyError, match="lines 7 to 'web' are in use"):
        run(line, "true", wait=0.1)
    os.close(fd)


def test_nobody_there():
    master, slave = pty.openpty()
    with pytest.raises(LostError, match=r"hung up|nobody answers"):
        timer = threading.Timer(0.5, os.close, (master,))
        timer.start()
        os_line = Line(os.ttyname(slave), 1, "web", 7, "open")
        os.close(slave)
        run(os_line, "true")
