# SPDX-License-Identifier: GPL-2.0
"""Named services, with the example module on both sides."""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest import ctl, ctl_json, memory_of, release_all
from popcorn import Client
from popcorn.models import Kernel

ANSWERS = Path("/sys/module/popcorn_hello/parameters/answers")


def load(*parameters: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["modprobe", "popcorn_hello", *parameters], capture_output=True, text=True
    )


def unload() -> None:
    subprocess.run(["modprobe", "-r", "popcorn_hello"], check=True)


@pytest.fixture
def hello() -> Iterator[Callable[..., None]]:
    """Load the example with parameters; it is unloaded at the end."""

    def loader(*parameters: str) -> None:
        done = load(*parameters)
        assert done.returncode == 0, done.stderr

    yield loader
    if ANSWERS.exists():
        unload()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initramfs that loads the example."""
    path = tmp_path_factory.mktemp("image") / "hello.img"
    done = ctl("image", "build", "--module", "popcorn_hello", "-o", str(path))
    assert done.returncode == 0, done.stderr
    return path


def answers(at_least: int) -> int:
    """What the module counted, once it is that many; or after a while."""
    deadline = time.monotonic() + 10
    while int(ANSWERS.read_text()) < at_least and time.monotonic() < deadline:
        time.sleep(0.1)
    return int(ANSWERS.read_text())


def talking(name: str) -> list[tuple[str, bool]]:
    """The nodes that show a service, and whether this kernel talks to them through it."""
    return [(s["node"], s["talks"]) for s in ctl_json("service", "list") if s["name"] == name]


def said(word: str) -> int:
    """How often the example said something since the last `dmesg -C`."""
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return log.count(f"popcorn_hello: {word}")


def test_kernel_without_the_service_is_not_told(
    shared: Callable[..., Kernel], hello: Callable[..., None]
) -> None:
    subprocess.run(["dmesg", "-C"], check=True)
    hello()
    shared("web")
    assert ctl_json("ping", "web", "-c", "100")["n"] == 100
    assert said("node 1 is up") == 0


def test_core_services_are_listed(shared: Callable[..., Kernel]) -> None:
    shared("web")
    found = {(s["node"], s["name"], s["talks"]) for s in ctl_json("service", "list")}
    assert found == {
        ("primary", "popcorn.control", False),
        ("primary", "popcorn.echo", False),
        ("web", "popcorn.control", True),
        ("web", "popcorn.echo", True),
        # Those are in every image, and not loaded here.
        ("web", "popcorn.net", False),
        ("web", "popcorn.tty", False),
    }


def test_other_version_is_no_peer(
    shared: Callable[..., Kernel], hello: Callable[..., None], image: Path
) -> None:
    hello("version=2")
    shared("web", initrd=image)
    time.sleep(2)
    assert int(ANSWERS.read_text()) == 0
    assert sorted(talking("example.hello")) == [("primary", False), ("web", False)]


@pytest.mark.parametrize("first", ["secondary", "primary"])
def test_peers_meet_part_and_meet_again(
    client: Client,
    shared: Callable[..., Kernel],
    hello: Callable[..., None],
    image: Path,
    first: str,
) -> None:
    subprocess.run(["dmesg", "-C"], check=True)
    if first == "primary":
        release_all(client)
        hello()
    kernel = shared("web", initrd=image)
    if first == "secondary":
        # Loaded while its peer is up already.
        deadline = time.monotonic() + 10
        while not talking("example.hello") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert talking("example.hello") == [("web", False)]
        hello()
    assert answers(1) == 1
    assert sorted(talking("example.hello")) == [("primary", False), ("web", True)]
    assert (said("node 1 is up"), said("node 1 is down")) == (1, 0)

    # Gone from here: the peer is told, and meets the next one.
    with memory_of(kernel) as memory:
        before = memory[:].count(b"node 0 is down")
    unload()
    hello()
    assert answers(1) == 1
    assert said("node 1 is up") == 2
    with memory_of(kernel) as memory:
        assert memory[:].count(b"node 0 is down") > before

    # The peer is gone: this side is told, once, and when it comes again.
    client.kernel_kill(kernel.id)
    deadline = time.monotonic() + 10
    while not said("node 1 is down") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert said("node 1 is down") == 1
    client.kernel_del(kernel.id)
    shared("web", initrd=image)
    assert answers(2) == 2
    assert (said("node 1 is up"), said("node 1 is down")) == (3, 1)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("popcorn.echo", errno.EADDRINUSE),
        ("x" * 32, errno.ENAMETOOLONG),
        ("", errno.EINVAL),
        ("caf\xe9", errno.EINVAL),
    ],
)
def test_bad_name_is_refused(client: Client, name: str, error: int) -> None:
    subprocess.run(["dmesg", "-C"], check=True)
    done = load(f"name={name}")
    assert done.returncode != 0
    assert not ANSWERS.exists()
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    assert f"is not registered (-{error})" in log
    assert {s["name"] for s in ctl_json("service", "list")} == {"popcorn.control", "popcorn.echo"}
