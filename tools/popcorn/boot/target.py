# SPDX-License-Identifier: GPL-2.0
"""Where a secondary is to run: the lease, as the host module granted it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Target",)


@dataclass(frozen=True)
class Target:
    """CPUs, memory and fabric of the kernel to be started.

    Addresses are physical, sizes bytes. `apic_ids` are those of the leased CPUs, the one that is
    started first in front; `bsp_apic_id` is that of the CPU the *machine* booted on, which never
    belongs to a secondary. The slice lies in the first MiB: its page 0 belongs to the trampoline
    of the host module, its page 1 is the page-table root, the rest is RAM of the secondary.
    """

    node_id: int
    region_start: int
    region_bytes: int
    slice_start: int
    slice_bytes: int
    apic_ids: tuple[int, ...]
    bsp_apic_id: int
    tsc_khz: int
    fabric_start: int
    fabric_bytes: int
    x2apic: bool
    name: str = ""

    @property
    def region_end(self) -> int:
        """First address behind the region."""
        return self.region_start + self.region_bytes

    @property
    def slice_end(self) -> int:
        """First address behind the slice."""
        return self.slice_start + self.slice_bytes
