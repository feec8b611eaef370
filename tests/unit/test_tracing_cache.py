# SPDX-License-Identifier: GPL-2.0
"""Compiled programs in files: what is trusted, what is kept, and what becomes of the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tracing_compiled import COMPILED

from popcorn_tracing import cache, compiler, loader, programs
from popcorn_tracing.cache import Cache, digest
from popcorn_tracing.common import CannotCompileError
from popcorn_tracing.programs import Compiled

KEY = {"format": 1, "source": "text", "defines": {"ONLY_NODE": 7}}
OTHER = {**KEY, "defines": {"ONLY_NODE": 8}}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "popcorn"


@pytest.fixture
def kept(directory: Path) -> Cache:
    """A cache with one entry."""
    found = Cache(directory)
    found.put(KEY, COMPILED)
    return found


def only(directory: Path) -> Path:
    (entry,) = directory.iterdir()
    return entry


def rewrite(entry: Path, change: Callable[[dict], object]) -> None:
    """Another content with the right checksum."""
    body = json.loads(entry.read_bytes().partition(b"\n")[2])
    change(body)
    text = json.dumps(body).encode()
    entry.write_bytes(digest(text).encode() + b"\n" + text)


def test_what_was_put_is_found(kept: Cache, directory: Path) -> None:
    assert kept.get(KEY) == COMPILED
    assert kept.get(OTHER) is None
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(only(directory).stat().st_mode) == 0o600


def test_without_a_directory_nothing_is_found(directory: Path) -> None:
    assert Cache(directory).get(KEY) is None
    assert not directory.exists()


def test_whatever_the_umask(directory: Path) -> None:
    before = os.umask(0)
    try:
        Cache(directory).put(KEY, COMPILED)
    finally:
        os.umask(before)
    assert stat.S_IMODE(only(directory).stat().st_mode) == 0o600


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_entry(kept: Cache, directory: Path, share: float) -> None:
    entry = only(directory)
    os.truncate(entry, int(entry.stat().st_size * share))
    assert kept.get(KEY) is None
    kept.put(KEY, COMPILED)
    assert kept.get(KEY) == COMPILED


def test_a_damaged_entry(kept: Cache, directory: Path) -> None:
    good = only(directory).read_bytes()
    for place in range(0, len(good), 7):
        data = bytearray(good)
        data[place] ^= 4
        only(directory).write_bytes(data)
        assert kept.get(KEY) is None, place


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(key=OTHER),
        lambda body: body.pop("key"),
        lambda body: body.update(program=[]),
        lambda body: body.update(program=None),
        lambda body: body["program"].update(probes=[]),
        lambda body: body["program"]["probes"][0].pop("tracepoint"),
        lambda body: body["program"]["probes"][0].update(code="not base 64"),
        lambda body: body["program"]["probes"][0].update(code="AAAA"),
        lambda body: body["program"]["probes"][0].update(maps=7),
        lambda body: body["program"]["maps"][0].update(more=1),
        lambda body: body["program"]["maps"][0].update(value="nothing"),
        lambda body: body["program"]["maps"].pop(0),
    ],
)
def test_a_foreign_entry(kept: Cache, directory: Path, change) -> None:
    rewrite(only(directory), change)
    assert kept.get(KEY) is None


@pytest.mark.parametrize("data", [b"", b"\n", b"[]", b"\xff\n\xff", b"0\n{}", b"[" * 100_000])
def test_no_entry_at_all(kept: Cache, directory: Path, data: bytes) -> None:
    entry = only(directory)
    for text in (data, digest(data).encode() + b"\n" + data):
        entry.write_bytes(text)
        assert kept.get(KEY) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o622])
def test_one_that_others_could_have_written(kept: Cache, directory: Path, mode: int) -> None:
    only(directory).chmod(mode)
    assert kept.get(KEY) is None


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_directory_that_others_can_write_to(kept: Cache, directory: Path, mode: int) -> None:
    directory.chmod(mode)
    assert kept.get(KEY) is None
    kept.put(OTHER, COMPILED)
    kept.drop(KEY)
    assert len(list(directory.iterdir())) == 1
    directory.chmod(0o700)
    assert kept.get(KEY) == COMPILED
    assert kept.get(OTHER) is None


def test_a_directory_that_was_there(directory: Path) -> None:
    """Images and kernels are kept in it, too, by who lets others look at them."""
    directory.mkdir(mode=0o755)
    Cache(directory).put(KEY, COMPILED)
    assert Cache(directory).get(KEY) == COMPILED


@pytest.mark.parametrize("whose", ["directory", "entry"])
def test_another_owner(kept: Cache, directory: Path, monkeypatch, whose: str) -> None:
    real = os.fstat
    wanted = {"directory": stat.S_ISDIR, "entry": stat.S_ISREG}[whose]

    def fstat(fd: int) -> os.stat_result:
        found = real(fd)
        values = list(found)
        if wanted(found.st_mode):
            values[stat.ST_UID] = found.st_uid + 1
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", fstat)
    assert kept.get(KEY) is None


def test_links_are_not_followed(kept: Cache, directory: Path, tmp_path: Path) -> None:
    entry = only(directory)
    moved = entry.rename(tmp_path / "moved")
    entry.symlink_to(moved)
    assert kept.get(KEY) is None
    # What is put replaces the link, not what it leads to.
    kept.put(KEY, dataclasses.replace(COMPILED, maps=COMPILED.maps[::-1]))
    assert not entry.is_symlink() and kept.get(KEY).maps == COMPILED.maps[::-1]
    assert Compiled.from_json(json.loads(moved.read_bytes().partition(b"\n")[2])["program"])
    linked = directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(linked)
    assert kept.get(KEY) is None


def test_what_is_no_file(kept: Cache, directory: Path) -> None:
    entry = only(directory)
    entry.unlink()
    os.mkfifo(entry, 0o600)
    assert kept.get(KEY) is None
    entry.unlink()
    entry.mkdir(0o700)
    assert kept.get(KEY) is None
    kept.put(KEY, COMPILED)
    assert kept.get(KEY) is None


def test_no_more_than_there_is_room_for(kept: Cache, directory: Path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "MAX_BYTES", only(directory).stat().st_size - 1)
    assert kept.get(KEY) is None


@pytest.mark.parametrize("call", ["write", "rename"])
def test_a_write_that_fails_leaves_the_old_one(
    kept: Cache, directory: Path, monkeypatch, call: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "rename":
        monkeypatch.setattr(os, "rename", fails)
    else:
        monkeypatch.setattr(os, "fdopen", fails)
    kept.put(KEY, dataclasses.replace(COMPILED, maps=COMPILED.maps[::-1]))
    monkeypatch.undo()
    assert kept.get(KEY) == COMPILED
    assert len(list(directory.iterdir())) == 1


def test_interrupted_it_leaves_nothing(directory: Path, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Cache(directory).put(KEY, COMPILED)
    assert list(directory.iterdir()) == []


def test_nowhere_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "no/where", tmp_path / "file/x"):
        Cache(path).put(KEY, COMPILED)
        assert Cache(path).get(KEY) is None


def test_those_used_last_are_kept(directory: Path) -> None:
    found = Cache(directory, most=3)
    keys = [{**KEY, "source": str(n)} for n in range(5)]

    def age() -> None:
        for path in directory.iterdir():
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))

    for key in keys[:3]:
        found.put(key, COMPILED)
        age()
    assert found.get(keys[0])
    for key in keys[3:]:
        age()
        found.put(key, COMPILED)
    assert [key["source"] for key in keys if found.get(key)] == ["0", "3", "4"]


def test_what_an_interrupted_write_left_goes_away(kept: Cache, directory: Path) -> None:
    old, new, other = (directory / name for name in ("a.1.partial", "b.2.partial", "README"))
    for path in (old, new, other):
        path.touch()
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    kept.put(OTHER, COMPILED)
    assert not old.exists() and new.exists() and other.exists()


def test_dropped_it_is_gone(kept: Cache, directory: Path) -> None:
    kept.drop(KEY)
    kept.drop(KEY)
    assert list(directory.iterdir()) == []


# from the source


class Machine:
    """What compiles and what loads, and how often; the kernel may refuse."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.compiled = 0
        self.refuses = 0

    def built(self, source: Path, defines: dict) -> Compiled:
        self.compiled += 1
        return COMPILED

    @contextlib.contextmanager
    def loaded(self, compiled: Compiled, values: Mapping[str, int]) -> Iterator[Compiled]:
        self.values = values
        if self.refuses:
            self.refuses -= 1
            error = programs.RefusedError(errno.EINVAL, "Invalid argument")
            error.log = "\n".join(f"line {n}" for n in range(9))
            raise error
        yield compiled

    def run(self, cached: bool = True, khz: int = 7, **defines: int) -> None:
        values = {"tsc_khz": khz}
        with loader.loaded(
            self.source, defines, ["popcorn_poll"], values, cached=cached, cache=self.cache
        ) as found:
            assert found is not None


@pytest.fixture
def machine(directory: Path, tmp_path: Path, monkeypatch) -> Machine:
    found = Machine(Cache(directory))
    monkeypatch.setattr(compiler, "built", found.built)
    monkeypatch.setattr(compiler, "version", lambda: "1")
    monkeypatch.setattr(programs, "loaded", found.loaded)
    monkeypatch.setattr(loader, "tracefs_events", lambda: tmp_path / "events")
    found.format = tmp_path / "events/popcorn/popcorn_poll/format"
    found.format.parent.mkdir(parents=True)
    found.format.write_text("ID: 1\nformat:\n\tfield:u32 node;\toffset:8;\n")
    found.source = tmp_path / "tool.bpf.c"
    found.source.write_text("int x;\n")
    return found


def test_the_second_start_compiles_nothing(machine: Machine) -> None:
    machine.run(ONLY_NODE=1)
    machine.run(ONLY_NODE=1)
    assert machine.compiled == 1


def test_what_is_not_compiled_in_may_differ(machine: Machine) -> None:
    machine.run(khz=7)
    assert machine.values == {"tsc_khz": 7}
    machine.run(khz=8)
    assert machine.compiled == 1
    assert machine.values == {"tsc_khz": 8}


def test_without_the_cache_it_is_neither_read_nor_written(
    machine: Machine, directory: Path
) -> None:
    machine.run(cached=False)
    assert not directory.exists()
    machine.run()
    machine.run(cached=False)
    assert machine.compiled == 3


def test_another_number_of_a_tracepoint_changes_nothing(machine: Machine) -> None:
    machine.run()
    machine.format.write_text(machine.format.read_text().replace("ID: 1", "ID: 2"))
    machine.run()
    assert machine.compiled == 1


def change_fields(machine: Machine, monkeypatch) -> None:
    machine.format.write_text(machine.format.read_text().replace("u32", "u64"))


def change_source(machine: Machine, monkeypatch) -> None:
    machine.source.write_text("int y;\n")


def add_header(machine: Machine, monkeypatch) -> None:
    machine.source.with_name("more.bpf.h").touch()


def change_bcc(machine: Machine, monkeypatch) -> None:
    monkeypatch.setattr(compiler, "version", lambda: "2")


def change_format(machine: Machine, monkeypatch) -> None:
    monkeypatch.setattr(loader, "FORMAT", loader.FORMAT + 1)


def change_kernel(part: str) -> Callable[..., None]:
    def change(machine: Machine, monkeypatch) -> None:
        here = os.uname()
        values = [getattr(here, name) for name in ("sysname", "nodename", "release", "version")]
        named = dict(zip(("sysname", "nodename", "release", "version"), values, strict=True))
        named["machine"] = here.machine
        named[part] += "x"
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(named.values()))

    return change


@pytest.mark.parametrize(
    "change",
    [change_fields, change_source, add_header, change_bcc, change_format,
     *map(change_kernel, ("release", "version", "machine"))],
)  # fmt: skip
def test_all_that_it_depends_on_is_in_the_key(machine: Machine, monkeypatch, change) -> None:
    machine.run()
    change(machine, monkeypatch)
    machine.run()
    assert machine.compiled == 2


def test_another_define_is_another_program(machine: Machine) -> None:
    machine.run(ONLY_NODE=1)
    machine.run(ONLY_NODE=2)
    machine.run(ONLY_NODE=1)
    assert machine.compiled == 2


def test_what_the_kernel_refuses_is_compiled_anew(machine: Machine, directory: Path) -> None:
    machine.run()
    entry = only(directory)
    rewrite(entry, lambda body: body["program"]["maps"][0].update(entries=99))
    machine.refuses = 1
    machine.run()
    assert machine.compiled == 2
    assert machine.cache.get(loader.key(machine.source, {}, ["popcorn_poll"])) == COMPILED


def test_what_the_kernel_refuses_of_the_compiler_is_not_kept(
    machine: Machine, directory: Path
) -> None:
    machine.refuses = 1
    with pytest.raises(CannotCompileError, match=r"tool\.bpf\.c: Invalid argument.*line 8"):
        machine.run()
    assert not directory.exists()
