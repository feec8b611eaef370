# SPDX-License-Identifier: GPL-2.0
"""Run a command on another kernel, through the agent at the other end of a line.

Images of profiles shell and full have the agent on `LINES`. agent/agent.c says what is sent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence

from popcorn.console import Line
from popcorn.errors import BusyError, HungUpError, NotFoundError, PopcornError

__all__ = ("EXIT_LOST", "LINES", "CommandError", "LostError", "execute")

LINES = (7, 6)
"""Lines that have an agent: so many commands can run at once."""

EXIT_LOST = 255
"""Exit status when the command's own is not known, as ssh has it."""

FRAME_BYTES = 4096
WORDS_BYTES = 128 << 10
INPUT_BYTES = 32 << 10
"""Standard input that may be under way."""

AGAIN_SECONDS = 0.3

_HEAD = struct.Struct("<BxH")


class LostError(PopcornError):
    """The command's end is not known: nobody answers, or the other kernel went away."""

    exit_code = EXIT_LOST


class CommandError(PopcornError):
    """There is no such command there, or it cannot be run; `exit_code` as a shell would give."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


def execute(
    lines: Sequence[Line],
    words: Sequence[str],
    *,
    source: int | None = None,
    output: Callable[[bytes], None],
    error: Callable[[bytes], None],
    signals: int | None = None,
    wait: float = 10.0,
) -> int:
    """Run `words` through the first of `lines` that is free; return its exit status.

    128 and the signal's number for one that a signal ended. `source` is a file descriptor for its
    standard input, None for none; `signals` one that signals to pass on are read from, a byte each.
    BusyError if no line gets free within `wait` seconds, LostError if nobody answers there or the
    kernel goes, CommandError if there is no such command.
    """
    data = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
    if len(data) > WORDS_BYTES:
        raise CommandError(f"the command is longer than {WORDS_BYTES} bytes", 126)
    line, fd = _take(lines, wait)
    try:
        session = _Session(fd, line)
        session.begin()
        session.command(words[0], data)
        return session.run(source, output, error, signals)
    except HungUpError:
        raise LostError(f"line {line.number} to '{line.name}' was hung up") from None
    finally:
        with contextlib.suppress(termios.error, OSError):
            termios.tcflush(fd, termios.TCIOFLUSH)
        os.close(fd)


def _take(lines: Sequence[Line], wait: float) -> tuple[Line, int]:
    deadline = time.monotonic() + wait
    while True:
        for line in lines:
            try:
                fd = os.open(line.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EIO):
                    raise
                raise NotFoundError(f"kernel '{line.name}' is not there any more") from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            tty.setraw(fd, termios.TCSANOW)
            return line, fd
        if time.monotonic() > deadline:
            raise BusyError(
                f"lines {', '.join(str(line.number) for line in lines)} to '{lines[0].name}'"
                " are in use",
                "so many commands can run at once; try again when one has ended",
            )
        time.sleep(0.05)


class _Session:
    """A conversation with an agent."""

    def __init__(self, fd: int, line: Line) -> None:
        self._fd = fd
        self._line = line
        self._out = bytearray()
        self._in = bytearray()

    def begin(self, seconds: float = 10.0) -> None:
        """Find the beginning: what is left of an earlier conversation is skipped.

        What is sent before the agent has opened its end is thrown away there, so this asks again
        and again; whatever comes before the command begins anew, and does no harm.
        """
        cookie = os.urandom(16)
        wanted = _HEAD.pack(ord("H"), len(cookie)) + cookie
        deadline = time.monotonic() + seconds
        again = 0.0
        while wanted not in self._in:
            now = time.monotonic()
            if now >= deadline:
                raise LostError(
                    f"nobody answers on line {self._line.number} to '{self._line.name}'",
                    "images of profiles shell and full have an agent there",
                )
            if now >= again and not self._out:
                again = now + AGAIN_SECONDS
                self._out += bytes(FRAME_BYTES + _HEAD.size)
                self._put(b"H", cookie)
            self._poll([], min(AGAIN_SECONDS, deadline - now))
        del self._in[: self._in.index(wanted) + len(wanted)]

    def command(self, name: str, data: bytes, seconds: float = 10.0) -> None:
        """Start the command."""
        for at in range(0, len(data), FRAME_BYTES):
            self._put(b"W", data[at : at + FRAME_BYTES])
        self._put(b"X")
        deadline = time.monotonic() + seconds
        while True:
            for kind, payload in self._frames():
                if kind == b"S":
                    return
                if kind == b"F":
                    number = int.from_bytes(payload, "little")
                    code = 127 if number == errno.ENOENT else 126
                    raise CommandError(f"{name}: {os.strerror(number)}", code)
            left = deadline - time.monotonic()
            if left <= 0:
                raise LostError(f"kernel '{self._line.name}' did not start the command")
            self._poll([], left)

    def run(
        self,
        source: int | None,
        output: Callable[[bytes], None],
        error: Callable[[bytes], None],
        signals: int | None,
    ) -> int:
        """Pass everything on until the command's end."""
        under_way = 0
        if source is None:
            self._put(b"E")
        while True:
            for kind, payload in self._frames():
                if kind == b"O":
                    output(payload)
                elif kind == b"R":
                    error(payload)
                elif kind == b"A":
                    under_way -= int.from_bytes(payload, "little")
                elif kind == b"D":
                    status = int.from_bytes(payload, "little")
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else 128 - code
            wanted = [fd for fd in (signals,) if fd is not None]
            if source is not None and under_way + FRAME_BYTES <= INPUT_BYTES:
                wanted.append(source)
            for fd in self._poll(wanted, None):
                data = os.read(fd, FRAME_BYTES)
                if fd == signals:
                    for number in data:
                        self._put(b"K", bytes((number,)))
                elif data:
                    under_way += len(data)
                    self._put(b"I", data)
                else:
                    source = None
                    self._put(b"E")

    def _put(self, kind: bytes, payload: bytes = b"") -> None:
        self._out += _HEAD.pack(ord(kind), len(payload)) + payload

    def _frames(self) -> Iterator[tuple[bytes, bytes]]:
        """What has come whole; what is not asked for stays."""
        while len(self._in) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._in)
            end = _HEAD.size + length
            if len(self._in) < end:
                return
            payload = bytes(self._in[_HEAD.size : end])
            del self._in[:end]
            yield bytes((kind,)), payload

    def _poll(self, more: Sequence[int], timeout: float | None) -> list[int]:
        """Send and receive what can be; which of `more` can be read."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN | (select.POLLOUT if self._out else 0))
        for fd in more:
            poll.register(fd, select.POLLIN)
        ready = []
        for fd, events in poll.poll(None if timeout is None else timeout * 1000):
            if fd != self._fd:
                ready.append(fd)
                continue
            try:
                if events & select.POLLOUT:
                    del self._out[: os.write(fd, self._out[:65536])]
                if events & ~select.POLLOUT:
                    self._in += self._read(events)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno == errno.EIO:
                    raise HungUpError("") from None
                raise
        return ready

    def _read(self, events: int) -> bytes:
        data = os.read(self._fd, 65536)
        if not data and events & (select.POLLHUP | select.POLLERR):
            raise HungUpError("")
        return data
