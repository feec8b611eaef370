# SPDX-License-Identifier: GPL-2.0
"""``PYTHONPATH=tools python3 -m codegen [--check] [--renumber]``, from the top of the checkout."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from codegen import emit_c, emit_md, emit_py
from codegen.spec import Spec, SpecError, check_append_only, load
from codegen.stale import report

__all__ = ("main", "outputs", "promised_ids")

SPEC = Path("kmod/uapi/popcorn.yaml")
HEADER = Path("kmod/uapi/popcorn.h")
BANNER = [
    f"GENERATED from {SPEC} by `make gen`",
    "(PYTHONPATH=tools python3 -m codegen). Do not edit.",
]

EMITTERS: Mapping[Path, Callable[[Spec, list[str]], str]] = {
    HEADER: emit_c.uapi_header,
    Path("kmod/core/nl_gen.h"): emit_c.source_header,
    Path("kmod/core/nl_gen.c"): emit_c.source,
    Path("tools/popcorn/uapi/netlink_gen.py"): emit_py.module,
    Path("docs/reference/netlink.md"): emit_md.page,
}


def outputs(spec: Spec) -> dict[Path, str]:
    """Every generated file's text, by its path relative to the checkout."""
    return {path: emit(spec, BANNER) for path, emit in EMITTERS.items()}


def promised_ids(header: str) -> dict[str, int]:
    """The ids that a generated uapi header gives, C name to number."""
    ids: dict[str, int] = {}
    for body in re.findall(r"^enum \w+ \{\n(.*?)^\};", header, re.MULTILINE | re.DOTALL):
        following = 0
        for name, value in re.findall(r"^\t([A-Z]\w*)(?: = (\d+))?,$", body, re.MULTILINE):
            following = int(value) if value else following
            ids[name] = following
            following += 1
    return ids


def _check(root: Path, texts: Mapping[Path, str]) -> int:
    old = {
        path: (root / path).read_text(encoding="utf-8") for path in texts if (root / path).exists()
    }
    stale = report(old, texts, f"as {SPEC} wants it")
    if stale:
        sys.stderr.write(
            f"codegen: {stale} of {len(texts)} files are not current; run `make gen`\n"
        )
    return 1 if stale else 0


def _write(root: Path, texts: Mapping[Path, str]) -> None:
    for path, text in texts.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # Untouched when nothing changed, so that make does not build again.
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None, root: Path = Path()) -> int:
    """Write the outputs below `root`, or compare with them; returns the exit status."""
    parser = argparse.ArgumentParser(prog="codegen", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail if something would change"
    )
    parser.add_argument(
        "--renumber",
        action="store_true",
        help="let ids move or vanish: only for what has never been in a release",
    )
    options = parser.parse_args(arguments)
    try:
        spec = load(root / SPEC)
        header = root / HEADER
        if header.exists() and not options.renumber:
            check_append_only(promised_ids(header.read_text(encoding="utf-8")), spec)
    except SpecError as error:
        sys.stderr.write(f"codegen: {SPEC}: {error}\n")
        return 1
    texts = outputs(spec)
    if options.check:
        return _check(root, texts)
    _write(root, texts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
