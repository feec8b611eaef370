# SPDX-License-Identifier: GPL-2.0
"""A second kernel on this one's root file system: what it sees, changes and leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import net
import pytest

from guest import RELEASE, SECONDARIES, ctl, ctl_json
from popcorn import Client
from popcorn.models import KernelState

LINK = "popcorn0"
PORT = 5640
STATE = Path("/run/popcorn/root")
SIZE = ("--memory", "384M")


@pytest.fixture(scope="module", autouse=True)
def link(modules: None) -> Iterator[None]:
    """A link and terminals; that they go again shows that nothing holds them."""
    net.sh("modprobe", "popcorn_tty")
    assert ctl("link", "add").returncode == 0
    yield
    assert ctl("link", "del", LINK).returncode == 0
    net.sh("modprobe", "-r", "popcorn_net", "popcorn_tty")


@pytest.fixture(autouse=True)
def nothing_left(client: Client) -> Iterator[None]:
    """No process, no port, no mount and no file stays, whatever ended the kernels of a test."""
    mounts = Path("/proc/self/mounts").read_text()
    yield
    for kernel in client.kernels():
        client.kernel_kill(kernel.id)
        client.kernel_del(kernel.id)
    net.wait_until("the servers are gone", lambda: not servers() and not list(STATE.iterdir()))
    assert "564" not in net.sh("ss", "-ltnH", f"sport >= :{PORT} and sport <= :{PORT + 16}")
    assert Path("/proc/self/mounts").read_text() == mounts


def servers() -> list[str]:
    """Command lines of keepers and of the servers of their connections."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode()
            if "popcorn.keeper" in line or "diod" in line.partition(" ")[0]:
                found.append(line)
    return found


def begin(name: str, cpu: int = 2, *more: str, release: str = RELEASE) -> None:
    done = ctl("kernel", "start", name, "--cpus", str(cpu), *SIZE, "--kernel", release,
               "--root", "host", *more)  # fmt: skip
    assert done.returncode == 0, (done.stderr, log_of(name))


def there(name: str, *words: str) -> str:
    done = ctl("kernel", "exec", "-n", name, "--", *words)
    assert done.returncode == 0, (words, done.stdout, done.stderr, log_of(name))
    return done.stdout


def log_of(name: str) -> str:
    return ctl("kernel", "dmesg", name).stdout[-3000:]


def root_of(name: str) -> Any:
    return ctl_json("kernel", "show", name)["root"]


@pytest.mark.parametrize("kernel", SECONDARIES)
def test_it_is_there_and_read_only(client: Client, kernel: str) -> None:
    """Of every kernel that the lab has: each finds its own modules there."""
    release = SECONDARIES[kernel]
    mark = Path("/srv/mark-of-the-primary")
    mark.write_text("from here\n")
    try:
        begin("web", release=release)
        assert there("web", "uname", "-nr") == f"web {release}\n"
        # A program of this root, with its libraries, on the other kernel.
        program = (
            "import json, os, sqlite3;"
            "print(json.dumps([os.uname().nodename, open('/srv/mark-of-the-primary').read()]))"
        )
        assert json.loads(there("web", "python3", "-c", program)) == ["web", "from here\n"]
        assert there("web", "cat", "/etc/os-release") == Path("/etc/os-release").read_text()
        # What is written there is written there alone.
        there("web", "sh", "-c", "echo changed >/srv/mark-of-the-primary; rm /etc/os-release;"
              "mkdir /srv/new; echo more >/srv/new/file")  # fmt: skip
        assert there("web", "cat", "/srv/mark-of-the-primary", "/srv/new/file") == "changed\nmore\n"
        assert mark.read_text() == "from here\n"
        assert Path("/etc/os-release").exists()
        assert not Path("/srv/new").exists()
        mounts = there("web", "cat", "/proc/mounts")
        assert "overlay / overlay rw" in mounts
        # Modules of that kernel can be loaded, which its initramfs does not have.
        assert "ip_vs" in there("web", "sh", "-c", "modprobe ip_vs && cat /proc/modules")

        root = root_of("web")
        assert (root["root"], root["served"], root["port"]) == ("host", True, PORT + 1)
        assert root["connections"] >= 1
        assert f"served at {root['address']}:{root['port']}" in ctl("kernel", "show", "web").stdout
        # Nobody else gets in: neither from here, nor who is not root there.
        assert net.sh("ss", "-ltnH", f"sport = :{root['port']}").split()[3].startswith("10.")
        with socket.create_connection((root["address"], root["port"]), timeout=20) as connection:
            assert connection.recv(1) == b""
        knock = (
            "import socket; s = socket.create_connection"
            f"(('{root['address']}', {root['port']}), 20); s.send(TVERSION); s.settimeout(20)\n"
            "try: print(s.recv(1))\nexcept ConnectionResetError: print(b'')"
        ).replace("TVERSION", repr(b"\x15\0\0\0\x64\xff\xff\0\0\1\0\x08\x009P2000.L"))
        assert there("web", "python3", "-c", knock) == "b''\n"

        done = ctl("kernel", "stop", "web")
        assert done.returncode == 0, done.stderr
        assert not servers()
        assert not list(STATE.iterdir())
    finally:
        mark.unlink()


@pytest.mark.slow
def test_two_kernels_and_their_ends(client: Client) -> None:
    """Each has a server of its own, which ends with it and with nobody else."""
    begin("a", 2)
    begin("b", 3)
    assert (root_of("a")["port"], root_of("b")["port"]) == (PORT + 1, PORT + 2)
    # A crash.
    ctl("kernel", "exec", "-n", "a", "--", "sh", "-c", "echo c >/proc/sysrq-trigger", timeout=60)
    net.wait_until("a crashed", lambda: client.kernel("a").state == KernelState.CRASHED)
    net.wait_until("its server is gone", lambda: not root_of("a")["served"])
    assert root_of("b")["served"]
    assert there("b", "python3", "-c", "import decimal; print(decimal.Decimal(1))") == "1\n"
    # Again on its lease.
    done = ctl("kernel", "restart", "a")
    assert done.returncode == 0, done.stderr
    assert root_of("a")["served"]
    assert there("a", "uname", "-n") == "a\n"
    # The server dies: the kernel lives, and says so.
    (state,) = (json.loads(path.read_text()) for path in STATE.glob("2.json"))
    os.kill(state["pid"], signal.SIGKILL)
    net.wait_until("its server is gone", lambda: not root_of("b")["served"])
    assert "the server has ended" in ctl("kernel", "show", "b").stdout
    busybox = "/run/popcorn/bin/busybox"
    cat = ctl("kernel", "exec", "-n", "b", "--", busybox, "cat", "/etc/services")
    assert cat.returncode != 0 or "error" not in cat.stderr
    assert there("b", busybox, "hostname") == "b\n"
    done = ctl("kernel", "stop", "b")
    assert done.returncode == 0, done.stderr
    # Killed by somebody who does not know of servers.
    client.kernel_kill(client.kernel("a").id)
    net.wait_until("its server is gone", lambda: not servers())


def test_a_start_that_is_killed(client: Client) -> None:
    """popcornctl dies when the server has started: the server ends with the lease that is left."""
    line = ["popcornctl", "kernel", "start", "web", "--cpus", "2", *SIZE, "--root", "host",
            "--kernel", RELEASE]  # fmt: skip
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as start:
        net.wait_until("a server", lambda: list(STATE.glob("*.json")), 120)
        start.kill()
    assert servers()
    assert ctl("kernel", "kill", "web").returncode == 0
    assert not servers()


def test_an_init_of_ones_own(client: Client) -> None:
    own = Path("/srv/own-init")
    own.write_text("#!/bin/sh\necho here is $0 as $$ >/dev/kmsg\nexec sleep infinity\n")
    own.chmod(0o755)
    try:
        begin("web", 2, "--append", f"popcorn_root.init={own}")
        net.wait_until("its words", lambda: f"here is {own} as 1\n" in log_of("web"))
    finally:
        own.unlink()


# A root that is an overlay of two file systems, with the rest of this machine as it is.
OVERLAY_ROOT = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/files /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/files,workdir=/mnt/work,xino=off overlay /mnt/root
for place in /dev /proc /sys /run /tmp "$(readlink -f /lib/modules)" "$PWD"; do
    mount --rbind "$place" "/mnt/root$place"
done
exec chroot /mnt/root sh -c 'cd "$1" && shift && exec "$@"' sh "$PWD" "$@"
"""


def test_an_overlay_of_several_devices(client: Client) -> None:
    """What the server would not open is found before the start. This machine's own root is an
    overlay, too, with xino=on: the other tests start on it."""
    start = ("popcornctl", "kernel", "start", "web", "--cpus", "2", *SIZE, "--kernel", RELEASE,
             "--root", "host")  # fmt: skip
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", OVERLAY_ROOT, "sh", *start],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, ""), done
    assert "different device numbers: diod would take" in done.stderr
    assert "mounted with xino=on" in done.stderr
    assert client.kernels() == ()
    assert not servers()


def test_bad_input(client: Client, run_image: Callable[[str], Path]) -> None:
    start = ("kernel", "start", "web", "--cpus", "2", *SIZE, "--kernel", RELEASE)
    host = (*start, "--root", "host")

    def refused(arguments: tuple[str, ...], says: str, hint: str, status: int = 1) -> None:
        done = ctl(*arguments)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert says in done.stderr
        assert hint in done.stderr
        assert client.kernels() == ()
        assert not servers()

    refused((*start, "--root", "nfs"), "'nfs' is not", "host", 2)
    refused((*host, "--profile", "light"), "profile light do not mount a root", "leave --profile")
    refused((*start, "--profile", "full"), "mount a root", "--root host")
    refused((*host, "--initrd", str(run_image("true"))), "is of profile shell", "--profile full")
    refused((*host, "--append", "popcorn_link.address=192.0.2.7/24"), "no address in 192.0.2.0/24",
            "--add-address")  # fmt: skip
    refused((*host, "--append", "popcorn_link.address="), "by IPv4", "ADDRESS/PREFIX")
    (found,) = ctl_json("link", "list")
    (own,) = [a.partition("/")[0] for a in found["addresses"] if a.startswith("10.")]
    with socket.create_server((own, PORT + 1)):
        refused(host, f"{own}:{PORT + 1} cannot be served on: Address already in use", "ss -ltnp")
    assert ctl("link", "set", LINK, "--down").returncode == 0
    refused(host, f"{LINK} is off", f"link set {LINK} --up")
    assert ctl("link", "del", LINK).returncode == 0
    refused(host, "this kernel has none", "popcornctl link add")
    assert ctl("link", "add").returncode == 0
