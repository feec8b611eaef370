# SPDX-License-Identifier: GPL-2.0
"""What a lab machine looks like, and the command line that says so."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setup.kernels import NAMES

MACHINES = ("xapic", "x2apic")
FIRMWARES = ("bios", "uefi")


@dataclass(frozen=True)
class Options:
    """One run of the lab: the machine's shape and what to run in it.

    `timeout` is in seconds of wall clock and covers the boot too; `memory` is a QEMU size ("3G");
    `secondaries` are kernels to have ready besides `kernel`; an empty `command` means a shell.
    """

    command: tuple[str, ...] = ()
    kernel: str = "6.1"
    secondaries: tuple[str, ...] = ()
    cpus: int = 4
    memory: str = "3G"
    machine: str = "xapic"
    firmware: str = "bios"
    timeout: float = 900.0
    append: str = ""
    serial2: Path | None = None
    icount: bool = False

    @property
    def interactive(self) -> bool:
        """Whether the run is a shell on this terminal."""
        return not self.command


def parse(argv: Sequence[str]) -> Options:
    """Parse the lab's command line; prints usage and exits with status 2 if it is wrong."""
    default = Options()
    parser = argparse.ArgumentParser(
        prog="tests/lab/run",
        description="Boot a kernel on this machine's root file system in QEMU and run COMMAND as"
        " root in the checkout; without COMMAND, a shell. Exits with the command's status, or 255"
        " if the guest panicked, reset, hung or died.",
        allow_abbrev=False,
    )
    kernels = ", ".join(NAMES)
    add = parser.add_argument
    add("--kernel", choices=NAMES, metavar="NAME", help=f"{kernels} (default: 6.1)")
    add(
        "--secondary-kernels",
        dest="secondaries",
        type=_kernels,
        metavar="LIST",
        help="more kernels to have ready, separated by commas",
    )
    add("--cpus", type=int, metavar="N", help=f"default: {default.cpus}")
    add("--memory", metavar="SIZE", help=f"default: {default.memory}")
    add("--machine", choices=MACHINES, help="x2apic has interrupt remapping (default: xapic)")
    add("--firmware", choices=FIRMWARES, help="default: bios")
    add("--timeout", type=float, metavar="S", help=f"default: {default.timeout:.0f} seconds")
    add("--append", metavar="STR", help="more words for the kernel's command line")
    add("--serial2", type=Path, metavar="FILE", help="give the machine a ttyS1 and log it to FILE")
    add(
        "--icount",
        action="store_true",
        help="let its clock count instructions, one CPU after the other: figures do not depend on"
        " how busy this machine is",
    )
    add("command", nargs=argparse.REMAINDER, metavar="[--] COMMAND...")
    given = {
        key: value for key, value in vars(parser.parse_args(argv)).items() if value is not None
    }
    words = tuple(given["command"])
    given["command"] = words[1:] if words[:1] == ("--",) else words
    return Options(**given)


def _kernels(text: str) -> tuple[str, ...]:
    names = tuple(text.replace(",", " ").split())
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"no kernel {name!r}")
    return names
