# SPDX-License-Identifier: GPL-2.0
"""Find what goes into an image on this machine: modules of a kernel, and busybox."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from popcorn.errors import ImageError
from popcorn.image import elf

__all__ = ("Busybox", "builtin", "find_agent", "find_busybox", "find_modules", "find_program")

MODULE_ROOTS = (Path("/lib/modules"),)
# Ours first, then where DKMS puts modules (Debian, Red Hat).
MODULE_FOLDERS = ("updates/popcorn", "updates/dkms", "extra")
PROGRAM_FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin")
# Where a program that was not told otherwise looks, and /lib, which it looks into in the image.
LIBRARY_FOLDERS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "lib")
BUSYBOX_PATHS = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
# That of a checkout, as `make modules` builds it, then where `make install` and packages put it.
AGENT_PATHS = (
    Path(__file__).resolve().parents[3] / "build/popcorn-agent",
    Path("/usr/local/lib/popcorn/popcorn-agent"),
    Path("/usr/lib/popcorn/popcorn-agent"),
)


@dataclass(frozen=True)
class Busybox:
    """A static busybox: the program, and the names of the commands in it."""

    path: Path
    data: bytes = field(repr=False)
    applets: tuple[str, ...] = field(repr=False)


def find_modules(
    release: str,
    roots: Iterable[Path] = MODULE_ROOTS,
    names: Iterable[str] = ("popcorn",),
    optional: Collection[str] = (),
) -> dict[str, bytes]:
    """Return the modules called `names` for the kernel `release`, unpacked, in the order given.

    Each of `roots` is a directory like /lib/modules. What a module needs comes before it, as far
    as modules.dep knows. Raises ImageError for one that is not found or can't be unpacked, unless
    it is among `optional`, which are then left out.
    """
    trees = [root / release for root in roots]
    folders = [tree / folder for tree in trees for folder in MODULE_FOLDERS]
    known = _known(trees)
    found: dict[str, bytes] = {}
    for name in names:
        more: dict[str, bytes] = {}
        try:
            for needed in (*known.get(name, _UNKNOWN).needs, name):
                if needed not in found:
                    path = known.get(needed, _UNKNOWN).path
                    more[needed] = _find_module(needed, release, folders, path)
        except ImageError:
            if name not in optional:
                raise
        else:
            found |= more
    return found


def builtin(release: str, roots: Iterable[Path] = MODULE_ROOTS) -> frozenset[str]:
    """Names of what could be modules and is in the kernel `release` itself."""
    found: set[str] = set()
    for root in roots:
        with contextlib.suppress(FileNotFoundError):
            lines = (root / release / "modules.builtin").read_text().splitlines()
            found |= {_module_name(line) for line in lines}
    return frozenset(found)


def find_agent(paths: Iterable[Path] = AGENT_PATHS) -> bytes | None:
    """Return the agent that runs commands there, which must be static; None if there is none."""
    for path in paths:
        with contextlib.suppress(OSError, ImageError):
            data = path.read_bytes()
            if not elf.interpreter(data, str(path)):
                return data
    return None


def find_busybox(paths: Iterable[Path] = BUSYBOX_PATHS) -> Busybox:
    """Return the first busybox of `paths` that is there and static; raise ImageError if none is."""
    reasons = []
    for path in paths:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            reasons.append(f"{path}: {error.strerror}")
            continue
        try:
            loader = elf.interpreter(data, str(path))
        except ImageError as error:
            reasons.append(error.message)
            continue
        if loader:
            reasons.append(f"{path} is not static")
            continue
        return Busybox(path, data, _applets(path))
    raise ImageError(
        "no static busybox: " + ("; ".join(reasons) or "none is installed"),
        "install busybox-static",
    )


def find_program(name: str, root: Path = Path("/")) -> dict[str, bytes]:
    """Return a program of this machine and all that it takes to run, by path; empty if it lacks.

    ImageError if a shared library is not found.
    """
    path = next((p for d in PROGRAM_FOLDERS if (p := root / d / name).is_file()), None)
    if path is None:
        return {}
    files = {f"usr/sbin/{name}": path.read_bytes()}
    loader = elf.interpreter(files[f"usr/sbin/{name}"], str(path)).lstrip("/")
    if loader:
        files[loader] = (root / loader).read_bytes()
    wanted = list(elf.needed(files[f"usr/sbin/{name}"], str(path)))
    have = {Path(loader).name}
    while wanted:
        library = wanted.pop()
        if library in have:
            continue
        have.add(library)
        found = next((p for d in LIBRARY_FOLDERS if (p := root / d / library).is_file()), None)
        if found is None:
            raise ImageError(f"{path}: its library {library} is not there", "install it again")
        files[f"lib/{library}"] = found.read_bytes()
        wanted += elf.needed(files[f"lib/{library}"], str(found))
    return files


def _applets(path: Path) -> tuple[str, ...]:
    try:
        done = subprocess.run([path, "--list"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ImageError(f"{path} --list failed: {error}", "install busybox-static") from error
    return tuple(done.stdout.split())


@dataclass(frozen=True)
class _Known:
    """What modules.dep tells of a module: where it is, and what it needs."""

    tree: Path = Path()
    file: str = ""
    needed: str = ""

    @property
    def path(self) -> Path | None:
        """Its file, if it is known."""
        return self.tree / self.file if self.file else None

    @property
    def needs(self) -> tuple[str, ...]:
        """What to load before it, in order."""
        return tuple(map(_module_name, reversed(self.needed.split())))


_UNKNOWN = _Known()


def _known(trees: Iterable[Path]) -> dict[str, _Known]:
    """Read modules.dep(5) in the directories of a release; the first that knows a module counts."""
    known: dict[str, _Known] = {}
    for tree in trees:
        with contextlib.suppress(FileNotFoundError):
            for line in (tree / "modules.dep").read_text().splitlines():
                # A distribution has thousands, and every start of a kernel comes by here: no Path
                # for each of them.
                file, _, needed = line.partition(":")
                known.setdefault(_module_name(file), _Known(tree, file, needed))
    return known


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def _find_module(name: str, release: str, folders: Iterable[Path], other: Path | None) -> bytes:
    folders = list(folders)
    for folder in folders:
        for suffix, unpack in UNPACKERS.items():
            path = folder / f"{name}.ko{suffix}"
            if path.is_file():
                return _read(path, unpack)
    if other is not None and other.is_file():
        return _read(other, UNPACKERS[other.name.partition(".ko")[2]])
    searched = ", ".join(map(str, folders))
    raise ImageError(
        f"no module {name} for {release} (looked in {searched})",
        f"build and install the modules for {release}",
    )


def _read(path: Path, unpack: Callable[[bytes], bytes]) -> bytes:
    try:
        return unpack(path.read_bytes())
    except FileNotFoundError as error:
        raise ImageError(f"{path}: {error.filename} is not installed", "install zstd") from error
    except subprocess.CalledProcessError as error:
        raise ImageError(f"{path}: {error.stderr.decode().strip()}", "build it again") from error
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise ImageError(f"{path}: can't be unpacked: {error}", "build it again") from error


def _unzstd(data: bytes) -> bytes:
    # Python has no zstd before 3.14.
    program = shutil.which("zstd")
    if program is None:
        raise FileNotFoundError(2, "not found", "zstd")
    return subprocess.run([program, "-dcq"], input=data, capture_output=True, check=True).stdout


UNPACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".xz": lzma.decompress,
    ".zst": _unzstd,
    ".gz": gzip.decompress,
}
