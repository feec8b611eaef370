# SPDX-License-Identifier: GPL-2.0
"""The reference page of the protocol."""

from __future__ import annotations

from collections.abc import Iterable

from codegen.spec import Attribute, Operation, Spec

__all__ = ("page",)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    cells = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _limits(attribute: Attribute) -> str:
    if attribute.max_len is not None:
        return f"at most {attribute.max_len} bytes"
    if attribute.enum is not None:
        return f"one of [{attribute.enum}](#{attribute.enum})"
    low, high = attribute.minimum, attribute.maximum
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {low}"
    return f"{low or 0} to {high}"


def _operation(op: Operation) -> list[str]:
    lines = [f"### {op.name}", "", op.doc, ""]
    facts = [f"Command {op.value}"]
    if op.notify is not None:
        facts = [f"Notification {op.value}", f"multicast group `{op.mcgrp}`"]
    facts.append(f"attributes of the set [{op.attribute_set}](#set-{op.attribute_set})")
    if op.admin:
        facts.append("needs CAP_NET_ADMIN")
    lines += ["; ".join(facts) + ".", ""]
    if op.notify is not None:
        return [*lines, f"- carries what [{op.notify}](#{op.notify}) replies", ""]
    if op.do:
        lines.append(f"- do, request: {_names(op.request) or 'nothing'}")
        lines.append(f"- do, reply: {_names(op.reply) or 'an acknowledgement only'}")
    if op.dump:
        lines.append(f"- dump, request: {_names(op.dump_request) or 'nothing'}")
        lines.append(f"- dump, reply, one for each: {_names(op.dump_reply) or 'nothing'}")
    return [*lines, ""]


def page(spec: Spec, banner: list[str]) -> str:
    """The page's text, Markdown."""
    lines = [
        *(f"<!-- {line} -->" for line in banner),
        "",
        "# The netlink protocol",
        "",
        f"Generic netlink family `{spec.name}`, version {spec.version}. {spec.doc}",
        "",
        "All requests are validated strictly: an attribute that a command does not take, one out",
        "of range and one of the wrong type are refused with EINVAL or ERANGE, and the extack",
        "names it. Ids are append-only.",
        "",
        "## Operations",
        "",
    ]
    for op in spec.operations:
        lines += _operation(op)
    lines += ["## Attributes", ""]
    for group in spec.sets:
        lines += [f'### <a id="set-{group.name}"></a>Set {group.name}', ""]
        rows = [
            (
                str(a.value),
                f"`{a.name}`",
                f"{a.type}, repeated" if a.multi else a.type,
                _limits(a),
                a.doc,
            )
            for a in group.attributes
        ]
        lines += [*_table(("Id", "Name", "Type", "Limits", "Meaning"), rows), ""]
    lines += ["## Enumerations", ""]
    for enum in spec.enums:
        lines += [f"### {enum.name}", "", enum.doc, ""]
        entries = [(str(e.value), f"`{e.name}`", e.doc) for e in enum.entries]
        lines += [*_table(("Value", "Name", "Meaning"), entries), ""]
    lines += ["## Constants", ""]
    consts = [(f"`{spec.c_name(c.name)}`", str(c.value), c.doc) for c in spec.consts]
    lines += [*_table(("Name", "Value", "Meaning"), consts), ""]
    lines += ["## Multicast groups", "", *(f"- `{name}`" for name in spec.mcast_groups)]
    return "\n".join(lines) + "\n"
