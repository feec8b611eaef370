# SPDX-License-Identifier: GPL-2.0
"""BPF programs of tracing/ built for this machine, and what else tests of the tracers share."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def event(events: Mapping[str, tuple[str, ...]], name: str, **values: int) -> str:
    """A line for the host program: a tracepoint and its arguments in the order of its fields."""
    fields = events[name]
    assert set(values) <= set(fields)
    numbers = [values.get(field, 0) for field in fields]
    return " ".join([name, *map(str, numbers + [0] * (12 - len(numbers)))])


def build(directory: Path, host: str, source: Path) -> Callable[..., str]:
    """Gives `run(lines, NAME=define, ...)`, whose result is what the program wrote."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")

    def run(lines: list[str], **defines: int) -> str:
        program = directory / "program"
        flags = [f"-D{name}={value}" for name, value in defines.items()]
        subprocess.run(
            ["cc", "-Wall", "-Werror", *flags, f'-DSOURCE="{source}"', "-o", program,
             Path(__file__).with_name(host)],
            check=True,
        )  # fmt: skip
        done = subprocess.run(
            [program], input="\n".join(lines), check=True, capture_output=True, text=True
        )
        return done.stdout

    return run


def arguments_of(name: str) -> tuple[str, ...]:
    """The arguments of one of the module's tracepoints, all of them scalars."""
    header = (ROOT / "kmod/core/trace.h").read_text()
    found = re.search(
        rf"(?:TRACE|DEFINE)_EVENT\((?:\w+, )?{name},\s+TP_PROTO\((.*?)\)", header, re.DOTALL
    )
    assert found is not None
    declared = [argument.split() for argument in found[1].split(",")]
    # Raw tracepoints are read by position, and only scalars are the values themselves.
    assert {kind for kind, _ in declared} <= {"u32", "u64", "bool"}
    return tuple(argument for _, argument in declared)


def enum(source: Path, name: str) -> list[str]:
    """The names of an enumeration in a BPF program."""
    body = re.search(rf"enum {name} \{{(.*?)\}};", source.read_text(), re.DOTALL)
    assert body is not None
    return re.findall(r"^\t(\w+)", body[1], re.MULTILINE)


def page_has_all(name: str, words: list[str]) -> None:
    """The manual page of a tracer has its sections and these words."""
    page = (ROOT / f"tracing/man/popcorn-{name}.8").read_text().replace("\\-", "-")
    for section in ("OVERHEAD", "FIELDS", "EXIT STATUS"):
        assert f".SH {section}" in page
    for word in words:
        assert word in page, word
    assert (ROOT / f"tracing/examples/{name}.txt").read_text().startswith("Examples of popcornctl")
    assert f"tracing/man/popcorn-{name}.8" in (ROOT / "setup.cfg").read_text()
