# SPDX-License-Identifier: GPL-2.0
"""Whole test runs: the boots of a suite in suites.toml, each with its machine and tests."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    """One boot: its name, the suites it belongs to, and the lab run with pytest as its command.

    `files` are those with its tests. `alone`: what it checks depends on how soon its CPUs run, so
    no other boot is beside it.
    """

    name: str
    suites: tuple[str, ...]
    options: Options
    files: tuple[str, ...]
    alone: bool = False


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
    if unknown := rest.keys() - known - {"pytest", "alone"}:
        raise SetupError(
            f"tests/lab/suites.toml: boot {name} says {', '.join(sorted(unknown))}",
            f"it may say {', '.join(sorted(known | {'pytest', 'alone'}))}",
        )
    files: list[str] = []
    for pattern in tests:
        found = sorted(str(path.relative_to(root)) for path in root.glob(pattern))
        if not found:
            raise SetupError(f"tests/lab/suites.toml: boot {name}: no file matches {pattern}")
        files += [path for path in found if path not in files]
    command = (*PYTEST, *rest.pop("pytest", []), *files)
    rest["secondaries"] = tuple(rest.get("secondaries", ()))
    alone = rest.pop("alone", False)
    return Boot(name, tuple(suites), Options(command=command, **rest), tuple(files), alone)


def run(suite: str, beside: int) -> int:
    """Run a suite's boots, `beside` at a time, then repeat what each came to; 0 if all passed."""
    boots = [boot for boot in read(TABLE.read_text(), ROOT) if suite in boot.suites]
    if not boots:
        raise SetupError(f"tests/lab/suites.toml has no boot for suite {suite!r}")
    wanted = [name for boot in boots for name in (boot.options.kernel, *boot.options.secondaries)]
    for name in dict.fromkeys(wanted):
        modules.build(name)
    compile_tests(dict.fromkeys(path for boot in boots for path in boot.files))
    together = [boot for boot in boots if beside > 1 and not boot.alone]
    said = _run_beside(together, beside)
    for boot in boots:
        if boot not in together:
            said[boot.name] = run_boot(boot)
    SUMMARY.write_text("".join(f"{said[boot.name][1]}\n" for boot in boots))
    print(SUMMARY.read_text(), end="", flush=True)
    return int(any(status for status, _ in said.values()))


def compile_tests(files: Iterable[str], root: Path = ROOT) -> None:
    """Have the tests compiled by pytest, in its own way, which each boot would do again.

    A file that cannot be is left to the boot, which says why.
    """
    writing = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([*PYTEST, "--collect-only", *files], cwd=root, env=writing, capture_output=True)


def run_boot(boot: Boot) -> tuple[int, str]:
    """Run one boot; return its status, and in a line what it came to."""
    print(f"lab: boot {boot.name}: {describe(boot.options)}", flush=True)
    begin = time.monotonic()
    result = lab.run(boot.options)
    came_to = result.outcome.failure or result.outcome.last_line or f"status {result.status}"
    return result.status, f"lab {boot.name} ({time.monotonic() - begin:.0f} s): {came_to}"


def _run_beside(boots: Sequence[Boot], beside: int) -> dict[str, tuple[int, str]]:
    """Run boots, some at a time, each in a process of its own whose output comes when it ends."""

    def one(boot: Boot) -> tuple[int, str]:
        print(f"lab: boot {boot.name} begins", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "labvm.suites", "--boot", boot.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        text = done.stdout.decode(errors="replace")
        print(text, end="", flush=True)
        return done.returncode, text.rstrip().rpartition("\n")[2]

    with ThreadPoolExecutor(beside) as pool:
        return dict(zip((boot.name for boot in boots), pool.map(one, boots), strict=True))


def describe(options: Options) -> str:
    """Return a machine's shape in a few words."""
    beside = f" beside {', '.join(options.secondaries)}" if options.secondaries else ""
    shape = f"{options.cpus} CPUs, {options.memory}, {options.machine}, {options.firmware}"
    return f"{options.kernel}{beside}; {shape}"


def main(argv: list[str]) -> int:
    """`python3 -m labvm.suites SUITE...`, or `--boot NAME`; return the exit status."""
    logging.basicConfig(format="setup: %(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(prog="suites", description=__doc__)
    parser.add_argument("--boot", metavar="NAME", help="run this boot only")
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    options = parser.parse_args(argv)
    try:
        if options.boot:
            boots = read(TABLE.read_text(), ROOT)
            status, came_to = run_boot(next(b for b in boots if b.name == options.boot))
            print(came_to, flush=True)
            return status
        return max([run(suite, lab.SLOTS) for suite in options.suites], default=2)
    except PopcornError as error:
        print(f"lab: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"lab: hint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
