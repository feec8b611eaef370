# SPDX-License-Identifier: GPL-2.0
"""A timeline as Perfetto's own trace processor reads it, against what its file says of itself."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from setup import perfetto

Query = Callable[[str], list[dict[str, Any]]]

#: Slices with the names of their threads and processes: `thread_slice` of later versions.
PLACED = """
create view placed as
select slice.id, slice.ts, slice.name, thread.name as thread_name, process.name as process_name
from slice join thread_track on slice.track_id = thread_track.id
join thread using (utid) join process using (upid)
"""

#: What the slices are called that a kind of events becomes, and their tracks.
NAMES = {
    "msg_delivered": ("deliver *", "*"),
    "doorbell_sent": ("doorbell", "*"),
    "doorbell_irq": ("interrupt", "interrupts, *"),
    "poll": ("poll", "*"),
    "channel_full": ("channel full", "*"),
    "channel_room": ("channel room", "*"),
    "service_peer": ("*: peer *", "services"),
    "node_state": ("node *", "states"),
    "kernel_state": ("kernel *", "states"),
    "kernel_stage": ("begin *", "start"),
    "net_transmit": ("transmit", "link *"),
    "net_receive": ("receive", "link *"),
    "net_drop": ("drop *", "link *"),
    "tty_transmit": ("transmit", "line *"),
    "tty_receive": ("receive", "line *"),
}


def need_processor() -> None:
    """Skip the test if there is no trace processor."""
    if not perfetto.PROGRAM.exists():
        pytest.skip("needs Perfetto's trace processor: `make perfetto` builds it")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Query]:
    """Open a file in the trace processor; gives what asks it in SQL, for rows by column."""
    need_processor()
    if (module := str(perfetto.PYTHON)) not in sys.path:
        sys.path.insert(0, module)
    from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

    # It says nothing of when it listens: under emulation that may take long.
    config = TraceProcessorConfig(bin_path=str(perfetto.PROGRAM), load_timeout=120)
    with TraceProcessor(trace=str(path), config=config) as processor:
        processor.query(PLACED)
        yield lambda sql: [dict(vars(row)) for row in processor.query(sql)]


def number(query: Query, sql: str) -> int:
    """The only value of the only row."""
    ((value,),) = [row.values() for row in query(sql)]
    assert isinstance(value, int)
    return value


def slices(query: Query, name: str, track: str = "*") -> int:
    """How many slices there are on tracks of threads, by patterns of their names."""
    return number(
        query,
        f"select count(*) as n from placed where name glob '{name}' and thread_name glob '{track}'",
    )


def check_counts(query: Query, events: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Compare with the counts of the file; returns how many of each kind are in it.

    Holds where each message is either queued in a kernel of the recording, or of another. The ways
    of messages are not counted: they are asynchronous events, which this version leaves out.
    """
    wrong = "select name, value from stats where severity != 'info' and value > 0"
    assert query(wrong) == []
    count = {kind: n["seen"] - n["lost"] - n["left_out"] for kind, n in events.items()}
    places = {kind: NAMES[kind] for kind in events if kind != "msg_queued"}
    found = {kind: slices(query, *place) for kind, place in places.items()}
    assert found == {kind: count[kind] for kind in places}
    assert slices(query, "send *") == count["msg_queued"] + count["msg_delivered"]
    assert number(query, "select count(*) as n from flow") == count["msg_delivered"]
    return count


ARROWS = """
select distinct
  send.name as sent, send.process_name as sender, send.thread_name as via,
  taken.name as got, taken.process_name as receiver, send.ts <= taken.ts as forward
from flow join placed send on flow.slice_out = send.id
join placed taken on flow.slice_in = taken.id
"""


def arrows(query: Query) -> list[dict[str, Any]]:
    """Who the arrows join, once for each pair and service."""
    found = query(ARROWS)
    assert all(arrow["forward"] for arrow in found)
    for arrow in found:
        assert arrow["sent"].removeprefix("send ") == arrow["got"].removeprefix("deliver ")
    return found
