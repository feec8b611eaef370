# SPDX-License-Identifier: GPL-2.0
"""What a benchmark tells of what it measured in its rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Figure(TypedDict):
    """One figure: dimensionless, over `n` rounds."""

    median: float
    min: float
    max: float
    n: int


def figure(rounds: Sequence[float]) -> Figure:
    """The figure that the rounds give."""
    return Figure(median=statistics.median(rounds), min=min(rounds), max=max(rounds), n=len(rounds))
