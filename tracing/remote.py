# SPDX-License-Identifier: GPL-2.0
"""Tracers in another kernel, by what `popcornctl kernel exec` uses; it needs no network.

Where the other kernel's image has popcornctl, the tool runs there. Where it has not, `latency` is
left: the histograms of that kernel's ftrace are set up and read from here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from popcorn.client import Client
from popcorn.console import START_SECONDS, Line, find_line
from popcorn.errors import NotFoundError, PopcornError
from popcorn.execute import LINES, CommandError, LostError, execute
from popcorn.models import NodeState
from popcorn_tracing import ftrace
from popcorn_tracing.common import UsageError, machine

__all__ = ("Remote", "TracefsThere", "latency_place", "reach", "run_there", "without_popcornctl")

#: What a tracer says on standard error when it has begun.
BEGUN = b"Ctrl-C ends it"

TRACEFS = Path("/sys/kernel/tracing")

FABRIC = "from here: popcornctl trace latency --source fabric --node {}"

Out = Callable[[bytes], None]


@dataclass(frozen=True)
class Remote:
    """A running kernel that has an agent."""

    node_id: int
    name: str
    lines: tuple[Line, ...]

    def run(
        self, words: Sequence[str], *, output: Out, error: Out, signals: int | None = None
    ) -> int:
        """Run a command there; its exit status."""
        try:
            return execute(self.lines, words, output=output, error=error, signals=signals)
        except LostError as lost:
            lost.hint = "; ".join(filter(None, (lost.hint, FABRIC.format(self.name))))
            raise

    def shell(self, script: str, *words: str) -> str:
        """What a script prints there; OSError with what it says if it fails."""
        out, said = bytearray(), bytearray()
        try:
            status = self.run(
                ("sh", "-c", script, "sh", *words), output=out.extend, error=said.extend
            )
        except CommandError as error:
            raise PopcornError(
                f"the image of '{self.name}' has no shell ({error.message})",
                "start it with --profile shell; " + FABRIC.format(self.name),
            ) from error
        if status:
            lines = said.decode(errors="replace").strip().splitlines()
            why = lines[-1].rpartition(": ")[2] if lines else f"exit status {status}"
            raise OSError(errno.EIO, why)
        return out.decode(errors="replace")

    def has_popcornctl(self) -> bool:
        """Whether it is there to be run."""
        return self.shell("command -v popcornctl || :").strip() != ""


def reach(name: str, client: Callable[[], Client] = Client) -> Remote:
    """The kernel of that name, if commands can be run there; PopcornError says why not."""
    with client() as asked:
        try:
            node = asked.node(name)
        except NotFoundError:
            if name in (kernel.name for kernel in asked.kernels()):
                raise _not_running(name) from None
            raise NotFoundError(
                f"there is no kernel '{name}'", "see: popcornctl kernel list"
            ) from None
    if node.is_self:
        raise UsageError(f"'{node.name}' is this kernel", "leave out --kernel")
    if node.state != NodeState.UP:
        raise _not_running(node.name)
    try:
        lines = tuple(find_line(node.id, node.name, number, wait=START_SECONDS) for number in LINES)
    except PopcornError as error:
        error.hint += "; without it, " + FABRIC.format(node.name)
        raise
    return Remote(node.id, node.name, lines)


def _not_running(name: str) -> PopcornError:
    return PopcornError(f"kernel '{name}' is not running", f"popcornctl kernel restart {name}")


def without_popcornctl(remote: Remote, tool: str) -> PopcornError:
    """Why a tool does not run there, and what does."""
    return PopcornError(
        f"the image of '{remote.name}' has no popcornctl, which trace {tool} needs there",
        "give it one with popcornctl, python3-bpfcc and its kernel's headers; what can be had"
        f" without: trace latency --kernel {remote.name} by ftrace, and "
        + FABRIC.format(remote.name),
    )


# the tool, there


def run_there(
    remote: Remote,
    words: Sequence[str],
    *,
    command: Sequence[str] = (),
    output: Out,
    error: Out,
    command_output: IO[str] | None = None,
    signals: int,
) -> int:
    """Run `popcornctl trace` with these words there; its exit status, or that of `command`.

    `command` runs here, from when the tool says that it has begun, and its end ends the tool.
    Signals to this process are passed on: they come by the descriptor `signals`, a byte each.
    """
    here = _Beside(command, command_output) if command else None

    def say(data: bytes) -> None:
        error(data)
        if here:
            here.said(data)

    status = remote.run(("popcornctl", "trace", *words), output=output, error=say, signals=signals)
    return here.status(status) if here else status


class _Beside:
    """A command here beside a tool there."""

    def __init__(self, command: Sequence[str], output: IO[str] | None) -> None:
        self._command = tuple(command)
        self._output = output
        self._tail = b""
        self._thread: threading.Thread | None = None
        self._status = 0
        self._error: OSError | None = None

    def said(self, data: bytes) -> None:
        """What the tool says: begin when it has begun."""
        self._tail = (self._tail + data)[-4096:]
        if self._thread is None and BEGUN in self._tail:
            self._thread = threading.Thread(target=self._run)
            self._thread.start()

    def status(self, other: int) -> int:
        """The command's status as a shell gives it, or the `other` if the tool never began."""
        if self._thread is None:
            return other
        self._thread.join()
        if self._error:
            raise PopcornError(f"cannot run '{self._command[0]}': {self._error.strerror}")
        return 128 - self._status if self._status < 0 else self._status

    def _run(self) -> None:
        try:
            self._status = subprocess.run(self._command, stdout=self._output).returncode
        except OSError as error:
            self._error = error
        # As the user's Ctrl-C, which goes to the tool.
        os.kill(os.getpid(), signal.SIGINT)


# ftrace, there


class TracefsThere(ftrace.Files):
    """The files of another kernel's tracefs."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        self._remote.shell('mkdir "$1"', str(path))

    def rmdir(self, path: Path) -> None:
        """Remove a directory."""
        self._remote.shell('rmdir "$1"', str(path))

    def append(self, path: Path, text: str) -> None:
        """Write at the end."""
        self._remote.shell('echo "$2" >>"$1"', str(path), text)

    def read(self, path: Path) -> str:
        """All that is in a file."""
        return self._remote.shell('cat "$1"', str(path))


@contextlib.contextmanager
def latency_place(
    remote: Remote, tsc_khz: int | None, client: Callable[[], Client] = Client
) -> Iterator[ftrace.Place]:
    """The other kernel, to count in by ftrace. A tracefs that was not mounted is unmounted again.

    The rate of the time stamp counter is the one that is known here: it is common to all kernels.
    """
    here = replace(machine(tsc_khz, client), node_id=remote.node_id)
    try:
        mounted = remote.shell(
            '[ -d "$1/events" ] || { mount -t tracefs nodev "$1" && echo mounted; }', str(TRACEFS)
        )
    except OSError as error:
        raise PopcornError(
            f"kernel '{remote.name}' has no tracefs: {error.strerror}",
            "its kernel needs CONFIG_FTRACE; without it, " + FABRIC.format(remote.name),
        ) from error
    try:
        yield ftrace.Place(TRACEFS / "events", here, TracefsThere(remote), remote.name)
    finally:
        if mounted:
            with contextlib.suppress(OSError):
                remote.shell('umount "$1"', str(TRACEFS))
