# SPDX-License-Identifier: GPL-2.0
"""Kernels that are built here, from Debian's kernel source with a configuration of our own.

The source is unpacked to build/linux/NAME/ and built in place: an external module's build needs the
tree, and a changed configuration rebuilds only what depends on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import apt
from .apt import Apt
from .paths import LINUX, MODULES, ROOT
from .shell import LOG, SetupError, run

# What building a kernel needs besides packages.txt. Only who builds one gets them.
PACKAGES = ("bc", "bison", "flex", "libelf-dev", "libssl-dev", "xz-utils")

# A line of a configuration: a value, or that there is none.
_SETTING = re.compile(r"(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set")


@dataclass(frozen=True)
class Recipe:
    """What makes a kernel: its name here, the version of the source package, the configuration.

    `fragment` is a file of settings on top of x86_64_defconfig.
    """

    name: str
    version: str
    fragment: Path

    @property
    def package(self) -> str:
        """The source package: it contains a tarball and installs to /usr/src."""
        return f"linux-source-{self.version}"

    @property
    def tree(self) -> Path:
        """Where the kernel is built, and stays for its modules."""
        return LINUX / self.name

    def state(self, version: str) -> str:
        """Return what a kernel is built from; another state asks for another build."""
        settings = sorted(_settings(self.fragment.read_text()).items())
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()
        return f"{self.package} {version}\n{self.fragment.relative_to(ROOT)} {digest}\n"


def up_to_date(recipe: Recipe, built_from: str) -> bool:
    """Whether a kernel of state `built_from` is what the recipe would give now.

    Goes by the package lists as they are here, without asking the archive; and where they do not
    know the package, any version will do.
    """
    version = candidate(recipe) or built_from.partition("\n")[0].partition(" ")[2]
    return built_from == recipe.state(version)


def tree_fits(recipe: Recipe, config: Path) -> bool:
    """Whether the tree is still configured as the kernel was whose configuration is in `config`.

    Modules that are built in a tree of other settings load and then write where nothing of theirs
    is: structures differ, and nothing in the kernel looks at that (no CONFIG_MODVERSIONS).
    """
    ours = recipe.tree / ".config"
    return ours.exists() and _settings(ours.read_text()) == _settings(config.read_text())


def candidate(recipe: Recipe) -> str:
    """Return the version of the source package that would be fetched, "" if apt knows none."""
    try:
        text = Apt().call("apt-cache", "show", "--no-all-versions", recipe.package)
    except SetupError:
        return ""
    found = re.search(r"^Version: (\S+)$", text, re.MULTILINE)
    return found[1] if found else ""


def build(recipe: Recipe, target: Path) -> tuple[str, str]:
    """Build a kernel and put it below `target` as packages would: boot/ and lib/modules/RELEASE/.

    Returns the release and the state that it was built from.
    """
    for package in PACKAGES:
        apt.ensure_installed(package)
    Apt().update()
    version = candidate(recipe)
    if not version:
        raise SetupError(f"apt knows no {recipe.package}", "is the package archive reachable?")
    state = recipe.state(version)
    _unpack(recipe, version)
    _configure(recipe)
    LOG.info("building %s from %s %s; ten minutes or more", recipe.name, recipe.package, version)
    _make(recipe, "bzImage", "modules")
    release = (recipe.tree / "include/config/kernel.release").read_text().strip()
    boot = target / "boot"
    boot.mkdir(parents=True)
    for source, name in (
        ("arch/x86/boot/bzImage", "vmlinuz"),
        (".config", "config"),
        ("System.map", "System.map"),
    ):
        shutil.copy2(recipe.tree / source, boot / f"{name}-{release}")
    _make(recipe, f"INSTALL_MOD_PATH={target}", "INSTALL_MOD_STRIP=1", "modules_install")
    # What was built for the kernel before this one need not fit, whatever its time says.
    shutil.rmtree(MODULES / release, ignore_errors=True)
    return release, state


def _unpack(recipe: Recipe, version: str) -> None:
    """Make the tree hold the source of that version, unless it does."""
    stamp = recipe.tree / ".popcorn-source"
    if stamp.exists() and stamp.read_text() == version:
        return
    LINUX.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=LINUX) as scratch:
        Apt().extract([recipe.package], Path(scratch))
        (tarball,) = (Path(scratch) / "usr/src").glob(f"{recipe.package}.tar.*")
        LOG.info("unpacking %s", tarball.name)
        tree = Path(scratch) / "tree"
        tree.mkdir()
        run(["tar", "-xf", tarball, "-C", tree, "--strip-components=1"])
        (tree / stamp.name).write_text(version)
        shutil.rmtree(recipe.tree, ignore_errors=True)
        tree.rename(recipe.tree)


def _configure(recipe: Recipe) -> None:
    """Write the tree's .config; kbuild finds out which settings changed."""
    fragment = recipe.fragment.read_text()
    _make(recipe, "x86_64_defconfig")
    config = recipe.tree / ".config"
    config.write_text(merged(config.read_text(), fragment))
    _make(recipe, "olddefconfig")
    if missed := unmet(fragment, config.read_text()):
        raise SetupError(
            f"{recipe.fragment.relative_to(ROOT)} asks for what the kernel does not take:"
            f" {', '.join(missed)}",
            "something that it depends on is not set, or it is called otherwise in this version",
        )


def merged(config: str, fragment: str) -> str:
    """Return a configuration with the settings of `fragment` in place of its own."""
    ours = _settings(fragment)
    kept = [line for line in config.splitlines() if not _settings(line).keys() & ours.keys()]
    return "\n".join(kept) + "\n" + fragment


def unmet(fragment: str, config: str) -> list[str]:
    """Return the settings of `fragment` that a complete configuration does not have."""
    have = _settings(config)
    return [
        f"{name}={value or 'n'}"
        for name, value in _settings(fragment).items()
        if have.get(name, "") != value
    ]


def _settings(text: str) -> dict[str, str]:
    """Return names and values, "" for what is not set."""
    found = {}
    for match in filter(None, map(_SETTING.fullmatch, text.splitlines())):
        found[match[1] or match[3]] = match[2] or ""
    return found


def _make(recipe: Recipe, *words: str) -> None:
    jobs = f"-j{os.cpu_count() or 1}"
    # Without LOCALVERSION the checkout that is around the tree would become part of the release.
    run(
        ["nice", "-n", "19", "make", "--silent", jobs, "-C", recipe.tree, "LOCALVERSION=", *words],
        capture=False,
    )
