# SPDX-License-Identifier: GPL-2.0
"""The kernel in a bzImage, unpacked before it starts.

A kernel packed by xz unpacks itself for longer than it then takes to boot. Who starts it often does
that once, and keeps the result. What the image would do besides is left to do: to move the kernel
to a place of its address space that nobody can guess (KASLR). For that the packed file has, behind
the ELF file, the places that hold addresses (arch/x86/boot/compressed/misc.c, handle_relocations).
The relocator goes through them on the secondary's CPU, where it takes no time.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
from array import array
from dataclasses import dataclass, field

from popcorn.boot.bzimage import HEADER_START, BzImage
from popcorn.errors import ImageError

__all__ = ("RELOCATOR_SOURCE", "Vmlinux", "parse", "random_offset", "relocator", "unpack")

# Fields of the setup header, boot.rst.
PAYLOAD_OFFSET = 0x248 - HEADER_START
PREF_ADDRESS = 0x258 - HEADER_START

XZ_MAGIC = b"\xfd7zXZ\0"
ELF_MAGIC = b"\x7fELF\x02\x01"
EM_X86_64 = 62
PT_LOAD = 1
SECTION_HEADER_BYTES = 64
PROGRAM_HEADER_BYTES = 56

START_KERNEL_MAP = 0xFFFFFFFF80000000
KERNEL_IMAGE_SIZE = 1 << 30
"""How far up the kernel may be moved, if it can be moved at all (CONFIG_RANDOMIZE_BASE)."""

LISTS = 3
"""Of places, each ended by 0: 64 bits to add to, 32 bits to subtract from, 32 bits to add to."""

RELOCATOR_SOURCE = """
	.code64
	movq	data(%rip), %r8
	movq	data+8(%rip), %r9
	leaq	data+24(%rip), %rdx
1:	movslq	(%rdx), %rcx
	addq	$4, %rdx
	testl	%ecx, %ecx
	jz	2f
	addq	%r8, (%rcx,%r9)
	jmp	1b
2:	movslq	(%rdx), %rcx
	addq	$4, %rdx
	testl	%ecx, %ecx
	jz	3f
	subl	%r8d, (%rcx,%r9)
	jmp	2b
3:	movslq	(%rdx), %rcx
	addq	$4, %rdx
	testl	%ecx, %ecx
	jz	4f
	addl	%r8d, (%rcx,%r9)
	jmp	3b
4:	jmpq	*data+16(%rip)
	.balign	8
data:
"""
"""At `data`: what to add; from a place to where it lies now; where to go on; then the places.
RSI, which holds the address of boot_params, stays."""

RELOCATOR_CODE = bytes.fromhex(
    "4c8b05490000004c8b0d4a000000488d155300000048630a4883c20485c974064e010409ebef48630a4883c20485"
    "c9740646290409ebef48630a4883c20485c9740646010409ebefff25120000006690"
)

_KEPT = struct.Struct("<8s32sQQQQ")
_KEPT_MAGIC = b"PCNVML1\n"


@dataclass(frozen=True)
class Vmlinux:
    """A kernel as it lies in memory, from the address `base` on that it was linked for.

    `data` are the bytes to write; behind them the memory must be zero, up to `size`. `places` are
    the lists for the relocator, in bytes. `source` is the digest of the image that it was in.
    """

    source: bytes
    base: int
    size: int
    data: bytes | memoryview = field(repr=False)
    places: bytes | memoryview = field(repr=False)

    @property
    def movable(self) -> bool:
        """Whether there are places, so that it can run at other addresses."""
        return len(self.places) > LISTS * 4

    @property
    def relocator_bytes(self) -> int:
        """How long `relocator` is."""
        return len(RELOCATOR_CODE) + 24 + len(self.places)

    def keep(self) -> bytes:
        """A file from which `parse` makes the same again."""
        lengths = len(self.places), len(self.data)
        head = _KEPT.pack(_KEPT_MAGIC, self.source, self.base, self.size, *lengths)
        return b"".join((head, self.places, self.data))


def parse(kept: bytes) -> Vmlinux:
    """What `keep` returned, without a copy; ImageError for what is not that, or not all of it."""
    if len(kept) >= _KEPT.size and kept.startswith(_KEPT_MAGIC):
        _, source, base, size, places, data = _KEPT.unpack_from(kept)
        if len(kept) == _KEPT.size + places + data:
            body = memoryview(kept)[_KEPT.size :]
            return Vmlinux(source, base, size, body[places:], body[:places])
    raise ImageError("not an unpacked kernel", "it is made again when it is gone")


def unpack(image: BzImage) -> Vmlinux | None:
    """The kernel in `image`; None if that is left to the image itself.

    It is if the kernel is packed in a way that is quick to unpack, or is not laid out as expected.
    """
    offset, length = struct.unpack_from("<II", image.setup_header, PAYLOAD_OFFSET)
    packed = image.payload[offset : offset + length]
    if not packed.startswith(XZ_MAGIC):
        return None
    try:
        found = _read(lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(packed), image)
    except (lzma.LZMAError, struct.error):
        return None
    # It takes no more room than the image asks for.
    if found and _up(found.size, 4096) + found.relocator_bytes > image.init_size:
        return None
    return found


def _read(file: bytes, image: BzImage) -> Vmlinux | None:
    (base,) = struct.unpack_from("<Q", image.setup_header, PREF_ADDRESS)
    machine, _, entry, headers_at, sections_at = struct.unpack_from("<HIQQQ", file, 18)
    headers, sections = struct.unpack_from("<H2xH", file, 56)
    if not file.startswith(ELF_MAGIC) or (machine, entry) != (EM_X86_64, base):
        return None
    data, size, end = bytearray(), 0, sections_at + sections * SECTION_HEADER_BYTES
    for number in range(headers):
        at = headers_at + number * PROGRAM_HEADER_BYTES
        kind, start, address, in_file, in_memory = struct.unpack_from("<I4xQ8xQQQ", file, at)
        if kind != PT_LOAD:
            continue
        where = address - base
        if where < len(data) or in_memory < in_file or where + in_memory > image.init_size:
            return None
        content = file[start : start + in_file].rstrip(b"\0")
        data += bytes(where - len(data)) + content
        size, end = max(size, where + in_memory), max(end, start + in_file)
    places = _places(file[end:])
    if not data or places is None:
        return None
    return Vmlinux(image.digest(), base, size, bytes(data), places)


def _places(behind: bytes) -> bytes | None:
    """The lists for the relocator, from what is behind the ELF file; None if they look different.

    There they are read from the end, so a 0 comes first.
    """
    if not behind:
        return bytes(LISTS * 4)
    if len(behind) % 4 or array("I", behind).count(0) != LISTS or any(behind[:4]):
        return None
    return behind[4:] + bytes(4)


def random_offset(image: BzImage, kernel: Vmlinux, seed: bytes) -> int:
    """How far to move the kernel, as the image itself would draw it; `seed` is randomness."""
    if not kernel.movable:
        return 0
    room = KERNEL_IMAGE_SIZE - kernel.base - image.init_size
    slots = max(0, room // image.kernel_alignment) + 1
    drawn = int.from_bytes(hashlib.sha256(b"kernel offset" + seed).digest()[:8], "little")
    return drawn % slots * image.kernel_alignment


def relocator(kernel: Vmlinux, start: int, offset: int) -> bytes:
    """A program that moves the kernel, which lies at physical `start`, by `offset`, and enters it.

    The entry is its first byte; it may lie anywhere.
    """
    here = (start - kernel.base - START_KERNEL_MAP) % (1 << 64)
    return RELOCATOR_CODE + struct.pack("<QQQ", offset, here, start) + bytes(kernel.places)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
