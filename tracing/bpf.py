# SPDX-License-Identifier: GPL-2.0
"""bpf(2), as far as the tools need it: maps, and programs on raw tracepoints.

The system call, and neither bcc nor libbpf: it is stable, and importing bcc alone maps all of LLVM,
which takes longer than the rest of a tool's start. All functions raise OSError.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct

__all__ = ("attach", "create_map", "load", "lookup", "next_key", "update", "verifier_log")

NR_BPF = 321 if struct.calcsize("P") == 8 else 357
"""x86_64, and i386."""

# enum bpf_cmd in include/uapi/linux/bpf.h.
MAP_CREATE, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_GET_NEXT_KEY, PROG_LOAD = 0, 1, 2, 4, 5
RAW_TRACEPOINT_OPEN = 17

#: enum bpf_prog_type.
PROG_TYPE_RAW_TRACEPOINT = 17

#: BPF_OBJ_NAME_LEN, with the zero at the end.
NAME_BYTES = 16

INSTRUCTION_BYTES = 8
LICENSE = ctypes.create_string_buffer(b"GPL")
LOG_BYTES = 1 << 20

# Members of union bpf_attr for each command, from its beginning.
_MAP_CREATE = struct.Struct(f"=7I{NAME_BYTES}s")
_MAP_ELEM = struct.Struct("=I4xQQQ")
_PROG_LOAD = struct.Struct(f"=2IQQ2IQ2I{NAME_BYTES}s")
_RAW_TRACEPOINT = struct.Struct("=QI4x")

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)


def _bpf(command: int, attributes: bytes) -> int:
    """The call; a result below 0 is raised. A signal ends it early: Python's handlers run then."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    while True:
        result = int(_syscall(NR_BPF, command, buffer, len(attributes)))
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number not in (errno.EINTR, errno.EAGAIN):
            raise OSError(number, os.strerror(number))


def _name(text: str) -> bytes:
    """What bpftool shows: as much of a name as the kernel takes."""
    return text.encode()[: NAME_BYTES - 1]


def create_map(
    name: str, kind: int, key_bytes: int, value_bytes: int, entries: int, flags: int
) -> int:
    """A new map's file descriptor; with the last one of it the map is gone."""
    return _bpf(
        MAP_CREATE,
        _MAP_CREATE.pack(kind, key_bytes, value_bytes, entries, flags, 0, 0, _name(name)),
    )


def next_key(fd: int, key: bytes | None, key_bytes: int) -> bytes | None:
    """The key after `key` of a map, the first one after None; None after the last one."""
    before = None if key is None else ctypes.create_string_buffer(key, key_bytes)
    found = ctypes.create_string_buffer(key_bytes)
    begin = 0 if before is None else ctypes.addressof(before)
    try:
        _bpf(MAP_GET_NEXT_KEY, _MAP_ELEM.pack(fd, begin, ctypes.addressof(found), 0))
    except FileNotFoundError:
        return None
    return found.raw


def lookup(fd: int, key: bytes, value_bytes: int) -> bytes:
    """The value of a key, of all CPUs if it is a map per CPU: `value_bytes` is for all of them."""
    asked = ctypes.create_string_buffer(key, len(key))
    found = ctypes.create_string_buffer(value_bytes)
    _bpf(
        MAP_LOOKUP_ELEM,
        _MAP_ELEM.pack(fd, ctypes.addressof(asked), ctypes.addressof(found), 0),
    )
    return found.raw


def update(fd: int, key: bytes, value: bytes) -> None:
    """Set the value of a key."""
    named = ctypes.create_string_buffer(key, len(key))
    given = ctypes.create_string_buffer(value, len(value))
    _bpf(
        MAP_UPDATE_ELEM,
        _MAP_ELEM.pack(fd, ctypes.addressof(named), ctypes.addressof(given), 0),
    )


def _load(name: str, code: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    text = ctypes.create_string_buffer(code, len(code))
    told = (0, 0, 0) if log is None else (1, len(log), ctypes.addressof(log))
    return _bpf(
        PROG_LOAD,
        _PROG_LOAD.pack(
            PROG_TYPE_RAW_TRACEPOINT,
            len(code) // INSTRUCTION_BYTES,
            ctypes.addressof(text),
            ctypes.addressof(LICENSE),
            *told,
            0,
            0,
            _name(name),
        ),
    )


def load(name: str, code: bytes) -> int:
    """A program's file descriptor, when the verifier has accepted it."""
    return _load(name, code, None)


def verifier_log(name: str, code: bytes) -> str:
    """What the verifier says of a program that it does not accept."""
    log = ctypes.create_string_buffer(LOG_BYTES)
    with contextlib.suppress(OSError):
        os.close(_load(name, code, log))
    return log.value.decode(errors="replace")


def attach(tracepoint: str, program: int) -> int:
    """A file descriptor that keeps a program attached to a raw tracepoint while it is open."""
    name = ctypes.create_string_buffer(tracepoint.encode())
    return _bpf(RAW_TRACEPOINT_OPEN, _RAW_TRACEPOINT.pack(ctypes.addressof(name), program))
