# SPDX-License-Identifier: GPL-2.0
"""The kernel command line of a secondary."""

from __future__ import annotations

from popcorn.boot.target import Target
from popcorn.errors import PlanError

__all__ = ("build",)

# Why each word is there:
#   tsc_early_khz, tsc=reliable   the TSC is common to all kernels; there is no PIT or HPET to
#                                 calibrate it with, and a failed check would leave only jiffies
#   pci=off                       the buses belong to the primary
#   noapic, acpi_sci=edge         so do the IOAPICs, and the trigger modes of the 8259
#   no_ipi_broadcast=1            "all but self" would hit the CPUs of other kernels
#   8250.nr_uarts=0, i8042.noaux  the legacy ports belong to the primary
#   nmi_watchdog=0                performance counters may be in use by nobody who answers for us
#   panic=0                       a secondary that reboots would reset the machine
#   disable_cpu_apicid            kernels before 6.9 would start the machine's boot CPU
FIXED = (
    "tsc=reliable",
    "pci=off",
    "noapic",
    "acpi_sci=edge",
    "no_ipi_broadcast=1",
    "8250.nr_uarts=0",
    "i8042.noaux",
    "nmi_watchdog=0",
    "panic=0",
)


def build(target: Target, extra: str = "") -> str:
    """Return the command line; `extra` (what the user adds) comes last, so it may override.

    Raises PlanError for a TSC frequency that can't be, and if `extra` or the kernel's name holds
    what a command line can't carry.
    """
    if target.tsc_khz <= 0:
        raise PlanError(
            f"the TSC can't run at {target.tsc_khz} kHz",
            "the primary must have found the TSC reliable (clocksource tsc)",
        )
    words = [
        f"tsc_early_khz={target.tsc_khz}",
        *FIXED,
        f"disable_cpu_apicid={target.bsp_apic_id}",
        f"popcorn.fabric={target.fabric_start:#x}",
        f"popcorn.fabric_bytes={target.fabric_bytes:#x}",
        f"popcorn.node={target.node_id}",
    ]
    if target.name:
        words.append(f"popcorn.name={_checked_name(target.name)}")
    extra = _checked_extra(extra)
    if extra:
        words.append(extra)
    return " ".join(words)


def _checked_name(name: str) -> str:
    if not name.isascii() or not name.isprintable() or any(c in ' "' for c in name):
        raise PlanError(
            f"kernel name {name!r} can't be put on a command line",
            "use printable ASCII without spaces and quotes",
        )
    return name


def _checked_extra(extra: str) -> str:
    """Return `extra` without space around it; one line of printable ASCII, quotes in pairs.

    The kernel knows only the double quote, and no escape (lib/cmdline.c, next_arg).
    """
    extra = extra.strip(" ")
    for position, char in enumerate(extra):
        if not " " <= char <= "~":
            what = {"\0": "a NUL", "\n": "a newline", "\t": "a tab"}.get(char, repr(char))
            raise PlanError(
                f"command line: {what} at position {position} of the added words",
                "separate words by spaces and use printable ASCII only",
            )
    if extra.count('"') % 2:
        raise PlanError(
            "command line: a double quote in the added words is not closed",
            'write name="value with spaces"; the kernel has no escape for a quote',
        )
    return extra
