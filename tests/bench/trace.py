# SPDX-License-Identifier: GPL-2.0
"""What tracepoints and tracers cost, in the lab.

Messages go from one loopback node to another, in batches: as fast as there is. Both ends are in
one kernel, so each message passes the tracepoints of both.

`trace.off_x_without`: the rate with the modules as they are, when nothing traces, to that of
modules without tracepoints (`make untraced`), one loaded after the other in each round, and the
order changes with the rounds. `trace.off_x_without_instructions` is the same on a machine whose
clock counts instructions (`trace.py instructions`, in a lab with --icount): all those that a
message takes, at both ends. Other work on the host changes nothing there; an instruction that does
nothing counts as much as any other.

`trace.latency_x_off` and so on: the rate while that tracer runs to the rate right before it, and
`trace.latency_x_off_instructions` that, as counted instructions: with what the tracer does in its
own process, as the machine has one CPU.
`trace.start_first_s` and `trace.start_again_s`: seconds from the command to the line that says that
tracing has begun, for `latency`, the first time since the boot and later.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "lab")]

from figures import figure  # noqa: E402
from loopback import cycles_per_message  # noqa: E402
from setup.modules import untraced  # noqa: E402
from setup.paths import MODULES  # noqa: E402

import stress  # noqa: E402

ROUNDS = 5
"""With each tracer, and of counting instructions."""

PAIRS = 16
"""Rounds with and without tracepoints, which in time are less certain than they differ."""

MESSAGES = 50_000
BEST_OF = 3
"""Runs of each round. The fastest counts: the host's other work makes a run slower only."""

WITH = MODULES / platform.release()
WITHOUT = untraced(platform.release())

TRACERS = {
    "latency": ("latency",),
    "doorbell": ("doorbell",),
    # Nothing is printed; every message is looked at.
    "flow": ("flow", "--slower", "1000000"),
    "record": ("record", "--buffer", "32M", "--limit", "1M"),
}


@contextlib.contextmanager
def nodes(modules: Path) -> Iterator[stress.Stress]:
    """Two nodes in this kernel, by the modules of a directory."""

    def run(*words: str | Path) -> None:
        subprocess.run(words, check=True)

    run("insmod", modules / "popcorn.ko", "loopback=2")
    try:
        run("insmod", modules / "popcorn_stress.ko", "loopback=2")
        try:
            module = stress.Stress()
            module.wait_up((0, 1), (1, 0))
            yield module
        finally:
            run("rmmod", "popcorn_stress")
    finally:
        run("rmmod", "popcorn")


def cycles(module: stress.Stress) -> float:
    """Of the fastest run."""
    return min(cycles_per_message(module, MESSAGES) for _run in range(BEST_OF))


def compare_modules(rounds: int) -> list[float]:
    """Rates with tracepoints to those without."""
    ratios = []
    for number in range(rounds):
        found = {}
        for modules in (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH):
            with nodes(modules) as module:
                found[modules] = cycles(module)
        print(
            f"cycles for each message: {found[WITH]:.1f} with tracepoints,"
            f" {found[WITHOUT]:.1f} without: {found[WITHOUT] / found[WITH]:.4f}",
            flush=True,
        )
        ratios.append(found[WITHOUT] / found[WITH])
    return ratios


@contextlib.contextmanager
def tracer(words: tuple[str, ...], directory: Path) -> Iterator[float]:
    """A tracer that has begun; the seconds that took."""
    said = directory / "said"
    begin = time.monotonic()
    with said.open("w") as error:
        process = subprocess.Popen(
            [ROOT / "build/bin/popcornctl", "trace", *words],
            stdout=subprocess.DEVNULL,
            stderr=error,
            cwd=directory,
        )
    try:
        while "Ctrl-C ends it" not in said.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(words)}: {said.read_text()}")
            time.sleep(0.02)
        yield time.monotonic() - begin
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def compare_tracers() -> dict[str, list[float]]:
    """Rates with each tracer to those right before it, and how long they took to begin."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, nodes(WITH) as module:
        for _round in range(ROUNDS):
            for kind, words in TRACERS.items():
                off = cycles(module)
                with tracer(words, Path(name)) as seconds:
                    on = cycles(module)
                print(
                    f"cycles for each message: {off:.0f}, {on:.0f} with {kind}: {off / on:.3f};"
                    f" it began after {seconds:.1f} s",
                    flush=True,
                )
                found.setdefault(f"{kind}_x_off", []).append(off / on)
                if kind == "latency":
                    again = "start_again_s" if "start_first_s" in found else "start_first_s"
                    found.setdefault(again, []).append(seconds)
    return found


def main() -> int:
    subprocess.run(["modprobe", "-r", "popcorn_host", "popcorn"], check=True)
    counted = sys.argv[1:] == ["instructions"]
    found = {"off_x_without": compare_modules(ROUNDS if counted else PAIRS)} | compare_tracers()
    # How long something takes is not what such a machine can tell.
    figures = {
        f"trace.{name}_instructions" if counted else f"trace.{name}": figure(values)
        for name, values in found.items()
        if not (counted and name.endswith("_s"))
    }
    (Path(os.environ["LAB_OUT"]) / "bench-trace.json").write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
