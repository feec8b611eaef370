# SPDX-License-Identifier: GPL-2.0
"""Bad input of the message layer: what cannot be is refused, with the right error."""

from __future__ import annotations

import errno
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import stress
from guest import Starter, ctl, ctl_json, look, memory_of
from popcorn import Client
from stress import Stress

SEND, WAIT, BATCH, RESERVE, CALL, MULTICAST = range(6)
"""Ways to send, as the module's `try` knows them."""

INLINE_BYTES = 48
BODY_BYTES = 128 << 10
SERVICES = 32
NODES = 16


@pytest.fixture
def module() -> Iterator[Stress]:
    with stress.loaded() as module:
        yield module


def refused(module: Stress, **words: int) -> int:
    """The errno that an attempt to send gives."""
    with pytest.raises(OSError) as caught:
        module.order("try", **words)
    assert caught.value.errno is not None
    return caught.value.errno


def dmesg() -> str:
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


# Sending.


@pytest.fixture
def web(client: Client, start: Starter, module: Stress, tmp_path: Path) -> Stress:
    start("web", initrd=stress.build_image(tmp_path / "web.img"))
    module.wait_up((0, 1))
    return module


def test_send_refuses(client: Client, web: Stress) -> None:
    web.ask(1 << 1)  # what both say when they meet is said
    before = [(c.sent, c.doorbells_sent) for c in client.channels()]
    ways = (SEND, WAIT, BATCH, RESERVE, CALL)
    for how in ways:
        # Absent, no node at all, this one.
        assert refused(web, how=how, node=9, len=8) == errno.ENOTCONN
        assert refused(web, how=how, node=NODES, len=8) == errno.EINVAL
        assert refused(web, how=how, node=0xFFFFFFFF, len=8) == errno.EINVAL
        assert refused(web, how=how, node=0, len=8) == errno.EINVAL
    for how in (WAIT, BATCH, RESERVE, CALL):
        assert refused(web, how=how, node=1, len=8, queue=99) == errno.EINVAL
        assert refused(web, how=how, node=1, len=8, queue=0xFFFFFFFF) == errno.EINVAL
    for how, most in (
        (SEND, BODY_BYTES), (WAIT, BODY_BYTES), (BATCH, INLINE_BYTES), (RESERVE, BODY_BYTES),
        (CALL, INLINE_BYTES), (MULTICAST, BODY_BYTES),
    ):  # fmt: skip
        assert refused(web, how=how, node=1, len=most + 1) == errno.EMSGSIZE, how
    assert refused(web, how=RESERVE, node=1, len=0) == errno.EMSGSIZE
    assert [(c.sent, c.doorbells_sent) for c in client.channels()] == before
    # The largest that there may be.
    web.order("note", node=1, len=BODY_BYTES - 32)
    assert web.ask(1 << 1)[1, 0]["notes"] == 1


def test_send_to_a_dead_epoch(client: Client, start: Starter, web: Stress, tmp_path: Path) -> None:
    client.kernel_kill(1)
    web.wait(lambda now: not now[0, 1].up)
    for how in (SEND, WAIT, BATCH, RESERVE, CALL):
        assert refused(web, how=how, node=1, len=8) == errno.ENOTCONN
    # Its slot is ready for the next one, who is not there yet.
    client.kernel_prepare(1)
    for how in (SEND, WAIT, BATCH, RESERVE, CALL):
        assert refused(web, how=how, node=1, len=8) == errno.ENOTCONN
    start("web", cpus=None, initrd=tmp_path / "web.img")
    web.wait_up((0, 1))
    web.order("note", node=1)
    report = web.ask(1 << 1)[1, 0]
    assert (report["notes"], report.faults) == (1, {})


# Services.


def test_table_of_services_fills_up(client: Client, module: Stress) -> None:
    there = len(ctl_json("service", "list"))
    with pytest.raises(OSError) as caught:
        module.order("fill", nr=SERVICES + 1)
    assert caught.value.errno == errno.ENOSPC
    listed = ctl_json("service", "list")
    assert len(listed) == SERVICES
    assert len({service["id"] for service in listed}) == SERVICES
    module.order("fill", nr=0)
    assert len(ctl_json("service", "list")) == there
    module.order("fill", nr=SERVICES - there)
    module.order("fill", nr=0)


# Modules.


def test_module_in_use_names_its_users(client: Client, module: Stress) -> None:
    for command in (["rmmod", "popcorn"], ["modprobe", "-r", "popcorn"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode != 0
        assert "in use" in done.stderr
    users = re.search(r"^popcorn \d+ \d+ (\S+)", Path("/proc/modules").read_text(), re.MULTILINE)
    assert users is not None
    assert {"popcorn_host", "popcorn_stress"} <= set(users[1].strip(",").split(","))
    done = subprocess.run(["rmmod", "popcorn"], capture_output=True, text=True)
    assert "popcorn_host" in done.stderr


def test_two_kernels_for_one_slot(client: Client, start: Starter) -> None:
    start("one", cpus=(2,))
    before = look(client)
    done = ctl("kernel", "start", "two", "--cpus", "3", "--memory", "256M", "--timeout", "5",
               "--append", "popcorn.node=1")  # fmt: skip
    assert done.returncode == 1, done.stderr
    deadline = time.monotonic() + 60
    with memory_of(client.kernel("two")) as memory:
        while memory.find(b"node slot 1 expects no kernel") < 0:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    # The one that is in it has noticed nothing.
    assert client.node(1).epoch == client.kernel("one").epoch
    assert ctl_json("ping", "one", "-c", "100")["n"] == 100
    two = client.kernel("two").id
    client.kernel_kill(two)
    client.kernel_del(two)
    assert look(client) == before


# A fabric that cannot be.

POKE = Path("/sys/module/popcorn_badfabric/parameters/poke")
HEADER = {
    # offset, bytes
    "magic": (0, 8),
    "version": (8, 4),
    "fabric_bytes": (16, 8),
    "fabric_phys": (24, 8),
    "nr_nodes": (32, 4),
    "node_bytes": (36, 4),
    "nodes_offset": (40, 8),
    "channels_offset": (48, 8),
    "channel_bytes": (56, 4),
    "ring_slots": (60, 4),
    "nr_queues": (64, 4),
    "areas_offset": (96, 8),
    "area_bytes": (104, 8),
}
NODES_OFFSET, NODE_BYTES = 4096, 4096
EXPECTED, UP, JOINING = 1, 2, 6

WRONG = [
    ({"magic": 0}, "wrong magic"),
    ({"magic": 0x004E524F43504F51}, "wrong magic"),
    ({"version": 2 << 16}, r"layout version 2\.0"),
    ({"version": 4 << 16 | 7}, r"layout version 4\.7"),
    ({"fabric_bytes": 4096}, "says it is 4096 bytes"),
    ({"fabric_phys": 0x1000}, "says it is .* at 0x1000"),
    ({"nr_nodes": 0}, "bad node slots"),
    ({"nr_nodes": 17}, "bad node slots"),
    ({"nr_nodes": 0xFFFFFFFF}, "bad node slots"),
    ({"node_bytes": 64}, "bad node slots"),
    ({"node_bytes": 4100}, "bad node slots"),
    ({"node_bytes": 0xFFFFFFC0}, "bad node slots"),
    ({"nodes_offset": 0}, "bad node slots"),
    ({"nodes_offset": 4097}, "bad node slots"),
    ({"nodes_offset": (1 << 64) - 4096}, "bad node slots"),
    ({"nr_queues": 0}, "0 queues"),
    ({"nr_queues": 0xFFFFFFFF}, "4294967295 queues"),
    ({"channels_offset": 4096}, "bad channels"),  # over the node slots
    ({"channels_offset": 4096 + 17 * 4096 + 8}, "bad channels"),
    ({"channels_offset": (1 << 64) - 4096}, "bad channels"),
    ({"channel_bytes": 64}, "bad channels"),
    ({"channel_bytes": 8192 + 4}, "bad channels"),
    ({"channel_bytes": 0xFFFFF000}, "bad channels"),
    ({"ring_slots": 0}, "bad channels"),
    ({"ring_slots": 63}, "bad channels"),
    ({"ring_slots": 1 << 30}, "bad channels"),
    ({"ring_slots": 1 << 31}, "bad channels"),
    ({"areas_offset": 8192}, "bad areas"),  # over the node slots and the channels
    ({"areas_offset": (1 << 64) - 4096}, "bad areas"),
    ({"area_bytes": 0}, "bad areas"),
    ({"area_bytes": (1 << 20) + 64}, "bad areas"),
    ({"area_bytes": 1 << 60}, "bad areas"),
]


def parameter(name: str) -> int:
    return int(Path(f"/sys/module/popcorn_badfabric/parameters/{name}").read_text())


def load(**other: int) -> str:
    """Load popcorn as a secondary does; return what it says when it refuses."""
    words = {"fabric": parameter("phys"), "fabric_bytes": parameter("bytes"), "node": 1, **other}
    subprocess.run(["dmesg", "-C"], check=True)
    done = subprocess.run(
        ["modprobe", "popcorn", *(f"{key}={value}" for key, value in words.items())],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert not Path("/sys/module/popcorn").exists()
    return dmesg()


@pytest.fixture
def bad_fabric() -> Iterator[None]:
    """No fabric here, but the beginning of one at an address that we know."""
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    subprocess.run(["modprobe", "popcorn_badfabric"], check=True)
    yield
    subprocess.run(["modprobe", "-r", "popcorn_badfabric"], check=True)
    subprocess.run(["modprobe", "popcorn_host"], check=True)


def test_fabric_that_cannot_be_is_refused(bad_fabric: None) -> None:
    for change, says in WRONG:
        POKE.write_text("reset")
        for field, value in change.items():
            offset, size = HEADER[field]
            POKE.write_text(f"{offset} {size} {value}")
        log = load()
        assert re.search(f"popcorn: .*{says}", log), (change, log)
    POKE.write_text("reset")
    assert "says it is" in load(fabric_bytes=parameter("bytes") + 4096)
    assert "cannot map" in load(fabric=parameter("phys") + 64)
    assert "cannot map" in load(fabric_bytes=64)


@pytest.mark.parametrize("node", [0, 16, 0xFFFFFFFF])
def test_node_that_cannot_be_is_refused(bad_fabric: None, node: int) -> None:
    assert f"node {node} cannot be" in load(node=node)


@pytest.mark.parametrize("state", [0, UP, JOINING, 0xFFFFFFFF])
def test_slot_that_expects_nobody_is_refused(bad_fabric: None, state: int) -> None:
    POKE.write_text(f"{NODES_OFFSET + NODE_BYTES} 4 {state}")
    assert f"node slot 1 expects no kernel (state {state})" in load()
