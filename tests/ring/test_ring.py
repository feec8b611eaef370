# SPDX-License-Identifier: GPL-2.0
"""The module's own ring.c, compiled for user space: as it is, and under the sanitizers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
RING = HERE.parents[1] / "kmod/core/ring.c"
# The kernel has no vector registers to copy with, so neither has this.
FLAVOURS = {
    "plain": ["-O2", "-mgeneral-regs-only"],
    "sanitized": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}


@pytest.fixture(scope="session", params=FLAVOURS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_check(tmp_path_factory.mktemp(request.param), FLAVOURS[request.param], RING)


def compile_check(folder: Path, flags: list[str], ring: Path) -> Path:
    target = folder / "ring_check"
    command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", *flags]
    subprocess.run([*command, "-o", target, HERE / "ring_check.c", ring], check=True)
    return target


def run(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=120)


def test_every_message_arrives_once_and_in_order(program: Path) -> None:
    done = run(program, "stream", "1000000")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = re.fullmatch(r"messages 1000000 armed (\d+) doorbells (\d+)\n", done.stdout)
    assert figures is not None
    # Else the receiver never slept, and nothing was learned of waking it.
    assert int(figures[2]) > 0


def test_no_message_of_an_earlier_epoch(program: Path) -> None:
    done = run(program, "epoch")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", range(1, 5))
def test_scribbling_harms_nobody(program: Path, seed: int) -> None:
    done = run(program, "fuzz", str(seed), "500000")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("was", "becomes", "mode"),
    [
        # A receiver that believes any length.
        (
            "if (msg->len > PCN_SHM_INLINE_BYTES || flags)",
            "if (flags)",
            ("fuzz", "1", "500000"),
        ),
        # A sender that believes any count.
        (
            "if (done - ring->done > ring->pos - ring->done)\n\t\treturn false;",
            "",
            ("fuzz", "1", "500000"),
        ),
        # Epochs that are not told apart.
        ("ring->tag = tag;", "ring->tag = 1 + 0 * tag;", ("epoch",)),
        # A kick that is never given.
        ("return READ_ONCE(ring->shm->arm.armed) &&", "return 0 &&", ("stream", "200000")),
    ],
)
def test_a_broken_ring_is_found(
    tmp_path: Path, was: str, becomes: str, mode: tuple[str, ...]
) -> None:
    source = RING.read_text()
    assert source.count(was) == 1
    broken = tmp_path / "ring.c"
    text = source.replace(was, becomes)
    broken.write_text(text.replace('#include "ring.h"', f'#include "{RING.parent}/ring.h"'))
    program = compile_check(tmp_path, ["-O2", "-Wno-unused"], broken)
    done = run(program, *mode)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("failed: ")
