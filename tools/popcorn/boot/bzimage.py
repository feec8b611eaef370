# SPDX-License-Identifier: GPL-2.0
"""The bzImage, as far as a 64-bit boot loader has to know it.

Offsets and flags are those of the Linux boot protocol, Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from popcorn.errors import ImageError

if TYPE_CHECKING:
    from popcorn.boot.vmlinux import Vmlinux

__all__ = ("HEADER_START", "BzImage", "parse", "read")

HEADER_START = 0x1F1
SECTOR = 512
PARAGRAPH = 16
PROTOCOL_MIN = 0x020C

# boot_params has room for the header up to its edd_mbr_sig_buffer.
HEADER_END_MAX = 0x290
# The end of init_size (protocol 2.10), the last field that is needed here.
HEADER_END_MIN = 0x264

XLF_KERNEL_64 = 1 << 0
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1
XLF_5LEVEL = 1 << 5

# What people pass by mistake, by the first bytes of the file.
LOOKALIKES = (
    (b"\x7fELF", "an ELF file, perhaps a vmlinux", "give the bzImage (vmlinuz) it was made into"),
    (b"\x1f\x8b", "a gzip file", "unpack it first"),
    (b"\xfd7zXZ\0", "an xz file", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first"),
    (b"070701", "a cpio archive, perhaps an initramfs", "are kernel and initrd swapped?"),
    (
        b"MZ",
        "an EFI program without a Linux boot header",
        "an x86 vmlinuz is needed; from a unified kernel image take the .linux section",
    ),
)


@dataclass(frozen=True)
class BzImage:
    """A kernel that can be started by the 64-bit boot protocol.

    `setup_header` are the bytes from offset 0x1f1 to the header's end, `payload` the protected-mode
    part (without padding or signature behind it). Sizes and alignments are bytes. `release` is the
    `uname -r` of the kernel and `banner` the line it begins; both are empty if the image has none.
    `unpacked` is the kernel in it, if that is to be started in the image's place.
    """

    name: str
    protocol: int
    setup_header: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    init_size: int
    kernel_alignment: int
    xloadflags: int
    cmdline_size: int
    initrd_addr_max: int
    relocatable: bool
    release: str
    banner: str
    unpacked: Vmlinux | None = field(default=None, repr=False)

    def digest(self) -> bytes:
        """SHA-256 of what is loaded; known already if it was unpacked."""
        if self.unpacked:
            return self.unpacked.source
        return hashlib.sha256(self.setup_header + self.payload).digest()

    @property
    def can_load_above_4g(self) -> bool:
        """Whether kernel, initrd, command line and boot_params may lie above 4 GiB."""
        return bool(self.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G)

    @property
    def five_level(self) -> bool:
        """Whether the kernel knows five-level page tables."""
        return bool(self.xloadflags & XLF_5LEVEL)


def read(path: Path) -> BzImage:
    """Parse the file at `path`; raise ImageError if it can't be read or is not usable."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(
            f"{path}: no such kernel image", "installed kernels are /boot/vmlinuz-*"
        ) from None
    except OSError as error:
        raise ImageError(f"{path}: can't read the kernel image: {error.strerror}") from error
    return parse(data, str(path))


def parse(data: bytes, name: str) -> BzImage:
    """Parse a bzImage; `name` is what errors call it.

    Raises ImageError for a file that is cut short, no bzImage, a 32-bit kernel, or too old.
    """
    _check_magic(data, name)

    protocol = _u16(data, 0x206)
    if protocol < PROTOCOL_MIN:
        raise ImageError(
            f"{name}: boot protocol {protocol >> 8}.{protocol & 0xFF:02d} is too old",
            "2.12 is needed: Linux 3.8 or newer",
        )
    # The byte at 0x201 is the distance of the short jump over the header, from its own end.
    header_end = 0x202 + data[0x201]
    if not HEADER_END_MIN <= header_end <= HEADER_END_MAX:
        raise ImageError(
            f"{name}: damaged: the setup header ends at {header_end:#x}",
            f"expected {HEADER_END_MIN:#x} to {HEADER_END_MAX:#x}; fetch the file again",
        )
    if len(data) < header_end:
        raise _truncated(name, len(data), header_end)

    xloadflags = _u16(data, 0x236)
    if not xloadflags & XLF_KERNEL_64:
        raise ImageError(f"{name}: a 32-bit kernel", "give an x86_64 kernel (CONFIG_X86_64)")

    # Zero means four, for loaders from before the field existed.
    payload_start = ((data[HEADER_START] or 4) + 1) * SECTOR
    payload_end = payload_start + _u32(data, 0x1F4) * PARAGRAPH
    if len(data) < payload_end or payload_end == payload_start:
        raise _truncated(name, len(data), payload_end)
    payload = data[payload_start:payload_end]

    init_size = _u32(data, 0x260)
    if init_size < len(payload):
        raise ImageError(
            f"{name}: damaged: init_size {init_size:#x} is less than the {len(payload):#x} bytes"
            " of the kernel",
            "fetch the file again",
        )
    alignment = _u32(data, 0x230)
    if alignment < 4096 or alignment & (alignment - 1):
        raise ImageError(
            f"{name}: damaged: kernel_alignment {alignment:#x} is no power of two of pages",
            "fetch the file again",
        )

    banner = _banner(data[:payload_start])
    return BzImage(
        name=name,
        protocol=protocol,
        setup_header=data[HEADER_START:header_end],
        payload=payload,
        init_size=init_size,
        kernel_alignment=alignment,
        xloadflags=xloadflags,
        cmdline_size=_u32(data, 0x238),
        initrd_addr_max=_u32(data, 0x22C),
        relocatable=data[0x234] != 0,
        release=banner.partition(" ")[0],
        banner=banner,
    )


def _check_magic(data: bytes, name: str) -> None:
    if data[0x202:0x206] == b"HdrS" and data[0x1FE:0x200] == b"\x55\xaa":
        if len(data) < HEADER_END_MIN:
            raise _truncated(name, len(data), HEADER_END_MIN)
        return
    if data.startswith(b"MZ") and len(data) < HEADER_END_MIN:
        raise _truncated(name, len(data), HEADER_END_MIN)
    for magic, what, remedy in LOOKALIKES:
        if data.startswith(magic):
            raise ImageError(f"{name}: not a bzImage: {what}", remedy)
    if len(data) < HEADER_END_MIN:
        raise _truncated(name, len(data), HEADER_END_MIN)
    raise ImageError(
        f"{name}: not a bzImage: no Linux boot header (HdrS)",
        "give an x86_64 kernel image, such as /boot/vmlinuz-*",
    )


def _truncated(name: str, have: int, need: int) -> ImageError:
    return ImageError(
        f"{name}: truncated: {have} bytes, at least {need} expected",
        "the file is incomplete; fetch or install it again",
    )


def _banner(setup: bytes) -> str:
    """Return the version string of the real-mode part: "RELEASE (builder) #1 SMP date"."""
    offset = _u16(setup, 0x20E)
    if not offset or offset + 0x200 >= len(setup):
        return ""
    text = setup[offset + 0x200 :].partition(b"\0")[0]
    return text.decode("ascii", "replace")


def _u16(data: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<H", data, offset)[0]
    return value


def _u32(data: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<I", data, offset)[0]
    return value
