# SPDX-License-Identifier: GPL-2.0
"""Reading another kernel's memory: its log, and a core file of all of it.

Functions from memory to values: they know neither devices nor states, and believe nothing of what
they read. Every failure is a :class:`~popcorn.errors.PostmortemError`.

    for info in find_notes(memory):
        tables = page_tables(memory, info)
        for record in snapshot(ring_of(info, tables), live=False).records: ...
"""

from popcorn.postmortem.memory import ImageMemory, Memory
from popcorn.postmortem.pagetable import PageTables
from popcorn.postmortem.printk import (
    ID_MASK,
    Record,
    Ring,
    Slot,
    Snapshot,
    Status,
    distance,
    ring_of,
    snapshot,
)
from popcorn.postmortem.search import TextChain, search
from popcorn.postmortem.vmcore import Core, core
from popcorn.postmortem.vmcoreinfo import VmcoreInfo, find_notes, page_tables

__all__ = (
    "ID_MASK",
    "Core",
    "ImageMemory",
    "Memory",
    "PageTables",
    "Record",
    "Ring",
    "Slot",
    "Snapshot",
    "Status",
    "TextChain",
    "VmcoreInfo",
    "core",
    "distance",
    "find_notes",
    "page_tables",
    "ring_of",
    "search",
    "snapshot",
)
