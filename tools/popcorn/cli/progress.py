# SPDX-License-Identifier: GPL-2.0
"""Following what brings a kernel up, and what to say if that is interrupted."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from popcorn.cli.base import settings
from popcorn.cli.output import Progress

if TYPE_CHECKING:
    from popcorn.client import Client
    from popcorn.start import Progress as Follow

__all__ = ("followed",)


@contextlib.contextmanager
def followed(client: Client, name: str, hint: str) -> Iterator[Follow]:
    """Show the stages that the yielded function is told of.

    On an interrupt after the first checks, `hint` is printed with {name} and {state} of the kernel
    `name`, if it has a lease. Nothing of that with --json.
    """
    # What a program reads must be JSON, errors included; a person may look on.
    progress = Progress(silent=settings().json and not sys.stderr.isatty())
    stage = ""

    def follow(name: str, detail: str, seconds: float | None) -> None:
        nonlocal stage
        stage = name
        progress(name, detail, seconds)

    try:
        yield follow
    except KeyboardInterrupt:
        progress.close()
        if stage != "check" and not settings().json:
            _tell_what_is_left(client, name, hint)
        raise
    except BaseException:
        progress.close()
        raise


def _tell_what_is_left(client: Client, name: str, hint: str) -> None:
    from popcorn.errors import PopcornError
    from popcorn.models import label

    try:
        found = client.kernel(name)
    except PopcornError:
        return  # it did not come to a lease
    print(f"hint: {hint.format(name=found.name, state=label(found.state))}", file=sys.stderr)
