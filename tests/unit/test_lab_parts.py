# SPDX-License-Identifier: GPL-2.0
"""The lab's initramfs, its table of suites, and the mirror that modules are built in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from setup import kernels, modules
from setup.paths import ROOT
from setup.shell import SetupError

from labvm import initramfs, suites


def test_modules_load_after_what_they_need() -> None:
    dep = "k/9p.ko.xz: k/9pnet.ko.xz k/netfs.ko.xz\nk/netfs.ko.xz:\nk/9pnet.ko.xz:\nk/o-x.ko:\n"
    builtin = "kernel/drivers/virtio/linked-in.ko\n"
    assert initramfs.load_order(dep, builtin, ("o-x", "9p", "9pnet", "linked-in")) == [
        "k/o-x.ko",
        "k/netfs.ko.xz",
        "k/9pnet.ko.xz",
        "k/9p.ko.xz",
    ]


def test_a_kernel_that_cannot_reach_the_root_is_refused() -> None:
    with pytest.raises(SetupError, match="has no 9p"):
        initramfs.load_order("k/overlay.ko:\n", "k/ext4.ko\n", ("overlay", "9p"))


def test_the_job_quotes_for_the_guests_shell(tmp_path: Path) -> None:
    words = ("printf", "%s|", "a b", "it's", "$HOME", "x\ny", "")
    job = initramfs.job(words, {"A": "1 '2' $3"}, [], cwd=Path("/a b"), shared=Path("/o"))
    script = job["environment"] + job["settings"] + b'printf "%s|%s|" "$A" "$LAB_CWD"\n'
    done = subprocess.run(["sh"], input=script + job["command"], capture_output=True, check=True)
    assert done.stdout.decode() == "1 '2' $3|/a b|a b|it's|$HOME|x\ny||"


def test_a_shell_has_no_command() -> None:
    assert "command" not in initramfs.job((), {}, [], cwd=Path("/"), shared=Path("/o"))


def test_the_table_of_suites_is_valid_and_has_all_suites() -> None:
    boots = suites.read(suites.TABLE.read_text(), suites.ROOT)
    assert {name for boot in boots for name in boot.suites} == {"test", "matrix", "debug", "soak"}
    assert len({boot.name for boot in boots}) == len(boots)


def test_a_boot_runs_its_tests_on_its_machine(tmp_path: Path) -> None:
    for name in ("test_b.py", "test_a.py", "other.py"):
        (tmp_path / name).touch()
    text = """[[boot]]
name = "x"
suites = ["test"]
cpus = 6
secondaries = ["6.12"]
pytest = ["-x"]
tests = ["test_a.py", "test_*.py"]
"""
    (boot,) = suites.read(text, tmp_path)
    assert boot.options.cpus == 6
    assert boot.options.secondaries == ("6.12",)
    assert boot.options.command == (*suites.PYTEST, "-x", "test_a.py", "test_b.py")


def test_the_matrix_runs_what_make_test_leaves_out() -> None:
    slow = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests/lab").glob("test_*.py")
        if "pytest.mark.slow" in path.read_text()
    }
    assert slow
    boots = suites.read(suites.TABLE.read_text(), ROOT)
    run = {
        path
        for boot in boots
        if "matrix" in boot.suites and boot.options.kernel == "6.1"
        for path in boot.files
        if boot.options.command == (*suites.PYTEST, *boot.files)
    }
    assert slow <= run


def test_boots_beside_each_other_each_say_what_they_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.py").touch()
    boot = '[[boot]]\nname = "{}"\nsuites = ["test"]\ntests = ["t.py"]\n{}\n'
    table = tmp_path / "suites.toml"
    table.write_text(boot.format("a", "") + boot.format("b", "alone = true") + boot.format("c", ""))
    monkeypatch.setattr(suites, "TABLE", table)
    monkeypatch.setattr(suites, "ROOT", tmp_path)
    monkeypatch.setattr(suites, "SUMMARY", tmp_path / "summary")
    monkeypatch.setattr(suites.modules, "build", lambda name: None)
    compiled: list[str] = []
    monkeypatch.setattr(suites, "compile_tests", compiled.extend)
    beside: list[str] = []

    def child(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        beside.append(words[-1])
        status = int(words[-1] == "c")
        return subprocess.CompletedProcess(words, status, f"much\n{words[-1]} is over\n".encode())

    monkeypatch.setattr(suites.subprocess, "run", child)
    monkeypatch.setattr(suites, "run_boot", lambda boot: (0, f"{boot.name} was alone"))
    assert suites.run("test", 2) == 1
    assert sorted(beside) == ["a", "c"]
    assert (tmp_path / "summary").read_text() == "a is over\nb was alone\nc is over\n"
    assert capsys.readouterr().out.count("much\n") == 2
    assert compiled == ["t.py"]
    # One at a time, none is a process of its own.
    beside.clear()
    assert suites.run("test", 1) == 0
    assert beside == []


def test_tests_are_compiled_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "test_it.py").write_text("def test_it():\n    raise SystemExit\n")
    (tmp_path / "test_no.py").write_text("this is no Python")
    suites.compile_tests(["test_it.py", "test_no.py"], tmp_path)
    (made,) = (tmp_path / "__pycache__").iterdir()
    assert made.name.startswith("test_it.") and "pytest" in made.name


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ('tests = ["missing_*.py"]', "no file matches"),
        ('tests = ["t.py"]\ncpu = 3', "says cpu"),
        ("", "lacks 'tests'"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, extra: str, complaint: str) -> None:
    (tmp_path / "t.py").touch()
    with pytest.raises(SetupError, match=complaint):
        suites.read(f'[[boot]]\nname = "x"\nsuites = []\n{extra}\n', tmp_path)


@pytest.mark.parametrize(
    ("name", "package", "release"),
    [
        ("6.1", "linux-image-6.1.0-56-amd64", "6.1.0-56-amd64"),
        ("6.1-rt", "linux-image-6.1.0-56-rt-amd64", "6.1.0-56-rt-amd64"),
        ("6.12", "linux-image-6.12.107+deb13-amd64", "6.12.107+deb13-amd64"),
        ("6.1", "linux-image-6.1.0-56-rt-amd64", None),
        ("6.1", "linux-image-6.1.0-56-amd64-unsigned", None),
        ("6.1", "linux-image-6.12.107+deb13-amd64", None),
        ("6.12", "linux-image-6.12.107+deb13-amd64-dbg", None),
    ],
)
def test_package_names_give_releases(name: str, package: str, release: str | None) -> None:
    match = kernels.SOURCES[name].package.fullmatch(package)
    assert (match and match[1]) == release


def test_the_mirror_follows_the_source_and_keeps_what_was_built(tmp_path: Path) -> None:
    source, target = tmp_path / "kmod", tmp_path / "out"
    (source / "core").mkdir(parents=True)
    for name in ("Kbuild", "core/a.c", "core/b.c", "core/notes.md"):
        (source / name).write_text(name)
    assert modules.mirror(source, target)
    assert not (target / "core/notes.md").exists()
    for built in ("core/a.o", "popcorn.mod.c"):
        (target / built).write_text("built")
    stamp = (target / "core/a.c").stat().st_mtime_ns
    assert not modules.mirror(source, target)
    assert (target / "core/a.c").stat().st_mtime_ns == stamp

    (source / "core/b.c").unlink()
    (source / "core/a.c").write_text("changed")
    os.utime(source / "core/a.c", (1, 1))
    assert modules.mirror(source, target)
    assert not (target / "core/b.c").exists()
    assert (target / "core/a.c").read_text() == "changed"
    assert (target / "core/a.o").exists() and (target / "popcorn.mod.c").exists()
