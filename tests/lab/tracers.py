# SPDX-License-Identifier: GPL-2.0
"""Tracers in the background, for tests that run several of them beside what they trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import ClassVar

CACHE = Path("/var/cache/popcorn")

ORIGINS = ("compiled", "cached")
"""Where programs come from: what is counted must not depend on it. In this order."""


def entries() -> list[Path]:
    """The programs in the cache."""
    return sorted(CACHE.glob("*.bpf"))


def forget() -> None:
    """No program is in the cache."""
    if CACHE.exists():
        shutil.rmtree(CACHE)


class Origin:
    """Makes tracers take their programs from there, and tells whether they did."""

    def __init__(self, name: str) -> None:
        self._cached = name == "cached"
        if not self._cached:
            forget()
        self._before = entries()

    def environment(self) -> dict[str, str]:
        """Of tracers: without kernel headers nothing can be compiled."""
        return {**os.environ, **({"BCC_KERNEL_SOURCE": "/nothing"} if self._cached else {})}

    def check(self) -> None:
        """New programs are there if they were compiled, and only then."""
        assert (entries() == self._before) == self._cached


class Tracer:
    """A tracer in the background, from its first word to its report."""

    running: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, where: Path, *words: str, origin: Origin | None = None) -> None:
        self.out, self.err = where / f"{words[0]}.out", where / f"{words[0]}.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                ["popcornctl", "--json", "trace", *words], stdout=out, stderr=err,
                env=origin.environment() if origin else None,
            )  # fmt: skip
        self.running.append(self.process)

    @classmethod
    def end_all(cls) -> None:
        """Those that a test left: they hold the modules."""
        while cls.running:
            process = cls.running.pop()
            process.kill()
            process.wait()

    def wait_ready(self, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while "Ctrl-C ends it" not in self.err.read_text():
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < end, "the tracer does not begin"
            time.sleep(0.1)

    def end(self) -> str:
        """As Ctrl-C ends it."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(120) == 0, self.err.read_text()
        return self.out.read_text()
