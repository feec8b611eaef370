# SPDX-License-Identifier: GPL-2.0
"""Fixtures of the tests in the lab. They run as root in the guest, against the real modules."""

from __future__ import annotations

import functools
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import reports
from guest import CHECKED, RELEASE, Shared, Starter, ctl, quiet, release_all
from popcorn import Client
from popcorn.boot import read_image
from popcorn.initrd import cache_directory
from popcorn.kernels import with_unpacked
from popcorn.models import Kernel
from popcorn.plan import Spec
from popcorn.start import Started, start_kernel
from tracers import Tracer


@pytest.fixture(scope="session")
def kernel_log() -> Iterator[reports.Log | None]:
    """The log of a kernel that checks itself, None for any other; no leaks when all is done."""
    if not CHECKED:
        yield None
        return
    begin = time.monotonic()
    log = reports.Log()
    yield log
    # The modules are gone: whatever they had must be, too.
    leaks = reports.find_leaks(begin)
    assert not leaks, "kmemleak reports:\n" + "\n".join(leaks)
    assert not (found := reports.reports(log.new())), "the kernel reports:\n" + "\n".join(found)
    assert log.lockdep_may_be_off or reports.lockdep_is_on(), "lockdep gave up"


@pytest.fixture(autouse=True)
def kernel_is_content(kernel_log: reports.Log | None, modules: None) -> Iterator[None]:
    """Fail the test during which the kernel reports something; boot counts to the first."""
    yield
    if kernel_log:
        found = reports.reports(kernel_log.new())
        assert not found, "the kernel reports:\n" + "\n".join(found)


@pytest.fixture(autouse=True)
def no_tracer_stays() -> Iterator[None]:
    """One that a failed test leaves would hold the modules, and fail others."""
    yield
    Tracer.end_all()


@pytest.fixture(scope="session", autouse=True)
def modules(kernel_log: reports.Log | None) -> Iterator[None]:
    """Load the modules; unloading them at the end proves that nothing holds them."""
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    # Here, so that no test that looks for lost memory is the first: what is kept is memory here.
    with_unpacked(read_image(Path(f"/boot/vmlinuz-{RELEASE}")), cache_directory())
    yield
    with Client() as client:
        release_all(client)
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    assert not Path("/sys/module/popcorn").exists()


@pytest.fixture(scope="module")
def kept(modules: None) -> Iterator[Shared]:
    """What `shared` started: for the tests of a module, but not for the next module."""
    kernels = Shared()
    yield kernels
    with Client() as client:
        release_all(client)


@pytest.fixture
def client(request: pytest.FixtureRequest, kept: Shared) -> Iterator[Client]:
    """A client, and no kernels before and after, but for those that the test shares."""
    shares = "shared" in request.fixturenames
    with Client() as client:
        release_all(client, but=kept.names() if shares else ())
        yield client
        release_all(client, but=kept.names() if shares else ())


@pytest.fixture
def start(client: Client) -> Starter:
    """Start a kernel: `start(name, cpus=(2,), memory_mib=256, ...)`."""

    def starter(name: str, **options: Any) -> Started:
        options = {"cpus": (2,), "kernel": RELEASE, "memory_mib": 256} | options
        options["memory_bytes"] = options.pop("memory_mib") << 20
        cache = options.pop("cache", None)
        return start_kernel(client, Spec(name=name, **options), progress=quiet, cache=cache)

    return starter


@pytest.fixture
def shared(client: Client, start: Starter, kept: Shared) -> Iterator[Callable[..., Kernel]]:
    """Like `start`, for tests to which it does not matter who used the kernel before.

    One that the test before left running is not started again if it is of the same options.
    Kernels that a test uses the tests after it find running only if they ask for `shared` too.
    """
    yield lambda name, **options: kept.get(client, name, start, options)
    kept.check(client)


@pytest.fixture(scope="module")
def terminals(modules: None) -> Iterator[None]:
    """The module of the lines; that it can be unloaded shows that none is left open."""
    subprocess.run(["modprobe", "popcorn_tty"], check=True)
    yield
    subprocess.run(["modprobe", "-r", "popcorn_tty"], check=True)


@pytest.fixture
def shell(terminals: None, shared: Callable[..., Kernel]) -> Kernel:
    """A kernel whose image has the agent that runs commands there: `web`."""
    return shared("web", profile="shell")


@pytest.fixture(scope="session")
def run_image(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """An initramfs whose kernel, of RELEASE or another, runs a script once it has joined.

    One for each script: to build it takes seconds.
    """

    @functools.cache
    def build(script: str, release: str = RELEASE) -> Path:
        directory = tmp_path_factory.mktemp("image")
        source, image = directory / "run.sh", directory / "run.img"
        source.write_text("#!/bin/sh\n" + script)
        done = ctl("image", "build", "--release", release, "--profile", "shell",
                   "--run", str(source), "-o", str(image))  # fmt: skip
        assert done.returncode == 0, done.stderr
        return image

    return build
