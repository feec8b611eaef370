# SPDX-License-Identifier: GPL-2.0
"""Whole test runs: the boots of a suite in suites.toml, each with its machine and tests."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setup import modules
from setup.paths import LAB, ROOT
from setup.shell import SetupError

from popcorn.errors import PopcornError

from . import lab
from .options import Options

TABLE = ROOT / "tests/lab/suites.toml"
SUMMARY = LAB / "summary"

# The guest's root is thrown away, so pytest need not keep a cache there.
PYTEST = ("/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Boot:
    """One boot: its name, the suites it belongs to, and the lab run with pytest as its command."""

    name: str
    suites: tuple[str, ...]
    options: Options


def read(text: str, root: Path) -> list[Boot]:
    """Read the table; raises SetupError for a word it does not know or tests that do not exist."""
    return [_boot(entry, root) for entry in tomllib.loads(text).get("boot", [])]


def _boot(entry: Mapping[str, Any], root: Path) -> Boot:
    rest = dict(entry)
    try:
        name, suites, tests = rest.pop("name"), rest.pop("suites"), rest.pop("tests")
    except KeyError as missing:
        raise SetupError(f"tests/lab/suites.toml: a boot lacks {missing}") from missing
    known = {field.name for field in dataclasses.fields(Options)} - {"command", "serial2"}
    if unknown := rest.keys() - known - {"pytest"}:
        raise SetupError(
            f"tests/lab/suites.toml: boot {name} says {', '.join(sorted(unknown))}",
            f"it may say {', '.join(sorted(known | {'pytest'}))}",
        )
    files: list[str] = []
    for pattern in tests:
        found = sorted(str(path.relative_to(root)) for path in root.glob(pattern))
        if not found:
            raise SetupError(f"tests/lab/suites.toml: boot {name}: no file matches {pattern}")
        files += [path for path in found if path not in files]
    command = (*PYTEST, *rest.pop("pytest", []), *files)
    rest["secondaries"] = tuple(rest.get("secondaries", ()))
    return Boot(name, tuple(suites), Options(command=command, **rest))


def run(suite: str) -> int:
    """Run a suite's boots one after the other, then repeat what each came to; 0 if all passed."""
    boots = [boot for boot in read(TABLE.read_text(), ROOT) if suite in boot.suites]
    if not boots:
        raise SetupError(f"tests/lab/suites.toml has no boot for suite {suite!r}")
    wanted = [name for boot in boots for name in (boot.options.kernel, *boot.options.secondaries)]
    for name in dict.fromkeys(wanted):
        modules.build(name)
    lines, failed = [], False
    for boot in boots:
        print(f"lab: boot {boot.name}: {describe(boot.options)}", flush=True)
        begin = time.monotonic()
        result = lab.run(boot.options)
        failed = failed or result.status != 0
        said = result.outcome.failure or result.outcome.last_line or f"status {result.status}"
        lines.append(f"lab {boot.name} ({time.monotonic() - begin:.0f} s): {said}")
    SUMMARY.write_text("\n".join(lines) + "\n")
    print(SUMMARY.read_text(), end="", flush=True)
    return int(failed)


def describe(options: Options) -> str:
    """Return a machine's shape in a few words."""
    beside = f" beside {', '.join(options.secondaries)}" if options.secondaries else ""
    shape = f"{options.cpus} CPUs, {options.memory}, {options.machine}, {options.firmware}"
    return f"{options.kernel}{beside}; {shape}"


def main(argv: list[str]) -> int:
    """`python3 -m labvm.suites SUITE...`; return the exit status."""
    logging.basicConfig(format="setup: %(message)s", level=logging.INFO)
    try:
        return max([run(suite) for suite in argv], default=2)
    except PopcornError as error:
        print(f"lab: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"lab: hint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
