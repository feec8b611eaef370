# SPDX-License-Identifier: GPL-2.0
"""A small initramfs for a secondary: enough to join, and a shell if one is wanted.

busybox = find_busybox()
data = build_image("light", release, find_modules(release), busybox.data)
"""

from popcorn.image.cpio import Entry
from popcorn.image.find import (
    Busybox,
    builtin,
    find_agent,
    find_busybox,
    find_modules,
    find_program,
)
from popcorn.image.initramfs import (
    WITH_SHELL,
    ImageInfo,
    ModuleInfo,
    Profile,
    build_image,
    inspect,
)

__all__ = (
    "WITH_SHELL",
    "Busybox",
    "Entry",
    "ImageInfo",
    "ModuleInfo",
    "Profile",
    "build_image",
    "builtin",
    "find_agent",
    "find_busybox",
    "find_modules",
    "find_program",
    "inspect",
)
