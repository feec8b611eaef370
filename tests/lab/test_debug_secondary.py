# SPDX-License-Identifier: GPL-2.0
"""A kernel that checks itself, as the secondary of one that does not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guest import SECONDARIES, Starter, ctl_json, memory_of
from popcorn import Client

RELEASE = SECONDARIES.get("6.1-debug", "")

pytestmark = pytest.mark.skipif(not RELEASE, reason="no debug kernel here: see make test-debug")

# What it says goes to its log, which the primary finds in its memory. So is the script: the numbers
# tell the answer from that.
SCRIPT = """
mount -t debugfs debugfs /sys/kernel/debug
sleep 20
echo scan >/sys/kernel/debug/kmemleak
echo scan >/sys/kernel/debug/kmemleak
dmesg | sed 's/^\\[[^]]*\\] //' | grep -E '^(BUG|WARNING|INFO|KASAN|UBSAN|ODEBUG)' >/run/reports
grep '\\[popcorn' /sys/kernel/debug/kmemleak >>/run/reports
set -- $(wc -l </run/reports) $(grep -c 'debug_locks: *1' /proc/lockdep_stats)
while read -r line; do echo "CHECK:$1:$line"; done </run/reports
echo "CHECKED:$1,$2:"
"""


def test_nothing_is_reported(
    client: Client, start: Starter, run_image: Callable[..., Path]
) -> None:
    image = run_image(SCRIPT, RELEASE)
    kernel = start("web", kernel=RELEASE, cpus=(2, 3), memory_mib=768, initrd=image, timeout=120)
    node = next(n for n in ctl_json("node", "list") if n["name"] == "web")
    assert (node["release"], node["nr_cpus"], node["state"]) == (RELEASE, 2, "up")
    result = ctl_json("ping", "web", "-c", "500")
    assert (result["n"], result["lost"]) == (500, 0)

    deadline = time.monotonic() + 180
    with memory_of(kernel.kernel) as memory:
        while not (done := re.search(rb"CHECKED:(\d+),(\d+):", memory)):
            assert time.monotonic() < deadline, "the secondary never came to an answer"
            time.sleep(5)
        found = {line.decode() for line in re.findall(rb"CHECK:\d+:([ -~]+)", memory)}
    assert (int(done[1]), found) == (0, set())
    assert int(done[2]) == 1, "lockdep gave up"
