# SPDX-License-Identifier: GPL-2.0
"""The initramfs: what is in it, and what is refused. Modules and busybox are made up."""

from __future__ import annotations

import dataclasses
import gzip
import lzma
import re
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from popcorn.errors import ImageError
from popcorn.image import (
    Entry,
    build_image,
    cpio,
    elf,
    find,
    find_busybox,
    find_modules,
    initramfs,
    inspect,
    scripts,
)
from popcorn.link import private_address

RELEASE = "6.1.0-56-amd64"
VERMAGIC = f"{RELEASE} SMP preempt mod_unload modversions "
APPLETS = (*initramfs.LIGHT_APPLETS, "[", "busybox", "halt", "init", "poweroff", "reboot", "vi")


def make_elf(*, machine: int = 62, sections: bytes = b"", segments: bytes = b"") -> bytes:
    """Return an ELF64 header with the given parts behind it, segments first."""
    at = 64 + len(segments)
    return (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 1, machine, 1, 0, 64, at, 0, 64, 56, len(segments) // 56,
                      64, len(sections) // 64, 0)
        + segments
        + sections
    )  # fmt: skip


def make_module(vermagic: str = VERMAGIC, depends: str = "") -> bytes:
    info = f"license=GPL\0depends={depends}\0name=x\0vermagic={vermagic}\0\0".encode()
    names = b".shstrtab\0.modinfo\0"
    at = 64 + 2 * 64

    def section(name: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0)

    table = section(0, at, len(names)) + section(10, at + len(names), len(info))
    return make_elf(sections=table) + names + info


def make_program(interpreter: bytes = b"") -> bytes:
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, 4096)
    if interpreter:
        at = 64 + 2 * 56
        segments += struct.pack("<IIQQQQQQ", 3, 4, at, 0, 0, len(interpreter), 0, 1)
    return make_elf(segments=segments) + interpreter


MODULES = {"popcorn": make_module(), "popcorn_net": make_module(depends="popcorn")}
BUSYBOX = make_program()


def contents(data: bytes) -> dict[str, Entry]:
    return {entry.name: entry for entry in cpio.read(gzip.decompress(data))}


def test_light() -> None:
    data = build_image("light", RELEASE, MODULES, BUSYBOX)
    files = contents(data)
    assert files["init"].mode == stat.S_IFREG | 0o755
    assert files["lib/modules/popcorn.ko"].data == MODULES["popcorn"]
    assert files["etc/popcorn/modules"].data == b"popcorn\npopcorn_net\n"
    assert files["bin/sh"].data == b"busybox"
    assert files["dev/kmsg"].device == (1, 11)
    assert files["dev/null"].mode == stat.S_IFCHR | 0o666
    assert files["sbin/poweroff"].mode & 0o111
    assert files["sbin/reboot"].mode & 0o111
    assert scripts.RUN not in files
    assert scripts.TERMINALS not in files
    assert "bin/vi" not in files


def test_light_has_just_the_commands_that_the_scripts_use() -> None:
    shell = {
        "case", "cd", "do", "done", "echo", "esac", "exec", "exit", "export", "for", "if", "then",
        "elif", "else", "fi", "in", "read", "return", "set", "trap", "wait", "while",
    }  # fmt: skip
    text = "\n".join(
        line.partition(" #")[0]
        for line in (scripts.INIT + scripts.POWEROFF + scripts.REBOOT).decode().splitlines()
        if not line.startswith("#")
    )
    functions = set(re.findall(r"^(\w+)\(\)", text, re.MULTILINE))
    position = r"(?:^|\$\(|&&|\|\|?|[;)]|(?<!\$)\{|\b(?:do|if|then|while)\b)[ \t]*(?:IFS= )?"
    used = set(re.findall(position + r"([a-z_]+)\b(?![=(*.])", text, re.MULTILINE))
    assert used - shell - functions == set(initramfs.LIGHT_APPLETS) - {"sh"}


def test_shell() -> None:
    files = contents(build_image("shell", RELEASE, MODULES, BUSYBOX, applets=APPLETS))
    assert files["bin/vi"].data == b"busybox"
    assert files["bin/["].data == b"busybox"
    assert "etc/passwd" in files
    assert "etc/group" in files
    assert files[scripts.TERMINALS].mode == stat.S_IFREG | 0o755
    assert stat.S_ISDIR(files["root"].mode)
    # Those have scripts of their own, which a link in bin must not shadow.
    for name in ("poweroff", "reboot", "halt"):
        assert f"bin/{name}" not in files
        assert f"sbin/{name}" in files


def test_same_bytes() -> None:
    def make() -> bytes:
        return build_image("light", RELEASE, MODULES, BUSYBOX, b"#!/bin/sh\n")

    assert make() == make()


def test_run_script_and_extra() -> None:
    extra = [cpio.file("srv/www/index.html", b"hello")]
    data = build_image("light", RELEASE, MODULES, BUSYBOX, b"echo hi\n", extra=extra)
    files = contents(data)
    assert files[scripts.RUN] == cpio.file(scripts.RUN, b"echo hi\n", 0o755)
    assert files["srv/www/index.html"].data == b"hello"
    assert list(files).index("srv") < list(files).index("srv/www/index.html")
    assert inspect(data).runs


@pytest.mark.parametrize("level", [1, 6])
def test_inspect(level: int) -> None:
    data = build_image("light", RELEASE, MODULES, BUSYBOX, level=level)
    info = inspect(data)
    assert (info.profile, info.release) == ("light", RELEASE)
    assert [module.name for module in info.modules] == ["popcorn", "popcorn_net"]
    assert {module.vermagic for module in info.modules} == {VERMAGIC}
    assert info.modules[0].size == len(MODULES["popcorn"])
    assert info.size == len(data)
    assert info.unpacked_size == len(gzip.decompress(data))
    assert info.files == tuple(sorted(contents(data)))
    assert not info.runs


def test_inspect_unpacked() -> None:
    data = build_image("light", RELEASE, MODULES, BUSYBOX)
    plain = gzip.decompress(data)
    assert inspect(plain) == dataclasses.replace(inspect(data), size=len(plain))


def gzip_with_manifest(text: bytes) -> bytes:
    return gzip.compress(cpio.write([cpio.directory("etc"), cpio.file(initramfs.MANIFEST, text)]))


GOOD = build_image("light", RELEASE, MODULES, BUSYBOX)
BAD_IMAGES = {
    "empty": (b"", "neither"),
    "xz": (lzma.compress(b"x"), "neither"),
    "cut": (GOOD[:-10], "truncated"),
    "damaged": (GOOD[:200] + bytes(8) + GOOD[208:], "damaged"),
    "cut inside": (gzip.compress(gzip.decompress(GOOD)[:3000]), "truncated"),
    "foreign": (gzip.compress(cpio.write([cpio.file("init", b"")])), "not made by"),
    "no json": (gzip_with_manifest(b"{"), "damaged"),
    "no object": (gzip_with_manifest(b"[]"), "damaged"),
    "lacking": (gzip_with_manifest(b'{"format": 1}'), "damaged"),
    "other format": (
        gzip_with_manifest(b'{"format": 2, "profile": "", "release": "", "modules": []}'),
        "damaged",
    ),
    "not utf-8": (gzip_with_manifest(b"\xff\xfe\xfd"), "damaged"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_inspect_bad(case: str) -> None:
    data, words = BAD_IMAGES[case]
    with pytest.raises(ImageError, match=words) as caught:
        inspect(data, "web.img")
    assert caught.value.message.startswith("web.img: ")
    assert caught.value.hint


Build = Callable[[], bytes]
BAD_BUILDS: dict[str, tuple[Build, str]] = {
    "profile": (lambda: build_image("huge", RELEASE, MODULES, BUSYBOX), "no image profile"),  # type: ignore[arg-type]
    "no module": (lambda: build_image("light", RELEASE, {}, BUSYBOX), "must be popcorn"),
    "order": (
        lambda: build_image("light", RELEASE, dict(reversed(MODULES.items())), BUSYBOX),
        "must be popcorn",
    ),
    "other release": (
        lambda: build_image("light", "6.12.1", MODULES, BUSYBOX),
        f"popcorn.ko is built for {RELEASE}, not for 6.12.1",
    ),
    "release is a prefix": (
        lambda: build_image("light", "6.1.0-56", MODULES, BUSYBOX),
        "not for 6.1.0-56",
    ),
    "no vermagic": (
        lambda: build_image("light", RELEASE, {"popcorn": make_module("")}, BUSYBOX),
        "an unknown kernel",
    ),
    "depends": (
        lambda: build_image(
            "light", RELEASE, MODULES | {"x": make_module(depends="popcorn,virtio-net")}, BUSYBOX
        ),
        "x.ko needs virtio-net",
    ),
    "module name": (
        lambda: build_image("light", RELEASE, MODULES | {"../x": make_module()}, BUSYBOX),
        "no name of a module",
    ),
    "no module file": (
        lambda: build_image("light", RELEASE, {"popcorn": b"text"}, BUSYBOX),
        "popcorn.ko: not a 64-bit ELF",
    ),
    "program as module": (
        lambda: build_image("light", RELEASE, {"popcorn": make_elf(sections=bytes(64))}, BUSYBOX),
        "no .modinfo",
    ),
    "arm module": (
        lambda: build_image("light", RELEASE, {"popcorn": make_elf(machine=183)}, BUSYBOX),
        "another architecture",
    ),
    "dynamic busybox": (
        lambda: build_image("light", RELEASE, MODULES, make_program(b"/lib64/ld.so\0")),
        "not static",
    ),
    "no busybox": (lambda: build_image("light", RELEASE, MODULES, b""), "busybox: not a 64-bit"),
    "small busybox": (
        lambda: build_image("light", RELEASE, MODULES, BUSYBOX, applets=("sh",)),
        "busybox lacks cat, hostname",
    ),
    "shell without commands": (
        lambda: build_image("shell", RELEASE, MODULES, BUSYBOX),
        "needs the list",
    ),
    "empty script": (lambda: build_image("light", RELEASE, MODULES, BUSYBOX, b" \n"), "empty"),
    "extra twice": (
        lambda: build_image("light", RELEASE, MODULES, BUSYBOX, extra=[cpio.file("init", b"")]),
        "init is there twice",
    ),
}


@pytest.mark.parametrize("case", BAD_BUILDS)
def test_build_bad(case: str) -> None:
    build, words = BAD_BUILDS[case]
    with pytest.raises(ImageError) as caught:
        build()
    assert words in caught.value.message
    assert caught.value.hint


def test_every_cut_of_a_module_is_an_error() -> None:
    data = make_module()
    for length in range(len(data)):
        with pytest.raises(ImageError):
            elf.modinfo(data[:length], "x")


def test_elf_garbage_gives_no_other_error() -> None:
    data = make_module()
    for at in range(0x20, 64 + 128):
        broken = bytearray(data)
        broken[at] = 0xFF
        for read in (elf.modinfo, elf.interpreter):
            try:
                read(bytes(broken), "x")
            except ImageError as error:
                assert error.message.startswith("x: ")


@pytest.mark.parametrize("folder", find.MODULE_FOLDERS)
@pytest.mark.parametrize("suffix", find.UNPACKERS)
def test_find_modules(folder: str, suffix: str, tmp_path: Path) -> None:
    data = MODULES["popcorn"]
    if suffix == ".zst":
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        packed = subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout
    else:
        packed = {"": data, ".xz": lzma.compress(data), ".gz": gzip.compress(data)}[suffix]
    path = tmp_path / "b" / RELEASE / folder / f"popcorn.ko{suffix}"
    path.parent.mkdir(parents=True)
    path.write_bytes(packed)
    assert find_modules(RELEASE, [tmp_path / "a", tmp_path / "b"]) == {"popcorn": data}


def test_find_modules_keeps_order_and_prefers_ours(tmp_path: Path) -> None:
    for folder, content in (("extra", b"old"), ("updates/popcorn", b"new")):
        path = tmp_path / RELEASE / folder
        path.mkdir(parents=True)
        for name in ("popcorn", "popcorn_net"):
            (path / f"{name}.ko").write_bytes(content + name.encode())
    names = ("popcorn_net", "popcorn")
    found = find_modules(RELEASE, [tmp_path], names)
    assert list(found.items()) == [("popcorn_net", b"newpopcorn_net"), ("popcorn", b"newpopcorn")]


def test_find_modules_brings_what_they_need(tmp_path: Path) -> None:
    tree = tmp_path / "b" / RELEASE
    for name in ("updates/popcorn/popcorn.ko", "extra/popcorn_vsock.ko", "kernel/net/vsock.ko",
                 "kernel/net/virtio-common.ko.xz"):  # fmt: skip
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        data = Path(name).name.encode()
        (tree / name).write_bytes(lzma.compress(data) if name.endswith(".xz") else data)
    # In the order in which depmod writes them: what is needed by others comes last.
    (tree / "modules.dep").write_text(
        "updates/popcorn/popcorn.ko:\n"
        "kernel/net/vsock.ko:\n"
        "kernel/net/virtio-common.ko.xz: kernel/net/vsock.ko\n"
        "extra/popcorn_vsock.ko: updates/popcorn/popcorn.ko kernel/net/virtio-common.ko.xz"
        " kernel/net/vsock.ko\n"
    )
    found = find_modules(RELEASE, [tmp_path / "a", tmp_path / "b"], ("popcorn", "popcorn_vsock"))
    assert list(found.items()) == [
        ("popcorn", b"popcorn.ko"),
        ("vsock", b"vsock.ko"),
        ("virtio_common", b"virtio-common.ko.xz"),
        ("popcorn_vsock", b"popcorn_vsock.ko"),
    ]


def test_find_modules_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"no module popcorn for {RELEASE}") as caught:
        find_modules(RELEASE, [tmp_path])
    assert str(tmp_path / RELEASE / "updates/dkms") in caught.value.message
    assert RELEASE in caught.value.hint


def test_find_modules_does_without_what_is_optional(tmp_path: Path) -> None:
    tree = tmp_path / RELEASE
    for name in ("extra/popcorn.ko", "kernel/net/vsock.ko", "extra/popcorn_tty.ko"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(Path(name).name.encode())
    # The vsock module itself is missing, and what only it needs is not taken along.
    (tree / "modules.dep").write_text(
        "kernel/net/vsock.ko:\nextra/popcorn_vsock.ko: kernel/net/vsock.ko\n"
    )
    names, optional = ("popcorn", "popcorn_vsock", "popcorn_tty"), ("popcorn_vsock", "popcorn_tty")
    found = find_modules(RELEASE, [tmp_path], names, optional=optional)
    assert list(found) == ["popcorn", "popcorn_tty"]
    with pytest.raises(ImageError, match="no module popcorn_vsock"):
        find_modules(RELEASE, [tmp_path], names, optional=("popcorn_tty",))


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_find_modules_damaged(suffix: str, tmp_path: Path) -> None:
    if suffix == ".zst" and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    path = tmp_path / RELEASE / "extra" / f"popcorn.ko{suffix}"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"garbage")
    with pytest.raises(ImageError) as caught:
        find_modules(RELEASE, [tmp_path])
    assert caught.value.message.startswith(str(path))


def test_find_modules_without_zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / RELEASE / "extra/popcorn.ko.zst"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="zstd is not installed") as caught:
        find_modules(RELEASE, [tmp_path])
    assert caught.value.hint == "install zstd"


def test_find_busybox_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="none is installed") as caught:
        find_busybox([tmp_path / "busybox"])
    assert caught.value.hint == "install busybox-static"


def test_find_busybox_unfit(tmp_path: Path) -> None:
    dynamic, text = tmp_path / "dynamic", tmp_path / "text"
    dynamic.write_bytes(make_program(b"/lib64/ld-linux-x86-64.so.2\0"))
    text.write_text("#!/bin/sh\n")
    with pytest.raises(ImageError) as caught:
        find_busybox([dynamic, text])
    assert f"{dynamic} is not static" in caught.value.message
    assert f"{text}: not a 64-bit ELF file" in caught.value.message
    assert caught.value.hint == "install busybox-static"


def test_find_busybox_that_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "busybox"
    path.write_bytes(BUSYBOX)
    with pytest.raises(ImageError, match="--list failed"):
        find_busybox([path])


def real_busybox() -> find.Busybox:
    try:
        return find_busybox()
    except ImageError as error:
        pytest.skip(error.message)


def test_real_busybox() -> None:
    busybox = real_busybox()
    data = build_image("shell", RELEASE, MODULES, busybox.data, applets=busybox.applets)
    assert len(inspect(data).files) > 200


@pytest.mark.parametrize("script", ["INIT", "POWEROFF", "REBOOT", "TERMINALS_SCRIPT"])
def test_scripts_are_shell(script: str, tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_bytes(getattr(scripts, script))
    subprocess.run([real_busybox().path, "sh", "-n", path], check=True)


def test_init_passes_parameters(tmp_path: Path) -> None:
    """Run the function that picks a module's words from the command line."""
    text = scripts.INIT.decode()
    body = text[text.index("parameters() {") :].partition("\n}\n")[0] + "\n}\n"
    line = tmp_path / "cmdline"
    line.write_text(
        "quiet popcorn.name=web popcorn.fabric=0x7f000000 popcorn_net.mtu=9000 "
        "popcorn.node=1 popcorn.flag xpopcorn.a=1 popcorn.node=2 popcorn.glob=*\n"
    )
    body = "set -f\n" + body.replace("/proc/cmdline", str(line))
    shell = real_busybox().path

    def words(module: str) -> list[str]:
        done = subprocess.run(
            [shell, "sh", "-c", f"{body}\nparameters {module}"],
            capture_output=True, text=True, check=True, cwd="/",
        )  # fmt: skip
        return done.stdout.split()

    assert words("popcorn") == ["fabric=0x7f000000", "node=1", "node=2", "glob=*"]
    assert words("popcorn_net") == ["mtu=9000"]
    assert words("popcorn_tty") == []


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("quiet", ["link add popcorn0 type popcorn", "addr add 10.16.255.4/24 dev popcorn0",
                   "link set popcorn0 up", "route add default via 10.16.255.1"]),
        ("popcorn_link.address=10.0.0.1/8 popcorn_link.mtu=9000 popcorn_link.address=fd00::1/64",
         ["link add popcorn0 type popcorn", "addr add 10.0.0.1/8 dev popcorn0",
          "addr add fd00::1/64 dev popcorn0", "link set popcorn0 mtu 9000 up"]),
        ("popcorn_link.address=", ["link add popcorn0 type popcorn", "link set popcorn0 up"]),
        ("popcorn_link.address=10.0.0.2/8 popcorn_link.gateway=10.0.0.1",
         ["link add popcorn0 type popcorn", "addr add 10.0.0.2/8 dev popcorn0",
          "link set popcorn0 up", "route add default via 10.0.0.1"]),
    ],
    ids=["default", "given", "none", "gateway"],
)  # fmt: skip
def test_init_sets_up_the_link(line: str, calls: list[str], tmp_path: Path) -> None:
    """Run the function with another `ip`, and another /proc and /sys."""
    text = scripts.INIT.decode()
    body = text[text.index("set_up_link() {") :].partition("load_all() {")[0]
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text(line + "\n")
    (tmp_path / "sys/module/popcorn_net").mkdir(parents=True)
    (tmp_path / "sys/class/net/popcorn0").mkdir(parents=True)
    (tmp_path / "sys/class/net/popcorn0/address").write_text("02:50:7f:10:ff:03\n")
    body = body.replace("/proc/", f"{tmp_path}/proc/").replace("/sys/", f"{tmp_path}/sys/")
    body = body.replace("$(ip ", "$(fake_ip ")
    fakes = f'fake_ip() {{ echo "$*" >>{tmp_path}/calls; }}\nsay() {{ :; }}\nfail() {{ exit 9; }}\n'
    shell = [real_busybox().path, "sh", "-c", f"set -f\n{fakes}{body}\nset_up_link"]
    subprocess.run(shell, check=True, cwd="/")
    assert (tmp_path / "calls").read_text().splitlines() == calls
    if line == "quiet":
        assert calls[1].split()[2] == private_address(0x7F10FF, 3)
