# SPDX-License-Identifier: GPL-2.0
"""A QEMU whose emulated CPUs have an x2APIC (8.2 and later), for a release that has an older one.

It comes from the release's backports suite and is unpacked, not installed: the system's own QEMU
stays as it is.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .apt import Apt, codename
from .paths import BUILD
from .shell import LOG, lock, run

BASE = BUILD / "qemu-x2apic"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Qemu:
    """The unpacked program, its firmware directories, its libraries and its modules."""

    program: Path = BASE / "usr/bin/qemu-system-x86_64"
    data: tuple[Path, ...] = (BASE / "usr/share/qemu", BASE / "usr/share/seabios")
    libraries: tuple[Path, ...] = (BASE / LIBRARIES,)
    modules: Path = BASE / LIBRARIES / "qemu"


def ensure() -> Qemu:
    """Return the newer QEMU, fetching it first if it is not there."""
    with lock("qemu"):
        if not BASE.exists():
            scratch = BUILD / ".qemu-x2apic"
            shutil.rmtree(scratch, ignore_errors=True)
            apt = Apt(f"{codename()}-backports", beside=True)
            apt.update()
            apt.extract(apt.needed_for("qemu-system-x86"), scratch)
            scratch.rename(BASE)
            libraries = f"LD_LIBRARY_PATH={BASE / LIBRARIES}"
            version = run(["env", libraries, Qemu.program, "--version"])
            LOG.info("for x2APIC machines: %s", version.splitlines()[0])
    return Qemu()
