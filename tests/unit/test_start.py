# SPDX-License-Identifier: GPL-2.0
"""Starting a kernel: the order of things, and what is left behind when something goes wrong."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import pytest

from popcorn import plan, start
from popcorn.device import HostDevice
from popcorn.errors import (
    BusyError,
    ExistsError,
    ImageError,
    KernelRefusedError,
    ModuleMissingError,
    PermissionDeniedError,
    PlanError,
    PopcornError,
    TimeoutExpiredError,
)
from popcorn.models import KernelState
from popcorn.plan import IncompleteSpecError, Spec, plan_start
from popcorn.root import Export
from popcorn.start import start_kernel
from popcorn.uapi.netlink_gen import Cmd

MIB = 1 << 20


@pytest.fixture
def device(tmp_path):
    """A sparse file in place of memory: the offset is the address."""
    path = tmp_path / "memory"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    return HostDevice(path)


@pytest.fixture
def spec(machine):
    machine.bzimage()
    initrd = machine.write("/srv/initrd", b"\x07" * 5000)
    return Spec(name="web", cpus=(2, 3), memory_bytes=256 * MIB, initrd=initrd, timeout=5)


@pytest.fixture
def go(module, machine, device):
    def run(spec, **more):
        more = {"device": device, "system": machine.system, **more}
        return start_kernel(module.client(), spec, **more)

    return run


def changes(module):
    """The commands that change something."""
    return [cmd.name for cmd in module.commands() if cmd.name not in ("FABRIC_GET", "KERNEL_GET")]


def test_a_start(module, go, spec, device):
    seen = []
    started = go(spec, progress=lambda *stage: seen.append(stage))
    assert changes(module) == ["KERNEL_NEW", "KERNEL_BOOT"]
    assert started.kernel.state is KernelState.RUNNING
    assert tuple(stage.name for stage in started.stages) == start.STAGES
    assert tuple(name for name, _, seconds in seen if seconds is not None) == start.STAGES
    boot = dict(module.requests[[c for c, _ in module.requests].index(Cmd.KERNEL_BOOT)][1])
    region = module.memory_start
    assert boot["boot-params"] == region
    assert boot["page-table-root"] == 0x21000
    assert boot["image"] == f"6.1.0-test, {spec.initrd}"
    shown = started.to_json()
    assert [stage["name"] for stage in shown["stages"]] == list(start.STAGES)
    assert shown["kernel"]["name"] == "web"


def test_what_is_written_is_what_was_planned(module, go, spec, device):
    go(spec)
    region = module.memory_start
    end = region + spec.memory_bytes
    with device.path.open("rb") as memory:
        memory.seek(region + 0x202)
        assert memory.read(4) == b"HdrS", "the zero page holds the image's header"
        memory.seek(region + 0x1000)
        line = memory.read(2048).split(b"\0")[0].decode()
        assert "popcorn.node=1" in line
        assert "popcorn.fabric=0x30000000" in line
        memory.seek(end - 8192)
        assert b"\x07" * 5000 in memory.read(8192), "the initramfs is at the end"
        memory.seek(0x20000)
        assert memory.read(4096) == bytes(4096), "page 0 of the slice is the trampoline's"
        assert memory.read(4096) != bytes(4096), "page 1 is the page-table root"
        memory.seek(end)
        assert memory.read(4096) == bytes(4096)


@pytest.mark.parametrize(
    ("change", "kind", "why"),
    [
        ({"name": "2web"}, PlanError, "not a name"),
        ({"name": "we b"}, PlanError, "not a name"),
        ({"name": "web\n"}, PlanError, "not a name"),
        ({"name": "wéb"}, PlanError, "not a name"),
        ({"name": ""}, PlanError, "not a name"),
        ({"name": "w" * 32}, PlanError, "32 bytes"),
        ({"cpus": (2, 2)}, PlanError, "CPU 2 is named twice"),
        ({"cpus": (7,)}, PlanError, "CPU 7 does not exist"),
        ({"cpus": (0,)}, PlanError, "CPU 0 booted the machine"),
        ({"cpus": ()}, PlanError, "at least one CPU"),
        ({"cpus": None}, IncompleteSpecError, "needs --cpus"),
        ({"memory_bytes": None}, IncompleteSpecError, "needs --memory"),
        ({"memory_bytes": 0}, PlanError, "zero bytes"),
        ({"memory_bytes": 3 * MIB}, PlanError, "3M of memory is not a multiple of 2M"),
        ({"memory_bytes": 1000}, PlanError, "not a multiple"),
        ({"memory_bytes": 32 * MIB}, PlanError, "do not fit"),
        ({"memory_start": 4097}, PlanError, "not a multiple"),
        ({"memory_start": 0x2FE00000}, PlanError, "overlap"),
        ({"kernel": "9.9.9"}, ImageError, "no such kernel image"),
        ({"kernel": "/nowhere/vmlinuz"}, ImageError, "no such kernel image"),
        ({"initrd": Path("/nowhere/initrd")}, ImageError, "no such initrd"),
        ({"initrd": Path("/")}, ImageError, "can't read the initrd"),
        ({"append": "x" * 3000}, PlanError, "command line has"),
        ({"append": 'a "b'}, PlanError, "quote"),
    ],
)
def test_bad_input_leases_nothing(module, go, spec, change, kind, why):
    with pytest.raises(PopcornError, match=why) as caught:
        go(dataclasses.replace(spec, **change))
    assert type(caught.value) is kind
    assert changes(module) == []


def test_images_that_are_none(module, go, spec, machine):
    good = machine.bzimage().read_bytes()
    for name, data, why in (
        ("empty", b"", "truncated"),
        ("half", good[: len(good) // 2], "truncated"),
        ("text", b"#!/bin/sh\n" * 1000, "not a bzImage"),
        ("elf", b"\x7fELF" + good[4:0x1F1], "ELF"),
    ):
        path = machine.write(f"/srv/{name}", data)
        with pytest.raises(ImageError, match=why):
            go(dataclasses.replace(spec, kernel=str(path)))
    for name, change, why in (
        ("old", {"protocol": 0x0209}, "too old"),
        ("32bit", {"xloadflags": 0}, "32-bit"),
    ):
        path = machine.bzimage(f"/srv/{name}", **change)
        with pytest.raises(ImageError, match=why):
            go(dataclasses.replace(spec, kernel=str(path)))
    assert changes(module) == []


def test_empty_initrd(module, go, spec, machine):
    with pytest.raises(ImageError, match="is empty"):
        go(dataclasses.replace(spec, initrd=machine.write("/srv/nothing", b"")))
    assert changes(module) == []


def test_initrd_that_is_too_large(module, go, spec, machine):
    large = machine.write("/srv/large", b"x")
    with large.open("r+b") as file:
        file.truncate(230 * MIB)
    with pytest.raises(PlanError, match="do not fit"):
        go(dataclasses.replace(spec, initrd=large))
    assert changes(module) == []


def test_a_cpu_that_is_leased(module, go, spec):
    module.add_kernel("db", KernelState.RUNNING)
    with pytest.raises(BusyError, match="CPU 2 is leased to kernel 'db'"):
        go(spec)
    assert changes(module) == []


def test_the_last_cpu(module, go, spec, machine):
    machine.write("/sys/devices/system/cpu/online", "2-3\n")
    with pytest.raises(PlanError, match="no CPU would be left"):
        go(spec)
    assert changes(module) == []


def test_not_root(module, go, spec, machine):
    machine.write("/proc/self/status", "CapEff:\t0000000000001000\n")
    with pytest.raises(PermissionDeniedError, match="CAP_SYS_RAWIO, CAP_SYS_BOOT missing") as e:
        go(spec)
    assert e.value.hint == "run it as root"
    assert module.requests == []


def test_no_module(module, go, spec):
    module.loaded = False
    with pytest.raises(ModuleMissingError):
        go(spec)


def test_no_host_module(module, go, spec):
    module.host = False
    with pytest.raises(ModuleMissingError, match="popcorn_host"):
        go(spec)
    assert changes(module) == []


def test_a_lease_that_is_refused(module, go, spec, refusal):
    module.refusals[Cmd.KERNEL_NEW] = refusal(errno.ENOMEM, "300M can be had at most")
    with pytest.raises(KernelRefusedError, match="300M can be had"):
        go(spec)
    assert changes(module) == ["KERNEL_NEW"], "nothing to give back"


def test_a_write_that_fails_gives_the_lease_back(module, go, spec, tmp_path):
    with pytest.raises(ModuleMissingError, match="is not there"):
        go(spec, device=HostDevice(tmp_path / "missing"))
    assert changes(module) == ["KERNEL_NEW", "KERNEL_DEL"]
    assert module.kernels == {}


def test_a_lease_that_does_not_suit_is_given_back(module, go, spec):
    module.memory_start = 0x2F000000  # the fabric is right behind
    with pytest.raises(PlanError, match="overlap"):
        go(spec)
    assert changes(module) == ["KERNEL_NEW", "KERNEL_DEL"]


def test_a_boot_that_is_refused_gives_the_lease_back(module, go, spec, refusal):
    module.refusals[Cmd.KERNEL_BOOT] = refusal(errno.EINVAL, "outside the lease", "entry")
    with pytest.raises(KernelRefusedError, match=r"outside the lease \(attribute 'entry'\)"):
        go(spec)
    assert changes(module) == ["KERNEL_NEW", "KERNEL_BOOT", "KERNEL_DEL"]


def test_the_first_error_is_told_when_giving_back_fails_too(module, go, spec, refusal):
    module.refusals[Cmd.KERNEL_BOOT] = refusal(errno.EINVAL, "the first")
    module.refusals[Cmd.KERNEL_DEL] = refusal(errno.EBUSY, "the second")
    with pytest.raises(KernelRefusedError, match="the first"):
        go(spec)


@pytest.mark.parametrize("stage", start.STAGES)
def test_ctrl_c_leaves_what_there_is(module, go, spec, stage):
    def interrupt(name, detail, seconds):
        if name == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(spec, progress=interrupt)
    assert "KERNEL_DEL" not in changes(module), "the next command shows it, kill undoes it"
    assert len(module.kernels) == (stage in ("load", "boot", "join"))


def test_a_kernel_that_never_joins(module, go, spec):
    module.after_boot = None
    with pytest.raises(TimeoutExpiredError) as caught:
        go(dataclasses.replace(spec, timeout=0))
    assert caught.value.message == "kernel 'web' did not join within 0 s: it is starting"
    assert "popcornctl kernel kill web" in caught.value.hint
    assert "KERNEL_DEL" not in changes(module)
    assert len(module.kernels) == 1


@pytest.mark.parametrize("state", [KernelState.STOPPING, KernelState.STOPPED])
def test_a_kernel_that_has_little_to_do(module, go, spec, state):
    """It joined, and powers off before anybody has seen it run."""
    module.after_boot = state
    said = []
    started = go(spec, progress=lambda *words: said.append(words))
    assert started.kernel.state is state
    assert any(
        f"web joined 1.25 s after its first INIT, and is {state.name.lower()}" in words
        for words in said
    )
    assert len(module.kernels) == 1


def test_a_kernel_that_crashes_as_soon_as_it_joined(module, go, spec):
    module.after_boot = KernelState.CRASHED
    with pytest.raises(PopcornError, match="joined, and at once it is crashed: as the test"):
        go(spec)
    assert len(module.kernels) == 1


@pytest.mark.parametrize("state", [KernelState.CRASHED, KernelState.STOPPED])
def test_a_kernel_that_ends_before_it_joins(module, go, spec, state):
    module.after_boot, module.joins = state, False
    with pytest.raises(
        PopcornError, match=f"ended before it joined, it is {state.name.lower()}: as"
    ):
        go(spec)
    assert len(module.kernels) == 1


@pytest.mark.parametrize(
    "state", [KernelState.LEASED, KernelState.STOPPED, KernelState.CRASHED, KernelState.KILLED]
)
def test_starting_again_on_the_same_lease(module, go, spec, state):
    module.add_kernel("web", state)
    again = dataclasses.replace(spec, cpus=None, memory_bytes=None)
    assert go(again).kernel.state is KernelState.RUNNING
    assert changes(module) == ["KERNEL_PREPARE", "KERNEL_BOOT"]


def test_starting_again_with_the_same_resources(module, go, spec):
    module.add_kernel("web", KernelState.STOPPED)
    go(dataclasses.replace(spec, cpus=(3, 2), memory_bytes=512 * MIB))
    assert changes(module) == ["KERNEL_PREPARE", "KERNEL_BOOT"]


@pytest.mark.parametrize(
    "change",
    [{"cpus": (1,)}, {"memory_bytes": 128 * MIB}, {"memory_start": 6 << 30}],
)
def test_starting_again_with_other_resources(module, go, spec, change):
    module.add_kernel("web", KernelState.STOPPED)
    base = dataclasses.replace(spec, cpus=None, memory_bytes=None)
    with pytest.raises(ExistsError, match="has CPUs 2-3 and 512M at 0x140000000 already") as caught:
        go(dataclasses.replace(base, **change))
    assert "without --cpus" in caught.value.hint
    assert changes(module) == []


@pytest.mark.parametrize("state", [KernelState.STARTING, KernelState.RUNNING, KernelState.STOPPING])
def test_a_name_that_is_taken(module, go, spec, state):
    module.add_kernel("web", state)
    with pytest.raises(ExistsError, match="the name 'web' is taken"):
        go(spec)
    assert changes(module) == []


def test_starting_again_keeps_the_lease_when_it_fails(module, go, spec, tmp_path):
    module.add_kernel("web", KernelState.STOPPED)
    again = dataclasses.replace(spec, cpus=None, memory_bytes=None)
    with pytest.raises(ModuleMissingError):
        go(again, device=HostDevice(tmp_path / "missing"))
    assert changes(module) == ["KERNEL_PREPARE"]
    assert len(module.kernels) == 1


# plans


def test_plan_needs_no_module(machine, spec):
    plan = plan_start(spec, system=machine.system)
    assert plan.target.region_start == 4 << 30
    assert plan.target.apic_ids == (4, 6), "as /proc/cpuinfo says"
    assert plan.target.name == "web"
    assert any("start of the memory" in what for what in plan.assumed)
    assert any("fabric" in what for what in plan.assumed)
    shown = plan.to_json()
    assert {"kernel", "initrd", "zero-page"} <= {segment["name"] for segment in shown["segments"]}
    assert shown["memory_minimum_bytes"] <= 256 * MIB
    assert "tsc_early_khz" in shown["command_line"]


def test_plan_below_4g_for_kernels_that_need_it(machine, spec):
    path = machine.bzimage("/srv/low", xloadflags=1)
    plan = plan_start(dataclasses.replace(spec, kernel=str(path)), system=machine.system)
    assert plan.target.region_start == 256 * MIB


def test_plan_at_an_address(machine, spec):
    plan = plan_start(dataclasses.replace(spec, memory_start=5 << 30), system=machine.system)
    assert plan.target.region_start == 5 << 30
    assert not any("start of the memory" in what for what in plan.assumed)


def test_plan_says_which_apic_ids_it_does_not_know(machine, spec):
    machine.write("/proc/cpuinfo", "processor\t: 0\napicid\t\t: 0\n")
    plan = plan_start(spec, system=machine.system)
    assert any("APIC IDs of CPUs 2-3" in what for what in plan.assumed)


def test_plan_takes_what_the_module_knows(module, machine, spec):
    plan = plan_start(spec, client=module.client(), system=machine.system)
    assert plan.target.fabric_start == 0x3000_0000
    assert changes(module) == []


def test_plan_avoids_the_fabric(module, machine, spec):
    module._do = lambda *_: [
        {"phys": 4 << 30, "size": 16 * MIB, "tsc-khz": 1000, "version": 0, "host": False}
    ]
    plan = plan_start(spec, client=module.client(), system=machine.system)
    assert plan.target.region_start == (4 << 30) + 16 * MIB


def test_plan_on_an_existing_lease(module, machine, spec):
    module.add_kernel("web", KernelState.STOPPED)
    again = dataclasses.replace(spec, cpus=None, memory_bytes=None)
    plan = plan_start(again, client=module.client(), system=machine.system)
    assert plan.target.region_start == module.memory_start
    assert plan.assumed == ()


def test_plan_guesses_an_initramfs_that_cannot_be_made(machine, spec):
    plan = plan_start(dataclasses.replace(spec, initrd=None), system=machine.system)
    assert plan.initrd.size == 4 * MIB
    assert "no module popcorn for 6.1.0-test" in plan.assumed[0]


def test_an_initramfs_that_cannot_be_made_ends_a_start(module, go, spec):
    with pytest.raises(ImageError, match="no module popcorn"):
        go(dataclasses.replace(spec, initrd=None))
    assert changes(module) == []


def test_image_path_prefers_what_is_installed(machine):
    system = machine.system
    assert plan.image_path(None, system) == machine.root / "boot/vmlinuz-6.1.0-test"
    assert plan.image_path("6.12", system) == machine.root / "boot/vmlinuz-6.12"
    assert plan.image_path("./vmlinuz", system) == Path("vmlinuz")


def test_a_kernel_that_ended_before_it_had_its_root(module, monkeypatch):
    """It joined and powered off, as one without a root may; but it was to have one."""
    module.add_kernel("web", KernelState.STOPPED)
    (kernel,) = module.kernels.values()
    kernel["join-time"] = 1_250_000
    asked = []

    def gone(number, name, timeout):
        asked.append((number, name))
        raise PopcornError(f"the server of the root of kernel '{name}' has ended")

    monkeypatch.setattr(start, "wait_mounted", gone)
    client = module.client()
    web = client.kernel("web")
    clock = start.Clock(None)
    assert start.join(client, web, None, 5, clock).state is KernelState.STOPPED
    export = Export(web.id, "web", "10.0.0.1", "10.0.0.2", 5641, ("/",))
    with pytest.raises(PopcornError, match="server of the root"):
        start.join(client, web, export, 5, clock)
    assert asked == [(web.id, "web")]
