# SPDX-License-Identifier: GPL-2.0
"""Two secondaries at once: in one timeline, of two versions, on the link. Needs six CPUs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import net
import pytest
import timelines

from guest import Starter, ctl, ctl_json, release_all
from popcorn import Client
from popcorn.models import Kernel

RELEASES = [
    pair.split("=", 1)[1] for pair in os.environ.get("LAB_SECONDARIES", "").split() if "=" in pair
]


@pytest.fixture
def both(shared: Callable[..., Kernel]) -> str:
    """Two kernels, `one` of this version and `two` of another if there is one, which it gives."""
    other = next((r for r in RELEASES if r != platform.release()), platform.release())
    shared("one", cpus=(2, 3), memory_mib=512, kernel=platform.release(), timeout=120)
    shared("two", cpus=(4, 5), memory_mib=512, kernel=other, timeout=120)
    return other


PINGS = {"one": 997, "two": 499}


@pytest.fixture
def processor() -> None:
    """Perfetto's trace processor is there; else no kernel is started for nothing."""
    timelines.need_processor()


def test_one_timeline_of_three_kernels(
    processor: None, both: str, client: Client, tmp_path: Path
) -> None:
    path = Path(os.environ.get("LAB_OUT", tmp_path)) / "three-kernels.json"
    pings = " && ".join(f"popcornctl ping {name} -c {n} >&2" for name, n in PINGS.items())
    before = [client.node(n) for n in (1, 2)]
    said = ctl_json("trace", "record", "-o", str(path), "--buffer", "32M", "--", "sh", "-c", pings)
    after = [client.node(n) for n in (1, 2)]
    events = said["events"]
    assert not any(e["lost"] or e["left_out"] for e in events.values()) and said["missed"] == 0
    # Nothing else is sent meanwhile.
    total = sum(PINGS.values())
    for kind, sum_of in (("msg_queued", "sent"), ("msg_delivered", "received")):
        counted = sum(getattr(node, sum_of) for node in after)
        counted -= sum(getattr(node, sum_of) for node in before)
        assert events[kind]["seen"] == counted >= total
    with timelines.opened(path) as query:
        timelines.check_counts(query, events)
        for name, n in PINGS.items():
            taken = timelines.ARROWS.replace("distinct", "") + f"where sender glob '{name} (*'"
            assert len([a for a in query(taken) if a["got"] == "deliver echo"]) == n
        joined = {(a["sender"], a["receiver"]) for a in timelines.arrows(query)}
        assert joined == {
            (f"{n} (node {i})", "primary (node 0)") for i, n in ((1, "one"), (2, "two"))
        }
        # What the others received is known from what they count.
        counts = {
            row["process"]: row["most"] - row["least"]
            for row in query(
                "select process.name as process, max(value) as most, min(value) as least"
                " from counter join process_counter_track track on counter.track_id = track.id"
                " join process using (upid) where track.name glob 'delivered from primary*'"
                " group by track.id"
            )
        }
        assert counts["one (node 1)"] >= PINGS["one"] and counts["two (node 2)"] >= PINGS["two"]


def test_different_versions_ping_and_one_dies(both: str, client: Client) -> None:
    shown = {n["name"]: n["release"] for n in ctl_json("node", "list")}
    assert (shown["one"], shown["two"]) == (platform.release(), both)
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
