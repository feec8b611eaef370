#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""All benchmarks; their figures go to build/bench.json.

Each figure is a ratio within one run, because machines differ and are noisy; `n` rounds give
median, min and max.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "lab" / "out" / "bench-start.json"


def main() -> int:
    OUT.unlink(missing_ok=True)
    subprocess.run(
        [ROOT / "tests/lab/run", "--", "/usr/bin/python3", "tests/bench/start.py"], check=True
    )
    figures = json.loads(OUT.read_text())
    target = ROOT / "build" / "bench.json"
    target.write_text(json.dumps(figures, indent=2) + "\n")
    for key, figure in figures.items():
        print(
            f"{key:24} median {figure['median']:.3f}"
            f"  min {figure['min']:.3f}  max {figure['max']:.3f}  n {figure['n']}"
        )
    print(f"written to {target.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
