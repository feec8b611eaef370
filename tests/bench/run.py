#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""All benchmarks, or those named (ring, start, loopback, net, line, trace), into build/bench.json.

Each figure is a ratio within one run, because machines differ and are noisy; `n` rounds give
median, min and max.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ring
from figures import Figure

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "lab" / "out"

Figures = dict[str, Figure]


def measure_in_lab(name: str, *words: str, lab: tuple[str, ...] = ()) -> Callable[[], Figures]:
    """Boot the lab, with these options, and run the benchmark of that name in it."""

    def measure() -> Figures:
        out = OUT / f"bench-{name}.json"
        out.unlink(missing_ok=True)
        program = ["/usr/bin/python3", f"tests/bench/{name}.py", *words]
        subprocess.run([ROOT / "tests/lab/run", *lab, "--", *program], check=True)
        figures: Figures = json.loads(out.read_text())
        return figures

    return measure


def measure_trace() -> Figures:
    """The tracers, in time, and the tracepoints, in instructions as well."""
    subprocess.run(["make", "untraced"], cwd=ROOT, check=True)
    counted = measure_in_lab(
        "trace", "instructions", lab=("--icount", "--cpus", "1", "--timeout", "3600")
    )
    return measure_in_lab("trace", lab=("--timeout", "3600"))() | counted()


BENCHES: dict[str, Callable[[], Figures]] = {
    "ring": ring.measure,
    "start": measure_in_lab("start"),
    "loopback": measure_in_lab("loopback"),
    "net": measure_in_lab("net"),
    "line": measure_in_lab("line"),
    "trace": measure_trace,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure.")
    parser.add_argument("benches", nargs="*", help=f"of {', '.join(BENCHES)}; all by default")
    wanted = parser.parse_args().benches or list(BENCHES)
    for name in wanted:
        if name not in BENCHES:
            parser.error(f"there is no benchmark '{name}': {', '.join(BENCHES)}")
    figures: Figures = {}
    for name in wanted:
        figures |= BENCHES[name]()
    target = ROOT / "build" / "bench.json"
    target.write_text(json.dumps(figures, indent=2) + "\n")
    for key, figure in figures.items():
        print(
            f"{key:28} median {figure['median']:.3f}"
            f"  min {figure['min']:.3f}  max {figure['max']:.3f}  n {figure['n']}"
        )
    print(f"written to {target.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
