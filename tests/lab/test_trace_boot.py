# SPDX-License-Identifier: GPL-2.0
"""The start of a kernel as ftrace shows it, a new one's and a second one on the same lease."""

from __future__ import annotations

from pathlib import Path

from guest import RELEASE, ctl, ctl_json
from popcorn import Client


def test_a_start_stage_by_stage(client: Client) -> None:
    instances = Path("/sys/kernel/tracing/instances")
    before = list(instances.iterdir())
    found = ctl_json(
        "trace", "boot", "--",
        "popcornctl", "kernel", "start", "web", "--kernel", RELEASE, "--cpus", "2",
        "--memory", "256M",
    )  # fmt: skip
    (start,) = found["starts"]
    assert (found["missed"], start["name"], start["state"]) == (0, "web", "running")
    assert start["whole"]
    assert [stage["name"] for stage in start["stages"]] == [
        "memory", "slice", "cpus", "slot", "load", "check", "init", "entry", "joined"
    ]  # fmt: skip
    assert all(stage["ns"] >= 0 for stage in start["stages"])
    assert sum(stage["ns"] for stage in start["stages"]) == start["ns"]
    # On its lease, it is wiped instead; and this is for the example.
    done = ctl("trace", "boot", "--", "popcornctl", "kernel", "restart", "web", "--force")
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    stages = [line.split()[0] for line in done.stdout.splitlines() if "#" in line or "|" in line]
    assert stages[0] == "wipe"
    assert stages[-1] == "joined"
    assert list(instances.iterdir()) == before
