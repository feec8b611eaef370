# SPDX-License-Identifier: GPL-2.0
"""The way from the link to the outside, through this kernel: translated addresses, or a bridge.

With translation this kernel forwards what comes from the link's subnet and puts its own address
on it. That is a table of nftables of our own, and forwarding switched on; the table's comment keeps
what forwarding was before, so any later command can undo both.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from popcorn.errors import PermissionDeniedError, PopcornError

__all__ = ("NAT", "Nat", "parse_uplink")

NAT = "nat"
BRIDGE = "bridge:"
TABLE = "popcorn_uplink"
FORWARD = "/proc/sys/net/ipv4/ip_forward"

Run = Callable[[list[str], str], "subprocess.CompletedProcess[str]"]


def parse_uplink(text: str) -> str:
    """`nat` or `bridge:NAME` as it is, or ValueError."""
    if text == NAT or (text.startswith(BRIDGE) and len(text) > len(BRIDGE)):
        return text
    raise ValueError(f"'{text}' is no uplink: write nat or bridge:NAME")


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


class Nat:
    """Translation for a link. `run` runs nft; `root` is where /proc is."""

    def __init__(self, run: Run = _run, root: Path = Path("/")) -> None:
        self._nft = run
        self._forward = root / FORWARD.lstrip("/")

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return self._nft(["nft", *words], "")
        except FileNotFoundError:
            raise PopcornError("nft is not there", "install nftables") from None

    def _table(self) -> str | None:
        """Our table as it is, None if there is none."""
        done = self._ask("list", "table", "ip", TABLE)
        return done.stdout if done.returncode == 0 else None

    def is_on(self) -> bool:
        """Whether addresses are translated."""
        return self._table() is not None

    def switch_on(self, link: str, subnet: str) -> None:
        """Translate what comes from `subnet` and leaves by another interface than `link`."""
        before = self._table()
        was = self._was(before) if before is not None else self._read()
        script = (
            f"table ip {TABLE}\n"
            f"delete table ip {TABLE}\n"
            f"table ip {TABLE} {{\n"
            f'\tcomment "ip_forward was {was}"\n'
            "\tchain postrouting {\n"
            "\t\ttype nat hook postrouting priority srcnat\n"
            f'\t\tip saddr {subnet} oifname != "{link}" masquerade\n'
            "\t}\n"
            "}\n"
        )
        try:
            done = self._nft(["nft", "-f", "-"], script)
        except FileNotFoundError:
            raise PopcornError("nft is not there", "install nftables") from None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            if "not permitted" in reason:
                raise PermissionDeniedError(f"{link}: {reason}", "run it as root")
            raise PopcornError(f"{link}: nft refused: {reason}")
        self._write("1")

    def switch_off(self) -> None:
        """Take it back; nothing happens if it is off."""
        table = self._table()
        if table is None:
            return
        self._ask("delete", "table", "ip", TABLE)
        self._write(self._was(table))

    @staticmethod
    def _was(table: str) -> str:
        found = re.search(r"ip_forward was ([01])", table)
        return found[1] if found else "1"

    def _read(self) -> str:
        return self._forward.read_text().strip()

    def _write(self, value: str) -> None:
        if self._read() != value:
            self._forward.write_text(value + "\n")
