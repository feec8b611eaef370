# SPDX-License-Identifier: GPL-2.0
"""Bad input: a clear error, the right exit status, nothing leased, nothing lost."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest import Starter, ctl, look, program, quiet
from popcorn import Client
from popcorn.errors import PopcornError, TimeoutExpiredError
from popcorn.models import KernelState, MemoryBackend
from popcorn.plan import Spec
from popcorn.start import start_kernel

GOOD = {"--cpus": "2", "--memory": "256M"}


@pytest.fixture(autouse=True)
def nothing_changes(client: Client) -> Iterator[None]:
    before = look(client)
    yield
    assert look(client) == before


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (("kernel", "list"), 0),
        (("--json", "service", "list"), 0),
        (("kernel", "show", "nope"), 1),
        (("kernel", "start", "bad", "--cpus", "two"), 2),
    ],
)
def test_program_does_as_its_fork(args: tuple[str, ...], status: int) -> None:
    """What the other tests run is what a user runs."""
    done, same = program(*args), ctl(*args)
    assert done.returncode == status
    assert (done.returncode, done.stdout, done.stderr) == (
        same.returncode, same.stdout, same.stderr,
    )  # fmt: skip


def start_with(**change: str) -> subprocess.CompletedProcess[str]:
    options = {**GOOD, **{f"--{key.replace('_', '-')}": value for key, value in change.items()}}
    return ctl("kernel", "start", "bad", *[word for item in options.items() for word in item])


@pytest.mark.parametrize(
    ("change", "says", "status"),
    [
        ({"cpus": "77"}, "CPU 77", 1),
        ({"cpus": "0"}, "CPU 0", 1),
        ({"cpus": "0-3"}, "CPU 0|no CPU", 1),
        ({"cpus": "two"}, "two", 2),
        ({"cpus": "2,2"}, "twice", 2),
        ({"memory": "0"}, "memory", 1),
        ({"memory": "255K"}, "multiple", 1),
        ({"memory": "100G"}, r"MiB|GiB|\dM|\dG", 1),
        ({"memory": "lots"}, "lots", 2),
        ({"memory": "4M"}, "region|memory|fit", 1),
        ({"kernel": "/no/such/image"}, "/no/such/image", 1),
        ({"kernel": "/etc/passwd"}, "bzImage", 1),
        ({"initrd": "/no/such/initrd"}, "/no/such/initrd", 1),
        ({"append": "x" * 5000}, "command line", 1),
        ({"append": "two\nlines"}, "command line|newline|line", 1),
    ],
)
def test_start_refuses(change: dict[str, str], says: str, status: int) -> None:
    done = start_with(**change)
    assert done.returncode == status, done.stderr
    assert re.search(says, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_initrd_too_large_says_what_would_do(tmp_path: Path) -> None:
    big = tmp_path / "big.img"
    with big.open("wb") as file:
        file.truncate(400 << 20)
    done = start_with(initrd=str(big))
    assert done.returncode == 1
    assert re.search(r"\d+ ?[MG]", done.stderr), done.stderr


@pytest.mark.parametrize("name", ["1web", "a b", "x" * 32, "we/b", ""])
def test_bad_name(name: str) -> None:
    done = ctl("kernel", "start", name, "--cpus", "2", "--memory", "256M")
    assert done.returncode in (1, 2)
    assert "name" in done.stderr


def test_not_root() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         "popcornctl", "kernel", "start", "bad", "--cpus", "2", "--memory", "256M"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search("root|CAP_|permi", done.stderr, re.I), done.stderr


# What the command line checks first, the kernel checks for itself: netlink has other users.

MIB = 1 << 20


@pytest.mark.parametrize(
    ("cpus", "size", "says"),
    [
        ((77,), 256 * MIB, "CPU 77 does not exist"),
        ((0,), 256 * MIB, "boot CPU"),
        ((2, 2), 256 * MIB, "twice"),
        ((2,), 0, "0|zero"),
        ((2,), 256 * MIB + 4096, "multiple"),
        ((2,), 2 * MIB, "at least|small"),
        ((2,), 1 << 40, "MiB"),
    ],
)
def test_kernel_refuses_a_lease(
    client: Client, cpus: tuple[int, ...], size: int, says: str
) -> None:
    with pytest.raises(PopcornError, match=says):
        client.kernel_new("bad", cpus, size)


@pytest.mark.parametrize("name", ["1web", "a b", "we/b", ""])
def test_kernel_refuses_a_name(client: Client, name: str) -> None:
    with pytest.raises(PopcornError, match="name"):
        client.kernel_new(name, (2,), 256 * MIB)


def test_leased_cpu_and_taken_name(client: Client, start: Starter) -> None:
    start("web", cpus=(2,))
    with pytest.raises(PopcornError, match="CPU 2 is leased"):
        client.kernel_new("other", (2,), 256 * MIB)
    with pytest.raises(PopcornError, match="taken"):
        client.kernel_new("web", (3,), 256 * MIB)
    assert [k.name for k in client.kernels()] == ["web"]
    client.kernel_kill(1)
    client.kernel_del(1)


def test_reserved_memory_that_is_not_reserved(client: Client) -> None:
    with pytest.raises(PopcornError, match=r"reserved|RAM"):
        client.kernel_new(
            "bad", (2,), 256 * MIB, backend=MemoryBackend.RESERVED, memory_start=0x40000000
        )


@pytest.mark.parametrize("what", ["entry", "boot_params", "page_table_root"])
def test_boot_outside_the_lease(client: Client, what: str) -> None:
    kernel = client.kernel_new("bad", (2,), 256 * MIB)
    right = {
        "entry": kernel.memory_start + 16 * MIB + 0x200,
        "boot_params": kernel.memory_start,
        "page_table_root": kernel.slice_start + 4096,
    }
    for wrong in (0, 0x1000, kernel.memory_start + kernel.memory_size, 1 << 52, (1 << 64) - 1):
        with pytest.raises(PopcornError) as caught:
            client.kernel_boot(kernel.id, **{**right, what: wrong}, image="bad")
        assert what.replace("_", "-") in str(caught.value) + getattr(caught.value, "attribute", "")
    assert client.kernel("bad").state == KernelState.LEASED
    client.kernel_del(kernel.id)


def test_secondary_that_never_joins(client: Client, tmp_path: Path) -> None:
    empty = tmp_path / "empty.img"
    empty.write_bytes(b"\0" * 4096)
    with pytest.raises(TimeoutExpiredError) as caught:
        start_kernel(
            client,
            Spec("mute", cpus=(2,), memory_bytes=256 * MIB, initrd=empty, timeout=4),
            progress=quiet,
        )
    assert "kill" in caught.value.hint
    assert client.kernel("mute").state == KernelState.STARTING
    assert ctl("kernel", "kill", "mute").returncode == 0


def test_unknown_kernel_and_node() -> None:
    for args in (("kernel", "show", "nope"), ("kernel", "stop", "nope"), ("kernel", "kill", "nope"),
                 ("ping", "nope"), ("ping", "9")):  # fmt: skip
        done = ctl(*args)
        assert done.returncode == 1
        assert re.search("nope|9", done.stderr), done.stderr
