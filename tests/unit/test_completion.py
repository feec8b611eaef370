# SPDX-License-Identifier: GPL-2.0
"""Completion in the shells themselves: what they make of the scripts, and keys typed at them."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import popcorn
from popcorn.cli.completion import SCRIPTS
from popcorn.models import KernelState

TOOLS = Path(popcorn.__file__).parents[1]
SHELL = TOOLS / "popcorn/cli/shell"

#: How long a shell may take to do what was typed, on a machine that does much else.
PATIENCE = 60

STATES = [state.name.lower() for state in KernelState]


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which `popcornctl` completes as ours does and, when it is run, keeps its arguments."""
    program = tmp_path / "bin/popcornctl"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'if [ -z "$_POPCORNCTL_COMPLETE" ]; then\n'
        f"    printf '%s\\n' \"$@\" >{tmp_path}/new && mv {tmp_path}/new {tmp_path}/ran\n"
        "    exit\n"
        "fi\n"
        f'PYTHONPATH={TOOLS} exec {sys.executable} -m popcorn.cli "$@"\n'
    )
    program.chmod(0o755)
    (tmp_path / "job.img").write_bytes(b"")
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def run(environment: dict[str, str], *command: str) -> list[str]:
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=environment["HOME"],
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


BASH = """
source "$1"
complete -p popcornctl >/dev/null || exit
compopt() { echo "compopt $*"; }
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_popcornctl "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
((${#COMPREPLY[@]})) && printf '%s\\n' "${COMPREPLY[@]}" || :
"""


def bash(environment: dict[str, str], *words: str) -> list[str]:
    """COMPREPLY, or what the function asks readline for, with the cursor behind the last word."""
    script = str(SHELL / SCRIPTS["bash"])
    return run(environment, "bash", "--norc", "-c", BASH, "bash", script, "popcornctl", *words)


@needs("bash")
def test_bash_completes_every_command(environment: dict[str, str]) -> None:
    from popcorn.cli import cli

    assert bash(environment, "") == list(cli.lazy)
    assert bash(environment, "k") == ["kernel"]
    every = [
        "dmesg",
        "dump",
        "exec",
        "kill",
        "list",
        "nmi",
        "plan",
        "restart",
        "show",
        "ssh",
        "start",
        "stop",
        "wait",
    ]
    assert bash(environment, "kernel", "") == every
    assert bash(environment, "--json", "kernel", "st") == ["start", "stop"]
    assert bash(environment, "nothing", "") == list(cli.lazy)


@needs("bash")
def test_bash_completes_options_and_values(environment: dict[str, str]) -> None:
    assert bash(environment, "kernel", "start", "--m") == ["--memory", "--memory-at"]
    assert bash(environment, "kernel", "wait", "--state", "") == STATES
    assert bash(environment, "completion", "") == ["bash", "zsh", "fish"]
    start = ("kernel", "start", "web")
    assert bash(environment, *start, "--initrd", "/bo") == ["compopt -o default"]
    assert bash(environment, "metrics", "--textfile", "/va") == ["compopt -o default"]


@needs("bash")
def test_bash_completes_what_it_takes_apart_itself(environment: dict[str, str]) -> None:
    # readline breaks words at an equals sign.
    wait = ("kernel", "wait", "--state", "=")
    assert bash(environment, *wait) == STATES
    assert bash(environment, *wait, "ru") == ["running"]
    assert bash(environment, *wait, "running", "--t") == ["--timeout"]
    start = ("kernel", "start", "--profile", "=", "light", "--append", "=", "a", "=", "b", "--c")
    assert bash(environment, *start) == ["--cpus"]


@needs("fish")
def test_fish_completes(environment: dict[str, str]) -> None:
    script = str(SHELL / SCRIPTS["fish"])

    def fish(line: str) -> list[str]:
        # A word and a tab and what it means, sorted.
        return run(
            environment, "fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"
        )

    assert [line.split("\t")[0] for line in fish("popcornctl kernel s")] == [
        "show",
        "ssh",
        "start",
        "stop",
    ]
    assert fish("popcornctl k") == ["kernel\tStart, stop, show and examine kernels."]
    assert sorted(fish("popcornctl kernel wait --state ")) == sorted(STATES)
    assert fish("popcornctl kernel wait --state=ru") == ["--state=running"]
    assert fish("popcornctl image inspect jo") == ["job.img"]
    assert fish("popcornctl kernel start web --initrd=jo") == ["--initrd=job.img"]


def type_at(command: list[str], environment: dict[str, str], keys: str) -> list[str]:
    """The arguments that popcornctl is run with when `keys` are typed at a shell."""
    home = Path(environment["HOME"])
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(home)
        os.execvpe(command[0], command, environment)
    seen = b""
    try:
        end = time.monotonic() + PATIENCE
        sent = False
        while not (home / "ran").exists():
            assert time.monotonic() < end, seen.decode(errors="replace")
            if select.select([terminal], [], [], 0.05)[0]:
                seen += os.read(terminal, 4096)
            # What is typed before the shell reads keys is not completed.
            if not sent and b"READY>" in seen:
                os.write(terminal, keys.encode())
                sent = True
        return (home / "ran").read_text().splitlines()
    finally:
        os.close(terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


TYPED = {
    "commands": ("popcornctl ker\tsta\tweb\n", ["kernel", "start", "web"]),
    "value": (
        "popcornctl kernel wait --state ru\tweb\n",
        ["kernel", "wait", "--state", "running", "web"],
    ),
    "equals": (
        "popcornctl kernel wait --state=ru\tweb\n",
        ["kernel", "wait", "--state=running", "web"],
    ),
    "file": ("popcornctl image inspect jo\t\n", ["image", "inspect", "job.img"]),
    "file behind equals": (
        "popcornctl kernel start web --initrd=jo\t\n",
        ["kernel", "start", "web", "--initrd=job.img"],
    ),
}


@needs("bash")
@pytest.mark.parametrize("case", TYPED)
def test_keys_typed_at_bash(environment: dict[str, str], tmp_path: Path, case: str) -> None:
    keys, arguments = TYPED[case]
    rc = tmp_path / "rc"
    rc.write_text(f"source {SHELL / SCRIPTS['bash']}\nPS1='READY''>'\n")
    command = ["bash", "--noprofile", "--rcfile", str(rc), "-i"]
    assert type_at(command, environment, keys) == arguments


@needs("zsh")
@pytest.mark.parametrize("how", ["autoloaded", "sourced"])
@pytest.mark.parametrize("case", TYPED)
def test_keys_typed_at_zsh(
    environment: dict[str, str], tmp_path: Path, case: str, how: str
) -> None:
    keys, arguments = TYPED[case]
    sourced = f"source {SHELL / SCRIPTS['zsh']}\n" if how == "sourced" else ""
    path = "" if sourced else f"fpath=({SHELL} $fpath)\n"
    (tmp_path / ".zshrc").write_text(
        f"{path}autoload -Uz compinit && compinit -u -D\n{sourced}PS1='READY''>'\n"
    )
    assert type_at(["zsh", "-d", "-i"], environment, keys) == arguments
