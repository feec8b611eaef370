# SPDX-License-Identifier: GPL-2.0
"""The guest's initramfs: BusyBox, the few modules that reach the root file system, the run's job.

The part with the modules depends on the kernel only and is kept in build/lab/; the job (what to
run, where, with which environment) is a second, tiny archive behind it. The kernel unpacks both
(Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import lzma
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from setup.kernels import Kernel
from setup.paths import LAB
from setup.shell import SetupError, lock

from popcorn.image import cpio

HERE = Path(__file__).resolve().parent
BUSYBOX = Path("/bin/busybox")

# Loaded in this order, each after what it depends on.
MODULES = (
    "virtio_pci",
    "pvpanic-pci",
    "virtio_console",
    "9pnet_virtio",
    "9p",
    "overlay",
)


def build(kernel: Kernel, job: Mapping[str, bytes], target: Path) -> None:
    """Write the initramfs for one run; `job` maps names below /lab to contents."""
    base = _base(kernel)
    entries = [cpio.file(f"lab/{name}", content) for name, content in job.items()]
    target.write_bytes(base.read_bytes() + cpio.write(cpio.with_parents(entries)))


def load_order(modules_dep: str, builtin: str, wanted: tuple[str, ...]) -> list[str]:
    """Return the paths in modules.dep(5) to insert for `wanted`, dependencies first.

    Leaves out what modules.builtin lists. Raises SetupError for a module that the kernel lacks.
    """
    paths: dict[str, list[str]] = {}
    for line in modules_dep.splitlines():
        path, _, needs = line.partition(":")
        paths[path] = needs.split()
    by_name = {_name(path): path for path in paths}
    linked = {_name(path) for path in builtin.splitlines()}
    order: list[str] = []
    for name in wanted:
        if name in by_name:
            # modules.dep lists all dependencies, the innermost last.
            order += [*reversed(paths[by_name[name]]), by_name[name]]
        elif name not in linked:
            raise SetupError(
                f"this kernel has no {name}, which the lab needs of a primary",
                "it can still be a secondary",
            )
    return list(dict.fromkeys(order))


def _base(kernel: Kernel) -> Path:
    target = LAB / f"initramfs-{kernel.release}.cpio"
    sources = [HERE / "initramfs.sh", Path(__file__), BUSYBOX, kernel.modules / "modules.dep"]
    with lock("initramfs"):
        newest = max(_mtime(source) for source in sources)
        if not target.exists() or target.stat().st_mtime < newest:
            scratch = target.with_suffix(".new")
            scratch.write_bytes(cpio.write(_base_entries(kernel)))
            scratch.rename(target)
    return target


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError as missing:
        raise SetupError(f"{path} is missing", "run `make setup`") from missing


def _base_entries(kernel: Kernel) -> list[cpio.Entry]:
    names = ("bin", "dev", "proc", "sys", "modules", "lower", "upper", "root")
    entries = [cpio.directory(name) for name in names]
    entries.append(cpio.file("bin/busybox", BUSYBOX.read_bytes(), 0o755))
    entries.append(cpio.file("init", (HERE / "initramfs.sh").read_bytes(), 0o755))
    order = ""
    dep, builtin = (kernel.modules / f"modules.{kind}" for kind in ("dep", "builtin"))
    for path in load_order(dep.read_text(), builtin.read_text(), MODULES):
        name, content = _module(kernel.modules / path)
        entries.append(cpio.file(f"modules/{name}", content))
        order += f"{name}\n"
    return [*entries, cpio.file("modules/order", order.encode())]


def _name(path: str) -> str:
    """Return the module's name from its path: "9p" from "kernel/fs/9p/9p.ko.xz"."""
    return path.rsplit("/", 1)[-1].split(".ko")[0]


def _module(path: Path) -> tuple[str, bytes]:
    """Return a module's file name and its content, unpacked: BusyBox insmod wants it plain."""
    content = path.read_bytes()
    if path.suffix == ".xz":
        return path.stem, lzma.decompress(content)
    if path.suffix == ".zst":
        if not shutil.which("zstd"):
            raise SetupError("zstd is not installed", "run `make setup`")
        done = subprocess.run(["zstd", "-dcq", path], stdout=subprocess.PIPE, check=True)
        return path.stem, done.stdout
    return path.name, content


def job(
    command: tuple[str, ...],
    environment: Mapping[str, str],
    kernels: list[Kernel],
    *,
    cwd: Path,
    shared: Path,
) -> dict[str, bytes]:
    """Return the files that tell guest-init.sh what to do."""
    shell = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    settings = {"LAB_CWD": cwd, "LAB_SHARED": shared, "LAB_INIT": HERE / "guest-init.sh"}
    return {
        "settings": "".join(f"{k}={shlex.quote(str(v))}\n" for k, v in settings.items()).encode(),
        "environment": shell.encode(errors="surrogateescape"),
        "kernels": "".join(f"{k.release} {k.base}\n" for k in kernels).encode(),
        **(
            {"command": (shlex.join(command) + "\n").encode(errors="surrogateescape")}
            if command
            else {}
        ),
    }
