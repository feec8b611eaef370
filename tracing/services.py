# SPDX-License-Identifier: GPL-2.0
"""Names of services.

Those of the core have the same number in every kernel. The number of any other one is from the
table of the kernel that a message goes to: on two nodes, one name may be two numbers, and one
number two names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from popcorn.errors import NotFoundError

__all__ = ("Filter", "Names", "service_name")

#: Names by node and number.
Names = Mapping[tuple[int, int], str]

#: Services of the core (enum pcn_service_id in kmod/include/popcorn.h).
CORE = {0: "control", 1: "echo"}


def service_name(names: Names, node: int, number: int) -> str:
    """The name of a service of a node; its number as text if nobody knows it."""
    return CORE.get(number) or names.get((node, number), str(number))


@dataclass(frozen=True)
class Filter:
    """Messages to some services, each a node and a number there; None is every node."""

    services: tuple[tuple[int | None, int], ...]

    @classmethod
    def parse(cls, text: str, names: Names) -> Filter:
        """What a name or a number means now; NotFoundError for a name that no node has."""
        if text.isdecimal() and int(text) < 2**32:
            return cls(((None, int(text)),))
        for number, name in CORE.items():
            if name == text:
                return cls(((None, number),))
        found = tuple(sorted(key for key, name in names.items() if name == text))
        if not found:
            raise NotFoundError(
                f"there is no service '{text}'", "see: popcornctl service list; or give its number"
            )
        return cls(found)

    def passes(self, node: int, number: int) -> bool:
        """Whether it lets a message to that service of that node through."""
        return any(of in (None, node) and number == wanted for of, wanted in self.services)

    def defines(self) -> dict[str, str]:
        """The same for a BPF program, as a macro."""
        conditions = [
            f"(id) == {number}" if node is None else f"((node) == {node} && (id) == {number})"
            for node, number in self.services
        ]
        return {"ONLY_SERVICE(node, id)": f"({' || '.join(conditions)})"}
