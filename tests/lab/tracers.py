# SPDX-License-Identifier: GPL-2.0
"""Tracers in the background, for tests that run several of them beside what they trace."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path


class Tracer:
    """A tracer in the background, from its first word to its report."""

    def __init__(self, where: Path, *words: str) -> None:
        self.out, self.err = where / f"{words[0]}.out", where / f"{words[0]}.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                ["popcornctl", "--json", "trace", *words], stdout=out, stderr=err
            )

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
