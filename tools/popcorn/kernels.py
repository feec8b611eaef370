# SPDX-License-Identifier: GPL-2.0
"""Kernels that were unpacked once, and are kept beside the images that were made."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from pathlib import Path

from popcorn import boot
from popcorn.errors import ImageError
from popcorn.initrd import keep

__all__ = ("CACHE_KEEP", "SUFFIX", "with_unpacked")

SUFFIX = ".vmlinux"
CACHE_KEEP = 4
"""Kernels that stay, those that were used last. Each has tens of MiB."""


def with_unpacked(image: boot.BzImage, cache: Path) -> boot.BzImage:
    """`image` with its kernel unpacked, from `cache` or for it, if that makes it start sooner."""
    kept = cache / f"{_key(image)}{SUFFIX}"
    with contextlib.suppress(OSError, ImageError):
        found = boot.parse_vmlinux(kept.read_bytes())
        os.utime(kept)
        return replace(image, unpacked=found)
    unpacked = boot.unpack(image)
    if unpacked is None:
        return image
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        keep(kept, unpacked.keep(), CACHE_KEEP)
    return replace(image, unpacked=unpacked)


def _key(image: boot.BzImage) -> str:
    """Of the file, which is not read for it, and of what it says of itself."""
    parts = [image.name, image.banner, image.setup_header.hex()]
    with contextlib.suppress(OSError):
        status = Path(image.name).stat()
        parts += [f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
