# SPDX-License-Identifier: GPL-2.0
"""What is for the lab only stays there."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_users_get_no_test_modules() -> None:
    kbuild = (ROOT / "kmod/Kbuild").read_text()
    lists: dict[str, list[str]] = {}
    for name, modules in re.findall(r"^(obj-\S+) \+= (.*)$", kbuild, re.M):
        lists.setdefault(name, []).extend(modules.split())
    for_all, for_tests = lists.pop("obj-m"), lists.pop("obj-$(PCN_TESTS)")
    assert not lists
    assert {"popcorn.o", "popcorn_host.o"} <= set(for_all)
    parts = {
        name: re.search(rf"^{name[:-2]}-y := (.*)$", kbuild, re.M) for name in for_all + for_tests
    }
    for name, found in parts.items():
        assert found is not None, name
        assert ("test/" in found[1]) == (name in for_tests), name
    for path in ("Makefile", "kmod/Makefile"):
        assert "PCN_TESTS" not in (ROOT / path).read_text(), path


def test_users_get_tracepoints() -> None:
    kbuild = (ROOT / "kmod/Kbuild").read_text()
    assert "ccflags-$(PCN_NO_TRACE) += -DNOTRACE\n" in kbuild
    for path in ("Makefile", "kmod/Makefile"):
        assert "PCN_NO_TRACE" not in (ROOT / path).read_text(), path


def test_no_message_reads_the_clock_for_nobody() -> None:
    # What a tracepoint is given is worked out before it looks whether somebody traces.
    for path in (ROOT / "kmod").rglob("*.c"):
        lines = path.read_text().splitlines()
        for before, line in itertools.pairwise(lines):
            found = re.search(
                r"\b(trace_popcorn_(?:msg|doorbell|poll|channel|net|tty)\w*)\(.*rdtsc", line
            )
            assert not found or f"{found[1]}_enabled()" in before, f"{path.name}: {line.strip()}"
