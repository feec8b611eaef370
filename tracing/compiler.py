# SPDX-License-Identifier: GPL-2.0
"""bcc as a compiler, and nothing more: importing it takes as long as all else of a tool's start."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popcorn_tracing.common import CannotCompileError
from popcorn_tracing.programs import RINGBUF, Compiled, Map, Probe, references

__all__ = ("built", "version")

MODULES = Path("/lib/modules")
KHEADERS = Path("/sys/kernel/kheaders.tar.xz")

#: What probe.bpf.h puts before the name of a tracepoint.
PREFIX = "probe_"


def version() -> str:
    """That of bcc, without importing it; empty if there is none, or it does not say."""
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        return ""
    try:
        return Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return ""


def check_headers(modules: Path = MODULES, kheaders: Path = KHEADERS) -> None:
    """What bcc would fail for after many seconds, with a complaint that names no remedy."""
    release = os.uname().release
    build = os.environ.get("BCC_KERNEL_SOURCE") or modules / release / "build"
    if not Path(build).exists() and not kheaders.exists():
        raise CannotCompileError(
            "bcc cannot compile: the headers of the running kernel are not installed",
            f"apt-get install linux-headers-{release}",
        )


def built(source: Path, defines: Mapping[str, int | str]) -> Compiled:
    """Compile a BPF program; CannotCompileError says what is in the way."""
    check_headers()
    try:
        bcc = importlib.import_module("bcc")
    except ImportError as error:
        raise CannotCompileError(
            f"bcc is not available to this Python ({error})",
            "apt-get install python3-bpfcc, and run popcornctl with /usr/bin/python3",
        ) from error
    # -w: an old compiler warns about newer kernels' headers, which bcc includes on its own.
    # -I: bcc compiles from memory, and does not know where the program was.
    flags = [
        "-w",
        f"-I{source.resolve().parent}",
        *(f"-D{name}={value}" for name, value in defines.items()),
    ]
    try:
        program = bcc.BPF(src_file=str(source), cflags=flags)
    # bcc raises a bare Exception for everything that goes wrong.
    except Exception as error:
        raise CannotCompileError(
            f"bcc could not compile {source.name}: {error}",
            "what it said above tells why; it must be as new as the kernel's headers",
        ) from error
    # The maps that bcc has made are gone then.
    try:
        return _taken(program, bcc.libbcc.lib)
    except ValueError as error:
        raise CannotCompileError(
            f"bcc makes of {source.name} what popcornctl cannot load: {error}",
            "tell the authors of popcornctl which version of python3-bpfcc it is",
        ) from error
    finally:
        program.cleanup()


def _taken(program: Any, lib: Any) -> Compiled:
    """All that is in bcc's object, by libbcc's functions (bpf_module.h)."""
    # Of the functions used here, the one that bcc does not declare to ctypes itself.
    lib.bpf_table_name.restype = ctypes.c_char_p
    lib.bpf_table_name.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    module = program.module
    maps: dict[int, Map] = {}
    for index in range(lib.bpf_num_tables(module)):
        name = lib.bpf_table_name(module, index)
        maps[lib.bpf_table_fd(module, name)] = _map(module, lib, index, name)
    probes = []
    for index in range(lib.bpf_num_functions(module)):
        function = lib.bpf_function_name(module, index)
        code = program.dump_func(function)
        # Without the numbers of bcc's maps, which are of no use to anybody else.
        named = {offset: maps[fd].name for offset, fd in references(code).items()}
        unlinked = Probe(function.decode().removeprefix(PREFIX), code, named)
        probes.append(unlinked)
    return Compiled(tuple(maps.values()), tuple(probes))


def _map(module: Any, lib: Any, index: int, name: bytes) -> Map:
    kind = lib.bpf_table_type_id(module, index)
    key, value = (
        # What a buffer has in place of keys and values says nothing.
        "" if kind == RINGBUF else json.loads(describe(module, name))
        for describe in (lib.bpf_table_key_desc, lib.bpf_table_leaf_desc)
    )
    return Map(
        name.decode(),
        kind,
        lib.bpf_table_key_size_id(module, index),
        lib.bpf_table_leaf_size_id(module, index),
        lib.bpf_table_max_entries_id(module, index),
        lib.bpf_table_flags_id(module, index),
        key,
        value,
    )
