# SPDX-License-Identifier: GPL-2.0
"""The other side of the AF_VSOCK tests, vsock_peer.c in a secondary, and how to talk to it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from guest import quiet
from popcorn import Client
from popcorn.image import build_image, cpio, find_busybox, find_modules
from popcorn.plan import Spec
from popcorn.start import start_kernel

HOST = socket.VMADDR_CID_HOST
MIB = 1 << 20
# As in vsock_peer.c.
ECHO, RECORDS, SINK, SOURCE, LAZY, GATE, CALL, HOG = range(5000, 5008)
SOCAT = 6000

RUN = f"""#!/bin/sh
[ ! -e /usr/bin/socat ] || socat VSOCK-LISTEN:{SOCAT},fork EXEC:cat &
exec vsock_peer
""".encode()
RECORD_SIZES = (1, 20, 21, 4096, 65535, 65536, 65537, 200_000)


def make_image(
    path: Path,
    release: str | None = None,
    programs: tuple[str, ...] = (),
    modules: tuple[str, ...] = (),
    run: bytes = RUN,
) -> Path:
    """Write an initramfs with AF_VSOCK, vsock_peer, `programs` with their libraries, and `modules`;
    `run` is the script that starts it all."""
    release = release or os.uname().release
    peer = path.with_suffix(".peer")
    source = Path(__file__).with_name("vsock_peer.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", peer, source], check=True)
    files = [cpio.file("bin/vsock_peer", peer.read_bytes(), 0o755)]
    for name in sorted({part for program in programs for part in parts(program)}):
        files.append(cpio.file(name.lstrip("/"), Path(name).read_bytes(), 0o755))
    busybox = find_busybox()
    data = build_image(
        "shell",
        release,
        find_modules(release, names=("popcorn", "popcorn_vsock", *modules)),
        busybox.data,
        run,
        applets=busybox.applets,
        extra=files,
        level=1,
    )
    path.write_bytes(data)
    return path


def parts(program: str) -> list[str]:
    """A program, its loader and its libraries."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [program, *re.findall(r"(/\S+) \(0x", listed)]


def unload(seconds: float = 20) -> None:
    """Unload the module, once those sockets are gone that were closed just now."""
    deadline = time.monotonic() + seconds
    while True:
        done = subprocess.run(["modprobe", "-r", "popcorn_vsock"], capture_output=True, text=True)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)


def start_peer(client: Client, image: Path, kernel: str | None = None) -> int:
    """Start "web" and return its CID once the services are there."""
    spec = Spec(
        name="web",
        cpus=(2,),
        memory_bytes=256 * MIB,
        initrd=image,
        kernel=kernel,
        timeout=120,
    )
    start_kernel(client, spec, progress=quiet)
    cid = HOST + node_of(client, "web")
    deadline = time.monotonic() + 60
    while True:
        try:
            # The last one that vsock_peer makes.
            dial(cid, HOG).close()
            return cid
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def node_of(client: Client, name: str) -> int:
    """The node that a kernel is."""
    return next(node.id for node in client.nodes() if node.name == name)


def dial(cid: int, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A connection."""
    sock = socket.socket(socket.AF_VSOCK, kind)
    try:
        sock.settimeout(60)
        sock.connect((cid, port))
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def called(cid: int, kind: int) -> Iterator[socket.socket]:
    """A connection that the other kernel makes, and gives back on what comes."""
    with socket.socket(socket.AF_VSOCK, kind) as listener, dial(cid, CALL) as control:
        listener.settimeout(60)
        listener.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        listener.listen()
        control.sendall(struct.pack("=II", kind, listener.getsockname()[1]))
        sock, address = listener.accept()
        with sock:
            assert address[0] == cid
            sock.settimeout(60)
            yield sock


def take(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or what there is before the end."""
    data = bytearray()
    while len(data) < size and (part := sock.recv(min(size - len(data), MIB))):
        data += part
    return bytes(data)


def echo(sock: socket.socket, data: bytes) -> None:
    sender = threading.Thread(target=sock.sendall, args=(data,))
    sender.start()
    assert take(sock, len(data)) == data
    sender.join()


def echo_records(sock: socket.socket) -> None:
    """Records of many sizes come back as they were, one by one and several under way."""
    records = [os.urandom(size) for size in RECORD_SIZES]
    for record in records:
        assert sock.send(record) == len(record)
        assert sock.recv(MIB) == record
    for record in records[:5]:
        sock.send(record)
    assert [sock.recv(MIB) for _ in range(5)] == records[:5]
