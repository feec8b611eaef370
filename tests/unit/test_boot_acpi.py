# SPDX-License-Identifier: GPL-2.0
"""The ACPI tables, read back and judged by ACPICA's disassembler."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from popcorn.boot import acpi
from popcorn.errors import PlanError

START = 0x140010000
COMPLAINT = re.compile(r"warning|error|invalid|incorrect|exceed|truncat|unknown", re.IGNORECASE)
LISTED = re.compile(r"incorrect|invalid|unknown|\*\*\*\*|terminates", re.IGNORECASE)

needs_iasl = pytest.mark.skipif(shutil.which("iasl") is None, reason="iasl is not installed")


def tables(apic_ids: tuple[int, ...] = (2, 3), bsp: int = 0) -> dict[str, bytes]:
    """Follow the pointers from the RSDP, as a kernel does."""
    blob = acpi.build(START, bsp, apic_ids)

    def at(address: int) -> bytes:
        offset = address - START
        length = struct.unpack_from("<I", blob, offset + 4)[0]
        table = blob[offset : offset + length]
        assert len(table) == length
        return table

    found = {"rsdp": blob[:36], "xsdt": at(struct.unpack_from("<Q", blob, 24)[0])}
    for (address,) in struct.iter_unpack("<Q", found["xsdt"][36:]):
        table = at(address)
        found[table[:4].decode().lower()] = table
    found["dsdt"] = at(struct.unpack_from("<Q", found["facp"], 140)[0])
    return found


def disassemble(table: bytes, folder: Path) -> str:
    path = folder / "table.aml"
    path.write_bytes(table)
    done = subprocess.run(
        ["iasl", "-d", path], capture_output=True, text=True, check=False, cwd=folder
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not COMPLAINT.search(said), said
    text = path.with_suffix(".dsl").read_text()
    # What it finds wrong in the contents stands in the listing, as a comment.
    assert not LISTED.search(text), text
    return text


def field(text: str, name: str) -> list[str]:
    return re.findall(rf"^(?:\[[^]]*\])?\s+{re.escape(name)} : (\S+)", text, re.MULTILINE)


def test_sums_are_zero() -> None:
    found = tables()
    assert set(found) == {"rsdp", "xsdt", "facp", "apic", "dsdt"}
    for table in found.values():
        assert sum(table) & 0xFF == 0
    assert sum(found["rsdp"][:20]) & 0xFF == 0


def test_rsdp() -> None:
    rsdp = tables()["rsdp"]
    assert rsdp[:8] == b"RSD PTR "
    assert rsdp[15] == 2
    assert struct.unpack_from("<II", rsdp, 16) == (0, 36)


def test_madt_begins_with_the_boot_cpu() -> None:
    madt = tables((5, 254, 255, 70000), bsp=9)["apic"]
    assert struct.unpack_from("<II", madt, 36) == (0xFEE00000, 0)
    entries = []
    at = 44
    while at < len(madt):
        kind, length = madt[at], madt[at + 1]
        if kind == 0:
            entries.append((kind, length, madt[at + 3], *struct.unpack_from("<I", madt, at + 4)))
        else:
            entries.append((kind, length, *struct.unpack_from("<II", madt, at + 4)))
        at += length
    assert at == len(madt)
    assert entries == [
        (0, 8, 9, 1),
        (0, 8, 5, 1),
        (0, 8, 254, 1),
        (9, 16, 255, 1),
        (9, 16, 70000, 1),
    ]


def test_area_limit() -> None:
    assert len(acpi.build(START, 0, range(1, 4000))) <= acpi.AREA
    with pytest.raises(PlanError, match="ACPI tables"):
        acpi.build(START, 0, range(1, 4500))


@needs_iasl
def test_iasl_fadt(tmp_path: Path) -> None:
    text = disassemble(tables()["facp"], tmp_path)
    assert field(text, "Revision") == ["06"]
    assert field(text, "Table Length") == ["00000114"]
    assert field(text, "Hardware Reduced (V5)") == ["1"]
    assert field(text, "Use APIC Physical Destination Mode (V4)") == ["1"]
    assert field(text, "Use APIC Cluster Model (V4)") == ["0"]
    assert field(text, "Reset Register Supported (V2)") == ["0"]
    assert field(text, "VGA Not Present (V4)") == ["1"]
    assert field(text, "CMOS RTC Not Present (V5)") == ["1"]
    assert field(text, "8042 Present on ports 60/64 (V2)") == ["0"]
    assert field(text, "Legacy Devices Supported (V2)") == ["0"]
    assert field(text, "DSDT Address") == ["00000000", "00000001400101C0"]


@needs_iasl
def test_iasl_madt(tmp_path: Path) -> None:
    text = disassemble(tables((3, 300), bsp=7)["apic"], tmp_path)
    assert field(text, "Local Apic Address") == ["FEE00000"]
    assert field(text, "Local Apic ID") == ["07", "03"]
    assert field(text, "Processor x2Apic ID") == ["0000012C"]
    assert field(text, "Processor Enabled") == ["1", "1", "1"]
    assert "I/O APIC" not in text


@needs_iasl
def test_iasl_xsdt(tmp_path: Path) -> None:
    text = disassemble(tables()["xsdt"], tmp_path)
    assert len(re.findall(r"ACPI Table Address +\d+ : 0000000140010", text)) == 2


@needs_iasl
def test_iasl_dsdt(tmp_path: Path) -> None:
    text = disassemble(tables()["dsdt"], tmp_path)
    assert 'DefinitionBlock ("", "DSDT", 2, "POPCRN", "POPCORN ", 0x00000001)' in text


@needs_iasl
@pytest.mark.parametrize("table", ["facp", "apic", "xsdt", "dsdt"])
@pytest.mark.parametrize("offset", [4, 9])
def test_iasl_would_complain(table: str, offset: int, tmp_path: Path) -> None:
    broken = bytearray(tables()[table])
    broken[offset] += 1  # the length, the checksum
    with pytest.raises(AssertionError):
        disassemble(bytes(broken), tmp_path)
