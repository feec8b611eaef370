# SPDX-License-Identifier: GPL-2.0
"""The Python side: enums and the tables that the netlink client and its tests read.

The text is written in the form that ``ruff format`` would give it.
"""

from __future__ import annotations

from codegen.spec import Spec

__all__ = ("module",)

_NLA_TYPES = {"u32": "uint32", "u64": "uint64", "string": "asciiz", "flag": "flag"}


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def _member(name: str) -> str:
    return name.replace("-", "_").upper()


def _enum(name: str, doc: str, members: list[tuple[str, int]]) -> list[str]:
    lines = ["", "", f"class {name}(IntEnum):", f'    """{doc}"""', ""]
    return lines + [f"    {_member(member)} = {value}" for member, value in members]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def module(spec: Spec, banner: list[str]) -> str:
    """The generated module's text."""
    names = [
        "DOCS",
        "DO_SET",
        "FAMILY",
        "MCAST_GROUPS",
        "MULTI",
        "NLA_MAPS",
        "VERSION",
        "Cmd",
        *(_member(const.name) for const in spec.consts),
        *(_camel(enum.name) for enum in spec.enums),
        *(f"{_camel(group.name)}Attr" for group in spec.sets),
    ]
    # The order that ruff wants: constants, classes, the rest.
    names.sort(key=lambda name: (not name.isupper(), name))
    lines = [
        "# SPDX-License-Identifier: GPL-2.0",
        *(f"# {line}" for line in banner),
        '"""The numbers, names and types of the netlink protocol.',
        "",
        "`NLA_MAPS` holds pyroute2's ``nla_map`` of each attribute set, `DO_SET` the set of each",
        "command and notification, `MULTI` the attributes that may come any number of times,",
        "`DOCS` what each command, attribute and enum entry means, by its C name.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from enum import IntEnum",
        "",
        "__all__ = (",
        *(f'    "{name}",' for name in names),
        ")",
        "",
        f'FAMILY = "{spec.name}"',
        f"VERSION = {spec.version}",
    ]
    for const in spec.consts:
        lines += ["", f"#: {const.doc}", f"{_member(const.name)} = {const.value}"]
    commands = [(op.name, op.value) for op in spec.operations]
    lines += _enum("Cmd", "Commands and notifications.", commands)
    for enum in spec.enums:
        lines += _enum(_camel(enum.name), enum.doc, [(e.name, e.value) for e in enum.entries])
    for group in spec.sets:
        doc = f"Attributes of the set `{group.name}`."
        members = [(a.name, a.value) for a in group.attributes]
        lines += _enum(f"{_camel(group.name)}Attr", doc, members)
    lines += ["", ""]
    lines += _maps(spec)
    multi = sorted(
        spec.c_name("a", group.name, attribute.name)
        for group in spec.sets
        for attribute in group.attributes
        if attribute.multi
    )
    lines += ["", "MULTI: frozenset[str] = frozenset("]
    lines += ["    {", *(f'        "{name}",' for name in multi), "    }", ")"]
    lines += ["", "DO_SET: dict[Cmd, str] = {"]
    lines += [f'    Cmd.{_member(op.name)}: "{op.attribute_set}",' for op in spec.operations]
    lines += ["}", "", "MCAST_GROUPS: tuple[str, ...] = ("]
    lines += [*(f'    "{name}",' for name in spec.mcast_groups), ")"]
    lines += ["", "DOCS: dict[str, str] = {"]
    for name, doc in _docs(spec).items():
        line = f"    {_quoted(name)}: {_quoted(doc)},"
        lines.append(line if len(line) <= 100 else f"{line}  # noqa: E501")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _maps(spec: Spec) -> list[str]:
    lines = ["NLA_MAPS: dict[str, tuple[tuple[str, str], ...]] = {"]
    for group in spec.sets:
        by_value = {attribute.value: attribute for attribute in group.attributes}
        lines.append(f'    "{group.name}": (')
        # A map has no gaps: its position is the attribute's number.
        for value in range(max(by_value) + 1):
            if value in by_value:
                attribute = by_value[value]
                name = spec.c_name("a", group.name, attribute.name)
                lines.append(f'        ("{name}", "{_NLA_TYPES[attribute.type]}"),')
            else:
                suffix = "unspec" if value == 0 else f"reserved-{value}"
                lines.append(f'        ("{spec.c_name("a", group.name, suffix)}", "none"),')
        lines.append("    ),")
    return [*lines, "}"]


def _docs(spec: Spec) -> dict[str, str]:
    docs = {spec.c_name("cmd", op.name): op.doc for op in spec.operations}
    docs |= {
        spec.c_name("a", group.name, attribute.name): attribute.doc
        for group in spec.sets
        for attribute in group.attributes
    }
    docs |= {
        spec.c_name(enum.name, entry.name): entry.doc
        for enum in spec.enums
        for entry in enum.entries
    }
    return docs
