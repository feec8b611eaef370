# SPDX-License-Identifier: GPL-2.0
"""popcornctl: what it prints, where, and how it exits."""

from __future__ import annotations

import errno
import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import click
import pytest

import popcorn
from popcorn.cli import cli, main
from popcorn.cli.output import Progress
from popcorn.models import KernelState
from popcorn.uapi.netlink_gen import Cmd

TOOLS = Path(popcorn.__file__).parents[1]


@pytest.fixture
def ctl(module, machine, monkeypatch, capsys, tmp_path):
    """Run popcornctl against the fake module and machine: (exit code, stdout, stderr)."""
    from popcorn import client, device, initrd, start, sysfs

    real = client.Client
    monkeypatch.setattr(client, "Client", lambda: real(module.transport))
    monkeypatch.setattr(start, "System", lambda: machine.system)
    monkeypatch.setattr(sysfs, "System", lambda: machine.system)
    monkeypatch.setattr(initrd, "System", lambda: machine.system)
    memory = tmp_path / "memory"
    with memory.open("wb") as file:
        file.truncate(8 << 30)
    monkeypatch.setattr(start, "HostDevice", lambda: device.HostDevice(memory))

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def start_args(machine):
    machine.bzimage()
    initrd = machine.write("/srv/initrd", b"\x07" * 5000)
    return ["kernel", "start", "web", "--cpus", "2-3", "--memory", "256M", "--initrd", initrd]


def leases(module):
    return [cmd.name for cmd in module.commands() if cmd == Cmd.KERNEL_NEW]


def run_python(code, **more):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        text=True,
        check=False,
        **more,
    )


# speed: nothing heavy is imported before it is needed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["kernel", "--help"],
        ["kernel", "start", "--help"],
        ["node", "-h"],
        ["metrics", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments):
    done = run_python(
        "import sys\n"
        "from popcorn.cli import main\n"
        f"code = main({arguments!r})\n"
        "heavy = {'pyroute2', 'pyudev', 'bcc', 'asyncio', 'popcorn.client', 'popcorn.boot'}\n"
        "heavy.add('prometheus_client')\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_importing_the_package_imports_nothing():
    done = run_python(
        "import sys, popcorn\n"
        "print([m for m in ('click', 'pyroute2', 'popcorn.client') if m in sys.modules])\n"
        "print(popcorn.Client.__name__, popcorn.start_kernel.__name__, 'watch' in dir(popcorn))\n"
    )
    assert done.stdout == "[]\nClient start_kernel True\n"


def test_every_public_name_is_there():
    for name in popcorn.__all__:
        assert getattr(popcorn, name) is not None
    with pytest.raises(AttributeError):
        _ = popcorn.nothing


# the tree of commands


def commands(group, path=()):
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        if (*path, name) == ("trace",):
            continue  # has tests of its own
        command = group.get_command(ctx, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands(cli))


def test_the_commands_that_are_promised():
    names = {" ".join(path) for path in ALL}
    assert names >= {
        "doctor",
        *(
            f"kernel {verb}"
            for verb in ["plan", "start", "stop", "kill", "list", "show", "wait", "dmesg", "dump"]
        ),
        *(f"node {verb}" for verb in ["list", "show", "set", "latency"]),
        "channel list",
        "queue list",
        "ping",
        "image build",
        "image inspect",
        "metrics",
        "monitor",
        "completion",
    }


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself_and_takes_json(path, capsys):
    command = ALL[path]
    assert command.help and command.help.strip().splitlines()[0].endswith(".")
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--debug"} <= options
    assert main([*path, "--help"]) == 0
    assert "Usage: popcornctl " + " ".join(path) in capsys.readouterr().out


def test_the_help_lines_are_the_commands_own():
    for name, (_, line) in cli.lazy.items():
        if (name,) in ALL:
            assert ALL[name,].help.splitlines()[0] == line


# exit codes and errors


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["kernel", "start"], ["kernel", "list", "-x"], ["ping"]]
)
def test_usage_errors(ctl, arguments):
    code, out, err = ctl(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("popcornctl: ")
    assert "hint: see: popcornctl" in err


@pytest.mark.parametrize("where", ["before", "after"])
def test_usage_errors_in_json(ctl, where):
    arguments = ["kernel", "start", "web", "--memory", "lots"]
    arguments = ["--json", *arguments] if where == "before" else [*arguments, "--json"]
    code, out, err = ctl(*arguments)
    assert (code, out) == (2, "")
    error = json.loads(err)
    assert error["exit"] == 2
    assert "'lots' is not a size" in error["error"]
    assert error["hint"] == "see: popcornctl kernel start --help"


def test_errors_have_a_hint(ctl, module):
    module.loaded = False
    code, out, err = ctl("kernel", "list")
    assert (code, out) == (1, "")
    assert err == (
        "popcornctl: the kernel module popcorn is not loaded\n"
        "hint: load it: modprobe popcorn_host\n"
    )


def test_errors_in_json(ctl, module):
    module.loaded = False
    code, out, err = ctl("node", "list", "--json")
    assert (code, out) == (1, "")
    assert json.loads(err) == {
        "error": "the kernel module popcorn is not loaded",
        "hint": "load it: modprobe popcorn_host",
        "exit": 1,
    }


def test_debug_shows_the_traceback(ctl, module):
    module.loaded = False
    _, _, err = ctl("kernel", "list", "--debug")
    assert "Traceback" in err and "popcornctl: the kernel module" in err
    _, _, err = ctl("--debug", "kernel", "list")
    assert "Traceback" in err


def test_a_bug_is_an_error_too(ctl, module, monkeypatch):
    monkeypatch.setattr(module, "_do", lambda *_: 1 / 0)
    code, _, err = ctl("kernel", "list")
    assert code == 1
    assert "internal error: ZeroDivisionError" in err and "--debug" in err
    assert "Traceback" not in err


def test_interrupt(ctl, module, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_do", interrupt)
    code, out, err = ctl("kernel", "list")
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_a_reader_that_goes_away():
    """As in `popcornctl ... | head -1`."""
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f"{sys.executable} -c 'import sys; from popcorn.cli import main;"
            ' sys.exit(main(["completion", "zsh"]))\' | true',
        ],
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_version(ctl):
    assert ctl("--version") == (0, f"popcornctl {popcorn.__version__}\n", "")


# kernel


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
    from popcorn import start

    monkeypatch.setattr(start, "Client", module.client)
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


# node and ping


def test_nodes(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2, "nr-cpus": 2, "release": "6.12"}
    code, out, _ = ctl("node", "list")
    assert code == 0
    assert out.splitlines()[1].startswith("0   primary (here)  up ")
    assert out.splitlines()[2].startswith("1   web             up ")
    assert json.loads(ctl("node", "show", "web", "--json")[1])["release"] == "6.12"
    assert "release           6.12" in ctl("node", "show", "1")[1]


def test_nodes_that_are_not_well(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2, "shut": True}
    module.nodes[2] = {"id": 2, "name": "db", "state": 7}
    module.nodes[3] = {"id": 3, "name": "job", "state": 6}
    _, *lines = ctl("node", "list")[1].splitlines()
    assert [line[20:28].strip() for line in lines] == ["up", "up, shut", "hung", "joining"]
    assert "shut              True" in ctl("node", "show", "web")[1]
    assert "window_max_us     -" in ctl("node", "show", "web")[1]


def test_node_set(ctl, module):
    module.nodes[0] |= {"doorbell-cost": 1500, "threaded": 0}
    code, out, _ = ctl("node", "set", "--poll-window", "40")
    assert (code, out) == (
        0,
        "primary polls in softirqs, for at most 40 µs before it sleeps; a doorbell costs 1.50 µs\n",
    )
    module.nodes[0]["doorbell-cost"] = 0
    code, out, _ = ctl("node", "set", "--poll-window", "0", "--threaded", "on")
    assert out == "primary polls in threads, no time before it sleeps\n"
    assert (Cmd.NODE_SET, [("window-max", 0), ("threaded", 1)]) in module.requests
    shown = json.loads(ctl("node", "set", "--threaded", "off", "--json")[1])
    assert (shown["threaded"], shown["window_max_us"]) == (False, 0)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "nothing to set"),
        (["--poll-window", "-1"], "--poll-window"),
        (["--poll-window", "1000001"], "--poll-window"),
        (["--poll-window", "long"], "--poll-window"),
        (["--threaded", "maybe"], "--threaded"),
        (["web", "--threaded", "on"], "web"),
    ],
)
def test_node_set_with_bad_input(ctl, module, arguments, why):
    code, out, err = ctl("node", "set", *arguments)
    assert (code, out) == (2, "")
    assert why in err
    assert module.requests == []


def test_node_set_that_is_refused(ctl, module, refusal):
    words = "this kernel cannot poll in threads (error 95)"
    module.refusals[Cmd.NODE_SET] = refusal(errno.EOPNOTSUPP, words, "threaded")
    code, out, err = ctl("node", "set", "--threaded", "on")
    assert (code, out, err) == (1, "", f"popcornctl: {words} (attribute 'threaded')\n")
    module.refusals[Cmd.NODE_SET] = refusal(errno.EPERM)
    assert "run it as root" in ctl("node", "set", "--threaded", "on")[2]


@pytest.fixture
def latencies(module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2}
    count = [0] * 10 + [6, 2] + [0] * 20
    module.latencies = [
        {"src": 0, "dst": 1, "queue": 0, "stage": 0, "count": count},
        {"src": 1, "dst": 0, "queue": 1, "stage": 1, "count": count},
        {"src": 1, "dst": 5, "queue": 0, "stage": 2, "count": count},
    ]
    return module.latencies


def test_node_latency(ctl, latencies):
    code, out, _ = ctl("node", "latency")
    assert code == 0
    table, *histograms = out.split("\n\n")
    assert [line.split() for line in table.splitlines()] == [
        ["FROM", "TO", "QUEUE", "STAGE,", "NSECS", "N", "~MIN", "~MEDIAN", "~P99", "~MAX"],
        ["primary", "web", "0", "deliver", "8", "1024", "1706", "4014", "4096"],
        ["web", "primary", "1", "doorbell", "8", "1024", "1706", "4014", "4096"],
        ["web", "5", "0", "poll", "8", "1024", "1706", "4014", "4096"],
    ]
    assert len(histograms) == 3
    assert histograms[0].splitlines() == [
        "primary to web, queue 0: deliver",
        "                 nsecs : count     distribution",
        f"     1024 -> 2047      : 6        |{'*' * 40}|",
        f"     2048 -> 4095      : 2        |{'*' * 13:<40}|",
    ]


def test_node_latency_of_some(ctl, latencies):
    assert ctl("node", "latency", "primary")[1].count("distribution") == 2
    assert ctl("node", "latency", "--stage", "poll")[1].count("distribution") == 1
    shown = json.loads(ctl("node", "latency", "0", "--stage", "doorbell", "--json")[1])
    assert [(item["from"], item["to"], item["n"]) for item in shown] == [("web", "primary", 8)]
    assert ctl("node", "latency", "nobody")[0] == 1
    assert ctl("node", "latency", "--stage", "queued")[0] == 2
    latencies.clear()
    assert json.loads(ctl("node", "latency", "--json")[1]) == []
    assert ctl("node", "latency")[1].startswith("FROM  TO  QUEUE")


def test_channels(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2}
    module.channels = [
        {"node-id": 1, "queue": 0, "sent": 7, "doorbells-sent": 2, "full": 3, "waits": 1}
        | {"ring-slots": 64, "received": 9, "rejected": 4, "answered": 5, "area-bytes": 2048}
        | {"sent-bytes": 112},
        {"node-id": 2, "queue": 1, "armed": True},
    ]
    code, out, _ = ctl("channel", "list")
    assert code == 0
    head, web, other = (line.split() for line in out.splitlines())
    assert web == ["web", "0", "7", "2", "3", "1", "64", "2K", "9", "4", "5", "no"]
    assert other == ["2", "1", "0", "0", "0", "0", "0", "0", "0", "0", "0", "yes"]
    assert len(head) == len(web)
    assert len(ctl("channel", "list", "web")[1].splitlines()) == 2
    (shown,) = json.loads(ctl("channel", "list", "web", "--json")[1])
    assert (shown["node"], shown["sent_bytes"], shown["armed"]) == ("web", 112, False)
    code, _, err = ctl("channel", "list", "nobody")
    assert (code, err.splitlines()[0]) == (1, "popcornctl: there is no node 'nobody'")


def test_queues(ctl, module):
    module.queues = [{"queue": 0, "cpu": 1, "irq": 33, "polls": 9, "window": 12_500, "sleeps": 3}]
    code, out, _ = ctl("queue", "list")
    assert code == 0
    assert out.splitlines()[1].split() == ["0", "1", "33", "9", *"0003", "12.50", "µs", "0"]
    (shown,) = json.loads(ctl("queue", "list", "--json")[1])
    assert shown["window_ns"] == 12_500


@pytest.mark.parametrize("command", [["channel", "list"], ["queue", "list"], ["node", "latency"]])
def test_message_layer_without_a_fabric(ctl, module, refusal, command):
    for cmd in (Cmd.CHANNEL_GET, Cmd.QUEUE_GET, Cmd.FABRIC_GET, Cmd.NODE_GET):
        module.refusals[cmd] = refusal(errno.ENODEV, "this kernel is on no fabric")
    code, out, err = ctl(*command)
    assert (code, out) == (1, "")
    assert "on no fabric\nhint: load it: modprobe popcorn_host" in err


def test_services(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2}
    module.services = [
        {"node-id": 1, "name": "popcorn.echo", "version": 2, "id": 33},
        {"node-id": 1, "name": "popcorn.control", "version": 1, "id": 0, "peer": True},
        {"node-id": 0, "name": "popcorn.echo", "version": 1, "id": 1},
    ]
    code, out, _ = ctl("service", "list")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["NODE", "SERVICE", "VERSION", "ID", "TALKS"],
        ["primary", "popcorn.echo", "1", "1", "(here)"],
        ["web", "popcorn.control", "1", "0", "yes"],
        ["web", "popcorn.echo", "2", "33", "no"],
    ]
    shown = json.loads(ctl("--json", "service", "list", "--node", "web")[1])
    assert shown[1] == {
        "node_id": 1,
        "node": "web",
        "name": "popcorn.echo",
        "version": 2,
        "id": 33,
        "talks": False,
    }
    assert ctl("service", "list", "--node", "nobody")[0] == 1


def test_ping(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 2}
    module.rtt = lambda number: 3000 if number != 5 else None
    code, out, _ = ctl("ping", "web", "-c", "100")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "web (node 1): 100 sent, 99 answered, 1 lost"
    assert lines[1] == "round trip min/median/p99/max = 3.00 µs / 3.00 µs / 3.00 µs / 3.00 µs"
    assert lines[3].strip().startswith("2048 -> 4095      : 99")
    assert lines[3].count("*") == 40


def test_ping_json(ctl, module):
    module.rtt = lambda number: 2000 + number
    code, out, _ = ctl("ping", "0", "-c", "3", "-s", "0", "--json")
    assert code == 0
    shown = json.loads(out)
    wanted = {"sent": 3, "n": 3, "lost": 0, "min": 2.0, "median": 2.001, "max": 2.002}
    assert shown.items() >= wanted.items()
    assert shown["p99"] == 2.002
    assert shown["histogram"] == [{"low_ns": 1024, "high_ns": 2047, "count": 3}]


def test_ping_without_answers(ctl, module):
    module.rtt = lambda number: None
    code, out, _ = ctl("ping", "0", "-c", "2", "-W", "0.01")
    assert code == 1
    assert out == "primary (node 0): 2 sent, 0 answered, 2 lost\n"


def test_interrupted_ping_shows_what_it_has(ctl, module):
    def answer(number):
        if number > 10:
            raise KeyboardInterrupt
        return 1000

    module.rtt = answer
    code, out, _ = ctl("ping", "0", "-c", "1000")
    assert code == 130
    assert "7 sent, 7 answered" in out


def test_ping_that_fails_shows_what_it_has(ctl, module, refusal):
    def answer(number):
        if number > 10:
            raise refusal(errno.ENOTCONN, "node 0 is not up", "node-id")
        return 1000

    module.rtt = answer
    code, out, err = ctl("ping", "0", "-c", "1000")
    assert code == 1
    assert "7 sent, 7 answered" in out
    assert "node 0 is not up" in err


def asked(module):
    cmd, given = module.requests[-1]
    assert cmd == Cmd.PING
    return dict(given)


def test_flood(ctl, module):
    module.rtt = lambda number: 64_000
    code, out, _ = ctl("ping", "0", "--flood", "-c", "6400", "--size", "64K")
    assert code == 0
    assert out.splitlines()[:2] == [
        "primary (node 0): 6400 sent, 6400 answered, 0 lost",
        "1000000 messages/s and 65536.0 MB/s each way, 64 at once; no room 7 times",
    ]
    assert (asked(module)["window"], asked(module)["size"]) == (64, 64 << 10)
    shown = json.loads(ctl("ping", "0", "-f", "--window", "32", "--json")[1])
    assert shown["sent"] == 100_000
    wanted = {"window": 32, "per_second": 500_000, "bytes_per_second": 8_000_000, "full": 31}
    assert shown.items() >= wanted.items()


def test_ping_in_place_busy_and_at_a_rate(ctl, module, monkeypatch):
    monkeypatch.setattr("popcorn.client.time.sleep", lambda seconds: None)
    assert ctl("ping", "0", "--in-place", "-s", "40", "-c", "3")[0] == 0
    assert "call" in asked(module) and "busy" not in asked(module)
    out = ctl("ping", "0", "--busy", "-c", "3")[1]
    assert "busy" in asked(module) and "call" not in asked(module)
    assert "messages/s" not in out, "one at a time is no throughput"
    assert ctl("ping", "0", "--rate", "1000/s", "-c", "3")[0] == 0
    assert asked(module)["interval"] == 1000


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-c", "0"], "--count"),
        (["-s", "131065"], "at most 131064 bytes"),
        (["-s", "128K"], "at most 131064 bytes"),
        (["-s", "much"], "is not a size"),
        (["-W", "0"], "--timeout"),
        (["-W", "11"], "--timeout"),
        (["-i", "x"], "is not a time"),
        (["-i", "-1"], "is not a time"),
        (["-i", "3601"], "at most an hour"),
        (["--rate", "0"], "is not a rate"),
        (["--rate", "-5/s"], "is not a rate"),
        (["--rate", "often"], "is not a rate"),
        (["--rate", "nan"], "is not a rate"),
        (["--rate", "inf"], "is not a rate"),
        (["--rate", "1000001"], "more is --flood"),
        (["--rate", "0.0001"], "one in an hour"),
        (["--rate", "10", "-i", "1"], "say the same"),
        (["--flood", "--rate", "10"], "leave --rate away"),
        (["--flood", "-i", "0"], "leave --interval away"),
        (["--window", "2"], "--window is for --flood"),
        (["--flood", "--window", "0"], "--window"),
        (["--flood", "--window", "257"], "--window"),
        (["--flood", "--in-place"], "one call at a time"),
        (["--in-place", "--busy"], "leave --busy away"),
        (["--in-place", "-s", "41"], "--in-place has room for 40 bytes"),
    ],
)
def test_ping_with_bad_input(ctl, module, arguments, why):
    code, out, err = ctl("ping", "0", *arguments)
    assert (code, out) == (2, "")
    assert why in err
    assert Cmd.PING not in module.commands()


def test_limits_are_those_of_the_protocol():
    from popcorn.cli import node, ping
    from popcorn.models import LatencyStage, label
    from popcorn.uapi import netlink_gen as gen

    assert ping.SIZE_MAX == gen.PING_SIZE_MAX
    assert ping.SIZE_MAX_IN_PLACE == gen.PING_CALL_SIZE_MAX
    assert ping.WINDOW <= ping.WINDOW_MAX == gen.PING_WINDOW_MAX
    assert node.WINDOW_MAX_US == gen.POLL_WINDOW_MAX
    assert tuple(label(stage) for stage in LatencyStage) == node.STAGES


def test_ping_of_nobody(ctl):
    code, _, err = ctl("ping", "nobody")
    assert (code, err.splitlines()[0]) == (1, "popcornctl: there is no node 'nobody'")


# image, monitor, completion, doctor


def test_image_build_needs_the_module(ctl, tmp_path):
    code, _, err = ctl("image", "build", "-o", tmp_path / "image")
    assert code == 1
    assert "no module popcorn for 6.1.0-test" in err
    assert not (tmp_path / "image").exists()


def test_image_errors(ctl, tmp_path):
    assert ctl("image", "build")[0] == 2
    script = ["image", "build", "--run", "/nowhere", "-o", tmp_path / "image"]
    assert "can't read the script" in ctl(*script)[2]
    assert "can't read the image" in ctl("image", "inspect", "/nowhere")[2]
    (tmp_path / "text").write_text("text")
    assert ctl("image", "inspect", tmp_path / "text")[0] == 1


def test_monitor(ctl, module, monkeypatch):
    from popcorn import monitor
    from popcorn.models import Event

    events = [
        Event("cpu", "offline", "udev", 1000.25, "cpu2", "offline"),
        Event("resync", "lost", "netlink", 1001.0),
    ]
    seen = []
    monkeypatch.setattr(monitor, "watch", lambda c, types: seen.append(types) or iter(events))
    assert ctl("monitor")[1] == "cpu     offline  cpu2 offline [udev]\nresync  lost\n"
    assert seen == [("kernel", "node", "service", "cpu", "memory")]
    code, out, _ = ctl("monitor", "--type", "cpu,kernel", "--json", "-n", "1")
    assert code == 0
    assert json.loads(out) == events[0].to_json()
    assert out.count("\n") == 1
    assert seen[-1] == ("cpu", "kernel")
    assert ".250 cpu " in ctl("monitor", "-t")[1]
    assert ctl("monitor", "--type", "gpu")[0] == 2


def test_monitor_of_services(ctl, monkeypatch):
    from popcorn import monitor
    from popcorn.models import Event, Service

    echo = Service(3, "popcorn.echo", 1, 1)
    event = Event("service", "change", "netlink", 1000.0, echo.name, "down", echo)
    monkeypatch.setattr(monitor, "watch", lambda c, types: iter([event]))
    assert ctl("monitor", "--type", "service")[1] == "service change   popcorn.echo node 3 down\n"
    shown = json.loads(ctl("monitor", "--json")[1])
    assert (shown["state"], shown["value"]["node_id"]) == ("down", 3)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(ctl, shell):
    code, out, _ = ctl("completion", shell)
    assert code == 0
    assert "_POPCORNCTL_COMPLETE" in out
    assert json.loads(ctl("completion", shell, "--json")[1])["shell"] == shell
    assert ctl("completion", "csh")[0] == 2


def test_names_are_completed(module, monkeypatch):
    from popcorn import client
    from popcorn.cli.base import KERNEL

    real = client.Client
    monkeypatch.setattr(client, "Client", lambda: real(module.transport))
    module.add_kernel("web", KernelState.RUNNING)
    module.add_kernel("db", KernelState.RUNNING)
    items = KERNEL.shell_complete(click.Context(cli), None, "w")
    assert [item.value for item in items] == ["web"]
    module.loaded = False
    assert KERNEL.shell_complete(click.Context(cli), None, "") == []


def test_doctor(ctl, machine, monkeypatch):
    from popcorn import doctor

    monkeypatch.setattr(doctor, "System", lambda: machine.system)
    machine.bzimage()
    code, out, _ = ctl("doctor")
    assert code == 0
    assert "ok    cpus          1-3 of 0-3 can be leased\n" in out
    machine.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    code, out, _ = ctl("doctor")
    assert code == 1
    assert out.endswith("this machine cannot run Popcorn: lockdown\n")
    code, out, _ = ctl("doctor", "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False


# progress


def on_terminal(act):
    """What `act(stream)` writes to a terminal."""
    parent, child = pty.openpty()
    written = b""
    with os.fdopen(parent, "rb", buffering=0) as terminal, os.fdopen(child, "w") as stream:
        act(stream)
        stream.flush()
        while select.select([terminal], [], [], 0.2)[0]:
            written += terminal.read(65536)
    return written.decode()


def test_progress_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")

    def act(stream):
        progress = Progress(stream)
        progress("load", "1 of 2 MiB", None)
        progress("load", "2 MiB", 1.25)
        progress("join", "waiting", None)
        progress.close()

    written = on_terminal(act)
    assert written == (
        "\r\x1b[Kload   1 of 2 MiB ..."
        "\r\x1b[Kload   2 MiB  (1.2 s)\r\n"
        "\r\x1b[Kjoin   waiting ...\r\n"
    )
