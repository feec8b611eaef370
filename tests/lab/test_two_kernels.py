# SPDX-License-Identifier: GPL-2.0
"""Two secondaries of different versions at once. Needs six CPUs."""

from __future__ import annotations

import os
import platform

from guest import ctl, ctl_json
from popcorn import Client

RELEASES = [
    pair.split("=", 1)[1] for pair in os.environ.get("LAB_SECONDARIES", "").split() if "=" in pair
]


def test_different_versions_ping_and_one_dies(client: Client) -> None:
    other = next((r for r in RELEASES if r != platform.release()), platform.release())
    for name, cpus, release in (("one", "2-3", platform.release()), ("two", "4-5", other)):
        done = ctl("kernel", "start", name, "--cpus", cpus, "--memory", "512M",
                   "--kernel", release, "--timeout", "120", timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr
    shown = {n["name"]: n["release"] for n in ctl_json("node", "list")}
    assert (shown["one"], shown["two"]) == (platform.release(), other)
    for name in ("one", "two"):
        assert ctl_json("ping", name, "-c", "500")["n"] == 500
    assert ctl("kernel", "kill", "one").returncode == 0
    assert [k.name for k in client.kernels()] == ["two"]
    assert ctl_json("ping", "two", "-c", "500")["n"] == 500
