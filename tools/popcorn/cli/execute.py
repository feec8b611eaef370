# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel exec: a command on another kernel, as if it ran here."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import click

from popcorn.cli.base import KERNEL, Command

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
"""Signals that the command gets instead of us."""


@contextlib.contextmanager
def passed_on() -> Iterator[int]:
    """A file descriptor that the signals which come can be read from, a byte each."""

    def nothing(number: int, frame: FrameType | None) -> None:
        """What is done is done by whoever reads the descriptor."""

    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    handlers = {number: signal.signal(number, nothing) for number in PASSED_ON}
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def stream(fd: int) -> Callable[[bytes], None]:
    """What writes all that it is given to a file descriptor."""

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return write


@click.command("exec", cls=Command, context_settings={"allow_interspersed_args": False})
@click.argument("name", type=KERNEL)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-n", "--no-stdin", is_flag=True, help="The command's standard input is empty.")
def exec_command(name: str, command: tuple[str, ...], no_stdin: bool) -> int:
    """Run a command on a kernel, over the message layer.

    Its standard input, output and error are those here, signals are passed on, and its exit status
    is returned: 127 if there is no such command, 128 and the signal's number if a signal ended it,
    255 if its end is not known. It needs no network. The kernel's image must be of profile shell
    or full.
    Options come before NAME; all that follows is the command, with or without -- before it.
    """
    from popcorn.client import Client
    from popcorn.console import START_SECONDS, find_line
    from popcorn.execute import LINES, execute
    from popcorn.models import NodeState

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("Missing argument 'COMMAND...'.")
    with Client() as client:
        node = client.node(name)
    wait = START_SECONDS if node.state == NodeState.UP else 0.0
    lines = [find_line(node.id, node.name, number, wait=wait) for number in LINES]
    sys.stdout.flush()
    with passed_on() as signals:
        return execute(
            lines,
            words,
            source=None if no_stdin else sys.stdin.fileno(),
            output=stream(sys.stdout.fileno()),
            error=stream(sys.stderr.fileno()),
            signals=signals,
        )
