# SPDX-License-Identifier: GPL-2.0
"""The C side: the uapi header, and the tables and prototypes that the core's netlink code needs.

The tables are plain ``struct genl_ops`` with a policy per command, which Linux 6.1 knows as well as
the newest kernel does (``struct genl_split_ops`` came in 6.2).
"""

from __future__ import annotations

import textwrap

from codegen.spec import Attribute, Operation, Spec

__all__ = ("source", "source_header", "uapi_header")

#: A policy keeps a short bound in a signed 16-bit field (struct nla_policy, include/net/netlink.h);
#: larger ones go through a struct netlink_range_validation.
SHORT_BOUND_MAX = 2**15 - 1

#: Columns that comments are wrapped to; those of the kernel's coding style.
WIDTH = 80


def _comment(lines: list[str]) -> list[str]:
    return ["/**", *(f" * {line}".rstrip() for line in lines), " */"]


def _wrap(first: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"{first}{text}", WIDTH - 3, subsequent_indent="  ", break_on_hyphens=False
    )


def _enum(name: str, doc: str, members: list[tuple[str, int, str]]) -> list[str]:
    """A kernel-doc comment and an enum of (C name, value, doc)."""
    comment = _wrap(f"enum {name} - ", doc)
    for member, _, text in members:
        comment += _wrap(f"@{member}: ", text)
    body = []
    following = 0
    for member, value, _ in members:
        body.append(f"\t{member}," if value == following else f"\t{member} = {value},")
        following = value + 1
    return [*_comment(comment), f"enum {name} {{", *body, "};", ""]


def uapi_header(spec: Spec, banner: list[str]) -> str:
    """The header that programs include: constants, enums, attributes and commands, with docs."""
    guard = f"_UAPI_{spec.c_name('h')}"
    lines = [
        "/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */",
        *(f"/* {line} */" for line in banner),
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "/*",
        *(f" * {line}" for line in textwrap.wrap(spec.doc, WIDTH - 3, break_on_hyphens=False)),
        " */",
        "",
        f'#define {spec.c_name("family-name")}\t"{spec.name}"',
        f"#define {spec.c_name('family-version')}\t{spec.version}",
        "",
    ]
    for const in spec.consts:
        lines += [f"/* {line} */" for line in _wrap("", const.doc)]
        lines += [f"#define {spec.c_name(const.name)}\t{const.value}", ""]
    for enum in spec.enums:
        members = [(spec.c_name(enum.name, e.name), e.value, e.doc) for e in enum.entries]
        lines += _enum(spec.c_name(enum.name).lower(), enum.doc, members)
    for group in spec.sets:
        prefix = ("a", group.name)
        attributes = [
            (spec.c_name(*prefix, a.name), a.value, f"({_type(a)}) {a.doc}")
            for a in group.attributes
        ]
        doc = f"Attributes of the set `{group.name}`."
        lines += _enum(spec.c_name(*prefix).lower(), doc, attributes)
        lines += _maximum(spec.c_name(*prefix, "max"), attributes[-1][0])
    commands = [(spec.c_name("cmd", op.name), op.value, op.doc) for op in spec.operations]
    doc = "Commands and notifications."
    lines += _enum(spec.c_name("cmd").lower(), doc, commands)
    lines += _maximum(spec.c_name("cmd", "max"), commands[-1][0])
    for mcgrp in spec.mcast_groups:
        lines.append(f'#define {spec.c_name("mcgrp", mcgrp)}\t"{mcgrp}"')
    lines += ["", f"#endif /* {guard} */"]
    return "\n".join(lines) + "\n"


def _maximum(name: str, last: str) -> list[str]:
    # Not a member of the enum, as elsewhere: kernel-doc would want it described.
    return [f"#define {name}\t{last}", ""]


def _type(attribute: Attribute) -> str:
    words = attribute.type
    if attribute.multi:
        words += ", any number of times"
    return words


def _handler(op: Operation, kind: str) -> str:
    return f"pcn_nl_{op.name.replace('-', '_')}_{kind}"


def _commands(spec: Spec) -> list[Operation]:
    return [op for op in spec.operations if op.notify is None]


def source_header(spec: Spec, banner: list[str]) -> str:
    """Declares the tables, and the handlers: one that is forgotten is an error at link time."""
    lines = [
        "/* SPDX-License-Identifier: GPL-2.0 */",
        *(f"/* {line} */" for line in banner),
        "#ifndef _PCN_CORE_NL_GEN_H",
        "#define _PCN_CORE_NL_GEN_H",
        "",
        "#include <net/genetlink.h>",
        "",
        '#include "../uapi/popcorn.h"',
        "",
        "/* Indices into pcn_nl_mcgrps, as genlmsg_multicast() takes them. */",
        "enum {",
        *(f"\tPCN_NLGRP_{name.replace('-', '_').upper()}," for name in spec.mcast_groups),
        "\tPCN_NL_NR_MCGRPS",
        "};",
        "",
        f"#define PCN_NL_NR_OPS\t{len(_commands(spec))}",
        "",
        "extern const struct genl_ops pcn_nl_ops[PCN_NL_NR_OPS];",
        "extern const struct genl_multicast_group pcn_nl_mcgrps[PCN_NL_NR_MCGRPS];",
        "",
        "/* Handlers, in nl.c. */",
    ]
    for op in _commands(spec):
        if op.do:
            name = _handler(op, "doit")
            lines.append(f"int {name}(struct sk_buff *skb, struct genl_info *info);")
        if op.dump:
            name = _handler(op, "dumpit")
            lines.append(f"int {name}(struct sk_buff *skb, struct netlink_callback *cb);")
    lines += ["", "#endif /* _PCN_CORE_NL_GEN_H */"]
    return "\n".join(lines) + "\n"


def _range_name(set_name: str, attribute: Attribute) -> str:
    return f"pcn_nl_{set_name}_{attribute.name}_range".replace("-", "_")


def _policy(set_name: str, attribute: Attribute) -> str:
    """The initialiser of a policy entry."""
    if attribute.type == "string":
        return f"{{ .type = NLA_NUL_STRING, .len = {attribute.max_len}, }}"
    if attribute.type == "flag":
        return "{ .type = NLA_FLAG, }"
    kind = f"NLA_{attribute.type.upper()}"
    low, high = attribute.minimum or None, attribute.maximum
    if low is None and high is None:
        return f"{{ .type = {kind}, }}"
    if _needs_range(attribute):
        return f"NLA_POLICY_FULL_RANGE({kind}, &{_range_name(set_name, attribute)})"
    if high is None:
        return f"NLA_POLICY_MIN({kind}, {low})"
    if low is None:
        return f"NLA_POLICY_MAX({kind}, {high})"
    return f"NLA_POLICY_RANGE({kind}, {low}, {high})"


def _needs_range(attribute: Attribute) -> bool:
    return max(attribute.minimum or 0, attribute.maximum or 0) > SHORT_BOUND_MAX


def source(spec: Spec, banner: list[str]) -> str:
    """The policies, the operations and the multicast groups."""
    lines = [
        "// SPDX-License-Identifier: GPL-2.0",
        *(f"/* {line} */" for line in banner),
        "",
        "#include <net/genetlink.h>",
        "#include <net/netlink.h>",
        "",
        '#include "nl_gen.h"',
        "",
        *_ranges(spec),
        *_dump_start(spec),
    ]
    for op in _commands(spec):
        lines += _policy_table(spec, op)
    lines.append("const struct genl_ops pcn_nl_ops[PCN_NL_NR_OPS] = {")
    for op in _commands(spec):
        lines += _op(spec, op)
    lines += ["};", ""]
    lines.append("const struct genl_multicast_group pcn_nl_mcgrps[PCN_NL_NR_MCGRPS] = {")
    for name in spec.mcast_groups:
        index = f"PCN_NLGRP_{name.replace('-', '_').upper()}"
        lines.append(f"\t[{index}] = {{ .name = {spec.c_name('mcgrp', name)}, }},")
    lines.append("};")
    return "\n".join(lines) + "\n"


def _ranges(spec: Spec) -> list[str]:
    wanted: dict[str, Attribute] = {}
    for op in _commands(spec):
        for name in op.request:
            attribute = spec.set(op.attribute_set)[name]
            if _needs_range(attribute):
                wanted[_range_name(op.attribute_set, attribute)] = attribute
    if not wanted:
        return []
    lines = ["/* Not const: a policy of Linux 6.1 takes a pointer to a range that might change. */"]
    for variable, attribute in wanted.items():
        suffix = "ULL" if attribute.type == "u64" else ""
        lines.append(f"static struct netlink_range_validation {variable} = {{")
        if attribute.minimum:
            lines.append(f"\t.min = {attribute.minimum}{suffix},")
        if attribute.maximum is not None:
            lines.append(f"\t.max = {attribute.maximum}{suffix},")
        else:
            lines.append(f"\t.max = {attribute.type.upper()}_MAX,")
        lines += ["};", ""]
    return lines


def _dump_start(spec: Spec) -> list[str]:
    if not any(_bare_dump(op) for op in spec.operations):
        return []
    return [
        "/*",
        " * The policy of a command holds for its dump too, and lets more through.",
        " * Linux 6.1 hands no extack to a dump: there, it is EINVAL without a message.",
        " */",
        "static int pcn_nl_dump_start(struct netlink_callback *cb)",
        "{",
        "\tif (!nlmsg_attrlen(cb->nlh, GENL_HDRLEN))",
        "\t\treturn 0;",
        '\tNL_SET_ERR_MSG(cb->extack, "a dump takes no attributes");',
        "\treturn -EINVAL;",
        "}",
        "",
    ]


def _bare_dump(op: Operation) -> bool:
    return op.dump and not op.dump_request and bool(op.request)


def _policy_name(op: Operation) -> str:
    return f"pcn_nl_{op.name}_policy".replace("-", "_")


def _policy_max(spec: Spec, op: Operation) -> str:
    group = spec.set(op.attribute_set)
    last = max((group[name] for name in op.request), key=lambda attribute: attribute.value)
    return spec.c_name("a", op.attribute_set, last.name)


def _policy_table(spec: Spec, op: Operation) -> list[str]:
    if not op.request:
        return []
    group = spec.set(op.attribute_set)
    last = _policy_max(spec, op)
    lines = [f"static const struct nla_policy {_policy_name(op)}[{last} + 1] = {{"]
    for attribute in sorted((group[name] for name in op.request), key=lambda a: a.value):
        index = spec.c_name("a", group.name, attribute.name)
        lines.append(f"\t[{index}] = {_policy(group.name, attribute)},")
    return [*lines, "};", ""]


def _op(spec: Spec, op: Operation) -> list[str]:
    fields = [("cmd", spec.c_name("cmd", op.name))]
    if op.do:
        fields.append(("doit", _handler(op, "doit")))
    if _bare_dump(op):
        fields.append(("start", "pcn_nl_dump_start"))
    if op.dump:
        fields.append(("dumpit", _handler(op, "dumpit")))
    if op.request:
        fields.append(("policy", _policy_name(op)))
        fields.append(("maxattr", _policy_max(spec, op)))
    if op.admin:
        fields.append(("flags", "GENL_ADMIN_PERM"))
    return ["\t{", *(f"\t\t.{name:<8}= {value}," for name, value in fields), "\t},"]
