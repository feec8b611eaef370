# SPDX-License-Identifier: GPL-2.0
"""The latency tracer counts what was sent, exactly."""

from __future__ import annotations

from guest import Starter, ctl_json
from popcorn import Client

PINGS = 997


def test_latency_counts_exactly(client: Client, start: Starter) -> None:
    start("web", cpus=(2, 3))
    result = ctl_json(
        "trace", "latency", "--node", "web", "--service", "echo", "--",
        "popcornctl", "--json", "ping", "web", "-c", str(PINGS),
    )  # fmt: skip
    assert result["messages"]["queued"] == PINGS
    assert result["messages"]["delivered"] == PINGS
    stages = {stage["name"]: stage for stage in result["stages"]}
    total = stages["queued-delivered"]
    assert total["count"] == PINGS
    assert sum(row["count"] for row in total["histogram"]) == PINGS
    for name in ("queued-doorbell", "doorbell-interrupt", "interrupt-poll", "poll-delivered"):
        stage = stages[name]
        assert sum(row["count"] for row in stage["histogram"]) == stage["count"] <= PINGS
