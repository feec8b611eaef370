# SPDX-License-Identifier: GPL-2.0
"""One run of the lab from options to exit status."""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from setup import kernels, modules
from setup import qemu as newer_qemu
from setup.paths import BUILD, LAB, ROOT

from . import initramfs, qemu
from .machine import Machine, Outcome, interruptible
from .options import Options

# The status of a run whose guest did not live to report one.
LOST = 255
KEPT_RUNS = 30
TAIL_LINES = 40
# Machines at a time: each keeps up to two CPUs busy.
SLOTS = max(1, int(os.environ.get("LAB_BESIDE", (os.cpu_count() or 1) // 2)))
SHARED = LAB / "out"
# What the guest uses of this machine's files, besides the checkout.
USED = tuple(map(Path, ("/", "/usr", "/etc", "/var", "/home", "/opt", "/root")))


def _view() -> Path | None:
    """A directory for qemu.in_view(), or None if this machine's files are on several devices."""
    if len({path.stat().st_dev for path in (*USED, ROOT) if path.exists()}) > 1:
        return None
    view = LAB / "view"
    view.mkdir(parents=True, exist_ok=True)
    probe = subprocess.run(qemu.in_view(["true"], view), capture_output=True)
    return view if probe.returncode == 0 else None


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Some labs at a time: more emulated machines than CPUs only make each other time out."""
    LAB.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        locks = [stack.enter_context((LAB / f"lock{n}").open("w")) for n in range(SLOTS)]
        if not any(map(_try_lock, locks)):
            print("lab: other labs are running here; waiting for one to end", file=sys.stderr)
            while not any(map(_try_lock, locks)):
                time.sleep(1)
        yield


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class Result:
    """What a run came to; `directory` holds serial.log, qemu.log and the command line."""

    status: int
    outcome: Outcome
    directory: Path


def run(options: Options) -> Result:
    """Make ready what the run needs, run it, and say on standard error if the guest was lost."""
    interruptible()
    kernel = kernels.ensure(options.kernel)
    for ready in (kernel, *map(kernels.ensure, options.secondaries)):
        if modules.stale(ready):
            hint = f"make modules KERNELS={ready.name}"
            print(
                f"lab: the modules for {ready.release} are not up to date: {hint}", file=sys.stderr
            )
    emulator = qemu.Emulator()
    if options.machine == "x2apic":
        newer = newer_qemu.ensure()
        emulator = qemu.Emulator(newer.program, newer.data, newer.libraries, newer.modules)
    directory = _directory()
    SHARED.mkdir(exist_ok=True)
    files = qemu.Files(
        image=kernel.image,
        initrd=directory / "initrd",
        serial=directory / "serial.log",
        shared=SHARED,
        firmware_vars=directory / "firmware-vars.fd",
        view=_view(),
    )
    if options.firmware == "uefi":
        shutil.copyfile(qemu.OVMF_VARS, files.firmware_vars)
    job = initramfs.job(
        options.command,
        environment(options, kernel),
        kernels.fetched(),
        cwd=ROOT,
        shared=SHARED,
    )
    initramfs.build(kernel, job, files.initrd)
    _compile()
    machine = Machine(("status",) if options.interactive else qemu.PORTS)
    line = qemu.command(options, emulator, files, machine.fds)
    if files.view is not None:
        line = qemu.in_view(line, files.view)
    (directory / "command").write_text(qemu.show(line) + "\n")
    with _turn():
        outcome = machine.run(
            line,
            emulator.environment(),
            directory / "qemu.log",
            options.timeout,
            shell=options.interactive,
        )
    files.initrd.unlink()
    files.firmware_vars.unlink(missing_ok=True)
    if outcome.status is None:
        _explain(outcome, directory)
        return Result(LOST, outcome, directory)
    return Result(outcome.status, outcome, directory)


def _compile() -> None:
    """Have bytecode ready: the guest keeps none, and starts popcornctl again and again.

    Compiling its sources takes two thirds of the time that it needs to start.
    """
    for directory in (ROOT / "tools", ROOT / "tracing", ROOT / "tests/lab"):
        compileall.compile_dir(directory, quiet=1)


def environment(options: Options, kernel: kernels.Kernel) -> dict[str, str]:
    """Return the command's environment: a root login plus what a test may ask about the lab."""
    path = (BUILD / "bin", *map(Path, ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin")))
    known = {k.name: k.release for k in kernels.fetched()}
    values = {
        "PATH": ":".join([*map(str, path), "/usr/bin", "/sbin", "/bin"]),
        "HOME": "/root",
        "USER": "root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        # The upper layer is memory, and thrown away.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "LAB_KERNEL": options.kernel,
        "LAB_RELEASE": kernel.release,
        "LAB_SECONDARIES": " ".join(f"{n}={known[n]}" for n in options.secondaries),
        "LAB_MACHINE": options.machine,
        "LAB_FIRMWARE": options.firmware,
        "LAB_CPUS": str(options.cpus),
        "LAB_OUT": str(SHARED),
        "LAB_SERIAL2": "1" if options.serial2 else "",
    }
    size = shutil.get_terminal_size()
    values |= {"COLUMNS": str(size.columns), "LINES": str(size.lines)}
    if sys.stdout.isatty():
        values["FORCE_COLOR"] = "1"
    passed = ("NO_COLOR", "PYTEST_ADDOPTS")
    return values | {
        name: value
        for name, value in os.environ.items()
        if name in passed or name.startswith("POPCORN_")
    }


def _directory() -> Path:
    """Make this run's directory, point build/lab/last at it and drop the oldest ones."""
    name = time.strftime("run-%Y%m%d-%H%M%S-") + str(os.getpid())
    directory = LAB / name
    directory.mkdir(parents=True)
    link = LAB / f".last-{os.getpid()}"
    link.symlink_to(name)
    link.replace(LAB / "last")
    for old in sorted(LAB.glob("run-*"))[:-KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return directory


def _explain(outcome: Outcome, directory: Path) -> None:
    """Say why the guest was lost, with the end of what its console and QEMU said."""
    sys.stdout.flush()
    shown = directory.relative_to(ROOT)
    for name in ("qemu.log", "serial.log"):
        path = directory / name
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        if lines:
            print(f"lab: the end of {shown / name}:", file=sys.stderr)
            for line in lines[-TAIL_LINES:]:
                print(f"  {line}", file=sys.stderr)
    print(f"lab: {outcome.failure}; see {shown}/", file=sys.stderr, flush=True)
