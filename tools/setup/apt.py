# SPDX-License-Identifier: GPL-2.0
"""Packages of this release and of other suites of the same archive.

The archive's address is whatever this machine's own apt uses, so proxies and mirrors keep working.
Other suites get an apt state of their own below build/apt/SUITE: the machine's package lists, and
what it would install or upgrade to, stay as they are.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .paths import APT
from .shell import LOG, SetupError, run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def codename() -> str:
    """Return the release's code name, such as "bookworm" (VERSION_CODENAME, os-release(5))."""
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    raise SetupError("/etc/os-release has no VERSION_CODENAME", "the lab needs Debian 12")


def archive() -> str:
    """Return the URI from which this machine's apt takes the release's main component."""
    wanted = f"|{codename()}|main"
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    for line in run(["apt-get", "indextargets", "--format", form]).splitlines():
        if line.endswith(wanted):
            return line.split("|")[0]
    raise SetupError(
        f"apt has no source for {codename()} main", "see /etc/apt/sources.list and sources.list.d"
    )


def source_line(suite: str, kind: str = "deb") -> str:
    """Return a sources.list(5) line for a suite of the machine's own archive."""
    return f"{kind} [signed-by={KEYRING}] {archive()} {suite} main\n"


def acquire_settings() -> str:
    """Return how this machine's apt reaches archives (proxies, checks), as apt.conf(5)."""
    wanted = re.compile(r"Acquire::(http|https|Check-|Retries)", re.IGNORECASE)
    lines = run(["apt-config", "dump", "Acquire"]).splitlines(keepends=True)
    return "".join(line for line in lines if wanted.match(line))


@dataclass(frozen=True)
class Apt:
    """An apt configuration: the machine's own (`suite` empty) or a private one for a suite.

    `beside` makes a private one that also knows what is installed here and the machine's own
    suites, to find the packages that something from `suite` needs on top of this machine. `sources`
    makes one that knows a suite's source packages only.
    """

    suite: str = ""
    beside: bool = False
    sources: bool = False

    @property
    def base(self) -> Path:
        """Directory of the private state."""
        kind = "-beside" if self.beside else "-sources" if self.sources else ""
        return APT / (self.suite + kind)

    @property
    def options(self) -> list[str]:
        """Return the options that make apt use this configuration."""
        if not self.suite:
            return []
        status = Path("/var/lib/dpkg/status") if self.beside else self.base / "status"
        values = {
            "Dir::Etc::SourceList": self.base / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": self.base / "state",
            "Dir::State::status": status,
            "Dir::Cache": self.base / "cache",
            # The sandbox user could not write into a checkout that only root may enter.
            "APT::Sandbox::User": "root",
        }
        return [option for key, value in values.items() for option in ("-o", f"{key}={value}")]

    def call(self, tool: str, *args: str, cwd: Path | None = None) -> str:
        """Run an apt tool (apt-get, apt-cache) with this configuration and return its output."""
        return run([tool, *self.options, *args], cwd=cwd, hint="is the package archive reachable?")

    def update(self) -> None:
        """Fetch the package lists."""
        LOG.info("fetching the package lists of %s", self.suite or codename())
        if self.suite:
            for directory in ("state/lists/partial", "cache/archives/partial"):
                (self.base / directory).mkdir(parents=True, exist_ok=True)
            (self.base / "status").touch()
            suites = [self.suite, codename()] if self.beside else [self.suite]
            kind = "deb-src" if self.sources else "deb"
            lines = "".join(source_line(suite, kind) for suite in suites)
            (self.base / "sources.list").write_text(lines)
        self.call("apt-get", "--quiet", "update")

    def names(self, prefix: str) -> list[str]:
        """Return the names of the packages that start with `prefix`, by their versions."""
        names = self.call("apt-cache", "pkgnames", prefix).split()
        return sorted(names, key=_natural)

    def extract(self, packages: list[str], target: Path) -> None:
        """Download packages and unpack them below `target`; nothing is installed or configured."""
        APT.mkdir(parents=True, exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=APT) as scratch:
            LOG.info("downloading %s", " ".join(packages))
            self.call("apt-get", "--quiet", "download", *packages, cwd=Path(scratch))
            for archive_file in sorted(Path(scratch).glob("*.deb")):
                run(["dpkg", "-x", archive_file, target])

    def source(self, package: str, directory: Path) -> Path:
        """Download a source package and return the tarball of its upstream; apt checks it."""
        LOG.info("downloading the source of %s", package)
        self.call("apt-get", "--quiet", "--download-only", "source", package, cwd=directory)
        (tarball,) = directory.glob("*.orig.tar.*")
        return tarball

    def needed_for(self, package: str) -> list[str]:
        """Return `NAME=VERSION` of every package that installing `package` would bring here."""
        plan = self.call(
            "apt-get", "--simulate", "--no-install-recommends", "-t", self.suite, "install", package
        )
        return [f"{name}={version}" for name, version in re.findall(_PLANNED, plan, re.MULTILINE)]


# "Inst NAME [installed version] (new version SUITE [arch])" in the output of apt-get --simulate.
_PLANNED = r"^Inst (\S+) (?:\[\S+\] )?\((\S+) "


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which 6.1.0-9 comes before 6.1.0-56."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def ensure_installed(package: str) -> None:
    """Install a package of this release on this machine unless it is there."""
    if re.search("^install ok", _status(package)):
        return
    LOG.info("installing %s", package)
    install = ["apt-get", "--yes", "--quiet", "--no-install-recommends", "install", package]
    try:
        run(install)
    except SetupError:
        Apt().update()
        run(install)


def _status(package: str) -> str:
    try:
        return run(["dpkg-query", "--show", "--showformat=${Status}", package])
    except SetupError:
        return ""
