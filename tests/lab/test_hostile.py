# SPDX-License-Identifier: GPL-2.0
"""A secondary that scribbles over the fabric. The lab ends with any oops of the primary."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import stress
from guest import Starter, ctl_json, memory_of
from popcorn import Client
from popcorn.models import Kernel
from stress import AGAIN, BATCH, SOAK, WAIT, Reports, Stress, mask

PRIMARY, SIBLING, MAD = 0, 1, 2
ALL = mask(PRIMARY, SIBLING, MAD)
SANE_PAIRS = ((PRIMARY, SIBLING), (SIBLING, PRIMARY))
TELL = Path("/sys/module/popcorn_hostile/parameters/tell")

ROUNDS = 1_000_000 if SOAK else 20_000
SEED = 20260
LOG_LINES_MAX = 200
"""Of the message layer, whatever comes: by far fewer than there are bad messages."""

STREAMS = {"queues": 2, "senders": 2, "modes": WAIT | AGAIN | BATCH, "messages": 0, "max": 16 << 10}


@contextlib.contextmanager
def both() -> Iterator[Stress]:
    """The modules, loaded here."""
    with stress.loaded() as module:
        subprocess.run(["modprobe", "popcorn_hostile"], check=True)
        subprocess.run(["dmesg", "-C"], check=True)
        try:
            yield module
        finally:
            subprocess.run(["modprobe", "-r", "popcorn_hostile"], check=True)


@pytest.fixture
def module() -> Iterator[Stress]:
    with both() as module:
        yield module


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return stress.build_image(tmp_path / "hostile.img", "popcorn_hostile")


def start_all(client: Client, start: Starter, module: Stress, image: Path) -> Kernel:
    """Primary, sibling and the one that will go mad, all in traffic with each other."""
    start("sibling", cpus=(2,), initrd=image)
    mad = start("mad", cpus=(3,), initrd=image).kernel
    assert (client.kernel("sibling").id, mad.id) == (SIBLING, MAD)
    module.wait(
        lambda now: all((n, MAD) in now and now[n, MAD].up for n in (PRIMARY, SIBLING)),
        mask(SIBLING),
    )
    module.start(ALL, ALL, **STREAMS)
    module.wait(
        lambda now: all(
            (a, b) in now and now[a, b]["received"] > 1000
            for a in (PRIMARY, SIBLING)
            for b in (PRIMARY, SIBLING, MAD)
            if a != b
        ),
        mask(SIBLING),
    )
    return mad


def go_mad(*modes: str) -> None:
    TELL.write_text(f"{MAD} {SEED} {ROUNDS} {' '.join(modes)}")


def is_over(mad: Kernel) -> bool:
    with memory_of(mad) as memory:
        return memory.find(f"seed {SEED}: all is over".encode()) >= 0


def watch(module: Stress, mad: Kernel, before: Reports, seconds: float = 600) -> Reports:
    """Until it is over, see that the sane go on talking to each other."""
    deadline = time.monotonic() + seconds
    while not is_over(mad):
        assert time.monotonic() < deadline, before
        before = talk_on(module, before)
    return talk_on(module, before)


def talk_on(module: Stress, before: Reports) -> Reports:
    return module.wait(
        lambda now: all(now[p]["received"] > before[p]["received"] for p in SANE_PAIRS),
        mask(SIBLING),
    )


def log() -> list[str]:
    text = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return [line for line in text.splitlines() if "popcorn:" in line]


def check_sane_again(
    client: Client, start: Starter, module: Stress, image: Path, names: tuple[str, ...]
) -> None:
    """Once it was killed and started again it is a node like any other."""
    for name in names:
        start(name, cpus=None, initrd=image)
    assert not client.node(MAD).shut
    assert ctl_json("ping", "mad", "-c", "100")["n"] == 100
    module.wait(
        lambda now: all(now[n, MAD].up for n in (PRIMARY, SIBLING)) and now[PRIMARY, SIBLING].up,
        mask(SIBLING),
    )
    module.reset(ALL)
    module.start(mask(MAD), ALL, **STREAMS)
    if "sibling" in names:
        module.start(mask(SIBLING), ALL, **STREAMS)
    module.wait(
        lambda now: all(
            (a, b) in now and now[a, b]["received"] > 1000
            for a in (PRIMARY, SIBLING, MAD)
            for b in (PRIMARY, SIBLING, MAD)
            if a != b
        ),
        mask(SIBLING, MAD),
    )
    module.stop(ALL)
    assert not stress.faults(module.ask(mask(SIBLING, MAD)))


def test_every_field_that_is_its_own(
    client: Client, start: Starter, module: Stress, image: Path
) -> None:
    mad = start_all(client, start, module, image)
    reports = module.ask(mask(SIBLING))
    # Nobody looks any further once messages are forged: before that, what else is looked at.
    go_mad("lines", "slot", "forge", "area", "head", "seq", "state")
    reports = watch(module, mad, reports)

    # Both have had enough of it, and said so.
    reports = module.wait(
        lambda now: all(not now[n, MAD].up for n in (PRIMARY, SIBLING)), mask(SIBLING)
    )
    assert client.node(MAD).shut
    for node in (PRIMARY, SIBLING):
        assert reports[node, MAD]["downs"] == reports[node, MAD]["ups"], reports[node, MAD]
        assert not reports[node, MAD]["disorder"]
    assert any("shut" in line for line in log()), log()
    assert len(log()) < LOG_LINES_MAX, log()
    with pytest.raises(OSError, match="not connected"):
        module.order("try", node=MAD, len=8)
    for pair in SANE_PAIRS:
        assert not reports[pair].faults, reports[pair]
        assert (reports[pair]["ups"], reports[pair]["downs"]) == (1, 0)

    client.kernel_kill(MAD)
    check_sane_again(client, start, module, image, ("mad",))


def test_anything_that_is_its_own(
    client: Client, start: Starter, module: Stress, image: Path
) -> None:
    mad = start_all(client, start, module, image)
    reports = module.ask(mask(SIBLING))
    go_mad("own")
    reports = watch(module, mad, reports)
    for pair in SANE_PAIRS:
        assert not reports[pair].faults, reports[pair]
    assert len(log()) < LOG_LINES_MAX, log()
    client.kernel_kill(MAD)
    check_sane_again(client, start, module, image, ("mad",))


def test_anything_at_all(client: Client, start: Starter, image: Path) -> None:
    """What is everybody's is lost then; the primary is not, and makes a new fabric."""
    with both() as module:
        mad = start_all(client, start, module, image)
        go_mad("all")
        # It need not live to the end of it itself.
        deadline = time.monotonic() + (3600 if SOAK else 60)
        while not is_over(mad) and time.monotonic() < deadline:
            # Whatever they say, they end.
            for what in ("node", "channel", "kernel", "service"):
                ctl_json(what, "list")
        assert len(log()) < LOG_LINES_MAX, log()
        for name in ("mad", "sibling"):
            kernel = client.kernel(name).id
            client.kernel_kill(kernel)
            client.kernel_del(kernel)

    client.close()
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    with both() as module:
        start_all(client, start, module, image)
        module.stop(ALL)
        assert not stress.faults(module.ask(mask(SIBLING, MAD)))
