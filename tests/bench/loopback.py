# SPDX-License-Identifier: GPL-2.0
"""What more nodes cost those that talk, in the lab.

`loopback.x16_over_x2`: the time of a message from one loopback node to another when there are
sixteen of them, all with the service, to that when there are only the two. Both in the same round,
in the same boot.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROUNDS = 5
MESSAGES = 100_000
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "lab")]

from figures import figure  # noqa: E402

import stress  # noqa: E402
from stress import BATCH, mask  # noqa: E402


def cycles_per_message(module: stress.Stress, messages: int = MESSAGES) -> float:
    """TSC cycles from the first message sent to the last received, over their number."""
    for number in (messages // 10, messages):  # the first let the ring grow
        module.reset(mask(0, 1))
        module.start(mask(0), mask(1), messages=number, in_slot=1000, modes=BATCH)
        reports = module.wait(lambda now: (1, 0) in now and bool(now[1, 0]["ended"]))
    there, here = reports[0, 1], reports[1, 0]
    if here["received"] != messages or here.faults:
        raise RuntimeError(f"messages were lost: {here}")
    return (here["done"] - there["began"]) / messages


def cycles_among(nodes: int) -> float:
    """The same, of two of so many nodes in this kernel."""
    with stress.loopback(nodes) as module:
        return cycles_per_message(module)


def main() -> int:
    ratios = []
    for _round in range(ROUNDS):
        two, sixteen = cycles_among(2), cycles_among(16)
        print(f"cycles for each message: {two:.0f} of 2 nodes, {sixteen:.0f} of 16")
        ratios.append(sixteen / two)
    figures = {"loopback.x16_over_x2": figure(ratios)}
    (Path(os.environ["LAB_OUT"]) / "bench-loopback.json").write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
