# SPDX-License-Identifier: GPL-2.0
"""Reports in the log of a kernel that checks itself. All samples are of Linux 6.1."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import reports

QUIET = [
    "Linux version 6.1.192-debug (gcc (Debian 12.2.0-14) 12.2.0) #1 SMP PREEMPT_DYNAMIC",
    "kmemleak: Kernel memory leak detector initialized (mem pool available: 15021)",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "KTAP version 1",
    "popcorn: loading out-of-tree module taints kernel.",
    "popcorn_host: kernel 'web' is debugged",
    "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
    "rcu: RCU lockdep checking is enabled.",
    "smpboot: CPU 2 is now offline",
    "kasan: KernelAddressSanitizer initialized",
]


@pytest.mark.parametrize(
    "message",
    [
        "BUG: KASAN: use-after-free in pcn_ring_pop+0x6f/0x120 [popcorn]",
        "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580",
        "BUG: using smp_processor_id() in preemptible [00000000] code: modprobe/301",
        "BUG: unable to handle page fault for address: ffffc90000c3d000",
        "WARNING: CPU: 1 PID: 221 at kmod/host/cpu.c:80 pcn_cpu_lease+0x20/0x40 [popcorn_host]",
        "WARNING: possible circular locking dependency detected",
        "WARNING: suspicious RCU usage",
        "INFO: trying to register non-static key.",
        "UBSAN: shift-out-of-bounds in kmod/core/ring.c:44:9",
        "ODEBUG: free active (active state 0) object type: timer_list",
        "list_add corruption. next->prev should be prev (ffff888), but was ffff889.",
        "BUG kmalloc-64 (Tainted: G           O      ): Redzone overwritten",
        "kernel BUG at mm/page_alloc.c:1200!",
        "KASAN: null-ptr-deref in range [0x0000000000000008-0x000000000000000f]",
        "turning off the locking correctness validator.",
        "kmemleak: Kernel memory leak detector disabled",
        "kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE",
        "kmemleak: Cannot allocate a kmemleak_object structure",
        "kmemleak: Trying to color unknown object at 0xffff888004d1a800 as Grey",
    ],
)
def test_a_report_is_told_from_other_messages(message: str) -> None:
    (report,) = reports.reports([*QUIET, message, "Call Trace:", " <TASK>"])
    assert report == f"{message}\nCall Trace:\n <TASK>"


def test_nothing_is_found_where_nothing_is() -> None:
    assert reports.reports(QUIET) == []


def test_what_follows_a_report_closely_is_part_of_it() -> None:
    warning = "WARNING: possible recursive locking detected"
    first, second = reports.reports([warning, *["trace"] * 100, warning, "BUG: KASAN: "])
    assert first.splitlines()[0] == second.splitlines()[0] == warning
    assert len(first.splitlines()) == reports.SHOWN


@pytest.mark.parametrize(
    ("record", "facility", "text"),
    [
        ("4,339,5140900,-;NET: Registered PF_INET\n", 0, "NET: Registered PF_INET"),
        ("12,340,5,-;BUG: says a program\n", 1, "BUG: says a program"),
        ("6,5,1,-;cpu is gone\n SUBSYSTEM=cpu\n DEVICE=+cpu:cpu2\n", 0, "cpu is gone"),
        ("6,5,1,-,caller=T1;a; b\\x0aWARNING: c\\x5c\n", 0, "a; b\nWARNING: c\\"),
    ],
)
def test_records_of_the_log_are_read(record: str, facility: int, text: str) -> None:
    assert reports.parse(record) == (facility, text)


def leak(*frames: str, age: float = 12.3) -> str:
    lines = [
        "unreferenced object 0xffff888004d1a800 (size 2048):",
        f'  comm "modprobe", pid 200, jiffies 4294900000 (age {age:.3f}s)',
        "  hex dump (first 32 bytes):",
        "    5b 70 6f 70 63 6f 72 6e 5d 00 00 00 00 00 00 00  [popcorn].......",
        "  backtrace:",
        *(f"    [<{position:016x}>] {frame}" for position, frame in enumerate(frames)),
    ]
    return "\n".join(lines) + "\n"


KERNEL = ("kmalloc_trace+0x26/0x90", "do_init_module+0x4a/0x220")


@pytest.mark.parametrize("frame", ["pcn_node_new+0x31/0x90 [popcorn]", "f+0x1/0x9 [popcorn_host]"])
def test_a_leak_of_a_module_of_ours_is_found(frame: str) -> None:
    ours = leak(KERNEL[0], frame, KERNEL[1])
    assert reports.leaks(leak(*KERNEL) + ours + leak(*KERNEL), 1.0) == [ours.rstrip()]


def test_a_leak_of_others_is_not_ours() -> None:
    text = leak(*KERNEL, "p9_client_create+0x10/0x20 [9pnet]")
    assert reports.leaks(text, 1000.0) == []
    assert reports.leaks("", 1000.0) == []


def test_code_without_a_name_is_of_a_module_that_is_gone() -> None:
    text = leak(*KERNEL, "0xffffffffc02d4044", age=30.0)
    assert len(reports.leaks(text, 40.0)) == 1
    # What there was before the session began is of another module's init section.
    assert reports.leaks(text, 20.0) == []
    # A number of another kind is no place in a module.
    assert reports.leaks(leak(*KERNEL, "0xffff888004d1a800"), 40.0) == []
