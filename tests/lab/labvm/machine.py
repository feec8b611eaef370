# SPDX-License-Identifier: GPL-2.0
"""Running a lab machine and telling how it ended.

The command's output, its status and QEMU's events each come through a channel of their own, so the
verdict never depends on reading text off the console.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Seconds that QEMU gets to end by itself once the outcome is known.
GRACE = 5.0


@dataclass
class Outcome:
    """How a run ended: `status` as the command left it, or None and the `failure` before it."""

    status: int | None = None
    failure: str = ""
    started_after: float | None = None
    events: list[str] = field(default_factory=list)
    output_end: bytes = b""

    @property
    def last_line(self) -> str:
        """The last line that the command wrote to its standard output."""
        lines = self.output_end.decode(errors="replace").splitlines()
        return lines[-1] if lines else ""


class Machine:
    """One QEMU process and the sockets to it."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._ours: dict[str, socket.socket] = {}
        self._theirs: dict[str, socket.socket] = {}
        for name in ("qmp", *names):
            self._ours[name], self._theirs[name] = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._lines: dict[str, bytes] = {"qmp": b"", "status": b""}
        self._outcome = Outcome()
        self._begin = 0.0

    @property
    def fds(self) -> dict[str, int]:
        """The descriptors that QEMU inherits, by channel."""
        return {name: end.fileno() for name, end in self._theirs.items()}

    def run(
        self,
        line: list[str],
        environment: dict[str, str],
        log: Path,
        timeout: float,
        *,
        shell: bool,
    ) -> Outcome:
        """Start QEMU, pass the command's output on, and return when the machine is gone."""
        self._begin = time.monotonic()
        # A lab must not outlive whoever started it. A shell's QEMU needs the terminal, any other
        # gets a session of its own so that an interrupt reaches us first.
        line = ["setpriv", "--pdeathsig", "KILL", "--", *line]
        with log.open("wb") as errors, _terminal(shell):
            process = subprocess.Popen(
                line,
                env={**os.environ, **environment},
                stdin=None if shell else subprocess.DEVNULL,
                stdout=None if shell else errors,
                stderr=errors,
                pass_fds=tuple(self.fds.values()),
                start_new_session=not shell,
            )
            try:
                for end in self._theirs.values():
                    end.close()
                self._watch(process, timeout)
            finally:
                process.kill()
                process.wait()
                for end in self._ours.values():
                    end.close()
        return self._outcome

    def _watch(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        for name, end in self._ours.items():
            self._selector.register(end, selectors.EVENT_READ, name)
        # QMP says nothing before its capabilities are agreed on.
        self._qmp("qmp_capabilities")
        deadline = self._begin + timeout
        while self._selector.get_map():
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                if self._outcome.status is None and not self._outcome.failure:
                    self._outcome.failure = f"the guest did not finish within {timeout:.0f} s"
                return
            decided = self._decided
            for key, _ in ready:
                self._read(key.data, key.fileobj)
            if self._decided and not decided:
                deadline = time.monotonic() + GRACE
        status = process.wait(GRACE)
        if not self._decided:
            self._outcome.failure = f"QEMU ended with status {status}"

    @property
    def _decided(self) -> bool:
        return self._outcome.status is not None or bool(self._outcome.failure)

    def _read(self, name: str, end: Any) -> None:
        try:
            data = end.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self._selector.unregister(end)
        elif name == "out":
            _write(sys.stdout.buffer, data)
            self._outcome.output_end = (self._outcome.output_end + data)[-4096:]
        elif name == "err":
            _write(sys.stderr.buffer, data)
        else:
            *lines, self._lines[name] = (self._lines[name] + data).split(b"\n")
            handle: Callable[[bytes], None] = self._event if name == "qmp" else self._report
            for line in lines:
                handle(line)

    def _report(self, line: bytes) -> None:
        word, _, value = line.decode(errors="replace").partition(" ")
        if word == "start":
            self._outcome.started_after = time.monotonic() - self._begin
        elif word == "exit" and not self._outcome.failure:
            self._outcome.status = int(value)
            self._qmp("quit")

    def _event(self, line: bytes) -> None:
        message = json.loads(line)
        event = message.get("event", "")
        if not event:
            return
        self._outcome.events.append(event)
        if self._outcome.status is not None:
            return
        after = f"after {time.monotonic() - self._begin:.0f} s"
        if event == "GUEST_PANICKED":
            self._outcome.failure = f"the guest panicked {after}"
        elif event == "SHUTDOWN" and not self._outcome.failure:
            reason = message.get("data", {}).get("reason", "unknown")
            what = {"guest-reset": "reset", "guest-shutdown": "powered itself off"}
            self._outcome.failure = f"the guest {what.get(reason, f'ended ({reason})')} {after}"

    def _qmp(self, execute: str) -> None:
        try:
            self._ours["qmp"].sendall(json.dumps({"execute": execute}).encode() + b"\n")
        except OSError:
            return  # QEMU is gone; reading the sockets will tell.


def _write(stream: Any, data: bytes) -> None:
    stream.write(data)
    stream.flush()


@contextmanager
def _terminal(shell: bool) -> Iterator[None]:
    """Put the terminal back as it was: QEMU makes it raw and may not live to undo that."""
    if not (shell and sys.stdin.isatty()):
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def interruptible() -> None:
    """Let a polite kill end the run the way an interrupt does, with QEMU cleaned up."""

    def stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
