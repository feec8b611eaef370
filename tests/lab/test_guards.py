# SPDX-License-Identifier: GPL-2.0
"""The end of a secondary is not the end of the machine. Needs six CPUs: a sibling runs beside."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guest import Starter, ctl, ctl_json, look
from popcorn import Client
from popcorn.models import Kernel, KernelState, NodeState

ENDS = {
    "sysrq-c": ("echo c >/proc/sysrq-trigger", KernelState.CRASHED),
    "sysrq-b": ("echo b >/proc/sysrq-trigger", KernelState.STOPPED),
    "reboot": ("reboot -f", KernelState.STOPPED),
    "poweroff": ("poweroff -f", KernelState.STOPPED),
    "halt": ("halt -f", KernelState.STOPPED),
}
WORD = "now we go"


@pytest.mark.parametrize("how", ENDS)
def test_end_is_caught_told_and_can_be_repeated(
    client: Client,
    start: Starter,
    shared: Callable[..., Kernel],
    run_image: Callable[[str], Path],
    how: str,
) -> None:
    command, state = ENDS[how]
    sibling = shared("sibling", cpus=(4,))
    before = look(client)
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    # Its start fails if it finds the kernel crashed already, which is not what this is about.
    wait = 6 if state == KernelState.CRASHED else 3
    image = run_image(f"sleep {wait}\necho '{WORD}' >/dev/kmsg\n{command}\nsleep 1000\n")

    for _round in range(2):
        # The second round goes through the same lease.
        lease = {"cpus": (2, 3)} if _round == 0 else {"cpus": None}
        if _round == 0:
            victim = start("victim", initrd=image, **lease).kernel
        else:
            assert ctl("kernel", "start", "victim", "--initrd", str(image)).returncode == 0
            again = client.kernel("victim")
            assert (again.memory_start, again.cpus) == (victim.memory_start, victim.cpus)
            assert again.epoch == victim.epoch + 1
            victim = again
        kernel = client.wait_kernel("victim", (state,), 30)
        node = next(n for n in client.nodes() if n.name == "victim")
        assert node.state == (
            NodeState.CRASHED if state == KernelState.CRASHED else NodeState.STOPPED
        )
        # It told why itself; that it was silent would be found out later.
        assert kernel.reason and "heartbeat" not in kernel.reason
        assert ctl_json("ping", "sibling", "-c", "100")["n"] == 100
        assert ctl("ping", "victim", "-c", "1").returncode == 1

    after = look(client)
    assert after.boot_id == before.boot_id
    assert float(Path("/proc/uptime").read_text().split()[0]) > uptime
    assert client.kernel("sibling").epoch == sibling.epoch
    assert client.kernel("sibling").state == KernelState.RUNNING


def test_killing_one_leaves_the_other(client: Client, start: Starter) -> None:
    start("one", cpus=(2, 3))
    start("two", cpus=(4, 5))
    for name in ("one", "two"):
        assert ctl_json("ping", name, "-c", "100")["n"] == 100
    assert ctl("kernel", "kill", "one").returncode == 0
    assert [k.name for k in client.kernels()] == ["two"]
    assert ctl_json("ping", "two", "-c", "100")["n"] == 100


def test_busy_secondary_is_killed(
    client: Client, start: Starter, run_image: Callable[[str], Path]
) -> None:
    # INIT does not ask. More loops than CPUs, so that none of them is idle.
    before = look(client)
    start(
        "busy", cpus=(2, 3), initrd=run_image("for i in 1 2 3 4; do (while :; do :; done) & done\n")
    )
    time.sleep(1)
    assert ctl("kernel", "kill", "busy").returncode == 0
    assert look(client) == before


def test_memory_above_4_gib(client: Client, start: Starter) -> None:
    # The lab for this file has memory there, and the highest is taken first.
    kernel = start("high").kernel
    assert kernel.memory_start >= 4 << 30
    assert ctl_json("ping", "high", "-c", "100")["n"] == 100
