# SPDX-License-Identifier: GPL-2.0
"""How a trace shows its results."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from popcorn.cli.base import settings
from popcorn.cli.output import print_json, print_json_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from popcorn_tracing.common import Limits, Machine


def print_report(report: Any, limits: Limits, show: Callable[[Any], None]) -> None:
    """For people by `show`, or as JSON: a line of it if more of them come."""
    if not settings().json:
        show(report)
    elif limits.interval:
        print_json_line(report.to_json())
    else:
        print_json(report.to_json())


def namer(here: Machine) -> Callable[[int], str]:
    """How a node is shown."""

    def node(number: int) -> str:
        name = here.names.get(number)
        return f"{number} ({name})" if name else str(number)

    return node


def title(stage: str) -> str:
    """A stage as a heading."""
    return stage.replace("-", " -> ")


def say(line: str) -> None:
    """Tell people, on standard error, when they should know it."""
    print(line, file=sys.stderr, flush=True)
