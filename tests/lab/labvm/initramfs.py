# SPDX-License-Identifier: GPL-2.0
"""The guest's initramfs: BusyBox, the few modules that reach the root file system, and the run's job.

The part with the modules depends on the kernel only and is kept in build/lab/; the job (what to run,
where, with which environment) is a second, tiny archive behind it. The kernel unpacks both
(Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import lzma
import shlex
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from setup.kernels import Kernel
from setup.paths import LAB
from setup.shell import SetupError, lock

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
    files = {"lab": (stat.S_IFDIR | 0o755, b"")}
    for name, content in job.items():
        files[f"lab/{name}"] = (stat.S_IFREG | 0o644, content)
    target.write_bytes(base.read_bytes() + newc(files))


def load_order(modules_dep: str, wanted: tuple[str, ...]) -> list[str]:
    """Return the paths in modules.dep(5) to insert for `wanted`, dependencies first.

    A module that is not there is taken to be built in.
    """
    paths: dict[str, list[str]] = {}
    for line in modules_dep.splitlines():
        path, _, needs = line.partition(":")
        paths[path] = needs.split()
    by_name = {path.rsplit("/", 1)[-1].split(".ko")[0]: path for path in paths}
    order: list[str] = []
    for name in wanted:
        if name in by_name:
            # modules.dep lists all dependencies, the innermost last.
            order += [*reversed(paths[by_name[name]]), by_name[name]]
    return list(dict.fromkeys(order))


def newc(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Return a cpio archive in the "newc" format; `files` maps names to mode and content."""
    archive = bytearray()
    for inode, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields)
        archive += name.encode() + b"\0"
        archive += bytes(-len(archive) % 4)
        archive += content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def _base(kernel: Kernel) -> Path:
    target = LAB / f"initramfs-{kernel.release}.cpio"
    sources = [HERE / "initramfs.sh", Path(__file__), BUSYBOX, kernel.modules / "modules.dep"]
    with lock("initramfs"):
        newest = max(_mtime(source) for source in sources)
        if not target.exists() or target.stat().st_mtime < newest:
            scratch = target.with_suffix(".new")
            scratch.write_bytes(newc(_base_files(kernel)))
            scratch.rename(target)
    return target


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError as missing:
        raise SetupError(f"{path} is missing", "run `make setup`") from missing


def _base_files(kernel: Kernel) -> dict[str, tuple[int, bytes]]:
    files = {
        name: (stat.S_IFDIR | 0o755, b"")
        for name in ("bin", "dev", "proc", "sys", "modules", "lower", "upper", "root")
    }
    files["bin/busybox"] = (stat.S_IFREG | 0o755, BUSYBOX.read_bytes())
    files["init"] = (stat.S_IFREG | 0o755, (HERE / "initramfs.sh").read_bytes())
    order = load_order((kernel.modules / "modules.dep").read_text(), MODULES)
    names = []
    for path in order:
        name, content = _module(kernel.modules / path)
        files[f"modules/{name}"] = (stat.S_IFREG | 0o644, content)
        names.append(name)
    files["modules/order"] = (stat.S_IFREG | 0o644, "".join(f"{n}\n" for n in names).encode())
    return files


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
        **({"command": (shlex.join(command) + "\n").encode(errors="surrogateescape")} if command else {}),
    }
