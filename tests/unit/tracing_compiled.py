# SPDX-License-Identifier: GPL-2.0
"""A compiled BPF program as bcc makes them, for tests of what becomes of it."""

from __future__ import annotations

import struct

from popcorn_tracing.programs import PERCPU_ARRAY, PERCPU_HASH, RINGBUF, Compiled, Map, Probe

U32, U64 = "unsigned int", "unsigned long long"
PAIR = ["pair", [["src", U32], ["dst", U32]], "struct_packed"]
SUM = ["sum", [["count", U64], ["slots", U64, [3]], ["last", U32]], "struct_packed"]


def instruction(code: int, source: int = 0, number: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4, 0, number)


#: Loads the map `sums`, then a constant that looks like one, then the map `events`.
CODE = b"".join(
    (
        instruction(0x18, 1, 77), instruction(0),
        instruction(0x18, 0, 77), instruction(0x18, 1, 77),
        instruction(0x18, 1, 78), instruction(0),
        instruction(0x95),
    )
)  # fmt: skip

COMPILED = Compiled(
    (
        Map("sums", PERCPU_HASH, 8, 36, 16, 0, PAIR, SUM),
        Map("counters", PERCPU_ARRAY, 4, 8, 2, 0, "int", U64),
        Map("events", RINGBUF, 0, 0, 8192, 0, "", ""),
    ),
    (Probe("popcorn_poll", CODE, {0: "sums", 32: "events"}),),
)
