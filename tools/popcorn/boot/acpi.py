# SPDX-License-Identifier: GPL-2.0
"""The ACPI tables of a secondary: what it may believe the machine to consist of.

Layouts are those of the ACPI specification 6.4 (5.2.5 RSDP, 5.2.8 XSDT, 5.2.9 FADT, 5.2.12 MADT).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from popcorn.errors import PlanError

__all__ = ("AREA", "build", "dsdt", "fadt", "madt", "rsdp", "xsdt")

AREA = 0x10000

OEM_ID = b"POPCRN"
OEM_TABLE_ID = b"POPCORN "
CREATOR_ID = b"POPC"
LOCAL_APIC_BASE = 0xFEE00000

HEADER_BYTES = 36
FADT_BYTES = 276
FADT_MINOR = 4
RSDP_V1_BYTES = 20
RSDP_BYTES = 36
ALIGN = 64

# FADT flags: no fixed hardware at all, and physical APIC destinations. With logical ones the
# secondary's LDR would collide with the primary's, and interrupts of devices go astray.
FADT_APIC_PHYSICAL = 1 << 19
FADT_HW_REDUCED = 1 << 20
# IA-PC boot flags. Bit 1 (8042 present) is left clear.
BOOT_NO_VGA = 1 << 2
BOOT_NO_CMOS_RTC = 1 << 5

MADT_LOCAL_APIC = 0
MADT_X2APIC = 9
MADT_ENABLED = 1
XAPIC_ID_END = 255


def build(start: int, bsp_apic_id: int, apic_ids: Sequence[int]) -> bytes:
    """Return all tables as they must lie at physical address `start`, the RSDP at `start` itself.

    Raises PlanError if that is more than AREA bytes: thousands of CPUs.
    """
    xsdt_at = _aligned(RSDP_BYTES)
    fadt_at = _aligned(xsdt_at + HEADER_BYTES + 2 * 8)
    dsdt_at = _aligned(fadt_at + FADT_BYTES)
    # Last, since it is the one that grows.
    madt_at = _aligned(dsdt_at + HEADER_BYTES)
    parts = (
        (0, rsdp(start + xsdt_at)),
        (xsdt_at, xsdt((start + fadt_at, start + madt_at))),
        (fadt_at, fadt(start + dsdt_at)),
        (dsdt_at, dsdt()),
        (madt_at, madt(bsp_apic_id, apic_ids)),
    )
    blob = bytearray()
    for offset, table in parts:
        blob += bytes(offset - len(blob)) + table
    if len(blob) > AREA:
        raise PlanError(
            f"the ACPI tables for {len(apic_ids)} CPUs take {len(blob)} bytes, the limit is {AREA}",
            "give the kernel fewer CPUs",
        )
    return bytes(blob)


def rsdp(xsdt_start: int) -> bytes:
    """Return the root pointer, revision 2, without an RSDT."""
    table = bytearray(RSDP_BYTES)
    struct.pack_into("<8sB6sB", table, 0, b"RSD PTR ", 0, OEM_ID, 2)
    struct.pack_into("<IQ", table, 20, RSDP_BYTES, xsdt_start)
    table[8] = _checksum(table[:RSDP_V1_BYTES])
    table[32] = _checksum(table)
    return bytes(table)


def xsdt(tables: Sequence[int]) -> bytes:
    """Return the list of the other tables' physical addresses."""
    return _table(b"XSDT", 1, struct.pack(f"<{len(tables)}Q", *tables))


def fadt(dsdt_start: int) -> bytes:
    """Return the FADT, revision 6: a machine without fixed hardware and without a reset register.

    Only X_DSDT points to the DSDT: the 32-bit field can't when the region lies above 4 GiB.
    """
    table = bytearray(FADT_BYTES)
    struct.pack_into("<H", table, 109, BOOT_NO_VGA | BOOT_NO_CMOS_RTC)
    struct.pack_into("<I", table, 112, FADT_HW_REDUCED | FADT_APIC_PHYSICAL)
    table[131] = FADT_MINOR
    struct.pack_into("<Q", table, 140, dsdt_start)
    return _table(b"FACP", 6, bytes(table[HEADER_BYTES:]))


def madt(bsp_apic_id: int, apic_ids: Sequence[int]) -> bytes:
    """Return the list of CPUs: first the machine's boot CPU, then the secondary's own; no IOAPIC.

    Kernels from 6.9 on take the first entry for the boot CPU, see that they do not run on it and
    drop just that one. Were an own CPU first, they would use no other.
    The processor UIDs are the APIC IDs: unique in the same way.
    """
    entries = [_local_apic(apic_id) for apic_id in (bsp_apic_id, *apic_ids)]
    return _table(b"APIC", 4, struct.pack("<II", LOCAL_APIC_BASE, 0) + b"".join(entries))


def dsdt() -> bytes:
    """Return a DSDT that declares nothing."""
    return _table(b"DSDT", 2, b"")


def _local_apic(apic_id: int) -> bytes:
    if apic_id < XAPIC_ID_END:
        return struct.pack("<BBBBI", MADT_LOCAL_APIC, 8, apic_id, apic_id, MADT_ENABLED)
    return struct.pack("<BBHIII", MADT_X2APIC, 16, 0, apic_id, MADT_ENABLED, apic_id)


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    table = bytearray(
        struct.pack(
            "<4sIBB6s8sI4sI",
            signature,
            HEADER_BYTES + len(body),
            revision,
            0,
            OEM_ID,
            OEM_TABLE_ID,
            1,
            CREATOR_ID,
            1,
        )
        + body
    )
    table[9] = _checksum(table)
    return bytes(table)


def _checksum(data: bytes | bytearray) -> int:
    """Return the byte that makes the sum of all bytes zero; its own place must hold zero."""
    return -sum(data) & 0xFF


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN
