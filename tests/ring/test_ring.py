# SPDX-License-Identifier: GPL-2.0
"""The module's own ring.c and area.c in user space: as they are, and under sanitizers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "kmod/core"
PARTS = sorted(set(HERE.glob("*.c")) - {HERE / "ring_bench.c"})
# The kernel has no vector registers to copy with, so neither has this.
FLAVOURS = {
    "plain": ["-O2", "-mgeneral-regs-only"],
    "sanitized": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}


def compile_check(folder: Path, flags: list[str], core: Path = CORE) -> Path:
    target = folder / "ring_check"
    command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread"]
    sources = [*PARTS, core / "ring.c", core / "area.c"]
    subprocess.run([*command, *flags, "-o", target, *sources], check=True)
    return target


@pytest.fixture(scope="session", params=FLAVOURS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_check(tmp_path_factory.mktemp(request.param), FLAVOURS[request.param])


def run(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=300)


def passes(program: Path, *args: str) -> str:
    done = run(program, *args)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_message_arrives_once_and_in_order(program: Path) -> None:
    said = passes(program, "stream", "120000")
    figures = dict(re.findall(r"(\w+) (\d+)", said))
    assert figures["messages"] == "120000"
    # Else a side never slept, and nothing was learned of waking it.
    assert int(figures["doorbells"]) > 0
    assert int(figures["slept"]) > 0


def test_two_threads_race_nowhere(tmp_path: Path) -> None:
    program = compile_check(tmp_path, ["-O1", "-g", "-fsanitize=thread"])
    passes(program, "threads", "100000")


def test_what_the_interface_promises(program: Path) -> None:
    passes(program, "rules")


def test_no_message_of_an_earlier_epoch(program: Path) -> None:
    passes(program, "epoch")


@pytest.mark.parametrize("seed", range(1, 5))
def test_scribbling_harms_nobody(program: Path, seed: int) -> None:
    passes(program, "fuzz", str(seed), "1000000")


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_area_is_given_out_as_the_model_has_it(program: Path, seed: int) -> None:
    passes(program, "area", str(seed), "200000")


FUZZ = ("fuzz", "1", "1000000")
AREA = ("area", "1", "200000")


@pytest.mark.parametrize(
    ("file", "was", "becomes", "mode"),
    [
        # A receiver that believes any length and any flags,
        (
            "ring.c",
            "if (unlikely((head >> 48 & ~((u64)PCN_SHM_FLAG_CALL << 8)) > PCN_SHM_INLINE_BYTES)) {",
            "if (0) {",
            FUZZ,
        ),
        # a body that goes on behind the area,
        ("ring.c", "body.len > ring->area_bytes - body.offset", "0", FUZZ),
        # a body that is too long,
        ("ring.c", "body.len > PCN_SHM_BODY_BYTES ||", "", FUZZ),
        # a ring of any size, or behind the area.
        ("ring.c", "move.nr_slots & (move.nr_slots - 1) ||", "", FUZZ),
        (
            "ring.c",
            "move.nr_slots * PCN_SHM_SLOT_BYTES > ring->area_bytes - move.offset",
            "0",
            FUZZ,
        ),
        # A caller that believes any answer.
        (
            "ring.c",
            "PCN_SHM_HEAD_LEN(head) > PCN_SHM_INLINE_BYTES)\n\t\treturn",
            "0)\n\t\treturn",
            FUZZ,
        ),
        # A sender that believes any count, or that of another incarnation.
        ("ring.c", "done - ring->done <= ring->pos - ring->done", "1", FUZZ),
        ("ring.c", "word >> 32 == ring->tag &&", "", ("rules",)),
        # Epochs that are not told apart.
        ("ring.c", "ring->tag = tag;", "ring->tag = 1 + 0 * tag;", ("epoch",)),
        # A kick that is never given, and a wish for room that is never heard.
        (
            "ring.c",
            "return READ_ONCE(ring->shm->arm.armed) &&",
            "return 0 &&",
            ("stream", "100000"),
        ),
        (
            "ring.c",
            "return pcn_exchange(&ring->shm->room.wanted, 0);",
            "return false;",
            ("stream", "100000"),
        ),
        # The slot of a call that is used again too early.
        (
            "ring.c",
            "ring->nr_calls && (s32)(ring->oldest_call - ring->done) < 0 ?",
            "0 ?",
            ("rules",),
        ),
        # A ring that moves to a place that is not wiped, or away from under an answer.
        ("ring.c", "memset(ring->area + offset, 0, (size_t)", "(void)(", ("rules",)),
        (
            "ring.c",
            "if (PCN_SHM_HEAD_FLAGS(head) & PCN_SHM_FLAG_MOVE && msg != msgs)",
            "if (0)",
            ("rules",),
        ),
        # A receiver that is done with what it has just handed out.
        ("ring.c", "ring->done = ring->pos;", "ring->done = ring->pos + 1;", ("rules",)),
        # An area that is not shared fairly, is given back too early, or forgets what came back.
        ("area.c", "(had && (u64)had + nr_units > area->nr_free - nr_units)", "0", AREA),
        ("area.c", "(s32)(done - loan->pos) <= 0", "(s32)(done - loan->pos) < 0", AREA),
        ("area.c", "if (unit < area->low)", "if (0)", AREA),
    ],
)
def test_what_is_broken_is_found(
    tmp_path: Path, file: str, was: str, becomes: str, mode: tuple[str, ...]
) -> None:
    for name in ("ring.c", "area.c"):
        source = (CORE / name).read_text()
        if name == file:
            assert source.count(was) == 1
            source = source.replace(was, becomes)
        header = f"{name[:-2]}.h"
        source = source.replace(f'#include "{header}"', f'#include "{CORE / header}"')
        (tmp_path / name).write_text(source)
    program = compile_check(tmp_path, ["-O2", "-Wno-unused", "-DWAKE_SECONDS=1"], tmp_path)
    done = run(program, *mode)
    assert done.returncode != 0, done.stdout + done.stderr
    assert "failed: " in done.stdout
