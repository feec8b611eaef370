# SPDX-License-Identifier: GPL-2.0
"""BPF programs from compiled to loaded, without a kernel that loads them; buffers; bcc's part."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import json
import mmap
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tracing_compiled import CODE, COMPILED, PAIR, SUM, U32, U64, instruction

from popcorn.errors import PopcornError
from popcorn_tracing import bpf, compiler, programs, rings
from popcorn_tracing.layouts import layout
from popcorn_tracing.programs import Compiled, Map, Probe, Table

# layouts


def test_a_structure_has_its_fields_where_the_compiler_has_them() -> None:
    kind = layout(SUM)
    assert ctypes.sizeof(kind) == 8 + 3 * 8 + 4
    cell = kind.from_buffer_copy(struct.pack("<QQQQI", 1, 2, 3, 4, 5))
    assert (cell.count, list(cell.slots), cell.last) == (1, [2, 3, 4], 5)
    # One in another, and several of them; not packed, there is room between the fields.
    outer = layout(["outer", [["one", U32], ["pairs", PAIR, [2]], ["whole", SUM]], "struct"])
    assert outer.pairs.offset == 4 and ctypes.sizeof(outer) == 4 + 16 + 36
    assert ctypes.sizeof(layout(["gap", [["a", U32], ["b", U64]], "struct"])) == 16


@pytest.mark.parametrize(
    "description",
    ["float", 7, None, ["x"], ["x", [], "union"], ["x", [["a"]], "struct"],
     ["x", [["a", U32, [0]]], "struct"], ["x", [["a", "nothing"]], "struct"]],
)  # fmt: skip
def test_what_is_no_layout(description: object) -> None:
    with pytest.raises(ValueError, match="no layout"):
        layout(description)


# compiled programs


def test_maps_are_where_instructions_name_them() -> None:
    # A constant is none, nor is the second half of an instruction.
    assert programs.references(CODE) == {0: 77, 32: 78}
    with pytest.raises(ValueError, match="no map"):
        programs.references(instruction(0x18, 2, 77) + instruction(0))


def test_linked_code_has_the_numbers_of_the_maps() -> None:
    (probe,) = COMPILED.probes
    linked = probe.linked({"sums": 5, "events": 6})
    assert programs.references(linked) == {0: 5, 32: 6}
    differ = [n for n, (a, b) in enumerate(zip(CODE, linked, strict=True)) if a != b]
    assert differ == [4, 36]


def test_through_json_it_is_the_same() -> None:
    assert Compiled.from_json(json.loads(json.dumps(COMPILED.to_json()))) == COMPILED


@pytest.mark.parametrize(
    "make",
    [
        lambda: Probe("popcorn_poll", b"", {}),
        lambda: Probe("popcorn_poll", CODE, {0: "sums"}),
        lambda: Probe("popcorn_poll", CODE, {0: "sums", 16: "events", 32: "events"}),
        lambda: Compiled(COMPILED.maps[1:], COMPILED.probes),
        lambda: Compiled(COMPILED.maps, ()),
        lambda: dataclasses.replace(COMPILED.maps[0], value_bytes=40),
        lambda: dataclasses.replace(COMPILED.maps[0], key=U32),
    ],
)
def test_what_does_not_fit_together(make) -> None:
    with pytest.raises(ValueError):
        make()


# loaded ones


class Kernel:
    """Stands in for bpf(2): file descriptors that are open, and what was done with them."""

    def __init__(self) -> None:
        self.made: list[tuple] = []
        self.linked: list[bytes] = []
        self.attached: list[str] = []
        self.given: list[tuple[int, bytes, bytes]] = []
        self.open: set[int] = set()
        self.refuses = ""

    def _new(self, what: str) -> int:
        if what == self.refuses:
            raise OSError(errno.EINVAL, "Invalid argument")
        fd = os.open(os.devnull, os.O_RDONLY)
        self.open.add(fd)
        return fd

    def create_map(self, *about: object) -> int:
        self.made.append(about)
        return self._new("map")

    def update(self, fd: int, key: bytes, value: bytes) -> None:
        assert not self.attached
        self.given.append((fd, key, value))

    def load(self, name: str, code: bytes) -> int:
        self.linked.append(code)
        return self._new("load")

    def verifier_log(self, name: str, code: bytes) -> str:
        return f"{name} reads what is not there"

    def attach(self, tracepoint: str, program: int) -> int:
        self.attached.append(tracepoint)
        return self._new("attach")

    def left(self) -> set[int]:
        """Those that nobody closed."""
        return {fd for fd in self.open if Path(f"/proc/self/fd/{fd}").exists()}


class NoRing:
    def __init__(self, fd: int, size: int) -> None:
        self.size = size

    def __enter__(self) -> NoRing:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    fake = Kernel()
    for name in ("create_map", "update", "load", "verifier_log", "attach"):
        monkeypatch.setattr(bpf, name, getattr(fake, name))
    monkeypatch.setattr(programs, "Ring", NoRing)
    return fake


def test_loaded_it_is_attached_and_then_gone(kernel: Kernel) -> None:
    with programs.loaded(COMPILED, {}) as found:
        assert kernel.made == [
            ("sums", 5, 8, 36, 16, 0), ("counters", 6, 4, 8, 2, 0), ("events", 27, 0, 0, 8192, 0),
        ]  # fmt: skip
        sums, _, events = sorted(kernel.open)[:3]
        assert programs.references(kernel.linked[0]) == {0: sums, 32: events}
        assert kernel.attached == ["popcorn_poll"]
        assert isinstance(found["sums"], Table) and found.ring("events").size == 8192
        assert len(kernel.left()) == 5
        found.detach()
        assert len(kernel.left()) == 4
    assert kernel.left() == set()


def test_values_are_there_before_the_first_event(kernel: Kernel) -> None:
    rate = Map("rate", 2, 4, 8, 1, 0, U32, U64)
    with programs.loaded(Compiled((*COMPILED.maps, rate), COMPILED.probes), {"rate": 7}):
        ((fd, key, value),) = kernel.given
        assert fd == sorted(kernel.open)[3]
        assert (key, value) == (struct.pack("=I", 0), struct.pack("=Q", 7))
        assert kernel.attached


@pytest.mark.parametrize("what", ["map", "load", "attach"])
def test_refused_nothing_is_left(kernel: Kernel, what: str) -> None:
    kernel.refuses = what
    with pytest.raises(OSError, match="Invalid argument") as caught, programs.loaded(COMPILED, {}):
        pass
    assert kernel.left() == set()
    if what == "load":
        assert caught.value.log == "popcorn_poll reads what is not there"


def test_tables(monkeypatch) -> None:
    """Two CPUs, whose values are at multiples of eight bytes."""
    cells = [struct.pack("<QQQQI4x", n, 0, 0, 7, n + 1) for n in (5, 6)]
    keys = [struct.pack("<II", n, 9) for n in (1, 2)]
    after = {None: keys[0], keys[0]: keys[1], keys[1]: None}
    monkeypatch.setattr(bpf, "next_key", lambda fd, key, size: after[key])
    monkeypatch.setattr(bpf, "lookup", lambda fd, key, size: b"".join(cells)[:size])
    found = list(Table(3, COMPILED.maps[0], 2).items())
    assert [(key.src, key.dst) for key, _ in found] == [(1, 9), (2, 9)]
    assert [(cell.count, cell.slots[2], cell.last) for cell in found[0][1]] == [
        (5, 7, 6),
        (6, 7, 7),
    ]
    asked = []
    monkeypatch.setattr(
        bpf, "lookup", lambda fd, key, size: asked.append((key, size)) or struct.pack("<QQ", 3, 4)
    )
    assert Table(3, COMPILED.maps[1], 2).sum(1) == 7
    assert asked == [(struct.pack("<I", 1), 16)]
    plain = Map("rung", 1, 8, 8, 4, 0, PAIR, U64)
    monkeypatch.setattr(bpf, "lookup", lambda fd, key, size: b"\1".ljust(size, b"\0"))
    assert [cell for _, cell in Table(3, plain, 2).items()] == [[1], [1]]


def test_misses_come_from_the_programs(tmp_path: Path) -> None:
    for fd, misses in ((5, 3), (6, 4)):
        (tmp_path / str(fd)).write_text(f"prog_type:\t17\nrecursion_misses:\t{misses}\n")
    assert programs.Programs({}, {}, (5, 6)).missed(tmp_path) == 7


def test_numbers_of_cpus(tmp_path: Path) -> None:
    (tmp_path / "possible").write_text("0-2,5\n")
    assert programs.cpu_numbers(tmp_path / "possible") == (0, 1, 2, 5)


def test_what_the_kernel_is_told(monkeypatch) -> None:
    """The places in union bpf_attr."""
    told = []

    def syscall(number: int, command: int, buffer: ctypes.Array, size: int) -> int:
        told.append((command, ctypes.string_at(buffer, size)))
        return 9

    monkeypatch.setattr(bpf, "_syscall", syscall)
    assert bpf.create_map("a_name_that_is_longer", 5, 8, 36, 16, 1) == 9
    assert told.pop() == (
        0, struct.pack("<7I", 5, 8, 36, 16, 1, 0, 0) + b"a_name_that_is_\0"
    )  # fmt: skip
    bpf.load("probe", CODE)
    command, attributes = told.pop()
    kind, count, _, _, level, _, log = struct.unpack_from("<IIQQIIQ", attributes)
    assert (command, kind, count, level, log) == (5, 17, len(CODE) // 8, 0, 0)
    assert attributes[48:].rstrip(b"\0") == b"probe"
    bpf.attach("popcorn_poll", 3)
    assert told[0][0] == 17 and struct.unpack_from("<I", told[0][1], 8) == (3,)


def test_what_the_kernel_answers(monkeypatch) -> None:
    answers = [errno.EINTR, errno.EAGAIN, errno.EPERM]

    def syscall(*_: object) -> int:
        ctypes.set_errno(answers.pop(0))
        return -1

    monkeypatch.setattr(bpf, "_syscall", syscall)
    with pytest.raises(PermissionError):
        bpf.load("probe", CODE)
    assert not answers
    answers.append(errno.ENOENT)
    assert bpf.next_key(3, None, 8) is None


# buffers

SIZE = mmap.PAGESIZE


class Buffer:
    """The memory of a buffer, and its end that is in the kernel."""

    def __init__(self, begin: int = 0) -> None:
        self.consumed = bytearray(mmap.PAGESIZE)
        self.produced = bytearray(mmap.PAGESIZE + 2 * SIZE)
        struct.pack_into("L", self.consumed, 0, begin)
        self.end = begin
        self.records = rings.Records(memoryview(self.consumed), memoryview(self.produced), SIZE)

    def put(self, data: bytes, flags: int = 0) -> None:
        whole = struct.pack("<II", len(data) | flags, 0) + data
        for index, byte in enumerate(whole):
            # The second half is the same memory as the first.
            place = (self.end + index) % SIZE
            for half in (0, SIZE):
                self.produced[mmap.PAGESIZE + half + place] = byte
        self.end += -(-len(whole) // 8) * 8
        struct.pack_into("L", self.produced, 0, self.end)

    @property
    def taken(self) -> int:
        return struct.unpack_from("L", self.consumed)[0]


@pytest.mark.parametrize("begin", [0, SIZE - 16, 7 * SIZE - 8])
def test_records_come_in_order(begin: int) -> None:
    buffer = Buffer(begin)
    for data in (b"one", b"", b"three and more", b"12345678"):
        buffer.put(data)
    assert list(buffer.records.take()) == [b"one", b"", b"three and more", b"12345678"]
    assert buffer.taken == buffer.end
    assert list(buffer.records.take()) == []


def test_what_is_not_finished_is_not_passed() -> None:
    buffer = Buffer()
    buffer.put(b"one")
    buffer.put(b"thrown away", rings.DISCARDED)
    buffer.put(b"two")
    at = buffer.end
    buffer.put(b"unfinished", rings.BUSY)
    buffer.put(b"four")
    assert list(buffer.records.take()) == [b"one", b"two"]
    assert buffer.taken == at
    for half in (0, SIZE):
        struct.pack_into("<I", buffer.produced, mmap.PAGESIZE + half + at, len(b"unfinished"))
    assert list(buffer.records.take()) == [b"unfinished", b"four"]


def test_what_comes_meanwhile_is_for_the_next_time() -> None:
    """Else a reader that is slower than the records would never get to anything else."""
    buffer = Buffer()
    buffer.put(b"one")
    found = []
    for data in buffer.records.take():
        found.append(data)
        buffer.put(b"more")
    assert found == [b"one"]


@pytest.mark.parametrize(("size", "pages"), [(4096, 1), (4097, 2), (1 << 30, 1 << 18)])
def test_pages_are_a_power_of_two(size: int, pages: int) -> None:
    assert rings.ring_pages(size) == pages


# bcc


class Lib:
    """libbcc: two maps and a program that refers to both."""

    tables = ((b"sums", 77, 5, 8, 36, 16), (b"events", 78, 27, 0, 0, 8192))

    def __init__(self, code: bytes = CODE) -> None:
        self.code = code
        self.bpf_table_name = lambda module, index: self.tables[index][0]

    def bpf_num_tables(self, module: int) -> int:
        return len(self.tables)

    def bpf_num_functions(self, module: int) -> int:
        return 1

    def bpf_function_name(self, module: int, index: int) -> bytes:
        return b"probe_popcorn_poll"

    def bpf_table_fd(self, module: int, name: bytes) -> int:
        return next(table[1] for table in self.tables if table[0] == name)

    def bpf_table_flags_id(self, module: int, index: int) -> int:
        return 0

    def bpf_table_key_desc(self, module: int, name: bytes) -> bytes:
        return json.dumps(PAIR).encode()

    def bpf_table_leaf_desc(self, module: int, name: bytes) -> bytes:
        return json.dumps(SUM).encode()

    def __getattr__(self, name: str):
        words = ("type", "key_size", "leaf_size", "max_entries")
        column = words.index(name.removeprefix("bpf_table_").removesuffix("_id")) + 2
        return lambda module, index: self.tables[index][column]


@pytest.fixture
def bcc(monkeypatch):
    """Puts a bcc in place that compiles to this; gives what it was asked for."""
    asked = []

    def put(lib: Lib | None, error: Exception | None = None):
        def bpf_object(src_file: str, cflags: list[str]):
            if error:
                raise error
            asked.append((src_file, cflags))
            return SimpleNamespace(
                module=1, dump_func=lambda name: lib.code, cleanup=lambda: asked.append("cleaned")
            )

        module = SimpleNamespace(BPF=bpf_object, libbcc=SimpleNamespace(lib=lib))
        monkeypatch.setitem(sys.modules, "bcc", module)
        return asked

    monkeypatch.setattr(compiler, "check_headers", lambda: None)
    return put


SOURCE = Path(programs.__file__).with_name("latency.bpf.c")


def test_what_bcc_compiles_is_taken_from_it(bcc) -> None:
    asked = bcc(Lib())
    found = compiler.built(SOURCE, {"PAGES": 7, "ONLY_NODE": 2})
    assert found == Compiled((COMPILED.maps[0], COMPILED.maps[2]), COMPILED.probes)
    flags = ["-w", f"-I{SOURCE.resolve().parent}", "-DPAGES=7", "-DONLY_NODE=2"]
    assert asked == [(str(SOURCE), flags), "cleaned"]


def test_what_cannot_be_taken_from_bcc(bcc) -> None:
    asked = bcc(Lib(instruction(0x18, 2, 77) + instruction(0)))
    with pytest.raises(PopcornError, match="what popcornctl cannot load") as caught:
        compiler.built(SOURCE, {})
    assert "version of python3-bpfcc" in caught.value.hint
    assert asked[-1] == "cleaned"


def test_bcc_fails(bcc) -> None:
    bcc(None, Exception("Failed to compile BPF module"))
    with pytest.raises(PopcornError, match=r"latency\.bpf\.c: Failed to compile"):
        compiler.built(SOURCE, {})


def test_no_bcc(bcc, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(PopcornError, match="bcc is not available") as caught:
        compiler.built(SOURCE, {})
    assert "python3-bpfcc" in caught.value.hint


def test_no_headers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    where = {"modules": tmp_path, "kheaders": tmp_path / "kheaders.tar.xz"}
    with pytest.raises(PopcornError, match="headers") as caught:
        compiler.check_headers(**where)
    assert caught.value.hint == f"apt-get install linux-headers-{os.uname().release}"
    where["kheaders"].touch()
    compiler.check_headers(**where)
    where["kheaders"].unlink()
    (tmp_path / os.uname().release / "build").mkdir(parents=True)
    compiler.check_headers(**where)


def test_the_version_of_bcc_needs_no_import(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    assert compiler.version() == ""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc/__init__.py").write_text("raise RuntimeError")
    assert compiler.version() == ""
    (tmp_path / "bcc/version.py").write_text("__version__ = '9'\n")
    assert compiler.version() == "__version__ = '9'\n"
