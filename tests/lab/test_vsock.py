# SPDX-License-Identifier: GPL-2.0
"""AF_VSOCK between kernels: Python here, vsock_peer.c and socat in the secondary."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest import Starter, memory_of, release_all
from popcorn import Client
from vsock_guest import (
    ECHO,
    GATE,
    HOG,
    HOST,
    LAZY,
    MIB,
    RECORDS,
    SINK,
    SOCAT,
    SOURCE,
    called,
    dial,
    echo,
    echo_records,
    make_image,
    node_of,
    start_peer,
    take,
    unload,
)

NOBODY = 4999


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initramfs with AF_VSOCK, the other side of these tests, and socat."""
    return make_image(tmp_path_factory.mktemp("vsock") / "vsock.img", programs=("/usr/bin/socat",))


@pytest.fixture(scope="module", autouse=True)
def vsock(modules: None) -> Iterator[None]:
    """AF_VSOCK here. That it can be unloaded proves that no socket is left, nor what it sent."""
    subprocess.run(["modprobe", "popcorn_vsock"], check=True)
    yield
    unload()


@pytest.fixture(scope="module")
def known(modules: None, image: Path) -> Iterator[list[int]]:
    """What `cid` knows: the CID, once there is one."""
    found: list[int] = []
    yield found
    with Client() as client:
        release_all(client)


@pytest.fixture
def cid(known: list[int], image: Path) -> int:
    """The CID of a kernel whose services are there: one for all tests, anew if one ended it."""
    with Client() as client:
        if not any(kernel.name == "web" for kernel in client.kernels()):
            release_all(client)
            known[:] = [start_peer(client, image)]
    return known[0]


def failing(what: Callable[[], object]) -> int:
    """The error number that something fails with."""
    with pytest.raises(OSError) as caught:
        what()
    assert caught.value.errno is not None
    return caught.value.errno


def test_both_ways(cid: int) -> None:
    data = os.urandom(300_000)
    with dial(cid, ECHO) as sock:
        assert sock.getpeername() == (cid, ECHO)
        # What fits a slot, what just does not, and what takes several packets.
        for size in (1, 20, 21, 4096, 65536, 65537, len(data)):
            echo(sock, data[:size])
    with called(cid, socket.SOCK_STREAM) as sock:
        echo(sock, data)


def local_cid() -> int:
    with Path("/dev/vsock").open() as device:
        told = fcntl.ioctl(device, socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, bytes(4))
    return int(struct.unpack("=I", told)[0])


def test_local_cid(cid: int) -> None:
    assert local_cid() == HOST


def test_much_of_it(cid: int) -> None:
    size = 100 * MIB
    block = os.urandom(MIB + 4321)
    with dial(cid, SINK) as sock:
        crc = sent = 0
        while sent < size:
            part = block[: size - sent]
            sock.sendall(part)
            crc = zlib.crc32(part, crc)
            sent += len(part)
        sock.shutdown(socket.SHUT_WR)
        assert struct.unpack("=QI", take(sock, 12)) == (size, crc)
    with dial(cid, SOURCE) as sock:
        sock.sendall(struct.pack("=Q", size))
        crc = got = 0
        while got < size and (part := sock.recv(min(size - got, MIB))):
            crc = zlib.crc32(part, crc)
            got += len(part)
        assert (got, take(sock, 5)) == (size, struct.pack("=I", crc))


def test_many_at_once(cid: int) -> None:
    data = os.urandom(MIB)
    failures: list[str] = []

    def one() -> None:
        try:
            with dial(cid, ECHO) as sock:
                echo(sock, data)
        except (AssertionError, OSError) as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=one) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("who", ["here", "there"])
def test_records(cid: int, who: str) -> None:
    kind = socket.SOCK_SEQPACKET
    with dial(cid, RECORDS, kind) if who == "here" else called(cid, kind) as sock:
        echo_records(sock)
        # The rest of a record that is not wanted is not part of the next one.
        sock.send(b"much of it " * 100)
        sock.send(b"next")
        assert sock.recv(10) == b"much of it"
        assert sock.recv(10) == b"next"


def test_type_must_match(cid: int) -> None:
    assert failing(lambda: dial(cid, ECHO, socket.SOCK_SEQPACKET)) == errno.ECONNRESET
    assert failing(
        lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_DGRAM).bind((HOST, 1234))
    ) in (
        errno.EOPNOTSUPP,
        errno.ENODEV,
    )


def test_nobody_listens(cid: int) -> None:
    assert failing(lambda: dial(cid, NOBODY)) == errno.ECONNRESET


def test_no_such_node(cid: int) -> None:
    for other in (0, cid + 1, HOST + 100, 0xFFFFFF00):
        assert failing(lambda other=other: dial(other, ECHO)) == errno.ENODEV  # type: ignore[misc]


def test_node_without_it(client: Client, start: Starter) -> None:
    start("bare")
    bare = HOST + node_of(client, "bare")
    assert failing(lambda: dial(bare, ECHO)) == errno.ENODEV


def test_full_receiver(cid: int) -> None:
    block = os.urandom(MIB)
    with dial(cid, LAZY) as sock:
        sock.settimeout(1)
        crc = sent = 0
        while True:
            try:
                n = sock.send(block)
            except TimeoutError:
                break
            crc = zlib.crc32(block[:n], crc)
            sent += n
            # What a socket buffers, here and there.
            assert sent < 4 * MIB
        assert sent > 0
        # Others do not suffer.
        with dial(cid, ECHO) as other:
            echo(other, block)
        with dial(cid, GATE):
            sock.settimeout(60)
            for _ in range(8):
                sock.sendall(block)
                crc = zlib.crc32(block, crc)
                sent += len(block)
            sock.shutdown(socket.SHUT_WR)
            assert struct.unpack("=QI", take(sock, 12)) == (sent, crc)


def test_death_of_the_peer(image: Path, cid: int) -> None:
    block = os.urandom(MIB)
    with (
        Client() as client,
        dial(cid, SINK) as sender,
        dial(cid, LAZY) as stuck,
        dial(cid, ECHO) as reader,
        dial(cid, ECHO) as idle,
        dial(cid, RECORDS, socket.SOCK_SEQPACKET) as records,
        called(cid, socket.SOCK_STREAM) as accepted,
    ):
        ends: dict[str, object] = {}

        def watch(name: str, what: Callable[[], object]) -> threading.Thread:
            def body() -> None:
                try:
                    while what():
                        pass
                    ends[name] = "the end"
                except OSError as error:
                    ends[name] = error.errno

            thread = threading.Thread(target=body)
            thread.start()
            return thread

        # Something that was received and not read when the peer dies is not lost.
        idle.sendall(b"last words")
        time.sleep(0.5)
        threads = [
            watch("sender", lambda: sender.send(block)),
            watch("stuck", lambda: stuck.send(block)),
            watch("reader", lambda: reader.recv(1)),
            watch("records", lambda: records.recv(1)),
            watch("accepted", lambda: accepted.recv(1)),
        ]
        time.sleep(1)
        assert ends == {}
        kernel = client.kernel("web")
        client.kernel_kill(kernel.id)
        for thread in threads:
            thread.join(30)
        assert ends == dict.fromkeys(
            ("sender", "stuck", "reader", "records", "accepted"), errno.ECONNRESET
        )
        assert idle.recv(100) == b"last words"
        assert failing(lambda: idle.recv(100)) == errno.ECONNRESET
        assert failing(lambda: idle.send(b"x")) == errno.ECONNRESET
        assert failing(lambda: dial(cid, ECHO)) == errno.ENODEV
        client.kernel_del(kernel.id)

        # It comes again. The sockets of its former life, still open, are none of its business.
        assert start_peer(client, image) == cid
        assert failing(lambda: idle.send(b"x")) == errno.ECONNRESET
        with dial(cid, ECHO) as sock:
            echo(sock, block)


def test_silence_of_the_peer(cid: int) -> None:
    """Given up here for being silent, it has to hear of it: its reader would wait for ever."""
    words = b"vsock_peer: recv: Connection reset by peer"
    with Client() as client, dial(cid, SINK) as sock, memory_of(client.kernel("web")) as memory:
        before = memory[:].count(words)
        sock.sendall(b"x")
        with dial(cid, HOG) as hog:
            hog.sendall(struct.pack("=I", 8))
        assert failing(lambda: sock.recv(1)) == errno.ECONNRESET
        deadline = time.monotonic() + 60
        while memory[:].count(words) == before:
            assert time.monotonic() < deadline
            time.sleep(1)
    with dial(cid, ECHO) as sock:
        echo(sock, b"all is well")


def test_ports_of_the_system(cid: int) -> None:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        sock.bind((socket.VMADDR_CID_ANY, 1000))
    code = (
        "import socket\n"
        "for port in (1023, 1024):\n"
        "    try:\n"
        "        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:\n"
        "            sock.bind((socket.VMADDR_CID_ANY, port))\n"
        "        print(port)\n"
        "    except PermissionError:\n"
        "        print('not', port)\n"
        # Who may not bind may connect.
        "with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:\n"
        f"    sock.connect(({cid}, {ECHO}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        user=pwd.getpwnam("nobody").pw_uid,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["not 1023", "1024"]


def test_module_with_sockets_stays(cid: int) -> None:
    with dial(cid, ECHO) as sock:
        done = subprocess.run(["modprobe", "-r", "popcorn_vsock"], capture_output=True, text=True)
        assert done.returncode != 0
        assert "in use" in done.stderr
        echo(sock, b"still there")


def test_module_comes_and_goes(cid: int) -> None:
    unload()
    subprocess.run(["modprobe", "popcorn_vsock"], check=True)
    with dial(cid, ECHO) as sock:
        echo(sock, b"hello")


def test_one_transport_at_a_time() -> None:
    unload()
    subprocess.run(["modprobe", "vhost_vsock"], check=True)
    try:
        subprocess.run(["dmesg", "-C"], check=True)
        done = subprocess.run(["modprobe", "popcorn_vsock"], capture_output=True, text=True)
        assert done.returncode != 0
        assert "busy" in done.stderr
        log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
        assert "unload vhost_vsock, vmw_vsock_virtio_transport" in log
    finally:
        subprocess.run(["modprobe", "-r", "vhost_vsock"], check=True)
    subprocess.run(["modprobe", "popcorn_vsock"], check=True)


def test_socat(cid: int) -> None:
    text = "through socat\n" * 1000
    done = subprocess.run(
        ["socat", "-t", "20", "-", f"VSOCK-CONNECT:{cid}:{SOCAT}"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, text), done.stderr


def test_loopback_nodes_have_none() -> None:
    with Client() as client:
        release_all(client)
    unload()
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    try:
        subprocess.run(["modprobe", "popcorn", "loopback=3"], check=True)
        subprocess.run(["modprobe", "popcorn_vsock"], check=True)
        assert local_cid() == HOST
        for node in range(3):
            assert failing(lambda node=node: dial(HOST + node, ECHO)) == errno.ENODEV  # type: ignore[misc]
        unload()
    finally:
        subprocess.run(["modprobe", "-r", "popcorn"], check=True)
        subprocess.run(["modprobe", "popcorn_host"], check=True)
        subprocess.run(["modprobe", "popcorn_vsock"], check=True)
