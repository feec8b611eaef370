# SPDX-License-Identifier: GPL-2.0
"""What a kernel that checks itself has to say: its log and its list of leaks, read for reports.

Such a kernel is "6.1-debug", with the sanitizers and lockdep; conftest.py makes each test fail that
provokes a report. Reading is here, apart from the machine, for the unit tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
KMSG = Path("/dev/kmsg")

# KASAN and others say BUG, lockdep and WARN_ON() say WARNING; both at the beginning of a message.
# Lockdep and kmemleak give up for good when they fail, and would find nothing from then on.
_REPORT = re.compile(
    r"^(?:BUG: |WARNING: |KASAN: |UBSAN: |ODEBUG: |kernel BUG at "
    r"|INFO: (?:trying to register non-static key|possible|suspicious) ?"
    r"|list_(?:add|del) corruption|BUG |turning off the locking correctness"
    r"|kmemleak: .*(?:disabled|Cannot|Memory pool empty|Trying to|unknown))"
)

SHOWN = 80
"""Lines of a report that are shown; the whole is in the serial log."""

# The numbers of seconds and of scans that kmemleak takes to be sure (mm/kmemleak.c): an object must
# be this old (MSECS_MIN_AGE), and have the same checksum in two scans.
_AGE = 5.5
_SCANS = 2

_LEAK = re.compile(r"^unreferenced object ", re.MULTILINE)
_FRAME = re.compile(r"^ {4}\[<\S+>\] (.+)$", re.MULTILINE)
_LEAK_AGE = re.compile(r"\(age (\d+)\.")

# What the kernel has no name for any more shows as its address: code of a module that is gone, or
# its init section (asm/pgtable_64_types.h: MODULES_VADDR with KASLR).
_NAMELESS = re.compile(r"0x(ffffffff[c-f][0-9a-f]{7})$")


def reports(messages: Iterable[str]) -> list[str]:
    """Return the reports in messages of the kernel log, each with the lines that follow it.

    What comes within the lines of one report belongs to it.
    """
    lines = [line for message in messages for line in message.splitlines()]
    found: list[str] = []
    position = 0
    while position < len(lines):
        if _REPORT.search(lines[position]):
            found.append("\n".join(lines[position : position + SHOWN]))
            position += SHOWN
        else:
            position += 1
    return found


def leaks(text: str, seconds: float) -> list[str]:
    """Return the records of kmemleak that are of Popcorn's modules.

    `text` is what its file in debugfs holds. A frame without a name counts if the object is not
    older than `seconds`: since then, only Popcorn's modules came and went.
    """
    found = []
    for record in _LEAK.split(text)[1:]:
        age = _LEAK_AGE.search(record)
        recent = age is not None and int(age[1]) <= seconds
        frames = _FRAME.findall(record)
        if any("[popcorn" in frame or (recent and _NAMELESS.search(frame)) for frame in frames):
            found.append(f"unreferenced object {record.rstrip()}")
    return found


class Log:
    """The kernel's own messages, from the first one of this boot on."""

    # Set by a test that makes lockdep report something.
    lockdep_may_be_off = False

    def __init__(self) -> None:
        self._fd = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK)

    def new(self) -> list[str]:
        """Return what was logged since the last call, messages of programs left out."""
        return [text for facility, text in map(parse, self._records()) if facility == 0]

    def _records(self) -> Iterator[str]:
        while True:
            try:
                yield os.read(self._fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return
            except BrokenPipeError as lost:
                raise RuntimeError("the kernel log overflowed: log_buf_len= is too small") from lost


def parse(record: str) -> tuple[int, str]:
    """Return the facility and the text of a record (Documentation/ABI/testing/dev-kmsg)."""
    head, _, rest = record.partition(";")
    # Further lines are properties of the device that the message is about.
    text = next(iter(rest.splitlines()), "")
    return int(head.split(",")[0]) >> 3, re.sub(r"\\x([0-9a-f]{2})", _unescape, text)


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


def lockdep_is_on() -> bool:
    """Whether lockdep still looks: it stops at its first report, and where its tables are full."""
    stats = Path("/proc/lockdep_stats").read_text()
    return re.search(r"^ debug_locks: +1$", stats, re.MULTILINE) is not None


def find_leaks(since: float) -> list[str]:
    """Let the kernel look for leaks, and return Popcorn's; `since` is a time.monotonic()."""
    time.sleep(_AGE)
    for _scan in range(_SCANS):
        KMEMLEAK.write_text("scan")
    return leaks(KMEMLEAK.read_text(), time.monotonic() - since + 1)


def clear_leaks() -> None:
    """Let what was found until now not be told again."""
    with contextlib.suppress(OSError):
        KMEMLEAK.write_text("clear")
