# SPDX-License-Identifier: GPL-2.0
"""The manual pages: they have all that the command has, and man(1) can show them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from codegen import man, man_words, roff
from popcorn import cli as package
from popcorn.cli import cli
from popcorn.cli.base import Settings

ROOT = Path(__file__).parents[2]
COMMITTED = sorted((ROOT / man.DIRECTORY).glob("*.1"))


def tree(command: click.Command = cli, path: tuple[str, ...] = ()):
    """Every command by its path; does not use the generator's own walk."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from tree(command.get_command(click.Context(command), name), (*path, name))


TREE = dict(tree())
IDS = [" ".join(path) or "popcornctl" for path in TREE]


def committed(path: tuple[str, ...]) -> str:
    return (ROOT / man.DIRECTORY / f"{'-'.join(('popcornctl', *path))}.1").read_text("utf-8")


def section(page: str, title: str) -> str:
    """A section of a page's source; empty if it has none."""
    found = re.search(rf"^\.SH {title}\n(.*?)(?=^\.SH |\Z)", page, re.M | re.S)
    return found[1] if found else ""


def test_committed_pages_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    status = man.main(["--check"], ROOT)
    assert (status, capsys.readouterr().err) == (0, "")


@pytest.mark.parametrize("seed", range(1, 7))
def test_pages_are_the_same_in_every_process(seed: int) -> None:
    # Click keeps some of what it knows in sets.
    done = subprocess.run(
        [sys.executable, "-m", "codegen.man", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "tools", "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_tree_is_seen_whole() -> None:
    assert len(TREE) > 20
    assert ("kernel", "start") in TREE and ("trace", "latency") in TREE


@pytest.mark.parametrize("path", TREE, ids=IDS)
def test_every_option_and_argument_has_an_entry(path: tuple[str, ...]) -> None:
    page = committed(path)
    options, arguments = section(page, "OPTIONS"), section(page, "ARGUMENTS")
    for parameter in TREE[path].params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            if isinstance(parameter, click.Option):
                typed = re.escape(name.replace("-", r"\-"))
                assert re.search(rf"^\.TP\n.*\\fB{typed}\\fR.*\n\S", options, re.M), name
            else:
                assert re.search(rf"^\.TP\n\\fI{name.upper()}\\fR\n\S", arguments, re.M), name
    assert r"\fB\-\-help\fR" in options


@pytest.mark.parametrize("path", TREE, ids=IDS)
def test_every_command_is_in_the_page_of_its_group(path: tuple[str, ...]) -> None:
    if not path:
        return
    name = "-".join(("popcornctl", *path)).replace("-", r"\-")
    assert rf"\fB\%{name}\fR(1)" in section(committed(path[:-1]), "COMMANDS")


@pytest.mark.parametrize("path", TREE, ids=IDS)
def test_every_page_has_what_a_page_has(path: tuple[str, ...]) -> None:
    page = committed(path)
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
        assert section(page, title), title
    codes = re.findall(r"^\.TP\n\\fB(\d+)\\fR$", section(page, "EXIT STATUS"), re.M)
    known = (0, package.EXIT_FAILED, package.EXIT_USAGE, package.EXIT_INTERRUPTED)
    assert codes == [str(code) for code in known] == ["0", "1", "2", "130"]


def test_references_lead_to_pages() -> None:
    others = {
        "diod(8)",
        "dmesg(1)",
        "ethtool(8)",
        "ip-link(8)",
        "makedumpfile(8)",
        "modprobe(8)",
        "udev(7)",
    }
    ours = {f"{path.stem}(1)" for path in COMMITTED}
    ours |= {f"{path.stem}(8)" for path in (ROOT / "tracing/man").glob("*.8")}
    for path in TREE:
        for name, number in re.findall(
            r"\\fB\\%(\S+?)\\fR(\(\d\))", section(committed(path), "SEE ALSO")
        ):
            assert name.replace(r"\-", "-") + number in ours | others, path


def test_every_variable_that_is_read_is_described() -> None:
    read = set()
    for folder in ("popcorn", "popcorn_tracing"):
        for source in (ROOT / "tools" / folder).rglob("*.py"):
            read |= set(re.findall(r'environ\.get\(\s*"(\w+)"', source.read_text("utf-8")))
    assert read == set(man_words.ENVIRONMENT)
    described = section(committed(()), "ENVIRONMENT")
    assert all(rf"\fB{name}\fR" in described for name in read)


def command_lines() -> list[tuple[str, list[str]]]:
    """The calls of popcornctl in the examples, with the page that they are in."""
    found = []
    for page, words in man_words.WORDS.items():
        for _, commands in words.examples:
            for line in commands.replace("\\\n", " ").replace("|\n", "| ").split("\n"):
                lexer = shlex.shlex(line, punctuation_chars=True, posix=True)
                lexer.whitespace_split = True
                call: list[str] = []
                for word in [*lexer, ";"]:
                    if set(word) <= set("();<>|&"):
                        if call[:1] == ["popcornctl"]:
                            found.append((page, call[1:]))
                        call = []
                    else:
                        call.append(word)
    return found


@pytest.mark.parametrize(("page", "words"), command_lines())
def test_examples_are_right_usage(page: str, words: list[str]) -> None:
    context = cli.make_context("popcornctl", list(words), obj=Settings())
    path = []
    while isinstance(context.command, click.Group):
        rest = [*context.protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        path.append(name)
        context = command.make_context(name, rest, parent=context)
    assert not context.args


def test_every_command_has_an_example_of_itself() -> None:
    shown = {page for page, words in command_lines() if " ".join(words).startswith(page)}
    leaves = {" ".join(p) for p, command in TREE.items() if not isinstance(command, click.Group)}
    assert leaves <= shown


def test_example_lines_fit_a_terminal() -> None:
    for words in man_words.WORDS.values():
        for _, commands in words.examples:
            assert max(map(len, commands.split("\n"))) <= 68, commands


@pytest.fixture
def group() -> click.Group:
    """A command of its own, with what the generator must not miss."""

    @click.group(name="popcornctl")
    def top() -> None:
        """Do things."""

    return top


def build(group: click.Group, monkeypatch: pytest.MonkeyPatch, **words: man_words.Words) -> str:
    listed = {"": man_words.Words(), **words}
    monkeypatch.setattr(man, "WORDS", listed)
    return man.outputs(group)[man.DIRECTORY / "popcornctl-do.1"]


DO = man_words.Words(examples=(("Do:", "popcornctl do"),))


def test_a_command_without_words_is_refused(group, monkeypatch) -> None:
    group.command("do", help="Do it.")(lambda: None)
    with pytest.raises(man.WordsError, match="popcornctl-do has no entry"):
        build(group, monkeypatch)
    with pytest.raises(man.WordsError, match="popcornctl-do has no example"):
        build(group, monkeypatch, do=man_words.Words())


def test_a_command_without_help_is_refused(group, monkeypatch) -> None:
    group.command("do")(lambda: None)
    with pytest.raises(man.WordsError, match="popcornctl-do has no help"):
        build(group, monkeypatch, do=DO)


def test_words_for_nothing_are_refused(group, monkeypatch) -> None:
    group.command("do", help="Do it.")(lambda: None)
    with pytest.raises(man.WordsError, match="no command: undo"):
        build(group, monkeypatch, do=DO, undo=DO)


def test_an_argument_without_words_is_refused(group, monkeypatch) -> None:
    group.command("do", help="Do it.")(click.argument("thing")(lambda thing: None))
    with pytest.raises(man.WordsError, match="THING"):
        build(group, monkeypatch, do=DO)


def test_an_option_without_help_is_refused(group, monkeypatch) -> None:
    group.command("do", help="Do it.")(click.option("--fast")(lambda fast: None))
    with pytest.raises(man.WordsError, match="--fast has no help"):
        build(group, monkeypatch, do=DO)


def test_what_help_says_of_options(group, monkeypatch) -> None:
    def do(**_: object) -> None:
        pass

    for option in (
        click.option(
            "-n", "--times", type=click.IntRange(1, 9), default=2, show_default=True, help="N."
        ),
        click.option("--how", type=click.Choice(["well", "badly"]), required=True, help="How."),
        click.option("--fast/--slow", help="Speed, for which --how is better."),
        click.option("--secret", hidden=True),
    ):
        do = option(do)
    group.command("do", help="Do it.")(do)
    page = build(group, monkeypatch, do=DO)
    assert (
        ".TP\n\\fB\\-n\\fR, \\fB\\-\\-times\\fR \\fIN\\fR\nN.\nFrom 1 to 9.\nDefault: 2.\n" in page
    )
    assert ".TP\n\\fB\\-\\-how\\fR \\fBwell\\fR|\\fBbadly\\fR\nHow.\nMust be given.\n" in page
    assert "\\fB\\-\\-fast\\fR, \\fB\\-\\-slow\\fR\nSpeed, for which \\fB\\-\\-how\\fR is" in page
    assert "[\\fIOPTION\\fR...] \\fB\\-\\-how\\fR \\fBwell\\fR|\\fBbadly\\fR\n" in page
    assert "secret" not in page


def test_pages_of_commands_that_are_gone_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert man.main([], tmp_path) == 0
    stale = tmp_path / man.DIRECTORY / "popcornctl-old.1"
    stale.write_text("old\n")
    assert man.main(["--check"], tmp_path) == 1
    assert "1 pages are not current; run `make docs`" in capsys.readouterr().err
    assert man.main([], tmp_path) == 0
    assert not stale.exists()
    assert man.main(["--check"], tmp_path) == 0


def test_escapes() -> None:
    assert roff.escape(r"a-b\c'd`e^f~g") == r"a\-b\ec\(aqd\(gae\(haf\(tig"
    assert roff.guard(".ko") == r"\&.ko"
    assert roff.code("x\n.y")[2:4] == ["x", r"\&.y"]
    assert roff.prose("See --all. Not --any: NAME, NAMES.", {"--all"}, {"NAME"}) == [
        r"See \fB\-\-all\fR.",
        r"Not \-\-any: \fINAME\fR, NAMES.",
    ]


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man-db")
@pytest.mark.parametrize("path", [*COMMITTED, *sorted((ROOT / "tracing/man").glob("*.8"))], ids=str)
def test_man_shows_it_without_a_warning(path: Path) -> None:
    done = subprocess.run(
        ["man", "-l", "--warnings", "-E", "UTF-8", path],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "SEE ALSO" in done.stdout
    widths = {len(line) for line in done.stdout.splitlines()}
    assert max(widths) <= 80


@pytest.mark.skipif(shutil.which("lexgrog") is None, reason="needs man-db")
def test_apropos_finds_them() -> None:
    done = subprocess.run(["lexgrog", *COMMITTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for path, line in zip(COMMITTED, done.stdout.splitlines(), strict=True):
        assert line.startswith(f'{path}: "{path.stem} - ')
