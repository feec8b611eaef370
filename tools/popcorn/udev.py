# SPDX-License-Identifier: GPL-2.0
"""Uevents of CPUs, memory blocks and Popcorn nodes. The only module that imports pyudev.

With udevd the events come after its rules ran (source `udev`), without it straight from the kernel
(source `kernel`), as in a small container or an initramfs.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyudev

from popcorn.models import Event

__all__ = ("SUBSYSTEMS", "Uevents", "udevd_runs")

SUBSYSTEMS = ("cpu", "memory", "popcorn")

UDEVD_CONTROL = "run/udev/control"

_BUFFER_BYTES = 1 << 20


def udevd_runs(root: Path = Path("/")) -> bool:
    """Whether udevd is there to pass events on; its control socket tells."""
    return (root / UDEVD_CONTROL).exists()


class Uevents:
    """Subscription to the uevents of some subsystems.

    `monitor` is a started pyudev monitor; tests give one that replays devices.
    """

    def __init__(
        self,
        subsystems: Sequence[str] = SUBSYSTEMS,
        *,
        source: str | None = None,
        monitor: Any = None,
    ) -> None:
        self.source = source or ("udev" if udevd_runs() else "kernel")
        if monitor is None:
            monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=self.source)
            for subsystem in subsystems:
                monitor.filter_by(subsystem)
            monitor.set_receive_buffer_size(_BUFFER_BYTES)
            monitor.start()
        self._monitor = monitor

    def fileno(self) -> int:
        """For poll()."""
        return int(self._monitor.fileno())

    def read(self) -> list[Event]:
        """All events that have come, without waiting.

        A `resync` event stands where some were lost because the receive buffer was full.
        """
        found: list[Event] = []
        while True:
            try:
                device = self._monitor.poll(timeout=0)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.append(Event("resync", "lost", self.source, time.time()))
                continue
            if device is None:
                return found
            found.append(self._event(device))

    def _event(self, device: Any) -> Event:
        properties = {str(key): str(value) for key, value in dict(device.properties).items()}
        if device.subsystem == "popcorn":
            name = properties.get("POPCORN_NAME", device.sys_name)
            state = properties.get("POPCORN_STATE", "")
        else:
            name = device.sys_name
            state = device.action if device.action in ("online", "offline") else ""
        return Event(
            kind=str(device.subsystem),
            action=str(device.action),
            source=self.source,
            time=time.time(),
            name=str(name),
            state=str(state),
            properties=properties,
        )
