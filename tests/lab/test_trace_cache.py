# SPDX-License-Identifier: GPL-2.0
"""Compiled programs that tracers keep: how fast they begin with them, and what is not trusted.

That they count the same with them is in test_trace_tools.py and test_trace_traffic.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_trace_tools import bpf_programs

from guest import ctl
from tracers import CACHE, Tracer, entries, forget

WORDS = ("trace", "latency", "--source", "bpf", "--duration", "0.1")

NO_HEADERS = {"BCC_KERNEL_SOURCE": "/nothing"}
"""Nothing can be compiled."""


def begins(where: Path, *words: str) -> float:
    """Seconds from the start of a tracer until it says that it has begun."""
    begin = time.monotonic()
    tracer = Tracer(where, *words)
    tracer.wait_ready()
    took = time.monotonic() - begin
    tracer.end()
    return took


# In this order: the tests below use the program of the last one.
@pytest.mark.parametrize("tool", ["record", "latency"])
def test_the_next_start_needs_no_compiler(modules: None, tmp_path: Path, tool: str) -> None:
    forget()
    words = [tool] if tool != "record" else [tool, "-o", str(tmp_path / "all.json")]
    first = begins(tmp_path, *words)
    (entry,) = entries()
    again = [begins(tmp_path, *words) for _ in range(2)]
    print(
        f"trace {tool}: first output after {first:.1f} s compiled, and from the cache after"
        f" {again[0]:.1f} s and {again[1]:.1f} s"
    )
    assert entries() == [entry]
    for place, mask in ((CACHE, 0o022), (entry, 0o077)):
        info = place.stat()
        assert (info.st_uid, info.st_mode & mask) == (0, 0), place


@pytest.fixture
def entry(modules: None) -> Path:
    """The program of WORDS, alone in the cache."""
    if len(entries()) != 1 or ctl(*WORDS, **NO_HEADERS).returncode:
        forget()
        done = ctl(*WORDS)
        assert done.returncode == 0, done.stderr
        assert ctl(*WORDS, **NO_HEADERS).returncode == 0
    (found,) = entries()
    return found


def truncate(entry: Path) -> None:
    os.truncate(entry, entry.stat().st_size // 2)


def damage(entry: Path) -> None:
    data = bytearray(entry.read_bytes())
    data[len(data) // 2] ^= 1
    entry.write_bytes(data)


def give_away(entry: Path) -> None:
    os.chown(entry, 65534, 0)


def let_write(entry: Path) -> None:
    entry.chmod(0o620)


def link(entry: Path) -> None:
    entry.rename(entry.with_suffix(".moved"))
    entry.symlink_to(entry.with_suffix(".moved"))


def open_directory(entry: Path) -> None:
    entry.parent.chmod(0o777)


WAYS = (truncate, damage, give_away, let_write, link, open_directory)


def test_what_is_wrong_is_ignored(entry: Path) -> None:
    good = entry.read_bytes()
    for spoil in WAYS:
        spoil(entry)
        done = ctl(*WORDS, **NO_HEADERS)
        # It would have compiled.
        assert done.returncode == 1, f"{spoil.__name__}: {done.stdout}"
        assert "headers of the running kernel are not installed" in done.stderr
        CACHE.chmod(0o700)
        entry.unlink()
        entry.write_bytes(good)
        entry.chmod(0o600)
        assert ctl(*WORDS, **NO_HEADERS).returncode == 0
    done = ctl(*WORDS, "--no-cache", **NO_HEADERS)
    assert (done.returncode, done.stdout) == (1, "")


def test_what_the_kernel_refuses_is_compiled_again(entry: Path) -> None:
    found = json.loads(entry.read_bytes().partition(b"\n")[2])
    for probe in found["program"]["probes"]:
        # Three times "exit", and nothing that it returns was set.
        probe["code"], probe["maps"] = "lQAAAAAAAACVAAAAAAAAAJUAAAAAAAAA", {}
    body = json.dumps(found).encode()
    entry.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    done = ctl(*WORDS)
    assert done.returncode == 0, done.stderr
    # What a compiler makes is not always the same to the byte; that it is loaded is what counts.
    assert entry.read_bytes().partition(b"\n")[2] != body
    assert ctl(*WORDS, **NO_HEADERS).returncode == 0


def interrupted(when: Callable[[subprocess.Popen[bytes]], None]) -> int:
    """Its status if a tracer gets Ctrl-C then."""
    tracer = subprocess.Popen(
        ["popcornctl", "trace", "latency"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    when(tracer)
    tracer.send_signal(signal.SIGINT)
    return tracer.wait(60)


def test_interrupted_it_leaves_nothing(entry: Path, tmp_path: Path) -> None:
    before = bpf_programs()
    took = begins(tmp_path, "latency")
    for share in (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1):
        status = interrupted(lambda _, seconds=share * took: time.sleep(seconds))
        # The signal itself ends a Python that has not come to popcornctl yet.
        assert status in (0, 130, -signal.SIGINT), f"{share} of {took} s"
        assert bpf_programs() == before


def test_interrupted_while_it_keeps_a_program(modules: None) -> None:
    forget()
    before = bpf_programs()

    def kept(tracer: subprocess.Popen[bytes]) -> None:
        while not CACHE.exists() or not list(CACHE.iterdir()):
            assert tracer.poll() is None

    assert interrupted(kept) in (0, 130)
    assert bpf_programs() == before
    assert [path.suffix for path in CACHE.iterdir()] in ([], [".bpf"])
