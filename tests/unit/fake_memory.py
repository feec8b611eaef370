# SPDX-License-Identifier: GPL-2.0
"""The memory of a kernel that never was: page tables, vmcoreinfo note and a printk ring buffer.

Written by the same rules as kernel/printk/printk_ringbuffer.c writes it, so that the reader is not
tested against itself: blocks that wrap, records that push out older ones, ids that start just below
their last value.
"""

from __future__ import annotations

import struct

IMAGE = 0xFFFFFFFF80000000
RESERVED, COMMITTED, FINALIZED, REUSABLE = range(4)
IDS = 1 << 62
WORDS = 1 << 64
FAILED, EMPTY = 1, 3
PAGE = 4096
PRESENT_WRITABLE = 3
LARGE = 0x80

# Where things are in the memory.
NOTE, TABLES, KERNEL = 0x7000, 0x10000, 0x200000
RING, DESCRIPTORS, INFOS, DATA = 0x1000, 0x2000, 0x8000, 0x20008


class FakeMemory:
    """8 MiB from `base` on, in `image`.

    `direct`: the rings have addresses in the direct map, as those of a kernel with log_buf_len=.
    """

    size = 8 << 20

    def __init__(
        self,
        *,
        base: int = 0x140000000,
        levels: int = 4,
        bits: int = 5,
        data_bits: int = 11,
        info_size: int = 88,
        wide_ids: bool = False,
        direct: bool = False,
        direct_map: int = 0xFFFF888000000000,
        kaslr: int = 0x12400000,
    ) -> None:
        self.base, self.levels = base, levels
        self.bits, self.data_bits, self.info_size = bits, data_bits, info_size
        self.image = bytearray(self.size)
        self.direct_map = direct_map
        # The image is moved by KASLR in both address spaces, each on its own.
        self.virtual = IMAGE + kaslr - KERNEL
        self.phys_base = base - kaslr + KERNEL
        self.ring_virtual = direct_map + base if direct else self.virtual
        first = -(1 << bits) % (IDS if wide_ids else 1 << 32)
        self.head = self.tail = first - 1
        self.head_lpos = self.tail_lpos = -(1 << data_bits) % WORDS
        self.first = first
        self.seq = 0
        self.blocks: dict[int, int] = {}
        self._tables()
        self._ring()

    # bytes

    def put(self, at: int, data: bytes) -> None:
        self.image[at : at + len(data)] = data

    def words(self, at: int, *values: int) -> None:
        self.put(at, struct.pack(f"<{len(values)}Q", *(value % WORDS for value in values)))

    # page tables: the direct map by one large page and one table of small ones

    def _tables(self) -> None:
        free = TABLES + PAGE
        for start, count, leaf in ((0, 1, 12), (2 << 20, 2, 21), (6 << 20, 1, 12)):
            for number in range(count):
                virtual = self.direct_map + self.base + start + (number << leaf)
                free = self._map(virtual, self.base + start + (number << leaf), leaf, free)

    def _map(self, virtual: int, physical: int, leaf: int, free: int) -> int:
        table, shift = TABLES, 12 + 9 * (self.levels - 1)
        while shift > leaf:
            at = table + (virtual >> shift & 511) * 8
            (entry,) = struct.unpack_from("<Q", self.image, at)
            if not entry:
                entry = (self.base + free) | PRESENT_WRITABLE
                self.words(at, entry)
                free += PAGE
            table = (entry & ~0xFFF) - self.base
            shift -= 9
        large = LARGE if leaf > 12 else 0
        self.words(
            table + (virtual >> leaf & 511) * 8, physical | PRESENT_WRITABLE | large | 1 << 63
        )
        return free

    # the ring

    def _ring(self) -> None:
        at = KERNEL
        self.words(at, self.ring_virtual + KERNEL + RING)  # prb
        ring = at + RING
        self.words(ring, self.bits, *(self.ring_virtual + KERNEL + x for x in (DESCRIPTORS, INFOS)))
        self.words(ring + 48, self.data_bits, self.ring_virtual + KERNEL + DATA)
        slots = 1 << self.bits
        self.words(at + DESCRIPTORS + (slots - 1) * 24, REUSABLE << 62 | self.head, FAILED, FAILED)
        self.words(at + INFOS, -slots)
        self._positions()

    def _positions(self) -> None:
        self.words(KERNEL + RING + 24, self.head, self.tail)

    def descriptor(self, id_: int) -> int:
        return KERNEL + DESCRIPTORS + (id_ & (1 << self.bits) - 1) * 24

    def info(self, id_: int) -> int:
        return KERNEL + INFOS + (id_ & (1 << self.bits) - 1) * self.info_size

    def _push(self) -> None:
        """Give up the oldest record."""
        if self.tail in self.blocks:
            self.tail_lpos = self.blocks.pop(self.tail)
        (word,) = struct.unpack_from("<Q", self.image, self.descriptor(self.tail))
        self.words(self.descriptor(self.tail), REUSABLE << 62 | word & IDS - 1)
        self.tail = (self.tail + 1) % IDS

    def add(
        self,
        text: bytes,
        ns: int = 0,
        *,
        level: int = 6,
        facility: int = 0,
        caller: int = 1,
        state: int = FINALIZED,
        behind: bytes = b"",
        lost: bool = False,
    ) -> int:
        """Write a record and return its id; `behind` is what printk left behind the text."""
        self.head = (self.head + 1) % IDS
        if (self.head - self.tail) % IDS >= 1 << self.bits:
            self._push()
        begin = end = FAILED if lost else EMPTY
        if text and not lost:
            size = 1 << self.data_bits
            need = 8 + (len(text + behind) + 7 & ~7)
            begin = self.head_lpos
            end = begin + need
            if begin % size + need > size:
                end = (begin // size + 1) * size + need
            while (end - self.tail_lpos) % WORDS > size and self.tail != self.head:
                self._push()
            at = KERNEL + DATA + (begin % size if begin // size == (end - 1) // size else 0)
            self.put(at, struct.pack("<Q", self.head) + text + behind)
            self.head_lpos, begin, end = end % WORDS, begin % WORDS, end % WORDS
            self.blocks[self.head] = end
        self.words(self.descriptor(self.head), state << 62 | self.head, begin, end)
        info = struct.pack("<QQHBBI", self.seq, ns, len(text), facility, level << 5 | 2, caller)
        self.put(self.info(self.head), info.ljust(self.info_size, b"\0"))
        self.seq += 1
        self._positions()
        return self.head

    # the note

    def values(self) -> dict[str, str]:
        def symbol(at: int) -> str:
            return f"{self.virtual + at:x}"

        found = {
            "OSRELEASE": "6.1.0-test",
            "PAGESIZE": "4096",
            "SYMBOL(init_top_pgt)": symbol(TABLES),
            "SYMBOL(prb)": symbol(KERNEL),
            "NUMBER(phys_base)": str(self.phys_base),
            "NUMBER(pgtable_l5_enabled)": str(int(self.levels == 5)),
            "NUMBER(sme_mask)": "0",
            "SIZE(atomic_long_t)": "8",
            "SIZE(prb_desc)": "24",
            "SIZE(printk_info)": str(self.info_size),
        }
        offsets = {
            "printk_ringbuffer.desc_ring": 0,
            "printk_ringbuffer.text_data_ring": 48,
            "prb_desc_ring.count_bits": 0,
            "prb_desc_ring.descs": 8,
            "prb_desc_ring.infos": 16,
            "prb_desc_ring.head_id": 24,
            "prb_desc_ring.tail_id": 32,
            "prb_desc.state_var": 0,
            "prb_desc.text_blk_lpos": 8,
            "prb_data_blk_lpos.begin": 0,
            "prb_data_blk_lpos.next": 8,
            "printk_info.seq": 0,
            "printk_info.ts_nsec": 8,
            "printk_info.text_len": 16,
            "printk_info.caller_id": 20,
            "prb_data_ring.size_bits": 0,
            "prb_data_ring.data": 8,
            "atomic_long_t.counter": 0,
        }
        return found | {f"OFFSET({name})": str(value) for name, value in offsets.items()}

    def write_note(self, at: int = NOTE, **change: str | None) -> bytes:
        """Write the note; keys that are changed to None are left out. Returns its text."""
        values = self.values() | {key: value for key, value in change.items() if value is not None}
        gone = {key for key, value in change.items() if value is None}
        text = "".join(f"{k}={v}\n" for k, v in values.items() if k not in gone).encode()
        self.put(at, struct.pack("<III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text)
        return text
