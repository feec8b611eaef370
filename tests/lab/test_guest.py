# SPDX-License-Identifier: GPL-2.0
"""The lab keeps its promises to the other lab tests: the right machine, tools that work."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def dmesg() -> str:
    """Return the guest's kernel log."""
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


def test_runs_the_kernel_and_cpus_that_were_asked_for() -> None:
    assert os.uname().release == os.environ["LAB_RELEASE"]
    online = Path("/sys/devices/system/cpu/online").read_text().strip()
    assert online == f"0-{int(os.environ['LAB_CPUS']) - 1}"


def test_has_the_firmware_that_was_asked_for() -> None:
    assert Path("/sys/firmware/efi").exists() == (os.environ["LAB_FIRMWARE"] == "uefi")


def test_has_the_apic_that_was_asked_for() -> None:
    """`x2apic` means enabled, with interrupt remapping, which is what larger servers run."""
    log = dmesg()
    wanted = os.environ["LAB_MACHINE"] == "x2apic"
    assert ("Enabled IRQ remapping in x2apic mode" in log) == wanted
    assert ("x2apic enabled" in log) == wanted


def test_every_secondary_kernel_is_there_to_start() -> None:
    for pair in os.environ["LAB_SECONDARIES"].split():
        release = pair.split("=")[1]
        assert Path(f"/boot/vmlinuz-{release}").read_bytes()[0x202:0x206] == b"HdrS"
        assert Path(f"/lib/modules/{release}/modules.dep").exists()


def test_writes_elsewhere_than_to_the_shared_directory_stay_in_the_guest() -> None:
    assert os.statvfs("/").f_flag & os.ST_RDONLY == 0
    kinds = {
        fields[1]: fields[2]
        for fields in map(str.split, Path("/proc/mounts").read_text().splitlines())
    }
    assert kinds["/"] == "overlay"
    assert kinds[os.environ["LAB_OUT"]] == "9p"
    # The raw root must not be reachable beside the overlay.
    assert list(kinds.values()).count("9p") == 1


def test_modprobe_finds_modules_of_the_running_kernel() -> None:
    subprocess.run(["modprobe", "dummy", "numdummies=0"], check=True)
    assert Path("/sys/module/dummy").is_dir()
    subprocess.run(["modprobe", "-r", "dummy"], check=True)
    assert not Path("/sys/module/dummy").exists()


def test_pyudev_sees_a_cpu_go_and_come() -> None:
    """The daemon is up: its own events, not the kernel's, carry hotplug to pyudev."""
    pyudev = pytest.importorskip("pyudev", reason="needs python3-pyudev")
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
    monitor.filter_by("cpu")
    monitor.start()
    control = Path("/sys/devices/system/cpu/cpu1/online")
    for value, action in (("0", "offline"), ("1", "online")):
        control.write_text(value)
        device = monitor.poll(timeout=10)
        assert device is not None, f"no {action} event within 10 s"
        assert (device.action, device.sys_name) == (action, "cpu1")


def test_netlink_and_bpf_libraries_work() -> None:
    """Not only importable: one request each."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        states = {link.get_attr("IFLA_IFNAME"): link["flags"] & 1 for link in route.get_links()}
    assert states["lo"] == 1
    bcc = pytest.importorskip("bcc", reason="needs python3-bpfcc")
    assert bcc.BPF.get_kprobe_functions(b"^native_machine_emergency_restart$")


def test_what_is_written_to_the_shared_directory_is_readable_again() -> None:
    path = Path(os.environ["LAB_OUT"]) / f"test-{uuid.uuid4().hex}"
    data = bytes(range(256)) * 4096
    path.write_bytes(data)
    assert path.read_bytes() == data
    path.unlink()
    assert not path.exists()
