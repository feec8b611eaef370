# SPDX-License-Identifier: GPL-2.0
"""ssh into a kernel: the server that goes into images, and the command that runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from popcorn import initrd, ssh
from popcorn.errors import ImageError, NotFoundError
from popcorn.image import elf, find_program
from popcorn.link import Link
from popcorn.models import Node, NodeState

SHELL = Path("/bin/bash")
LIBC = "libc.so.6"


@pytest.fixture
def dynamic() -> bytes:
    """A program with shared libraries."""
    data = SHELL.read_bytes() if SHELL.exists() else b""
    if not data or LIBC not in elf.needed(data, "bash"):
        pytest.skip("needs a bash with shared libraries")
    return data


def test_libraries_that_a_program_needs(dynamic):
    names = elf.needed(dynamic, "bash")
    assert LIBC in names and all(name.startswith("lib") for name in names)
    busybox = Path("/bin/busybox")
    if busybox.exists():
        assert elf.needed(busybox.read_bytes(), "busybox") == ()


def test_damaged_programs_are_refused(dynamic):
    for size in (0, 63, 100, 1000, len(dynamic) // 2):
        with pytest.raises(ImageError):
            elf.needed(dynamic[:size], "bash")


def test_program_with_its_libraries(dynamic, tmp_path):
    assert find_program("dropbear", tmp_path) == {}
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/dropbear").write_bytes(dynamic)
    loader = elf.interpreter(dynamic, "bash").lstrip("/")
    (tmp_path / loader).parent.mkdir(parents=True)
    (tmp_path / loader).write_bytes(b"loader")
    with pytest.raises(ImageError, match=r"its library lib\S+ is not there"):
        find_program("dropbear", tmp_path)
    folder = tmp_path / "lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    for name in elf.needed(dynamic, "bash"):
        # Each of them needs what bash needs, itself among them.
        (folder / name).write_bytes(dynamic)
    found = find_program("dropbear", tmp_path)
    assert found["usr/sbin/dropbear"] == dynamic and found[loader] == b"loader"
    assert {path for path in found if path.startswith("lib/")} == {
        f"lib/{name}" for name in elf.needed(dynamic, "bash")
    }


def test_keys_of_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert initrd.authorized_keys(tmp_path) == b""
    directory = tmp_path / "home/me/.ssh"
    directory.mkdir(parents=True)
    (directory / "id_ed25519.pub").write_text("ssh-ed25519 AAAA me\n")
    (directory / "id_ed25519").write_text("secret\n")
    (directory / "authorized_keys").write_text("# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB you\n")
    assert initrd.authorized_keys(tmp_path) == b"ssh-ed25519 AAAA me\nssh-rsa BBBB you\n"


NODES = {name: Node(number, name, NodeState.UP) for number, name in enumerate(("here", "web"))}


class FakeLinks:
    def __init__(self, *links):
        self.links = links

    def list(self):
        return self.links


def link(peers):
    return Link("popcorn0", "up", "02:50:7f:10:ff:00", 1500, 0, 0x7F10FF, peers, (), (), {})


def test_address_of_a_node():
    assert ssh.ssh_address(NODES["web"], FakeLinks(link((1,)))) == "10.16.255.2"
    with pytest.raises(NotFoundError, match="this kernel has no link") as caught:
        ssh.ssh_address(NODES["web"], FakeLinks())
    assert "popcornctl link add" in caught.value.hint
    with pytest.raises(NotFoundError, match="'web' is not on the link"):
        ssh.ssh_address(NODES["web"], FakeLinks(link((2,))))
    own = Node(0, "primary", NodeState.UP, is_self=True)
    with pytest.raises(NotFoundError, match="'primary' is this kernel"):
        ssh.ssh_address(own, FakeLinks(link((1,))))


def test_the_command():
    def has(*programs):
        return lambda name: f"/usr/bin/{name}" if name in programs else None

    line = ssh.ssh_command("10.0.0.2", ("uname", "-r"), identity="key", which=has("ssh"))
    assert line[0] == "ssh" and line[-5:] == ["-i", "key", "root@10.0.0.2", "uname", "-r"]
    assert "UserKnownHostsFile=/dev/null" in line
    line = ssh.ssh_command("10.0.0.2", which=has("dbclient"))
    assert line == ["dbclient", "-y", "-y", "root@10.0.0.2"]
    with pytest.raises(NotFoundError, match="no ssh"):
        ssh.ssh_command("10.0.0.2", which=has())


def test_kernel_ssh_becomes_ssh(monkeypatch):
    from popcorn.cli import main

    ran = []
    monkeypatch.setattr(os, "execvp", lambda program, line: ran.append((program, line)))
    monkeypatch.setattr(ssh, "ssh_command", lambda *a, **k: ["ssh", *a[1], k["identity"]])
    assert (
        main(["kernel", "ssh", "--identity", "key", "--address", "10.0.0.2", "web", "ls", "-l"])
        == 0
    )
    assert ran == [("ssh", ["ssh", "ls", "-l", "key"])]
