# SPDX-License-Identifier: GPL-2.0
"""Nothing is lost in many rounds."""

from __future__ import annotations

from guest import Starter, free_kib, look, wait_memory_back
from popcorn import Client

ROUNDS = 50
SLACK_KIB = 24 * 1024
"""Free memory, with the page cache dropped, may differ by this much: slab and per-CPU lists. A leak
of a lease would be 256 MiB, one of half a MiB in each round would show too."""


def test_start_and_kill_many_times(client: Client, start: Starter) -> None:
    start("warm", cpus=(2,))
    client.kernel_kill(client.kernel("warm").id)
    client.kernel_del(client.kernel("warm").id)
    before, free_before = look(client), free_kib()
    for _round in range(ROUNDS):
        kernel = start("cycle", cpus=(2, 3)).kernel
        client.kernel_kill(kernel.id)
        client.kernel_del(kernel.id)
    assert look(client) == before
    wait_memory_back(free_before, SLACK_KIB)
