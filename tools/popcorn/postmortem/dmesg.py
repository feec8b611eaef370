# SPDX-License-Identifier: GPL-2.0
"""Records as lines, the way dmesg(1) of util-linux prints them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from popcorn.postmortem.printk import Record

__all__ = ("FACILITIES", "LEVELS", "Style", "escape", "facility_name", "level_name", "lines")

LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news"),
    *("uucp", "cron", "authpriv", "ftp", "12", "13", "14", "15"),
    *(f"local{number}" for number in range(8)),
)
"""By number, which is a byte; the names are those of syslog(3)."""

UTF8_MAX = 4


@dataclass(frozen=True)
class Style:
    """What is before a message. `booted` is when the kernel's clock was 0, seconds since the epoch;
    with it, times are those of the wall clock. `raw` has the priority as a number, like /proc/kmsg.
    """

    times: bool = True
    booted: float | None = None
    decode: bool = False
    raw: bool = False


def level_name(level: int) -> str:
    """The word for a level."""
    return LEVELS[level] if level < len(LEVELS) else str(level)


def facility_name(facility: int) -> str:
    """The word for a facility."""
    return FACILITIES[facility] if facility < len(FACILITIES) else str(facility)


def _stamp(ns: int, booted: float | None) -> str:
    if booted is not None:
        try:
            local = time.localtime(booted + ns / 1e9)
            return time.strftime("[%a %b %e %H:%M:%S %Y] ", local)
        except (OverflowError, ValueError, OSError):
            pass  # a damaged time
    return f"[{ns // 10**9:5d}.{ns // 1000 % 10**6:06d}] "


def _prefix(record: Record, style: Style) -> tuple[str, int]:
    """What is before a message, and how far the message's other lines are moved in."""
    known = record.level is not None and record.facility is not None
    if style.raw:
        priority = f"<{(record.facility or 0) * 8 + (record.level or 0)}>" if known else ""
        prefix = priority + (_stamp(record.ns, None) if record.ns is not None else "")
        return prefix, len(prefix)
    decoded = ""
    if style.decode and record.level is not None and record.facility is not None:
        decoded = f"{facility_name(record.facility):<6s}:{level_name(record.level):<6s}: "
    stamp = _stamp(record.ns, style.booted) if style.times and record.ns is not None else ""
    return decoded + stamp, len(decoded + stamp)


def _character(text: bytes, at: int) -> str:
    """The UTF-8 character that begins there; empty if none does."""
    for size in range(1, UTF8_MAX + 1):
        try:
            return text[at : at + size].decode()
        except UnicodeDecodeError:
            continue
    return ""


def escape(text: bytes, indent: int = 0) -> str:
    r"""Text for a terminal: what cannot be printed as \x1b, further lines moved in by `indent`."""
    shown = []
    at = 0
    while at < len(text):
        character = _character(text, at)
        size = len(character.encode()) or 1
        if character == "\n":
            shown.append("\n")
            if text[at + 1 : at + 2] not in (b"", b"\0"):
                shown.append(" " * indent)
        elif (character.isprintable() and character) or (character in "\t\v\f\r" and character):
            shown.append(character)
        else:
            shown.extend(f"\\x{byte:02x}" for byte in text[at : at + size])
        at += size
    return "".join(shown)


def lines(record: Record, style: Style) -> str:
    """A message with what is before it, without the last line feed."""
    if not record.text:
        return ""
    prefix, indent = _prefix(record, style)
    return prefix + escape(record.text, indent)
