# SPDX-License-Identifier: GPL-2.0
"""Two secondaries at once: of different versions, and on the link. Needs six CPUs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import net
import pytest

from guest import Starter, ctl, ctl_json, release_all
from popcorn import Client

RELEASES = [
    pair.split("=", 1)[1] for pair in os.environ.get("LAB_SECONDARIES", "").split() if "=" in pair
]


def test_different_versions_ping_and_one_dies(client: Client) -> None:
    other = next((r for r in RELEASES if r != platform.release()), platform.release())
    for name, cpus, release in (("one", "2-3", platform.release()), ("two", "4-5", other)):
        done = ctl("kernel", "start", name, "--cpus", cpus, "--memory", "512M",
                   "--kernel", release, "--timeout", "120", timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr
    shown = {n["name"]: n["release"] for n in ctl_json("node", "list")}
    assert (shown["one"], shown["two"]) == (platform.release(), other)
    for name in ("one", "two"):
        assert ctl_json("ping", name, "-c", "500")["n"] == 500
    assert ctl("kernel", "kill", "one").returncode == 0
    assert [k.name for k in client.kernels()] == ["two"]
    assert ctl_json("ping", "two", "-c", "500")["n"] == 500


LINK = "popcorn0"
MIB = 4


@pytest.fixture
def link(client: Client) -> Iterator[str]:
    """This kernel has its link; the first three bytes of its subnet."""
    subprocess.run(["modprobe", "popcorn_tty"], check=True)
    done = ctl("link", "add")
    assert done.returncode == 0, done.stderr
    (found,) = ctl_json("link", "list")
    (own,) = (a for a in found["addresses"] if a.startswith("10."))
    yield own.rpartition(".")[0]
    release_all(client)
    assert ctl("link", "del", LINK).returncode == 0
    subprocess.run(["modprobe", "-r", "popcorn_net", "popcorn_tty"], check=True)


def unicast() -> dict[str, int]:
    """What this kernel's link carried for single addresses: groups are everybody's."""
    found = net.counters(LINK)
    return {
        "received": found["rx_packets"] - found["rx_multicast"],
        "filtered": found["rx_filtered"],
        "sent": found["tx_packets"] - found["tx_flooded"],
    }


def test_secondaries_talk_past_the_primary(
    link: str, client: Client, start: Starter, run_image: Callable[[str], Path]
) -> None:
    image = run_image(net.SERVE)
    start("one", cpus=(2,), initrd=image, memory_mib=384)
    start("two", cpus=(4,), initrd=image, memory_mib=384)
    two = f"{link}.{client.node('two').id + 1}"

    # Not over the link, whose counters here are to stand still.
    def run(name: str, command: str) -> str:
        done = ctl("kernel", "exec", "-n", name, "--", "sh", "-c", command)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    file = "head -c {}m /dev/urandom >/srv/file; sha256sum </srv/file"
    sent = run("two", file.format(MIB)).split()[0]
    run("one", f"until wget -q -O /dev/null http://{two}/file; do sleep 1; done")
    before, peers = unicast(), ctl_json("link", "list")[0]["peer_names"]
    assert peers == ["one", "two"]
    got = run("one", f"ping -c 3 {two} >/dev/null && wget -q -O - http://{two}/file | sha256sum")
    assert got.split()[0] == sent
    bytes_there = int(run("one", f"cat /sys/class/net/{LINK}/statistics/rx_bytes"))
    assert bytes_there > 2 * MIB << 20
    assert unicast() == before
    assert net.lost(LINK) == {}
