# SPDX-License-Identifier: GPL-2.0
"""The kernel that is built here: when, and with which configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from setup import compiled, kernels, rootfs
from setup.apt import Apt
from setup.compiled import Recipe
from setup.shell import SetupError

from labvm import options

SHOW = "Package: linux-source-6.1\nVersion: {}\nDepends: xz-utils (>= Version: 1)\n"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    (tmp_path / "debug.config").write_text("CONFIG_KASAN=y\n")
    return Recipe("6.1-debug", "6.1", tmp_path / "debug.config")


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions of the source package that apt knows: one or none."""
    versions = ["6.1.192-2"]

    def call(self: Apt, *words: str) -> str:
        assert words[-1] == "linux-source-6.1"
        if not versions:
            raise SetupError("No packages found")
        return SHOW.format(versions[0])

    monkeypatch.setattr(Apt, "call", call)
    return versions


def test_it_is_built_once(recipe: Recipe, archive: list[str]) -> None:
    assert compiled.up_to_date(recipe, recipe.state("6.1.192-2"))


def test_another_version_of_the_source_is_built(recipe: Recipe, archive: list[str]) -> None:
    state = recipe.state("6.1.192-2")
    archive[0] = "6.1.200-1"
    assert not compiled.up_to_date(recipe, state)


def test_another_configuration_is_built(recipe: Recipe, archive: list[str]) -> None:
    state = recipe.state("6.1.192-2")
    recipe.fragment.write_text("# Finds use after free.\nCONFIG_KASAN=y\n")
    assert compiled.up_to_date(recipe, state)
    recipe.fragment.write_text("CONFIG_KASAN=y\nCONFIG_UBSAN=y\n")
    assert not compiled.up_to_date(recipe, state)


def test_without_package_lists_what_is_there_will_do(recipe: Recipe, archive: list[str]) -> None:
    state = recipe.state("6.1.192-2")
    archive.clear()
    assert compiled.up_to_date(recipe, state)
    recipe.fragment.write_text("CONFIG_KASAN=n\n")
    assert not compiled.up_to_date(recipe, state)


def test_a_tree_that_was_configured_otherwise_since_is_not_the_kernels(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "LINUX", tmp_path / "linux")
    config = tmp_path / "config"
    config.write_text("# General\nCONFIG_KASAN=y\n# CONFIG_PREEMPT is not set\n")
    assert not compiled.tree_fits(recipe, config)
    recipe.tree.mkdir(parents=True)
    (recipe.tree / ".config").write_text("# CONFIG_PREEMPT is not set\nCONFIG_KASAN=y\n")
    assert compiled.tree_fits(recipe, config)
    (recipe.tree / ".config").write_text("CONFIG_PREEMPT=y\nCONFIG_KASAN=y\n")
    assert not compiled.tree_fits(recipe, config)


def test_a_setting_that_the_kernel_did_not_take_is_told() -> None:
    fragment = (
        "# About memory: CONFIG_X is not set here.\n"
        'CONFIG_KASAN=y\nCONFIG_NAME="-debug"\nCONFIG_9P_FS=m\nCONFIG_GONE=y\n'
        "# CONFIG_DRM is not set\n# CONFIG_NEVER_HEARD_OF is not set\n# CONFIG_USB is not set\n"
    )
    config = (
        '# General\nCONFIG_KASAN=y\nCONFIG_NAME="-debug"\nCONFIG_9P_FS=y\n'
        "# CONFIG_DRM is not set\nCONFIG_USB=y\nCONFIG_MORE=y\n"
    )
    assert compiled.unmet(fragment, config) == ["CONFIG_9P_FS=m", "CONFIG_GONE=y", "CONFIG_USB=n"]
    assert compiled.unmet("", config) == []


def test_the_fragment_replaces_settings() -> None:
    config = "# General\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_AB=m\n"
    fragment = "# Why.\n# CONFIG_A is not set\nCONFIG_B=y\n"
    assert compiled.merged(config, fragment) == "# General\nCONFIG_AB=m\n" + fragment


def test_the_fragment_has_all_the_checks_and_names_the_kernel() -> None:
    lines = kernels.RECIPES["6.1-debug"].fragment.read_text().splitlines()
    for check in ("KASAN_INLINE", "PROVE_LOCKING", "DEBUG_ATOMIC_SLEEP", "DEBUG_KMEMLEAK", "UBSAN"):
        assert f"CONFIG_{check}=y" in lines
    assert 'CONFIG_LOCALVERSION="-debug"' in lines


def test_it_is_a_kernel_like_the_others() -> None:
    assert "6.1-debug" in kernels.NAMES
    assert len(set(kernels.NAMES)) == len(kernels.NAMES)
    assert options.parse(["--kernel", "6.1-debug", "true"]).kernel == "6.1-debug"


def test_modules_are_built_in_the_tree_of_their_kernel() -> None:
    built = kernels.Kernel("6.1-debug", "6.1.192-debug", "")
    assert rootfs.headers(built) == built.tree == kernels.RECIPES["6.1-debug"].tree
    fetched = kernels.Kernel("6.1", "6.1.0-56-amd64", "")
    assert fetched.tree is None
    assert rootfs.headers(fetched) == Path("/usr/src/linux-headers-6.1.0-56-amd64")
