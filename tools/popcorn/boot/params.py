# SPDX-License-Identifier: GPL-2.0
"""The zero page (struct boot_params) and the setup_data behind it.

Offsets are those of Documentation/arch/x86/zero-page.rst and boot.rst.
"""

from __future__ import annotations

import struct

from popcorn.boot.bzimage import HEADER_START, BzImage
from popcorn.boot.layout import SETUP_DATA_BYTES, Layout
from popcorn.errors import PlanError

__all__ = ("SEED_BYTES", "build", "setup_data")

BYTES = 4096
SEED_BYTES = 32

ACPI_RSDP_ADDR = 0x070
EXT_RAMDISK_IMAGE = 0x0C0
EXT_RAMDISK_SIZE = 0x0C4
EXT_CMD_LINE_PTR = 0x0C8
E820_ENTRIES = 0x1E8
TYPE_OF_LOADER = 0x210
LOADFLAGS = 0x211
RAMDISK_IMAGE = 0x218
RAMDISK_SIZE = 0x21C
CMD_LINE_PTR = 0x228
SETUP_DATA = 0x250
E820_TABLE = 0x2D0

LOADER_UNKNOWN = 0xFF
LOADED_HIGH = 1 << 0
KASLR = 1 << 1
SETUP_RNG_SEED = 9


def build(layout: Layout, image: BzImage) -> bytes:
    """Return the 4096 bytes of the zero page.

    All else stays zero: no screen, and the sentinel that tells a loader that cleared the page.
    """
    page = bytearray(BYTES)
    page[HEADER_START : HEADER_START + len(image.setup_header)] = image.setup_header
    page[TYPE_OF_LOADER] = LOADER_UNKNOWN
    page[LOADFLAGS] |= LOADED_HIGH
    if layout.randomized:
        # What an image says to the kernel that it has unpacked: its other parts shall move, too.
        page[LOADFLAGS] |= KASLR

    struct.pack_into("<Q", page, ACPI_RSDP_ADDR, layout.start("acpi"))
    struct.pack_into("<Q", page, SETUP_DATA, layout.start("setup-data"))
    _put_split(page, CMD_LINE_PTR, EXT_CMD_LINE_PTR, layout.start("cmdline"))
    initrd = layout.placement("initrd")
    _put_split(page, RAMDISK_IMAGE, EXT_RAMDISK_IMAGE, initrd.start if initrd else 0)
    _put_split(page, RAMDISK_SIZE, EXT_RAMDISK_SIZE, initrd.size if initrd else 0)

    page[E820_ENTRIES] = len(layout.e820)
    for number, entry in enumerate(layout.e820):
        struct.pack_into(
            "<QQI", page, E820_TABLE + 20 * number, entry.start, entry.size, entry.type
        )
    return bytes(page)


def setup_data(seed: bytes) -> bytes:
    """Return the one node of the setup_data list: SEED_BYTES of randomness for the kernel.

    A secondary has little to gather entropy from. The kernel wipes the node once it has read it.
    """
    if len(seed) != SEED_BYTES:
        raise PlanError(f"the seed has {len(seed)} bytes, not {SEED_BYTES}")
    node = struct.pack("<QII", 0, SETUP_RNG_SEED, len(seed)) + seed
    assert len(node) == SETUP_DATA_BYTES
    return node


def _put_split(page: bytearray, low: int, high: int, value: int) -> None:
    struct.pack_into("<I", page, low, value & 0xFFFFFFFF)
    struct.pack_into("<I", page, high, value >> 32)
