# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel dmesg and dump: a kernel's memory in a file, its states by the fake module."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from fake_memory import COMMITTED, DATA, KERNEL, RESERVED, FakeMemory
from popcorn.cli import main
from popcorn.client import Client
from popcorn.device import HostDevice
from popcorn.errors import KernelRefusedError, ModuleMissingError, PostmortemError
from popcorn.models import Event, KernelState
from popcorn.postmortem import Record
from popcorn.postmortem.dmesg import FACILITIES, LEVELS, Style, escape, lines

BANNER = b"Linux version 6.1.0-test (someone@somewhere)"
JOINED = b"popcorn-init: joined as web"


class Secondary:
    """A kernel in the fake module whose memory is a file; `sync` puts there what was written."""

    def __init__(self, module, path: Path) -> None:
        self.module, self.path = module, path
        self.memory = FakeMemory(base=module.memory_start)
        with path.open("wb") as file:
            file.truncate(self.memory.base + self.memory.size)

    def sync(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.memory.base)
            file.write(self.memory.image)

    def log(self, *messages: bytes) -> None:
        for number, text in enumerate(messages):
            self.memory.add(text, 1_000_000_000 + number * 250_000_000)
        self.sync()

    def note(self) -> None:
        self.memory.write_note()
        self.sync()

    def become(self, state: KernelState, reason: str = "", age: int = 1500) -> None:
        self.module.kernels[1]["age"] = age
        self.module.set_state(1, state, reason)


@pytest.fixture
def web(module, tmp_path, monkeypatch):
    """A kernel that runs and has said three things."""
    from popcorn import client, device, dump, log

    real = client.Client
    monkeypatch.setattr(client, "Client", lambda: real(module.transport))
    made = Secondary(module, tmp_path / "memory")
    for user in (log, dump):
        monkeypatch.setattr(user, "HostDevice", lambda: device.HostDevice(made.path))
    module.add_kernel("web", KernelState.RUNNING, **{"memory-size": made.memory.size})
    made.note()
    made.log(BANNER, JOINED, b"two\nlines\x1b")
    return made


@pytest.fixture
def ctl(web, capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def dmesg(ctl, *arguments):
    code, out, err = ctl("kernel", "dmesg", "web", *arguments)
    assert code == 0, err
    return out.splitlines(), err


# lines, as dmesg(1) of util-linux 2.38 prints them; what it printed was compared in the lab


def test_lines():
    record = Record(1, 0, b"one\ntwo", 12_345_678_901, 4, 3)
    assert lines(record, Style()) == "[   12.345678] one\n               two"
    assert lines(record, Style(times=False)) == "one\ntwo"
    assert lines(record, Style(raw=True)).startswith("<28>[   12.345678] one\n" + " " * 19 + "two")
    assert lines(record, Style(decode=True)).startswith("daemon:warn  : [   12.345678] one\n")
    assert lines(record, Style(decode=True, times=False)).startswith("daemon:warn  : one\n")
    assert lines(Record(1, 0, b"", 5, 4, 3), Style(decode=True)) == ""


def test_lines_without_times_and_levels():
    record = Record(1, 0, b"text")
    for style in (Style(), Style(decode=True), Style(raw=True), Style(booted=1e9)):
        assert lines(record, style) == "text"


def test_numbers_that_cannot_be():
    record = Record(1, 0, b"x", (1 << 64) - 1, 7, 255)
    assert lines(record, Style()) == "[18446744073.709551] x"
    assert lines(record, Style(decode=True)).startswith("255   :debug : ")
    assert lines(record, Style(booted=1e300)) == lines(record, Style())


def test_wall_clock(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    record = Record(1, 0, b"x", 5_000_000_000, 6, 0)
    assert lines(record, Style(booted=1_000_000_000)) == "[Sun Sep  9 01:46:45 2001] x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"plain\ttab\rreturn", "plain\ttab\rreturn"),
        (b"\x1b[31m\x00\x7f\x01", "\\x1b[31m\\x00\\x7f\\x01"),
        (b"back\\slash", "back\\slash"),
        ("é €😀".encode(), "é €😀"),
        (b"\xff\xc3", "\\xff\\xc3"),
        (b"\xc2\x85\xed\xa0\x80", "\\xc2\\x85\\xed\\xa0\\x80"),
        (b"cut \xe2\x82", "cut \\xe2\\x82"),
        (b"a\nb\n", "a\n  b\n"),
        (b"", ""),
    ],
)
def test_escape(text, shown):
    assert escape(text, 2) == shown


def test_names():
    assert len(LEVELS) == 8 and len(FACILITIES) == 24
    assert (LEVELS[3], FACILITIES[0], FACILITIES[23]) == ("err", "kern", "local7")


# dmesg


def test_dmesg(ctl, web):
    out, err = dmesg(ctl)
    assert err == ""
    assert out == [
        f"[    1.000000] {BANNER.decode()}",
        "[    1.250000] popcorn-init: joined as web",
        "[    1.500000] two",
        "               lines\\x1b",
    ]


def test_dmesg_options(ctl, web):
    web.memory.add(b"bad", 2_000_000_000, level=3, facility=1)
    web.memory.add(b"worse", 2_000_000_000, level=1)
    web.sync()
    assert dmesg(ctl, "-l", "err,alert")[0] == ["[    2.000000] bad", "[    2.000000] worse"]
    assert dmesg(ctl, "-x", "-l", "err")[0] == ["user  :err   : [    2.000000] bad"]
    assert dmesg(ctl, "-r", "-l", "err")[0] == ["<11>[    2.000000] bad"]
    assert dmesg(ctl, "-t", "--level", "err")[0] == ["bad"]


@pytest.mark.parametrize(
    "arguments",
    [["-l", "loud"], ["-l", ""], ["-r", "-x"], ["-r", "-T"], ["-r", "-t"], ["-T", "-t"], ["-q"]],
)
def test_dmesg_wrong_usage(ctl, web, arguments):
    code, out, err = ctl("kernel", "dmesg", "web", *arguments)
    assert (code, out) == (2, "")
    assert "hint: see: popcornctl kernel dmesg --help" in err


def test_dmesg_json(ctl, web):
    code, out, err = ctl("kernel", "dmesg", "web", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert (shown["kernel"], shown["state"], shown["release"]) == ("web", "running", "6.1.0-test")
    # It joined 1.5 s ago, at 1.25 s of its clock.
    assert abs(shown["boot_time"] - (time.time() - 2.75)) < 60
    assert shown["problems"] == []
    assert shown["records"][2] == {
        "seq": 2,
        "time_ns": 1_500_000_000,
        "level": "info",
        "facility": "kern",
        "caller": "T1",
        "text": "two\nlines\x1b",
    }


def test_ctime(ctl, web, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_000_000_002.75)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert dmesg(ctl, "-T")[0][1] == "[Sun Sep  9 01:46:41 2001] popcorn-init: joined as web"
    web.log(b"Kernel panic - not syncing: sysrq")
    web.become(KernelState.CRASHED, "sysrq")
    assert dmesg(ctl, "-T")[0][-1].startswith("[Sun Sep  9 01:46:41 2001] Kernel panic")
    web.become(KernelState.KILLED)
    code, out, err = ctl("kernel", "dmesg", "web", "-T")
    assert (code, out) == (1, "")
    assert "what time it was" in err and "hint: " in err
    assert json.loads(ctl("kernel", "dmesg", "web", "--json")[1])["boot_time"] is None


def test_dmesg_of_nobody(ctl, web):
    code, _, err = ctl("kernel", "dmesg", "nobody")
    assert (code, err.splitlines()[0]) == (1, "popcornctl: there is no kernel 'nobody'")


@pytest.mark.parametrize("more", [[], ["-f"], ["--json"]])
def test_a_kernel_that_was_not_started_has_no_log(ctl, web, more):
    web.become(KernelState.LEASED)
    code, out, err = ctl("kernel", "dmesg", "web", *more)
    assert (code, out) == (1, "")
    assert "was not started" in err


def test_memory_without_a_log(ctl, web):
    web.memory.image[:] = bytes(web.memory.size)
    web.sync()
    web.become(KernelState.STARTING)
    code, _, err = ctl("kernel", "dmesg", "web")
    assert code == 1
    assert "no log is to be found" in err and "--follow waits" in err
    web.become(KernelState.KILLED)
    for more in ([], ["-f"]):
        code, _, err = ctl("kernel", "dmesg", "web", *more)
        assert code == 1
        assert "no log is to be found" in err and "kernel show" in err


def test_a_log_without_a_note_is_found(ctl, web):
    web.memory.image[:] = bytes(web.memory.size)
    web.memory = FakeMemory(base=web.memory.base)
    web.log(BANNER, b"early", b"death")
    web.become(KernelState.KILLED)
    out, err = dmesg(ctl)
    assert out[1:] == ["[    1.250000] early", "[    1.500000] death"]
    assert err == ""


def test_a_note_that_leads_nowhere_is_no_obstacle(ctl, web):
    web.memory.put(KERNEL, b"\xff" * 8)
    web.sync()
    out, err = dmesg(ctl)
    assert out[1] == "[    1.250000] popcorn-init: joined as web"
    assert "log of 'web' is not whole: its vmcoreinfo note leads nowhere" in err


def test_what_could_not_be_read_is_said(ctl, web):
    web.memory.put(KERNEL + DATA, b"\xff" * 8)
    web.sync()
    out, err = dmesg(ctl)
    assert out[0] == "[    1.250000] popcorn-init: joined as web"
    assert (
        err == "popcornctl: log of 'web' is not whole: 1 of its records: its text was overwritten\n"
    )
    shown = json.loads(ctl("kernel", "dmesg", "web", "--json")[1])
    assert shown["problems"] == ["1 of its records: its text was overwritten"]


def test_a_line_that_is_not_finished(ctl, web):
    web.memory.add(b"begun ... ", state=COMMITTED)
    web.sync()
    assert dmesg(ctl)[0][-1] == "               lines\\x1b"
    for state in (KernelState.CRASHED, KernelState.STARTING):
        web.become(state)
        assert dmesg(ctl)[0][-1] == "[    0.000000] begun ... "


def test_no_device(ctl, web):
    web.path.unlink()
    code, _, err = ctl("kernel", "dmesg", "web")
    assert code == 1
    assert "popcorn_host is not loaded" in err


# dmesg --follow


def test_follow_a_dead_kernel_ends(ctl, web):
    web.become(KernelState.CRASHED)
    assert dmesg(ctl, "-f")[0] == dmesg(ctl)[0]
    assert web.module.idled == []


def test_follow(ctl, web):
    web.module.on_idle = [
        lambda: web.log(b"more", b"and more"),
        lambda: None,
        lambda: web.become(KernelState.STOPPED, age=10),
        lambda: web.log(b"last words"),
        lambda: web.become(KernelState.STOPPED),
    ]
    out, err = dmesg(ctl, "--follow", "-t")
    assert out == [*dmesg(ctl, "-t")[0]]
    assert out[-3:] == ["more", "and more", "last words"]
    assert err == ""


def test_follow_json_is_lines(ctl, web):
    web.become(KernelState.CRASHED)
    web.memory.put(KERNEL + DATA, b"\xff" * 8)
    web.sync()
    shown = [json.loads(line) for line in dmesg(ctl, "-w", "--json")[0]]
    assert shown[0] == {"lost": 1, "reason": "its text was overwritten"}
    assert [line["seq"] for line in shown[1:]] == [1, 2]


def test_follow_waits_for_the_log(ctl, web, monkeypatch):
    from popcorn import log

    monkeypatch.setattr(log, "SEARCH_PAUSE_SECONDS", 0)
    web.memory.image[:] = bytes(web.memory.size)
    web.memory = FakeMemory(base=web.memory.base)
    web.sync()
    web.become(KernelState.STARTING)
    web.module.on_idle = [
        lambda: web.log(BANNER, b"early"),
        lambda: web.log(b"before the note"),
        web.note,
        lambda: web.log(b"after it"),
        lambda: web.become(KernelState.CRASHED),
    ]
    assert dmesg(ctl, "-ft")[0] == [BANNER.decode(), "early", "before the note", "after it"]


def test_follow_goes_on_in_a_larger_ring(ctl, web, monkeypatch):
    """What log_buf_len= does: the records are copied, and get other ids."""
    from popcorn import log

    monkeypatch.setattr(log, "SEARCH_PAUSE_SECONDS", 0)

    def grow():
        web.memory = FakeMemory(base=web.memory.base, bits=6, data_bits=12)
        web.memory.write_note()
        web.log(BANNER, b"early", b"later")

    web.memory = FakeMemory(base=web.memory.base)
    web.log(BANNER, b"early")
    web.become(KernelState.STARTING)
    web.module.on_idle = [grow, lambda: web.become(KernelState.CRASHED)]
    assert dmesg(ctl, "-ft")[0] == [BANNER.decode(), "early", "later"]


def test_follow_tells_what_it_missed(ctl, web):
    def flood():
        web.log(*(b"line %d" % number for number in range(100)))

    web.module.on_idle = [flood, lambda: web.become(KernelState.CRASHED)]
    out, err = dmesg(ctl, "-ft")
    assert out[4] == "line 68" and out[-1] == "line 99"
    assert "68 of its records: overwritten before they could be read" in err


def test_follow_waits_for_a_line_to_be_finished(ctl, web, monkeypatch):
    from popcorn import log

    begun = []

    def begin():
        begun.append(web.memory.add(b"begun", 2_000_000_000, state=RESERVED))
        web.log(b"next")

    def finish():
        at = web.memory.descriptor(begun[0])
        web.memory.words(at, 2 << 62 | begun[0])
        web.sync()

    web.module.on_idle = [begin, lambda: None, finish, lambda: web.become(KernelState.CRASHED)]
    assert dmesg(ctl, "-ft")[0][-2:] == ["begun", "next"]
    # One that never is does not hold up the others.
    monkeypatch.setattr(log, "PATIENCE_SECONDS", 0)
    web.become(KernelState.RUNNING)
    web.module.on_idle = [begin, lambda: web.become(KernelState.CRASHED)]
    out, err = dmesg(ctl, "-ft")
    assert out[-1] == "next"
    assert "it was being written" in err


@pytest.mark.parametrize("how", ["gone", "started anew", "taken"])
def test_follow_ends_when_the_kernel_is_another(ctl, web, how):
    def change():
        if how == "gone":
            web.module.kernels.clear()
        elif how == "taken":
            web.module.kernels[1]["name"] = "other"
        else:
            web.module.kernels[1]["epoch"] = 7

    web.module.on_idle = [change]
    assert len(dmesg(ctl, "-f")[0]) == 4


def test_follow_ends_when_the_memory_is_wiped(ctl, web):
    web.become(KernelState.KILLED, age=10)
    web.module.on_idle = [lambda: os.truncate(web.path, 0)]
    assert len(dmesg(ctl, "-f")[0]) == 4
    # Of a kernel that runs this is an error.
    web.become(KernelState.RUNNING)
    code, _, err = ctl("kernel", "dmesg", "-f", "web")
    assert code == 1 and "cannot read the memory at 0x14" in err


def test_follow_is_interrupted(ctl, web):
    def interrupt():
        raise KeyboardInterrupt

    web.module.on_idle = [interrupt]
    code, out, err = ctl("kernel", "dmesg", "-f", "web")
    assert (code, len(out.splitlines()), err.strip()) == (130, 4, "")


# dump


def test_dump(ctl, web, tmp_path):
    output = tmp_path / "web.core"
    web.become(KernelState.CRASHED)
    code, out, err = ctl("kernel", "dump", "web", "-o", output)
    assert code == 0, err
    assert out == f"{output}: 6.1.0-test, 8 MiB, 0 MiB on the disk\n"
    assert err.startswith("dump   8 of 8 MiB  (")
    data = output.read_bytes()
    assert data[:4] == b"\x7fELF"
    assert data[-web.memory.size :] == web.memory.image
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert output.stat().st_blocks * 512 < len(data) // 2, "zero pages are holes"


def test_dump_of_a_kernel_that_runs(ctl, web, tmp_path):
    code, out, _ = ctl("kernel", "dump", "web", "-o", tmp_path / "web.core")
    assert code == 0
    assert out.splitlines()[1] == "kernel 'web' ran meanwhile: parts may not fit together"


def test_dump_json(ctl, web, tmp_path):
    output = tmp_path / "web.core"
    code, out, err = ctl("kernel", "dump", "web", "-o", output, "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    wanted = {"kernel": "web", "state": "running", "release": "6.1.0-test", "compression": None}
    assert shown.items() >= wanted.items()
    assert shown["core_bytes"] == output.stat().st_size
    assert shown["file_bytes"] == output.stat().st_blocks * 512


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")
def test_compressed_dump(ctl, web, tmp_path):
    plain, packed = tmp_path / "web.core", tmp_path / "web.core.zst"
    assert ctl("kernel", "dump", "web", "-o", plain)[0] == 0
    assert ctl("kernel", "dump", "web", "-o", packed, "--compress", "zstd")[0] == 0
    done = subprocess.run(["zstd", "-dc", packed], capture_output=True, check=True)
    assert done.stdout == plain.read_bytes()


def test_no_program_to_compress(ctl, web, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    output = tmp_path / "web.core"
    code, out, err = ctl("kernel", "dump", "web", "-o", output, "--compress", "zstd")
    assert (code, out) == (1, "")
    assert "zstd is not installed" in err and "apt-get install zstd" in err
    assert not output.exists()


def test_a_program_to_compress_that_fails(ctl, web, tmp_path, monkeypatch):
    program = tmp_path / "zstd"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    output = tmp_path / "web.core"
    for script, why in (
        (
            "echo 'zstd: it is Tuesday' >&2; exit 3",
            "zstd failed with status 3: zstd: it is Tuesday",
        ),
        (
            "cat >/dev/null; echo 'write error : No space left on device' >&2; exit 1",
            "No space left",
        ),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        code, _, err = ctl("kernel", "dump", "web", "-o", output, "--compress", "zstd")
        assert code == 1 and why in err, err
        assert not output.exists()


def test_dump_with_bad_usage(ctl, web, tmp_path):
    assert ctl("kernel", "dump", "web")[0] == 2
    assert ctl("kernel", "dump", "web", "-o", tmp_path / "x", "--compress", "arj")[0] == 2
    assert ctl("kernel", "dump", "nobody", "-o", tmp_path / "x")[0] == 1


def test_a_file_that_is_there_stays(ctl, web, tmp_path):
    output = tmp_path / "web.core"
    output.write_text("precious")
    code, _, err = ctl("kernel", "dump", "web", "-o", output)
    assert code == 1
    assert f"{output} exists already" in err and "hint: choose another name" in err
    assert output.read_text() == "precious"


def test_a_directory_that_is_not_there(ctl, web, tmp_path):
    output = tmp_path / "no" / "web.core"
    code, _, err = ctl("kernel", "dump", "web", "-o", output)
    assert code == 1
    assert f"{output}: can't write the dump: No such file or directory" in err


@pytest.mark.parametrize("more", [[], ["--compress", "zstd"]])
def test_a_disk_that_is_full(web, tmp_path, module, more):
    """By the limit on the size of a file: no root is needed for that one."""
    output = tmp_path / "web.core"
    code = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from popcorn import dump\n"
        "from popcorn.errors import PopcornError\n"
        "from popcorn.postmortem import ImageMemory, core\n"
        "memory = ImageMemory(os.urandom(1 << 20), 0x100000)\n"
        "made = core([(memory.base, memory.size)], 0, b'', 1)\n"
        "try:\n"
        "    dump._write(dump.Path(sys.argv[1]), made, dump._contents(made, [memory], None),\n"
        "                dump._compressor(sys.argv[2] if sys.argv[2:] else None))\n"
        "except PopcornError as error:\n"
        "    print(error.message, error.hint)\n"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, output, *more[1:]],
        env={**os.environ, "PYTHONPATH": str(Path(dump_module()).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "can't write the dump" in done.stdout or "zstd was ended by" in done.stdout, done
    assert not output.exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def dump_module():
    from popcorn import dump

    return dump.__file__


@pytest.mark.parametrize("what", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
@pytest.mark.parametrize("more", [[], ["--compress", "zstd"]])
def test_what_was_begun_is_removed(ctl, web, tmp_path, monkeypatch, what, more):
    from popcorn import dump

    def fail(*_):
        raise what

    monkeypatch.setattr(dump, "_write_all", fail)
    monkeypatch.setattr(dump, "_feed", fail)
    output = tmp_path / "web.core"
    code, _, err = ctl("kernel", "dump", "web", "-o", output, *more)
    assert code == (130 if what is KeyboardInterrupt else 1)
    assert not output.exists()
    assert "Traceback" not in err
    if code == 1:
        assert "No space left" in err and "hint: 8 MiB" in err


def test_nothing_to_dump(ctl, web, tmp_path):
    output = tmp_path / "web.core"
    web.become(KernelState.LEASED)
    code, _, err = ctl("kernel", "dump", "web", "-o", output)
    assert code == 1 and "was not started" in err
    web.become(KernelState.CRASHED)
    web.memory.put(0x7000, bytes(4096))
    web.sync()
    code, _, err = ctl("kernel", "dump", "web", "-o", output)
    assert code == 1 and "no vmcoreinfo note" in err and "popcornctl kernel dmesg web" in err
    assert not output.exists()


# the device


def test_leased_memory(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(4096) + b"0123456789" + bytes(8192 - 10))
    with HostDevice(path).memory(4096, 8192, pin=True) as memory:
        assert (memory.base, memory.size) == (4096, 8192)
        assert memory.read(4096, 10) == b"0123456789"
        for address, size in ((0, 1), (4096, 8193), (12288, 1), (4096, -1)):
            with pytest.raises(PostmortemError, match="outside"):
                memory.read(address, size)
        assert str(path) in Path("/proc/self/maps").read_text("utf-8")
        os.truncate(path, 5000)
        with pytest.raises(KernelRefusedError, match="it ends there"):
            memory.read(4096, 8192)
    assert str(path) not in Path("/proc/self/maps").read_text("utf-8")
    memory.close()


def test_memory_that_cannot_be_had(tmp_path):
    with pytest.raises(ModuleMissingError):
        HostDevice(tmp_path / "missing").memory(0, 4096)
    fds = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(KernelRefusedError, match="cannot keep the memory at 0x1000"):
        HostDevice(Path("/dev/null")).memory(4096, 4096, pin=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == fds


# what a dead kernel said last


def test_a_dead_kernel_is_shown_with_its_last_lines(web, ctl):
    web.log(*(b"line %d" % number for number in range(20)), b"Kernel panic - not syncing: x")
    assert json.loads(ctl("kernel", "show", "web", "--json")[1])["log_tail"] is None
    for state in (KernelState.CRASHED, KernelState.HUNG):
        web.become(state, "x")
        tail = json.loads(ctl("kernel", "show", "web", "--json")[1])["log_tail"]
        assert tail == ctl("kernel", "dmesg", "web")[1].splitlines()[-len(tail) :]
        assert 1 < len(tail) < 20
        assert tail[-1].endswith("Kernel panic - not syncing: x")
        assert json.loads(ctl("kernel", "list", "--json")[1])[0]["log_tail"] == tail
        out = ctl("kernel", "show", "web")[1]
        assert out.endswith("last lines of its log\n" + "\n".join(tail) + "\n")


def test_a_log_that_cannot_be_read_spoils_nothing(web, ctl):
    web.become(KernelState.CRASHED, "x")
    web.path.unlink()
    code, out, err = ctl("kernel", "show", "web", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["log_tail"] is None
    code, out, err = ctl("kernel", "show", "web")
    assert (code, err) == (0, "")
    assert "reason     x\n" in out and "last lines" not in out


def test_monitor_tells_what_a_dead_kernel_said_last(web, module, ctl, monkeypatch):
    from popcorn import monitor

    web.log(b"Kernel panic - not syncing: x")
    web.become(KernelState.CRASHED, "x")
    kernel = Client(module.transport).kernel("web")
    events = [
        Event("kernel", "change", "netlink", 1.0, "web", "crashed", kernel),
        Event("kernel", "released", "netlink", 2.0, "web", "crashed", kernel),
    ]
    monkeypatch.setattr(monitor, "watch", lambda client, types: iter(events))
    first, *rest, last = ctl("monitor")[1].splitlines()
    assert first == "kernel  change   web crashed (x)"
    assert rest[-1].startswith("    [") and rest[-1].endswith("panic - not syncing: x")
    assert last == "kernel  released web crashed (x)", "its memory is gone"
    told, gone = map(json.loads, ctl("--json", "monitor")[1].splitlines())
    assert told["log_tail"] == [line.removeprefix("    ") for line in rest]
    assert "log_tail" not in gone
