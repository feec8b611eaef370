# SPDX-License-Identifier: GPL-2.0
"""Tracers while messages go as fast as there is: what is lost is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_trace_tools import Tracer, bpf_programs

import stress
from popcorn import Client
from stress import AGAIN, BATCH, SOAK, WAIT, mask

MESSAGES = 2_000_003 if SOAK else 200_003


@pytest.mark.slow
def test_at_full_speed_every_event_is_accounted_for(modules: None, tmp_path: Path) -> None:
    programs = bpf_programs()
    # It holds no module, but the next fabric's family has another number.
    with stress.loopback(2) as module, Client() as client:
        tracers = {
            "latency": Tracer(tmp_path, "latency"),
            "record": Tracer(
                tmp_path, "record", "-o", str(tmp_path / "all.json"), "--buffer", "32M",
                "--limit", "1M",
            ),
        }  # fmt: skip
        for tracer in tracers.values():
            tracer.wait_ready()
        before = client.node(1)
        module.reset(mask(0, 1))
        module.start(mask(0), mask(1), messages=MESSAGES, in_slot=1000, modes=BATCH)
        reports = module.wait(lambda now: (1, 0) in now and bool(now[1, 0]["ended"]))
        after = client.node(1)
        khz = client.fabric().tsc_khz
        latency, record = (json.loads(tracer.end()) for tracer in tracers.values())
    assert bpf_programs() == programs
    here = reports[1, 0]
    assert here["received"] == MESSAGES and not here.faults
    rate = MESSAGES * khz * 1000 / (here["done"] - reports[0, 1]["began"])
    # Both nodes are in this kernel: what one sent the other received here.
    messages = after.sent - before.sent + after.received - before.received
    assert messages > MESSAGES
    assert latency["messages"] == {"queued": messages, "delivered": messages}
    assert latency["missed"] == record["missed"] == 0
    whole = latency["stages"][-1]
    assert whole["count"] + whole["backwards"] == messages
    events = record["events"]
    assert events["msg_queued"]["seen"] == events["msg_delivered"]["seen"] == messages
    gone = sum(event["lost"] + event["left_out"] for event in events.values())
    assert record["written"] + gone == sum(event["seen"] for event in events.values())
    lost = sum(event["lost"] for event in events.values())
    print(
        f"{rate:.0f} messages a second: latency missed none of {messages}; of"
        f" {record['written'] + gone} events record lost {lost} and left out {gone - lost}"
    )


def found_no_room(client: Client) -> int:
    """Messages that did, of all channels of this kernel's node."""
    return sum(channel.full for channel in client.channels())


@pytest.mark.slow
def test_every_message_that_finds_no_room_is_told(modules: None, tmp_path: Path) -> None:
    streams = {"queues": 2, "senders": 2, "max": 16 << 10, "modes": WAIT | AGAIN | BATCH}
    with stress.loopback(2) as module, Client() as client:
        tracer = Tracer(tmp_path, "record", "-o", str(tmp_path / "all.json"), "--limit", "64K")
        tracer.wait_ready()
        before = found_no_room(client)
        module.reset(mask(0, 1))
        module.start(mask(0), mask(1), messages=MESSAGES // 10, **streams)
        module.wait(lambda now: (1, 0) in now and now[1, 0]["ended"] == 4)
        full = found_no_room(client) - before
        record = json.loads(tracer.end())
    assert record["events"]["channel_full"]["seen"] == full > 0
