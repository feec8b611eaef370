# SPDX-License-Identifier: GPL-2.0
"""Tracers in another kernel, whose image has an agent and nothing more."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from guest import ctl, ctl_json, program
from popcorn.models import Kernel

PINGS = 9_973

pytestmark = pytest.mark.usefixtures("terminals", "shell")


def there(script: str) -> str:
    done = ctl("kernel", "exec", "-n", "web", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tracefs() -> str:
    """Where it is mounted there."""
    return there("grep tracefs /proc/mounts || :")


def test_ftrace_counts_there(shell: Kernel) -> None:
    before = tracefs()
    done = program(
        "--json", "trace", "latency", "--kernel", "web", "--service", "echo", "--",
        "popcornctl", "--json", "ping", "web", "-c", str(PINGS),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no popcornctl: counted there by ftrace" in done.stderr
    found = json.loads(done.stdout)
    assert (found["source"], found["node"], found["missed"]) == ("ftrace", shell.id, 0)
    # What it received, and what it answered.
    assert found["messages"] == {"queued": PINGS, "delivered": PINGS}
    (flow,) = found["delivered"]
    assert (flow["src"], flow["dst"], flow["service"]) == (0, shell.id, "echo")
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages["queued-delivered"]["count"] == PINGS
    for stage in stages.values():
        assert sum(row["count"] for row in stage["histogram"]) == stage["count"] <= PINGS
    assert tracefs() == before


def test_services_have_their_names(shell: Kernel) -> None:
    words = ("--", "popcornctl", "kernel", "exec", "-n", "web", "--", "true")
    found = ctl_json("trace", "latency", "--service", "popcorn.tty", "--by", "service", *words)
    assert found["messages"]["queued"] > 0 and found["messages"]["delivered"] > 0
    assert {flow["service"] for flow in found["queued"] + found["delivered"]} == {"popcorn.tty"}
    assert {row["service"] for row in found["rows"]} == {"popcorn.tty"}


def test_interrupted_it_leaves_nothing_there(shell: Kernel) -> None:
    # So that it can be looked at.
    there("mount -t tracefs nodev /sys/kernel/tracing")
    tracer = subprocess.Popen(
        ["popcornctl", "trace", "latency", "--kernel", "web", "--source", "ftrace"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert tracer.stderr
    assert "counting the latency of messages in 'web' by ftrace" in tracer.stderr.readline()
    assert there("ls /sys/kernel/tracing/instances") != ""
    tracer.send_signal(signal.SIGINT)
    out, _ = tracer.communicate(timeout=60)
    assert tracer.returncode == 0
    assert f"messages delivered to node {shell.id} (web)" in out
    assert there("ls /sys/kernel/tracing/instances") == ""
    there("umount /sys/kernel/tracing")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("flow", "--kernel", "web"), 1, "the image of 'web' has no popcornctl"),
        (("latency", "--kernel", "web", "--source", "bpf"), 1, "has no popcornctl"),
        (("latency", "--kernel", "web", "--source", "fabric"), 2, "the same in all kernels"),
        (("latency", "--kernel", "nobody"), 1, "there is no kernel 'nobody'"),
        (("latency", "--kernel", "primary"), 2, "is this kernel"),
    ],
)
def test_refusals(words: tuple[str, ...], status: int, says: str) -> None:
    done = ctl("trace", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


STAND_IN = """\
#!/bin/sh
echo "$@"
trap 'echo interrupted; exit 3' INT
echo 'tracing, Ctrl-C ends it' >&2
while :; do sleep 0.1; done
"""


def test_popcornctl_there_does_it(tmp_path: Path) -> None:
    """One that stands in for it: what is seen is what is passed on."""
    there(f"cat >/bin/popcornctl <<'END'\n{STAND_IN}END\nchmod +x /bin/popcornctl")
    try:
        err = tmp_path / "err"
        with err.open("w") as file:
            tracer = subprocess.Popen(
                ["popcornctl", "trace", "flow", "--kernel", "web", "--slower", "5"],
                stdout=subprocess.PIPE, stderr=file, text=True,
            )  # fmt: skip
        end = time.monotonic() + 60
        while "Ctrl-C ends it" not in err.read_text():
            assert time.monotonic() < end and tracer.poll() is None, err.read_text()
            time.sleep(0.1)
        tracer.send_signal(signal.SIGINT)
        out, _ = tracer.communicate(timeout=60)
        assert (tracer.returncode, out) == (3, "trace flow --slower 5\ninterrupted\n")
        # A command runs here, ends it, and has its own status.
        done = program("--json", "trace", "flow", "--kernel", "web", "--", "sh", "-c", "exit 7")
        assert (done.returncode, done.stdout) == (7, "trace flow --json\ninterrupted\n")
    finally:
        there("rm /bin/popcornctl")
