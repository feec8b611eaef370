# SPDX-License-Identifier: GPL-2.0
"""The tracers beside each other: one known number of messages, the same in each of them.

They share one secondary, and the tracers that compile run at the same time.
"""

from __future__ import annotations

import collections
import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guest import RELEASE, ctl, ctl_json, quiet, release_all
from popcorn import Client
from popcorn.plan import Spec
from popcorn.start import start_kernel
from tracers import Origin, Tracer

PINGS = 9_973

WEB, BUSY = 2, 1
"""The CPU that the secondary has, and the one of this kernel that is kept busy."""

HERE = set(range(os.cpu_count() or 4)) - {WEB}

NR_BPF = 321
PROG_GET_NEXT_ID = 11


def bpf_programs() -> set[int]:
    """The ids of all BPF programs in the kernel (bpf(2), union bpf_attr: start_id, next_id)."""
    assert platform.machine() == "x86_64"
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = (ctypes.c_uint32 * 32)()
    found: set[int] = set()
    while libc.syscall(NR_BPF, PROG_GET_NEXT_ID, ctypes.byref(attributes), 12) == 0:
        found.add(attributes[1])
        attributes[0] = attributes[1]
    return found


@pytest.fixture(scope="module")
def web() -> Iterator[Client]:
    with Client() as client:
        release_all(client)
        start_kernel(
            client, Spec(name="web", cpus=(WEB,), memory_bytes=256 << 20, kernel=RELEASE),
            progress=quiet,
        )  # fmt: skip
        yield client
        release_all(client)


@pytest.fixture(scope="module", params=["compiled", pytest.param("cached", marks=pytest.mark.slow)])
def seen(
    web: Client, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Any]:
    """What each tracer saw of the same PINGS round trips, and what the module counted of them."""
    where = tmp_path_factory.mktemp("trace")
    origin = Origin(request.param)
    programs = bpf_programs()
    tracers = {
        "latency": Tracer(
            where, "latency", "--node", "web", "--service", "echo", "--by", "cpu", origin=origin
        ),
        "flow": Tracer(
            where, "flow", "--node", "web", "--service", "echo", "--buffer", "8M", origin=origin
        ),
        "doorbell": Tracer(where, "doorbell", "--node", "web", origin=origin),
        "heatmap": Tracer(
            where,
            "heatmap",
            "--source",
            "fabric",
            "--node",
            "web",
            "--svg",
            str(where / "heat.svg"),
        ),
        "record": Tracer(
            where, "record", "-o", str(where / "all.json"), "--buffer", "32M", origin=origin
        ),
    }
    for tracer in tracers.values():
        tracer.wait_ready()
    assert len(bpf_programs() - programs) == 3 + 1 + 4 + 16
    before = web.node(1), web.queues()
    fabric = ctl_json(
        "trace", "latency", "--source", "fabric", "--node", "web", "--by", "channel", "--",
        "popcornctl", "--json", "ping", "web", "-c", str(PINGS),
    )  # fmt: skip
    after = web.node(1), web.queues()
    found: dict[str, Any] = {name: tracer.end() for name, tracer in tracers.items()}
    assert bpf_programs() == programs
    origin.check()
    return {
        **found,
        "timeline": json.loads((where / "all.json").read_text()),
        "picture": (where / "heat.svg").read_text(),
        "fabric": fabric,
        "sent": after[0].sent - before[0].sent,
        "received": after[0].received - before[0].received,
        "bells": after[0].doorbells_sent - before[0].doorbells_sent,
        "irqs": sum(q.doorbell_irqs for q in after[1]) - sum(q.doorbell_irqs for q in before[1]),
    }


def test_latency_by_cpu_counts_exactly(seen: dict[str, Any]) -> None:
    found = json.loads(seen["latency"])
    assert found["messages"] == {"queued": PINGS, "delivered": PINGS}
    assert found["missed"] == 0
    whole = [row for row in found["rows"] if row["name"] == "queued-delivered"]
    assert sum(row["count"] for row in whole) == PINGS
    assert {row["cpu"] for row in whole} <= HERE
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages.keys() >= {
        "queued-doorbell", "doorbell-interrupt", "interrupt-poll", "poll-delivered",
    }  # fmt: skip
    for stage in stages.values():
        assert sum(row["count"] for row in stage["histogram"]) == stage["count"] <= PINGS
    assert stages["queued-delivered"]["count"] == PINGS


def test_the_fabric_counts_as_the_channels_do(seen: dict[str, Any]) -> None:
    found = seen["fabric"]
    assert found["unseen"] == ["queued-doorbell", "poll-delivered"]
    count = {(flow["src"], flow["dst"]): flow["messages"] for flow in found["delivered"]}
    # Of every service: control messages may come in between.
    assert count[1, 0] == seen["received"] >= PINGS
    assert count[0, 1] == seen["sent"] >= PINGS
    for row in found["rows"]:
        assert sum(line["count"] for line in row["histogram"]) == row["count"]


def test_the_heat_map_loses_nothing(seen: dict[str, Any]) -> None:
    columns = [json.loads(line) for line in seen["heatmap"].splitlines()]
    assert sum(column["count"] for column in columns) == seen["sent"] + seen["received"]
    assert len(columns) > 1
    assert seen["picture"].count("<title>") == sum(len(c["histogram"]) for c in columns)


def test_flow_shows_every_message(seen: dict[str, Any]) -> None:
    *flows, last = [json.loads(line) for line in seen["flow"].splitlines()]
    assert last["summary"] == {
        "delivered": PINGS, "slow": PINGS, "shown": PINGS, "lost": 0, "missed": 0
    }  # fmt: skip
    assert len(flows) == PINGS
    assert {(flow["src"], flow["dst"], flow["service"]) for flow in flows} == {(1, 0, "echo")}
    for flow in flows:
        parts = [stage["ns"] for stage in flow["stages"]]
        # But for rounding the parts are the whole.
        assert 0 <= flow["total_ns"] - sum(parts) < len(parts)
        assert flow["longest"] == max(flow["stages"], key=lambda stage: stage["ns"])["name"]
    whole = json.loads(seen["latency"])["stages"][-1]
    assert max(flow["total_ns"] for flow in flows) == whole["max_ns"]
    assert min(flow["total_ns"] for flow in flows) == whole["min_ns"]


def test_doorbell_counts_what_the_module_counts(seen: dict[str, Any]) -> None:
    found = json.loads(seen["doorbell"])
    assert found["missed"] == 0
    sent = [row for row in found["sent"] if (row["src"], row["dst"]) == (0, 1)]
    # It began before the counters were read, and ended after.
    assert sum(row["messages"] for row in sent) == seen["sent"] >= PINGS
    assert found["messages"]["taken"] == seen["received"]
    assert found["doorbells"]["interrupts"] == seen["irqs"]
    assert found["doorbells"]["sent"] >= seen["bells"]
    assert 0 <= found["doorbells"]["empty"] <= found["doorbells"]["interrupts"]
    assert {row["cpu"] for row in found["taken"]} <= HERE


def test_the_timeline_has_every_message(seen: dict[str, Any]) -> None:
    said, events = json.loads(seen["record"]), seen["timeline"]["traceEvents"]
    assert not any(e["lost"] or e["left_out"] for e in said["events"].values())
    assert said["missed"] == 0
    assert seen["timeline"]["otherData"]["events"] == said["events"]
    # It began before the counters were read, and ended after; nothing else is sent meanwhile.
    assert said["events"]["msg_queued"]["seen"] == seen["sent"]
    assert said["events"]["msg_delivered"]["seen"] == seen["received"]
    names = collections.Counter((e["ph"], e["pid"], e["name"]) for e in events)
    assert names["X", 1, "send echo"] == names["X", 2, "send echo"] == PINGS
    assert names["X", 1, "deliver echo"] == PINGS
    assert names["i", 1, "doorbell"] >= seen["bells"]
    assert names["i", 1, "interrupt"] == seen["irqs"]
    # An arrow from the other kernel for each message that came, and its way beside it.
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = [e for e in events if e["ph"] == "f"]
    assert len(ends) == len({e["id"] for e in ends}) == seen["received"]
    for end in ends:
        start = starts[end["id"]]
        assert (start["pid"], end["pid"]) == (2, 1)
        assert start["ts"] <= end["ts"]
    assert names["b", 1, "echo from web"] == names["e", 1, "echo from web"] == PINGS
    work = sum(e["args"]["work"] for e in events if e["name"] == "poll")
    assert work == seen["received"]
    # What the other kernel counted of ours.
    counted = [e for e in events if e["ph"] == "C" and e["pid"] == 2]
    values = [e["args"]["messages"] for e in counted]
    assert values[-1] - values[0] == seen["sent"]


def test_the_timeline_says_what_is_not_in_it(web: Client, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    done = ctl(
        "--json", "trace", "record", "-o", str(path), "--buffer", "4K", "--limit", "64K", "--",
        "popcornctl", "ping", "web", "--flood", "-c", str(PINGS),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, found = json.loads(done.stdout), json.loads(path.read_text())
    assert said["events"]["msg_delivered"]["seen"] >= PINGS
    assert sum(e["lost"] for e in said["events"].values()) > 0
    gone = sum(e["lost"] + e["left_out"] for e in said["events"].values())
    assert gone + said["written"] == sum(e["seen"] for e in said["events"].values())
    assert said["written"] <= (64 << 10) // 80
    (told,) = [e for e in found["traceEvents"] if e.get("s") == "g"]
    assert told["name"] == f"{gone} events are not in this file"
    assert sum(told["args"].values()) == gone
    assert list(tmp_path.iterdir()) == [path]


def instances() -> list[Path]:
    """What there is of ftrace's instances."""
    return list(Path("/sys/kernel/tracing/instances").iterdir())


def test_without_bcc_ftrace_counts(web: Client, tmp_path: Path) -> None:
    # A bcc that cannot be imported stands before the real one.
    (tmp_path / "bcc.py").write_text("raise ImportError('not here')\n")
    before = instances()
    done = subprocess.run(
        ["popcornctl", "--json", "trace", "latency", "--node", "web", "--service", "echo", "--",
         "popcornctl", "--json", "ping", "web", "-c", str(PINGS)],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no BPF: bcc is not available" in done.stderr
    found = json.loads(done.stdout)
    assert (found["source"], found["missed"]) == ("ftrace", 0)
    assert found["messages"] == {"queued": PINGS, "delivered": PINGS}
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages["queued-delivered"]["count"] == PINGS
    for stage in stages.values():
        assert sum(row["count"] for row in stage["histogram"]) == stage["count"] <= PINGS
    assert stages["doorbell-interrupt"]["count"] > 0
    assert instances() == before


def test_what_the_buffer_loses_is_counted(web: Client) -> None:
    done = ctl(
        "--json", "trace", "flow", "--node", "web", "--service", "echo", "--buffer", "4K", "--",
        "popcornctl", "ping", "web", "--flood", "-c", str(PINGS),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *flows, last = [json.loads(line) for line in done.stdout.splitlines()]
    summary = last["summary"]
    assert summary["delivered"] == summary["slow"] == PINGS
    assert summary["shown"] == len(flows)
    assert summary["lost"] > 0
    assert summary["shown"] + summary["lost"] == PINGS


def polling_threads() -> list[str]:
    """The kernel threads that poll, which are there while they are asked for."""
    found = subprocess.run(["pgrep", "^napi/popcorn"], capture_output=True, text=True)
    return found.stdout.split()


@pytest.fixture
def late_polls(web: Client) -> Iterator[None]:
    """Polls have to wait: their threads share a CPU with one that has precedence, at times."""
    web.node_set(threaded=True)
    for thread in polling_threads():
        subprocess.run(["taskset", "-p", "-c", str(BUSY), thread], check=True, capture_output=True)
    code = (
        "import time\n"
        "while True:\n"
        "    end = time.monotonic() + 0.03\n"
        "    while time.monotonic() < end:\n"
        "        pass\n"
        "    time.sleep(0.03)\n"
    )
    with subprocess.Popen(
        ["taskset", "-c", str(BUSY), "chrt", "-f", "50", sys.executable, "-c", code]
    ) as busy:
        yield
        busy.kill()
    web.node_set(threaded=False)


@pytest.mark.usefixtures("late_polls")
def test_a_delay_is_shown_at_its_stage() -> None:
    done = ctl(
        "--json", "trace", "flow", "--service", "echo", "--slower", "5000", "--",
        "taskset", "-c", "0", "popcornctl", "ping", "web", "-c", "97", "--rate", "50/s",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *flows, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert last["summary"]["delivered"] == 97
    assert last["summary"]["shown"] == len(flows) >= 10
    spent: collections.Counter[str] = collections.Counter()
    for flow in flows:
        spent.update({stage["name"]: stage["ns"] for stage in flow["stages"]})
    late = spent["interrupt-poll"] + spent["queued-poll"] + spent["doorbell-poll"]
    assert late > 0.8 * spent.total(), spent


@pytest.mark.parametrize("seconds", [1.5, 5])
def test_interrupted_it_leaves_nothing(web: Client, seconds: float) -> None:
    before = bpf_programs()
    tracer = subprocess.Popen(
        ["popcornctl", "trace", "doorbell"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    tracer.send_signal(signal.SIGINT)
    # The signal itself ends a Python that has not come to popcornctl yet.
    assert tracer.wait(60) in (0, 130, -signal.SIGINT)
    assert bpf_programs() == before


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("flow", "--node", "nobody"), 1, "there is no node 'nobody'"),
        (("flow", "--service", "nothing"), 1, "there is no service 'nothing'"),
        (("doorbell", "--node", "9"), 1, "there is no node 9"),
        (("record", "--output", "/proc/nothing/here"), 1, "cannot write /proc/nothing/here"),
        (("record", "--limit", "1K"), 2, "limit of 1024 bytes"),
        (("latency", "--stage", "thought"), 2, "thought"),
        (("latency", "--source", "fabric", "--by", "cpu"), 2, "does not count by cpu"),
    ],
)
def test_refusals(web: Client, words: tuple[str, ...], status: int, says: str) -> None:
    done = ctl("trace", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_without_root_the_fabric_is_left(web: Client) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
             "popcornctl", "trace", *words],
            capture_output=True, text=True, timeout=60, env=dict(os.environ),
        )  # fmt: skip

    refused = run("latency")
    assert refused.returncode == 1
    assert "needs root" in refused.stderr and "--source fabric" in refused.stderr
    done = run("latency", "--source", "fabric", "--duration", "0.1")
    assert done.returncode == 0, done.stderr
    assert "source: the fabric" in done.stdout
