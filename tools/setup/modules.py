# SPDX-License-Identifier: GPL-2.0
"""Popcorn's modules, built for a fetched kernel and put where that kernel's modprobe finds them.

kmod/ is mirrored into build/modules/RELEASE/src and built there, so that builds for different
kernels never mix and each stays incremental. The stripped modules go to build/modules/RELEASE/ and,
as updates/popcorn/, into the unpacked kernel's module tree.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
from pathlib import Path

from . import apt, kernels, rootfs
from .kernels import Kernel
from .paths import KMOD, MODULES, ROOT
from .shell import LOG, lock, run

# What kbuild reads; anything else in kmod/ is documentation or left over from a build in place.
SOURCES = ("*.c", "*.h", "*.S", "Kbuild", "Makefile")

# Needs the kernel's vmlinux, which distributions do not ship with the headers.
WITHOUT = "CONFIG_DEBUG_INFO_BTF_MODULES="


def build(name: str) -> Kernel:
    """Build the modules for a kernel, fetching what that takes; return the kernel."""
    kernel = kernels.ensure(name)
    with lock(f"modules-{kernel.release}"):
        source = MODULES / kernel.release / "src"
        if mirror(KMOD, source):
            LOG.info("building the modules for %s", kernel.release)
        _make(kernel, source)
        if _install(kernel, source):
            kernel.depmod()
        _stamp(kernel).write_text(_state(source))
    return kernel


def build_untraced(name: str) -> Path:
    """Build the modules without tracepoints as well; return where they are, for `insmod`."""
    kernel = kernels.ensure(name)
    target = untraced(kernel.release)
    with lock(f"modules-{kernel.release}"):
        mirror(KMOD, target / "src")
        _make(kernel, target / "src", "PCN_NO_TRACE=y")
        _strip(target / "src", target)
    return target


def untraced(release: str) -> Path:
    """Return where the modules without tracepoints are for a kernel, if they were built."""
    return MODULES / release / "untraced"


def stale(kernel: Kernel) -> bool:
    """Whether the modules for a kernel were not built from the source as it is now."""
    stamp = _stamp(kernel)
    return not stamp.exists() or stamp.read_text() != _state(KMOD)


def _stamp(kernel: Kernel) -> Path:
    return MODULES / kernel.release / "built-from"


def _state(directory: Path) -> str:
    """Return what tells one state of the sources from another; the mirror keeps sizes and times."""
    paths = {path.relative_to(directory): path for path in _sources(directory)}
    return "".join(f"{name} {_version(path)}\n" for name, path in sorted(paths.items()))


def version() -> str:
    """Return the version that the package and the modules carry."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    return settings["metadata"]["version"]


def mirror(source: Path, target: Path) -> bool:
    """Give `target` the sources of `source`, sparing what was built; True if that changed it."""
    changed = False
    wanted = {path.relative_to(source) for path in _sources(source)}
    for path in _sources(target) if target.is_dir() else ():
        if path.relative_to(target) not in wanted:
            path.unlink()
            changed = True
    for name in sorted(wanted):
        old, new = target / name, source / name
        if not old.exists() or _version(old) != _version(new):
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(new, old)
            changed = True
    return changed


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _sources(directory: Path) -> list[Path]:
    # kbuild generates *.mod.c next to the objects.
    found = [path for pattern in SOURCES for path in directory.rglob(pattern)]
    return [path for path in found if not path.name.endswith(".mod.c")]


def _make(kernel: Kernel, source: Path, *more: str) -> None:
    jobs = f"-j{os.cpu_count() or 1}"
    make = ["make", "--no-print-directory", jobs, "-C", str(rootfs.headers(kernel)), "modules"]
    # With the test modules, which users do not get.
    make += [WITHOUT, f"PCN_VERSION={version()}", "PCN_TESTS=m", *more]
    if kernel.suite:
        root = rootfs.ensure(kernel)
        run(rootfs.inside(root, source, [*make, "M=/src"]), capture=False)
        headers = root / rootfs.headers(kernel).relative_to("/")
    else:
        if kernel.tree:
            # It has no debug information itself; our modules shall, for addr2line.
            make.append("KCFLAGS=-g")
        else:
            apt.ensure_installed(f"linux-headers-{kernel.release}")
        run([*make, f"M={source}"], capture=False)
        headers = rootfs.headers(kernel)
    _link_headers(kernel, headers)


def _link_headers(kernel: Kernel, headers: Path) -> None:
    """Make lib/modules/RELEASE/{build,source} lead to the headers, which is where BCC looks."""
    common = re.search(
        r"^include (/usr/src/\S+)/Makefile", (headers / "Makefile").read_text(), re.M
    )
    source = headers.parent / Path(common[1]).name if common else headers
    for name, target in (("build", headers), ("source", source)):
        link = kernel.modules / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def _install(kernel: Kernel, source: Path) -> bool:
    """Strip and copy the modules that changed; drop those that are no more; True if any did."""
    updates = kernel.modules / "updates/popcorn"
    updates.mkdir(parents=True, exist_ok=True)
    changed = _strip(source, MODULES / kernel.release)
    kept = {path.name for path in source.glob("*.ko")}
    for gone in updates.glob("*.ko"):
        if gone.name not in kept:
            gone.unlink()
            changed.append(gone)
    for done in changed:
        if done.exists():
            # Renamed into place: a run that is going on must not see half a file.
            shutil.copy2(done, updates / f".{done.name}")
            (updates / f".{done.name}").rename(updates / done.name)
    return bool(changed)


def _strip(source: Path, target: Path) -> list[Path]:
    """Put the modules into `target` without debug information; return those that changed there."""
    built = {path.name: path for path in source.glob("*.ko")}
    changed = [path for path in target.glob("*.ko") if path.name not in built]
    for gone in changed:
        gone.unlink()
    for name, path in built.items():
        done = target / name
        if done.exists() and done.stat().st_mtime >= path.stat().st_mtime:
            continue
        # The unstripped one stays in src/ for gdb and addr2line.
        scratch = target / f".{name}"
        run(["strip", "--strip-debug", "-o", scratch, path])
        scratch.rename(done)
        changed.append(done)
    return changed
