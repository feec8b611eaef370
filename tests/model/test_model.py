# SPDX-License-Identifier: GPL-2.0
"""The models of the message layer's protocols: they hold, and each part of them is needed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def verify(folder: Path, model: str, *defines: str) -> tuple[int, str]:
    """Search all states; returns the number of errors and what the verifier said."""
    flags = [f"-D{name}" for name in defines]
    subprocess.run(["spin", *flags, "-a", HERE / model], cwd=folder, check=True)
    subprocess.run(["gcc", "-O2", "-w", "-DSAFETY", "-o", "pan", "pan.c"], cwd=folder, check=True)
    done = subprocess.run(
        ["./pan", "-m100000"], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    assert "max search depth too small" not in done.stdout
    found = re.search(r"errors: (\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]), done.stdout


@pytest.mark.parametrize("model", ["doorbell.pml", "room.pml", "call.pml", "epoch.pml"])
def test_protocol_holds_and_all_of_it_is_reached(tmp_path: Path, model: str) -> None:
    errors, said = verify(tmp_path, model)
    assert errors == 0, said
    # What is never reached was not verified. The endless drain is the only thing without an end.
    unreached = re.findall(r"unreached in proctype (\w+)\n((?:\t.*\n)*)", said)
    assert unreached, said
    for process, lines in unreached:
        assert process == "drain" or "(0 of " in lines, said


@pytest.mark.parametrize(
    ("model", "without", "symptom"),
    [
        ("doorbell.pml", "NO_K", "invalid end state"),
        ("doorbell.pml", "NO_A", "invalid end state"),
        ("doorbell.pml", "NO_RECHECK", "invalid end state"),
        ("doorbell.pml", "NO_W", "invalid end state"),
        ("doorbell.pml", "NO_Z", "invalid end state"),
        ("doorbell.pml", "NO_LOOK", "invalid end state"),
        ("doorbell.pml", "CLEAR_LATE", "invalid end state"),
        ("room.pml", "NO_H", "invalid end state"),
        ("room.pml", "NO_Y", "invalid end state"),
        ("room.pml", "NO_RECHECK", "invalid end state"),
        ("room.pml", "NO_REST", "invalid end state"),
        ("call.pml", "NO_DONE", "invalid end state"),
        ("call.pml", "NO_HOLD", "invalid end state"),
        ("call.pml", "DONE_EARLY", "invalid end state"),
        ("epoch.pml", "NO_TAG", "assertion violated"),
        ("epoch.pml", "WIPE_LATE", "invalid end state"),
    ],
)
def test_each_part_is_needed(tmp_path: Path, model: str, without: str, symptom: str) -> None:
    errors, said = verify(tmp_path, model, without)
    assert errors > 0, said
    assert symptom in said
