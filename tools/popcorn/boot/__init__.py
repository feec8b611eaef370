# SPDX-License-Identifier: GPL-2.0
"""From a kernel image to the bytes that start it beside a running kernel.

Functions from bytes to bytes: they need no root and touch neither memory nor devices.

    image = read_image(Path("/boot/vmlinuz-6.1.0-56-amd64"))
    layout = plan(target, image, len(initrd), "quiet")
    for segment in build(layout, image, initrd, secrets.token_bytes(SEED_BYTES)): ...
"""

from popcorn.boot.bzimage import BzImage
from popcorn.boot.bzimage import parse as parse_image
from popcorn.boot.bzimage import read as read_image
from popcorn.boot.layout import E820Entry, E820Type, Layout, Placement, minimum_region, plan
from popcorn.boot.params import SEED_BYTES
from popcorn.boot.segments import Segment, build
from popcorn.boot.target import Target
from popcorn.boot.vmlinux import Vmlinux, unpack
from popcorn.boot.vmlinux import parse as parse_vmlinux

__all__ = (
    "SEED_BYTES",
    "BzImage",
    "E820Entry",
    "E820Type",
    "Layout",
    "Placement",
    "Segment",
    "Target",
    "Vmlinux",
    "build",
    "minimum_region",
    "parse_image",
    "parse_vmlinux",
    "plan",
    "read_image",
    "unpack",
)
