# SPDX-License-Identifier: GPL-2.0
"""popcorn_stress.ko from Python: streams of messages between nodes, and what became of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ctl

CONTROL = Path("/sys/kernel/debug/popcorn_stress/control")
REPORT = Path("/sys/kernel/debug/popcorn_stress/report")

WAIT, AGAIN, BATCH, CALL = 1, 2, 4, 8
"""How messages are sent: blocking; tried again when there is room; several at once; as calls."""

NEVER = ("lost", "twice", "late", "damaged", "stale", "unasked", "disorder", "errors", "starved")
"""What no kernel that works counts of another one that does."""

SOAK = bool(os.environ.get("POPCORN_SOAK"))
"""As much as the issue asks for, for hours; else as much as fits into everybody's `make test`."""

PATIENCE_S = 120
"""Until something counts as not happening at all. Everything is emulated, on few CPUs."""


@dataclass(frozen=True)
class Report:
    """What a node knows of another one; `count` as in kmod/test/control.c."""

    node: int
    peer: int
    up: bool
    running: int
    count: dict[str, int]

    def __getitem__(self, name: str) -> int:
        return self.count[name]

    @property
    def faults(self) -> dict[str, int]:
        """What should be 0 and is not."""
        return {name: self.count[name] for name in NEVER if self.count[name]}


Reports = dict[tuple[int, int], Report]


def faults(reports: Reports) -> dict[tuple[int, int], dict[str, int]]:
    """What should be 0 and is not, by who says so of whom; empty if all is well."""
    return {pair: found for pair, report in reports.items() if (found := report.faults)}


def mask(*nodes: int) -> int:
    """The nodes as bits."""
    return sum(1 << node for node in nodes)


class Stress:
    """The module in this kernel, and through it those elsewhere."""

    def order(self, verb: str, **words: int) -> None:
        """Write an order; OSError if it is refused."""
        text = " ".join([verb, *(f"{key}={value}" for key, value in words.items())])
        CONTROL.write_text(text)

    def start(self, senders_at: int, to: int, **words: int) -> None:
        """Have the nodes of a mask send streams to those of another one."""
        self.order("start", **{"from": senders_at, "to": to}, **words)

    def stop(self, nodes: int) -> None:
        """End all streams of the nodes of a mask."""
        self.order("stop", **{"from": nodes})

    def reset(self, nodes: int) -> None:
        """Set what the nodes of a mask counted to 0."""
        self.order("reset", **{"from": nodes})

    def ask(self, nodes: int = 0) -> Reports:
        """What this kernel knows, and what the nodes of a mask know now."""
        if nodes:
            self.order("ask", **{"from": nodes})
        reports = {}
        for line in REPORT.read_text().splitlines():
            count = {key: int(value) for key, value in (word.split("=") for word in line.split())}
            node, peer, up = count.pop("node"), count.pop("peer"), bool(count.pop("up"))
            reports[node, peer] = Report(node, peer, up, count.pop("running"), count)
        return reports

    def wait(
        self,
        what: Callable[[Reports], bool],
        nodes: int = 0,
        seconds: float = PATIENCE_S,
        pause: float = 0.2,
    ) -> Reports:
        """Ask until something is so; AssertionError with what was told last if it never is."""
        deadline = time.monotonic() + seconds
        while not what(reports := self.ask(nodes)):
            assert time.monotonic() < deadline, reports
            time.sleep(pause)
        return reports

    def wait_up(self, *pairs: tuple[int, int]) -> None:
        """Wait until this kernel's nodes see the others, and have their hello."""
        self.wait(lambda reports: all(p in reports and reports[p].up for p in pairs))


@contextlib.contextmanager
def loaded(*parameters: str) -> Iterator[Stress]:
    """The module, loaded here; unloading it proves that nothing of it goes on."""
    subprocess.run(["modprobe", "popcorn_stress", *parameters], check=True)
    try:
        yield Stress()
    finally:
        subprocess.run(["modprobe", "-r", "popcorn_stress"], check=True)


@contextlib.contextmanager
def loopback(nodes: int) -> Iterator[Stress]:
    """A fabric of several nodes in this kernel, and the module on all of them."""
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    subprocess.run(["modprobe", "popcorn", f"loopback={nodes}"], check=True)
    try:
        with loaded(f"loopback={nodes}") as stress:
            pairs = [(a, b) for a in range(nodes) for b in range(nodes) if a != b]
            stress.wait_up(*pairs)
            yield stress
    finally:
        subprocess.run(["modprobe", "-r", "popcorn"], check=True)
        subprocess.run(["modprobe", "popcorn_host"], check=True)


def build_image(path: Path, *modules: str, run: Path | None = None) -> Path:
    """An initramfs with the module and others; `run` is a script for a whole shell."""
    words = ["image", "build", "-o", str(path)]
    for module in ("popcorn_stress", *modules):
        words += ["--module", module]
    if run:
        words += ["--profile", "shell", "--run", str(run)]
    done = ctl(*words)
    assert done.returncode == 0, done.stderr
    return path
