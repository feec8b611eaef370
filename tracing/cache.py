# SPDX-License-Identifier: GPL-2.0
"""Compiled programs in files, so that a tool need not compile at every start.

What is in an entry is loaded into the kernel, so it is trusted only if nobody but root can have
written it. Nothing that is wrong with the cache is an error: what cannot be used is compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from popcorn_tracing.programs import Compiled

__all__ = ("DIRECTORY", "Cache", "digest")

DIRECTORY = Path("/var/cache/popcorn")

#: So many entries are kept: those that were used last.
MOST = 64

#: No program is as large.
MAX_BYTES = 4 << 20

SUFFIX = ".bpf"
PARTIAL = ".partial"

#: A file that is being written is so for less than this, seconds.
WRITING_SECONDS = 3600


def digest(data: bytes) -> str:
    """A hash that nobody meets by chance."""
    return hashlib.sha256(data).hexdigest()


class Cache:
    """A directory of entries, which is made when there is something to put into it.

    A key is all that a program depends on, as JSON has it.
    """

    def __init__(self, directory: Path = DIRECTORY, most: int = MOST) -> None:
        self._directory = directory
        self._most = most

    def get(self, key: Mapping[str, Any]) -> Compiled | None:
        """The program of a key; None if there is none that can be trusted and read."""
        text = _encoded(key)
        try:
            with self._opened() as directory:
                head, _, body = _read(directory, _name(text)).partition(b"\n")
                if head.decode() != digest(body):
                    return None
                entry = json.loads(body)
                return Compiled.from_json(entry["program"]) if entry["key"] == key else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def put(self, key: Mapping[str, Any], compiled: Compiled) -> None:
        """Keep a program, as a whole or not at all; and of old ones not too many."""
        body = _encoded({"key": key, "program": compiled.to_json()})
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            with self._opened() as directory:
                data = digest(body).encode() + b"\n" + body
                _write(directory, _name(_encoded(key)), data)
                self._bound(directory)

    def drop(self, key: Mapping[str, Any]) -> None:
        """Forget a program."""
        with contextlib.suppress(OSError), self._opened() as directory:
            os.unlink(_name(_encoded(key)), dir_fd=directory)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The directory; OSError if others could have written to it."""
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _check_owner(os.fstat(fd))
            yield fd
        finally:
            os.close(fd)

    def _bound(self, directory: int) -> None:
        """Remove the entries that were used least, and what an interrupted write left."""
        used = []
        for name in os.listdir(directory):
            if not name.endswith((SUFFIX, PARTIAL)):
                continue
            when = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime
            if name.endswith(SUFFIX):
                used.append((when, name))
            elif when < time.time() - WRITING_SECONDS:
                os.unlink(name, dir_fd=directory)
        for _, name in sorted(used, reverse=True)[self._most :]:
            os.unlink(name, dir_fd=directory)


def _encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _name(key: bytes) -> str:
    return digest(key)[:32] + SUFFIX


def _check_owner(found: os.stat_result) -> None:
    """OSError if anybody else than this user (root, for tracers) may write or has written."""
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError("others may write to it")


def _read(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        _check_owner(found)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            raise PermissionError("no entry")
        data = file.read()
        # It was used now: it is among those that are kept.
        with contextlib.suppress(OSError):
            os.utime(fd)
        return data


def _write(directory: int, name: str, data: bytes) -> None:
    """Under another name first, which nobody reads, so that an entry is never half there."""
    partial = f"{name}.{os.getpid()}{PARTIAL}"
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.rename(partial, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial, dir_fd=directory)
