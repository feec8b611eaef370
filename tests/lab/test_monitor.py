# SPDX-License-Identifier: GPL-2.0
"""`popcornctl monitor` shows kernels and nodes by netlink, CPUs and nodes by uevents."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from typing import Any

from guest import Starter, wait_listening
from popcorn import Client

GROUPS = 4
"""Kernels, nodes and services of the module, and udev."""


def missing(events: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """What belongs to a kernel's life, and is not among the events."""
    wanted = {("kernel", "running"), ("kernel", "killed"), ("node", "up")}
    wanted |= {("cpu", "offline"), ("cpu", "online"), ("popcorn", "web is up")}
    for event in events:
        seen = event["action"] if event["kind"] == "cpu" else event["state"]
        wanted -= {(event["kind"], seen)}
        if event["kind"] == "popcorn":
            properties = event["properties"]
            state = f"{properties.get('POPCORN_NAME')} is {properties.get('POPCORN_STATE')}"
            wanted -= {("popcorn", state)}
    return wanted


def parse(out: bytes) -> list[dict[str, Any]]:
    """The events in what was printed; the last line may not be whole."""
    return [json.loads(line) for line in out.split(b"\n")[:-1]]


def test_monitor_sees_a_life(client: Client, start: Starter) -> None:
    monitor = subprocess.Popen(
        ["popcornctl", "--json", "monitor"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert monitor.stdout
    # What comes before is not shown.
    wait_listening(monitor, GROUPS)
    start("web", cpus=(2,))
    client.kernel_kill(1)
    client.kernel_del(1)
    out, deadline = b"", time.monotonic() + 60
    while absent := missing(parse(out)):
        left = max(0, deadline - time.monotonic())
        assert select.select([monitor.stdout], [], [], left)[0], (absent, out)
        more = os.read(monitor.stdout.fileno(), 65536)
        assert more, (absent, out, monitor.communicate())
        out += more
    monitor.send_signal(signal.SIGINT)
    _, err = monitor.communicate(timeout=30)
    assert monitor.returncode == 130, err
