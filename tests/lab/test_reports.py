# SPDX-License-Identifier: GPL-2.0
"""The debug kernel finds mistakes in modules, and the tests would see it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import reports
from guest import CHECKED

MODULE = "popcorn_provoke"
SOURCE = Path(__file__).resolve().parent / "provoke"

# Lockdep finds one mistake and stops, so that one is the last.
FOUND = {
    "use-after-free": "BUG: KASAN: ",
    "out-of-bounds": "BUG: KASAN: ",
    "shift": "UBSAN: shift-out-of-bounds",
    "sleep-in-atomic": "BUG: sleeping function called",
    "warn": "WARNING: ",
    "lock-order": "WARNING: possible circular locking",
}

pytestmark = pytest.mark.skipif(not CHECKED, reason="not a debug kernel: see make test-debug")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module that makes mistakes, built here for the running kernel."""
    work = tmp_path_factory.mktemp("provoke") / "src"
    shutil.copytree(SOURCE, work)
    tree = f"/lib/modules/{platform.release()}/build"
    make = ["make", "-C", tree, f"M={work}", f"-j{os.cpu_count()}", "modules"]
    done = subprocess.run(make, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return work / f"{MODULE}.ko"


def provoke(module: Path, what: str) -> None:
    """Let the module make a mistake, and go."""
    subprocess.run(["insmod", module, f"what={what}"], check=True)
    subprocess.run(["rmmod", MODULE], check=True)


@pytest.mark.parametrize("what", FOUND)
def test_mistake_is_found(kernel_log: reports.Log, module: Path, what: str) -> None:
    assert reports.reports(kernel_log.new()) == []
    if what == "lock-order":
        kernel_log.lockdep_may_be_off = True
    provoke(module, what)
    # What is read here does not fail the test afterwards.
    found = reports.reports(kernel_log.new())
    assert found and FOUND[what] in found[0]
    assert MODULE in found[0]
    assert reports.lockdep_is_on() == (what != "lock-order")


@pytest.fixture
def forget_leaks() -> Iterator[None]:
    """What leaks in a test is not told at the end."""
    yield
    reports.clear_leaks()


def test_leak_is_found_when_the_module_is_gone(module: Path, forget_leaks: None) -> None:
    begin = time.monotonic()
    provoke(module, "leak")
    found = reports.find_leaks(begin)
    assert any("size 192" in leak and 'comm "insmod"' in leak for leak in found), found
