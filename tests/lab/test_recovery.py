# SPDX-License-Identifier: GPL-2.0
"""A kernel that crashes or hangs: found, explained, looked into, and started anew on its lease."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stress
from guest import Starter, ctl, ctl_json, look, wait_for, wait_listening
from popcorn import Client
from popcorn.models import Kernel, KernelState, NodeState
from stress import Stress, mask

PANIC = "popcorn_stress: crashes because it was told to"
HANG = 2
"""How of the order "crash": all CPUs loop with interrupts off, in stress_hang_loop()."""

LOOP = "stress_hang_loop"


@pytest.fixture
def module() -> Iterator[Stress]:
    with stress.loaded() as module:
        yield module


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initramfs with the module that crashes and hangs, whose kernel tells its boot id."""
    directory = tmp_path_factory.mktemp("image")
    script = directory / "run.sh"
    script.write_text(
        "#!/bin/sh\necho boot-id=$(cat /proc/sys/kernel/random/boot_id)= >/dev/kmsg\n"
    )
    return stress.build_image(directory / "stress.img", run=script)


def crash(module: Stress, node: int, how: int = 0) -> None:
    module.wait_up((0, node))
    module.order("crash", **{"from": mask(node)}, how=how)


def log(name: str) -> str:
    done = ctl("kernel", "dmesg", name)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_log(name: str, what: Callable[[str], bool], seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while not what(found := log(name)):
        assert time.monotonic() < deadline, found[-2000:]
        time.sleep(0.5)
    return found


def boot_id(name: str) -> str:
    found = re.search("boot-id=(.*)=", wait_log(name, lambda text: "boot-id=" in text))
    assert found
    return found[1]


def lease(kernel: Kernel) -> tuple[object, ...]:
    """What a restart must not change."""
    return (
        kernel.id,
        kernel.name,
        kernel.cpus,
        kernel.apic_ids,
        kernel.memory_start,
        kernel.memory_size,
        kernel.slice_start,
    )


def test_crash_and_restart(client: Client, start: Starter, module: Stress, image: Path) -> None:
    first = start("web", cpus=(2, 3), initrd=image, append="popcorn_test=1").kernel
    identity, before = boot_id("web"), look(client)
    monitor = subprocess.Popen(
        ["popcornctl", "--json", "monitor", "--type", "kernel"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_listening(monitor, groups=1)
    crashed = time.time()
    crash(module, first.id)
    wait_for(client, "web", KernelState.CRASHED)

    shown = ctl_json("kernel", "show", "web")
    assert (shown["state"], shown["reason"]) == ("crashed", PANIC)
    assert crashed <= shown["since"] <= time.time()
    assert any(f"Kernel panic - not syncing: {PANIC}" in line for line in log("web").splitlines())
    assert shown["log_tail"]
    assert "\n".join(shown["log_tail"]) in log("web")
    assert ctl_json("kernel", "list")[0]["log_tail"]
    text = ctl("kernel", "show", "web").stdout
    assert "last lines of its log\n" in text and shown["log_tail"][-1] in text

    # What was loaded is loaded again.
    done = ctl("--json", "kernel", "restart", "web")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["before"] == {"state": "crashed", "reason": PANIC, "epoch": first.epoch}
    assert [stage["name"] for stage in told["stages"]] == ["check", "lease", "load", "boot", "join"]
    second = client.kernel("web")
    assert second.state == KernelState.RUNNING
    assert lease(second) == lease(first)
    assert second.epoch == first.epoch + 1
    assert second.image == first.image
    assert boot_id("web") != identity
    assert "popcorn_test=1" in log("web")
    assert client.node("web").state == NodeState.UP
    assert ctl_json("ping", "web", "-c", "100")["n"] == 100

    # One that runs is asked to end; another image is taken if that is wanted.
    done = ctl("kernel", "restart", "web", "--profile", "light", "--append", "popcorn_test=2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^stop .*stopped", done.stderr, re.M)
    third = client.kernel("web")
    assert lease(third) == lease(first)
    assert third.epoch == first.epoch + 2
    assert "profile light" in third.image
    assert "popcorn_test=2" in log("web")
    after = look(client)
    assert after == before

    monitor.send_signal(signal.SIGINT)
    events = [json.loads(line) for line in monitor.communicate(timeout=30)[0].splitlines()]
    deaths = [event for event in events if event["state"] == "crashed"]
    assert len(deaths) == 1
    assert PANIC in "\n".join(deaths[0]["log_tail"])
    assert not any("log_tail" in event for event in events if event["state"] != "crashed")


def test_hang_is_found_looked_into_and_restarted(
    client: Client, start: Starter, module: Stress, image: Path
) -> None:
    first = start("web", cpus=(2, 3), initrd=image).kernel
    identity = boot_id("web")
    # A kernel that works takes no harm from being asked.
    assert ctl_json("kernel", "nmi", "web") == {"kernel": "web", "cpus": [2, 3]}
    wait_log("web", lambda text: text.count("NMI from the primary: CPU") == 2)
    assert "unknown reason" not in log("web")
    assert ctl_json("ping", "web", "-c", "100")["n"] == 100

    module.wait_up((0, first.id))
    hung = time.monotonic()
    crash(module, first.id, HANG)
    found = client.wait_kernel("web", (KernelState.HUNG,), 60)
    took = time.monotonic() - hung
    print(f"found to hang after {took:.2f} s", flush=True)
    assert took < 30
    assert re.fullmatch(r"no heartbeat for \d+ s", found.reason)
    assert client.node("web").state == NodeState.HUNG
    assert ctl_json("kernel", "show", "web")["log_tail"]

    # Its CPUs take no interrupts, and still tell where they are.
    assert LOOP not in log("web")
    done = ctl("kernel", "nmi", "web")
    assert done.returncode == 0, done.stderr
    said = wait_log("web", lambda text: text.count("NMI from the primary: CPU") == 4)
    assert len(re.findall(rf"NMI from the primary: CPU \d is at {LOOP}\+", said)) == 2
    assert re.search(rf"RIP: 0010:{LOOP}\+", said)
    for line in said.splitlines():
        if "NMI from" in line or LOOP in line:
            print(line, flush=True)

    # It cannot be asked to stop, and a restart does not wait for that.
    done = ctl("kernel", "stop", "web")
    assert done.returncode == 1
    assert "is hung and cannot be asked" in done.stderr
    done = ctl("kernel", "restart", "web")
    assert done.returncode == 0, done.stderr
    second = client.kernel("web")
    assert (second.state, lease(second)) == (KernelState.RUNNING, lease(first))
    assert boot_id("web") != identity
    assert ctl_json("ping", "web", "-c", "100")["n"] == 100
    assert ctl_json("kernel", "nmi", "web")["cpus"] == [2, 3]


def test_only_cpus_that_were_brought_up_are_sent_nmis(client: Client, start: Starter) -> None:
    """One that waits for SIPI would run whatever lies at its reset vector."""
    before = look(client)
    start("web", cpus=(2, 3), append="maxcpus=1")
    assert ctl_json("kernel", "nmi", "web")["cpus"] == [2]
    assert ctl_json("ping", "web", "-c", "100")["n"] == 100
    assert ctl("kernel", "stop", "web", "--keep").returncode == 0
    done = ctl("kernel", "nmi", "web")
    assert done.returncode == 1
    assert "kernel web is stopped" in done.stderr
    assert ctl("kernel", "kill", "web").returncode == 0
    assert look(client).online == before.online


def test_bad_input(client: Client, start: Starter, tmp_path: Path) -> None:
    for words in (("restart", "nobody"), ("nmi", "nobody")):
        done = ctl("kernel", *words)
        assert done.returncode == 1
        assert "there is no kernel 'nobody'" in done.stderr
        assert "hint: see: popcornctl kernel list" in done.stderr
    kernel = start("web").kernel
    mine = tmp_path / "mine.img"
    for more, says in (
        (("--kernel", "9.9.9"), "no such kernel image"),
        (("--initrd", str(mine)), "no such initrd"),
        (("--append", "x" * 3000), "command line has"),
    ):
        done = ctl("kernel", "restart", "web", *more)
        assert done.returncode == 1
        assert says in done.stderr
    now = client.kernel("web")
    assert (now.state, now.epoch) == (KernelState.RUNNING, kernel.epoch)

    # One that was interrupted after the old kernel was gone is gone on with, and forgets nothing.
    client.kernel_kill(kernel.id)
    client.kernel_prepare(kernel.id)
    assert ctl("kernel", "restart", "web").returncode == 0
    assert ctl("kernel", "kill", "web").returncode == 0

    # A file that changed is not taken without a word.
    made = ctl("image", "build", "-o", str(mine))
    assert made.returncode == 0, made.stderr
    kernel = start("own", initrd=mine).kernel
    mine.write_bytes(mine.read_bytes() + bytes(512))
    done = ctl("kernel", "restart", "own")
    assert done.returncode == 1
    assert "has changed" in done.stderr and "--reload" in done.stderr
    now = client.kernel("own")
    assert (now.state, now.epoch) == (KernelState.RUNNING, kernel.epoch)
    done = ctl("kernel", "restart", "own", "--reload", "--force")
    assert done.returncode == 0, done.stderr
    assert client.kernel("own").epoch == kernel.epoch + 1
