# SPDX-License-Identifier: GPL-2.0
"""Reads and checks a protocol description.

The schema is the kernel's "genetlink" (Documentation/netlink/genetlink.yaml), less what Popcorn
does without: no nests, no integers other than u32 and u64, no fixed headers. Anything outside of it
is refused, so that no line of the description is silently without effect.

Numbering is that of upstream: enum entries count from 0, attributes and operations from 1, and an
explicit ``value`` moves the count on. Notifications take operation ids in the same sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = (
    "Attribute",
    "AttributeSet",
    "Const",
    "Entry",
    "Enum",
    "Operation",
    "Spec",
    "SpecError",
    "check_append_only",
    "load",
    "parse",
)

#: Attribute types, with the largest value that an integer one holds.
INTEGER_MAX = {"u32": 2**32 - 1, "u64": 2**64 - 1}
TYPES = (*INTEGER_MAX, "string", "flag")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class SpecError(Exception):
    """The description is wrong; the message begins with the path of the item at fault."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where


@dataclass(frozen=True)
class Const:
    """A number that both sides know by name."""

    name: str
    value: int
    doc: str


@dataclass(frozen=True)
class Entry:
    """One value of an enum."""

    name: str
    value: int
    doc: str


@dataclass(frozen=True)
class Enum:
    """A named set of values that u32 attributes may hold."""

    name: str
    doc: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Attribute:
    """One netlink attribute.

    `minimum` and `maximum` bound integers; `max_len` bounds strings, in bytes without the NUL.
    """

    name: str
    value: int
    type: str
    doc: str
    enum: str | None
    multi: bool
    minimum: int | None
    maximum: int | None
    max_len: int | None


@dataclass(frozen=True)
class AttributeSet:
    """A numbering space of attributes; every message carries attributes of one set."""

    name: str
    attributes: tuple[Attribute, ...]

    def __getitem__(self, name: str) -> Attribute:
        return next(attribute for attribute in self.attributes if attribute.name == name)


@dataclass(frozen=True)
class Operation:
    """A command (`do`, `dump`), or a notification: it carries what command `notify` replies.

    That is the reply of `do`, or of `dump` for a command that is a dump only.

    `request` and `reply` hold attribute names of `do`, `dump_request` and `dump_reply` of `dump`.
    """

    name: str
    value: int
    doc: str
    attribute_set: str
    admin: bool
    do: bool
    dump: bool
    request: tuple[str, ...]
    reply: tuple[str, ...]
    dump_request: tuple[str, ...]
    dump_reply: tuple[str, ...]
    notify: str | None
    mcgrp: str | None


@dataclass(frozen=True)
class Spec:
    """A whole, checked description."""

    name: str
    version: int
    doc: str
    consts: tuple[Const, ...]
    enums: tuple[Enum, ...]
    sets: tuple[AttributeSet, ...]
    operations: tuple[Operation, ...]
    mcast_groups: tuple[str, ...]

    def set(self, name: str) -> AttributeSet:
        """The attribute set of that name, which must exist."""
        return next(candidate for candidate in self.sets if candidate.name == name)

    def enum(self, name: str) -> Enum:
        """The enum of that name, which must exist."""
        return next(candidate for candidate in self.enums if candidate.name == name)

    def c_name(self, *parts: str) -> str:
        """The C constant for an item, as upstream would call it: ``c_name("a", "node", "id")``."""
        return "_".join((self.name, *parts)).replace("-", "_").upper()

    def ids(self) -> dict[str, int]:
        """Every number that is part of the ABI, by its C name. Constants are not: they may grow."""
        found = {
            self.c_name(enum.name, entry.name): entry.value
            for enum in self.enums
            for entry in enum.entries
        }
        found |= {
            self.c_name("a", group.name, attribute.name): attribute.value
            for group in self.sets
            for attribute in group.attributes
        }
        return found | {self.c_name("cmd", op.name): op.value for op in self.operations}


class _Item:
    """A mapping in the description and where it is; complains of what it lacks and of leftovers."""

    def __init__(self, where: str, data: object) -> None:
        if not isinstance(data, Mapping):
            raise SpecError(where, f"a mapping is wanted, not {_kind(data)}")
        self.where = where
        self._data = dict(data)

    def _take(self, key: str, kind: type, default: Any) -> Any:
        value = self._data.pop(key, default)
        if value is _MISSING:
            raise SpecError(self.where, f"`{key}` is missing")
        wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        if value is not default and wrong:
            raise SpecError(f"{self.where}.{key}", f"{_KINDS[kind]} is wanted, not {_kind(value)}")
        return value

    def text(self, key: str, *choices: str) -> str:
        value = self._take(key, str, _MISSING)
        if choices and value not in choices:
            raise SpecError(f"{self.where}.{key}", f"`{value}` is none of {', '.join(choices)}")
        return " ".join(value.split())

    def name(self) -> str:
        value = self.text("name")
        if not _NAME.fullmatch(value):
            raise SpecError(f"{self.where}.name", f"`{value}` is not in kebab-case")
        return value

    def has(self, key: str) -> bool:
        return key in self._data

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if self.has(key) else None

    def optional_int(self, key: str) -> int | None:
        value: int | None = self._take(key, int, None)
        return value

    def number(self, key: str) -> int:
        value: int = self._take(key, int, _MISSING)
        return value

    def flag(self, key: str) -> bool:
        value: bool = self._take(key, bool, False)
        return value

    def texts(self, key: str, default: Any = ()) -> tuple[str, ...]:
        values = self._take(key, list, default)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                where = f"{self.where}.{key}[{index}]"
                raise SpecError(where, f"text is wanted, not {_kind(value)}")
        return tuple(values)

    def item(self, key: str) -> _Item | None:
        if key not in self._data:
            return None
        return _Item(f"{self.where}.{key}", self._data.pop(key))

    def items(self, key: str) -> Iterator[_Item]:
        values = self._take(key, list, _MISSING)
        if not values:
            raise SpecError(f"{self.where}.{key}", "the list is empty")
        for index, value in enumerate(values):
            label = value.get("name", index) if isinstance(value, Mapping) else index
            yield _Item(f"{self.where}.{key}[{label}]", value)

    def done(self) -> None:
        if self._data:
            raise SpecError(f"{self.where}.{next(iter(self._data))}", "is not understood here")


_MISSING: Any = object()
_KINDS = {str: "text", int: "a number", list: "a list", bool: "true or false"}


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    return _KINDS.get(type(value), type(value).__name__)


def _unique(where: str, names: list[str], name: str) -> None:
    if name in names:
        raise SpecError(where, f"`{name}` is there twice")
    names.append(name)


def _numbered(item: _Item, following: int, taken: dict[int, str], name: str) -> int:
    """The id of an item: its explicit `value`, else the one that follows."""
    value = item.optional_int("value")
    value = following if value is None else value
    if value < following:
        raise SpecError(f"{item.where}.value", f"{value} goes back behind {following - 1}")
    taken[value] = name
    return value


def _definitions(top: _Item) -> tuple[tuple[Const, ...], tuple[Enum, ...]]:
    consts: list[Const] = []
    enums: list[Enum] = []
    names: list[str] = []
    for item in top.items("definitions"):
        kind = item.text("type", "const", "enum")
        name = item.name()
        _unique(item.where, names, name)
        doc = item.text("doc")
        if kind == "const":
            consts.append(Const(name, item.number("value"), doc))
        else:
            enums.append(Enum(name, doc, _entries(item)))
        item.done()
    return tuple(consts), tuple(enums)


def _entries(parent: _Item) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    names: list[str] = []
    taken: dict[int, str] = {}
    for item in parent.items("entries"):
        name = item.name()
        _unique(item.where, names, name)
        value = _numbered(item, max(taken, default=-1) + 1, taken, name)
        entries.append(Entry(name, value, item.text("doc")))
        item.done()
    return tuple(entries)


def _attribute(item: _Item, value: int, name: str, enums: Mapping[str, Enum]) -> Attribute:
    kind = item.text("type", *TYPES)
    doc = item.text("doc")
    multi = item.flag("multi-attr")
    enum = item.optional_text("enum")
    minimum = maximum = max_len = None
    if enum is not None:
        if enum not in enums:
            raise SpecError(f"{item.where}.enum", f"no enum `{enum}` is defined")
        if kind != "u32":
            raise SpecError(f"{item.where}.enum", f"an enum is a u32, not a {kind}")
        # As upstream does: an attribute that holds an enum takes no value outside of it.
        minimum = min(entry.value for entry in enums[enum].entries) or None
        maximum = max(entry.value for entry in enums[enum].entries)
    checks = item.item("checks")
    if checks is not None:
        if kind in INTEGER_MAX:
            low, high = checks.optional_int("min"), checks.optional_int("max")
            for key, bound in (("min", low), ("max", high)):
                if bound is not None and not 0 <= bound <= INTEGER_MAX[kind]:
                    raise SpecError(f"{checks.where}.{key}", f"{bound} does not fit a {kind}")
            if high is not None and high < (low or 0):
                raise SpecError(f"{checks.where}.max", f"{high} is less than the minimum, {low}")
            if enum is not None and high not in (None, maximum):
                raise SpecError(f"{checks.where}.max", f"{high}, but `{enum}` ends at {maximum}")
            minimum = low if low is not None else minimum
            maximum = high if high is not None else maximum
        elif kind == "string":
            max_len = checks.optional_int("max-len")
            if max_len is not None and not 0 < max_len < 2**16:
                raise SpecError(f"{checks.where}.max-len", f"{max_len} does not fit an attribute")
        checks.done()
    item.done()
    return Attribute(name, value, kind, doc, enum, multi, minimum, maximum, max_len)


def _sets(top: _Item, enums: Mapping[str, Enum]) -> tuple[AttributeSet, ...]:
    sets: list[AttributeSet] = []
    set_names: list[str] = []
    for group in top.items("attribute-sets"):
        set_name = group.name()
        _unique(group.where, set_names, set_name)
        attributes: list[Attribute] = []
        names: list[str] = []
        taken: dict[int, str] = {}
        for item in group.items("attributes"):
            name = item.name()
            _unique(item.where, names, name)
            value = _numbered(item, max(taken, default=0) + 1, taken, name)
            attributes.append(_attribute(item, value, name, enums))
        group.done()
        sets.append(AttributeSet(set_name, tuple(attributes)))
    return tuple(sets)


def _message(parent: _Item, key: str, group: AttributeSet) -> tuple[str, ...]:
    """The attribute names of one direction of a command, each checked to be in the set."""
    item = parent.item(key)
    if item is None:
        return ()
    names = item.texts("attributes", _MISSING)
    item.done()
    known = {attribute.name for attribute in group.attributes}
    seen: list[str] = []
    where = f"{item.where}.attributes"
    for name in names:
        if name not in known:
            raise SpecError(where, f"`{name}` is not in the set `{group.name}`")
        _unique(where, seen, name)
        if key == "request" and group[name].type == "string" and group[name].max_len is None:
            raise SpecError(where, f"`{name}` is a string in a request and has no max-len")
    return names


def _command(item: _Item, name: str, value: int, sets: Mapping[str, AttributeSet]) -> Operation:
    doc = item.text("doc")
    set_name = item.text("attribute-set", *sets)
    flags = item.texts("flags")
    if unknown := [flag for flag in flags if flag != "admin-perm"]:
        raise SpecError(f"{item.where}.flags", f"`{unknown[0]}` is not admin-perm")
    group = sets[set_name]
    request: tuple[str, ...] = ()
    reply = dump_request = dump_reply = request
    do, dump = item.item("do"), item.item("dump")
    if do is None and dump is None:
        raise SpecError(item.where, "there is neither `do` nor `dump` nor `notify`")
    if do is not None:
        request, reply = _message(do, "request", group), _message(do, "reply", group)
        do.done()
    if dump is not None:
        dump_request, dump_reply = _message(dump, "request", group), _message(dump, "reply", group)
        if set(dump_request) - set(request):
            # The kernel keeps one policy per command: a dump can't take what `do` refuses.
            raise SpecError(f"{dump.where}.request", "takes attributes that `do` does not")
        dump.done()
    item.done()
    return Operation(
        name=name,
        value=value,
        doc=doc,
        attribute_set=set_name,
        admin="admin-perm" in flags,
        do=do is not None,
        dump=dump is not None,
        request=request,
        reply=reply,
        dump_request=dump_request,
        dump_reply=dump_reply,
        notify=None,
        mcgrp=None,
    )


def _notification(
    item: _Item, name: str, value: int, commands: list[Operation], groups: tuple[str, ...]
) -> Operation:
    doc = item.text("doc")
    like = item.text("notify")
    model = next((command for command in commands if command.name == like), None)
    reply = () if model is None else model.reply or model.dump_reply
    if model is None or model.notify is not None or not reply:
        raise SpecError(f"{item.where}.notify", f"no command `{like}` with a reply comes before it")
    mcgrp = item.text("mcgrp")
    if mcgrp not in groups:
        raise SpecError(f"{item.where}.mcgrp", f"no multicast group `{mcgrp}`")
    item.done()
    return Operation(
        name=name,
        value=value,
        doc=doc,
        attribute_set=model.attribute_set,
        admin=False,
        do=False,
        dump=False,
        request=(),
        reply=reply,
        dump_request=(),
        dump_reply=(),
        notify=like,
        mcgrp=mcgrp,
    )


def _list_of(top: _Item, key: str) -> _Item:
    item = top.item(key)
    if item is None:
        raise SpecError(top.where, f"`{key}` is missing")
    return item


def _operations(
    top: _Item, sets: tuple[AttributeSet, ...], groups: tuple[str, ...]
) -> tuple[Operation, ...]:
    found: list[Operation] = []
    names: list[str] = []
    taken: dict[int, str] = {}
    by_name = {group.name: group for group in sets}
    container = _list_of(top, "operations")
    for item in container.items("list"):
        name = item.name()
        _unique(item.where, names, name)
        value = _numbered(item, max(taken, default=0) + 1, taken, name)
        if value > 255:
            raise SpecError(item.where, f"id {value} does not fit a generic netlink header")
        if item.has("notify"):
            found.append(_notification(item, name, value, found, groups))
        else:
            found.append(_command(item, name, value, by_name))
    container.done()
    return tuple(found)


def _mcast_groups(top: _Item) -> tuple[str, ...]:
    names: list[str] = []
    container = _list_of(top, "mcast-groups")
    for item in container.items("list"):
        name = item.name()
        _unique(item.where, names, name)
        if len(name) > 15:
            raise SpecError(item.where, "a multicast group's name has at most 15 bytes")
        item.done()
    container.done()
    return tuple(names)


def parse(text: str) -> Spec:
    """Check a description given as YAML text.

    Raises :class:`SpecError`, which names the offending item: ``spec.definitions[name-max].value``.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError("spec", f"not YAML: {error}") from error
    top = _Item("spec", data)
    name = top.name()
    top.text("protocol", "genetlink")
    version = top.number("version")
    doc = top.text("doc")
    consts, enums = _definitions(top)
    sets = _sets(top, {enum.name: enum for enum in enums})
    groups = _mcast_groups(top)
    operations = _operations(top, sets, groups)
    top.done()
    return Spec(name, version, doc, consts, enums, sets, operations, groups)


def load(path: Path) -> Spec:
    """Check the description in a file; raises what :func:`parse` does, or OSError."""
    return parse(path.read_text(encoding="utf-8"))


def check_append_only(old: Mapping[str, int], spec: Spec) -> None:
    """Raise :class:`SpecError` if an id in `old` (C name to number) moved or vanished."""
    new = spec.ids()
    for name, value in old.items():
        if name not in new:
            raise SpecError(name, f"was {value} and is gone; ids are append-only")
        if new[name] != value:
            raise SpecError(name, f"was {value} and became {new[name]}; ids are append-only")
