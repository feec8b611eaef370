# SPDX-License-Identifier: GPL-2.0
"""AF_VSOCK between the kernel that the lab booted and every other one that it has.

The protocol is the kernel's own, and its versions differ.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from popcorn import Client
from vsock_guest import (
    ECHO,
    MIB,
    RECORDS,
    called,
    dial,
    echo,
    echo_records,
    make_image,
    start_peer,
    unload,
)

SECONDARIES = dict(
    pair.split("=", 1) for pair in os.environ.get("LAB_SECONDARIES", "").split() if "=" in pair
) or {"own": platform.release()}


@pytest.fixture(autouse=True)
def module(client: Client) -> Iterator[None]:
    subprocess.run(["modprobe", "popcorn_vsock"], check=True)
    yield
    for kernel in client.kernels():
        client.kernel_kill(kernel.id)
        client.kernel_del(kernel.id)
    unload()


@pytest.mark.parametrize("kernel", SECONDARIES)
def test_streams_and_records_both_ways(client: Client, tmp_path: Path, kernel: str) -> None:
    release = SECONDARIES[kernel]
    cid = start_peer(client, make_image(tmp_path / "vsock.img", release), release)
    data = os.urandom(8 * MIB)
    with dial(cid, ECHO) as sock:
        echo(sock, data)
    with called(cid, socket.SOCK_STREAM) as sock:
        echo(sock, data)
    with dial(cid, RECORDS, socket.SOCK_SEQPACKET) as sock:
        echo_records(sock)
    with called(cid, socket.SOCK_SEQPACKET) as sock:
        echo_records(sock)
