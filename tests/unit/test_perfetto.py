# SPDX-License-Identifier: GPL-2.0
"""Timelines of the recorder in Perfetto's own trace processor, where `make perfetto` built it."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
import timelines
import tracing_host
from setup import perfetto
from setup.apt import Apt
from test_tracing_record import HERE, LINES, line, spool

from popcorn_tracing import record, timeline
from popcorn_tracing.common import Machine
from popcorn_tracing.events import KINDS, Sample, Summary


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory):
    run = tracing_host.build(tmp_path_factory.mktemp("bpf"), "record_host.c", record.SOURCE)

    def call(lines: list[str]) -> list[bytes]:
        *found, _ = run(lines).splitlines()
        return [bytes.fromhex(data) for data in found]

    return call


def written(path: Path, records: list[bytes], here: Machine, **seen: int) -> Summary:
    kept = spool(records)
    summary = Summary(path, {**kept.kept, **seen}, {}, kept.kept)
    out = io.StringIO()
    timeline.write(out, kept, [Sample(4000, {(0, 1, 0): 9})], here, summary)
    path.write_text(out.getvalue())
    return summary


#: Messages between this kernel and two others, of all lengths of way.
THREE = [
    *(line("msg_queued", src=0, dst=1 + n % 2, seq=n, service=1, tsc=10_000 + 300 * n)
      for n in range(331)),
    *(line("msg_delivered", src=1 + n % 2, dst=0, seq=n, service=1, queued=10_001 + 300 * n,
           poll=10_050 + 310 * n, delivered=10_100 + 320 * n)
      for n in range(499)),
    *(line("poll", node=0, work=1, budget=64, begin=10_050 + 310 * n, end=10_200 + 320 * n)
      for n in range(0, 499, 7)),
]  # fmt: skip


@pytest.mark.parametrize("lines", [LINES, THREE], ids=["each kind", "three kernels"])
def test_perfetto_counts_as_the_file_does(tmp_path: Path, records, lines: list[str]) -> None:
    here = Machine(2_000_000, 0, {0: "primary", 1: "web", 2: "db"})
    summary = written(tmp_path / "all.json", records(lines), here)
    with timelines.opened(tmp_path / "all.json") as query:
        count = timelines.check_counts(query, summary.to_json()["events"])
        # The trace processor refuses nothing, so that it has as many slices as there are objects.
        objects = Counter(
            e["ph"] for e in json.loads((tmp_path / "all.json").read_text())["traceEvents"]
        )
        slices = timelines.number(query, "select count(*) as n from placed")
        assert slices == objects["X"] + objects["i"]
        joined = {(a["sender"], a["receiver"]) for a in timelines.arrows(query)}
        assert joined == {
            (f"{name} (node {n})", "primary (node 0)")
            for n, name in ((1, "web"), (2, "db")) if lines is THREE or n == 1
        }  # fmt: skip
        (told,) = query("select count(*) as n, max(value) as most from counter")
        assert told == {"n": 1, "most": 9}
    if lines is THREE:
        assert (count["msg_queued"], count["msg_delivered"]) == (331, 499)
    else:
        assert count["msg_delivered"] == 1


def test_what_is_missing_is_seen_there(tmp_path: Path, records) -> None:
    written(tmp_path / "all.json", records(LINES), HERE, msg_queued=8)
    with timelines.opened(tmp_path / "all.json") as query:
        (told,) = query("select name from slice where name glob '*not in this file'")
        assert told == {"name": "7 events are not in this file"}


def test_every_kind_has_a_name() -> None:
    assert {*KINDS} <= {*timelines.NAMES, "msg_queued"}


# what builds it


def test_a_suites_sources_have_lists_of_their_own(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("setup.apt.APT", tmp_path)
    monkeypatch.setattr("setup.apt.archive", lambda: "http://archive.example/debian")
    monkeypatch.setattr(Apt, "call", lambda self, tool, *args, cwd=None: "")
    for apt, kind in ((Apt("one"), "deb "), (Apt("one", sources=True), "deb-src ")):
        apt.update()
        (text,) = (apt.base / "sources.list").read_text().splitlines()
        assert text.startswith(kind) and text.endswith(" one main")
    assert len(list(tmp_path.iterdir())) == 2


def test_it_is_built_once(monkeypatch, tmp_path: Path) -> None:
    program = tmp_path / "shell"
    program.write_text("#!/bin/sh\necho 'v1 of it'\n")
    program.chmod(0o755)
    monkeypatch.setattr(perfetto, "PROGRAM", program)
    monkeypatch.setattr(perfetto, "_make", lambda *_: pytest.fail("built again"))
    assert perfetto.ensure() == program
