# SPDX-License-Identifier: GPL-2.0
"""The log and a dump of every kernel that the lab has, alive and dead.

A live kernel's log must be what its own dmesg(1) says, to the byte. So one is put into its
initramfs, and what it printed is written to where the primary can find it: the first MiB of the
region, which is no RAM to the kernel, so that /dev/mem lets it.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import time
import warnings
from pathlib import Path

import pytest

from guest import SECONDARIES, ctl, ctl_json, is_zero, memory_of, quiet, release_all
from popcorn import Client
from popcorn.errors import PopcornError
from popcorn.image import cpio
from popcorn.models import Kernel, KernelState
from popcorn.plan import Spec
from popcorn.start import start_kernel

MIB = 1 << 20
TRIES = 2
"""As in test_matrix.py: a boot dies now and then, which is counted and printed."""

# In the region: behind what the loader wrote, before the kernel's RAM.
ANSWER_AT, ANSWER_END = 0x80000, MIB
DONE_AT = MIB - 4096

OPTIONS = {"plain": "", "notime": "-t", "decode": "-x"}

LAST = "this one is the last to be compared"

ASK = rf"""
cd /tmp
for word in $(cat /proc/cmdline); do
	case $word in region=*) region=${{word#region=}} ;; esac
done
export LOCPATH=/own/locale LC_CTYPE=C.UTF-8
sleep 1
printf 'two\nlines, \033[1mescaped\\, \303\251 and \377\001' >/dev/kmsg
printf '<28>a daemon warns' >/dev/kmsg
printf '\n' >/dev/kmsg
printf '\ttab, return\r and a line feed more\n\n' >/dev/kmsg
printf '{LAST}\n' >/dev/kmsg
own() {{ /own/ld.so --library-path /own /own/dmesg "$@"; }}
own >plain
own -t >notime
own -x >decode
tar -cf answer plain notime decode
dd if=answer of=/dev/mem bs=4096 seek=$(((region + {ANSWER_AT}) / 4096)) conv=notrunc 2>/dev/null
echo done | dd of=/dev/mem bs=4096 seek=$(((region + {DONE_AT}) / 4096)) conv=notrunc 2>/dev/null
echo 'answered' >/dev/kmsg
"""

# Enough for every ring to have gone round, in lines of all lengths.
FLOOD = rf"""
cd /tmp
for word in $(cat /proc/cmdline); do
	case $word in region=*) region=${{word#region=}} ;; esac
done
sleep 1
line=
for n in $(seq 6000); do
	line=$line.
	[ $((n % 90)) = 0 ] && line=
	echo "flood $n $line" >/dev/kmsg
done
printf '{LAST}\n' >/dev/kmsg
/own/ld.so --library-path /own /own/dmesg >plain
tar -cf answer plain
dd if=answer of=/dev/mem bs=4096 seek=$(((region + {ANSWER_AT}) / 4096)) conv=notrunc 2>/dev/null
echo done | dd of=/dev/mem bs=4096 seek=$(((region + {DONE_AT}) / 4096)) conv=notrunc 2>/dev/null
"""

DIE = """
sleep 1
echo 'before the end' >/dev/kmsg
echo c >/proc/sysrq-trigger
"""


def own_dmesg() -> bytes:
    """An archive with this machine's dmesg(1), and what it needs to run."""
    listed = subprocess.run(["ldd", "/usr/bin/dmesg"], capture_output=True, text=True, check=True)
    files = {"own/dmesg": Path("/usr/bin/dmesg")}
    for path in map(Path, re.findall(r"(/\S+)", listed.stdout)):
        files["own/ld.so" if path.name.startswith("ld-") else f"own/{path.name}"] = path
    files["own/locale/C.utf8/LC_CTYPE"] = Path("/usr/lib/locale/C.utf8/LC_CTYPE")
    entries = [cpio.file(name, path.read_bytes(), 0o755) for name, path in files.items()]
    return cpio.write(cpio.with_parents(entries))


def image_for(release: str, script: str, where: Path, extra: bytes = b"") -> Path:
    source, image = where / "run.sh", where / "run.img"
    source.write_text("#!/bin/sh\n" + script)
    done = ctl("image", "build", "--profile", "shell", "--release", release,
               "--run", str(source), "-o", str(image))  # fmt: skip
    assert done.returncode == 0, done.stderr
    data = image.read_bytes()
    image.write_bytes(data + bytes(-len(data) % 4) + extra)
    return image


def bring_up(client: Client, release: str, image: Path) -> Kernel:
    for attempt in range(1, TRIES + 1):
        # The lease first: the kernel is told where its region is.
        lease = client.kernel_new("web", (2, 3), 256 * MIB)
        with memory_of(lease) as memory:
            assert is_zero(memory), "this primary gave memory away that was not cleared"
        spec = Spec("web", kernel=release, initrd=image, timeout=120,
                    append=f"region={lease.memory_start}")  # fmt: skip
        try:
            return start_kernel(client, spec, progress=quiet).kernel
        except PopcornError as error:
            if attempt == TRIES:
                raise
            warnings.warn(f"start {attempt} of {release} failed: {error}", stacklevel=1)
            release_all(client)
    raise AssertionError("unreachable")


def answer_of(kernel: Kernel) -> dict[str, bytes]:
    """What the kernel's own dmesg printed, by option."""
    deadline = time.monotonic() + 60
    while True:
        with memory_of(kernel) as memory:
            if memory[DONE_AT : DONE_AT + 4] == b"done":
                data = memory[ANSWER_AT:ANSWER_END]
                break
        assert time.monotonic() < deadline, ctl("kernel", "dmesg", kernel.name).stdout[-2000:]
        time.sleep(0.5)
    with tarfile.open(fileobj=io.BytesIO(data)) as answer:
        return {name: answer.extractfile(name).read() for name in answer.getnames()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SECONDARIES)
def test_log_of_a_live_kernel_is_its_own_dmesg(client: Client, tmp_path: Path, name: str) -> None:
    release = SECONDARIES[name]
    kernel = bring_up(client, release, image_for(release, ASK, tmp_path, own_dmesg()))
    own = answer_of(kernel)
    assert own["plain"].startswith(b"[    0.000000] Linux version " + release.encode())
    assert own["plain"].endswith(LAST.encode() + b"\n")
    for option, wanted in own.items():
        # Bytes: as text, a carriage return would become a line feed.
        done = subprocess.run(
            ["popcornctl", "kernel", "dmesg", "web", *OPTIONS[option].split()], capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout[: len(wanted)] == wanted, option
    shown = ctl_json("kernel", "dmesg", "web")
    assert (shown["release"], shown["problems"]) == (release, [])
    assert [r["seq"] for r in shown["records"]] == list(range(len(shown["records"])))
    assert ctl("kernel", "stop", "web").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SECONDARIES)
def test_log_that_went_round(client: Client, tmp_path: Path, name: str) -> None:
    release = SECONDARIES[name]
    kernel = bring_up(client, release, image_for(release, FLOOD, tmp_path, own_dmesg()))
    own = answer_of(kernel)["plain"].splitlines()
    assert LAST.encode() in own[-1]
    assert b"Linux version" not in own[0]
    done = ctl("kernel", "dmesg", "web")
    assert (done.returncode, done.stderr) == (0, "")
    log = done.stdout.encode().splitlines()
    # What init says after that may have pushed out some lines more.
    first = own.index(log[0])
    assert first < 50
    assert log[: len(own) - first] == own[first:]
    assert len(log) > 1000
    assert ctl("kernel", "stop", "web").returncode == 0


@pytest.mark.parametrize("name", SECONDARIES)
def test_log_of_a_kernel_that_hangs_before_there_is_a_note(client: Client, name: str) -> None:
    release = SECONDARIES[name]
    # Without a clock source that early, it calibrates its delay loop for ever.
    done = ctl("kernel", "start", "mute", "--cpus", "2", "--memory", "256M", "--kernel", release,
               "--append", "clearcpuid=tsc", "--timeout", "5")  # fmt: skip
    assert "did not join" in done.stderr
    deadline = time.monotonic() + 60
    while (
        "Calibrating delay loop..." not in (done := ctl("--json", "kernel", "dmesg", "mute")).stdout
    ):
        assert time.monotonic() < deadline, done.stderr
    shown = json.loads(done.stdout)
    # All of it is there, times and levels too, although nothing in it says where.
    assert (shown["state"], shown["release"], shown["problems"]) == ("starting", "", [])
    first, last = shown["records"][0], shown["records"][-1]
    assert (first["level"], first["time_ns"]) == ("notice", 0)
    assert first["text"].startswith("Linux version " + release)
    assert last["text"].startswith("Calibrating delay loop...")
    assert ctl("kernel", "kill", "mute").returncode == 0


@pytest.mark.parametrize("name", SECONDARIES)
def test_log_and_dump_of_a_kernel_that_panicked(client: Client, tmp_path: Path, name: str) -> None:
    release = SECONDARIES[name]
    bring_up(client, release, image_for(release, DIE, tmp_path))
    client.wait_kernel("web", (KernelState.CRASHED,), 60)
    crashed = time.time()
    time.sleep(1)  # for the grace after which its CPUs are reset
    done = ctl("kernel", "dmesg", "web")
    assert (done.returncode, done.stderr) == (0, "")
    log = done.stdout.splitlines()
    assert log[0].startswith("[    0.000000] Linux version " + release)
    assert "before the end" in done.stdout
    assert "Kernel panic - not syncing: sysrq triggered crash" in done.stdout
    assert "---[ end Kernel panic" in log[-1]

    panic = next(line for line in ctl("kernel", "dmesg", "-T", "web").stdout.splitlines()
                 if "Kernel panic - not" in line)  # fmt: skip
    at = time.mktime(time.strptime(panic[1:25], "%a %b %d %H:%M:%S %Y"))
    assert abs(at - crashed) < 30

    core, text = tmp_path / "web.core", tmp_path / "log.txt"
    done = ctl("kernel", "dump", "web", "-o", str(core))
    assert done.returncode == 0, done.stderr
    assert core.stat().st_blocks * 512 < core.stat().st_size
    subprocess.run(["makedumpfile", "--dump-dmesg", core, text], check=True, capture_output=True)
    # makedumpfile repeats the time on every line of a message.
    found = text.read_text(errors="replace").splitlines()
    assert [line for line in log if line not in found] == []
    assert ctl("kernel", "kill", "web").returncode == 0
