# SPDX-License-Identifier: GPL-2.0
"""popcornctl ends at each stage of a start: the next command sees what is left and undoes it."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from guest import RELEASE, ctl, ctl_json, look
from popcorn import Client
from popcorn.start import STAGES

START = ("kernel", "start", "half", "--cpus", "2", "--memory", "256M", "--kernel", RELEASE)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("stage", STAGES)
def test_ended_at(client: Client, stage: str, how: signal.Signals) -> None:
    before = look(client)
    process = subprocess.Popen(
        ["popcornctl", *START],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    # A line is printed when a stage is done, so the next one is going on then.
    position = STAGES.index(stage)
    if position:
        for line in process.stderr:
            if line.startswith(STAGES[position - 1]):
                break
        else:
            raise AssertionError(f"never came to stage {stage}")
    else:
        time.sleep(0.5)
    process.send_signal(how)
    rest = process.communicate(timeout=60)[1]
    if how == signal.SIGKILL:
        assert process.returncode == -how, rest
    elif stage == "check":
        # It may be the interpreter that is interrupted, on its way up; it has codes of its own.
        assert process.returncode != 0, rest
    else:
        assert process.returncode == 130, rest

    kernels = ctl_json("kernel", "list")
    if kernels:
        assert [k["name"] for k in kernels] == ["half"]
        done = ctl("kernel", "kill", "half")
        assert done.returncode == 0, done.stderr
    else:
        assert stage in ("check", "lease"), "the half-started kernel is gone from the list"
    assert look(client) == before
