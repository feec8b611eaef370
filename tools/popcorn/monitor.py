# SPDX-License-Identifier: GPL-2.0
"""Netlink notifications and uevents as one stream."""

from __future__ import annotations

import select
from collections.abc import Collection, Iterator
from contextlib import ExitStack

from popcorn.client import EVENT_GROUPS, Client
from popcorn.models import Event
from popcorn.udev import Uevents

__all__ = ("TYPES", "watch")

TYPES = ("kernel", "node", "service", "cpu", "memory")
"""What can be watched. `node` has two sources: notifications, and uevents of class popcorn."""


def watch(
    client: Client,
    types: Collection[str] = TYPES,
    *,
    uevents: Uevents | None = None,
    timeout: float | None = None,
) -> Iterator[Event]:
    """Events as they come, for ever, or until none came for `timeout` seconds.

    Subscribes before it returns the first item, and raises ModuleMissingError if kernel, node or
    service events are wanted and the module is not loaded.
    """
    groups = [group for group in EVENT_GROUPS if group in types]
    subsystems = [name for name in ("cpu", "memory") if name in types]
    if "node" in types:
        subsystems.append("popcorn")
    with ExitStack() as stack:
        poll = select.poll()
        stream = None
        if groups:
            stream = stack.enter_context(client.subscribe(groups))
            poll.register(stream.fileno(), select.POLLIN)
        if subsystems:
            uevents = uevents or Uevents(subsystems)
            poll.register(uevents.fileno(), select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000)}
            if not ready:
                return
            if stream is not None and stream.fileno() in ready:
                yield from client.read_events(stream, groups, timeout=0)
            if uevents is not None and subsystems and uevents.fileno() in ready:
                yield from (e for e in uevents.read() if e.kind in (*subsystems, "resync"))
