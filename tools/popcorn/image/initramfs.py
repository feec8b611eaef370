# SPDX-License-Identifier: GPL-2.0
"""Put together the initramfs of a secondary, and look into one."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from popcorn.errors import ImageError
from popcorn.image import cpio, elf, scripts

__all__ = ("ImageInfo", "ModuleInfo", "Profile", "build_image", "inspect")

Profile = Literal["light", "shell", "full"]
WITH_SHELL = ("shell", "full")
"""Profiles with all of busybox and terminals. "full" then goes on to a root over the link."""

MANIFEST = "etc/popcorn-image.json"
MANIFEST_FORMAT = 1
CORE = "popcorn"
MODULE_NAME = re.compile(r"[A-Za-z0-9_]+")
GZIP_MAGIC = b"\x1f\x8b"

# What INIT and the scripts to stop use; `busybox NAME` gives all others.
LIGHT_APPLETS = (
    "cat",
    "hostname",
    "insmod",
    "ip",
    "kill",
    "mkdir",
    "mount",
    "printf",
    "sh",
    "sleep",
    "sync",
)
# Scripts take their places.
OWN_COMMANDS = frozenset(("busybox", "halt", "init", "linuxrc", "poweroff", "reboot"))

# Numbers: Documentation/admin-guide/devices.txt.
DEVICES = (
    cpio.device("dev/console", 5, 1),
    cpio.device("dev/kmsg", 1, 11, 0o644),
    cpio.device("dev/null", 1, 3, 0o666),
    cpio.device("dev/random", 1, 8, 0o666),
    cpio.device("dev/tty", 5, 0, 0o666),
    cpio.device("dev/urandom", 1, 9, 0o666),
    cpio.device("dev/zero", 1, 5, 0o666),
)


@dataclass(frozen=True)
class ModuleInfo:
    """A kernel module in an image; `size` in bytes."""

    name: str
    vermagic: str
    size: int


@dataclass(frozen=True)
class ImageInfo:
    """What an initramfs holds. `modules` in the order of loading; sizes in bytes.

    `size` is that of the file, `unpacked_size` that of the archive in it. `files` are the names of
    everything in it, sorted. `runs` tells whether there is a script to run after joining.
    """

    profile: str
    release: str
    modules: tuple[ModuleInfo, ...]
    size: int
    unpacked_size: int
    files: tuple[str, ...]
    runs: bool


def build_image(
    profile: Profile,
    release: str,
    modules: Mapping[str, bytes],
    busybox: bytes,
    run_script: bytes | None = None,
    *,
    applets: Iterable[str] = (),
    extra: Iterable[cpio.Entry] = (),
    level: int = 6,
) -> bytes:
    """Return a gzip-compressed initramfs for the kernel `release`; the same input, the same bytes.

    `modules` maps names (without .ko) to ELF files, in the order of loading: `popcorn` first.
    `applets` are the commands that `busybox` has; "shell" and "full" install them all.
    `extra` are more files. `run_script` runs after joining. `level` is gzip's, 1 to 9.
    Raises ImageError for a module of another kernel, or whatever else makes no working image.
    """
    if profile not in get_args(Profile):
        raise ImageError(
            f"no image profile {profile!r}", f"profiles are {', '.join(get_args(Profile))}"
        )
    loaded = _check_modules(release, modules)
    if elf.interpreter(busybox, "busybox"):
        raise ImageError("busybox is not static", "install busybox-static")
    if run_script is not None and not run_script.strip():
        raise ImageError("the script to run is empty", "leave it out")

    entries = [
        *(cpio.directory(name) for name in ("bin", "dev", "etc", "proc", "run", "sbin", "sys")),
        cpio.directory("root", 0o700),
        cpio.directory("tmp", 0o1777),
        *DEVICES,
        cpio.file("init", scripts.INIT, 0o755),
        cpio.file("bin/busybox", busybox, 0o755),
        cpio.file("sbin/poweroff", scripts.POWEROFF, 0o755),
        cpio.file("sbin/reboot", scripts.REBOOT, 0o755),
        cpio.symlink("sbin/halt", "poweroff"),
        *_links(profile, list(applets)),
        *(cpio.file(f"lib/modules/{name}.ko", data) for name, data in modules.items()),
        cpio.file(scripts.MODULES, "".join(f"{name}\n" for name in modules).encode()),
    ]
    if profile in WITH_SHELL:
        entries += [
            cpio.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n"),
            cpio.file("etc/group", b"root:x:0:\ntty:x:5:\n"),
            cpio.file(scripts.TERMINALS, scripts.TERMINALS_SCRIPT, 0o755),
        ]
    if profile == "full":
        entries.append(cpio.file(scripts.ROOT, scripts.ROOT_SCRIPT, 0o644))
    if run_script is not None:
        entries.append(cpio.file(scripts.RUN, run_script, 0o755))
    entries.append(cpio.file(MANIFEST, _manifest(profile, release, loaded)))
    entries += extra
    return gzip.compress(cpio.write(cpio.with_parents(entries)), level, mtime=0)


def inspect(data: bytes, name: str = "initramfs") -> ImageInfo:
    """Look into an image that `build_image` made; `name` is what errors call it.

    Raises ImageError if it is damaged, or comes from elsewhere.
    """
    archive = _unpacked(data, name)
    entries = {entry.name: entry for entry in cpio.read(archive, name)}
    manifest = entries.get(MANIFEST)
    if manifest is None:
        raise ImageError(
            f"{name}: not made by popcornctl: no /{MANIFEST} in it",
            "it may start all the same; only `image build` makes images that can be inspected",
        )
    try:
        profile, release, modules = _parse_manifest(manifest.data)
    except (ValueError, KeyError, TypeError):
        raise ImageError(f"{name}: its /{MANIFEST} is damaged", "build the image again") from None
    return ImageInfo(
        profile=profile,
        release=release,
        modules=modules,
        size=len(data),
        unpacked_size=len(archive),
        files=tuple(sorted(entries)),
        runs=scripts.RUN in entries,
    )


def _check_modules(release: str, modules: Mapping[str, bytes]) -> tuple[ModuleInfo, ...]:
    if next(iter(modules), None) != CORE:
        raise ImageError(
            f"the first module of an image must be {CORE}, without it a kernel can't join",
            "build the modules for that kernel",
        )
    loaded: list[ModuleInfo] = []
    for name, data in modules.items():
        if not MODULE_NAME.fullmatch(name):
            raise ImageError(f"{name!r} is no name of a module", "names have no path and no .ko")
        info = elf.modinfo(data, f"{name}.ko")
        vermagic = info.get("vermagic", "")
        built_for = vermagic.partition(" ")[0]
        if built_for != release:
            raise ImageError(
                f"{name}.ko is built for {built_for or 'an unknown kernel'}, not for {release}",
                f"build the modules for {release}",
            )
        have = {module.name for module in loaded}
        for needed in filter(None, info.get("depends", "").split(",")):
            if needed.replace("-", "_") not in have:
                raise ImageError(
                    f"{name}.ko needs {needed}, which is not loaded before it",
                    f"put {needed} in front of {name}",
                )
        loaded.append(ModuleInfo(name, vermagic, len(data)))
    return tuple(loaded)


def _links(profile: Profile, applets: list[str]) -> list[cpio.Entry]:
    missing = [name for name in LIGHT_APPLETS if name not in applets] if applets else []
    if missing:
        raise ImageError(
            f"busybox lacks {', '.join(missing)}", "install busybox-static as Debian builds it"
        )
    if profile == "light":
        names = set(LIGHT_APPLETS)
    elif applets:
        names = set(applets)
    else:
        raise ImageError(
            f"profile {profile} needs the list of commands that busybox has", "use find_busybox()"
        )
    return [cpio.symlink(f"bin/{name}", "busybox") for name in sorted(names - OWN_COMMANDS)]


def _manifest(profile: str, release: str, modules: tuple[ModuleInfo, ...]) -> bytes:
    value = {
        "format": MANIFEST_FORMAT,
        "profile": profile,
        "release": release,
        "modules": [
            {"name": module.name, "vermagic": module.vermagic, "size": module.size}
            for module in modules
        ],
    }
    return json.dumps(value, indent=1).encode() + b"\n"


def _parse_manifest(text: bytes) -> tuple[str, str, tuple[ModuleInfo, ...]]:
    value: Any = json.loads(text)
    if value["format"] != MANIFEST_FORMAT:
        raise ValueError(value["format"])
    modules = tuple(
        ModuleInfo(str(module["name"]), str(module["vermagic"]), int(module["size"]))
        for module in value["modules"]
    )
    return str(value["profile"]), str(value["release"]), modules


def _unpacked(data: bytes, name: str) -> bytes:
    if data.startswith((cpio.MAGIC, cpio.MAGIC_CRC)):
        return data
    if not data.startswith(GZIP_MAGIC):
        raise ImageError(
            f"{name}: neither a cpio archive nor gzip", "`image build` makes gzip-compressed images"
        )
    try:
        return gzip.decompress(data)
    except EOFError:
        raise ImageError(
            f"{name}: truncated gzip file", "the file is incomplete; build it again"
        ) from None
    except (OSError, zlib.error) as error:
        raise ImageError(f"{name}: damaged gzip file: {error}", "build it again") from None
