# SPDX-License-Identifier: GPL-2.0
"""BPF programs that are compiled, and such programs while they are loaded.

Compiled ones are values: they do not depend on who compiled them, and when.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from popcorn.units import parse_cpulist
from popcorn_tracing import bpf
from popcorn_tracing.layouts import layout
from popcorn_tracing.rings import Ring

__all__ = ("Compiled", "Map", "Probe", "Programs", "Table", "cpu_numbers", "loaded", "references")

POSSIBLE = Path("/sys/devices/system/cpu/possible")

# enum bpf_map_type in include/uapi/linux/bpf.h.
PERCPU_HASH, PERCPU_ARRAY, RINGBUF = 5, 6, 27
PER_CPU = (PERCPU_HASH, PERCPU_ARRAY)

#: An instruction that loads 64 bits: its first byte. Its second one says what the bits are, and
#: the last four of its eight are the map's file descriptor if they are a map.
LOAD_64 = 0x18
PSEUDO_MAP_FD = 1
FD_OFFSET = 4


@dataclass(frozen=True)
class Map:
    """A map to be made. `key` and `value` are descriptions of their types (layouts.py)."""

    name: str
    kind: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int
    key: Any
    value: Any

    def __post_init__(self) -> None:
        sizes = self.key_bytes, self.value_bytes
        if self.kind != RINGBUF and sizes != tuple(
            ctypes.sizeof(layout(kind)) for kind in (self.key, self.value)
        ):
            raise ValueError(f"the keys or values of map {self.name} have other sizes")


@dataclass(frozen=True)
class Probe:
    """A program on a tracepoint. `maps` are the offsets of its instructions that name a map."""

    tracepoint: str
    code: bytes
    maps: Mapping[int, str]

    def __post_init__(self) -> None:
        if not self.code or set(self.maps) != set(references(self.code)):
            raise ValueError(f"the program on {self.tracepoint} is damaged")

    def linked(self, fds: Mapping[str, int]) -> bytes:
        """The code with the file descriptors of its maps."""
        code = bytearray(self.code)
        for offset, name in self.maps.items():
            struct.pack_into("<i", code, offset + FD_OFFSET, fds[name])
        return bytes(code)


def references(code: bytes) -> dict[int, int]:
    """The instructions that name a map: offset to the file descriptor in it."""
    found = {}
    wide = False
    for offset in range(0, len(code) - bpf.INSTRUCTION_BYTES + 1, bpf.INSTRUCTION_BYTES):
        # What loads 64 bits is two instructions long.
        if wide:
            wide = False
        elif code[offset] == LOAD_64:
            wide = True
            what = code[offset + 1] >> 4
            if what == PSEUDO_MAP_FD:
                found[offset] = struct.unpack_from("<i", code, offset + FD_OFFSET)[0]
            elif what:
                raise ValueError(f"an instruction refers to what is no map ({what})")
    return found


@dataclass(frozen=True)
class Compiled:
    """All that a source file has."""

    maps: tuple[Map, ...]
    probes: tuple[Probe, ...]

    def __post_init__(self) -> None:
        if not self.probes or not {
            name for probe in self.probes for name in probe.maps.values()
        } <= {item.name for item in self.maps}:
            raise ValueError("a program without its maps")

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "maps": [dict(vars(item)) for item in self.maps],
            "probes": [
                {
                    "tracepoint": probe.tracepoint,
                    "code": base64.b64encode(probe.code).decode(),
                    "maps": {str(offset): name for offset, name in probe.maps.items()},
                }
                for probe in self.probes
            ],
        }

    @classmethod
    def from_json(cls, found: Any) -> Self:
        """What to_json() made; ValueError, TypeError or KeyError for anything else."""
        return cls(
            tuple(Map(**item) for item in found["maps"]),
            tuple(
                Probe(
                    item["tracepoint"],
                    base64.b64decode(item["code"], validate=True),
                    {int(offset): name for offset, name in item["maps"].items()},
                )
                for item in found["probes"]
            ),
        )


def cpu_numbers(path: Path = POSSIBLE) -> tuple[int, ...]:
    """The CPUs whose values a per-CPU map has, in its order."""
    return parse_cpulist(path.read_text().strip())


class Table:
    """A map of a loaded program, to be read."""

    def __init__(self, fd: int, about: Map, nr_cpus: int) -> None:
        self._fd = fd
        self._key_bytes = about.key_bytes
        self._key, self._value = layout(about.key), layout(about.value)
        self._nr_values = nr_cpus if about.kind in PER_CPU else 1
        # The kernel has them at multiples of eight bytes.
        self._stride = -(-about.value_bytes // 8) * 8

    def _cells(self, key: bytes) -> list[Any]:
        data = bpf.lookup(self._fd, key, self._stride * self._nr_values)
        cells = [
            self._value.from_buffer_copy(data, index * self._stride)
            for index in range(self._nr_values)
        ]
        return [cell if isinstance(cell, ctypes.Structure) else cell.value for cell in cells]

    def items(self) -> Iterator[tuple[Any, list[Any]]]:
        """Keys, each with its values: of each CPU one if they are per CPU."""
        key = None
        while (key := bpf.next_key(self._fd, key, self._key_bytes)) is not None:
            yield self._key.from_buffer_copy(key), self._cells(key)

    def sum(self, index: int) -> int:
        """What an array of numbers has at an index, of all CPUs."""
        return sum(self._cells(struct.pack("=I", index)))


class Programs:
    """Programs that are loaded and attached."""

    def __init__(
        self, tables: Mapping[str, Table], rings: Mapping[str, Ring], fds: tuple[int, ...]
    ) -> None:
        self._tables = tables
        self._rings = rings
        self._fds = fds
        self._links = contextlib.ExitStack()

    def __getitem__(self, name: str) -> Table:
        return self._tables[name]

    def ring(self, name: str) -> Ring:
        """A buffer that the programs put records into."""
        return self._rings[name]

    def attach(self, probes: tuple[Probe, ...]) -> None:
        """Let them run."""
        for probe, fd in zip(probes, self._fds, strict=True):
            self._links.callback(os.close, bpf.attach(probe.tracepoint, fd))

    def detach(self) -> None:
        """No event comes any more; what came can still be read."""
        self._links.close()

    def missed(self, fdinfo: Path = Path("/proc/self/fdinfo")) -> int:
        """Events that the kernel left out because a program interrupted itself.

        From recursion_misses in each program's fdinfo (kernel/bpf/syscall.c,
        bpf_prog_show_fdinfo).
        """
        missed = 0
        for fd in self._fds:
            for line in (fdinfo / str(fd)).read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "recursion_misses":
                    missed += int(value)
        return missed


class RefusedError(OSError):
    """The kernel does not take a program. `log` has what the verifier says."""

    log = ""


def _made(item: Map) -> int:
    return bpf.create_map(
        item.name, item.kind, item.key_bytes, item.value_bytes, item.entries, item.flags
    )


def _loaded(probe: Probe, maps: Mapping[str, int]) -> int:
    code = probe.linked(maps)
    try:
        return bpf.load(probe.tracepoint, code)
    except OSError as error:
        refused = RefusedError(error.errno, error.strerror)
        refused.log = bpf.verifier_log(probe.tracepoint, code)
        raise refused from error


@contextlib.contextmanager
def loaded(compiled: Compiled, values: Mapping[str, int]) -> Iterator[Programs]:
    """The programs loaded and attached, and gone after the block; OSError if the kernel refuses.

    `values` are for arrays of one number, by name, which have them before the first event.

    Nothing of them is anywhere but in file descriptors of this process: when it ends, however it
    does, the kernel takes them away.
    """
    with contextlib.ExitStack() as stack:

        def kept(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        maps = {item.name: kept(_made(item)) for item in compiled.maps}
        for name, value in values.items():
            bpf.update(maps[name], struct.pack("=I", 0), struct.pack("=Q", value))
        nr_cpus = len(cpu_numbers())
        tables = {
            item.name: Table(maps[item.name], item, nr_cpus)
            for item in compiled.maps
            if item.kind != RINGBUF
        }
        rings = {
            item.name: stack.enter_context(Ring(maps[item.name], item.entries))
            for item in compiled.maps
            if item.kind == RINGBUF
        }
        fds = tuple(kept(_loaded(probe, maps)) for probe in compiled.probes)
        programs = Programs(tables, rings, fds)
        stack.callback(programs.detach)
        programs.attach(compiled.probes)
        yield programs
