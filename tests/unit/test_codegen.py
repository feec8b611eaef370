# SPDX-License-Identifier: GPL-2.0
"""The generator: what it refuses, what it writes, and that the committed outputs are current."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from codegen import __main__ as codegen
from codegen import emit_c
from codegen.spec import SpecError, check_append_only, load, parse
from popcorn.uapi import netlink_gen

ROOT = Path(__file__).resolve().parents[2]
SPEC = load(ROOT / codegen.SPEC)

SMALL = """
name: small
protocol: genetlink
version: 1
doc: A small family.
definitions:
  - {type: const, name: name-max, value: 31, doc: Longest name.}
  - type: enum
    name: colour
    doc: Colours.
    entries:
      - {name: red, doc: Red.}
      - {name: blue, value: 4, doc: Blue.}
      - {name: green, doc: Green.}
attribute-sets:
  - name: thing
    attributes:
      - {name: id, type: u32, doc: Id., checks: {min: 1, max: 40000}}
      - {name: colour, type: u32, enum: colour, doc: Colour.}
      - {name: name, type: string, doc: Name., checks: {max-len: 31}}
      - {name: size, type: u64, doc: Size., checks: {min: 4096}}
      - {name: text, type: string, doc: Text.}
      - {name: last, value: 9, type: flag, doc: Last.}
operations:
  list:
    - name: thing-get
      doc: Get.
      attribute-set: thing
      do:
        request: {attributes: [id, colour, name, size]}
        reply: {attributes: [id, text]}
      dump:
        reply: {attributes: [id, text]}
    - {name: thing-ntf, doc: Changed., notify: thing-get, mcgrp: things}
mcast-groups:
  list:
    - {name: things}
"""


def changed(*path: str | int, value: Any) -> str:
    """SMALL with the item at `path` replaced, or removed if `value` is None."""
    data = yaml.safe_load(SMALL)
    item = data
    for key in path[:-1]:
        item = item[key]
    if value is None:
        del item[path[-1]]
    else:
        item[path[-1]] = value
    return yaml.safe_dump(data)


ATTRIBUTES = ("attribute-sets", 0, "attributes")
COMMAND = ("operations", "list", 0)
NOTIFICATION = ("operations", "list", 1)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("protocol",), "netlink-raw", "spec.protocol: `netlink-raw` is none of genetlink"),
        (("doc",), None, "spec: `doc` is missing"),
        (("extra",), 1, "spec.extra: is not understood here"),
        (("name",), "Small", "spec.name: `Small` is not in kebab-case"),
        (
            ("definitions", 0, "value"),
            "many",
            "spec.definitions[name-max].value: a number is wanted, not text",
        ),
        (
            ("definitions", 1, "entries", 2, "value"),
            3,
            "spec.definitions[colour].entries[green].value: 3 goes back behind 4",
        ),
        (
            (*ATTRIBUTES, 0, "type"),
            "u8",
            "spec.attribute-sets[thing].attributes[id].type: "
            "`u8` is none of u32, u64, string, flag",
        ),
        (
            (*ATTRIBUTES, 1, "enum"),
            "shape",
            "spec.attribute-sets[thing].attributes[colour].enum: no enum `shape` is defined",
        ),
        (
            (*ATTRIBUTES, 1, "checks"),
            {"max": 9},
            "spec.attribute-sets[thing].attributes[colour].checks.max: 9, but `colour` ends at 5",
        ),
        (
            (*ATTRIBUTES, 0, "checks", "max"),
            2**32,
            "spec.attribute-sets[thing].attributes[id].checks.max: 4294967296 does not fit a u32",
        ),
        (
            (*ATTRIBUTES, 0, "checks", "max"),
            0,
            "spec.attribute-sets[thing].attributes[id].checks.max: 0 is less than the minimum, 1",
        ),
        (
            (*ATTRIBUTES, 2, "checks"),
            {"max": 3},
            "spec.attribute-sets[thing].attributes[name].checks.max: is not understood here",
        ),
        (
            (*ATTRIBUTES, 2, "name"),
            "id",
            "spec.attribute-sets[thing].attributes[id]: `id` is there twice",
        ),
        (
            (*COMMAND, "attribute-set"),
            "other",
            "spec.operations.list[thing-get].attribute-set: `other` is none of thing",
        ),
        (
            (*COMMAND, "do", "request", "attributes"),
            ["id", "nope"],
            "spec.operations.list[thing-get].do.request.attributes: "
            "`nope` is not in the set `thing`",
        ),
        (
            (*COMMAND, "do", "request", "attributes"),
            ["text"],
            "spec.operations.list[thing-get].do.request.attributes: "
            "`text` is a string in a request and has no max-len",
        ),
        (
            (*COMMAND, "dump", "request"),
            {"attributes": ["last"]},
            "spec.operations.list[thing-get].dump.request: takes attributes that `do` does not",
        ),
        (
            (*COMMAND, "flags"),
            ["uns-admin-perm"],
            "spec.operations.list[thing-get].flags: `uns-admin-perm` is not admin-perm",
        ),
        (
            (*NOTIFICATION, "notify"),
            "thing-set",
            "spec.operations.list[thing-ntf].notify: "
            "no command `thing-set` with a reply comes before it",
        ),
        (
            (*NOTIFICATION, "mcgrp"),
            "people",
            "spec.operations.list[thing-ntf].mcgrp: no multicast group `people`",
        ),
    ],
)
def test_bad_specs_name_the_item(path: tuple[str | int, ...], value: object, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(changed(*path, value=value))
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["a: [", "", "- 1"])
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"^spec: "):
        parse(text)


def test_numbering_is_that_of_upstream() -> None:
    ids = parse(SMALL).ids()
    assert ids == {
        "SMALL_COLOUR_RED": 0,
        "SMALL_COLOUR_BLUE": 4,
        "SMALL_COLOUR_GREEN": 5,
        "SMALL_A_THING_ID": 1,
        "SMALL_A_THING_COLOUR": 2,
        "SMALL_A_THING_NAME": 3,
        "SMALL_A_THING_SIZE": 4,
        "SMALL_A_THING_TEXT": 5,
        "SMALL_A_THING_LAST": 9,
        "SMALL_CMD_THING_GET": 1,
        "SMALL_CMD_THING_NTF": 2,
    }


def test_a_notification_of_a_dump_carries_what_the_dump_replies() -> None:
    dump = {"name": "thing-get", "doc": "Get.", "attribute-set": "thing"}
    reply = {"reply": {"attributes": ["id", "text"]}}
    ntf = parse(changed(*COMMAND, value={**dump, "dump": reply})).operations[1]
    assert (ntf.notify, ntf.reply) == ("thing-get", ("id", "text"))
    with pytest.raises(SpecError, match="no command `thing-get` with a reply"):
        parse(changed(*COMMAND, value={**dump, "dump": {}}))


def test_policies_hold_the_bounds() -> None:
    text = emit_c.source(parse(SMALL), [])
    # Beyond a short bound: through a range.
    assert "NLA_POLICY_FULL_RANGE(NLA_U32, &pcn_nl_thing_id_range)" in text
    assert "\t.min = 1,\n\t.max = 40000,\n" in text
    # An enum bounds its attribute without being told.
    assert "[SMALL_A_THING_COLOUR] = NLA_POLICY_MAX(NLA_U32, 5)," in text
    assert "[SMALL_A_THING_NAME] = { .type = NLA_NUL_STRING, .len = 31, }," in text
    assert "[SMALL_A_THING_SIZE] = NLA_POLICY_MIN(NLA_U64, 4096)," in text
    # What a request does not take has no policy: strict validation refuses it.
    assert "SMALL_A_THING_TEXT]" not in text
    assert ".maxattr = SMALL_A_THING_SIZE," in text


def test_every_command_is_validated_strictly() -> None:
    assert "DONT_VALIDATE" not in emit_c.source(SPEC, [])


def test_ids_never_move() -> None:
    old = parse(SMALL).ids()
    check_append_only(old, parse(SMALL))
    moved = changed("definitions", 1, "entries", 1, "value", value=3)
    with pytest.raises(SpecError, match="SMALL_COLOUR_BLUE: was 4 and became 3"):
        check_append_only(old, parse(moved))
    gone = changed(*ATTRIBUTES, 5, value=None)
    with pytest.raises(SpecError, match="SMALL_A_THING_LAST: was 9 and is gone"):
        check_append_only(old, parse(gone))


def test_ids_are_read_back_from_the_header() -> None:
    spec = parse(SMALL)
    assert codegen.promised_ids(emit_c.uapi_header(spec, [])) == spec.ids()


def checkout(tmp_path: Path) -> Path:
    """A copy of what the generator reads and writes."""
    for path in (codegen.SPEC, *codegen.EMITTERS):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def test_committed_outputs_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    status = codegen.main(["--check"], ROOT)
    assert (status, capsys.readouterr().err) == (0, "")


def test_check_shows_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = checkout(tmp_path)
    target = root / "kmod/core/nl_gen.c"
    edited = target.read_text().replace("NLA_POLICY_RANGE(NLA_U32, 1, 4096)", "{ .type = NLA_U32 }")
    target.write_text(edited)
    assert codegen.main(["--check"], root) == 1
    shown = capsys.readouterr().err
    assert "-\t[POPCORN_A_PING_COUNT] = { .type = NLA_U32 }," in shown
    assert "1 of 5 files are not current; run `make gen`" in shown
    assert target.read_text() == edited


def test_a_moved_id_is_refused_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = checkout(tmp_path)
    spec = root / codegen.SPEC
    spec.write_text(spec.read_text().replace("        name: crashed\n", "        name: dead\n"))
    assert codegen.main([], root) == 1
    assert "POPCORN_NODE_STATE_CRASHED: was 5 and is gone" in capsys.readouterr().err
    assert codegen.main(["--renumber"], root) == 0
    assert "POPCORN_NODE_STATE_DEAD," in (root / codegen.HEADER).read_text()


def python_ids() -> dict[str, int]:
    """The generated Python module's numbers under their C names."""
    module = netlink_gen
    found = {f"POPCORN_CMD_{item.name}": int(item) for item in module.Cmd}
    enums = (module.NodeState, module.KernelState, module.MemoryBackend, module.LatencyStage)
    for enum in enums:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.__name__).upper()
        found |= {f"POPCORN_{prefix}_{item.name}": int(item) for item in enum}
    attributes = (
        module.FabricAttr,
        module.NodeAttr,
        module.KernelAttr,
        module.PingAttr,
        module.ServiceAttr,
        module.ChannelAttr,
        module.QueueAttr,
        module.LatencyAttr,
    )
    for enum in attributes:
        prefix = enum.__name__.removesuffix("Attr").upper()
        found |= {f"POPCORN_A_{prefix}_{item.name}": int(item) for item in enum}
    for name in (const.name.replace("-", "_").upper() for const in SPEC.consts):
        found[f"POPCORN_{name}"] = getattr(module, name)
    found["POPCORN_FAMILY_VERSION"] = module.VERSION
    return found


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_compiler_agrees_with_python(tmp_path: Path) -> None:
    ids = python_ids()
    assert len(ids) == len(SPEC.ids()) + len(SPEC.consts) + 1
    lines = "\n".join(f'\tprintf("{name} %lld\\n", (long long){name});' for name in ids)
    probe = tmp_path / "probe.c"
    probe.write_text(
        textwrap.dedent(
            """\
            #include "{header}"
            #include <stdio.h>
            int main(void)
            {{
            {lines}
            \treturn 0;
            }}
            """
        ).format(header=ROOT / codegen.HEADER, lines=lines)
    )
    program = tmp_path / "probe"
    subprocess.run(
        ["cc", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", program, probe], check=True
    )
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    compiled = {name: int(value) for name, value in (line.split() for line in output.splitlines())}
    assert compiled == ids


def test_python_tables_fit_the_enums() -> None:
    enums = {
        "fabric": netlink_gen.FabricAttr,
        "node": netlink_gen.NodeAttr,
        "kernel": netlink_gen.KernelAttr,
        "ping": netlink_gen.PingAttr,
        "service": netlink_gen.ServiceAttr,
        "channel": netlink_gen.ChannelAttr,
        "queue": netlink_gen.QueueAttr,
        "latency": netlink_gen.LatencyAttr,
    }
    assert set(enums) == set(netlink_gen.NLA_MAPS)
    for name, table in netlink_gen.NLA_MAPS.items():
        prefix = f"POPCORN_A_{name.upper()}_"
        assert table[0] == (f"{prefix}UNSPEC", "none")
        # pyroute2 takes the position for the number.
        assert [entry[0] for entry in table[1:]] == [prefix + item.name for item in enums[name]]
        assert [int(item) for item in enums[name]] == list(range(1, len(table)))
    known = {entry[0] for table in netlink_gen.NLA_MAPS.values() for entry in table}
    assert known > netlink_gen.MULTI
    assert set(netlink_gen.DO_SET) == set(netlink_gen.Cmd)
    assert set(netlink_gen.DO_SET.values()) == set(netlink_gen.NLA_MAPS)


def test_the_page_names_everything() -> None:
    page = (ROOT / "docs/reference/netlink.md").read_text(encoding="utf-8")
    for op in SPEC.operations:
        assert f"### {op.name}\n" in page
    for group in SPEC.sets:
        for attribute in group.attributes:
            assert f"| {attribute.value} | `{attribute.name}` |" in page
