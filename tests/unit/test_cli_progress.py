# SPDX-License-Identifier: GPL-2.0
"""Progress of a command on a terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import select

from popcorn.cli.output import Progress


def on_terminal(act):
    """What `act(stream)` writes to a terminal."""
    parent, child = pty.openpty()
    written = b""
    with os.fdopen(parent, "rb", buffering=0) as terminal, os.fdopen(child, "w") as stream:
        act(stream)
        stream.flush()
        while select.select([terminal], [], [], 0.2)[0]:
            written += terminal.read(65536)
    return written.decode()


def test_progress_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")

    def act(stream):
        progress = Progress(stream)
        progress("load", "1 of 2 MiB", None)
        progress("load", "2 MiB", 1.25)
        progress("join", "waiting", None)
        progress.close()

    written = on_terminal(act)
    assert written == (
        "\r\x1b[Kload   1 of 2 MiB ..."
        "\r\x1b[Kload   2 MiB  (1.2 s)\r\n"
        "\r\x1b[Kjoin   waiting ...\r\n"
    )
