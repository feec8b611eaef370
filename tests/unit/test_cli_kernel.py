# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel: what it prints, where, and how it exits."""

from __future__ import annotations

import errno
import json

import pytest

from popcorn.models import KernelState
from popcorn.uapi.netlink_gen import Cmd


def leases(module):
    return [cmd.name for cmd in module.commands() if cmd == Cmd.KERNEL_NEW]


def test_start(ctl, module, start_args):
    code, out, err = ctl(*start_args)
    assert code == 0
    assert out == "kernel 'web' is running as node 1\n"
    lines = err.splitlines()
    assert [line.split()[0] for line in lines] == ["check", "lease", "load", "boot", "join"]
    assert "CPUs 2-3, 256M at 0x140000000" in lines[1]
    assert all(line.endswith(" s)") for line in lines)


def test_start_json(ctl, module, start_args):
    code, out, err = ctl("--json", *start_args)
    assert code == 0
    assert err == "", "a program may read errors as JSON"
    started = json.loads(out)
    assert started["kernel"]["state"] == "running"
    assert [s["name"] for s in started["stages"]] == ["check", "lease", "load", "boot", "join"]


@pytest.mark.parametrize(
    ("change", "code", "why"),
    [
        (["--cpus", "2,2"], 2, "CPU 2 is named twice"),
        (["--cpus", "2-"], 2, "is not a CPU list"),
        (["--cpus", "7"], 1, "CPU 7 does not exist"),
        (["--memory", "0"], 1, "zero bytes"),
        (["--memory", "3M"], 1, "not a multiple of 2M"),
        (["--memory", "many"], 2, "is not a size"),
        (["--memory-at", "here"], 2, "is not an address"),
        (["--kernel", "/nowhere"], 1, "no such kernel image"),
        (["--initrd", "/nowhere"], 1, "no such initrd"),
        (["--profile", "huge"], 2, "huge"),
        (["--timeout", "soon"], 2, "is not a time"),
        (["--append", "x" * 5000], 1, "command line"),
    ],
)
def test_start_with_bad_input(ctl, module, start_args, change, code, why):
    found, out, err = ctl(*start_args, *change)
    assert (found, out) == (code, "")
    assert why in err
    assert leases(module) == []


def test_start_without_what_is_needed(ctl, module, start_args):
    code, _, err = ctl("kernel", "start", "web")
    assert code == 2
    assert "needs --cpus and --memory" in err


def test_start_with_a_bad_name(ctl, module, start_args):
    start_args[2] = "-web"
    assert ctl(*start_args)[0] == 2, "looks like an option"
    for name in ("1web", "w" * 32, "w/b"):
        start_args[2] = name
        assert ctl(*start_args)[0] == 1
    assert leases(module) == []


def test_start_that_times_out(ctl, module, start_args):
    module.after_boot = None
    code, out, err = ctl(*start_args, "--timeout", "0")
    assert (code, out) == (1, "")
    assert "did not join within 0 s: it is starting" in err
    assert "hint: it keeps its lease; to give that back: popcornctl kernel kill web" in err


def test_interrupted_start_says_how_to_undo_it(ctl, module, start_args):
    def interrupt():
        raise KeyboardInterrupt

    module.after_boot = None
    module.on_idle = [interrupt]
    code, out, err = ctl(*start_args)
    assert (code, out) == (130, "")
    assert "hint: kernel 'web' is starting and stays; to undo it: popcornctl kernel kill web" in err
    assert "starting" in ctl("kernel", "list")[1]
    assert ctl("kernel", "kill", "web")[0] == 0
    assert module.kernels == {}


def test_a_start_that_is_interrupted_before_the_lease_leaves_nothing_to_undo(
    ctl, module, start_args, monkeypatch
):
    do = module._do

    def interrupt(cmd, *rest):
        if cmd == Cmd.KERNEL_NEW:
            raise KeyboardInterrupt
        return do(cmd, *rest)

    monkeypatch.setattr(module, "_do", interrupt)
    code, out, err = ctl(*start_args)
    assert (code, out) == (130, "")
    assert "hint" not in err


def test_dry_run_and_plan_are_one(ctl, module, start_args):
    code, dry, _ = ctl(*start_args, "--dry-run")
    assert code == 0
    start_args[1] = "plan"
    assert ctl(*start_args)[1] == dry
    assert "memory map of the kernel" in dry and "tsc=reliable" in dry
    assert "- start of the memory (0x100000000)" in dry
    assert module.requests == []
    assert "fabric     not known without popcorn_host\n" in dry
    plan = json.loads(ctl(*start_args, "--json")[1])
    assert plan["cpus"] == [2, 3] and plan["memory_bytes"] == 256 << 20
    assert plan["fabric"] is None


def test_plan_shows_what_the_fabric_holds(ctl, module, machine, monkeypatch, start_args):
    from popcorn import plan

    monkeypatch.setattr(plan, "Client", module.client)
    machine.write("/sys/class/popcorn/node0/state", "up\n")
    start_args[1] = "plan"
    assert (
        "fabric     16M at 0x30000000: 16 nodes with 1M each for long messages,"
        " 2 queues of 64 messages between each two\n"
    ) in ctl(*start_args)[1]
    plan = json.loads(ctl(*start_args, "--json")[1])
    assert (plan["fabric"]["nr_queues"], plan["fabric"]["area_bytes"]) == (2, 1 << 20)


def test_list(ctl, module):
    assert ctl("kernel", "list")[1] == "NAME  ID  STATE  CPUS  MEMORY  KERNEL  AGE\n"
    module.add_kernel("web", KernelState.RUNNING, image="6.1.0-test, profile light")
    module.add_kernel("mail-relay", KernelState.LEASED, cpu=[1], age=200_000)
    code, out, _ = ctl("kernel", "list")
    assert code == 0
    assert out.splitlines() == [
        "NAME        ID  STATE    CPUS  MEMORY  KERNEL                     AGE",
        "web         1   running  2-3   512M    6.1.0-test, profile light  1.5s",
        "mail-relay  2   leased   1     512M    -                          3m20s",
    ]
    shown = json.loads(ctl("kernel", "list", "--json")[1])
    assert [kernel["name"] for kernel in shown] == ["web", "mail-relay"]


def test_show(ctl, module):
    module.add_kernel("web", KernelState.CRASHED, reason="Oops: 0000")
    code, out, _ = ctl("kernel", "show", "web")
    assert code == 0
    assert "reason     Oops: 0000\n" in out
    assert "memory     0x140000000-0x15fffffff (512M)\n" in out
    assert json.loads(ctl("kernel", "show", "1", "--json")[1])["reason"] == "Oops: 0000"
    code, _, err = ctl("kernel", "show", "nobody")
    assert (code, err.splitlines()[0]) == (1, "popcornctl: there is no kernel 'nobody'")


def test_stop(ctl, module):
    module.add_kernel("web", KernelState.RUNNING)
    module.on_idle = [lambda: module.set_state(1, KernelState.STOPPED, "power off")]
    code, out, _ = ctl("kernel", "stop", "web")
    assert code == 0
    assert out == "kernel 'web' is stopped (power off), gave back CPUs 2-3 and 512M\n"
    assert module.kernels == {}


def test_stop_and_keep(ctl, module):
    module.add_kernel("web", KernelState.RUNNING)
    module.on_idle = [lambda: module.set_state(1, KernelState.STOPPED)]
    code, out, _ = ctl("kernel", "stop", "web", "--keep", "--json")
    assert code == 0
    shown = json.loads(out)
    assert (shown["released"], shown["kernel"]["state"]) == (False, "stopped")
    assert len(module.kernels) == 1


@pytest.mark.parametrize(
    "state", [KernelState.LEASED, KernelState.STOPPED, KernelState.CRASHED, KernelState.KILLED]
)
def test_stop_of_a_kernel_that_rests_only_releases(ctl, module, state):
    module.add_kernel("web", state)
    assert ctl("kernel", "stop", "web")[0] == 0
    assert Cmd.KERNEL_STOP not in module.commands()
    assert module.kernels == {}


def test_stop_that_times_out(ctl, module):
    module.add_kernel("web", KernelState.RUNNING)
    code, out, err = ctl("kernel", "stop", "web", "--timeout", "0")
    assert (code, out) == (1, "")
    assert "did not power off within 0 s: it is stopping" in err
    assert "popcornctl kernel kill web" in err
    assert Cmd.KERNEL_DEL not in module.commands()


@pytest.mark.parametrize("state", [KernelState.STARTING, KernelState.RUNNING, KernelState.STOPPING])
def test_kill(ctl, module, state):
    module.add_kernel("web", state)
    code, out, _ = ctl("kernel", "kill", "web")
    assert code == 0
    assert out.startswith("kernel 'web' is killed")
    assert [c.name for c in module.commands() if c != Cmd.KERNEL_GET] == [
        "KERNEL_KILL",
        "KERNEL_DEL",
    ]


def test_kill_of_a_half_started_kernel_only_releases(ctl, module):
    module.add_kernel("web", KernelState.LEASED)
    assert ctl("kernel", "kill", "web")[0] == 0
    assert Cmd.KERNEL_KILL not in module.commands()
    assert module.kernels == {}


def test_kill_and_keep(ctl, module):
    module.add_kernel("web", KernelState.RUNNING)
    assert "keeps CPUs 2-3" in ctl("kernel", "kill", "web", "--keep")[1]
    assert len(module.kernels) == 1


def test_wait(ctl, module):
    module.add_kernel("web", KernelState.STARTING)
    module.on_idle = [lambda: module.set_state(1, KernelState.RUNNING)]
    assert ctl("kernel", "wait", "web") == (0, "kernel 'web' is running\n", "")
    code, _, err = ctl("kernel", "wait", "web", "--state", "crashed", "--timeout", "0")
    assert code == 1
    assert "'web' is running and not crashed after 0 s" in err
    assert ctl("kernel", "wait", "web", "--state", "nonsense")[0] == 2


def test_refusals_of_the_module(ctl, module, refusal):
    module.add_kernel("web", KernelState.RUNNING)
    module.refusals[Cmd.KERNEL_KILL] = refusal(errno.EPERM, "CAP_SYS_BOOT is needed")
    code, _, err = ctl("kernel", "kill", "web")
    assert code == 1
    assert err.startswith("popcornctl: CAP_SYS_BOOT is needed\nhint: run it as root")
