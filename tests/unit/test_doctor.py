# SPDX-License-Identifier: GPL-2.0
"""The doctor's answers about machines that are described by files."""

from __future__ import annotations

import pytest

from popcorn import doctor
from popcorn.doctor import Status, examine


def find(machine, name):
    (check,) = [check for check in examine(machine.system) if check.name == name]
    return check


def test_a_machine_that_can(machine):
    machine.bzimage()
    failed = [check for check in examine(machine.system) if check.status is Status.FAIL]
    assert failed == []
    assert find(machine, "cpus").detail == "1-3 of 0-3 can be leased"
    assert find(machine, "low memory").detail == "room for 7 kernels below 1 MiB"
    assert find(machine, "kernel image").status is Status.OK


@pytest.mark.parametrize(
    ("name", "file", "content", "status", "why"),
    [
        ("architecture", "/proc/sys/kernel/arch", "aarch64", "fail", "aarch64"),
        ("privileges", "/proc/self/status", "CapEff:\t0000000000000000", "warn", "CAP_NET_ADMIN"),
        ("lockdown", "/sys/kernel/security/lockdown", "none [integrity]", "fail", "integrity"),
        ("modules", "/proc/modules", "", "fail", "popcorn and popcorn_host not installed"),
        ("cpus", "/sys/devices/system/cpu/present", "0", "fail", "1 CPU found"),
        ("tsc", "/proc/cpuinfo", "flags : apic constant_tsc", "fail", "nonstop_tsc not announced"),
        ("tsc", "/proc/cpuinfo", "flags : apic hypervisor", "warn", "constant_tsc and nonstop_tsc"),
        ("memory", "/proc/meminfo", "MemAvailable: 1024 kB", "fail", "1M available"),
        ("memory", "/proc/meminfo", "MemAvailable: 262144 kB", "warn", "256M available"),
        ("memory", "/boot/config-6.1.0-test", "CONFIG_SMP=y", "warn", "no CONFIG_CONTIG_ALLOC"),
        ("low memory", "/sys/firmware/memmap/0/end", "0x1ffff", "fail", "no RAM to start CPUs"),
        ("apic", "/proc/cpuinfo", "flags : fpu", "fail", "no local APIC"),
        ("machine", "/proc/cpuinfo", "flags : apic hypervisor", "ok", "virtual"),
        ("kernel image", "/boot/vmlinuz-6.1.0-test", "text", "warn", "truncated"),
    ],
)
def test_what_is_wrong(machine, name, file, content, status, why):
    machine.write(file, content + "\n")
    check = find(machine, name)
    assert check.status.value == status
    assert why in check.detail
    if check.status is not Status.OK:
        assert check.hint, "says what to do about it"


def test_cpus_that_cannot_be_taken_offline(machine):
    for cpu in (1, 2, 3):
        machine.remove(f"/sys/devices/system/cpu/cpu{cpu}/online")
    check = find(machine, "cpus")
    assert check.status is Status.FAIL
    assert "CONFIG_HOTPLUG_CPU" in check.hint


def test_modules_that_are_installed_only(machine):
    machine.write("/proc/modules", "ext4 1 0 - Live 0x0\n")
    dep = "updates/popcorn/popcorn.ko.xz:\nupdates/popcorn/popcorn_host.ko.xz: x\n"
    machine.write("/lib/modules/6.1.0-test/modules.dep", dep)
    check = find(machine, "modules")
    assert check.status is Status.WARN
    assert check.hint == "load them: modprobe popcorn_host"
    machine.write("/sys/module/module/parameters/sig_enforce", "Y\n")
    assert "signed" in find(machine, "modules").detail


def test_nothing_to_read(tmp_path):
    """A machine that shows nothing gets answers, not tracebacks."""
    checks = examine(doctor.System(tmp_path))
    assert len(checks) == len(doctor.CHECKS)
    assert all(check.detail for check in checks)


def test_json(machine):
    shown = find(machine, "lockdown").to_json()
    assert shown == {"name": "lockdown", "status": "ok", "detail": "none", "hint": ""}
