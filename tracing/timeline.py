# SPDX-License-Identifier: GPL-2.0
"""Recorded events as one timeline of all kernels, in Chrome's JSON format ("Trace Event Format").

A process is a node, a thread a track of it; a message is an arrow from kernel to kernel.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import IO

from popcorn.models import KernelState, NodeState, label
from popcorn_tracing.common import Machine
from popcorn_tracing.events import KINDS, START_STAGES, Event, Sample, Summary
from popcorn_tracing.flow import POINTS, way
from popcorn_tracing.net import NO_PEER, reason_name

__all__ = ("write",)

#: A stamp from a sender that is older than this when the trace begins is none: a message does not
#: travel for a minute, and one wrong stamp would stretch the timeline over years.
OLDEST_SECONDS = 60

#: A point in time, as long as it can be seen and something can be tied to it, nanoseconds.
POINT_NS = 1


class Ruler:
    """Turns stamps in cycles and times of the clock into nanoseconds of the timeline."""

    def __init__(self, events: Iterable[Event], samples: Iterable[Sample], tsc_khz: int) -> None:
        self.khz = tsc_khz
        first = offset = None
        begins: list[int] = []
        for event in events:
            now = event.now
            if not now:
                continue
            if first is None:
                first = now
            # How far the clock is ahead of the counter: it is read after the stamp was taken, so
            # the least difference is the nearest.
            ahead = event.clock - now * 1_000_000 // tsc_khz
            offset = ahead if offset is None else min(offset, ahead)
            begin = event.values.get("queued") or event.values.get("begin") or now
            if begin >= first - OLDEST_SECONDS * 1000 * tsc_khz:
                begins = [min([*begins, begin])]
        clocks = [sample.clock for sample in samples]
        self._offset = min(clocks, default=0) if offset is None else offset
        begins += [(clock - self._offset) * tsc_khz // 1_000_000 for clock in clocks]
        self.base = min(begins, default=0)

    def cycles(self, stamp: int) -> int:
        """Of a stamp; what is before the timeline is at its beginning."""
        return max(0, stamp - self.base) * 1_000_000 // self.khz

    def clock(self, clock: int) -> int:
        """Of a time of CLOCK_MONOTONIC."""
        return max(0, clock - self._offset - self.base * 1_000_000 // self.khz)


def _ts(nanos: int) -> str:
    """Microseconds, as the format wants them, with all digits."""
    return f"{nanos // 1000}.{nanos % 1000:03d}"


def _state(kind: type[KernelState | NodeState], number: int) -> str:
    """A state's name, or its number."""
    return label(kind(number)) if number in list(kind) else str(number)


def _queue_of(values: Mapping[str, int]) -> str:
    return f"queue {values['queue']}"


class Writer:
    """Writes the events of a timeline, one object each; a process is a node, a thread a track."""

    def __init__(self, out: IO[str], here: Machine, ruler: Ruler) -> None:
        self._out = out
        self._here = here
        self._ruler = ruler
        self._tracks: dict[tuple[int, str], int] = {}
        self._nodes: set[int] = set()
        self._message = itertools.count(1)
        self._separator = ""

    def put(self, text: str) -> None:
        """One object."""
        self._out.write(f"{self._separator}{text}")
        self._separator = ",\n"

    def _node(self, node: int) -> int:
        """A node's number as a process: there is no process 0."""
        if node not in self._nodes:
            self._nodes.add(node)
            name = json.dumps(f"{self._here.names.get(node, 'node')} (node {node})")
            common = f'"ph":"M","pid":{node + 1},"tid":0'
            self.put(f'{{{common},"name":"process_name","args":{{"name":{name}}}}}')
            self.put(f'{{{common},"name":"process_sort_index","args":{{"sort_index":{node}}}}}')
        return node + 1

    def _track(self, node: int, name: str) -> str:
        """A track of a node, as the members that say so."""
        pid = self._node(node)
        if (node, name) not in self._tracks:
            tid = len(self._tracks) + 1
            self._tracks[node, name] = tid
            self.put(
                f'{{"ph":"M","pid":{pid},"tid":{tid},"name":"thread_name",'
                f'"args":{{"name":{json.dumps(name)}}}}}'
            )
        return f'"pid":{pid},"tid":{self._tracks[node, name]}'

    def _name(self, node: int) -> str:
        """A node's name, or what stands for it."""
        return self._here.names.get(node, f"node {node}")

    def _to(self, values: Mapping[str, int]) -> str:
        """The sender's track of a channel."""
        return self._track(values["src"], f"to {self._name(values['dst'])}, {_queue_of(values)}")

    def slice(self, track: str, name: str, begin: int, nanos: int, args: str = "") -> None:
        """Something that takes time."""
        self.put(
            f'{{"ph":"X",{track},"name":{json.dumps(name)},"ts":{_ts(begin)},"dur":{_ts(nanos)},'
            f'"args":{{{args}}}}}'
        )

    def instant(self, track: str, name: str, at: int, args: str = "", scope: str = "t") -> None:
        """Something that takes none."""
        self.put(
            f'{{"ph":"i","s":"{scope}",{track},"name":{json.dumps(name)},"ts":{_ts(at)},'
            f'"args":{{{args}}}}}'
        )

    def counter(self, node: int, name: str, at: int, value: int) -> None:
        """How many there were at that time."""
        self.put(
            f'{{"ph":"C","pid":{self._node(node)},"tid":0,"name":{json.dumps(name)},"ts":{_ts(at)},'
            f'"args":{{"messages":{value}}}}}'
        )

    def sent(self, values: Mapping[str, int], at: int) -> None:
        """The sender's end of a message, and its arrow's beginning."""
        track = self._to(values)
        name = f"send {self._here.service(values['dst'], values['service'])}"
        self.slice(track, name, at, POINT_NS, f'"seq":{values["seq"]},"bytes":{values["len"]}')
        self.put(
            f'{{"ph":"s",{track},"cat":"message","name":"message","id":{_flow_id(values)},'
            f'"ts":{_ts(at)}}}'
        )

    def delivered(self, values: Mapping[str, int], cpu: int) -> None:
        """The receiver's end of a message, its arrow's end, and its stages."""
        at = self._ruler.cycles
        service = self._here.service(values["dst"], values["service"])
        track = self._track(values["dst"], _queue_of(values))
        stamps = {"interrupt" if k == "irq" else k: values[k] for k in values}
        passed = [(point, at(stamp)) for point, stamp in way({p: stamps[p] for p in POINTS})]
        begin, end = passed[0][1], at(values["delivered"])
        self.slice(
            track, f"deliver {service}", end, POINT_NS,
            f'"seq":{values["seq"]},"bytes":{values["len"]},"cpu":{cpu},"ns":{end - begin}',
        )  # fmt: skip
        self.put(
            f'{{"ph":"f","bp":"e",{track},"cat":"message","name":"message",'
            f'"id":{_flow_id(values)},"ts":{_ts(end)}}}'
        )
        # Messages overlap, so their ways cannot be on a track like those above.
        common = f'"cat":"way","id":{next(self._message)},"pid":{self._node(values["dst"])}'
        sender = self._name(values["src"])
        whole = json.dumps(f"{service} from {sender}")
        self.put(f'{{"ph":"b",{common},"name":{whole},"ts":{_ts(begin)}}}')
        for (first, since), (second, until) in itertools.pairwise(passed):
            name = f'"name":"{first}-{second}"'
            self.put(f'{{"ph":"b",{common},{name},"ts":{_ts(since)}}}')
            self.put(f'{{"ph":"e",{common},{name},"ts":{_ts(until)}}}')
        self.put(f'{{"ph":"e",{common},"name":{whole},"ts":{_ts(passed[-1][1])}}}')

    def frame(self, kind: str, values: Mapping[str, int]) -> None:
        """What a link sent, received or dropped, at its node."""
        at, queue = self._ruler.cycles, _queue_of(values)
        end, size = at(values["tsc"]), f'"bytes":{values["len"]}'
        if kind == "net_transmit":
            track = self._track(values["src"], f"link to {self._name(values['dst'])}, {queue}")
            args = f'{size},"segments":{values["gso_segs"]},"first":{values["first"]}'
            self.instant(track, "transmit", end, args)
        elif kind == "net_drop":
            way, peer = ("from" if values["rx"] else "to"), values["peer"]
            other = "nobody" if peer == NO_PEER else self._name(peer)
            track = self._track(values["node"], f"link {way} {other}, {queue}")
            self.instant(track, f"drop {reason_name(values['reason'])}", end, size)
        else:
            sender = self._name(values["src"])
            begin = min(at(values["queued"]), end)
            track = self._track(values["dst"], f"link from {sender}, {queue}")
            self.instant(track, "receive", end, f'{size},"ns":{end - begin}')
            # Frames overlap as messages do.
            common = f'"cat":"frame","id":{next(self._message)},"pid":{self._node(values["dst"])}'
            name = json.dumps(f"frame from {sender}")
            self.put(f'{{"ph":"b",{common},"name":{name},"ts":{_ts(begin)},"args":{{{size}}}}}')
            self.put(f'{{"ph":"e",{common},"name":{name},"ts":{_ts(end)}}}')

    def line(self, kind: str, values: Mapping[str, int]) -> None:
        """Bytes of a line, at the end where they were seen."""
        src, dst = values["src"], values["dst"]
        node, way, peer = (src, "to", dst) if kind == "tty_transmit" else (dst, "from", src)
        track = self._track(node, f"line {values['line']} {way} {self._name(peer)}")
        args = f'"bytes":{values["len"]},"left":{values["left"]}'
        self.instant(track, kind.removeprefix("tty_"), self._ruler.cycles(values["tsc"]), args)

    def event(self, event: Event, remote: bool) -> None:
        """Whatever it is; `remote` is whether a message's sender told nothing but its stamps."""
        values, kind = event.values, event.kind
        at = self._ruler.cycles
        if kind == "msg_queued":
            self.sent(values, at(values["tsc"]))
        elif kind == "msg_delivered":
            if remote:
                self.sent(values, at(values["queued"]))
            self.delivered(values, event.cpu)
        elif kind == "poll":
            begin, end = at(values["begin"]), at(values["end"])
            args = f'"work":{values["work"]},"budget":{values["budget"]},"cpu":{event.cpu}'
            track = self._track(values["node"], _queue_of(values))
            self.slice(track, "poll", begin, max(0, end - begin), args)
        elif kind == "doorbell_irq":
            track = self._track(values["node"], f"interrupts, {_queue_of(values)}")
            self.instant(track, "interrupt", at(values["tsc"]), f'"cpu":{event.cpu}')
        elif kind in ("doorbell_sent", "channel_full", "channel_room"):
            name = kind.replace("_sent", "").replace("_", " ")
            self.instant(self._to(values), name, at(values["tsc"]), f'"cpu":{event.cpu}')
        elif kind == "service_peer":
            up = "up" if values["up"] else "down"
            service = self._here.service(values["node"], values["service"])
            name = f"{service}: peer {values['peer']} {up}"
            self.instant(self._track(values["node"], "services"), name, at(values["tsc"]))
        elif kind == "node_state":
            name = f"node {_state(NodeState, values['state'])}"
            args = f'"epoch":{values["epoch"]}'
            self.instant(self._track(values["node"], "states"), name, at(values["tsc"]), args)
        elif kind == "kernel_state":
            name = f"kernel {_state(KernelState, values['state'])}"
            self.instant(self._track(values["kernel"], "states"), name, at(values["tsc"]))
        elif kind.startswith("net_"):
            self.frame(kind, values)
        elif kind.startswith("tty_"):
            self.line(kind, values)
        else:
            stage = values["stage"]
            name = START_STAGES[stage] if stage < len(START_STAGES) else str(stage)
            track = self._track(values["kernel"], "start")
            self.instant(track, f"begin {name}", at(values["tsc"]))


def _flow_id(values: Mapping[str, int]) -> int:
    """Of a message on its way: less than 2^53, which is what JSON readers keep exactly."""
    channel = (values["src"] & 31) << 10 | (values["dst"] & 31) << 5 | values["queue"] & 31
    return channel << 32 | values["seq"]


def write(
    out: IO[str], spool: Iterable[Event], samples: Iterable[Sample], here: Machine, end: Summary
) -> None:
    """Write a whole file. `spool` is gone through twice."""
    ruler = Ruler(spool, samples, here.tsc_khz)
    # Kernels whose tracepoints are these: their messages tell of themselves when they are queued.
    local = {event.values["src"] for event in spool if event.kind == "msg_queued"}
    if here.node_id is not None:
        local.add(here.node_id)
    out.write('{"traceEvents":[\n')
    writer = Writer(out, here, ruler)
    last = 0
    for event in spool:
        writer.event(event, event.values.get("src") not in local)
        last = max(last, ruler.cycles(event.now))
    # The fabric does not tell of a channel that had no message yet.
    channels = sorted({channel for sample in samples for channel in sample.delivered})
    for sample in samples:
        at = ruler.clock(sample.clock)
        last = max(last, at)
        for src, dst, queue in channels:
            count = sample.delivered.get((src, dst, queue), 0)
            sender = here.names.get(src, f"node {src}")
            writer.counter(dst, f"delivered from {sender}, queue {queue}", at, count)
    if end.nr_absent:
        args = ",".join(f'"{kind}":{end.lost.get(kind, 0) + end.left_out(kind)}' for kind in KINDS)
        name = f"{end.nr_absent} events are not in this file"
        writer.instant('"pid":0,"tid":0', name, last, args, scope="g")
    about = {"tool": "popcornctl trace record", "node": here.node_id, "tsc_khz": here.tsc_khz}
    more = json.dumps({**about, **end.to_json()})
    out.write(f'\n],\n"displayTimeUnit":"ns",\n"otherData":{more}}}\n')
