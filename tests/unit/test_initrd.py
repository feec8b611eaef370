# SPDX-License-Identifier: GPL-2.0
"""The initramfs that a start uses: made, cached, or given."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path

import pytest

from popcorn import image, initrd
from popcorn.cli import main
from popcorn.errors import ImageError
from popcorn.initrd import cache_directory, find_initrd, make_initrd

BUSYBOX = Path("/bin/busybox")


def module_file(release, note=""):
    """An ELF file with nothing in it but what modinfo reads (elf(5))."""
    info = f"name=popcorn\0vermagic={release} SMP\0note={note}\0".encode()
    names = b".shstrtab\0.modinfo\0"

    def section(name, offset, size):
        return struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0)

    at = 64 + 2 * 64
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 2, 0)
    return (
        header + section(0, at, len(names)) + section(10, at + len(names), len(info)) + names + info
    )


def write_modules(machine):
    for name in initrd.MODULES:
        machine.write(
            f"/lib/modules/{machine.release}/updates/popcorn/{name}.ko",
            module_file(machine.release),
        )


@pytest.fixture
def ready(machine):
    """A machine with a module and a busybox for it."""
    if not BUSYBOX.exists():
        pytest.skip("needs busybox-static")
    (machine.root / "bin").mkdir(parents=True)
    (machine.root / "bin/busybox").symlink_to(BUSYBOX)
    write_modules(machine)
    return machine


def find(machine, profile="light", cache=None):
    return find_initrd(None, profile, machine.release, system=machine.system, cache=cache)


def test_made_for_the_release(ready, tmp_path):
    made = find(ready, cache=tmp_path / "cache")
    assert (made.name, made.size) == ("profile light", len(made.data))
    info = image.inspect(made.data)
    assert (info.profile, info.release) == ("light", ready.release)
    assert [module.name for module in info.modules] == list(initrd.MODULES)


def test_modules_that_are_named_twice_are_in_it_once(ready):
    made = make_initrd("light", ready.release, system=ready.system, extra_modules=["popcorn_net"])
    assert [module.name for module in image.inspect(made.data).modules] == list(initrd.MODULES)


@pytest.mark.parametrize("absent", initrd.MODULES[1:])
def test_only_what_joins_is_needed(ready, absent):
    ready.remove(f"/lib/modules/{ready.release}/updates/popcorn/{absent}.ko")
    names = [module.name for module in image.inspect(find(ready).data).modules]
    assert names == [name for name in initrd.MODULES if name != absent]


def write_root_modules(machine, names=initrd.ROOT_MODULES):
    folder = f"/lib/modules/{machine.release}"
    for name in names:
        machine.write(f"{folder}/kernel/fs/{name}.ko", module_file(machine.release))
    listed = "".join(f"kernel/fs/{name}.ko:\n" for name in names)
    machine.write(f"{folder}/modules.dep", listed)


def test_what_mounts_a_root_is_in_profile_full(ready):
    write_root_modules(ready)
    info = image.inspect(find(ready, "full").data)
    assert info.profile == "full"
    assert [m.name for m in info.modules] == [*initrd.MODULES, *initrd.ROOT_MODULES]
    assert image.scripts.ROOT in info.files
    assert image.scripts.TERMINALS in info.files
    shell = image.inspect(find(ready, "shell").data)
    assert [m.name for m in shell.modules] == list(initrd.MODULES)
    assert image.scripts.ROOT not in shell.files


def test_what_the_kernel_has_built_in_is_no_module(ready):
    write_root_modules(ready, ["9p", "9pnet_fd"])
    ready.write(f"/lib/modules/{ready.release}/modules.builtin", "kernel/fs/overlayfs/overlay.ko\n")
    info = image.inspect(find(ready, "full").data)
    assert [m.name for m in info.modules] == [*initrd.MODULES, "9p", "9pnet_fd"]


@pytest.mark.parametrize("absent", initrd.ROOT_MODULES)
def test_a_kernel_that_cannot_mount_a_root(ready, absent):
    write_root_modules(ready, [n for n in initrd.ROOT_MODULES if n != absent])
    with pytest.raises(
        ImageError, match=f"cannot mount a root over the link: .*{absent}"
    ) as caught:
        find(ready, "full")
    assert "another kernel" in caught.value.hint


def test_a_root_needs_the_link(ready):
    write_root_modules(ready)
    ready.remove(f"/lib/modules/{ready.release}/updates/popcorn/popcorn_net.ko")
    with pytest.raises(
        ImageError, match="cannot mount a root over the link: no module popcorn_net"
    ):
        find(ready, "full")


def test_the_cache_is_used(ready, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = find(ready, cache=cache)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(image, "build_image", None)
    assert find(ready, cache=cache) == first


def test_what_goes_into_it_decides(ready, tmp_path):
    cache = tmp_path / "cache"
    images = {find(ready, cache=cache).data, find(ready, "shell", cache).data}
    ready.write(
        f"/lib/modules/{ready.release}/updates/popcorn/popcorn.ko",
        module_file(ready.release, "rebuilt"),
    )
    images.add(find(ready, cache=cache).data)
    assert len(images) == 3
    assert len(list(cache.glob("*.img"))) == 3


def test_a_run_script_is_not_mistaken_for_none(ready, tmp_path):
    options = {"system": ready.system, "cache": tmp_path / "cache"}
    plain = make_initrd("shell", ready.release, **options)
    run = make_initrd("shell", ready.release, run_script=b"echo hello\n", **options)
    assert not image.inspect(plain.data).runs
    assert image.inspect(run.data).runs


def test_what_a_killed_writer_left_goes(ready, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    for name, age in (("left", 7200), ("being-written", 60)):
        draft = cache / f"{name}.tmp"
        draft.write_bytes(b"x")
        os.utime(draft, (time.time() - age,) * 2)
    find(ready, cache=cache)
    assert [file.stem for file in cache.glob("*.tmp")] == ["being-written"]


def test_the_cache_does_not_grow(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(initrd, "CACHE_KEEP", 2)
    cache = tmp_path / "cache"
    cache.mkdir()
    for number, name in enumerate(("old", "older")):
        (cache / f"{name}.img").write_bytes(b"x")
        os.utime(cache / f"{name}.img", (1000 - number, 1000 - number))
    find(ready, cache=cache)
    assert {path.name for path in cache.iterdir()} >= {"old.img"}
    assert not (cache / "older.img").exists()
    assert not list(cache.glob("*.tmp"))


def test_a_cache_that_cannot_be_written_only_costs_time(ready, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    assert find(ready, cache=blocked / "cache").data


def test_what_is_missing_is_said(machine, tmp_path):
    with pytest.raises(ImageError, match="no module popcorn for 6"):
        find(machine, cache=tmp_path)
    write_modules(machine)
    with pytest.raises(ImageError, match="no static busybox"):
        find(machine, cache=tmp_path)


def test_a_module_of_another_kernel(ready, tmp_path):
    ready.write(
        f"/lib/modules/{ready.release}/updates/popcorn/popcorn.ko", module_file("5.10.0-other")
    )
    with pytest.raises(ImageError, match="is built for 5"):
        find(ready, cache=tmp_path)


def test_profiles_and_releases_that_are_none(machine):
    with pytest.raises(ImageError, match="no profile 'huge'"):
        make_initrd("huge", "6.1", system=machine.system)
    with pytest.raises(ImageError, match="does not say its release"):
        make_initrd("light", "", system=machine.system)


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache_directory() == Path("/var/cache/popcorn")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "popcorn"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache/popcorn"


def test_build_and_inspect_from_the_command_line(ready, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("popcorn.sysfs.System", lambda: ready.system)
    monkeypatch.setattr("popcorn.initrd.System", lambda: ready.system)
    output, script = tmp_path / "out.img", tmp_path / "run.sh"
    script.write_text("echo hello\n")
    arguments = ["image", "build", "--profile", "shell", "--run", str(script), "-o", str(output)]
    assert main([*arguments, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {
        "output": str(output),
        "profile": "shell",
        "release": ready.release,
        "bytes": output.stat().st_size,
    }
    assert main(["image", "inspect", str(output), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["profile"], shown["runs"]) == ("shell", True)
    assert "init" in shown["files"]
    assert main(["image", "inspect", str(output), "--files"]) == 0
    assert "modules  popcorn (" in capsys.readouterr().out
