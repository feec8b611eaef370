# SPDX-License-Identifier: GPL-2.0
"""Can this machine run Popcorn, and if not, what is to be done?

Each check looks at one thing and gives one answer. It reads and never changes anything, needs no
root (without it some answers are "unknown"), and goes through :class:`~popcorn.sysfs.System`, so
that a test can describe any machine.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from popcorn import boot, image
from popcorn.errors import ImageError
from popcorn.start import CAPABILITIES
from popcorn.sysfs import System
from popcorn.units import format_cpulist, format_size

__all__ = ("CHECKS", "Check", "Status", "examine")

MIB = 1 << 20

SLICE_AREA = range(0x20000, 0x90000, 0x10000)
"""Where the host module looks for low slices: above what firmware likes, below the EBDA."""

MEMORY_LEAST = 128 * MIB
MEMORY_COMFORTABLE = 512 * MIB


class Status(Enum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One answer: what was found, and what to do about it if it is not good."""

    name: str
    status: Status
    detail: str
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "name": self.name,
            "status": self.status.value,
            "detail": self.detail,
            "hint": self.hint,
        }


def _ok(name: str, detail: str) -> Check:
    return Check(name, Status.OK, detail)


def _warn(name: str, detail: str, hint: str = "") -> Check:
    return Check(name, Status.WARN, detail, hint)


def _fail(name: str, detail: str, hint: str) -> Check:
    return Check(name, Status.FAIL, detail, hint)


def check_architecture(system: System) -> Check:
    """x86_64 it must be."""
    machine = system.machine()
    if machine == "x86_64":
        return _ok("architecture", machine)
    return _fail("architecture", machine, "only x86_64 machines can run Popcorn")


def check_privileges(system: System) -> Check:
    """The capabilities that starting a kernel takes."""
    have = system.capabilities()
    missing = [name for bit, name in CAPABILITIES.items() if not have >> bit & 1]
    if not missing:
        return _ok("privileges", ", ".join(CAPABILITIES.values()))
    return _warn("privileges", f"{', '.join(missing)} missing", "start kernels as root")


def check_lockdown(system: System) -> Check:
    """A locked-down kernel (Secure Boot) forbids what the host module does."""
    text = system.read("/sys/kernel/security/lockdown")
    if text is None:
        return _ok("lockdown", "not compiled in, or securityfs is not mounted")
    mode = text.partition("[")[2].partition("]")[0] or text
    if mode == "none":
        return _ok("lockdown", "none")
    return _fail(
        "lockdown", mode, "switch Secure Boot off, or boot without lockdown= on the command line"
    )


def check_modules(system: System) -> Check:
    """The modules, loaded or at least installed for this kernel."""
    loaded = system.modules()
    if "popcorn_host" in loaded:
        return _ok("modules", "popcorn and popcorn_host are loaded")
    release = system.release()
    missing = [name for name in ("popcorn", "popcorn_host") if not system.module_installed(name)]
    if missing:
        return _fail(
            "modules",
            f"{' and '.join(missing)} not installed for {release}",
            "install popcorn-dkms, or in the source: make install",
        )
    if (system.read("/sys/module/module/parameters/sig_enforce") or "N") == "Y":
        return _warn(
            "modules",
            "installed and not loaded; only signed modules are let in here",
            "sign them with a key that the machine knows, then: modprobe popcorn_host",
        )
    return _warn("modules", "installed and not loaded", "load them: modprobe popcorn_host")


def check_cpus(system: System) -> Check:
    """CPUs besides the first that can be taken offline."""
    present = system.cpus("present")
    if len(present) < 2:
        return _fail(
            "cpus", f"{len(present) or 'no'} CPU found", "two are needed: one stays, one is leased"
        )
    able = [cpu for cpu in present if cpu and system.can_offline(cpu)]
    if not able:
        return _fail(
            "cpus",
            f"CPUs {format_cpulist(present)}, none can be taken offline",
            "a kernel with CONFIG_HOTPLUG_CPU is needed",
        )
    return _ok("cpus", f"{format_cpulist(able)} of {format_cpulist(present)} can be leased")


def check_tsc(system: System) -> Check:
    """One time stamp counter that runs at one rate, for all kernels."""
    flags = system.cpu_flags()
    missing = [flag for flag in ("constant_tsc", "nonstop_tsc") if flag not in flags]
    source = system.read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    uses = f"; this kernel's clock is {source}" if source else ""
    if not missing:
        return _ok("tsc", f"invariant{uses}")
    detail = f"{' and '.join(missing)} not announced{uses}"
    if "hypervisor" in flags:
        return _warn("tsc", detail, "let the hypervisor pass an invariant TSC on (QEMU: +invtsc)")
    return _fail("tsc", detail, "the kernels would have no common clock: use another machine")


def check_memory(system: System) -> Check:
    """Memory to lease, and an allocator that can give it."""
    config = system.kernel_config()
    if config is not None and config.get("CONFIG_CONTIG_ALLOC") != "y":
        return _warn(
            "memory",
            "this kernel cannot free up large ranges (no CONFIG_CONTIG_ALLOC)",
            "boot it with memmap=512M$0x140000000 and use --memory-at 0x140000000",
        )
    available = system.meminfo().get("MemAvailable")
    if available is None:
        return _warn("memory", "unknown", "")
    text = f"{format_size(available // MIB * MIB)} available"
    if available < MEMORY_LEAST:
        return _fail("memory", text, f"a kernel needs {format_size(MEMORY_LEAST)} at least")
    if available < MEMORY_COMFORTABLE:
        return _warn("memory", text, "enough for one small kernel")
    return _ok("memory", text)


def check_low_memory(system: System) -> Check:
    """Places below 1 MiB where a CPU can be started: one for each kernel."""
    ranges = system.firmware_memory("System RAM")
    if not ranges:
        return _warn("low memory", "the firmware's memory map is not shown")
    slots = sum(
        any(first <= at and at + SLICE_AREA.step - 1 <= last for first, last in ranges)
        for at in SLICE_AREA
    )
    if not slots:
        return _fail(
            "low memory", "no RAM to start CPUs from below 1 MiB", "the firmware keeps all of it"
        )
    return _ok("low memory", f"room for {slots} kernel{'s' if slots > 1 else ''} below 1 MiB")


def check_apic(system: System) -> Check:
    """Which interrupt controllers there are; all kinds work."""
    flags = system.cpu_flags()
    if flags and "apic" not in flags:
        return _fail("apic", "no local APIC", "boot without nolapic or disableapic")
    kind = "x2APIC" if "x2apic" in flags else "xAPIC"
    iommus = system.names("/sys/class/iommu")
    remapping = f"IOMMUs: {', '.join(iommus)}" if iommus else "no IOMMU in use"
    return _ok("apic", f"{kind}, {remapping}")


def check_virtual(system: System) -> Check:
    """Whether this is a virtual machine."""
    if "hypervisor" not in system.cpu_flags():
        return _ok("machine", "bare metal")
    product = system.read("/sys/class/dmi/id/product_name")
    where = f" ({product})" if product else ""
    return _ok("machine", f"virtual{where}: times measured here say nothing about hardware")


def check_busybox(system: System) -> Check:
    """What an initramfs is made of."""
    try:
        box = image.find_busybox([system.path("/bin/busybox"), system.path("/usr/bin/busybox")])
    except ImageError as error:
        return _warn("busybox", error.message, f"{error.hint}, or give --initrd")
    return _ok("busybox", f"{box.path}, {len(box.applets)} commands")


def check_image(system: System) -> Check:
    """The kernel that is started by default: the one that runs."""
    path = system.path(f"/boot/vmlinuz-{system.release()}")
    try:
        kernel = boot.read_image(path)
    except ImageError as error:
        return _warn("kernel image", error.message, "give another one: --kernel PATH")
    version = f"boot protocol {kernel.protocol >> 8}.{kernel.protocol & 0xFF:02d}"
    if not kernel.can_load_above_4g:
        version += ", cannot be loaded above 4 GiB"
    return _ok("kernel image", f"{path}, {version}")


def check_bcc(system: System) -> Check:
    """The BPF compiler collection, for popcornctl trace."""
    if importlib.util.find_spec("bcc") is None:
        return _warn("bcc", "not installed: no tracing", "install python3-bpfcc")
    if not system.path(f"/lib/modules/{system.release()}/build").exists():
        return _warn(
            "bcc", "no kernel headers: no tracing", f"install linux-headers-{system.release()}"
        )
    return _ok("bcc", "installed, with kernel headers")


def check_udev(system: System) -> Check:
    """Who passes device events on."""
    if system.path("/run/udev/control").exists():
        return _ok("udev", "udevd is running")
    return _warn("udev", "udevd is not running", "monitor takes events straight from the kernel")


CHECKS: tuple[Callable[[System], Check], ...] = (
    check_architecture,
    check_privileges,
    check_lockdown,
    check_modules,
    check_cpus,
    check_tsc,
    check_memory,
    check_low_memory,
    check_apic,
    check_virtual,
    check_busybox,
    check_image,
    check_bcc,
    check_udev,
)


def examine(system: System | None = None) -> tuple[Check, ...]:
    """Make all checks."""
    system = system or System()
    return tuple(check(system) for check in CHECKS)
