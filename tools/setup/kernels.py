# SPDX-License-Identifier: GPL-2.0
"""The kernels that the lab boots, unpacked below build/kernels/NAME/: distributions' and our own.

NAME is what a person types: "6.1", "6.12", "7.2", and with a flavour "6.1-rt", "6.1-cloud". The
one of our own is "6.1-debug", built here from the distribution's source.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import compiled
from .apt import Apt
from .compiled import Recipe
from .paths import KERNELS, ROOT
from .shell import LOG, SetupError, lock, run


@dataclass(frozen=True)
class Source:
    """Where a kernel comes from: suites that may carry it ("" is this machine's own)."""

    version: str
    suites: tuple[str, ...]
    flavour: str = "amd64"

    @property
    def package(self) -> re.Pattern[str]:
        """Return what the kernel's package is called; the group is the release (uname -r)."""
        release = rf"{re.escape(self.version)}\.[\d.]+(?:[-+]\w+)?-{re.escape(self.flavour)}"
        return re.compile(rf"linux-image-({release})")


# Kernels that are built here rather than fetched.
RECIPES = {
    "6.1-debug": Recipe("6.1-debug", "6.1", ROOT / "tests/lab/debug.config"),
}

# Kernels that are packages.
SOURCES = {
    "6.1": Source("6.1", ("",)),
    "6.1-rt": Source("6.1", ("",), "rt-amd64"),
    "6.1-cloud": Source("6.1", ("",), "cloud-amd64"),
    "6.12": Source("6.12", ("trixie",)),
    # Which of the two carries it changes with time.
    "7.2": Source("7.2", ("testing", "unstable")),
}

NAMES = (*SOURCES, *RECIPES)


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: `release` is its uname -r, `suite` the suite it came from."""

    name: str
    release: str
    suite: str

    @property
    def base(self) -> Path:
        """Directory that holds boot/ and lib/modules/RELEASE/."""
        return KERNELS / self.name

    @property
    def image(self) -> Path:
        """The bzImage."""
        return self.base / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        """What is /lib/modules/RELEASE on a machine that runs this kernel."""
        return self.base / "lib/modules" / self.release

    @property
    def tree(self) -> Path | None:
        """Where the kernel was built, if that was here."""
        return RECIPES[self.name].tree if self.name in RECIPES else None

    def depmod(self) -> None:
        """Bring modules.dep and its relatives up to date."""
        run(["depmod", "--basedir", self.base, self.release])


def fetched() -> list[Kernel]:
    """Return the kernels that are there, in the order of NAMES."""
    return [kernel for kernel in map(_read, NAMES) if kernel]


def ensure(name: str) -> Kernel:
    """Return a kernel, fetching or building it first if it is not there.

    Raises SetupError for an unknown name, when no suite carries the kernel, and when it does not
    build.
    """
    if name not in NAMES:
        raise SetupError(f"there is no kernel {name!r}", f"known kernels: {', '.join(NAMES)}")
    with lock(f"kernel-{name}"):
        if name in RECIPES:
            return _ensure_built(RECIPES[name])
        return _read(name) or _fetch(name)


def _read(name: str) -> Kernel | None:
    try:
        release, suite = (KERNELS / name / "release").read_text().split("\n")[:2]
    except FileNotFoundError:
        return None
    return Kernel(name, release, suite)


def _fetch(name: str) -> Kernel:
    apt, release = _find(name)
    scratch = KERNELS / f".{name}"
    shutil.rmtree(scratch, ignore_errors=True)
    # One package up to 7.1; from 7.2 on linux-image-* only depends on the parts.
    parts = {f"linux-{part}-{release}" for part in ("image", "base", "binary", "modules")}
    apt.extract(sorted(parts & set(apt.names("linux-"))), scratch)
    if (scratch / "usr/lib/modules").is_dir():
        (scratch / "lib").mkdir(exist_ok=True)
        (scratch / "usr/lib/modules").rename(scratch / "lib/modules")  # merged /usr: trixie on
    shutil.rmtree(scratch / "usr", ignore_errors=True)
    boot = scratch / "boot"
    boot.mkdir(exist_ok=True)
    for part in ("vmlinuz", "config", "System.map"):
        # From 7.2 on they come with the modules, and installing copies them to /boot.
        if not (boot / f"{part}-{release}").exists():
            (boot / f"{part}-{release}").symlink_to(f"../lib/modules/{release}/{part}")
    (scratch / "release").write_text(f"{release}\n{apt.suite}\n")
    run(["depmod", "--basedir", scratch, release])
    shutil.rmtree(KERNELS / name, ignore_errors=True)
    scratch.rename(KERNELS / name)
    LOG.info("kernel %s is %s", name, release)
    return Kernel(name, release, apt.suite)


def _ensure_built(recipe: Recipe) -> Kernel:
    stamp = KERNELS / recipe.name / "built-from"
    kernel = _read(recipe.name)
    if (
        kernel
        and stamp.exists()
        and compiled.up_to_date(recipe, stamp.read_text())
        and compiled.tree_fits(recipe, kernel.base / "boot" / f"config-{kernel.release}")
    ):
        return kernel
    scratch = KERNELS / f".{recipe.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    release, state = compiled.build(recipe, scratch)
    (scratch / "release").write_text(f"{release}\n\n")
    (scratch / stamp.name).write_text(state)
    shutil.rmtree(KERNELS / recipe.name, ignore_errors=True)
    scratch.rename(KERNELS / recipe.name)
    LOG.info("kernel %s is %s", recipe.name, release)
    return Kernel(recipe.name, release, "")


def _find(name: str) -> tuple[Apt, str]:
    source = SOURCES[name]
    for suite in source.suites:
        apt = Apt(suite)
        apt.update()
        names = apt.names(f"linux-image-{source.version}.")
        found = [match[1] for match in map(source.package.fullmatch, names) if match]
        if found:
            return apt, found[-1]
    where = " or ".join(suite or "this release" for suite in source.suites)
    raise SetupError(
        f"no linux-image-{source.version}.*-{source.flavour} in {where}",
        "the archive has moved on: name the new version in tools/setup/kernels.py",
    )
