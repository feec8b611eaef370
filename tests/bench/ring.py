# SPDX-License-Identifier: GPL-2.0
"""Figures of the ring, each a ratio to the two-line ping-pong of the same round.

`ring.rtt_x2l` is the round trip of a 64-byte slot each way over it, `ring.msgs_per_2l` the messages
that go one way in its time. Both with the ring as the modules have it.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
ROUND_LIMIT_S = 60  # a side that gave up leaves the other one spinning
IDLE_LOAD = 0.5
IDLE_WAIT_S = 60


class Figure(TypedDict):
    """One figure: dimensionless, over `n` rounds."""

    median: float
    min: float
    max: float
    n: int


def ring_slots() -> int:
    """Slots of a ring as the modules make it."""
    found = re.search(r"PCN_RING_SLOTS\s+(\d+)", (ROOT / "kmod/core/fabric.h").read_text())
    if found is None:
        raise RuntimeError("kmod/core/fabric.h has no PCN_RING_SLOTS")
    return int(found[1])


def build() -> Path:
    """Compile the benchmark with the module's own ring.c, without vector registers, as there."""
    target = ROOT / "build/ring/ring_bench"
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = [ROOT / "tests/ring/ring_bench.c", ROOT / "kmod/core/ring.c"]
    flags = ["-std=gnu11", "-O2", "-Wall", "-mgeneral-regs-only", "-mno-sse"]
    # Printing a ratio takes floating point; only the ring is compiled as the kernel is.
    ring = target.with_name("ring.o")
    subprocess.run(["gcc", *flags, "-c", "-o", ring, sources[1]], check=True)
    subprocess.run(["gcc", *flags[:3], "-o", target, sources[0], ring], check=True)
    return target


def wait_for_idle_cpus() -> None:
    """Wait until nothing else runs, but not for ever: what is measured says so by its spread."""
    deadline = time.monotonic() + IDLE_WAIT_S
    while os.getloadavg()[0] > IDLE_LOAD and time.monotonic() < deadline:
        time.sleep(1)


def measure() -> dict[str, Figure]:
    """All figures. RuntimeError on a machine with one CPU."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise RuntimeError("two CPUs are needed to measure the ring")
    program, slots = build(), ring_slots()
    rounds: dict[str, list[float]] = {"ring.rtt_x2l": [], "ring.msgs_per_2l": []}
    wait_for_idle_cpus()
    for _round in range(ROUNDS):
        out = subprocess.run(
            [program, str(cpus[0]), str(cpus[1]), str(slots)],
            check=True,
            capture_output=True,
            text=True,
            timeout=ROUND_LIMIT_S,
        ).stdout
        cycles = {name: float(value) for name, value in map(str.split, out.splitlines())}
        rounds["ring.rtt_x2l"].append(cycles["rtt"] / cycles["two-line"])
        rounds["ring.msgs_per_2l"].append(cycles["two-line"] / cycles["stream"])
    return {
        name: Figure(
            median=statistics.median(values), min=min(values), max=max(values), n=len(values)
        )
        for name, values in rounds.items()
    }
