# SPDX-License-Identifier: GPL-2.0
"""Lines to other kernels, as the tests in the lab use them: open, read, write, wait."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

MIB = 1 << 20
SYSFS = Path("/sys/class/tty")


def modprobe(*words: str) -> None:
    subprocess.run(["modprobe", *words], check=True)


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


def in_background(function: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def attribute(index: int, name: str) -> str:
    return (SYSFS / f"ttyPCN{index}" / "popcorn" / name).read_text().strip()


def is_open(index: int) -> bool:
    """Whether the other end is; the device may not be there yet."""
    try:
        return attribute(index, "state") == "open"
    except FileNotFoundError:
        return False


def noise(count: int) -> bytes:
    return os.urandom(MIB) * (count // MIB) if count >= MIB else os.urandom(count)
