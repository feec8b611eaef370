# SPDX-License-Identifier: GPL-2.0
"""Text for man(7): what must be escaped, and the few macros that our pages use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection

__all__ = ("bold", "code", "escape", "guard", "italic", "paragraphs", "prose", "refer")

# groff_char(7): these are printed as something else when written plainly. A hyphen that is copied
# from a page must be the one that the shell knows.
_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}

_OPTION = r"(?<![\w-])--?[A-Za-z][\w-]*"
_PLACEHOLDER = r"\b[A-Z]{4,}\b"


def escape(text: str) -> str:
    """`text`, printed as it is."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def guard(line: str) -> str:
    """An escaped line that is not taken for a request."""
    return f"\\&{line}" if line.startswith(".") else line


def bold(text: str) -> str:
    """What is typed as it is."""
    return f"\\fB{escape(text)}\\fR"


def italic(text: str) -> str:
    """What something else is put for."""
    return f"\\fI{escape(text)}\\fR"


def refer(page: str) -> str:
    """`name(8)` as such references look; without a section it is 1. Never broken."""
    name, _, section = page.rstrip(")").partition("(")
    return f"\\fB\\%{escape(name)}\\fR({section or 1})"


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a docstring, each on one line."""
    clean = inspect.cleandoc(text.partition("\f")[0])
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", clean) if part.strip()]


def prose(text: str, options: Collection[str], placeholders: Collection[str]) -> list[str]:
    """A paragraph's lines, one for each sentence: troff puts its own space between them.

    Of the words, those in `options` become bold and those in `placeholders` italic.
    """

    def mark(sentence: str) -> str:
        out = ""
        for piece in re.split(f"({_OPTION}|{_PLACEHOLDER})", sentence):
            if piece in options:
                out += bold(piece)
            elif piece in placeholders:
                out += italic(piece)
            else:
                out += escape(piece)
        return guard(out)

    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z-])", " ".join(text.split()))
    return [mark(sentence) for sentence in sentences]


def code(lines: str) -> list[str]:
    """Command lines, indented and in a fixed font."""
    shown = [guard(escape(line)) for line in lines.strip("\n").split("\n")]
    return [".RS 4", ".EX", *shown, ".EE", ".RE"]
