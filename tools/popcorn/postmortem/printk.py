# SPDX-License-Identifier: GPL-2.0
"""The log of another kernel: its printk ring buffer, of kernels since 5.10.

kernel/printk/printk_ringbuffer.c says how it works. In short: records have ids that count up. A
ring of descriptors, indexed by the id, holds each one's state and where its text is; a ring of
infos, in the same order, has time, level and length; a ring of data has blocks, each the id and the
text.

All of it is written by a kernel that may be broken, or writes to it right now. Nothing is believed:
whatever a number says, a bounded number of bounded pieces is read.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from popcorn.errors import PostmortemError
from popcorn.postmortem.pagetable import PageTables
from popcorn.postmortem.vmcoreinfo import VmcoreInfo

__all__ = (
    "ID_MASK",
    "Record",
    "Ring",
    "RingLayout",
    "Slot",
    "Snapshot",
    "Status",
    "ring_of",
    "snapshot",
)

WORD = 8
ID_BITS = 62
ID_MASK = (1 << ID_BITS) - 1
LPOS_MASK = (1 << 64) - 1

# enum desc_state, in the two bits above the id.
RESERVED, COMMITTED, FINALIZED, REUSABLE = range(4)

DATALESS = 1
LOST = 1
"""FAILED_LPOS: there was no room for the text."""

BITS_MIN = 4
DESCRIPTOR_BITS_MAX = 26
DATA_BITS_MAX = 31
"""LOG_BUF_LEN_MAX, and a descriptor for every 32 bytes of it."""


LOOKS = 4
"""A record changes its state three times in its life."""


class Status(Enum):
    """What there is under an id."""

    WHOLE = auto()
    OPEN = auto()
    """Whole as it is, but its writer may add to it: pr_cont()."""
    WRITING = auto()
    GONE = auto()
    """Not there any more, or never."""
    LOST = auto()
    DAMAGED = auto()


@dataclass(frozen=True)
class Record:
    """A message. `ns` is the kernel's own clock; None, like level and facility, if it is not known.

    `text` has no line feed at its end but may have some within. `caller` is a thread's id, or
    0x80000000 and a CPU.
    """

    id: int
    seq: int
    text: bytes
    ns: int | None = None
    level: int | None = None
    facility: int | None = None
    caller: int | None = None


@dataclass(frozen=True)
class Slot:
    """What was found under an id; `reason` says what is wrong, in a few words."""

    status: Status
    record: Record | None = None
    reason: str = ""


@dataclass(frozen=True)
class RingLayout:
    """Where the rings are and what their elements look like: addresses for :attr:`Ring.read`."""

    descriptor_bits: int
    descriptors: int
    infos: int
    head: int
    tail: int
    data_bits: int
    data: int
    descriptor_size: int = 24
    info_size: int = 88
    state_at: int = 0
    begin_at: int = 8
    next_at: int = 16
    seq_at: int = 0
    time_at: int = 8
    length_at: int = 16
    caller_at: int = 20

    def check(self, room: int) -> None:
        """PostmortemError if it is not the layout of any ring that fits into `room` bytes."""
        if not (
            BITS_MIN <= self.descriptor_bits <= DESCRIPTOR_BITS_MAX
            and BITS_MIN <= self.data_bits <= DATA_BITS_MAX
            and (self.descriptor_size + self.info_size << self.descriptor_bits)
            + (1 << self.data_bits)
            <= room
        ):
            raise PostmortemError(
                f"its log's size is damaged (2^{self.descriptor_bits} records,"
                f" 2^{self.data_bits} bytes)"
            )
        fits = (
            max(self.state_at, self.begin_at, self.next_at) + WORD <= self.descriptor_size
            and max(self.seq_at, self.time_at) + WORD <= self.info_size
            and max(self.length_at, self.caller_at) + 4 <= self.info_size
        )
        if not fits:
            raise PostmortemError("its vmcoreinfo note contradicts itself about the log")


class Ring:
    """A ring buffer in another kernel's memory, which `read` reads: (address, size) to bytes.

    `room` is the size of that memory: a ring that claims to be larger is none.
    """

    def __init__(self, layout: RingLayout, read: Callable[[int, int], bytes], room: int) -> None:
        layout.check(room)
        self.layout = layout
        self._read = read

    @property
    def slots(self) -> int:
        """Descriptors in the ring."""
        return 1 << self.layout.descriptor_bits

    def _word(self, address: int) -> int:
        return int.from_bytes(self._read(address, WORD), "little")

    def bounds(self) -> tuple[int, int]:
        """The oldest and the newest id; PostmortemError if that cannot be."""
        tail = self._word(self.layout.tail) & ID_MASK
        head = self._word(self.layout.head) & ID_MASK
        if distance(tail, head) >= self.slots:
            raise PostmortemError(f"ids {tail:#x} to {head:#x} are more than fit into it")
        return tail, head

    def ids(self) -> Iterator[int]:
        """All ids from the oldest to the newest."""
        tail, head = self.bounds()
        for step in range(distance(tail, head) + 1):
            yield tail + step & ID_MASK

    def ids_of_slots(self) -> list[int]:
        """The id in each descriptor that has a plausible one: for a ring without its bounds."""
        found = []
        for index in range(self.slots):
            try:
                word = self._word(self._descriptor(index) + self.layout.state_at)
            except PostmortemError:
                continue
            if word and word & self.slots - 1 == index:
                found.append(word & ID_MASK)
        if not found:
            return []
        # They lie close together, but the count may have started over in between.
        middle = sorted(found)[len(found) // 2]
        near = [(distance(middle, i + self.slots & ID_MASK), i) for i in found]
        return [i for far, i in sorted(near) if far <= 2 * self.slots]

    def _descriptor(self, id_: int) -> int:
        return self.layout.descriptors + (id_ & self.slots - 1) * self.layout.descriptor_size

    def look(self, id_: int) -> Slot:
        """What is under an id now."""
        try:
            for _ in range(LOOKS):
                found = self._look(id_)
                if found is not None:
                    return found
        except PostmortemError:
            # Not the error's own words: they have an address, and there may be thousands of them.
            return Slot(Status.DAMAGED, reason="it leads out of the kernel's memory")
        return Slot(Status.WRITING)

    def _look(self, id_: int) -> Slot | None:
        """None if it changed meanwhile: what was read is of before and after."""
        layout = self.layout
        at = self._descriptor(id_)
        descriptor = self._read(at, layout.descriptor_size)
        (word,) = struct.unpack_from("<Q", descriptor, layout.state_at)
        state = word >> ID_BITS
        if word & ID_MASK != id_ or state == REUSABLE:
            return Slot(Status.GONE)
        if state == RESERVED:
            return Slot(Status.WRITING)
        (begin,) = struct.unpack_from("<Q", descriptor, layout.begin_at)
        (end,) = struct.unpack_from("<Q", descriptor, layout.next_at)
        index = id_ & self.slots - 1
        info = self._read(layout.infos + index * layout.info_size, layout.info_size)
        (length,) = struct.unpack_from("<H", info, layout.length_at)
        status, text, reason = self._text(id_, begin, end, length)
        if self._word(at + layout.state_at) != word:
            return None
        if status is not Status.WHOLE:
            return Slot(status, reason=reason)
        # These two follow the length; the note does not name them.
        facility, flags = info[layout.length_at + 2], info[layout.length_at + 3]
        record = Record(
            id=id_,
            seq=struct.unpack_from("<Q", info, layout.seq_at)[0],
            text=text,
            ns=struct.unpack_from("<Q", info, layout.time_at)[0],
            level=flags >> 5,
            facility=facility,
            caller=struct.unpack_from("<I", info, layout.caller_at)[0],
        )
        return Slot(Status.OPEN if state == COMMITTED else Status.WHOLE, record, reason)

    def _text(self, id_: int, begin: int, end: int, length: int) -> tuple[Status, bytes, str]:
        if begin & DATALESS:
            if begin == end == LOST:
                return Status.LOST, b"", ""
            return Status.WHOLE, b"", ""
        size = 1 << self.layout.data_bits
        at = begin % size
        room = (end - begin & LPOS_MASK) - WORD
        # A block that would reach over the end lies at the beginning, all of it. One that ends
        # exactly there does not, since 6.18.
        if begin >> self.layout.data_bits != (end - 1 & LPOS_MASK) >> self.layout.data_bits:
            at, room = 0, (end % size) - WORD
        if begin % WORD or not 0 <= room <= size - at - WORD:
            return Status.DAMAGED, b"", "its place in the text is damaged"
        if self._word(self.layout.data + at) != id_:
            return Status.DAMAGED, b"", "its text was overwritten"
        text = self._read(self.layout.data + at + WORD, min(length, room))
        return Status.WHOLE, text, "it is longer than its place" if length > room else ""


def distance(first: int, second: int) -> int:
    """How many ids `second` is after `first`."""
    return second - first & ID_MASK


def ring_of(info: VmcoreInfo, tables: PageTables) -> Ring:
    """The ring that a note leads to; PostmortemError if it does not."""

    def word(address: int) -> int:
        return int.from_bytes(tables.read(address, WORD), "little")

    def bits(address: int) -> int:
        return int.from_bytes(tables.read(address, 4), "little")

    if info.size("atomic_long_t") != WORD:
        raise PostmortemError("it is not a 64-bit kernel")
    buffer = word(info.symbol("prb"))
    descriptors = buffer + info.offset("printk_ringbuffer.desc_ring")
    data = buffer + info.offset("printk_ringbuffer.text_data_ring")
    counter = info.offset("atomic_long_t.counter")
    block = info.offset("prb_desc.text_blk_lpos")
    layout = RingLayout(
        descriptor_bits=bits(descriptors + info.offset("prb_desc_ring.count_bits")),
        descriptors=word(descriptors + info.offset("prb_desc_ring.descs")),
        infos=word(descriptors + info.offset("prb_desc_ring.infos")),
        head=descriptors + info.offset("prb_desc_ring.head_id") + counter,
        tail=descriptors + info.offset("prb_desc_ring.tail_id") + counter,
        data_bits=bits(data + info.offset("prb_data_ring.size_bits")),
        data=word(data + info.offset("prb_data_ring.data")),
        descriptor_size=info.size("prb_desc"),
        info_size=info.size("printk_info"),
        state_at=info.offset("prb_desc.state_var") + counter,
        begin_at=block + info.offset("prb_data_blk_lpos.begin"),
        next_at=block + info.offset("prb_data_blk_lpos.next"),
        seq_at=info.offset("printk_info.seq"),
        time_at=info.offset("printk_info.ts_nsec"),
        length_at=info.offset("printk_info.text_len"),
        caller_at=info.offset("printk_info.caller_id"),
    )
    return Ring(layout, tables.read, tables.room)


@dataclass(frozen=True)
class Snapshot:
    """What could be read of a log, oldest first, and what could not, in words."""

    records: tuple[Record, ...]
    problems: tuple[str, ...] = field(default=())


def snapshot(ring: Ring, *, live: bool) -> Snapshot:
    """All of a log. Of a kernel that is `live`, a line is left out until it is complete.

    PostmortemError if nothing is where the log should be.
    """
    problems: list[str] = []
    try:
        ids = list(ring.ids())
    except PostmortemError as error:
        problems.append(f"the bounds of the log are damaged: {error.message}")
        ids = ring.ids_of_slots()
    records, wrong = [], Counter[str]()
    for id_ in ids:
        found = ring.look(id_)
        if found.record is not None and not (live and found.status is Status.OPEN):
            records.append(found.record)
        if found.reason:
            wrong[found.reason] += 1
        elif found.status is Status.LOST:
            wrong["there was no room for its text"] += 1
        elif found.status is Status.WRITING and not live:
            wrong["it was being written"] += 1
    if not records and problems:
        raise PostmortemError(problems[0])
    problems += [f"{count} of its records: {reason}" for reason, count in sorted(wrong.items())]
    return Snapshot(tuple(records), tuple(problems))
