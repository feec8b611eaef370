# SPDX-License-Identifier: GPL-2.0
"""Serve a root to one kernel, and end with it: `python3 -m popcorn.keeper EXPORT DIRECTORY`.

Connections are taken here, and given to a server of their own if they come from the kernel's
address and from a port that only root there can have. Whether it mounted its root, the kernel says
in a connection, too, before it has any users.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from popcorn.client import Client
from popcorn.errors import ModuleMissingError, NotFoundError, PopcornError
from popcorn.models import KernelState
from popcorn.root import Export, RootServer, config_path, state_path

__all__ = ("Keeper", "config", "main")

PRIVILEGED = 1024
"""Ports below are root's."""
LOOK_SECONDS = 2.0
"""The kernel is looked at this often even without a notification."""
GREETING_SECONDS = 20.0
"""By then a connection must have said what it is."""
NEW_MAX = 16
"""Connections that have not said it yet."""
SAYS = b"popcorn: "
LINE_MAX = 512
PR_SET_PDEATHSIG = 1
ENDED = (KernelState.STOPPED, KernelState.CRASHED, KernelState.KILLED)


def config(mounts: Sequence[str]) -> str:
    """Configuration of diod: a file in Lua."""
    exports = "".join(f'  {{ path="{mount}", opts="ro,noauth" }},\n' for mount in mounts)
    return f"auth_required = 0\nexports = {{\n{exports}}}\n"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Keeper:
    """Takes connections and gives each to a server. `ended` tells whether the kernel has."""

    def __init__(self, export: Export, directory: Path, ended: Callable[[], bool]) -> None:
        self._export = export
        self._ended = ended
        self._path = state_path(export.kernel_id, directory)
        self._config = config_path(export.kernel_id, directory)
        self._servers: list[subprocess.Popen[bytes]] = []
        self._new: dict[int, tuple[socket.socket, float, bool]] = {}
        self._state = RootServer(os.getpid(), export.address, export.port, export.peer)
        for place in (directory.parent, directory):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def run(self, more: Sequence[tuple[int, Callable[[], object]]] = ()) -> None:
        """Until the kernel has ended. `more` are descriptors to wait for and what empties them."""
        try:
            try:
                listener = socket.create_server((self._export.address, self._export.port))
            except OSError as error:
                self._say(error=error.strerror or str(error))
                time.sleep(LOOK_SECONDS)
                return
            with listener:
                listener.setblocking(False)
                self._config.write_text(config(self._export.mounts))
                self._say()
                self._serve(listener, more)
        finally:
            self._clear()

    def _serve(
        self, listener: socket.socket, more: Sequence[tuple[int, Callable[[], object]]]
    ) -> None:
        known = dict(more)
        while not self._ended():
            poll = select.poll()
            for fd in (listener.fileno(), *known, *self._new):
                poll.register(fd, select.POLLIN)
            ready = [fd for fd, _ in poll.poll(LOOK_SECONDS * 1000)]
            for fd in ready:
                if fd in known:
                    known[fd]()
                elif fd in self._new:
                    self._hear(fd)
                elif fd == listener.fileno():
                    self._accept(listener)
            self._count()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, (address, port) = listener.accept()
            if address != self._export.peer or len(self._new) >= NEW_MAX:
                connection.close()
                return
            connection.setblocking(False)
            is_root = port < PRIVILEGED
            self._new[connection.fileno()] = connection, time.monotonic(), is_root

    def _hear(self, fd: int) -> None:
        """Find out what a connection is: of 9p, or a line about the root."""
        connection, _, is_root = self._new[fd]
        try:
            begin = connection.recv(LINE_MAX, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            begin = b""
        # A line comes in one piece, as it was written by one write.
        if begin.startswith(SAYS):
            connection.recv(LINE_MAX)
            text = begin.partition(b"\n")[0].removeprefix(SAYS).decode("utf-8", "replace")
            if not self._state.mounted:
                self._say(mounted="".join(c if c.isprintable() else "?" for c in text))
        elif begin and is_root:
            self._start(connection)
        connection.close()
        del self._new[fd]

    def _start(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        number = str(connection.fileno())
        self._servers.append(
            subprocess.Popen(
                [self._export.program, "-f", "-n", "-c", str(self._config), "-L", "/dev/null",
                 "-r", number, "-w", number],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[connection.fileno()],
                preexec_fn=_die_with_parent,
            )
        )  # fmt: skip

    def _count(self) -> None:
        """Servers that ended with their connection, and connections that never say a word."""
        self._servers = [server for server in self._servers if server.poll() is None]
        for fd, (connection, since, _) in list(self._new.items()):
            if time.monotonic() - since > GREETING_SECONDS:
                connection.close()
                del self._new[fd]
        if len(self._servers) != self._state.connections:
            self._say(connections=len(self._servers))

    def _say(self, **change: str | int) -> None:
        self._state = replace(self._state, **change)  # type: ignore[arg-type]
        text = json.dumps(asdict(self._state)).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)

    def _clear(self) -> None:
        for server in self._servers:
            server.kill()
        for server in self._servers:
            server.wait()
        for connection, _, _ in self._new.values():
            connection.close()
        self._config.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def has_ended(client: Client, export: Export) -> bool:
    """Whether the kernel that it is for does not run any more, or is not there."""
    try:
        kernel = client.kernel(export.kernel_id)
    except (NotFoundError, ModuleMissingError):
        return True
    except PopcornError:
        return False
    return kernel.name != export.name or kernel.state in ENDED


def main(arguments: Sequence[str]) -> int:
    """Serve as the first argument says, in JSON, with the state in a file below the second."""
    text, directory = arguments
    fields = json.loads(text)
    export = Export(**{**fields, "mounts": tuple(fields["mounts"])})
    told: list[int] = []
    awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: told.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with Client() as client, client.subscribe(("kernel",)) as events:
        keeper = Keeper(export, Path(directory), lambda: bool(told) or has_ended(client, export))
        keeper.run(
            (
                (awake, lambda: os.read(awake, 4096)),
                (events.fileno(), lambda: list(client.read_events(events, ("kernel",), timeout=0))),
            )
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
