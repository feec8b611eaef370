# SPDX-License-Identifier: GPL-2.0
"""Figures of the ring, each a ratio to another figure of the same round.

Two processes on two CPUs, the ring and the area as the modules have them:

- `ring.rtt_x2l`: round trip of a message each way, `ring.inplace_x2l`: of a call that is answered
  in its own slot; both in two-line ping-pongs
- `ring.msgs_per_2l`: messages that go one way in the time of a two-line ping-pong, in batches of 16
  with one time stamp each. `_wake`: each batch also looks whether the receiver sleeps; `_stamps`:
  a time stamp for each message, sent one by one; `_small`: in a ring as channels begin with
- `bulk.x_pipeline`: speed of 1 MiB through bodies, in that of a pipeline of two copies by hand,
  with whatever buffers are the best for that
- `raw.line64_x2l`, `raw.one_line64_x2l`: what the machine does with 64 bytes in two lines, in one
- `peer.rte_ring_msgs_per_2l`: DPDK's ring, if its headers are installed (libdpdk-dev, or
  C_INCLUDE_PATH)
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from figures import Figure, figure

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
ROUND_LIMIT_S = 60  # a side that gave up leaves the other one spinning
IDLE_LOAD = 0.5
IDLE_WAIT_S = 60
# The yardstick is measured at the start and in the middle. What differs by more is measured again.
STEADY = 0.05
RETRIES = 10
DPDK = ("/usr/include/dpdk", "/usr/include/x86_64-linux-gnu/dpdk")

Cycles = dict[str, list[float]]


def has_dpdk(flags: list[str]) -> bool:
    """Whether a program can include DPDK's ring."""
    done = subprocess.run(
        ["gcc", *flags, "-fsyntax-only", "-x", "c", "-"],
        input="#include <rte_ring.h>\n",
        capture_output=True,
        text=True,
    )
    return done.returncode == 0


def build() -> Path:
    """Compile the benchmark with the module's own sources, without vector registers, as there."""
    target = ROOT / "build/ring/ring_bench"
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-std=gnu11", "-O2", "-Wall"]
    parts = []
    for name in ("ring", "area"):
        parts.append(target.with_name(f"{name}.o"))
        source = ROOT / f"kmod/core/{name}.c"
        kernel = ["-mgeneral-regs-only", "-fno-strict-aliasing"]
        subprocess.run(["gcc", *flags, *kernel, "-c", "-o", parts[-1], source], check=True)
    # The rest prints ratios, which takes floating point.
    dpdk = ["-mssse3", *(f"-isystem{folder}" for folder in DPDK)]
    if has_dpdk([*flags, *dpdk]):
        flags += ["-DHAVE_RTE_RING", *dpdk]
    source = ROOT / "tests/ring/ring_bench.c"
    subprocess.run(["gcc", *flags, "-o", target, source, *parts], check=True)
    return target


def wait_for_idle_cpus() -> None:
    """Wait until nothing else runs, but not for ever: what is measured says so by its spread."""
    deadline = time.monotonic() + IDLE_WAIT_S
    while os.getloadavg()[0] > IDLE_LOAD and time.monotonic() < deadline:
        time.sleep(1)


def one_round(program: Path, cpus: list[int]) -> Cycles:
    """Cycles by name; what is measured twice has two of them."""
    out = subprocess.run(
        [program, str(cpus[0]), str(cpus[1])],
        check=True,
        capture_output=True,
        text=True,
        timeout=ROUND_LIMIT_S,
    ).stdout
    cycles: Cycles = {}
    for name, value in map(str.split, out.splitlines()):
        cycles.setdefault(name, []).append(float(value))
    return cycles


def is_steady(cycles: Cycles) -> bool:
    """Whether the machine was the same throughout."""
    first, second = cycles["two-line"]
    return abs(first - second) <= STEADY * min(first, second)


def best_pipeline(rounds: list[Cycles]) -> str:
    """The pipeline that is the fastest over all rounds, not by chance in one of them."""
    names = [name for name in rounds[0] if name.startswith("pipeline-")]
    return min(names, key=lambda name: statistics.median(cycles[name][0] for cycles in rounds))


def ratios(cycles: Cycles, pipeline: str) -> dict[str, float]:
    """The figures of one round."""
    mean = {name: statistics.mean(values) for name, values in cycles.items()}
    yard = mean["two-line"]
    figures = {
        "ring.rtt_x2l": mean["rtt"] / yard,
        "ring.inplace_x2l": mean["inplace"] / yard,
        "ring.msgs_per_2l": yard / mean["stream"],
        "ring.msgs_per_2l_wake": yard / mean["stream-wake"],
        "ring.msgs_per_2l_stamps": yard / mean["stream-stamps"],
        "ring.msgs_per_2l_small": yard / mean["stream-small"],
        "bulk.x_pipeline": mean[pipeline] / mean["bulk"],
        "raw.line64_x2l": mean["line64"] / yard,
        "raw.one_line64_x2l": mean["one-line64"] / yard,
    }
    if "rte-ring" in mean:
        figures["peer.rte_ring_msgs_per_2l"] = yard / mean["rte-ring"]
    return figures


def measure() -> dict[str, Figure]:
    """All figures. RuntimeError on a machine with one CPU."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise RuntimeError("two CPUs are needed to measure the ring")
    program = build()
    wait_for_idle_cpus()
    rounds: list[Cycles] = []
    retries = 0
    while len(rounds) < ROUNDS:
        cycles = one_round(program, cpus)
        if not is_steady(cycles) and retries < RETRIES:
            retries += 1
            continue
        rounds.append(cycles)
    if retries:
        print(
            f"ring: {retries} rounds were measured again: the machine was not steady",
            file=sys.stderr,
        )
    pipeline = best_pipeline(rounds)
    figures = [ratios(cycles, pipeline) for cycles in rounds]
    return {name: figure([one[name] for one in figures]) for name in figures[0]}
