# SPDX-License-Identifier: GPL-2.0
"""The walking skeleton: start, join, ping, give back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guest import (
    RELEASE,
    Starter,
    ctl,
    ctl_json,
    free_kib,
    look,
    memory_of,
    program,
    static_key,
    wait_memory_back,
)
from popcorn import Client
from popcorn.errors import BusyError
from popcorn.models import Kernel, KernelState

SLACK_KIB = 4 * 1024


def test_start_ping_stop_from_the_command_line(client: Client) -> None:
    # What is kept of the kernel for every start takes memory here: files are in it.
    done = program("kernel", "plan", "web", "--cpus", "2-3", "--memory", "256M")
    assert done.returncode == 0, done.stderr
    before, free_before = look(client), free_kib()
    done = program("kernel", "start", "web", "--cpus", "2-3", "--memory", "256M")
    assert done.returncode == 0, done.stderr

    kernel = ctl_json("kernel", "show", "web")
    assert (kernel["state"], kernel["cpus"], kernel["memory_bytes"]) == (
        "running",
        [2, 3],
        256 << 20,
    )
    assert kernel["join_us"] > 0
    node = next(n for n in ctl_json("node", "list") if n["name"] == "web")
    assert (node["state"], node["release"], node["nr_cpus"]) == ("up", RELEASE, 2)

    result = ctl_json("ping", "web", "-c", "1000")
    assert (result["n"], result["lost"]) == (1000, 0)
    assert 0 < result["min"] <= result["median"] <= result["p99"] <= result["max"]
    assert sum(row["count"] for row in result["histogram"]) == 1000

    done = program("kernel", "stop", "web")
    assert done.returncode == 0, done.stderr
    assert look(client) == before
    wait_memory_back(free_before, SLACK_KIB)


def test_broadcasts_of_the_primary_leave_the_secondary_out(client: Client, start: Starter) -> None:
    # While the shorthand "all but self" is in use, every broadcast reaches the leased CPUs too.
    assert static_key("apic_use_ipi_shorthand")
    start("web", cpus=(3,))
    assert not static_key("apic_use_ipi_shorthand")
    client.kernel_kill(1)
    client.kernel_del(1)
    assert static_key("apic_use_ipi_shorthand")


def test_clock_of_the_secondary_is_the_primarys(
    client: Client, start: Starter, run_image: Callable[[str], Path]
) -> None:
    image = run_image('echo "NOW=$(date +%s)=" >/dev/kmsg\n')
    kernel = start("web", initrd=image).kernel
    time.sleep(2)
    with memory_of(kernel) as memory:
        found = re.search(rb"NOW=(\d{9,})=", memory)
        assert found is not None
        assert abs(int(found[1]) - time.time()) < 10


def test_node_events_reach_a_reader(client: Client, start: Starter) -> None:
    with client.subscribe() as subscription:
        start("web")
        client.kernel_kill(1)
        client.kernel_del(1)
        seen = []
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and ("kernel", "released") not in seen:
            events = client.read_events(subscription, timeout=1.0)
            seen += [(e.kind, e.state if e.action != "released" else e.action) for e in events]
    states = [state for kind, state in seen if kind == "kernel"]
    assert [s for s in states if s in ("leased", "starting", "running", "killed")] == [
        "leased",
        "starting",
        "running",
        "killed",
    ]


def test_leased_things_are_out_of_reach_and_named(shared: Callable[..., Kernel]) -> None:
    kernel = shared("web", cpus=(3,))
    with pytest.raises(OSError):
        Path("/sys/devices/system/cpu/cpu3/online").write_text("1")
    iomem = Path("/proc/iomem").read_text()
    end = kernel.memory_start + kernel.memory_size - 1
    assert re.search(rf"^ *0*{kernel.memory_start:x}-0*{end:x} : .*web", iomem, re.M), iomem
    assert re.search(rf"^ *0*{kernel.slice_start:x}-", iomem, re.M)
    assert "opcorn fabric" in iomem


def kernel_offset(kernel: Kernel) -> int:
    """How far it was moved from where it was linked for."""
    with memory_of(kernel) as memory:
        found = re.search(rb"VMCOREINFO\0.*?KERNELOFFSET=([0-9a-f]+)\n", memory, re.S)
        assert found is not None
        return int(found[1], 16)


def is_moved(start: Starter, **how: Any) -> bool:
    """Whether one of three starts is not where it was linked for, which is one of 480 places."""
    for _ in range(3):
        if kernel_offset(start("web", **how).kernel):
            return True
        assert ctl("kernel", "kill", "web").returncode == 0
    return False


def test_kaslr_is_on_in_the_secondary(start: Starter) -> None:
    assert is_moved(start)


def test_kaslr_can_be_turned_off(start: Starter) -> None:
    assert kernel_offset(start("web", append="nokaslr").kernel) == 0
    assert ctl_json("ping", "web", "-c", "10")["n"] == 10


def test_an_image_that_unpacks_itself(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those do that are not packed by xz. Where the CPU knows five levels it has them."""
    monkeypatch.setattr("popcorn.boot.unpack", lambda image: None)
    assert is_moved(start, cache=tmp_path)
    assert ctl_json("ping", "web", "-c", "10")["n"] == 10
    assert "popcorn-init: joined as web" in ctl("kernel", "dmesg", "web").stdout
    done = ctl("kernel", "stop", "web")
    assert done.returncode == 0, done.stderr


def test_running_kernel_is_not_started_again_nor_deleted(
    client: Client, shared: Callable[..., Kernel]
) -> None:
    kernel = shared("web", cpus=(3,))
    done = ctl("kernel", "start", "web", "--cpus", "2", "--memory", "256M")
    assert done.returncode == 1
    assert "web" in done.stderr
    with pytest.raises(BusyError):
        client.kernel_del(kernel.id)
    with pytest.raises(BusyError):
        client.kernel_prepare(kernel.id)
    assert client.kernel("web").state == KernelState.RUNNING
    assert ctl_json("ping", "web", "-c", "10")["n"] == 10
