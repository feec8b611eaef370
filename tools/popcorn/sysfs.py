# SPDX-License-Identifier: GPL-2.0
"""What the running system says about itself in /proc and /sys.

Everything goes through :class:`System`, which takes the root directory, so that tests can describe
a machine with a few files. Values that a machine does not give are None, never guessed.
"""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path

from popcorn.units import parse_cpulist

__all__ = ("System",)


@dataclass(frozen=True)
class System:
    """Reader of /proc, /sys and friends below `root`."""

    root: Path = Path("/")

    def path(self, name: str) -> Path:
        """`name`, an absolute path, below the root."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """Contents of a file without the last newline; None if it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").rstrip("\n")
        except OSError:
            return None

    def release(self) -> str:
        """Release of the running kernel, as `uname -r`."""
        return self.read("/proc/sys/kernel/osrelease") or platform.release()

    def machine(self) -> str:
        """Architecture, as `uname -m`."""
        return self.read("/proc/sys/kernel/arch") or platform.machine()

    def names(self, name: str) -> tuple[str, ...]:
        """Names in a directory, sorted; none if there is no such directory."""
        try:
            return tuple(sorted(entry.name for entry in self.path(name).iterdir()))
        except OSError:
            return ()

    def firmware_memory(self, kind: str) -> tuple[tuple[int, int], ...]:
        """(first, last) address of the ranges that the firmware's memory map gives type `kind`."""
        found = []
        for entry in self.names("/sys/firmware/memmap"):
            base = f"/sys/firmware/memmap/{entry}"
            first, last = self.read(f"{base}/start"), self.read(f"{base}/end")
            if first and last and self.read(f"{base}/type") == kind:
                found.append((int(first, 16), int(last, 16)))
        return tuple(sorted(found))

    def cpus(self, what: str) -> tuple[int, ...]:
        """CPUs that are `possible`, `present` or `online`; empty if sysfs does not say."""
        text = self.read(f"/sys/devices/system/cpu/{what}")
        if not text:
            return ()
        with contextlib.suppress(ValueError):
            return parse_cpulist(text)
        return ()

    def cpu_flags(self) -> frozenset[str]:
        """Flags of the first CPU."""
        for line in (self.read("/proc/cpuinfo") or "").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
        return frozenset()

    def apic_ids(self) -> dict[int, int]:
        """APIC ID by logical number, of the CPUs that are online; others are not told."""
        found: dict[int, int] = {}
        cpu: int | None = None
        for line in (self.read("/proc/cpuinfo") or "").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "processor" and value.isdecimal():
                cpu = int(value)
            elif key == "apicid" and value.isdecimal() and cpu is not None:
                found[cpu] = int(value)
        return found

    def can_offline(self, cpu: int) -> bool:
        """Whether the kernel lets CPU `cpu` be taken offline at all."""
        return self.path(f"/sys/devices/system/cpu/cpu{cpu}/online").exists()

    def meminfo(self) -> dict[str, int]:
        """/proc/meminfo in bytes; entries that are counts stay counts."""
        found: dict[str, int] = {}
        for line in (self.read("/proc/meminfo") or "").splitlines():
            key, _, rest = line.partition(":")
            words = rest.split()
            if words and words[0].isdecimal():
                found[key] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
        return found

    def modules(self) -> frozenset[str]:
        """Names of the loaded modules."""
        lines = (self.read("/proc/modules") or "").splitlines()
        return frozenset(line.split()[0] for line in lines if line)

    def module_installed(self, name: str) -> bool:
        """Whether module `name` is found for the running kernel, as modprobe would look."""
        base = f"/lib/modules/{self.release()}"
        wanted = {f"{name}.ko{suffix}" for suffix in ("", ".xz", ".zst", ".gz")}
        listed = self.read(f"{base}/modules.dep")
        if listed is not None and any(
            line.partition(":")[0].rsplit("/", 1)[-1] in wanted for line in listed.splitlines()
        ):
            return True
        return any(
            self.path(f"{base}/{folder}/{file}").exists()
            for folder in ("updates", "updates/dkms", "extra")
            for file in wanted
        )

    def kernel_config(self) -> dict[str, str] | None:
        """Build configuration of the running kernel, or None if it is not there."""
        text = self.read(f"/boot/config-{self.release()}")
        if text is None:
            return None
        pairs = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
        return {key: value for key, _, value in pairs}

    def capabilities(self) -> int:
        """Effective capabilities of this process, as the bit mask of /proc/self/status."""
        for line in (self.read("/proc/self/status") or "").splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
        return 0
