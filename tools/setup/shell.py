# SPDX-License-Identifier: GPL-2.0
"""Running commands, holding locks, saying what takes long."""

from __future__ import annotations

import fcntl
import logging
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from popcorn.errors import PopcornError

from .paths import BUILD

LOG = logging.getLogger("setup")


class SetupError(PopcornError):
    """Something the tests need could not be fetched or built."""


def run(
    argv: Sequence[str | Path], *, cwd: Path | None = None, hint: str = "", capture: bool = True
) -> str:
    """Run a command, return its standard output; raise SetupError with its last words.

    With `capture` off the command writes to our own standard error, for output worth watching.
    """
    command = [str(arg) for arg in argv]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else 2,
            stderr=subprocess.PIPE if capture else None,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as missing:
        raise SetupError(f"{command[0]} is not installed", "run `make setup`") from missing
    if done.returncode:
        words = "\n".join(((done.stdout or "") + (done.stderr or "")).splitlines()[-30:])
        message = f"`{' '.join(command)}` failed with status {done.returncode}"
        raise SetupError(message + (f":\n{words}" if words else ""), hint)
    return done.stdout or ""


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold build/.lock-NAME: two runs of make must not fetch or build the same thing at once."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f".lock-{name}").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
