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
    # What a tracepoint is given is worked out before it looks whether somebody traces. So who reads
    # the clock for one, or calls a function that is there for tracing, looks first.
    clock = r"\b(trace_popcorn_(?:msg|doorbell|poll|channel|net|tty)\w*)\(.*rdtsc"
    tracer = r"\bpcn_\w+_(?:trace_\w+|traced)\("
    tracers = set()
    for path in (ROOT / "kmod").rglob("*.[ch]"):
        function = ""
        for before, line in itertools.pairwise(path.read_text().splitlines()):
            if re.match(r"\w.*\(", line):
                function = line
                tracers |= set(re.findall(tracer, line))
            elif not re.search(tracer, function):
                where = f"{path.name}: {line.strip()}"
                if found := re.search(clock, line):
                    assert f"{found[1]}_enabled()" in before, where
                elif re.search(tracer, line) and not line.startswith(" *"):
                    assert "_enabled()" in before, where
    assert len(tracers) > 1, "the functions for tracing have other names by now"
