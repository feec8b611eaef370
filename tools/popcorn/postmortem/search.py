# SPDX-License-Identifier: GPL-2.0
"""The log of a kernel that died before it made its vmcoreinfo note: found by its looks.

Until then the log is where the kernel's image has it, in one physical piece. Its first record is
known: the banner, with the id that the ring was built with. From there

- the texts follow each other, each after its id: order and text are there in any case;
- the descriptor of the banner is known as well, down to the length of the text's block; that finds
  the descriptors;
- struct printk_ringbuffer points to them, and so to the infos: times, levels and lengths.

Members and their order are those of struct printk_ringbuffer from 5.10 to 7.2; all of it is
verified by what is found, since no offset can be asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from popcorn.errors import PostmortemError
from popcorn.postmortem.memory import Memory, find
from popcorn.postmortem.printk import (
    COMMITTED,
    DESCRIPTOR_BITS_MAX,
    FINALIZED,
    ID_BITS,
    WORD,
    Record,
    Ring,
    RingLayout,
    Snapshot,
    distance,
)

__all__ = ("TextChain", "search")

BANNER = b"Linux version "
DESCRIPTOR_BITS_MIN = 5

BLOCK_MAX = 2048
"""More than any block: a message has 1024 bytes at the most (LOG_LINE_MAX, PRINTKRB_RECORD_MAX)."""

SKIP_MAX = 8
"""Ids in a row that may have no text."""

CHAIN_MAX = 1 << 16
CANDIDATES_MAX = 256

DESCRIPTORS_MAX = 4
"""For each place where they may be, all of the memory is read."""

INFO_SIZES = range(32, 256, 8)
"""Where the next info may be: 88 bytes in 6.1, 112 in 7.2."""


@dataclass(frozen=True)
class TextChain:
    """The texts of a log, by address and length of their blocks; the first is the banner."""

    memory: Memory
    blocks: tuple[tuple[int, int, int], ...]
    """(id, address, bytes) of each block, its id included."""

    def snapshot(self) -> Snapshot:
        """The records, without times and levels."""
        first = self.blocks[0][0]
        records = []
        for id_, address, size in self.blocks:
            text = clean(self.memory.read(address + WORD, size - WORD))
            records.append(Record(id_, distance(first, id_), text))
        return Snapshot(
            tuple(records), ("it had not come far: only the texts of its log can be read",)
        )


def clean(block: bytes) -> bytes:
    """The text in a block, whose length only the info has.

    printk() cuts off the line feed, and moves the text over its two bytes of level: the last two
    bytes and the line feed stay behind the text. Or the next message's level does, if that was to
    be continued.
    """
    text = block.split(b"\0", 1)[0].split(b"\1", 1)[0].removesuffix(b"\n")
    if len(text) >= 4 and text[-2:] == text[-4:-2]:
        text = text[:-2]
    return text


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + WORD], "little")


def _slots(first: int) -> int:
    """How large a ring is whose first record has this id: it starts at minus its size.

    As an unsigned int in 6.1 and 6.12, in all bits of an id in 7.2. 0 for what is no first id.
    """
    for bits in (32, ID_BITS):
        slots = -first & (1 << bits) - 1
        size = slots.bit_length() - 1 if first >> bits == 0 and slots.bit_count() == 1 else 0
        if DESCRIPTOR_BITS_MIN <= size <= DESCRIPTOR_BITS_MAX:
            return slots
    return 0


def _follow(memory: Memory, start: int, first: int) -> TextChain:
    """The blocks from the banner's on, as far as each is followed by one of the next ids."""
    blocks: list[tuple[int, int, int]] = []
    address, id_ = start, first
    end = memory.base + memory.size
    while len(blocks) < CHAIN_MAX:
        data = memory.read(address, min(BLOCK_MAX, end - address))
        if len(data) < 2 * WORD:
            break
        for at in range(2 * WORD, len(data) - WORD + 1, WORD):
            if 1 <= distance(id_, _word(data, at)) <= SKIP_MAX and not _word(data, at) >> ID_BITS:
                break
        else:
            # The last one, or one whose successor was written over.
            blocks.append((id_, address, len(data)))
            break
        blocks.append((id_, address, at))
        address, id_ = address + at, _word(data, at)
    return TextChain(memory, tuple(blocks))


def _chains(memory: Memory) -> Iterator[TextChain]:
    tries = 0
    for address in find(memory, BANNER, align=WORD):
        start = address - WORD
        if start < memory.base:
            continue
        first = _word(memory.read(start, WORD), 0)
        if not _slots(first):
            continue
        yield _follow(memory, start, first)
        tries += 1
        if tries >= CANDIDATES_MAX:
            return


def _descriptors(memory: Memory, chain: TextChain) -> Iterator[int]:
    """Addresses where the descriptors may begin: that of the banner is the first."""
    first, _, size = chain.blocks[0]
    for state in (FINALIZED, COMMITTED):
        pattern = struct.pack("<Q", state << ID_BITS | first)
        for address in find(memory, pattern, align=WORD):
            try:
                begin, end = struct.unpack("<QQ", memory.read(address + WORD, 2 * WORD))
            except PostmortemError:
                continue
            if begin % WORD == 0 and (len(chain.blocks) == 1 or end - begin == size):
                yield address


def _buffers(memory: Memory, chain: TextChain, descriptors: int) -> Iterator[tuple[int, bytes]]:
    """Addresses and beginnings of what may be the struct printk_ringbuffer of these descriptors."""
    bits = _slots(chain.blocks[0][0]).bit_length() - 1
    for address in find(memory, struct.pack("<Q", bits), align=WORD):
        try:
            data = memory.read(address, 16 * WORD)
        except PostmortemError:
            continue
        if _word(data, WORD) >> 47 == 0x1FFFF and _word(data, WORD) % 4096 == descriptors % 4096:
            yield address, data


def _data_ring(data: bytes, text: int) -> int:
    """Bits of the data ring whose text begins at `text`; 0 if there is none.

    It follows the ring of descriptors, which has a member more since 5.18.
    """
    for at in (5 * WORD, 6 * WORD):
        bits = _word(data, at)
        if 10 <= bits <= 31 and _word(data, at + WORD) % 4096 == text % 4096:
            return bits
    return 0


def _ring(memory: Memory, chain: TextChain) -> Ring | None:
    first, text, _ = chain.blocks[0]
    slots = _slots(first)
    for descriptors in islice(_descriptors(memory, chain), DESCRIPTORS_MAX):
        for address, data in _buffers(memory, chain, descriptors):
            data_bits = _data_ring(data, text)
            if not data_bits:
                continue
            infos = descriptors + _word(data, 2 * WORD) - _word(data, WORD)
            try:
                size = _info_size(memory, infos, len(chain.blocks))
            except PostmortemError:
                continue
            if not size:
                continue
            layout = RingLayout(
                descriptor_bits=slots.bit_length() - 1,
                descriptors=descriptors,
                infos=infos,
                head=address + 3 * WORD,
                tail=address + 4 * WORD,
                data_bits=data_bits,
                data=text,
                info_size=size,
            )
            try:
                return Ring(layout, memory.read, memory.size)
            except PostmortemError:
                continue
    return None


def _info_size(memory: Memory, infos: int, records: int) -> int:
    """Distance of two infos, by their sequence numbers: 0, 1, 2; 0 if these are no infos."""
    if _word(memory.read(infos, WORD), 0):
        return 0
    for size in INFO_SIZES:
        if all(
            _word(memory.read(infos + number * size, WORD), 0) == number
            for number in range(1, min(3, records))
        ):
            return size
    return 0


def search(memory: Memory) -> Ring | TextChain | None:
    """The log of a kernel without a note: all of it, or its texts alone; None if there is none.

    Reads all of the memory several times.
    """
    best: TextChain | None = None
    for chain in _chains(memory):
        if best is None or len(chain.blocks) > len(best.blocks):
            best = chain
    if best is None:
        return None
    return _ring(memory, best) or best
