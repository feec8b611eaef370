# SPDX-License-Identifier: GPL-2.0
"""Root file systems of other suites, to build modules with the compiler of their kernels.

The build tools of a newer kernel need that suite's C library, so its headers cannot just be
installed here. One root file system per suite, below build/rootfs/.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .apt import Apt, acquire_settings, source_line
from .kernels import Kernel
from .paths import ROOTFS
from .shell import LOG, lock, run


def ensure(kernel: Kernel) -> Path:
    """Return a root file system of the kernel's suite with the headers of that very release."""
    root = ROOTFS / kernel.suite
    with lock(f"rootfs-{kernel.suite}"):
        if not (root / headers(kernel).relative_to("/")).is_dir():
            _make(kernel, root)
    return root


def headers(kernel: Kernel) -> Path:
    """Return the build directory of a kernel: its own, or where the headers package puts it."""
    return kernel.tree or Path("/usr/src") / f"linux-headers-{kernel.release}"


def inside(root: Path, source: Path, command: list[str]) -> list[str]:
    """Return a command line that runs `command` in `root` with `source` as its /src.

    A mount name space of its own takes the mounts away with the command, whatever ends it.
    """
    script = (
        'mount --bind "$2" "$1/src" && mount -t proc proc "$1/proc" &&'
        ' mount --rbind /dev "$1/dev" && root=$1 && shift 2 && exec chroot "$root" "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(root), str(source), *command]


def _make(kernel: Kernel, root: Path) -> None:
    LOG.info("making a root file system of %s to build modules in; minutes", kernel.suite)
    ROOTFS.mkdir(parents=True, exist_ok=True)
    # linux-headers depends on the compiler; the rest is what out-of-tree modules need besides.
    packages = ["make", "binutils", "kmod", "linux-headers-" + kernel.release]
    with tempfile.TemporaryDirectory(dir=ROOTFS) as scratch:
        sources = Path(scratch) / "sources.list"
        sources.write_text(source_line(kernel.suite))
        settings = Path(scratch) / "apt.conf"
        settings.write_text(acquire_settings() + 'APT::Install-Recommends "false";\n')
        target = Path(scratch) / "root"
        run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=essential",
                "--mode=root",
                f"--include={','.join(packages)}",
                f"--aptopt={settings}",
                kernel.suite,
                target,
                sources,
            ],
            hint="is the package archive reachable?",
        )
        (target / "src").mkdir()
        shutil.rmtree(root, ignore_errors=True)
        target.rename(root)


def forget(suite: str) -> None:
    """Remove a suite's root file system and package lists."""
    shutil.rmtree(ROOTFS / suite, ignore_errors=True)
    shutil.rmtree(Apt(suite).base, ignore_errors=True)
