# SPDX-License-Identifier: GPL-2.0
"""Fixtures of the tests in the lab. They run as root in the guest, against the real modules."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guest import Starter, ctl, quiet, release_all
from popcorn import Client
from popcorn.start import Spec, Started, start_kernel


@pytest.fixture(scope="session", autouse=True)
def modules() -> Iterator[None]:
    """Load the modules; unloading them at the end proves that nothing holds them."""
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    yield
    with Client() as client:
        release_all(client)
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    assert not Path("/sys/module/popcorn").exists()


@pytest.fixture
def client() -> Iterator[Client]:
    """A client, and no kernels before and after."""
    with Client() as client:
        release_all(client)
        yield client
        release_all(client)


@pytest.fixture
def start(client: Client) -> Starter:
    """Start a kernel: `start(name, cpus=(2,), memory_mib=256, ...)`."""

    def starter(name: str, **options: Any) -> Started:
        options.setdefault("cpus", (2,))
        options["memory_bytes"] = options.pop("memory_mib", 256) << 20
        return start_kernel(client, Spec(name=name, **options), progress=quiet)

    return starter


@pytest.fixture
def run_image(tmp_path: Path) -> Callable[[str], Path]:
    """An initramfs whose kernel runs a script once it has joined."""

    def build(script: str) -> Path:
        source, image = tmp_path / "run.sh", tmp_path / "run.img"
        source.write_text("#!/bin/sh\n" + script)
        done = ctl("image", "build", "--profile", "shell", "--run", str(source), "-o", str(image))
        assert done.returncode == 0, done.stderr
        return image

    return build
