# SPDX-License-Identifier: GPL-2.0
"""Sizes, rates, CPU lists and times as people write and read them.

The parsers raise :class:`ValueError` with one line that names the text: what they reject is a
typing mistake, which the command line reports as wrong usage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = (
    "format_cpulist",
    "format_duration",
    "format_micros",
    "format_size",
    "parse_address",
    "parse_cpulist",
    "parse_rate",
    "parse_size",
)

_SIZE = re.compile(r"(\d+)([KMGT]?)(i?B)?", re.IGNORECASE)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}

CPU_LIMIT = 8192
"""CPUs that a kernel can be built for (CONFIG_NR_CPUS_RANGE_END of x86_64)."""


def parse_size(text: str) -> int:
    """Bytes that `text` means: a number with an optional K, M, G or T, all powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not a size: write a number with K, M or G, like 512M")
    return int(match[1]) << _SHIFTS[match[2].upper()]


def format_size(size: int) -> str:
    """The shortest exact form in powers of 1024: 536870912 is 512M, 1000 is 1000."""
    for suffix in ("T", "G", "M", "K"):
        unit = 1 << _SHIFTS[suffix]
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def parse_rate(text: str) -> float:
    """Times in a second: a number above 0, with `/s` or without."""
    try:
        value = float(text.strip().removesuffix("/s"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"'{text}' is not a rate: write times in a second, like 1000/s")
    return value


def parse_address(text: str) -> int:
    """A physical address: hexadecimal with 0x, or a size like 4G."""
    if text.strip().lower().startswith("0x"):
        try:
            return int(text.strip(), 16)
        except ValueError:
            raise ValueError(f"'{text}' is not a hexadecimal address") from None
    try:
        return parse_size(text)
    except ValueError:
        raise ValueError(f"'{text}' is not an address: write 0x140000000 or 5G") from None


def parse_cpulist(text: str) -> tuple[int, ...]:
    """CPUs in the kernel's list format (`2-3,5`), in the order given.

    A CPU that is named twice is an error: in a lease the first one boots the kernel, so the order
    means something and a repetition is a mistake.
    """
    cpus: list[int] = []
    for part in text.strip().split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        if match is None:
            raise ValueError(f"'{text}' is not a CPU list: write it like 2-3,5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"CPU range '{part.strip()}' runs backwards")
        if last >= CPU_LIMIT:
            raise ValueError(f"CPU {last} is beyond what Linux can number")
        cpus.extend(range(first, last + 1))
    seen: set[int] = set()
    for cpu in cpus:
        if cpu in seen:
            raise ValueError(f"CPU {cpu} is named twice in '{text}'")
        seen.add(cpu)
    return tuple(cpus)


def format_cpulist(cpus: Iterable[int]) -> str:
    """The kernel's list format, ascending: (5, 2, 3) is 2-3,5; empty for none."""
    parts: list[str] = []
    run: list[int] = []
    for cpu in [*sorted(set(cpus)), None]:
        if run and (cpu is None or cpu != run[-1] + 1):
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        if cpu is not None:
            run.append(cpu)
    return ",".join(parts)


def format_duration(seconds: float) -> str:
    """A time for people, two units at most: 0.4s, 12s, 3m20s, 5h02m, 2d04h."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def format_micros(micros: float) -> str:
    """A round-trip time for people: 3.21 µs, 1.234 ms, 2.100 s."""
    if micros < 1000:
        return f"{micros:.2f} µs"
    if micros < 1_000_000:
        return f"{micros / 1000:.3f} ms"
    return f"{micros / 1_000_000:.3f} s"
