# SPDX-License-Identifier: GPL-2.0
"""What the tests of links share: namespaces, a shell in the other kernel, files that travel."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

SHELL_PORT = 2323
WEB_PORT = 80

#: What a secondary runs for these tests: a shell for whoever connects, and a web server.
SERVE = f"""
mkdir -p /srv
httpd -p {WEB_PORT} -h /srv
nc -ll -p {SHELL_PORT} -e /bin/sh
"""


def sh(*command: str, check: bool = True, timeout: float = 120) -> str:
    """Run a program; its output, both streams."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=timeout,
    )  # fmt: skip
    if check:
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def in_netns(namespace: str, *command: str, **options: Any) -> str:
    """Likewise, in a network namespace."""
    return sh("ip", "netns", "exec", namespace, *command, **options)


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 30) -> float:
    """Wait for a condition; how long that took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - start


def counters(interface: str, namespace: str | None = None) -> dict[str, int]:
    """`ethtool -S` of an interface."""
    command = ["ethtool", "-S", interface]
    text = sh(*command) if namespace is None else in_netns(namespace, *command)
    pairs = (line.split(":") for line in text.splitlines()[1:])
    return {name.strip(): int(value) for name, value in pairs}


#: Counters that say that a frame got lost or was rejected. What an interface sends while it has no
#: peer yet is not among them.
LOST = (
    "tx_peer_gone", "tx_too_long", "tx_bad_offload", "rx_no_memory", "rx_too_long",
    "rx_bad_message", "rx_bad_length", "rx_bad_offload", "rx_bad_hello",
)  # fmt: skip


def lost(interface: str, namespace: str | None = None) -> dict[str, int]:
    """Those of them that are not 0."""
    found = counters(interface, namespace)
    return {name: found[name] for name in LOST if found[name]}


def answers(address: str, namespace: str | None = None, *options: str) -> bool:
    """Whether three pings out of three are answered."""
    command = ["ping", "-c", "3", "-i", "0.2", "-W", "5", *options, address]
    out = (
        sh(*command, check=False)
        if namespace is None
        else in_netns(namespace, *command, check=False)
    )
    return " 0% packet loss" in out


def remote(address: str, command: str, timeout: float = 60) -> str:
    """Run a command in the kernel at that address, which runs SERVE."""
    with socket.create_connection((address, SHELL_PORT), timeout=timeout) as connection:
        connection.sendall(f'{{ {command}\n}} 2>&1; echo "status=$?"; exit\n'.encode())
        out = b""
        while not out.rstrip().rpartition(b"\n")[2].startswith(b"status="):
            more = connection.recv(65536)
            if not more:
                break
            out += more
    text, _, status = out.decode("utf-8", "replace").rstrip().rpartition("status=")
    assert status == "0", f"{command}: {out!r}"
    return text


def wait_for_shell(address: str, seconds: float = 60) -> None:
    """Until the other kernel's shell answers."""

    def there() -> bool:
        with contextlib.suppress(OSError, AssertionError):
            return remote(address, "echo yes", timeout=5).strip() == "yes"
        return False

    wait_until(f"a shell at {address}", there, seconds)


@contextlib.contextmanager
def web_server(directory: Path, address: str, port: int) -> Iterator[None]:
    """Serve a directory here."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, port), partial(Quiet, directory=directory))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def random_file(path: Path, mib: int) -> str:
    """A file of random bytes; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for block in random_blocks(mib):
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


def random_blocks(mib: int) -> Iterator[bytes]:
    """That many blocks of 1 MiB, no two alike, that do not compress."""
    content = os.urandom(1 << 20)
    for index in range(mib):
        yield index.to_bytes(4, "big") + content[4:]


def sha256(path: Path) -> str:
    """Of a file, however long."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(directory: Path, program: str) -> Path:
    """An archive, to be unpacked at the top of another kernel's image, of a program of this system
    and its libraries."""
    path = sh("sh", "-c", f"command -v {program}").strip()
    libraries = re.findall(r"(/\S+) \(0x", sh("ldd", path))
    archive = directory / f"{program}.tar"
    sh("tar", "-C", "/", "-chf", str(archive), *(name[1:] for name in (path, *libraries)))
    return archive


def deliver(there: str, here: str, directory: Path, program: str) -> None:
    """Put it into the kernel at an address, which runs SERVE; `here` is this one's address."""
    archive = pack(directory, program)
    with web_server(directory, here, 8000):
        remote(there, f"wget -q -O - http://{here}:8000/{archive.name} | tar x -C /", 120)


def deliver_by(shell: Callable[[str], list[str]], directory: Path, program: str) -> None:
    """The same, through what runs a shell command there with our standard input."""
    with pack(directory, program).open("rb") as archive:
        done = subprocess.run(shell("tar x -C /"), stdin=archive, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr


def link_of(namespace: str, interface: str) -> dict[str, Any]:
    """`ip -details -json link show`."""
    found = json.loads(in_netns(namespace, "ip", "-d", "-j", "link", "show", interface))
    shown: dict[str, Any] = found[0]
    return shown


def carrier(interface: str) -> bool:
    """Whether there is one; the interface is up."""
    return Path(f"/sys/class/net/{interface}/carrier").read_text().strip() == "1"
