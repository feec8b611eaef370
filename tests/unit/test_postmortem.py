# SPDX-License-Identifier: GPL-2.0
"""Another kernel's memory, read: its log by a note or by its looks, damage, headers of a core."""

from __future__ import annotations

import random
import struct

import pytest

from fake_memory import (
    COMMITTED,
    DATA,
    DESCRIPTORS,
    IDS,
    INFOS,
    KERNEL,
    NOTE,
    PAGE,
    RESERVED,
    RING,
    TABLES,
    FakeMemory,
)
from popcorn.errors import PostmortemError
from popcorn.postmortem import (
    ImageMemory,
    Ring,
    Status,
    TextChain,
    core,
    find_notes,
    page_tables,
    ring_of,
    search,
    snapshot,
)
from popcorn.postmortem.memory import CHUNK_BYTES, find
from popcorn.postmortem.search import clean

BANNER = b"Linux version 6.1.0-test (someone@somewhere)"


def memory_of(fake):
    return ImageMemory(fake.image, fake.base)


def ring(fake, **change):
    if not any(fake.image[NOTE : NOTE + 4]):
        fake.write_note(**change)
    memory = memory_of(fake)
    (info,) = find_notes(memory)
    return ring_of(info, page_tables(memory, info))


def texts(got):
    return [record.text for record in got.records]


SHAPES = {
    "6.1": {},
    "7.2": {"info_size": 112, "wide_ids": True},
    "five levels": {"levels": 5, "direct_map": 0xFF11000000000000, "direct": True},
    "log_buf_len": {"direct": True, "direct_map": 0xFFFF9A3F40000000},
    "low": {"base": 0x10000000},
    "phys_base below zero": {"base": 0x4000000, "kaslr": 0x30000000},
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def fake(request):
    return FakeMemory(**request.param)


# the log, by the note


def test_records_are_read_as_they_were_written(fake):
    fake.add(BANNER, level=5)
    fake.add(b"second", 1_234_567_890, level=3, facility=1, caller=0x80000002)
    fake.add(b"two\nlines\x1b", 2**63)
    fake.add(b"")
    got = snapshot(ring(fake), live=True)
    assert got.problems == ()
    assert texts(got) == [BANNER, b"second", b"two\nlines\x1b", b""]
    second = got.records[1]
    assert (second.seq, second.ns, second.level, second.facility, second.caller) == (
        1,
        1_234_567_890,
        3,
        1,
        0x80000002,
    )
    assert got.records[2].ns == 2**63


@pytest.mark.parametrize("size", [1, 7, 8, 9, 40, 120])
def test_a_ring_that_went_round_many_times(fake, size):
    written = [f"{number:05d}".encode().ljust(size, b".") for number in range(500)]
    for number, text in enumerate(written):
        fake.add(text, number)
    got = snapshot(ring(fake), live=True)
    assert got.problems == ()
    assert len(got.records) > 10
    assert texts(got) == written[-len(got.records) :]
    assert [record.seq for record in got.records] == list(range(500 - len(got.records), 500))


def test_a_block_that_ends_where_the_ring_ends():
    fake = FakeMemory(data_bits=8)
    for _ in range(4):
        fake.add(b"x" * 56)
    assert fake.head_lpos % 256 == 0
    assert len(snapshot(ring(fake), live=True).records) == 4


def test_ids_start_over():
    fake = FakeMemory(wide_ids=True)
    for number in range(40):
        fake.add(b"%d" % number)
    assert fake.tail > fake.head
    assert texts(snapshot(ring(fake), live=True)) == [b"%d" % n for n in range(8, 40)]


def test_an_empty_ring(fake):
    assert snapshot(ring(fake), live=True).records == ()


def test_lines_that_are_not_finished(fake):
    fake.add(b"whole")
    fake.add(b"begun ... ", state=COMMITTED)
    assert texts(snapshot(ring(fake), live=True)) == [b"whole"]
    assert texts(snapshot(ring(fake), live=False)) == [b"whole", b"begun ... "]
    fake.add(b"being written", state=RESERVED)
    fake.add(b"later")
    assert texts(snapshot(ring(fake), live=False)) == [b"whole", b"begun ... ", b"later"]
    assert snapshot(ring(fake), live=False).problems == ("1 of its records: it was being written",)
    assert snapshot(ring(fake), live=True).problems == ()


def test_a_record_without_room_for_its_text(fake):
    fake.add(b"one")
    fake.add(b"too much", lost=True)
    fake.add(b"three")
    got = snapshot(ring(fake), live=True)
    assert texts(got) == [b"one", b"three"]
    assert got.problems == ("1 of its records: there was no room for its text",)


def test_a_record_that_changes_while_it_is_read(fake):
    for number in range(3):
        fake.add(b"%d" % number)
    found = ring(fake)
    read, target = found._read, fake.first + 1

    def and_then_reuse(address, size):
        data = read(address, size)
        if size == fake.info_size and struct.unpack_from("<Q", data)[0] == 1:
            at = fake.descriptor(target)
            fake.words(at, 2 << 62 | (target + 32) % IDS)
        return data

    found._read = and_then_reuse
    assert found.look(target).status is Status.GONE
    assert found.look(target + 1).record.text == b"2"


def test_a_record_that_is_finished_while_it_is_read(fake):
    id_ = fake.add(b"line", state=COMMITTED)
    found = ring(fake)
    read = found._read

    def and_then_finish(address, size):
        data = read(address, size)
        if size == fake.info_size:
            fake.words(fake.descriptor(id_), 2 << 62 | id_)
        return data

    found._read = and_then_finish
    assert found.look(id_).status is Status.WHOLE


def test_a_record_that_never_rests(fake):
    id_ = fake.add(b"line")
    found = ring(fake)
    read = found._read

    def and_then_change(address, size):
        data = read(address, size)
        if size == fake.info_size:
            (word,) = struct.unpack_from("<Q", fake.image, fake.descriptor(id_))
            fake.words(fake.descriptor(id_), word ^ 3 << 62)
        return data

    found._read = and_then_change
    assert found.look(id_).status is Status.WRITING


# damage


def scribbled(fake, at, size, seed):
    fake.put(at, random.Random(seed).randbytes(size))


def test_overwritten_text_is_told_and_the_rest_is_read(fake):
    for number in range(10):
        fake.add(b"line %d" % number)
    fake.put(KERNEL + DATA + 16 * 3, b"\xee" * 8)
    got = snapshot(ring(fake), live=False)
    assert texts(got) == [b"line %d" % n for n in range(10) if n != 3]
    assert got.problems == ("1 of its records: its text was overwritten",)


def test_a_length_beyond_the_block_is_cut(fake):
    id_ = fake.add(b"short")
    fake.put(fake.info(id_) + 16, b"\xff\xff")
    got = snapshot(ring(fake), live=False)
    assert texts(got) == [b"short\0\0\0"]
    assert got.problems == ("1 of its records: it is longer than its place",)


@pytest.mark.parametrize("begin", [4, 1 << 40, (1 << 64) - 8, 2048 * 3 + 2040])
def test_bad_positions(fake, begin):
    fake.add(b"before")
    id_ = fake.add(b"gone")
    fake.add(b"after")
    fake.words(fake.descriptor(id_) + 8, begin)
    got = snapshot(ring(fake), live=False)
    assert texts(got) == [b"before", b"after"]
    assert len(got.problems) == 1


def test_damaged_bounds_do_not_hide_the_records(fake):
    for number in range(40):
        fake.add(b"line %d" % number)
    fake.words(KERNEL + RING + 24, 0x0123456789ABCDEF, 0)
    got = snapshot(ring(fake), live=False)
    assert texts(got) == [b"line %d" % n for n in range(8, 40)]
    assert "bounds of the log are damaged" in got.problems[0]


@pytest.mark.parametrize(
    ("at", "value"),
    [(RING, 0), (RING, 63), (RING, 0xFFFFFFFF), (RING, 17), (RING + 48, 0), (RING + 48, 24)],
)
def test_a_size_that_cannot_be(fake, at, value):
    fake.add(b"line")
    fake.words(KERNEL + at, value)
    with pytest.raises(PostmortemError, match="log's size is damaged"):
        ring(fake)


@pytest.mark.parametrize("pointer", [RING + 8, RING + 16, RING + 56])
def test_pointers_to_nowhere(fake, pointer):
    fake.add(b"line")
    for value in (0, 0x1000, 1 << 63, (1 << 64) - 1, fake.ring_virtual + (1 << 30)):
        fake.words(KERNEL + pointer, value)
        got = snapshot(ring(fake), live=False)
        assert got.records == () and len(got.problems) == 1


def test_sizes_that_are_claimed_cost_nothing():
    """As large a ring as may be, of which nothing is there."""
    fake = FakeMemory()
    fake.add(b"line")
    fake.words(KERNEL + RING, 16)
    fake.words(KERNEL + RING + 24, 1 << 50, 0)
    with pytest.raises(PostmortemError, match="bounds"):
        snapshot(ring(fake), live=False)
    fake.words(KERNEL + RING + 24, (1 << 50) + 65535, 1 << 50)
    assert snapshot(ring(fake), live=False).records == ()


@pytest.mark.parametrize("seed", range(60))
def test_garbage_never_hurts(seed):
    """Any of it overwritten: what can be read is read, the rest is said, nothing else is raised."""
    dice = random.Random(seed)
    fake = FakeMemory(**dice.choice(list(SHAPES.values())))
    for number in range(80):
        fake.add(b"line %d" % number, number)
    fake.write_note()
    for _ in range(dice.randrange(1, 40)):
        area = dice.choice([NOTE, TABLES, KERNEL, KERNEL + RING, KERNEL + DESCRIPTORS])
        area = dice.choice([area, KERNEL + INFOS, KERNEL + DATA])
        scribbled(fake, area + dice.randrange(0, 600), dice.choice([1, 8, 64]), dice.random())
    memory = memory_of(fake)
    for info in find_notes(memory):
        try:
            tables = page_tables(memory, info)
            tables.direct_map()
        except PostmortemError:
            pass
        try:
            got = snapshot(ring_of(info, page_tables(memory, info)), live=False)
        except PostmortemError:
            continue
        assert len(got.records) <= 1 << fake.bits


def test_memory_of_noise_alone():
    memory = ImageMemory(random.Random(1).randbytes(4 << 20), 1 << 32)
    assert list(find_notes(memory)) == []
    assert search(memory) is None


# notes


def test_only_a_note_at_the_start_of_a_page_counts():
    fake = FakeMemory()
    text = fake.write_note()
    fake.put(0x40000, text)  # the page that the kernel makes it of
    fake.put(0x50010, fake.image[NOTE : NOTE + 24 + len(text)])
    assert [info.address for info in find_notes(memory_of(fake))] == [fake.base + NOTE]


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<III", 11, 1 << 30, 0) + b"VMCOREINFO\0\0OSRELEASE=6",
        struct.pack("<III", 11, 20, 1) + b"VMCOREINFO\0\0OSRELEASE=6",
        struct.pack("<III", 11, 20, 0) + b"VMCOREINF0\0\0OSRELEASE=6",
        struct.pack("<III", 11, 20, 0) + b"VMCOREINFO\0\0CRASHTIME=6",
    ],
)
def test_what_is_no_note(header):
    fake = FakeMemory()
    fake.put(NOTE, header)
    assert list(find_notes(memory_of(fake))) == []


def test_a_note_over_two_pages_at_every_place():
    size = 2 * CHUNK_BYTES + 3 * PAGE
    for at in (0, CHUNK_BYTES - PAGE, CHUNK_BYTES, size - 2 * PAGE):
        image = bytearray(size)
        text = b"OSRELEASE=6.1\n".ljust(4096, b"#")
        note = struct.pack("<III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text
        image[at : at + len(note)] = note
        (info,) = find_notes(ImageMemory(image, 0x100000))
        assert (info.address, info.text) == (0x100000 + at, text)
    # Cut off by the end of the memory.
    image = bytearray(size)
    image[size - PAGE :] = note[:PAGE]
    assert list(find_notes(ImageMemory(image, 0))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"SYMBOL(prb)": None},
        {"SYMBOL(prb)": "zz"},
        {"SYMBOL(init_top_pgt)": None},
        {"NUMBER(phys_base)": "much"},
        {"SIZE(prb_desc)": "0"},
        {"SIZE(prb_desc)": "8"},
        {"SIZE(printk_info)": "99999999999"},
        {"OFFSET(printk_info.text_len)": "-1"},
        {"OFFSET(prb_desc.state_var)": "4000000000"},
        {"SIZE(atomic_long_t)": "4"},
    ],
)
def test_notes_that_cannot_be_used(change):
    fake = FakeMemory()
    fake.add(b"line")
    with pytest.raises(PostmortemError, match=r"note|64-bit"):
        ring(fake, **change)


# page tables


def test_direct_map(fake):
    fake.write_note()
    memory = memory_of(fake)
    (info,) = find_notes(memory)
    tables = page_tables(memory, info)
    assert tables.direct_map() == fake.direct_map
    for at in (0, 0x123, (2 << 20) + 5, (6 << 20) + 4000):
        assert tables.translate(fake.direct_map + fake.base + at) == fake.base + at
    assert tables.translate(fake.virtual + KERNEL) == fake.base + KERNEL
    with pytest.raises(PostmortemError, match="not mapped"):
        tables.translate(fake.direct_map + fake.base + PAGE)
    fake.put((6 << 20) + 4090, b"abcdef")
    assert tables.read(fake.direct_map + fake.base + (6 << 20) + 4090, 6) == b"abcdef"
    with pytest.raises(PostmortemError, match="not mapped"):
        tables.read(fake.direct_map + fake.base + (6 << 20) + 4090, 7)


@pytest.mark.parametrize("levels", [4, 5])
def test_page_tables_that_lead_in_circles(levels):
    fake = FakeMemory(levels=levels)
    fake.write_note()
    # Every entry is present, no leaf, and leads back to the top.
    fake.put(TABLES, struct.pack("<Q", (fake.base + TABLES) | 3) * 512)
    memory = memory_of(fake)
    (info,) = find_notes(memory)
    tables = page_tables(memory, info)
    tables.direct_map()
    fake.put(TABLES, struct.pack("<Q", 1 << 51 | 3) * 512)
    with pytest.raises(PostmortemError, match="no direct map"):
        page_tables(memory, info).direct_map()


# the log, by its looks


@pytest.fixture(params=["6.1", "7.2"])
def early(request):
    """A kernel that died before it made a note; what printk leaves behind a text is there."""
    fake = FakeMemory(**SHAPES[request.param], bits=7)
    fake.add(BANNER, level=5, behind=b"e)\n")
    fake.add(b"Command line: quiet", level=6, behind=b"et\n")
    fake.add(b"", level=6)
    fake.add(b"x86/fpu: done", 5_000_000, level=4, behind=b"ne\n")
    fake.add(b"Calibrating ... ", 6_000_000, state=COMMITTED)
    return fake


WANTED = [BANNER, b"Command line: quiet", b"", b"x86/fpu: done", b"Calibrating ... "]


def test_a_log_without_a_note(early):
    found = search(memory_of(early))
    assert isinstance(found, Ring)
    assert found.layout.info_size == early.info_size
    got = snapshot(found, live=False)
    assert texts(got) == WANTED
    assert [(r.ns, r.level) for r in got.records][3] == (5_000_000, 4)
    assert texts(snapshot(found, live=True)) == WANTED[:-1]


@pytest.mark.parametrize("damaged", [RING, DESCRIPTORS, INFOS])
def test_texts_alone_are_better_than_nothing(early, damaged):
    early.put(KERNEL + damaged, b"\xff" * 600)
    found = search(memory_of(early))
    assert isinstance(found, TextChain)
    got = found.snapshot()
    assert texts(got) == [text for text in WANTED if text]
    assert [record.seq for record in got.records] == [0, 1, 3, 4]
    assert got.records[0].ns is None
    assert "only the texts" in got.problems[0]


def test_the_banner_alone(early):
    fake = FakeMemory()
    fake.add(BANNER)
    found = search(memory_of(fake))
    got = found.snapshot() if isinstance(found, TextChain) else snapshot(found, live=False)
    assert texts(got) == [BANNER]


def test_banners_elsewhere_are_no_log(early):
    # In the image, in files, in what dmesg printed.
    for at, before in (
        (0x700000, b"\0" * 8),
        (0x710000, b"00000] "),
        (0x720000, b"\x07" + b"\0" * 7),
    ):
        early.put(at, before + BANNER + b"\0")
    assert texts(snapshot(search(memory_of(early)), live=False)) == WANTED


def test_a_memory_full_of_descriptors(early):
    first, begin = early.first, -(1 << early.data_bits) % (1 << 64)
    size = 8 + (len(BANNER) + 3 + 7 & ~7)
    block = struct.pack("<QQQ", 2 << 62 | first, begin, (begin + size) % (1 << 64))
    start = 0x300000
    early.put(start, block * ((early.size - start) // len(block)))
    early.put(KERNEL + DESCRIPTORS, b"\xff" * 24)
    assert texts(search(memory_of(early)).snapshot()) == [text for text in WANTED if text]


def test_a_memory_full_of_banners():
    fake = FakeMemory()
    block = struct.pack("<Q", fake.first) + BANNER.ljust(56, b"\0")
    fake.image[:] = block * (len(fake.image) // len(block))
    found = search(memory_of(fake))
    assert isinstance(found, TextChain) and len(found.blocks) == 1


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (b"hello\0\0\0", b"hello"),
        (b"hello\n\0\0", b"hello"),
        (b"hellolo\n", b"hello"),
        (b"hellolo\0", b"hello"),
        (b"usable\x01c\0", b"usable"),
        (b"", b""),
        (b"\n", b""),
    ],
)
def test_what_printk_leaves_behind(block, text):
    assert clean(block) == text


# memory


def test_find_sees_what_lies_over_the_end_of_a_piece():
    image = bytearray(CHUNK_BYTES * 2 + 100)
    for at in (0, CHUNK_BYTES - 3, CHUNK_BYTES, CHUNK_BYTES * 2 - 8, len(image) - 8):
        image[at : at + 8] = b"\xaa" * 8
    found = list(find(ImageMemory(image, 0x1000), b"\xaa" * 8))
    assert found == sorted(set(found))
    assert {a - 0x1000 for a in found} >= {0, CHUNK_BYTES - 3, CHUNK_BYTES * 2 - 8, len(image) - 8}


@pytest.mark.parametrize(("address", "size"), [(0xFFF, 1), (0x1000, 17), (0x1011, 0), (0x1000, -1)])
def test_nothing_is_read_outside(address, size):
    with pytest.raises(PostmortemError, match="outside"):
        ImageMemory(bytes(16), 0x1000).read(address, size)


# a core's headers


def test_core_headers():
    made = core(
        [(0x20000, 0x10000), (0x140000000, 8 << 20)], 0xFFFF888000000000, b"OSRELEASE=x\n", 2
    )
    header = made.header
    assert header[:7] == b"\x7fELF\x02\x01\x01"
    kind, machine = struct.unpack_from("<HH", header, 16)
    assert (kind, machine) == (4, 62)
    (at,) = struct.unpack_from("<Q", header, 32)
    (count,) = struct.unpack_from("<H", header, 56)
    programs = [struct.unpack_from("<IIQQQQQQ", header, at + i * 56) for i in range(count)]
    note, low, region = programs
    assert note[0] == 4 and (low[0], region[0]) == (1, 1)
    assert region[2:6] == (made.segments[1].offset, 0xFFFF888140000000, 0x140000000, 8 << 20)
    # crash(8) takes a core with another alignment for one of netdump.
    assert all((program[2] % PAGE, program[7]) == (0, 0) for program in (low, region))
    assert made.size == region[2] + (8 << 20)
    assert made.segments[0].offset == len(header)

    notes, at, found = header[note[2] : note[2] + note[5]], 0, []
    while at < len(notes):
        name, size, number = struct.unpack_from("<III", notes, at)
        at += 12
        found.append((notes[at : at + name], number, size))
        content = notes[at + (name + 3 & ~3) :][:size]
        at += (name + 3 & ~3) + (size + 3 & ~3)
    assert found == [(b"CORE\0", 1, 336), (b"CORE\0", 1, 336), (b"VMCOREINFO\0", 0, 12)]
    assert content == b"OSRELEASE=x\n"
