# SPDX-License-Identifier: GPL-2.0
"""The cpio writer and reader, also against cpio(1)."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from popcorn.errors import ImageError
from popcorn.image import cpio

ENTRIES = [
    cpio.directory("dev"),
    cpio.device("dev/null", 1, 3, 0o666),
    cpio.directory("etc", 0o700),
    *(cpio.file(f"etc/{'x' * n}", b"y" * n) for n in range(1, 9)),
    cpio.file("etc/empty", b""),
    cpio.file("etc/run", b"#!/bin/sh\n", 0o755),
    cpio.symlink("etc/link", "run"),
]


def test_round_trip() -> None:
    assert list(cpio.read(cpio.write(ENTRIES))) == ENTRIES


def test_same_bytes() -> None:
    assert cpio.write(ENTRIES) == cpio.write(list(ENTRIES))
    assert len(cpio.write(ENTRIES)) % 512 == 0


def test_kinds() -> None:
    kinds = [stat.S_IFMT(entry.mode) for entry in ENTRIES]
    assert set(kinds) == {stat.S_IFDIR, stat.S_IFCHR, stat.S_IFREG, stat.S_IFLNK}


def test_archives_on_end() -> None:
    first, second = cpio.write(ENTRIES[:2]), cpio.write(ENTRIES[2:])
    assert list(cpio.read(first + bytes(1024) + second)) == ENTRIES
    assert list(cpio.read(b"")) == []


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_lists_it() -> None:
    done = subprocess.run(
        ["cpio", "-itvn"], input=cpio.write(ENTRIES), capture_output=True, check=True
    )
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(ENTRIES)
    assert lines[0].startswith("drwxr-xr-x   2 0 ")
    assert lines[1].startswith("crw-rw-rw-") and "1,   3" in lines[1]
    assert lines[-1].endswith("etc/link -> run")


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
def test_busybox_unpacks_it(tmp_path: Path) -> None:
    files = [entry for entry in ENTRIES if not stat.S_ISCHR(entry.mode)]
    subprocess.run(["busybox", "cpio", "-i"], input=cpio.write(files), cwd=tmp_path, check=True)
    for entry in files:
        path = tmp_path / entry.name
        assert stat.S_IFMT(path.lstat().st_mode) == stat.S_IFMT(entry.mode)
        if stat.S_ISREG(entry.mode):
            assert path.read_bytes() == entry.data
    assert (tmp_path / "etc/link").readlink() == Path("run")


def test_every_cut_is_an_error_or_ends_early() -> None:
    data = cpio.write(ENTRIES)
    end = len(data.rstrip(b"\0")) + 1
    for length in range(1, end):
        with pytest.raises(ImageError):
            list(cpio.read(data[:length], "image"))


@pytest.mark.parametrize("offset", [0, 5, 54, 100])
def test_damage(offset: int) -> None:
    data = bytearray(cpio.write(ENTRIES))
    data[offset] = ord("x")
    with pytest.raises(ImageError) as caught:
        list(cpio.read(bytes(data), "image"))
    assert caught.value.message.startswith("image: ")
    assert caught.value.hint


def test_no_name() -> None:
    data = bytearray(cpio.write(ENTRIES))
    data[94:102] = b"0" * 8
    with pytest.raises(ImageError):
        list(cpio.read(bytes(data)))


@pytest.mark.parametrize(
    "name", ["", "/etc", "etc/", "a//b", "../x", "a/../b", "./a", "TRAILER!!!", "a\0b", "x" * 5000]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ImageError):
        cpio.write([cpio.file(name, b"")])


def test_twice() -> None:
    with pytest.raises(ImageError, match="etc/run is there twice"):
        cpio.write([*ENTRIES, cpio.file("etc/run", b"")])


def test_parents() -> None:
    entries = cpio.with_parents([cpio.file("a/b/c", b""), cpio.file("a/d", b"")])
    assert [entry.name for entry in entries] == ["a", "a/b", "a/b/c", "a/d"]
    given = [cpio.directory("a", 0o700), cpio.file("a/b", b"")]
    assert cpio.with_parents(given) == given
    with pytest.raises(ImageError, match="a comes after a/b"):
        cpio.with_parents(reversed(given))
