# SPDX-License-Identifier: GPL-2.0
"""`make install`: where the manual and the completion go, and what it says when it can't."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from popcorn.cli.completion import SCRIPTS

ROOT = Path(__file__).parents[2]

#: Where bash-completion, zsh and fish look below a prefix's share/, and for which file.
PLACES = {
    "share/bash-completion/completions": ["popcornctl"],
    "share/zsh/site-functions": ["_popcornctl"],
    "share/fish/vendor_completions.d": ["popcornctl.fish"],
}


def config() -> configparser.ConfigParser:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    return settings


def data_files(place: str) -> list[Path]:
    patterns = config()["options.data_files"][place].split()
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


@pytest.mark.parametrize("place", PLACES)
def test_shells_find_their_files(place: str) -> None:
    found = data_files(place)
    assert [path.name for path in found] == PLACES[place]
    assert found[0].name in SCRIPTS.values()


def test_the_command_finds_its_scripts_when_it_is_installed() -> None:
    patterns = config()["options.package_data"]["popcorn"].split()
    packed = {path for pattern in patterns for path in (ROOT / "tools/popcorn").glob(pattern)}
    assert packed >= {ROOT / "tools/popcorn/cli/shell" / name for name in SCRIPTS.values()}


def test_every_manual_page_is_installed() -> None:
    assert data_files("share/man/man1") == sorted((ROOT / "docs/reference/man").iterdir())
    assert data_files("share/man/man8") == sorted((ROOT / "tracing/man").iterdir())


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` without what installs packages; under another make it must not join that one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", "-o", "setup", *arguments],
        cwd=ROOT,
        env={**kept, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_headers_install_says_what_is_missing(tmp_path: Path) -> None:
    done = make("install", "RELEASE=6.0-none", f"DESTDIR={tmp_path}")
    lines = done.stderr.splitlines()
    assert done.returncode != 0
    assert lines[:3] == [
        "install: cannot build the modules for 6.0-none:"
        " its headers are not in /lib/modules/6.0-none/build",
        "hint: if it is Debian's kernel: apt-get install linux-headers-6.0-none",
        "hint: if it is your own: make install KDIR=DIRECTORY, where it was built",
    ]
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_install_and_uninstall_need_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs the tests, here it is somebody else.
    program = tmp_path / "id"
    program.write_text("#!/bin/sh\necho 1000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for target in ("install", "uninstall"):
        # Should it go on in spite of that, then not far.
        done = make(target, "RELEASE=6.0-none", "PYTHON=/bin/false")
        assert done.returncode != 0
        assert done.stderr.startswith(f"{target}: needs root")


def test_uninstall_leaves_a_package_alone(tmp_path: Path) -> None:
    done = make("uninstall", f"DESTDIR={tmp_path}")
    assert done.returncode != 0
    assert done.stderr.startswith("uninstall: what is below DESTDIR is removed with it\n")
