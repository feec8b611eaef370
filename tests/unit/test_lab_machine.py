# SPDX-License-Identifier: GPL-2.0
"""How the lab tells a run's end, against a stand-in for QEMU that speaks on the same sockets."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from labvm.machine import Machine, Outcome
from labvm.qemu import PORTS

# What every stand-in starts with: `say` writes to a channel, `quit` waits to be told to end.
PROLOGUE = """
import json, os, socket, sys, time
names = ("qmp", "out", "err", "status")
ends = dict(zip(names, (socket.socket(fileno=int(fd)) for fd in sys.argv[1:])))
def say(name, data): ends[name].sendall(data)
def event(name, **data): say("qmp", json.dumps({"event": name, "data": data}).encode() + b"\\n")
def quit():
    for line in ends["qmp"].makefile():
        if json.loads(line)["execute"] == "quit":
            event("SHUTDOWN", reason="host-qmp-quit")
            sys.exit(0)
say("qmp", b'{"QMP": {}}\\n')
"""


def play(script: str, tmp_path: Path, timeout: float = 20.0) -> Outcome:
    machine = Machine(PORTS)
    fds = machine.fds
    arguments = [str(fds[name]) for name in ("qmp", *PORTS)]
    line = [sys.executable, "-c", PROLOGUE + script, *arguments]
    return machine.run(line, {}, tmp_path / "log", timeout, shell=False)


def test_the_status_is_the_commands(tmp_path: Path) -> None:
    outcome = play("say('status', b'start 4.2\\nexit 7\\n'); quit()", tmp_path)
    assert (outcome.status, outcome.failure) == (7, "")
    assert outcome.started_after is not None


def test_output_that_arrives_after_the_status_is_not_lost(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    script = """
say('status', b'exit 0\\n')
data = bytes(range(256)) * 8192
say('err', b'one ')
say('out', data)
say('err', b'two')
quit()
"""
    assert play(script, tmp_path).status == 0
    out, err = capfdbinary.readouterr()
    assert out == bytes(range(256)) * 8192
    assert err == b"one two"


def test_a_status_in_pieces_is_put_together(tmp_path: Path) -> None:
    script = "say('status', b'ex'); time.sleep(0.2); say('status', b'it 12'); time.sleep(0.2);"
    assert play(script + "say('status', b'3\\n'); quit()", tmp_path).status == 123


def test_a_reset_is_a_failure(tmp_path: Path) -> None:
    outcome = play("event('SHUTDOWN', guest=True, reason='guest-reset')", tmp_path)
    assert outcome.status is None
    assert outcome.failure.startswith("the guest reset")


def test_powering_off_is_a_failure(tmp_path: Path) -> None:
    outcome = play("event('SHUTDOWN', guest=True, reason='guest-shutdown')", tmp_path)
    assert outcome.failure.startswith("the guest powered itself off")


def test_a_panic_is_told_from_the_reset_that_follows(tmp_path: Path) -> None:
    script = "event('GUEST_PANICKED', action='run'); event('SHUTDOWN', reason='guest-reset')"
    assert play(script, tmp_path).failure.startswith("the guest panicked")


def test_a_status_after_a_panic_does_not_count(tmp_path: Path) -> None:
    script = "event('GUEST_PANICKED', action='run'); time.sleep(0.3); say('status', b'exit 0\\n')"
    outcome = play(script, tmp_path)
    assert outcome.status is None
    assert outcome.failure.startswith("the guest panicked")


def test_a_panic_that_never_resets_does_not_hang(tmp_path: Path) -> None:
    begin = time.monotonic()
    outcome = play("event('GUEST_PANICKED', action='run'); time.sleep(60)", tmp_path)
    assert outcome.failure.startswith("the guest panicked")
    assert time.monotonic() - begin < 15


def test_a_hang_ends_at_the_timeout_and_takes_qemu_along(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    begin = time.monotonic()
    outcome = play(script, tmp_path, timeout=2.0)
    assert outcome.status is None
    assert outcome.failure == "the guest did not finish within 2 s"
    assert time.monotonic() - begin < 10
    assert not Path(f"/proc/{pid.read_text()}").exists()


def test_output_does_not_put_the_timeout_off(tmp_path: Path) -> None:
    script = "\nwhile True: say('out', b'.'); time.sleep(0.05)"
    begin = time.monotonic()
    assert "did not finish" in play(script, tmp_path, timeout=2.0).failure
    assert time.monotonic() - begin < 10


def test_qemu_that_dies_is_a_failure_and_its_words_are_kept(tmp_path: Path) -> None:
    outcome = play("print('no such device', file=sys.stderr); sys.exit(3)", tmp_path)
    assert outcome.failure == "QEMU ended with status 3"
    assert "no such device" in (tmp_path / "log").read_text()


def test_the_last_line_is_kept_for_the_summary(tmp_path: Path) -> None:
    script = (
        "say('out', b'x' * 10000 + b'\\nfirst\\n== 3 passed ==\\n'); say('status', b'exit 0\\n')"
    )
    assert play(script + "; quit()", tmp_path).last_line == "== 3 passed =="
