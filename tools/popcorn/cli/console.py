# SPDX-License-Identifier: GPL-2.0
"""popcornctl console: a terminal on another kernel, on the user's own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING

import click

from popcorn.cli.base import KERNEL, SECONDS, Command

if TYPE_CHECKING:
    from popcorn.client import Client
    from popcorn.console import Action, Holder, Line

HELP = (
    "\r\nCtrl-] then: . or q  leave    b  send a break    ?  this help    Ctrl-]  send Ctrl-]\r\n"
)


class _Terminal:
    """The user's terminal while a line is on it; all of it does nothing where there is none."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.there = os.isatty(fd)
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def wake(self) -> int | None:
        """Readable when the window changed its size."""
        return self._read if self.there else None

    def size(self) -> tuple[int, int] | None:
        """Rows and columns."""
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(self.fd)
            return rows, columns
        return None

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Every key goes through, Ctrl-C too, until the end, whatever that is."""
        if not self.there:
            yield
            return
        before = termios.tcgetattr(self.fd)
        handlers = {
            number: signal.signal(number, self._leave) for number in (signal.SIGTERM, signal.SIGHUP)
        }
        handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resized)
        try:
            tty.setraw(self.fd, termios.TCSANOW)
            yield
        finally:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.fd, termios.TCSADRAIN, before)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _resized(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"x")

    @staticmethod
    def _leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)


class _Log:
    """A file that gets a copy of what comes. When it cannot be written, that is said at the end."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = None if path is None else path.open("ab", buffering=0)
        self.failed = ""

    def write(self, data: bytes) -> None:
        if self._file is None:
            return
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.failed = f"{self._path}: {error.strerror}"
            self._file = None


def _to_stdout(log: _Log) -> Callable[[bytes], None]:
    fd = sys.stdout.fileno()

    def output(data: bytes) -> None:
        log.write(data)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return output


@click.command(cls=Command)
@click.argument("name", type=KERNEL)
@click.option(
    "--line",
    "number",
    type=click.IntRange(0, 7),
    default=0,
    show_default=True,
    help="Which of the lines to it; images of profile shell or full have a shell on 0 to 3.",
)
@click.option("--watch", is_flag=True, help="Only look on; others may write or look on too.")
@click.option(
    "--log",
    "log_path",
    type=click.Path(path_type=Path),
    help="Append all that comes to this file, as it came.",
)
@click.option(
    "--quiet-for",
    "quiet",
    type=SECONDS,
    default="1",
    metavar="SECONDS",
    help="At the end of input that is no terminal, wait until nothing came for so long; 1.",
)
def console(name: str, number: int, watch: bool, log_path: Path | None, quiet: float) -> None:
    """Open a terminal on a kernel.

    It goes over the message layer and needs no network. Ctrl-] and then . leaves, and what runs
    there goes on; Ctrl-] and ? lists what else there is. Where standard input is no terminal, all
    of it is sent as it is, and nothing is an escape.
    """
    from popcorn.client import Client
    from popcorn.console import START_SECONDS, find_line
    from popcorn.errors import HungUpError
    from popcorn.models import NodeState

    log = _Log(log_path)
    terminal = _Terminal(sys.stdin.fileno())
    with Client() as client:
        node = client.node(name)
        wait = START_SECONDS if node.state == NodeState.UP else 0.0
        line = find_line(node.id, node.name, number, wait=wait)
        try:
            _run(line, terminal, log, watch, quiet)
        except HungUpError as error:
            raise HungUpError(f"{error.message}{_fate(client, line)}") from None
        finally:
            if log.failed:
                click.echo(f"popcornctl: the log is not complete: {log.failed}", err=True)


def _run(line: Line, terminal: _Terminal, log: _Log, watch: bool, quiet: float) -> None:
    from popcorn import console as lines

    output = _to_stdout(log)
    escape = lines.Escape().feed if terminal.there else None

    def say(text: str) -> None:
        if terminal.there:
            sys.stderr.write(text)
            sys.stderr.flush()

    def act(action: Action, holder: Holder | None = None) -> None:
        if action is lines.Action.HELP:
            say(HELP)
        elif action is lines.Action.BREAK and holder is not None:
            holder.send_break()

    where = f"line {line.number} to '{line.name}'"
    if watch:
        say(f"looking on at {where}; Ctrl-] . leaves\n")
        with terminal.raw():
            # A pipe's end is not the end of looking on.
            lines.watch(
                line, output, sys.stdin.fileno() if terminal.there else None, typed=escape, act=act
            )
    else:
        with lines.Holder(line, output) as holder:
            nobody = ", which nobody has open there" if line.state == "closed" else ""
            say(f"connected to {where}{nobody}; Ctrl-] . leaves, Ctrl-] ? helps\n")

            def resize() -> None:
                size = terminal.size()
                if size is not None:
                    holder.resize(*size)

            if terminal.there:
                resize()
            with terminal.raw():
                lines.hold(
                    holder,
                    sys.stdin.fileno(),
                    typed=escape,
                    act=lambda action: act(action, holder),
                    wake=terminal.wake,
                    woken=resize,
                    quiet=quiet,
                )
    say("\ndisconnected\n")


def _fate(client: Client, line: Line) -> str:
    """What became of the kernel, as far as is known by now."""
    from popcorn.errors import PopcornError
    from popcorn.models import label

    try:
        kernel = client.kernel(line.name)
    except PopcornError:
        return ""
    state = label(kernel.state)
    because = f" ({kernel.reason})" if kernel.reason not in ("", state) else ""
    return f": kernel '{kernel.name}' is {state}{because}"
