# SPDX-License-Identifier: GPL-2.0
"""A root over the link: what is served, to whom, by what, and until when."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from popcorn import keeper, plan, restart, root, start
from popcorn.errors import (
    BusyError,
    ImageError,
    ModuleMissingError,
    NotFoundError,
    PlanError,
    PopcornError,
    TimeoutExpiredError,
)
from popcorn.initrd import Initrd
from popcorn.keeper import Keeper, config, has_ended
from popcorn.link import Link
from popcorn.models import KernelState
from popcorn.plan import Spec, plan_start
from popcorn.root import Export, RootServer, find_export, root_words
from popcorn.start import start_kernel

LINK = Link(
    "popcorn0", "up", "02:50:7f:10:ff:00", 1500, 0, 0x7F10FF, (), ("10.16.255.1/24", "fe80::1/64"),
    (), {},
)  # fmt: skip
MOUNTS = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:5 / /proc rw - proc proc rw
23 21 0:6 / /run rw - tmpfs tmpfs rw
24 23 0:7 / /run/user/0 rw - tmpfs tmpfs rw
25 21 8:2 / /usr rw - ext4 /dev/sda2 rw
26 21 0:8 / /home rw,relatime shared:7 - btrfs /dev/sdb rw
27 21 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
28 21 0:9 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
29 21 0:3 / /mnt/a\\040b rw - ext4 /dev/sdc rw
30 21 0:4 / /srv/scratch rw - tmpfs scratch rw
31 25 8:3 / /usr/local rw - ext4 /dev/sda3 rw
"""


def there(name):
    return f"/usr/sbin/{name}"


@pytest.fixture
def mounted(machine):
    machine.write("/proc/self/mountinfo", MOUNTS)
    nodev = ("proc", "sysfs", "tmpfs", "btrfs", "overlay", "fuse.lxcfs")
    machine.write("/proc/filesystems", "".join(f"nodev\t{n}\n" for n in nodev) + "\text4\n")
    return machine


def test_what_is_served(mounted):
    assert root.mounts_to_export(mounted.system) == (
        "/", "/home", "/srv/scratch", "/usr", "/usr/local",
    )  # fmt: skip


def test_where_it_is_served(mounted):
    export = find_export("web", 3, [LINK], "quiet", system=mounted.system, which=there)
    assert (export.address, export.peer, export.port) == ("10.16.255.1", "10.16.255.4", 5643)
    words = "popcorn_root=10.16.255.1:5643 popcorn_root.mounts=/home,/srv/scratch,/usr,/usr/local"
    assert root_words(export) == words
    assert root_words(dataclasses.replace(export, mounts=("/",))) == words.partition(" ")[0]


def test_addresses_of_ones_own(mounted):
    link = dataclasses.replace(LINK, addresses=("192.0.2.1/24",))
    append = "quiet popcorn_link.address=2001:db8::1/64 popcorn_link.address=192.0.2.9/24"
    export = find_export("web", 1, [link], append, system=mounted.system, which=there)
    assert (export.address, export.peer) == ("192.0.2.1", "192.0.2.9")


@pytest.mark.parametrize(
    ("links", "append", "kind", "says", "hint"),
    [
        ([], "", NotFoundError, "this kernel has none", "popcornctl link add"),
        ([dataclasses.replace(LINK, state="down")], "", PlanError, "is off", "--up"),
        ([dataclasses.replace(LINK, addresses=())], "", PlanError, "no address in 10.16.255.0/24",
         "--add-address 10.16.255.1/24"),
        ([LINK], "popcorn_link.address=192.0.2.9/24", PlanError, "no address in 192.0.2.0/24",
         "popcorn_link.address="),
        ([LINK], "popcorn_link.address=", PlanError, "by IPv4", "ADDRESS/PREFIX"),
    ],
)  # fmt: skip
def test_a_link_that_does_not_do(mounted, links, append, kind, says, hint):
    with pytest.raises(kind) as caught:
        find_export("web", 1, links, append, system=mounted.system, which=there)
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_no_server(mounted):
    with pytest.raises(NotFoundError, match="needs diod") as caught:
        find_export("web", 1, [LINK], "", system=mounted.system, which=lambda name: None)
    assert caught.value.hint == "apt-get install diod"


def test_too_many_file_systems(mounted):
    lines = (f"{n} 1 8:{n} / /data/disk-of-some-length-{n} rw - ext4 x rw\n" for n in range(40))
    mounted.write("/proc/self/mountinfo", "".join(lines))
    with pytest.raises(PlanError, match="at most 512") as caught:
        find_export("web", 1, [LINK], "", system=mounted.system, which=there)
    assert "findmnt" in caught.value.hint


OVERLAY = "30 1 0:26 / / rw,relatime - overlay overlay rw,lowerdir=/lower,upperdir=/u,workdir=/w\n"


def find_on(machine, mounts, devices, monkeypatch):
    """What is served where these are the mounts and the device numbers of files; 1 otherwise."""
    machine.write("/proc/self/mountinfo", mounts)
    for name in ("hostname", "hosts", "passwd"):
        machine.write(f"/etc/{name}", "")
    monkeypatch.setattr(root, "_device", lambda path: devices.get(path.name, 1))
    return find_export("web", 1, [LINK], "", system=machine.system, which=there)


def test_an_overlay_of_many_devices(mounted, monkeypatch):
    devices = {"hostname": 2, "hosts": 2, "passwd": 3}
    with pytest.raises(PlanError, match="different device numbers") as caught:
        find_on(mounted, OVERLAY, devices, monkeypatch)
    assert "xino=on" in caught.value.hint
    # Where another root has been put over it, and where /etc is a file system of its own.
    over = OVERLAY + OVERLAY.replace("- overlay", "- ext4")
    assert find_on(mounted, over, devices, monkeypatch)
    assert find_on(mounted, OVERLAY, {**devices, "etc": 4}, monkeypatch)


def test_an_overlay_that_does(mounted, monkeypatch):
    assert find_on(mounted, OVERLAY, {}, monkeypatch)
    # As in a container: these are mounted each by itself.
    assert find_on(mounted, OVERLAY, {"hostname": 2, "hosts": 2}, monkeypatch)


def test_configuration_of_the_server():
    assert config(("/", "/usr")) == (
        "auth_required = 0\nexports = {\n"
        '  { path="/", opts="ro,noauth" },\n'
        '  { path="/usr", opts="ro,noauth" },\n'
        "}\n"
    )


# The keeper


SERVER = """#!/bin/bash
# In place of diod: tell that it was started, and answer the first byte.
for word; do last=$word; done
exec <&"$last" >&"$last"
head -c 1
exec sleep 1000
"""


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "run" / "root"


@pytest.fixture
def export(tmp_path):
    program = tmp_path / "diod"
    program.write_text(SERVER)
    program.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Export(1, "web", "127.0.0.1", "127.0.0.1", port, ("/",), str(program))


@pytest.fixture
def serving(export, directory, monkeypatch):
    """A keeper; set `ended` to have its kernel end."""
    monkeypatch.setattr(keeper, "PRIVILEGED", 65536)
    monkeypatch.setattr(keeper, "LOOK_SECONDS", 0.02)
    ended = threading.Event()
    thread = threading.Thread(target=Keeper(export, directory, ended.is_set).run)
    thread.start()
    wait(lambda: state(directory) and state(directory).error == "")
    thread.ended = ended
    yield thread
    ended.set()
    thread.join(20)
    assert not thread.is_alive()


def state(directory):
    """What the keeper says. It is in this process, and so is the lock."""
    path = root.state_path(1, directory)
    while path.exists():
        # Else it is just being written.
        with contextlib.suppress(ValueError):
            return RootServer(**json.loads(path.read_text()))
    return None


def wait(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def connect(export):
    return socket.create_connection((export.address, export.port), timeout=20)


def test_only_so_many_wait(serving, export, monkeypatch):
    monkeypatch.setattr(keeper, "NEW_MAX", 0)
    with connect(export) as connection:
        assert connection.recv(1) == b""


def test_each_connection_has_a_server_which_ends_with_the_keeper(serving, export, directory):
    with connect(export) as one, connect(export) as other:
        one.sendall(b"a")
        other.sendall(b"b")
        assert (one.recv(1), other.recv(1)) == (b"a", b"b")
        wait(lambda: state(directory).connections == 2)
        serving.ended.set()
        assert (one.recv(1), other.recv(1)) == (b"", b"")
    serving.join(20)
    assert list(directory.iterdir()) == []


def test_who_is_not_root_there_is_not_let_in(serving, export, directory, monkeypatch):
    monkeypatch.setattr(keeper, "PRIVILEGED", 1024)
    with connect(export) as connection:
        connection.sendall(b"a")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert state(directory).connections == 0


def test_who_is_elsewhere_is_not_let_in(serving, export, directory):
    with socket.socket() as connection:
        connection.bind(("127.0.0.2", 0))
        connection.settimeout(20)
        connection.connect((export.address, export.port))
        assert connection.recv(1) == b""
    assert state(directory).connections == 0


def test_what_the_kernel_says_of_its_root(serving, export, directory):
    # What was said first counts: later there are users.
    for text in (b"no\x1bthing\n", b"yes\n"):
        with connect(export) as connection:
            connection.sendall(keeper.SAYS + text)
            assert connection.recv(1) == b""
        assert state(directory).mounted == "no?thing"
    assert state(directory).connections == 0


def test_a_connection_that_says_nothing(serving, export, monkeypatch):
    monkeypatch.setattr(keeper, "GREETING_SECONDS", 0)
    with connect(export) as connection:
        assert connection.recv(1) == b""


def test_until_when(module):
    client = module.client()
    export = Export(1, "web", "", "", 0, ())
    assert has_ended(client, export)
    module.add_kernel("web", KernelState.LEASED)
    for kernel_state in KernelState:
        module.kernels[1]["state"] = int(kernel_state)
        over = kernel_state in (KernelState.STOPPED, KernelState.CRASHED, KernelState.KILLED)
        assert has_ended(client, export) == over, kernel_state
        assert has_ended(client, dataclasses.replace(export, name="other"))

    class Gone:
        def kernel(self, which):
            raise ModuleMissingError("")

    assert has_ended(Gone(), export)


# Starting and ending it


HOLDER = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
os.write(file, sys.argv[2].replace("PID", str(os.getpid())).encode())
time.sleep(1000)
"""


@pytest.fixture
def holder(directory):
    """Run a process that says of itself what a keeper would."""
    directory.mkdir(parents=True)
    processes = []

    def run(**more):
        text = {"pid": "PID", "address": "10.0.0.1", "port": 5641, "peer": "10.0.0.2", **more}
        path = root.state_path(1, directory)
        command = [
            sys.executable,
            "-c",
            HOLDER,
            str(path),
            json.dumps(text).replace('"PID"', "PID"),
        ]
        processes.append(subprocess.Popen(command))
        wait(lambda: root.read_server(1, directory))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


def test_a_server_is_ended(holder, directory):
    process = holder()
    assert root.stop_server(1, directory=directory)
    assert process.wait(20) != 0 or process.returncode is not None
    assert list(directory.iterdir()) == []
    assert not root.stop_server(1, directory=directory)


def test_what_a_dead_one_left_counts_for_nothing(holder, directory):
    process = holder()
    root.config_path(1, directory).write_text("")
    process.kill()
    process.wait()
    assert root.state_path(1, directory).exists()
    assert root.read_server(1, directory) is None
    assert not root.stop_server(1, directory=directory)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("mounted", "kind", "says"),
    [
        ("", TimeoutExpiredError, "did not mount its root"),
        ("mount: no such device", PopcornError, "'web' has no root: mount: no such device"),
    ],
)
def test_a_root_that_is_not_mounted(holder, directory, mounted, kind, says):
    holder(mounted=mounted)
    with pytest.raises(kind, match=says) as caught:
        root.wait_mounted(1, "web", 0, directory)
    assert "kernel dmesg web" in caught.value.hint


def test_a_root_that_is_mounted(holder, directory):
    holder(mounted="yes")
    root.wait_mounted(1, "web", 0, directory)


def test_a_server_that_ends_while_it_is_waited_for(directory):
    with pytest.raises(PopcornError, match="has ended"):
        root.wait_mounted(1, "web", 0, directory)


def test_a_port_that_is_taken(export, directory, machine, monkeypatch):
    """The real keeper's process, which says why."""
    monkeypatch.setattr(root, "keeper_command", lambda *_: [sys.executable, "-c", TAKEN, "x"])
    monkeypatch.setenv("WHERE", str(root.state_path(1, directory)))
    directory.mkdir(parents=True)
    with pytest.raises(BusyError, match="cannot be served on: Address already in use") as caught:
        root.start_server(export, system=machine.system, directory=directory)
    assert "ss -ltnp" in caught.value.hint


TAKEN = HOLDER.replace("sys.argv[1]", "os.environ['WHERE']").replace(
    "os.write(file, sys.argv[2].replace(\"PID\", str(os.getpid())).encode())",
    'os.write(file, b\'{"pid": 0, "address": "", "port": 0, "peer": "", '
    '"error": "Address already in use"}\')',
).replace("time.sleep(1000)", "time.sleep(1)")  # fmt: skip


def test_a_keeper_that_cannot_have_its_port(export, directory, monkeypatch):
    monkeypatch.setattr(keeper, "LOOK_SECONDS", 0.2)
    with socket.create_server((export.address, export.port)):
        thread = threading.Thread(target=Keeper(export, directory, lambda: False).run)
        thread.start()
        wait(lambda: state(directory) and "in use" in state(directory).error)
        thread.join(20)
    assert list(directory.iterdir()) == []


def test_with_systemd_it_is_a_unit(export, directory, machine, monkeypatch):
    (machine.root / "run/systemd/system").mkdir(parents=True)
    commands = []

    class Popen:
        stderr = io.BytesIO(b"no")

        def __init__(self, command, **_):
            commands.append(command)

        def poll(self):
            return 1

    monkeypatch.setattr(root.subprocess, "Popen", Popen)
    with pytest.raises(PopcornError, match="systemd-run failed"):
        root.start_server(export, system=machine.system, directory=directory)
    (command,) = commands
    assert command[0] == "systemd-run"
    assert "--unit=popcorn-root-1.service" in command
    assert command[-5:-2] == [sys.executable, "-m", "popcorn.keeper"]


# As part of a start


@pytest.fixture
def spec(mounted, monkeypatch):
    """A start on this machine's root, of which the server and the initramfs are made up."""
    mounted.bzimage()
    served = []
    monkeypatch.setattr(plan, "find_links", lambda: (LINK,))
    monkeypatch.setattr(root.shutil, "which", there)
    monkeypatch.setattr(root, "find_server", lambda system, which: there("diod"))
    monkeypatch.setattr(
        plan, "find_initrd", lambda path, profile, *_, **__: Initrd.of(f"profile {profile}", b"i")
    )
    monkeypatch.setattr(start, "start_server", lambda export, system: served.append(export))
    monkeypatch.setattr(start, "stop_server", served.append)
    monkeypatch.setattr(restart, "stop_server", served.append)
    monkeypatch.setattr(start, "wait_mounted", lambda *arguments: served.append("mounted"))
    spec = Spec("web", (2, 3), 256 << 20, append="quiet", timeout=5, root="host")
    return spec, served


def test_a_start(module, mounted, spec, tmp_path):
    from popcorn.device import HostDevice

    memory = tmp_path / "memory"
    with memory.open("wb") as file:
        file.truncate(8 << 30)
    options = {"system": mounted.system, "device": HostDevice(memory)}
    spec, served = spec
    start_kernel(module.client(), spec, **options)
    assert [type(thing) for thing in served] == [Export, str]
    kernel = module.client().kernel("web")
    assert kernel.image.endswith("profile full")
    assert (served[0].kernel_id, served[0].name, served[0].port) == (1, "web", 5641)
    assert root.describe(kernel) == {"root": "host", "served": False}
    served.clear()
    restart.restart_kernel(module.client(), "web", force=True, **options)
    assert [type(thing) for thing in served] == [int, Export, str]
    served.clear()
    change = restart.Change(profile="shell")
    restart.restart_kernel(module.client(), "web", change, force=True, **options)
    assert served == [1], "what was served ends, and nothing else is"


def test_a_boot_that_is_refused_ends_the_server(module, mounted, spec, refusal, tmp_path):
    from popcorn.device import HostDevice
    from popcorn.uapi.netlink_gen import Cmd

    memory = tmp_path / "memory"
    with memory.open("wb") as file:
        file.truncate(8 << 30)
    spec, served = spec
    module.refusals[Cmd.KERNEL_BOOT] = refusal(errno.EBUSY, "it is mapped")
    with pytest.raises(PopcornError):
        start_kernel(
            module.client(), spec, system=mounted.system, device=HostDevice(memory)
        )  # fmt: skip
    assert [type(thing) for thing in served] == [Export, int]


def test_a_plan(mounted, spec):
    plan = plan_start(spec[0], system=mounted.system)
    assert "popcorn_root=10.16.255.1:5641" in plan.layout.command_line
    assert plan.to_json()["root"] == "host"
    assert any("number of the node" in what for what in plan.assumed)
    assert spec[1] == [], "nothing is served"


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"root": "nfs"}, PlanError, "no root 'nfs'"),
        ({"profile": "light"}, PlanError, "profile light do not mount"),
        ({"profile": "full", "root": None}, PlanError, "profile full mount a root"),
    ],
)
def test_bad_input(mounted, spec, change, kind, says):
    with pytest.raises(kind, match=says) as caught:
        plan_start(dataclasses.replace(spec[0], **change), system=mounted.system)
    assert caught.value.hint


def test_an_initramfs_that_mounts_none(mounted, spec, monkeypatch):
    info = type("Info", (), {"profile": "shell"})
    monkeypatch.setattr(plan.image, "inspect", lambda data, name: info)
    given = dataclasses.replace(spec[0], initrd=mounted.write("/x.img", b"x"))
    with pytest.raises(ImageError, match="is of profile shell") as caught:
        plan_start(given, system=mounted.system)
    assert "--profile full" in caught.value.hint


def shown(ctl, *words):
    code, out, err = ctl("kernel", "show", "web", *words)
    assert code == 0, err
    return out


def test_show(ctl, module, monkeypatch, tmp_path):
    kernel = module.add_kernel("web", KernelState.RUNNING)
    assert "its initramfs" in shown(ctl)
    kernel["recipe"] = json.dumps({"root": "host"})
    found = None
    monkeypatch.setattr(root, "read_server", lambda *_: found)
    assert "the server has ended" in shown(ctl)
    assert "kernel restart web" in shown(ctl)
    found = RootServer(1, "10.0.0.1", 5641, "10.0.0.2", 2)
    assert "served at 10.0.0.1:5641 to 10.0.0.2, 2 connections" in shown(ctl)
    code, out, _ = ctl("--json", "kernel", "show", "web")
    assert (code, json.loads(out)["root"]) == (
        0,
        {"root": "host", "served": True, "address": "10.0.0.1", "port": 5641, "peer": "10.0.0.2",
         "connections": 2},
    )  # fmt: skip
    found = None
    module.set_state(1, KernelState.STOPPED)
    assert "not served now" in shown(ctl)
