# SPDX-License-Identifier: GPL-2.0
"""From a source file to programs that run: out of the cache, or compiled."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from popcorn_tracing import compiler, programs
from popcorn_tracing.cache import Cache, digest
from popcorn_tracing.common import CannotCompileError, tracefs_events
from popcorn_tracing.programs import Compiled, Programs

__all__ = ("loaded",)

#: Of what is in an entry. Another one makes all entries foreign.
FORMAT = 1

#: Lines of the verifier's that are shown: the reason is in the last ones.
SHOWN_LINES = 5


def key(source: Path, defines: Mapping[str, int | str], events: Iterable[str]) -> dict[str, Any]:
    """All that a compiled program depends on."""
    here = os.uname()
    texts = [source, *sorted(source.parent.glob("*.bpf.h"))]
    formats = tracefs_events() / "popcorn"
    return {
        "format": FORMAT,
        "source": [[path.name, digest(path.read_bytes())] for path in texts],
        "defines": dict(defines),
        "kernel": [here.release, here.version, here.machine],
        "bcc": compiler.version(),
        "tracepoints": {name: _fields(formats / name / "format") for name in sorted(events)},
    }


def _fields(path: Path) -> list[str]:
    """The lines of the fields: a tracepoint's number is another one when its module is loaded."""
    return [line for line in path.read_text().splitlines() if line.startswith("\tfield:")]


@contextlib.contextmanager
def loaded(
    source: Path,
    defines: Mapping[str, int | str],
    events: Iterable[str],
    values: Mapping[str, int] | None = None,
    *,
    cached: bool = True,
    cache: Cache | None = None,
) -> Iterator[Programs]:
    """A BPF program on `events`: loaded and attached, gone after the block.

    What differs from start to start is better in `values`, as with
    :func:`popcorn_tracing.programs.loaded`, than in `defines`, which are compiled in.

    It is compiled if it is not in the cache, if the kernel does not take what is there, or if it
    shall not be `cached`. CannotCompileError says what is in the way.
    """
    entries = (cache or Cache()) if cached else None
    about = key(source, defines, events) if entries else {}
    with contextlib.ExitStack() as stack:
        found = _kept(entries, about, values or {}, stack) if entries else None
        if found is None:
            compiled = compiler.built(source, defines)
            found = stack.enter_context(_accepted(source, compiled, values or {}))
            if entries:
                entries.put(about, compiled)
        yield found


def _kept(
    entries: Cache, about: Mapping[str, Any], values: Mapping[str, int], stack: contextlib.ExitStack
) -> Programs | None:
    """What the cache has, loaded; None if it has nothing that the kernel takes."""
    compiled = entries.get(about)
    if compiled is None:
        return None
    try:
        return stack.enter_context(programs.loaded(compiled, values))
    except OSError:
        entries.drop(about)
        return None


@contextlib.contextmanager
def _accepted(source: Path, compiled: Compiled, values: Mapping[str, int]) -> Iterator[Programs]:
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(programs.loaded(compiled, values))
        except OSError as error:
            log = getattr(error, "log", "").strip().splitlines()
            raise CannotCompileError(
                f"the kernel does not take {source.name}: "
                + " / ".join([error.strerror or str(error), *log[-SHOWN_LINES:]]),
                "the verifier's words tell why; a kernel that is locked down takes none",
            ) from error
        yield found
