# SPDX-License-Identifier: GPL-2.0
"""Sixteen nodes inside one kernel: everybody talks to everybody."""

from __future__ import annotations

import subprocess

import pytest

import stress
from stress import AGAIN, BATCH, CALL, WAIT, mask

NODES = 16
ALL = mask(*range(NODES))
PAIRS = [(a, b) for a in range(NODES) for b in range(NODES) if a != b]
MESSAGES = 200


def test_all_pairs_exchange_messages() -> None:
    with stress.loopback(NODES) as module:
        module.start(ALL, ALL, messages=MESSAGES, modes=WAIT | AGAIN | BATCH | CALL, max=16 << 10)
        module.wait(lambda reports: all(reports[pair]["ended"] == 1 for pair in PAIRS))
        # An end that was received may still be being sent.
        reports = module.wait(lambda reports: not any(r.running for r in reports.values()))
        assert sorted(pair for pair in reports if pair in PAIRS) == PAIRS
        for pair in PAIRS:
            report = reports[pair]
            assert not report.faults, report
            assert report["sent"] == report["received"] == MESSAGES, report
            assert (report.up, report["ups"], report["downs"]) == (True, 1, 0), report


@pytest.mark.parametrize("nodes", [1, 17])
def test_that_many_nodes_cannot_be(nodes: int) -> None:
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    try:
        done = subprocess.run(
            ["modprobe", "popcorn", f"loopback={nodes}"], capture_output=True, text=True
        )
        assert done.returncode != 0
        log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
        assert f"loopback={nodes} cannot be: 2 to 16 nodes" in log
    finally:
        subprocess.run(["modprobe", "popcorn_host"], check=True)
