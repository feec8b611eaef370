# SPDX-License-Identifier: GPL-2.0
"""``PYTHONPATH=tools python3 -m codegen.man [--check]``, from the top of the checkout.

Makes popcornctl's manual pages from its own commands and what man_words.py adds to their help.
Debian's click-man looks for sub-commands where ours, which are imported late, are not, and knows
neither arguments, exit codes, files nor examples.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from codegen.man_words import ENVIRONMENT, EXITS, FILES, ROOT, WORDS, Words
from codegen.roff import bold, code, escape, italic, paragraphs, prose, refer
from codegen.stale import report
from popcorn.cli import cli

__all__ = ("DIRECTORY", "Page", "WordsError", "main", "outputs", "pages", "render")

DIRECTORY = Path("docs/reference/man")
BANNER = r".\" GENERATED from the commands of popcornctl by `make docs`. Do not edit."


class WordsError(Exception):
    """A command, an argument or a file of the command tree has no words, or words have nothing."""


@dataclass(frozen=True)
class Page:
    """A command or group of the tree; `path` are the words of the command line, without the root.

    `context` is what click makes of it, which knows its parents and its usage.
    """

    path: tuple[str, ...]
    context: click.Context

    @property
    def command(self) -> click.Command:
        """The command."""
        return self.context.command

    @property
    def name(self) -> str:
        """The page's name, and what it is called in SEE ALSO."""
        return "-".join((ROOT, *self.path))

    @property
    def words(self) -> Words:
        """What is written by hand; WordsError if nothing is."""
        key = " ".join(self.path)
        if key not in WORDS:
            raise WordsError(f"{self.name} has no entry in WORDS")
        return WORDS[key]

    @property
    def line(self) -> str:
        """What it does in one line, as NAME wants it."""
        help_ = paragraphs(self.command.help or "")
        if not help_:
            raise WordsError(f"{self.name} has no help")
        first = help_[0].removesuffix(".")
        return first[0].lower() + first[1:]

    def children(self) -> Iterator[Page]:
        """The pages of a group's commands."""
        if isinstance(self.command, click.Group):
            for name in self.command.list_commands(self.context):
                command = self.command.get_command(self.context, name)
                if command is not None and not command.hidden:
                    yield Page((*self.path, name), _context(command, name, self.context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    """The context that click would run the command in: it says how help is asked for."""
    return click.Context(command, parent, name, **command.context_settings)


def pages(root: click.Command = cli) -> Iterator[Page]:
    """A page for every command and group, parents first."""
    waiting = [Page((), _context(root, ROOT, None))]
    while waiting:
        page = waiting.pop(0)
        yield page
        waiting[:0] = page.children()


def _value(option: click.Option) -> str:
    """What an option takes, as a placeholder or as the words to choose from; empty for a flag."""
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return option.metavar
    kind = option.type
    if isinstance(kind, click.Choice):
        return "|".join(kind.choices)
    if isinstance(kind, click.types.IntParamType):
        return "N"
    return kind.name.upper()


def _spelled(option: click.Option, names: list[str]) -> str:
    """Names and value with their fonts: typed is bold, put in is italic."""
    value = _value(option)
    # Short ones first. Click gives those of --help in the order of a set, another in each process.
    shown = ", ".join(bold(name) for name in sorted(names, key=lambda n: n.startswith("--")))
    if not value:
        return shown
    mark = bold if isinstance(option.type, click.Choice) and not option.metavar else italic
    return f"{shown} " + "|".join(mark(word) for word in value.split("|"))


def _bounds(option: click.Option) -> list[str]:
    """What click's help puts into brackets, as sentences."""
    facts = []
    if isinstance(option.type, click.IntRange):
        low, high = option.type.min, option.type.max
        if low is not None and high is not None:
            facts.append(f"From {low} to {high}.")
        elif low is not None:
            facts.append(f"At least {low}.")
        elif high is not None:
            facts.append(f"At most {high}.")
    if option.show_default and option.default is not None:
        facts.append(f"Default: {option.default}.")
    if option.required:
        facts.append("Must be given.")
    return [escape(fact) for fact in facts]


def _options(page: Page) -> list[click.Option]:
    found = page.command.get_params(page.context)  # --help is among them
    return [item for item in found if isinstance(item, click.Option) and not item.hidden]


def _arguments(page: Page) -> list[str]:
    """Placeholders of the arguments, that of a traced command too."""
    usage = page.command.collect_usage_pieces(page.context)
    if isinstance(page.command, click.Group):
        return []
    names = []
    for piece in usage:
        for word in piece.strip("[]").split():
            name = word.strip("[].")
            if name.isupper() and name != "OPTIONS":
                names.append(name)
            elif name.startswith("{"):  # a choice: shown as its words, called after the argument
                names.extend(
                    (item.name or "").upper()
                    for item in page.command.params
                    if isinstance(item, click.Argument) and isinstance(item.type, click.Choice)
                )
    return names


def _synopsis(page: Page) -> str:
    parts = [bold(" ".join((ROOT, *page.path)))]
    for piece in page.command.collect_usage_pieces(page.context):
        if piece == "[OPTIONS]":
            parts.append(f"[{italic('OPTION')}...]")
            parts.extend(_spelled(item, item.opts[-1:]) for item in _options(page) if item.required)
        elif piece.startswith("{"):
            parts.append("|".join(bold(word) for word in piece.strip("{}").split("|")))
        else:
            for word in piece.split():
                name = word.strip("[].")
                before, _, after = word.partition(name)
                mark = bold if name.startswith("-") else italic
                parts.append(escape(before) + mark(name) + escape(after))
    return " ".join(parts)


def _definitions(pairs: Mapping[str, list[str]]) -> list[str]:
    return [line for term, body in pairs.items() for line in (".TP", term, *body)]


def _see(page: Page, every: Mapping[tuple[str, ...], Page]) -> list[str]:
    """References: the group that it is in, the others of that group, its own, and those by hand."""
    group = page.path[:-1]
    # All that popcornctl itself has would say nothing about one of them.
    groups = [page.path, group] if group else [page.path]
    found = {
        other.name + "(1)"
        for path, other in every.items()
        if path != page.path and (path == group or (path and path[:-1] in groups))
    }
    found |= set(page.words.see)
    # man-pages(7): by section, then by name.
    listed = sorted(found, key=lambda name: (name.rpartition("(")[2], name))
    return [",\n".join(refer(name) for name in listed)]


def render(page: Page, every: Mapping[tuple[str, ...], Page]) -> str:
    """The page; WordsError if something of the command is not described, or what is not there."""
    words = page.words
    options = _options(page)
    arguments = _arguments(page)
    if sorted(arguments) != sorted(words.arguments):
        raise WordsError(f"{page.name} takes {arguments}, WORDS has {list(words.arguments)}")
    if not words.examples and not isinstance(page.command, click.Group):
        raise WordsError(f"{page.name} has no example in WORDS")
    for option in options:
        if not option.help:
            raise WordsError(f"{page.name}: {option.opts[-1]} has no help")
    spelled = {name for option in options for name in option.opts}
    for sibling in every.values():
        # Help may name the options of a command that it sends the reader to.
        spelled |= {name for option in _options(sibling) for name in option.opts}
    holders = {*arguments, *(_value(option) for option in options)} - {""}

    def text(paragraph: str) -> list[str]:
        return prose(paragraph, spelled, holders)

    first, *rest = paragraphs(page.command.help or "")
    lines = [
        r".\" SPDX-License-Identifier: GPL-2.0",
        BANNER,
        f'.TH {escape(page.name.upper())} 1 "" "Popcorn" "User Commands"',
        # Left-adjusted, and names are not broken: they are to be copied.
        ".nr HY 0",
        ".ad l",
        ".SH NAME",
        f"{escape(page.name)} \\- {escape(page.line)}",
        ".SH SYNOPSIS",
        _synopsis(page),
        ".SH DESCRIPTION",
        *text(first),
    ]
    for paragraph in rest:
        lines += [".PP", *text(paragraph)]
    children = {refer(c.name): text(c.line[0].upper() + c.line[1:] + ".") for c in page.children()}
    sections = {
        "COMMANDS": children,
        "ARGUMENTS": {italic(name): text(words.arguments[name]) for name in arguments},
        "OPTIONS": {
            _spelled(option, [*option.opts, *option.secondary_opts]): [
                *text(option.help or ""),
                *_bounds(option),
            ]
            for option in options
        },
        "EXIT STATUS": {
            bold(str(status)): text(what) for status, what in {**EXITS, **words.exits}.items()
        },
        "ENVIRONMENT": {bold(name): text(ENVIRONMENT[name]) for name in words.environment},
        "FILES": {_file(name): text(FILES[name]) for name in words.files},
    }
    for title, entries in sections.items():
        if entries:
            lines += [f".SH {title}", *_definitions(entries)]
    if words.examples:
        lines.append(".SH EXAMPLES")
        for number, (sentence, commands) in enumerate(words.examples):
            lines += [".PP"] * bool(number) + [*text(sentence), ".PP", *code(commands)]
    lines += [".SH SEE ALSO", *_see(page, every)]
    return "\n".join(lines) + "\n"


def _file(name: str) -> str:
    """A path, in which RELEASE stands for a kernel's."""
    before, release, after = name.partition("RELEASE")
    return bold(before) + (italic(release) + bold(after) if release else "").replace("\\fB\\fR", "")


def outputs(root: click.Command = cli) -> dict[Path, str]:
    """Every page's text, by its path relative to the checkout."""
    every = {page.path: page for page in pages(root)}
    gone = set(WORDS) - {" ".join(path) for path in every}
    if gone:
        raise WordsError(f"WORDS has entries for no command: {', '.join(sorted(gone))}")
    return {DIRECTORY / f"{page.name}.1": render(page, every) for page in every.values()}


def _old(root: Path) -> dict[Path, str]:
    found = sorted((root / DIRECTORY).glob("*.1"))
    return {path.relative_to(root): path.read_text(encoding="utf-8") for path in found}


def _check(old: Mapping[Path, str], new: Mapping[Path, str]) -> int:
    stale = report(old, new, "as popcornctl is")
    if stale:
        sys.stderr.write(f"man: {stale} pages are not current; run `make docs`\n")
    return 1 if stale else 0


def main(arguments: list[str] | None = None, root: Path = Path()) -> int:
    """Write the pages below `root`, or compare with them; returns the exit status."""
    parser = argparse.ArgumentParser(prog="codegen.man", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail if something would change"
    )
    options = parser.parse_args(arguments)
    try:
        texts = outputs()
    except WordsError as error:
        sys.stderr.write(f"man: tools/codegen/man_words.py: {error}\n")
        return 1
    old = _old(root)
    if options.check:
        return _check(old, texts)
    (root / DIRECTORY).mkdir(parents=True, exist_ok=True)
    for path in old.keys() - texts.keys():
        (root / path).unlink()
    for path, text in texts.items():
        if old.get(path) != text:
            (root / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
