# SPDX-License-Identifier: GPL-2.0
"""Tracers in another kernel: who is reached, what runs where, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from popcorn.cli.trace import trace
from popcorn.console import Line
from popcorn.errors import ModuleMissingError, NotFoundError, PopcornError
from popcorn.execute import CommandError, LostError
from popcorn.models import Node, NodeState
from popcorn_tracing import ftrace, remote
from popcorn_tracing.common import Machine, UsageError
from popcorn_tracing.latency import Options

LINES = (Line("/dev/nothing", 1, "web", 7, "open"),)
WEB = remote.Remote(1, "web", LINES)


class FakeClient:
    """A machine with a kernel that runs, one that ended, and one that never came."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def node(self, name):
        nodes = {
            "primary": Node(0, "primary", NodeState.UP, is_self=True),
            "web": Node(1, "web", NodeState.UP),
            "old": Node(2, "old", NodeState.CRASHED),
        }
        if name not in nodes:
            raise NotFoundError(f"there is no node '{name}'")
        return nodes[name]

    def kernels(self):
        return [SimpleNamespace(name=name) for name in ("web", "old", "never")]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Commands for the other kernel run in this one; words to be run are in the list."""
    ran = []

    def execute(lines, words, *, output, error, signals=None):
        ran.append(tuple(words))
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False
        ) as process:
            out, said = process.communicate()
        output(out)
        error(said)
        return process.returncode

    monkeypatch.setattr(remote, "execute", execute)
    monkeypatch.setattr(remote, "find_line", lambda *_, **__: LINES[0])
    monkeypatch.setattr(
        remote, "machine", lambda *_: Machine(1_000_000, 0, {0: "primary", 1: "web"})
    )
    return ran


# who is reached


def test_a_kernel_that_runs() -> None:
    found = remote.reach("web", FakeClient)
    assert (found.node_id, found.name, len(found.lines)) == (1, "web", 2)


@pytest.mark.parametrize(
    ("name", "kind", "says", "hint"),
    [
        ("nobody", NotFoundError, "there is no kernel 'nobody'", "kernel list"),
        ("old", PopcornError, "kernel 'old' is not running", "kernel restart old"),
        ("never", PopcornError, "kernel 'never' is not running", "kernel restart never"),
        ("primary", UsageError, "'primary' is this kernel", "leave out --kernel"),
    ],
)
def test_who_is_not(name, kind, says, hint) -> None:
    with pytest.raises(kind, match=says) as found:
        remote.reach(name, FakeClient)
    assert hint in found.value.hint


def test_without_lines_the_fabric_is_left(monkeypatch) -> None:
    def none(*_, **__):
        raise ModuleMissingError("popcorn_tty is not loaded", "modprobe popcorn_tty")

    monkeypatch.setattr(remote, "find_line", none)
    with pytest.raises(ModuleMissingError) as found:
        remote.reach("web", FakeClient)
    assert "modprobe popcorn_tty" in found.value.hint
    assert "--source fabric --node web" in found.value.hint


def test_nobody_answers(monkeypatch) -> None:
    def lost(*_, **__):
        raise LostError("nobody answers on line 7 to 'web'", "images of profile shell have it")

    monkeypatch.setattr(remote, "execute", lost)
    with pytest.raises(LostError, match="nobody answers") as found:
        WEB.has_popcornctl()
    assert "profile shell" in found.value.hint
    assert "--source fabric --node web" in found.value.hint


def test_no_shell(monkeypatch) -> None:
    def none(*_, **__):
        raise CommandError("sh: No such file or directory", 127)

    monkeypatch.setattr(remote, "execute", none)
    with pytest.raises(PopcornError, match="the image of 'web' has no shell") as found:
        WEB.has_popcornctl()
    assert found.value.exit_code == 1
    assert "--profile shell" in found.value.hint


def test_what_a_script_says() -> None:
    assert WEB.shell('echo "$1"', "a  b") == "a  b\n"
    with pytest.raises(OSError, match="Invalid argument") as found:
        WEB.shell("echo 'sh: write error: Invalid argument' >&2; exit 1")
    assert found.value.errno == errno.EIO
    with pytest.raises(OSError, match="exit status 3"):
        WEB.shell("exit 3")


# the tool, there


@pytest.fixture
def tool(tmp_path: Path, monkeypatch) -> Path:
    """A popcornctl that says what it was asked for, begins, and ends by Ctrl-C or by itself."""
    program = tmp_path / "popcornctl"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program.write_text('#!/bin/sh\necho "$@"\necho no >&2\nexit 3\n')
    program.chmod(0o755)
    return program


def invoke(monkeypatch, *words: str):
    monkeypatch.setattr(remote, "reach", lambda _: WEB)
    taken: dict[str, bytes] = {"out": b"", "err": b""}

    def stream(fd):
        return lambda data: taken.update({fd: taken[fd] + data})

    @contextlib.contextmanager
    def passed_on() -> Iterator[int]:
        yield -1

    monkeypatch.setattr("popcorn.cli.execute.passed_on", passed_on)
    monkeypatch.setattr("popcorn.cli.execute.stream", stream)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(
        fileno=lambda: "out", flush=lambda: None, write=lambda _: None), raising=False)  # fmt: skip
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(
        fileno=lambda: "err", flush=lambda: None, write=lambda _: None), raising=False)  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        trace.main(list(words), "popcornctl trace")
    return ended.value.code, taken["out"].decode(), taken["err"].decode()


@pytest.mark.parametrize(
    "words",
    [("--kernel", "web", "flow", "--slower", "5"), ("--kernel=web", "flow", "--slower", "5")],
)
@pytest.mark.usefixtures("tool")
def test_the_same_options_output_and_status(monkeypatch, words) -> None:
    option, rest = words[: words.index("flow")], words[words.index("flow") + 1 :]
    found = invoke(monkeypatch, "flow", *option, *rest)
    assert found == (3, "trace flow --slower 5\n", "no\n")
    found = invoke(monkeypatch, "--json", "flow", *rest, *option)
    assert found == (3, "trace flow --slower 5 --json\n", "no\n")


@pytest.mark.parametrize(
    ("words", "status"), [(("sh", "-c", "exit 7"), 7), (("sh", "-c", "kill -9 $$"), 137)]
)
def test_a_command_runs_here_from_the_begin(monkeypatch, words, status) -> None:
    # What reads the signals there is a loop here.
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))

    def execute(lines, there, *, output, error, signals=None):
        assert there == ("popcornctl", "trace", "flow")
        error(b"tracing, Ctrl-")
        assert not came
        error(b"C ends it\n")
        end = time.monotonic() + 20
        while not came:
            assert time.monotonic() < end
            time.sleep(0.01)
        return 0

    monkeypatch.setattr(remote, "execute", execute)
    try:
        found = remote.run_there(WEB, ["flow"], command=words, output=len, error=len, signals=0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (found, came) == (status, [signal.SIGINT])


def test_a_tool_that_does_not_begin_runs_no_command(monkeypatch) -> None:
    monkeypatch.setattr(remote, "execute", lambda *_, **__: 1)
    assert (
        remote.run_there(WEB, ["flow"], command=("false",), output=len, error=len, signals=0) == 1
    )


def test_a_command_that_is_not_there(monkeypatch) -> None:
    def execute(lines, there, *, output, error, signals=None):
        error(remote.BEGUN)
        return 0

    monkeypatch.setattr(remote, "execute", execute)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with pytest.raises(PopcornError, match="cannot run '/no/such'"):
            remote.run_there(WEB, ["flow"], command=("/no/such",), output=len, error=len, signals=0)
    finally:
        signal.signal(signal.SIGINT, before)


# what is refused


@pytest.fixture
def bare(monkeypatch) -> None:
    """An image without popcornctl."""
    monkeypatch.setattr(remote, "reach", lambda _: WEB)
    monkeypatch.setattr(remote.Remote, "has_popcornctl", lambda _: False)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("flow",), "the image of 'web' has no popcornctl, which trace flow needs there"),
        (("record", "-o", "x"), "which trace record needs there"),
        (("latency", "--source", "bpf"), "which trace latency needs there"),
        (("latency", "--source", "fabric"), "the same in all kernels"),
        (("latency", "--by", "cpu"), "ftrace does not count by cpu"),
        (("latency", "--duration", "1", "--", "true"), "a COMMAND ends the trace itself"),
    ],
)
def test_refusals(words, says, monkeypatch) -> None:
    monkeypatch.setattr(
        remote, "latency_place",
        lambda *_: contextlib.nullcontext(
            ftrace.Place(Path("/no"), Machine(1, 1, {}), ftrace.Files())
        ),
    )  # fmt: skip
    at = words.index("--") if "--" in words else len(words)
    words = (*words[:at], "--kernel", "web", *words[at:])
    done = CliRunner().invoke(trace, words)
    assert isinstance(done.exception, PopcornError)
    assert says in str(done.exception)
    if "needs there" in says:
        assert "--source fabric --node web" in done.exception.hint
        assert "python3-bpfcc" in done.exception.hint


# ftrace, there


def test_its_files(tmp_path: Path) -> None:
    files = remote.TracefsThere(WEB)
    files.mkdir(tmp_path / "a b")
    files.append(tmp_path / "a b/trigger", "hist:keys=$(true)")
    files.append(tmp_path / "a b/trigger", "!*")
    assert files.read(tmp_path / "a b/trigger") == "hist:keys=$(true)\n!*\n"
    with pytest.raises(OSError):
        files.rmdir(tmp_path / "a b")
    (tmp_path / "a b/trigger").unlink()
    files.rmdir(tmp_path / "a b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mounted", ["", "mounted\n"])
def test_a_tracefs_that_was_not_there_goes_again(monkeypatch, mounted: str) -> None:
    scripts: list[str] = []

    def shell(self, script, *words):
        scripts.append(script)
        return mounted

    monkeypatch.setattr(remote.Remote, "shell", shell)
    with remote.latency_place(WEB, None, FakeClient) as place:
        assert place.here == Machine(1_000_000, 1, {0: "primary", 1: "web"})
        assert place.name == "web"
    assert [script.split()[0] for script in scripts[1:]] == ["umount"] * bool(mounted)


def test_no_tracefs(monkeypatch) -> None:
    def shell(self, script, *words):
        raise OSError(errno.EIO, "No such device")

    monkeypatch.setattr(remote.Remote, "shell", shell)
    with (
        pytest.raises(PopcornError, match="kernel 'web' has no tracefs: No such device") as found,
        remote.latency_place(WEB, None, FakeClient),
    ):
        pass
    assert "--source fabric --node web" in found.value.hint


def test_the_same_counting(tmp_path: Path) -> None:
    events = tmp_path / "events/popcorn"
    instance = tmp_path / "instances" / f"popcorn-{os.getpid()}/events/popcorn"
    (tmp_path / "instances").mkdir()

    class Kernel(ftrace.Files):
        """One that makes an instance's files with the instance."""

        def mkdir(self, path: Path) -> None:
            for event in (ftrace.DELIVERED, ftrace.QUEUED):
                (instance / event).mkdir(parents=True)
                (instance / event / "hist").write_text("{ flow: 65536 } hitcount: 3 len: 30\n")

        def rmdir(self, path: Path) -> None:
            subprocess.run(["rm", "-r", path], check=True)

    place = ftrace.Place(events.parent, Machine(1_000_000, 1, {}), Kernel(), "web")
    with ftrace.opened(Options(), place) as session:
        assert "in 'web' by ftrace" in session.what
        assert (session.messages(), session.read().nr_queued) == (3, 3)
    assert not list((tmp_path / "instances").iterdir())
