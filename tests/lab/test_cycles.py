# SPDX-License-Identifier: GPL-2.0
"""Nothing is lost in many rounds."""

from __future__ import annotations

from guest import Starter, free_kib, look, wait_memory_back
from popcorn import Client
from stress import SOAK

ROUNDS = 50 if SOAK else 4
SLACK_KIB = 4 * 1024
"""For slabs that are not full. A leak of a lease is 256 MiB; one of 1 MiB a round shows too, and in
the soak suite one of 80 KiB."""


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
