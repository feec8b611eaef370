# SPDX-License-Identifier: GPL-2.0
"""A terminal on another kernel: the lines that popcorn_tty makes, held by one program at a time.

Whoever holds a line passes on what comes to all who look on, over a socket in /run/popcorn. A
holder that only looks gives the line up to one that writes. Nothing here knows of the user's own
terminal; `popcorn.cli.console` does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from popcorn.errors import (
    BusyError,
    HungUpError,
    ModuleMissingError,
    NotFoundError,
    PermissionDeniedError,
)
from popcorn.sysfs import System

__all__ = (
    "LINES",
    "START_SECONDS",
    "Action",
    "End",
    "Escape",
    "Holder",
    "Line",
    "Watcher",
    "find_line",
    "find_lines",
    "hold",
    "look_on",
    "watch",
)

LINES = 8
"""Lines between each two kernels (PCN_TTY_LINES in kmod/tty/wire.h)."""

OWN_MINORS = 128
"""Device numbers from here on are the other ends of loopback lines."""

RUN_DIRECTORY = Path("/run/popcorn")

START_SECONDS = 5.0
"""How long a kernel that has joined may take to load popcorn_tty."""

CHUNK_BYTES = 65536
BACKLOG_BYTES = 65536
"""What a new watcher is shown of what came before."""
YIELD_SECONDS = 2
"""How long to wait for one that makes room; a watcher comes back after half of it."""
WATCHER_BYTES = 1 << 20
"""How far a watcher may fall behind before it is cut off."""

_WATCH, _YIELD, _YES, _NO = b"w", b"y", b"Y", b"N"


@dataclass(frozen=True)
class Line:
    """This kernel's end of a line: number `number` to node `node_id`, which is called `name`.

    `state` is `down` (the other kernel is not there, or has no popcorn_tty), `closed` or `open`
    (a program has the other end open).
    """

    device: str
    node_id: int
    name: str
    number: int
    state: str


def find_lines(system: System | None = None) -> tuple[Line, ...]:
    """All lines of this kernel, by node and number. ModuleMissingError without popcorn_tty."""
    system = system or System()
    if not system.path("/sys/module/popcorn_tty").exists():
        raise ModuleMissingError("popcorn_tty is not loaded", "modprobe popcorn_tty")
    found = []
    for device in system.names("/sys/class/tty"):
        index = device.removeprefix("ttyPCN")
        if index == device or not index.isdecimal() or int(index) >= OWN_MINORS:
            continue
        base = f"/sys/class/tty/{device}/popcorn"
        found.append(
            Line(
                device=str(system.path(f"/dev/{device}")),
                node_id=int(system.read(f"{base}/node") or 0),
                name=system.read(f"{base}/name") or "",
                number=int(system.read(f"{base}/number") or 0),
                state=system.read(f"{base}/state") or "down",
            )
        )
    return tuple(sorted(found, key=lambda line: (line.node_id, line.number)))


def find_line(
    node_id: int, name: str, number: int, system: System | None = None, *, wait: float = 0.0
) -> Line:
    """Line `number` to the node `node_id`, called `name` in errors.

    A kernel that has just started needs a moment to load the module: `wait` is how long it may
    take, in seconds. NotFoundError if there is no such line, or the other kernel is not at its end.
    """
    if not 0 <= number < LINES:
        raise NotFoundError(f"there is no line {number} to '{name}'", f"lines are 0 to {LINES - 1}")
    deadline = time.monotonic() + wait
    while True:
        for line in find_lines(system):
            if (line.node_id, line.number) == (node_id, number) and line.state != "down":
                return line
        if time.monotonic() >= deadline:
            raise NotFoundError(
                f"kernel '{name}' has no terminals",
                "load popcorn_tty there; images that were made without it lack it",
            )
        time.sleep(0.05)


class End(Enum):
    """Why a session ended: by the user's wish, the end of input, or to make room for a writer."""

    QUIT = "quit"
    DONE = "done"
    YIELDED = "yielded"


class Action(Enum):
    """What an escape sequence asks for."""

    QUIT = "quit"
    HELP = "help"
    BREAK = "break"


class Escape:
    """Finds escape sequences in what is typed: a key and the character after it."""

    KEY = 0x1D
    """Ctrl-]"""

    ACTIONS: ClassVar[Mapping[int, Action]] = {
        ord("."): Action.QUIT,
        ord("q"): Action.QUIT,
        ord("?"): Action.HELP,
        ord("b"): Action.BREAK,
    }

    def __init__(self) -> None:
        self._pending = False

    def feed(self, data: bytes) -> list[bytes | Action]:
        """What to send and what to do, in order. The key twice is the key once."""
        found: list[bytes | Action] = []
        text = bytearray()
        for char in data:
            if not self._pending:
                if char == self.KEY:
                    self._pending = True
                else:
                    text.append(char)
                continue
            self._pending = False
            action = self.ACTIONS.get(char)
            if action is not None:
                if text:
                    found.append(bytes(text))
                    text.clear()
                found.append(action)
            elif char == self.KEY:
                text.append(char)
            else:
                text += bytes((self.KEY, char))
        if text:
            found.append(bytes(text))
        return found


@dataclass
class _Client:
    """A watcher as the holder sees it; `behind` waits to be sent."""

    socket: socket.socket
    behind: bytearray = field(default_factory=bytearray)
    known: bool = False


def _socket_path(line: Line, directory: Path) -> Path:
    return directory / f"{Path(line.device).name}.sock"


def _holder_pid(path: Path) -> int | None:
    """Process id of who listens there."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        data = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", data)[0])
    return None


def _ask_to_yield(path: Path, seconds: float = 5) -> bool | None:
    """Ask a holder to give the line up; False if it writes itself, None if nobody answers."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as ask:
        ask.settimeout(seconds)
        ask.connect(str(path))
        ask.send(_YIELD)
        answer = ask.recv(1)
        return answer == _YES if answer else None
    return None


class Holder:
    """Holds a line open, passes bytes both ways, and serves those who look on.

    BusyError if somebody else holds it. `writes` is False for a holder that only looks: it gives
    the line up when somebody comes who writes. `output` gets all that comes.
    """

    def __init__(
        self,
        line: Line,
        output: Callable[[bytes], None],
        *,
        writes: bool = True,
        directory: Path = RUN_DIRECTORY,
    ) -> None:
        self.line = line
        self._output = output
        self._writes = writes
        self._path = _socket_path(line, directory)
        self._pending = bytearray()
        self._clients: dict[int, _Client] = {}
        self._backlog = bytearray()
        self._yielded = False
        self._fd = self._open()
        try:
            self._make_raw()
            self._server = self._listen()
        except BaseException:
            os.close(self._fd)
            raise

    def _open(self) -> int:
        line = self.line
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(line.device, flags)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT, errno.ENODEV, errno.EIO):
                raise NotFoundError(f"kernel '{line.name}' is not there any more") from None
            if error.errno in (errno.EACCES, errno.EPERM):
                raise PermissionDeniedError(
                    f"{line.device}: {error.strerror}", "run it as root"
                ) from None
            raise
        try:
            self._lock(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _lock(self, fd: int) -> None:
        """The lock that getty, screen and others know too; waits for a holder that goes."""
        deadline = time.monotonic() + (YIELD_SECONDS if self._writes else 0)
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            late = time.monotonic() >= deadline
            if late or _ask_to_yield(self._path) is False:
                pid = _holder_pid(self._path)
                by = f"process {pid}" if pid else "another program"
                raise BusyError(
                    f"line {self.line.number} to '{self.line.name}' is in use by {by}",
                    "to look on: --watch; for another line: --line",
                )
            time.sleep(0.05)

    def _make_raw(self) -> None:
        tty.setraw(self._fd, termios.TCSANOW)
        mode = termios.tcgetattr(self._fd)
        mode[2] |= termios.CLOCAL | termios.HUPCL
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def _listen(self) -> socket.socket:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)  # ours is the lock, so nobody lives there
        server = socket.socket(socket.AF_UNIX)
        server.setblocking(False)
        server.bind(str(self._path))
        self._path.chmod(0o600)
        server.listen()
        return server

    def __enter__(self) -> Holder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the line. What the other end has not taken by now is thrown away."""
        for client in self._clients.values():
            client.socket.close()
        self._clients.clear()
        self._server.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        with contextlib.suppress(termios.error, OSError):
            termios.tcflush(self._fd, termios.TCOFLUSH)  # else closing waits for it
        os.close(self._fd)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the other end how large the window is."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def send_break(self) -> None:
        """Send a break, after what was sent before."""
        with contextlib.suppress(termios.error):
            termios.tcsendbreak(self._fd, 0)

    def send(self, data: bytes) -> None:
        """Send bytes; they go as fast as the other end takes them."""
        self._pending += data
        self._flush()

    @property
    def full(self) -> bool:
        """Whether so much waits to be sent that no more should be given."""
        return len(self._pending) >= CHUNK_BYTES

    @property
    def idle(self) -> bool:
        """Whether all that was sent has left this kernel."""
        if self._pending:
            return False
        with contextlib.suppress(OSError):
            waiting = fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4))
            return int(struct.unpack("i", waiting)[0]) == 0
        return True

    def filenos(self) -> dict[int, int]:
        """What to poll for, and the events."""
        events = select.POLLIN | (select.POLLOUT if self._pending else 0)
        wanted = {self._fd: events, self._server.fileno(): select.POLLIN}
        for number, client in self._clients.items():
            wanted[number] = select.POLLIN | (select.POLLOUT if client.behind else 0)
        return wanted

    def handle(self, number: int, events: int) -> bool:
        """Do what poll() found; True if bytes came. HungUpError if the other kernel is gone."""
        if number == self._fd:
            if events & select.POLLOUT:
                self._flush()
            return bool(events & ~select.POLLOUT) and self._receive(events)
        if number == self._server.fileno():
            self._accept()
        elif number in self._clients:
            self._serve(number, events)
        return False

    @property
    def writes(self) -> bool:
        """Whether it sends, and so keeps the line."""
        return self._writes

    @property
    def yielded(self) -> bool:
        """Whether somebody wants to write, and this holder is to go."""
        return self._yielded

    def _gone(self) -> HungUpError:
        return HungUpError(f"line {self.line.number} to '{self.line.name}' was hung up")

    def _flush(self) -> None:
        while self._pending:
            try:
                done = os.write(self._fd, self._pending[:CHUNK_BYTES])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EIO:
                    raise self._gone() from None
                raise
            del self._pending[:done]

    def _receive(self, events: int) -> bool:
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EIO:
                raise self._gone() from None
            raise
        if not data:
            # Also what is left of a line without its end when the mode was changed.
            if events & (select.POLLHUP | select.POLLERR):
                raise self._gone()
            return False
        self._backlog += data
        del self._backlog[:-BACKLOG_BYTES]
        for number in list(self._clients):
            client = self._clients[number]
            if client.known:
                client.behind += data
                self._push(number)
        self._output(data)
        return True

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            connection.setblocking(False)
            self._clients[connection.fileno()] = _Client(connection)

    def _drop(self, number: int) -> None:
        self._clients.pop(number).socket.close()

    def _push(self, number: int) -> None:
        client = self._clients[number]
        try:
            while client.behind:
                del client.behind[: client.socket.send(client.behind[:CHUNK_BYTES])]
        except BlockingIOError:
            if len(client.behind) > WATCHER_BYTES:
                self._drop(number)
        except OSError:
            self._drop(number)

    def _serve(self, number: int, events: int) -> None:
        client = self._clients[number]
        if events & select.POLLOUT:
            self._push(number)
        if number not in self._clients or not events & ~select.POLLOUT:
            return
        try:
            word = client.socket.recv(1)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word == _WATCH and not client.known:
            client.known = True
            client.behind += self._backlog
            self._push(number)
        elif word == _YIELD:
            with contextlib.suppress(OSError):
                client.socket.send(_NO if self._writes else _YES)
            self._yielded = self._yielded or not self._writes
            self._drop(number)
        else:
            self._drop(number)


class Watcher:
    """Looks on at a line that somebody else holds. NotFoundError if nobody does."""

    def __init__(
        self, line: Line, output: Callable[[bytes], None], *, directory: Path = RUN_DIRECTORY
    ) -> None:
        self.line = line
        self._output = output
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(_socket_path(line, directory)))
            self._socket.send(_WATCH)
        except OSError:
            self._socket.close()
            raise NotFoundError(
                f"nobody of ours holds line {line.number} to '{line.name}'"
            ) from None

    def close(self) -> None:
        """Look no more."""
        self._socket.close()

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    def handle(self) -> bool:
        """Pass on what came; False if the holder is gone."""
        try:
            data = self._socket.recv(CHUNK_BYTES)
        except OSError:
            return False
        if data:
            self._output(data)
        return bool(data)


@contextlib.contextmanager
def _polled(wanted: dict[int, int]) -> Iterator[select.poll]:
    poll = select.poll()
    for number, events in wanted.items():
        poll.register(number, events)
    yield poll


def hold(
    holder: Holder,
    source: int | None,
    *,
    typed: Callable[[bytes], list[bytes | Action]] | None = None,
    act: Callable[[Action], None] | None = None,
    wake: int | None = None,
    woken: Callable[[], None] | None = None,
    quiet: float = 1.0,
) -> End:
    """Pass bytes until an end. HungUpError if the other kernel goes.

    `source` is a file descriptor with what is to be sent, None for nothing. After its end this goes
    on until nothing has come for `quiet` seconds and all is sent. `typed` takes what is read apart
    into bytes and actions, which `act` does but for QUIT; without it all is sent as it is. When
    `wake` is readable, `woken` is called.
    """
    ended_at: float | None = None
    while True:
        if holder.yielded:
            return End.YIELDED
        wanted = holder.filenos()
        if source is not None and not holder.full:
            wanted[source] = select.POLLIN
        if wake is not None:
            wanted[wake] = select.POLLIN
        timeout = None
        if ended_at is not None:
            left = ended_at + quiet - time.monotonic()
            if left <= 0 and holder.idle:
                return End.DONE
            timeout = max(left, 0.05) * 1000
        with _polled(wanted) as poll:
            found = poll.poll(timeout)
        for number, events in found:
            if number == wake:
                os.read(number, 4096)
                if woken is not None:
                    woken()
            elif number == source:
                data = os.read(number, CHUNK_BYTES)
                if not data:
                    source, ended_at = None, time.monotonic()
                    continue
                for item in [data] if typed is None else typed(data):
                    if item is Action.QUIT:
                        return End.QUIT
                    if isinstance(item, Action):
                        if act is not None:
                            act(item)
                    elif holder.writes:
                        holder.send(item)
            elif holder.handle(number, events) and ended_at is not None:
                ended_at = time.monotonic()


def look_on(
    watcher: Watcher,
    source: int | None,
    typed: Callable[[bytes], list[bytes | Action]] | None = None,
    act: Callable[[Action], None] | None = None,
) -> End:
    """Pass on what comes until the holder is gone (DONE) or the user has enough (QUIT)."""
    while True:
        wanted = {watcher.fileno(): select.POLLIN}
        if source is not None:
            wanted[source] = select.POLLIN
        with _polled(wanted) as poll:
            found = poll.poll()
        for number, _ in found:
            if number == watcher.fileno():
                if not watcher.handle():
                    return End.DONE
                continue
            data = os.read(number, CHUNK_BYTES)
            if not data:
                source = None
            for item in typed(data) if typed is not None and data else []:
                if item is Action.QUIT:
                    return End.QUIT
                if isinstance(item, Action) and act is not None:
                    act(item)


def watch(
    line: Line,
    output: Callable[[bytes], None],
    source: int | None = None,
    *,
    typed: Callable[[bytes], list[bytes | Action]] | None = None,
    act: Callable[[Action], None] | None = None,
    directory: Path = RUN_DIRECTORY,
) -> End:
    """Look on at a line, whoever holds it: nobody, then ourselves, until somebody writes.

    HungUpError if the other kernel goes; BusyError if a program of another kind has the line.
    """
    while True:
        try:
            watcher = Watcher(line, output, directory=directory)
        except NotFoundError:
            pass
        else:
            try:
                if look_on(watcher, source, typed, act) is End.QUIT:
                    return End.QUIT
            finally:
                watcher.close()
            time.sleep(0.1)  # the line is hung up, or somebody else takes over
            continue
        try:
            holder = Holder(line, output, writes=False, directory=directory)
        except BusyError:
            if _holder_pid(_socket_path(line, directory)) is None:
                raise
            continue
        with holder:
            end = hold(holder, source, typed=typed or (lambda data: []), act=act)
        if end is not End.YIELDED:
            return end
        time.sleep(YIELD_SECONDS / 2)
