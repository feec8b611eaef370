# SPDX-License-Identifier: GPL-2.0
"""`popcornctl monitor` shows kernels and nodes by netlink, CPUs and nodes by uevents."""

from __future__ import annotations

import json
import subprocess
import time

from guest import Starter
from popcorn import Client


def test_monitor_sees_a_life(client: Client, start: Starter) -> None:
    process = subprocess.Popen(
        ["popcornctl", "--json", "monitor"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(6)  # to be listening; what comes before is not shown
    start("web", cpus=(2,))
    client.kernel_kill(1)
    client.kernel_del(1)
    time.sleep(3)
    process.send_signal(2)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    events = [json.loads(line) for line in out.splitlines()]
    seen = {(e["kind"], e["state"]) for e in events}
    assert {("kernel", "running"), ("kernel", "killed"), ("node", "up")} <= seen
    assert any(e["kind"] == "cpu" and e["action"] == "offline" for e in events)
    assert any(e["kind"] == "cpu" and e["action"] == "online" for e in events)
    uevents = [e["properties"] for e in events if e["kind"] == "popcorn"]
    assert any(p.get("POPCORN_STATE") == "up" and p.get("POPCORN_NAME") == "web" for p in uevents)
