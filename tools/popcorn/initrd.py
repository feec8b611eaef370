# SPDX-License-Identifier: GPL-2.0
"""The initramfs that a kernel is started with: one that is given, or one made for its release.

Those that are made are kept in a cache under the hash of all that goes into them, so a module or
a busybox that changed gives another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

from popcorn import image
from popcorn.errors import ImageError
from popcorn.sysfs import System

__all__ = (
    "AGENT",
    "MODULES",
    "Initrd",
    "authorized_keys",
    "cache_directory",
    "find_initrd",
    "make_initrd",
    "read_initrd",
)

AUTHORIZED = "root/.ssh/authorized_keys"
SYSTEM_CACHE = Path("/var/cache/popcorn")
MODULES = ("popcorn", "popcorn_net", "popcorn_tty")
"""Modules of every image, in the order of loading; only the first must be there."""
ROOT_MODULES = ("overlay", "9p", "9pnet_fd")
"""And of the kernel's own in images of profile full, which mount their root over the link."""
AGENT = "sbin/popcorn-agent"
"""Where images of profile shell have what runs commands for `kernel exec`, if it was built."""
CACHE_KEEP = 16
"""Images that stay in the cache, the ones used last."""
WRITING_SECONDS = 3600
"""Nobody takes longer to write a file there."""


@dataclass(frozen=True)
class Initrd:
    """An initramfs; `name` is its path or how it was made, `size` in bytes.

    `data` is empty where only a plan is made and the size is an estimate.
    """

    name: str
    data: bytes = field(repr=False)
    size: int

    @classmethod
    def of(cls, name: str, data: bytes) -> Initrd:
        """An initramfs that is there."""
        return cls(name, data, len(data))


def cache_directory() -> Path:
    """Where images are kept: /var/cache/popcorn for root, else the user's cache directory."""
    if os.geteuid() == 0:
        return SYSTEM_CACHE
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "popcorn"


def read_initrd(path: Path) -> Initrd:
    """Read a file; ImageError if it is missing, empty or unreadable."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(
            f"{path}: no such initrd", "popcornctl image build makes one; so does --profile"
        ) from None
    except OSError as error:
        raise ImageError(f"{path}: can't read the initrd: {error.strerror}") from error
    if not data:
        raise ImageError(f"{path}: the initrd is empty")
    return Initrd.of(str(path), data)


def find_initrd(
    path: Path | None,
    profile: str,
    release: str,
    *,
    system: System | None = None,
    cache: Path | None = None,
) -> Initrd:
    """The initramfs at `path`, or one of `profile` for the kernel `release`.

    ImageError if the file cannot be read, or if what the profile needs (popcorn.ko for that
    release, a static busybox) is not there. `cache` is the cache's directory.
    """
    if path is not None:
        return read_initrd(path)
    return make_initrd(profile, release, system=system, cache=cache or cache_directory())


def make_initrd(
    profile: str,
    release: str,
    *,
    system: System | None = None,
    busybox: Path | None = None,
    run_script: bytes | None = None,
    extra_modules: Sequence[str] = (),
    cache: Path | None = None,
) -> Initrd:
    """An initramfs of `profile` for the kernel `release`, from the cache if one is given.

    ImageError as in :func:`find_initrd`. `run_script` runs in it after joining; `extra_modules`
    are more modules of Popcorn's folder, loaded in that order.
    """
    system = system or System()
    if profile not in get_args(image.Profile):
        raise ImageError(f"there is no profile '{profile}'", "profiles: light, shell, full")
    if not release:
        raise ImageError(
            "the kernel image does not say its release, so no initramfs can be made for it",
            "give one: --initrd PATH",
        )
    folders = [system.path("/lib/modules")]
    # A kernel joins without its link and its terminals, too.
    wanted = (*MODULES, *extra_modules)
    modules = image.find_modules(release, folders, wanted, optional=MODULES[1:])
    if profile == "full":
        modules |= _root_modules(release, folders)
    places = [system.path("/bin/busybox"), system.path("/usr/bin/busybox")]
    box = image.find_busybox(places if busybox is None else [busybox])
    name = f"profile {profile}"
    files = {**_agent(), **_ssh(system)} if profile in image.WITH_SHELL else {}
    kept = None
    if cache is not None:
        kept = cache / f"{_key(profile, release, {**modules, **files}, box, run_script)}.img"
        with contextlib.suppress(OSError):
            data = kept.read_bytes()
            os.utime(kept)
            return Initrd.of(name, data)
    extra = [
        image.Entry(path, stat.S_IFREG | (0o600 if path == AUTHORIZED else 0o755), content)
        for path, content in files.items()
    ]
    data = image.build_image(
        cast("image.Profile", profile),
        release,
        modules,
        box.data,
        run_script,
        applets=box.applets,
        extra=extra,
    )
    if kept is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            keep(kept, data, CACHE_KEEP)
    return Initrd.of(name, data)


def _root_modules(release: str, folders: Sequence[Path]) -> dict[str, bytes]:
    """What mounts a root over the link, as far as the kernel does not have it built in."""
    wanted = ("popcorn_net", *(n for n in ROOT_MODULES if n not in image.builtin(release, folders)))
    try:
        return image.find_modules(release, folders, wanted)
    except ImageError as error:
        raise ImageError(
            f"kernel {release} cannot mount a root over the link: {error.message}",
            "choose another kernel (Debian's cloud kernels lack 9p), or install its modules",
        ) from error


def _agent() -> dict[str, bytes]:
    """What runs commands, by path; empty if it was not built."""
    agent = image.find_agent()
    return {} if agent is None else {AGENT: agent}


def _ssh(system: System) -> dict[str, bytes]:
    """An ssh server that lets in who makes the image, by path; empty without server or keys."""
    keys = authorized_keys(system.path("/"))
    server = image.find_program("dropbear", system.path("/")) if keys else {}
    return {**server, AUTHORIZED: keys} if server else {}


def authorized_keys(root: Path = Path("/")) -> bytes:
    """Public keys of the user, also behind sudo, that let him into a kernel: his own, and those
    that let others into this one as him.
    """
    user = os.environ.get("SUDO_USER", "")
    home = f"~{user}" if re.fullmatch(r"[a-z_][a-z0-9_.-]*", user) else "~"
    directory = root / str(Path(home).expanduser() / ".ssh").lstrip("/")
    lines: list[str] = []
    for path in (*sorted(directory.glob("*.pub")), directory / "authorized_keys"):
        with contextlib.suppress(OSError):
            for line in path.read_text(errors="replace").splitlines():
                if line.strip() and not line.startswith("#") and line not in lines:
                    lines.append(line)
    return "".join(f"{line}\n" for line in lines).encode()


def _key(
    profile: str,
    release: str,
    modules: Mapping[str, bytes],
    busybox: image.Busybox,
    run_script: bytes | None,
) -> str:
    """Hash of everything that the image is made from, the code that makes it included."""
    parts = [profile.encode(), release.encode(), busybox.data, run_script or b""]
    for name, data in modules.items():
        parts += [name.encode(), data]
    for source in sorted(Path(image.__file__).parent.glob("*.py")):
        parts.append(source.read_bytes())
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:32]


def keep(path: Path, data: bytes, most: int) -> None:
    """Write whole or not at all; of files of its kind `most` stay, those that were used last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as draft:
        try:
            draft.write(data)
            draft.close()
            Path(draft.name).replace(path)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise
    kind = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda file: file.stat().st_mtime)
    for old in (*kind[:-most], *_abandoned(path.parent)):
        old.unlink(missing_ok=True)


def _abandoned(directory: Path) -> list[Path]:
    """Drafts of those who were killed while they wrote."""
    before = time.time() - WRITING_SECONDS
    return [file for file in directory.glob("*.tmp") if file.stat().st_mtime < before]
