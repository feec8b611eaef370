# SPDX-License-Identifier: GPL-2.0
"""Restarting a kernel on its lease: with what it was started with, in every state it may be in."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from popcorn import restart, start
from popcorn.cli import main
from popcorn.device import HostDevice
from popcorn.errors import (
    BusyError,
    ImageError,
    NotFoundError,
    PermissionDeniedError,
    PlanError,
    PopcornError,
    TimeoutExpiredError,
)
from popcorn.models import KernelState
from popcorn.plan import Spec
from popcorn.restart import Change, restart_kernel
from popcorn.start import start_kernel
from popcorn.uapi.netlink_gen import Cmd

MIB = 1 << 20


@pytest.fixture
def options(machine, tmp_path):
    path = tmp_path / "memory"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    return {"device": HostDevice(path), "system": machine.system}


@pytest.fixture
def web(module, machine, options):
    """A kernel that was started; what was asked of the module for that is forgotten."""
    machine.bzimage()
    initrd = machine.write("/srv/initrd", b"\x07" * 5000)
    spec = Spec("web", (2, 3), 256 * MIB, initrd=initrd, append="one two", timeout=5)
    start_kernel(module.client(), spec, **options)
    module.requests.clear()
    return module.kernels[1]


@pytest.fixture
def go(module, options):
    def run(change=None, name="web", **more):
        return restart_kernel(module.client(), name, change, **{"timeout": 5, **options, **more})

    return run


def changes(module):
    return [cmd.name for cmd in module.commands() if cmd not in (Cmd.FABRIC_GET, Cmd.KERNEL_GET)]


def booted(module):
    return dict(next(given for cmd, given in module.requests if cmd == Cmd.KERNEL_BOOT))


def command_line(options, module):
    with options["device"].path.open("rb") as memory:
        memory.seek(module.memory_start + 0x1000)
        return memory.read(2048).split(b"\0")[0].decode()


RESTING = (KernelState.LEASED, KernelState.STOPPED, KernelState.CRASHED, KernelState.KILLED)


@pytest.mark.parametrize("state", RESTING)
def test_of_one_that_rests(module, web, go, options, state):
    module.set_state(1, state, "why")
    seen = []
    done = go(progress=lambda *stage: seen.append(stage))
    assert changes(module) == ["KERNEL_PREPARE", "KERNEL_BOOT"]
    assert done.kernel.state is KernelState.RUNNING
    assert (done.before.state, done.before.reason) == (state, "why")
    assert done.kernel.cpus == (2, 3)
    assert command_line(options, module).endswith("one two")
    assert booted(module)["image"] == web["image"]
    assert booted(module)["recipe"] == web["recipe"]
    stages = [stage.name for stage in done.stages]
    assert stages == [name for name in restart.STAGES if name != "stop"]
    assert [name for name, _, seconds in seen if seconds is not None] == stages


def test_of_one_that_runs_asks_it_first(module, web, go):
    module.on_idle = [lambda: module.set_state(1, KernelState.STOPPED, "halt or power off")]
    done = go()
    assert changes(module) == ["KERNEL_STOP", "KERNEL_PREPARE", "KERNEL_BOOT"]
    assert tuple(stage.name for stage in done.stages) == restart.STAGES


@pytest.mark.parametrize(
    ("state", "force"),
    [
        (KernelState.RUNNING, True),
        (KernelState.STOPPING, True),
        (KernelState.STARTING, True),
        (KernelState.HUNG, False),
    ],
)
def test_of_one_that_is_not_asked(module, web, go, state, force):
    module.set_state(1, state)
    go(force=force)
    assert changes(module) == ["KERNEL_KILL", "KERNEL_PREPARE", "KERNEL_BOOT"]


def test_of_one_that_stops_already(module, web, go):
    module.set_state(1, KernelState.STOPPING)
    module.on_idle = [lambda: module.set_state(1, KernelState.STOPPED)]
    go()
    assert changes(module) == ["KERNEL_PREPARE", "KERNEL_BOOT"]


def test_of_one_that_hangs_when_asked(module, web, go):
    module.on_idle = [lambda: module.set_state(1, KernelState.HUNG)]
    go()
    assert changes(module) == ["KERNEL_STOP", "KERNEL_KILL", "KERNEL_PREPARE", "KERNEL_BOOT"]


def test_of_one_that_does_not_stop(module, web, go):
    with pytest.raises(TimeoutExpiredError, match="did not power off within 0 s") as caught:
        go(stop_timeout=0)
    assert "popcornctl kernel restart web --force" in caught.value.hint
    assert changes(module) == ["KERNEL_STOP"]


def test_of_one_that_starts(module, web, go):
    module.set_state(1, KernelState.STARTING)
    with pytest.raises(BusyError, match="has not joined") as caught:
        go()
    assert "--force" in caught.value.hint
    assert changes(module) == []


def test_with_something_else(module, web, go, options, machine):
    module.set_state(1, KernelState.STOPPED)
    other = machine.write("/srv/other", b"\x08" * 5000)
    go(Change(initrd=other, append="three"))
    assert command_line(options, module).endswith("three")
    assert json.loads(booted(module)["recipe"])["initrd"] == str(other)


@pytest.mark.parametrize("reload", [False, True])
@pytest.mark.parametrize("what", ["image", "initrd"])
def test_with_a_file_that_changed(module, web, go, machine, what, reload):
    if what == "image":
        machine.bzimage(size=3 << 20)
    else:
        machine.write("/srv/initrd", b"\x09" * 5000)
    if reload:
        module.set_state(1, KernelState.STOPPED)
        go(Change(reload=True))
        assert booted(module)["recipe"] != ""
        return
    with pytest.raises(ImageError, match="has changed") as caught:
        go()
    assert "popcornctl kernel restart web --reload" in caught.value.hint
    assert changes(module) == []


@pytest.mark.parametrize(
    ("change", "kind", "why"),
    [
        ({"kernel": "9.9.9"}, ImageError, "no such kernel image"),
        ({"initrd": Path("/nowhere")}, ImageError, "no such initrd"),
        ({"append": "x" * 3000}, PlanError, "command line has"),
    ],
)
def test_bad_input_ends_nothing(module, web, go, change, kind, why):
    with pytest.raises(kind, match=why):
        go(Change(**change))
    assert changes(module) == []


def test_what_no_longer_fits_ends_nothing(module, web, go, machine):
    big = machine.write("/srv/big", bytes(300 * MIB))
    with pytest.raises(PlanError):
        go(Change(initrd=big))
    assert changes(module) == []


@pytest.mark.parametrize("recipe", [None, "", "{", "[]", "null", '{"kernel":1}'])
def test_without_a_recipe(module, web, go, recipe):
    web["recipe"] = recipe
    module.set_state(1, KernelState.STOPPED)
    with pytest.raises(PlanError, match="not known what kernel 'web' was started with") as caught:
        go()
    assert "--kernel" in caught.value.hint
    assert changes(module) == []


def test_a_recipe_that_is_too_long_is_not_kept(module, machine, options):
    machine.bzimage(cmdline_size=4000)
    initrd = machine.write("/srv/initrd", b"\x07" * 5000)
    spec = Spec("web", (2, 3), 256 * MIB, initrd=initrd, append="x" * 1900)
    assert start_kernel(module.client(), spec, **options).kernel.state is KernelState.RUNNING
    assert "recipe" not in booted(module)


def test_unknown_and_not_root(module, web, go, machine):
    with pytest.raises(NotFoundError, match="there is no kernel 'mail'"):
        go(name="mail")
    machine.write("/proc/self/status", "CapEff:\t0000000000000000\n")
    with pytest.raises(PermissionDeniedError):
        go()
    assert changes(module) == []


def test_an_error_on_the_way_keeps_the_lease(module, web, go, options, tmp_path):
    module.set_state(1, KernelState.CRASHED)
    with pytest.raises(PopcornError):
        go(device=HostDevice(tmp_path / "nothing"))
    assert changes(module) == ["KERNEL_PREPARE"]
    assert go().kernel.state is KernelState.RUNNING, "the same again is the way on"


def test_interrupted_it_can_be_repeated(module, web, go):
    def interrupt(name, detail, seconds):
        if name == "load":
            raise KeyboardInterrupt

    module.set_state(1, KernelState.CRASHED)
    with pytest.raises(KeyboardInterrupt):
        go(progress=interrupt)
    assert module.kernels[1]["state"] == int(KernelState.LEASED)
    assert go().kernel.state is KernelState.RUNNING


# the command


@pytest.fixture
def ctl(module, machine, options, monkeypatch, capsys):
    from popcorn import client, log

    real = client.Client
    monkeypatch.setattr(client, "Client", lambda: real(module.transport))
    for home in (start, restart):
        monkeypatch.setattr(home, "System", lambda: machine.system)
        monkeypatch.setattr(home, "HostDevice", lambda: options["device"])
    monkeypatch.setattr(log, "HostDevice", lambda: options["device"])

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_command(module, web, ctl):
    module.set_state(1, KernelState.CRASHED, "Oops")
    code, out, err = ctl("kernel", "restart", "web")
    assert (code, out) == (0, "kernel 'web' is running as node 1\n")
    assert [line.split()[0] for line in err.splitlines()] == [
        name for name in restart.STAGES if name != "stop"
    ]
    module.set_state(1, KernelState.CRASHED, "Oops")
    code, out, err = ctl("--json", "kernel", "restart", "1")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["before"] == {"state": "crashed", "reason": "Oops", "epoch": 0}
    assert shown["kernel"]["state"] == "running"


def test_command_with_bad_input(module, web, ctl):
    for words, code, why in (
        (("nobody",), 1, "there is no kernel 'nobody'"),
        (("web", "--profile", "huge"), 2, "huge"),
        (("web", "--profile", "light", "--initrd", "/x"), 2, "exclude each other"),
        (("web", "--stop-timeout", "soon"), 2, "is not a time"),
        ((), 2, "Missing argument"),
    ):
        found, out, err = ctl("kernel", "restart", *words)
        assert (found, out) == (code, "")
        assert why in err
    assert changes(module) == []


def test_interrupted_command_says_how_to_go_on(module, web, ctl):
    def interrupt():
        raise KeyboardInterrupt

    module.set_state(1, KernelState.CRASHED)
    module.after_boot = None
    module.on_idle = [interrupt]
    code, out, err = ctl("kernel", "restart", "web")
    assert (code, out) == (130, "")
    assert "kernel 'web' is starting and keeps its lease" in err
    assert "popcornctl kernel restart web" in err and "popcornctl kernel kill web" in err


def test_nmi(module, web, ctl, refusal):
    code, out, _ = ctl("kernel", "nmi", "web")
    assert code == 0
    assert out.startswith("asked CPUs 2 of kernel 'web' for backtraces; ")
    shown = json.loads(ctl("--json", "kernel", "nmi", "web")[1])
    assert shown == {"kernel": "web", "cpus": [2]}
    code, out, err = ctl("kernel", "nmi", "nobody")
    assert (code, out) == (1, "")
    assert "there is no kernel 'nobody'" in err
    module.refusals[Cmd.KERNEL_NMI] = refusal(3, "kernel web is stopped: only one that has joined")
    code, _, err = ctl("kernel", "nmi", "web")
    assert code == 1
    assert "kernel web is stopped" in err


def test_change_is_nothing_by_default():
    assert all(not value for value in dataclasses.asdict(Change()).values())
