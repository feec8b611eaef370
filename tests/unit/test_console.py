# SPDX-License-Identifier: GPL-2.0
"""Lines to other kernels: finding them, holding one, looking on. A pty stands in for the line."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
import time
import tty

import pytest

from popcorn import client, console
from popcorn.cli import main
from popcorn.console import Action, End, Escape, Holder, Line, Watcher, find_line, find_lines
from popcorn.errors import BusyError, HungUpError, ModuleMissingError, NotFoundError


@pytest.fixture
def far():
    """The other end of a line, and the line: (file descriptor, Line)."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, Line(os.ttyname(slave), 1, "web", 0, "open")
    os.close(slave)
    os.close(master)


@pytest.fixture
def lines(machine):
    """Eight lines to node 1, of which one is down."""
    machine.write("/sys/module/popcorn_tty/version", "")
    for number in range(8):
        base = f"/sys/class/tty/ttyPCN{8 + number}/popcorn"
        machine.write(f"{base}/node", "1\n")
        machine.write(f"{base}/name", "web\n")
        machine.write(f"{base}/number", f"{number}\n")
        machine.write(f"{base}/state", "down\n" if number == 7 else "closed\n")
    machine.write("/sys/class/tty/ttyPCN128/popcorn/node", "0\n")
    machine.write("/sys/class/tty/ttyS0/dev", "4:64\n")
    return machine


def read_until(fd, mark):
    found = b""
    while mark not in found:
        found += os.read(fd, 4096)
    return found


def in_background(function, *arguments, **options):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*arguments, **options)))
    thread.start()
    return thread, result


def test_lines_are_found(lines):
    found = find_lines(lines.system)
    assert [(line.node_id, line.number) for line in found] == [(1, n) for n in range(8)]
    line = find_line(1, "web", 3, lines.system)
    assert line == Line(str(lines.root / "dev/ttyPCN11"), 1, "web", 3, "closed")


@pytest.mark.parametrize(
    ("node", "number", "words"),
    [
        (1, 8, "no line 8 to 'web'"),
        (1, -1, "no line -1"),
        (1, 7, "has no terminals"),
        (2, 0, "has no terminals"),
    ],
)
def test_lines_that_are_not(lines, node, number, words):
    with pytest.raises(NotFoundError, match=words):
        find_line(node, "web", number, lines.system)


def test_a_line_may_take_a_moment(lines):
    timer = threading.Timer(0.3, lines.write, ("/sys/class/tty/ttyPCN15/popcorn/state", "open"))
    timer.start()
    assert find_line(1, "web", 7, lines.system, wait=10).state == "open"


def test_without_the_module(machine):
    with pytest.raises(ModuleMissingError, match="popcorn_tty") as caught:
        find_lines(machine.system)
    assert caught.value.hint == "modprobe popcorn_tty"


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ([b"ls\n"], [b"ls\n"]),
        ([b"a\x1d.b"], [b"a", Action.QUIT, b"b"]),
        ([b"\x1dq"], [Action.QUIT]),
        ([b"\x1d", b"?"], [Action.HELP]),
        ([b"a\x1db", b"b"], [b"a", Action.BREAK, b"b"]),
        ([b"\x1d\x1d"], [b"\x1d"]),
        ([b"\x1dx"], [b"\x1dx"]),
        ([b"\x00\xff\x1c"], [b"\x00\xff\x1c"]),
    ],
)
def test_escapes(typed, found):
    escape = Escape()
    assert [item for data in typed for item in escape.feed(data)] == found


def test_bytes_both_ways_and_the_end_of_input(far, tmp_path):
    master, line = far
    source, give = os.pipe()
    seen = bytearray()
    with Holder(line, seen.extend, directory=tmp_path) as holder:
        thread, result = in_background(console.hold, holder, source, quiet=0.2)
        everything = bytes(range(256))
        os.write(give, everything)
        got = b""
        while len(got) < 256:
            got += os.read(master, 4096)
        assert got == everything  # binary: nothing is an escape, nothing is translated
        os.write(master, everything)
        os.close(give)
        thread.join(10)
    assert result == [End.DONE]
    assert bytes(seen) == everything
    os.close(source)


def test_quit_help_and_break(far, tmp_path):
    _, line = far
    source, give = os.pipe()
    done = []
    with Holder(line, lambda data: None, directory=tmp_path) as holder:
        os.write(give, b"x\x1d?\x1db\x1d.never")
        assert console.hold(holder, source, typed=Escape().feed, act=done.append) is End.QUIT
    assert done == [Action.HELP, Action.BREAK]
    os.close(source)
    os.close(give)


def test_size(far, tmp_path):
    master, line = far
    with Holder(line, lambda data: None, directory=tmp_path) as holder:
        holder.resize(50, 132)
        size = struct.unpack("4H", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))
        assert size[:2] == (50, 132)


def test_one_holder_at_a_time(far, tmp_path):
    _, line = far
    with (
        Holder(line, lambda data: None, directory=tmp_path),
        pytest.raises(BusyError, match=rf"in use by process {os.getpid()}"),
    ):
        Holder(line, lambda data: None, writes=False, directory=tmp_path)
    Holder(line, lambda data: None, directory=tmp_path).close()


def test_a_writer_is_not_sent_away(far, tmp_path):
    _, line = far
    source, give = os.pipe()
    with Holder(line, lambda data: None, directory=tmp_path) as holder:
        thread, result = in_background(console.hold, holder, source, typed=Escape().feed)
        with pytest.raises(BusyError, match="in use by process"):
            Holder(line, lambda data: None, directory=tmp_path)
        os.write(give, b"\x1d.")
        thread.join(10)
    assert result == [End.QUIT]
    os.close(source)
    os.close(give)


def test_watchers_see_what_came_and_what_comes(far, tmp_path):
    master, line = far
    source, give = os.pipe()
    shown, seen = bytearray(), bytearray()
    with Holder(line, seen.extend, directory=tmp_path) as holder:
        thread, _ = in_background(console.hold, holder, source, typed=Escape().feed)
        os.write(master, b"before ")
        while b"before " not in seen:
            time.sleep(0.01)
        watcher = Watcher(line, shown.extend, directory=tmp_path)
        looking, result = in_background(console.look_on, watcher, None)
        while b"before " not in shown:
            time.sleep(0.01)
        os.write(master, b"after")
        while b"after" not in shown:
            time.sleep(0.01)
        os.write(give, b"\x1d.")
        thread.join(10)
    looking.join(10)
    watcher.close()
    assert result == [End.DONE]
    assert bytes(shown) == b"before after"
    os.close(source)
    os.close(give)


def test_nobody_to_look_on_at(far, tmp_path):
    with pytest.raises(NotFoundError):
        Watcher(far[1], lambda data: None, directory=tmp_path)


def test_a_watcher_makes_room_for_a_writer_and_takes_over_again(far, tmp_path):
    master, line = far
    source, give = os.pipe()
    shown = bytearray()
    thread, result = in_background(
        console.watch, line, shown.extend, source, typed=Escape().feed, directory=tmp_path
    )
    os.write(master, b"one ")
    while b"one " not in shown:
        time.sleep(0.01)
    written, say = os.pipe()
    with Holder(line, lambda data: None, directory=tmp_path) as holder:
        writing, _ = in_background(console.hold, holder, written, typed=Escape().feed)
        os.write(say, b"typed")
        read_until(master, b"typed")
        time.sleep(0.3)  # the watcher has come back, to look on
        os.write(master, b"two ")
        while b"two " not in shown:
            time.sleep(0.01)
        os.write(say, b"\x1d.")
        writing.join(10)
    time.sleep(0.5)
    os.write(master, b"three")
    while b"three" not in shown:
        time.sleep(0.01)
    os.write(give, b"\x1d.")
    thread.join(10)
    assert result == [End.QUIT]
    for fd in (source, give, written, say):
        os.close(fd)


def test_hung_up(tmp_path):
    master, slave = pty.openpty()
    line = Line(os.ttyname(slave), 1, "web", 2, "open")
    with Holder(line, lambda data: None, directory=tmp_path) as holder:
        os.close(slave)
        os.close(master)
        with pytest.raises(HungUpError, match="line 2 to 'web' was hung up"):
            console.hold(holder, None)


def test_a_line_that_went(tmp_path):
    line = Line(str(tmp_path / "ttyPCN8"), 1, "web", 0, "open")
    with pytest.raises(NotFoundError, match="'web' is not there any more"):
        Holder(line, lambda data: None, directory=tmp_path)


# popcornctl console


@pytest.fixture
def ctl(module, lines, far, monkeypatch, tmp_path, capfd):
    """Run `popcornctl console` with bytes for standard input: (exit code, stdout, stderr)."""
    master, line = far
    real = client.Client
    module.nodes[1] = {**module.nodes[0], "id": 1, "name": "web", "self": None}
    monkeypatch.setattr(client, "Client", lambda: real(module.transport))
    monkeypatch.setattr(console, "System", lambda: lines.system)
    monkeypatch.setattr(console, "RUN_DIRECTORY", tmp_path)
    monkeypatch.setattr(console, "START_SECONDS", 0.0)
    monkeypatch.setattr(console, "_socket_path", lambda line, directory: tmp_path / "line.sock")
    (lines.root / "dev").mkdir(exist_ok=True)
    (lines.root / "dev/ttyPCN8").symlink_to(line.device)

    def run(*words, given=b""):
        source, give = os.pipe()
        os.write(give, given)
        os.close(give)
        monkeypatch.setattr(sys, "stdin", os.fdopen(source))
        code = main(["console", *words])
        sys.stdin.close()
        out, err = capfd.readouterr()
        return code, out, err

    run.master = master
    run.capture = capfd
    return run


def test_pipe(ctl, tmp_path):
    log = tmp_path / "log"
    os.write(ctl.master, b"prompt# ")
    code, out, err = ctl("web", "--quiet-for", "0.2", "--log", str(log), given=b"ls\n")
    assert (code, out, err) == (0, "prompt# ", "")
    assert log.read_bytes() == b"prompt# "
    assert os.read(ctl.master, 100) == b"ls\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("web", "--line", "8"), 2, "8"),
        (("nobody",), 1, "no node 'nobody'"),
        (("web", "--line", "7"), 1, "'web' has no terminals"),
        (("web", "--log", "/nowhere/log"), 1, "/nowhere/log"),
    ],
)
def test_refusals(ctl, words, code, text):
    found, _, err = ctl(*words)
    assert found == code
    assert text in err


# popcornctl kernel exec


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("web",), 2, "COMMAND"),
        (("web", "--"), 2, "COMMAND"),
        (("nobody", "--", "true"), 1, "no node 'nobody'"),
        (("web", "--", "true"), 1, "'web' has no terminals"),  # line 7 is down
    ],
)
def test_exec_refusals(ctl, words, code, text):
    found = main(["kernel", "exec", *words])
    assert found == code
    assert text in ctl.capture.readouterr().err


def test_exec_passes_words_and_status_on(ctl, lines, monkeypatch):
    lines.write("/sys/class/tty/ttyPCN15/popcorn/state", "open\n")
    seen = []

    def execute(found, words, **options):
        seen.append(([line.number for line in found], words, options["source"]))
        options["output"](b"out\n")
        options["error"](b"err\n")
        return 42

    monkeypatch.setattr("popcorn.execute.execute", execute)
    assert main(["kernel", "exec", "-n", "web", "--", "ls", "-n", "--", "x"]) == 42
    assert main(["kernel", "exec", "-n", "web", "ls", "--json"]) == 42
    assert seen == [([7, 6], ("ls", "-n", "--", "x"), None), ([7, 6], ("ls", "--json"), None)]
    assert ctl.capture.readouterr() == ("out\nout\n", "err\nerr\n")
