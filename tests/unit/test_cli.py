# SPDX-License-Identifier: GPL-2.0
"""popcornctl: its commands, what heeds --json and --debug, and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import popcorn
from popcorn.cli import cli, main
from popcorn.models import KernelState

TOOLS = Path(popcorn.__file__).parents[1]


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
