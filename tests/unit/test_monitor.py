# SPDX-License-Identifier: GPL-2.0
"""Uevents, and the stream that joins them with notifications."""

from __future__ import annotations

import errno
import os
import socket
from types import SimpleNamespace

import pytest

from popcorn.errors import ModuleMissingError
from popcorn.models import KernelState
from popcorn.monitor import watch
from popcorn.uapi.netlink_gen import Cmd
from popcorn.udev import Uevents, udevd_runs


class FakeMonitor:
    """A pyudev monitor that hands out given devices."""

    def __init__(self):
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.items = []

    def put(self, item):
        self.items.append(item)
        self.theirs.send(b"x")

    def fileno(self):
        return self.ours.fileno()

    def poll(self, timeout):
        assert timeout == 0
        if not self.items:
            return None
        self.ours.recv(1)
        item = self.items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item


def device(subsystem, name, action, **properties):
    return SimpleNamespace(subsystem=subsystem, sys_name=name, action=action, properties=properties)


@pytest.fixture
def uevents():
    return Uevents(source="udev", monitor=FakeMonitor())


def test_cpu_events(uevents):
    uevents._monitor.put(device("cpu", "cpu2", "offline", DEVPATH="/devices/system/cpu/cpu2"))
    (event,) = uevents.read()
    assert (event.kind, event.action, event.name, event.state, event.source) == (
        "cpu",
        "offline",
        "cpu2",
        "offline",
        "udev",
    )
    assert event.to_json()["properties"] == {"DEVPATH": "/devices/system/cpu/cpu2"}
    assert uevents.read() == []


def test_popcorn_events(uevents):
    uevents._monitor.put(
        device(
            "popcorn",
            "node1",
            "change",
            POPCORN_NODE="1",
            POPCORN_NAME="web",
            POPCORN_STATE="crashed",
        )
    )
    (event,) = uevents.read()
    assert (event.kind, event.name, event.state) == ("popcorn", "web", "crashed")


def test_lost_uevents_are_told(uevents):
    uevents._monitor.put(OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)))
    uevents._monitor.put(device("memory", "memory5", "online"))
    first, second = uevents.read()
    assert (first.kind, first.action, first.source) == ("resync", "lost", "udev")
    assert (second.kind, second.name) == ("memory", "memory5")


def test_other_failures_are_not_hidden(uevents):
    uevents._monitor.put(OSError(errno.EBADF, "closed"))
    with pytest.raises(OSError, match="closed"):
        uevents.read()


def test_udevd(tmp_path):
    assert not udevd_runs(tmp_path)
    (tmp_path / "run/udev").mkdir(parents=True)
    (tmp_path / "run/udev/control").touch()
    assert udevd_runs(tmp_path)


def test_watch_joins_both(module, uevents):
    client = module.client()
    events = watch(client, uevents=uevents, timeout=0.05)
    uevents._monitor.put(device("cpu", "cpu2", "offline"))
    assert next(events).name == "cpu2"
    module.add_kernel("web", KernelState.STARTING)
    module.set_state(1, KernelState.RUNNING)
    event = next(events)
    assert (event.kind, event.name, event.state, event.source) == (
        "kernel",
        "web",
        "running",
        "netlink",
    )
    assert list(events) == []


def test_watch_services(module, uevents):
    events = watch(module.client(), ("service", "cpu"), uevents=uevents, timeout=0.05)
    uevents._monitor.put(device("cpu", "cpu2", "offline"))
    assert next(events).name == "cpu2"
    module.notify("node", Cmd.NODE_NTF, module.nodes[0])
    shown = {"node-id": 1, "name": "popcorn.net", "version": 1, "id": 2, "peer": True}
    module.notify("service", Cmd.SERVICE_NTF, shown)
    assert [(e.kind, e.name, e.state) for e in events] == [("service", "popcorn.net", "up")]


def test_watch_only_what_is_wanted(module, uevents):
    uevents._monitor.put(device("memory", "memory5", "online"))
    uevents._monitor.put(device("cpu", "cpu2", "offline"))
    found = list(watch(module.client(), ("cpu",), uevents=uevents, timeout=0.05))
    assert [event.name for event in found] == ["cpu2"]
    assert module.transports == [], "the module is not asked for CPU events"


def test_watch_without_the_module(module, uevents):
    module.loaded = False
    with pytest.raises(ModuleMissingError):
        next(watch(module.client(), uevents=uevents, timeout=0))
