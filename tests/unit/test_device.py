# SPDX-License-Identifier: GPL-2.0
"""Writing through a mapping, with a file in place of memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from popcorn.device import CHUNK_BYTES, HostDevice
from popcorn.errors import KernelRefusedError, ModuleMissingError


@dataclass
class Piece:
    name: str
    start: int
    data: bytes


@pytest.fixture
def memory(tmp_path):
    path = tmp_path / "memory"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path


def test_pieces_land_where_they_belong(memory):
    pieces = [
        Piece("odd", 0x1003, b"abc"),
        Piece("over a page", 0x2FFE, b"0123"),
        Piece("page", 0x5000, b"\xff" * 4096),
        Piece("nothing", 0x7000, b""),
    ]
    assert HostDevice(memory).write(pieces) == 3 + 4 + 4096
    found = memory.read_bytes()
    for piece in pieces:
        assert found[piece.start : piece.start + len(piece.data)] == piece.data
    assert len(found) - found.count(0) == 3 + 4 + 4096, "and nothing else is touched"


def test_progress_and_chunks(memory):
    data = os.urandom(CHUNK_BYTES * 2 + 5)
    seen = []
    HostDevice(memory).write([Piece("large", 0x1001, data)], seen.append)
    assert seen == [CHUNK_BYTES, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 5]
    assert memory.read_bytes()[0x1001:][: len(data)] == data


def test_an_interrupted_write_leaves_no_mapping(memory):
    def interrupt(written):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        HostDevice(memory).write([Piece("large", 0, bytes(CHUNK_BYTES * 2))], interrupt)
    assert str(memory) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_no_device(tmp_path):
    with pytest.raises(ModuleMissingError, match="popcorn_host is not loaded"):
        HostDevice(tmp_path / "missing").write([])


def test_a_device_that_cannot_be_mapped():
    with pytest.raises(KernelRefusedError, match="cannot write page at 0x1000"):
        HostDevice(Path("/dev/null")).write([Piece("page", 0x1000, b"x")])
