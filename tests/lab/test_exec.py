# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel exec, on a kernel without a network."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from guest import Starter, ctl
from popcorn import Client
from popcorn.console import find_line
from popcorn.execute import LINES, execute
from popcorn.models import Kernel
from stress import SOAK

COMMANDS = 1000 if SOAK else 100

pytestmark = pytest.mark.usefixtures("terminals")


def ctl_exec(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["popcornctl", "kernel", "exec", *words], input=given, capture_output=True, timeout=180
    )


def processes() -> str:
    """What runs there."""
    done = ctl("kernel", "exec", "-n", "web", "--", "ps")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_many_commands(shell: Kernel) -> None:
    lines = [find_line(shell.id, "web", number, wait=30) for number in LINES]

    def run(*words: str) -> tuple[int, bytes]:
        out = bytearray()
        return execute(lines, words, output=out.extend, error=out.extend), bytes(out)

    def number_of_processes() -> int:
        """But for threads of the kernel."""
        return sum(not line.startswith(b"[") for line in run("ps", "-o", "args")[1].splitlines())

    before = number_of_processes()
    for number in range(COMMANDS):
        assert run("sh", "-c", f"echo {number}; exit {number % 256}") == (
            number % 256,
            f"{number}\n".encode(),
        )
    assert number_of_processes() == before


def test_as_if_it_ran_here(shell: Kernel, client: Client) -> None:
    done = ctl_exec("web", "--", "true")
    assert done.returncode == 0, done.stderr

    done = ctl_exec("web", "--", "sh", "-c", "hostname; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"web\n", b"err\n")

    data = os.urandom(1 << (20 if SOAK else 18))
    done = ctl_exec("web", "--", "cat", given=data)
    assert (done.returncode, done.stdout == data, done.stderr) == (0, True, b"")

    done = ctl_exec("web", "--", "no-such-command")
    assert done.returncode == 127
    assert b"no-such-command: No such file" in done.stderr

    # Two at once, and a signal for one of them.
    sleeper = subprocess.Popen(["popcornctl", "kernel", "exec", "-n", "web", "--", "sleep", "600"])
    deadline = time.monotonic() + 60
    while "sleep 600" not in processes():
        assert time.monotonic() < deadline
    sleeper.send_signal(signal.SIGTERM)
    assert sleeper.wait(60) == 128 + signal.SIGTERM
    assert "sleep 600" not in processes()

    # Whoever is killed leaves nothing behind there.
    sleeper = subprocess.Popen(["popcornctl", "kernel", "exec", "-n", "web", "--", "sleep", "601"])
    while "sleep 601" not in processes():
        assert time.monotonic() < deadline + 60
    sleeper.kill()
    sleeper.wait()
    while "sleep 601" in processes():
        assert time.monotonic() < deadline + 120

    # The kernel goes while a command runs.
    sleeper = subprocess.Popen(
        ["popcornctl", "kernel", "exec", "-n", "web", "--", "sleep", "602"], stderr=subprocess.PIPE
    )
    while "sleep 602" not in processes():
        assert time.monotonic() < deadline + 180
    client.kernel_kill(shell.id)
    _, said = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 255
    assert b"was hung up" in said


def test_kernel_without_an_agent(client: Client, start: Starter) -> None:
    start("web")
    done = ctl_exec("web", "--", "true")
    assert done.returncode == 255
    assert b"nobody answers on line 7 to 'web'" in done.stderr
