# SPDX-License-Identifier: GPL-2.0
"""Who may import what: cli -> client -> netlink, udev, sysfs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import popcorn

PACKAGE = Path(popcorn.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))
LIBRARY = [path for path in SOURCES if "cli" not in path.relative_to(PACKAGE).parts]


def name(path):
    return str(path.relative_to(PACKAGE))


def imports(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def importers(module):
    return {
        name(path)
        for path in SOURCES
        if any(found == module or found.startswith(f"{module}.") for found in imports(path))
    }


@pytest.mark.parametrize(
    ("module", "only"),
    [
        ("pyroute2", {"netlink.py", "rtnl.py"}),
        ("pyudev", {"udev.py"}),
        ("prometheus_client", {"metrics.py"}),
    ],
)
def test_one_module_knows_it(module, only):
    assert importers(module) == only


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_the_library_does_not_talk_to_people(path):
    assert not {"click", "argparse", "popcorn.cli"} & imports(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "input", "exit", "quit", "sys.exit", "os._exit"), (
                f"{name(path)}:{node.lineno} calls {called}()"
            )


PURE = [path for path in LIBRARY if path.parent.name in ("boot", "postmortem", "uapi")]


@pytest.mark.parametrize("path", PURE, ids=name)
def test_what_lies_at_the_bottom_imports_nothing_from_above(path):
    layer = f"popcorn.{path.parent.name}"
    for found in imports(path):
        if found == "popcorn" or found.startswith("popcorn."):
            assert found.startswith((layer, "popcorn.errors")), f"{name(path)} imports {found}"


def test_there_is_something_to_look_at():
    assert len(SOURCES) > 20 and len(PURE) > 5 and len(LIBRARY) < len(SOURCES)
