# SPDX-License-Identifier: GPL-2.0
"""What ``--check`` says of generated files that are not what would be generated now."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ("report",)

#: Lines of a difference that are shown for each file.
DIFF_LINES = 12


def report(old: Mapping[Path, str], new: Mapping[Path, str], wanted: str) -> int:
    """Write the differences to standard error; returns how many files are not current.

    A missing file counts as an empty one; `wanted` says in a word or two what the new text is.
    """
    stale = [path for path in dict.fromkeys((*new, *old)) if old.get(path, "") != new.get(path, "")]
    for path in stale:
        diff = list(
            difflib.unified_diff(
                old.get(path, "").splitlines(),
                new.get(path, "").splitlines(),
                str(path),
                f"{path} ({wanted})",
                lineterm="",
            )
        )
        sys.stderr.write("\n".join(diff[:DIFF_LINES]) + "\n")
        if len(diff) > DIFF_LINES:
            sys.stderr.write(f"({len(diff) - DIFF_LINES} more lines)\n")
    return len(stale)
