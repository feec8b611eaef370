# SPDX-License-Identifier: GPL-2.0
"""One typed method for every operation of the control protocol.

>>> from popcorn import Client
>>> with Client() as client:
...     for kernel in client.kernels():
...         print(kernel.name, kernel.state)

Every method may raise :class:`~popcorn.errors.ModuleMissingError` (popcorn or popcorn_host is not
loaded), :class:`~popcorn.errors.PermissionDeniedError` and
:class:`~popcorn.errors.KernelRefusedError` (anything else the kernel says no to, in its own words).
What else is raised is said at the method.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from popcorn.errors import NotFoundError, PopcornError, TimeoutExpiredError
from popcorn.models import (
    Channel,
    Event,
    Fabric,
    Kernel,
    KernelState,
    Latency,
    LatencyStage,
    MemoryBackend,
    Node,
    NodeState,
    PingResult,
    Queue,
    Service,
    label,
)
from popcorn.netlink import Family, KernelTransport, Lost, Message, Subscription, Transport
from popcorn.uapi.netlink_gen import PING_BATCH_MAX, Cmd

__all__ = ("EVENT_GROUPS", "RESTING", "Client")

RESTING = frozenset(
    (KernelState.LEASED, KernelState.STOPPED, KernelState.CRASHED, KernelState.KILLED)
)
"""States in which nothing runs on the lease, so that it can be given back."""

EVENT_GROUPS = ("kernel", "node", "service")

PING_BATCH_SECONDS = 0.5
"""A ping request works in the kernel, where Ctrl-C waits for it: keep each one this short."""

POLL_SECONDS = 1.0
"""A wait looks at the state this often even without a notification."""

_E = TypeVar("_E", KernelState, NodeState, MemoryBackend, LatencyStage)


def _enum(kind: type[_E], value: int) -> _E | int:
    """The enum member, or the bare number that a newer kernel sent."""
    try:
        return kind(value)
    except ValueError:
        return value


def _fabric(message: Message) -> Fabric:
    version = message.get("version", 0)
    return Fabric(
        phys=message.get("phys", 0),
        size=message.get("size", 0),
        version=(version >> 16, version & 0xFFFF),
        node_id=message.get("node-id", 0),
        nr_nodes=message.get("nr-nodes", 0),
        tsc_khz=message.get("tsc-khz", 0),
        host=bool(message.get("host", False)),
        nr_queues=message.get("nr-queues", 0),
        ring_slots=message.get("ring-slots", 0),
        area_bytes=message.get("area-bytes", 0),
        loopback=bool(message.get("loopback", False)),
    )


def _service(message: Message) -> Service:
    return Service(
        node_id=message.get("node-id", 0),
        name=message.get("name", ""),
        version=message.get("version", 0),
        id=message.get("id", 0),
        talks=bool(message.get("peer", False)),
    )


def _node(message: Message) -> Node:
    return Node(
        id=message.get("id", 0),
        name=message.get("name", ""),
        state=_enum(NodeState, message.get("state", 0)),
        epoch=message.get("epoch", 0),
        release=message.get("release", ""),
        machine=message.get("machine", ""),
        nr_cpus=message.get("nr-cpus", 0),
        heartbeat_age_ms=message.get("heartbeat-age"),
        reason=message.get("reason", ""),
        apic_id=message.get("apic-id"),
        vector=message.get("vector"),
        sent=message.get("sent", 0),
        received=message.get("received", 0),
        doorbells_sent=message.get("doorbells-sent", 0),
        rejected=message.get("rejected", 0),
        is_self=bool(message.get("self", False)),
        shut=bool(message.get("shut", False)),
        unanswered=message.get("unanswered", 0),
        window_max_us=message.get("window-max"),
        threaded=None if message.get("threaded") is None else bool(message.get("threaded")),
        doorbell_cost_ns=message.get("doorbell-cost"),
    )


def _channel(message: Message) -> Channel:
    return Channel(
        node_id=message.get("node-id", 0),
        queue=message.get("queue", 0),
        sent=message.get("sent", 0),
        sent_bytes=message.get("sent-bytes", 0),
        received=message.get("received", 0),
        received_bytes=message.get("received-bytes", 0),
        doorbells_sent=message.get("doorbells-sent", 0),
        room_doorbells=message.get("room-doorbells", 0),
        full=message.get("full", 0),
        waits=message.get("waits", 0),
        rejected=message.get("rejected", 0),
        answered=message.get("answered", 0),
        ring_slots=message.get("ring-slots", 0),
        ring_slots_from=message.get("ring-slots-from", 0),
        area_bytes=message.get("area-bytes", 0),
        armed=bool(message.get("armed", False)),
    )


def _queue(message: Message) -> Queue:
    return Queue(
        queue=message.get("queue", 0),
        polls=message.get("polls", 0),
        poll_messages=message.get("poll-messages", 0),
        doorbell_irqs=message.get("doorbell-irqs", 0),
        spurious=message.get("spurious", 0),
        sleeps=message.get("sleeps", 0),
        window_ns=message.get("window", 0),
        window_hits=message.get("window-hits", 0),
        cpu=message.get("cpu", 0),
        irq=message.get("irq", 0),
    )


def _latency(message: Message, tsc_khz: int) -> Latency:
    return Latency(
        src=message.get("src", 0),
        dst=message.get("dst", 0),
        queue=message.get("queue", 0),
        stage=_enum(LatencyStage, message.get("stage", 0)),
        tsc_khz=tsc_khz,
        counts=message.all("count"),
    )


def _kernel(message: Message) -> Kernel:
    return Kernel(
        id=message.get("id", 0),
        name=message.get("name", ""),
        state=_enum(KernelState, message.get("state", 0)),
        reason=message.get("reason", ""),
        cpus=message.all("cpu"),
        apic_ids=message.all("apic-id"),
        memory_backend=_enum(MemoryBackend, message.get("memory-backend", 0)),
        memory_start=message.get("memory-start", 0),
        memory_size=message.get("memory-size", 0),
        slice_start=message.get("slice-start", 0),
        slice_size=message.get("slice-size", 0),
        bsp_apic_id=message.get("bsp-apic-id", 0),
        tsc_khz=message.get("tsc-khz", 0),
        x2apic=bool(message.get("x2apic", False)),
        fabric_start=message.get("fabric-start", 0),
        fabric_size=message.get("fabric-size", 0),
        entry=message.get("entry", 0),
        boot_params=message.get("boot-params", 0),
        page_table_root=message.get("page-table-root", 0),
        image=message.get("image", ""),
        epoch=message.get("epoch", 0),
        age_ms=message.get("age", 0),
        join_us=message.get("join-time", 0),
        since=time.time() - message.get("age", 0) / 1000,
        recipe=message.get("recipe", ""),
    )


class Client:
    """The control protocol of the running kernel. Sockets are opened when they are first needed.

    `transport` makes a netlink socket; tests give one that replays recorded datagrams.
    """

    def __init__(self, transport: Callable[[], Transport] = KernelTransport) -> None:
        self._make_transport = transport
        self._family_or_none: Family | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back. The client can be used again after that."""
        if self._family_or_none is not None:
            self._family_or_none.close()
            self._family_or_none = None

    @property
    def _family(self) -> Family:
        if self._family_or_none is None:
            self._family_or_none = Family(self._make_transport())
        return self._family_or_none

    def _one(self, cmd: Cmd, attributes: Sequence[tuple[str, int | str | bool]] = ()) -> Message:
        replies = self._family.request(cmd, attributes)
        if not replies:
            raise PopcornError(f"the kernel gave no answer to {cmd.name.lower().replace('_', '-')}")
        return replies[0]

    # the fabric and its nodes

    def fabric(self) -> Fabric:
        """The fabric that this kernel is on."""
        return _fabric(self._one(Cmd.FABRIC_GET))

    def nodes(self) -> tuple[Node, ...]:
        """All nodes whose slot is in use, by id."""
        found = (_node(m) for m in self._family.request(Cmd.NODE_GET, dump=True))
        return tuple(sorted(found, key=lambda node: node.id))

    def node(self, which: int | str) -> Node:
        """The node of that id or name. NotFoundError if there is none."""
        if isinstance(which, str) and not which.isdecimal():
            for node in self.nodes():
                if node.name == which:
                    return node
            raise NotFoundError(f"there is no node '{which}'", "see: popcornctl node list")
        try:
            return _node(self._one(Cmd.NODE_GET, [("id", int(which))]))
        except NotFoundError:
            raise NotFoundError(f"there is no node {which}", "see: popcornctl node list") from None

    def services(self) -> tuple[Service, ...]:
        """The services of every node that is up, by node and name."""
        found = (_service(m) for m in self._family.request(Cmd.SERVICE_GET, dump=True))
        return tuple(sorted(found, key=lambda service: (service.node_id, service.name)))

    def channels(self) -> tuple[Channel, ...]:
        """What this kernel counted of its channels, by the other node and queue."""
        found = (_channel(m) for m in self._family.request(Cmd.CHANNEL_GET, dump=True))
        return tuple(sorted(found, key=lambda channel: (channel.node_id, channel.queue)))

    def queues(self) -> tuple[Queue, ...]:
        """The queues of this kernel, by number."""
        found = (_queue(m) for m in self._family.request(Cmd.QUEUE_GET, dump=True))
        return tuple(sorted(found, key=lambda queue: queue.queue))

    def latencies(self) -> tuple[Latency, ...]:
        """The latencies that all kernels have counted in the fabric, by channel and stage.

        From when the receiver joined. Channels without messages are not among them.
        """
        tsc_khz = self.fabric().tsc_khz
        found = (_latency(m, tsc_khz) for m in self._family.request(Cmd.LATENCY_GET, dump=True))
        return tuple(sorted(found, key=lambda item: (item.src, item.dst, item.queue, item.stage)))

    def node_set(self, *, window_max_us: int | None = None, threaded: bool | None = None) -> None:
        """Change how this kernel's node waits for messages; what is None stays.

        `window_max_us` is the longest time that it polls before it sleeps, in microseconds up to
        POLL_WINDOW_MAX, 0 to never poll; `threaded` has it poll in kernel threads.
        """
        attributes: list[tuple[str, int | str | bool]] = []
        if window_max_us is not None:
            attributes.append(("window-max", window_max_us))
        if threaded is not None:
            attributes.append(("threaded", int(threaded)))
        self._family.request(Cmd.NODE_SET, attributes)

    def ping(
        self,
        node: int,
        count: int,
        *,
        size: int | None = None,
        timeout_ms: int | None = None,
        interval_us: int = 0,
        window: int = 1,
        call: bool = False,
        busy: bool = False,
    ) -> Iterator[PingResult]:
        """Make `count` round trips to node `node`, up to `window` of them at once.

        `size` is bytes of payload, up to PING_SIZE_MAX; `interval_us` the time from one request to
        the next. A `call` is answered in the request's own slot: one at a time, and `size` is at
        most PING_CALL_SIZE_MAX. `busy` looks for answers all the time instead of sleeping.

        Yields a result after every request to the kernel, each with all answers so far, so that
        whoever is interrupted has the figures up to then; the last one is the whole. Requests are
        sized so that an unreachable node costs one timeout each.
        """
        if count < 1:
            raise ValueError("count must be at least 1")
        tsc_khz = self.fabric().tsc_khz
        fixed: list[tuple[str, int | str | bool]] = []
        if size is not None:
            fixed.append(("size", size))
        if timeout_ms is not None:
            fixed.append(("timeout", timeout_ms))
        if window != 1:
            fixed.append(("window", window))
        fixed += [(name, True) for name, given in (("call", call), ("busy", busy)) if given]
        limit = PING_BATCH_MAX
        if interval_us:
            limit = max(1, min(limit, math.floor(PING_BATCH_SECONDS * 1e6 / interval_us)))
        cycles: list[int] = []
        sent = lost = elapsed = full = 0
        batch = window
        turn = time.monotonic()
        while sent < count:
            if interval_us and sent:
                # Where Ctrl-C works. What is more than an interval late is not made up for.
                turn = max(turn, time.monotonic() - interval_us / 1e6)
                time.sleep(max(0.0, turn - time.monotonic()))
            number = min(batch, limit, count - sent)
            attributes = [("node-id", node), ("count", number), *fixed]
            if interval_us and number > 1:
                attributes.append(("interval", interval_us))
            reply = self._one(Cmd.PING, attributes)
            done = reply.get("sent", 0)
            if not done:
                raise PopcornError(f"the kernel sent nothing to node {node}")
            turn += done * interval_us / 1e6
            sent += done
            lost += reply.get("lost", 0)
            elapsed += reply.get("elapsed", 0)
            full += reply.get("full", 0)
            cycles.extend(reply.all("rtt"))
            batch = window if reply.get("lost", 0) else min(batch * 2, PING_BATCH_MAX)
            yield PingResult(node, sent, lost, tsc_khz, tuple(cycles), elapsed, full)

    # kernels

    def kernels(self) -> tuple[Kernel, ...]:
        """All kernels that hold a lease, by id."""
        found = (_kernel(m) for m in self._family.request(Cmd.KERNEL_GET, dump=True))
        return tuple(sorted(found, key=lambda kernel: kernel.id))

    def kernel(self, which: int | str) -> Kernel:
        """The kernel of that id or name. NotFoundError if there is none."""
        if isinstance(which, str) and not which.isdecimal():
            key: tuple[str, int | str] = ("name", which)
        else:
            key = ("id", int(which))
        try:
            return _kernel(self._one(Cmd.KERNEL_GET, [key]))
        except NotFoundError:
            raise NotFoundError(
                f"there is no kernel '{which}'", "see: popcornctl kernel list"
            ) from None

    def kernel_new(
        self,
        name: str,
        cpus: Sequence[int],
        memory_size: int,
        *,
        backend: MemoryBackend | None = None,
        memory_start: int | None = None,
    ) -> Kernel:
        """Lease CPUs, `memory_size` bytes and a low slice to a new kernel: all of it or nothing.

        With `memory_start`, a physical address, the memory is a range that the primary was booted
        without (backend RESERVED, unless told otherwise); else it is taken from the page
        allocator, which may take seconds. ExistsError if the name is taken, BusyError if a CPU is
        leased or the memory cannot be had.
        """
        if backend is None and memory_start is not None:
            backend = MemoryBackend.RESERVED
        attributes: list[tuple[str, int | str | bool]] = [("name", name)]
        attributes += [("cpu", cpu) for cpu in cpus]
        if backend is not None:
            attributes.append(("memory-backend", int(backend)))
        if memory_start is not None:
            attributes.append(("memory-start", memory_start))
        attributes.append(("memory-size", memory_size))
        return _kernel(self._one(Cmd.KERNEL_NEW, attributes))

    def kernel_prepare(self, kernel_id: int) -> Kernel:
        """Make a kernel that does not run ready to be loaded again. BusyError if it runs."""
        return _kernel(self._one(Cmd.KERNEL_PREPARE, [("id", kernel_id)]))

    def kernel_boot(
        self,
        kernel_id: int,
        *,
        entry: int,
        boot_params: int,
        page_table_root: int,
        image: str,
        recipe: str = "",
    ) -> None:
        """Start what was written into the lease. The addresses are physical.

        The module keeps `image`, which tells people what it is, and `recipe`. Returns when the
        first CPU was sent off; that the kernel joined, its state tells. BusyError if the memory
        is still mapped or the kernel is not leased.
        """
        attributes: list[tuple[str, int | str | bool]] = [
            ("id", kernel_id),
            ("entry", entry),
            ("boot-params", boot_params),
            ("page-table-root", page_table_root),
            ("image", image),
        ]
        if recipe:
            attributes.append(("recipe", recipe))
        self._family.request(Cmd.KERNEL_BOOT, attributes)

    def kernel_stop(self, kernel_id: int) -> None:
        """Ask a running kernel to power off; its state tells when it has. BusyError if it rests."""
        self._family.request(Cmd.KERNEL_STOP, [("id", kernel_id)])

    def kernel_kill(self, kernel_id: int) -> None:
        """Reset the CPUs of a kernel, whatever it does. Its lease stays."""
        self._family.request(Cmd.KERNEL_KILL, [("id", kernel_id)])

    def kernel_nmi(self, kernel_id: int) -> Kernel:
        """Have a kernel's CPUs print their backtraces into its log, whatever they do.

        Returns the kernel with the CPUs that were told to: those that it has brought up.
        """
        return _kernel(self._one(Cmd.KERNEL_NMI, [("id", kernel_id)]))

    def kernel_del(self, kernel_id: int) -> None:
        """Give back what a kernel that does not run has leased. BusyError if it runs."""
        self._family.request(Cmd.KERNEL_DEL, [("id", kernel_id)])

    # events

    def events(
        self, groups: Collection[str] = EVENT_GROUPS, *, subscription: Subscription | None = None
    ) -> Iterator[Event]:
        """Kernel, node and service events, for ever.

        When the program was too slow and events were lost, an event of kind `resync` comes, and
        after it the present state of everything, with action `state`.
        """
        with subscription or self.subscribe(groups) as stream:
            while True:
                yield from self.read_events(stream, groups)

    def subscribe(self, groups: Collection[str] = EVENT_GROUPS) -> Subscription:
        """A subscription for :meth:`read_events`, for programs with a poll loop of their own."""
        return self._family.subscribe(sorted(groups), self._make_transport())

    def read_events(
        self,
        stream: Subscription,
        groups: Collection[str] = EVENT_GROUPS,
        timeout: float | None = None,
    ) -> list[Event]:
        """The events that came within `timeout` seconds; returns at the first batch."""
        found: list[Event] = []
        for item in stream.read(timeout):
            if isinstance(item, Lost):
                found.append(Event("resync", "lost", "netlink", time.time()))
                found.extend(self.snapshot(groups))
            else:
                found.extend(_event(item))
        return found

    def snapshot(self, groups: Collection[str] = EVENT_GROUPS) -> list[Event]:
        """The present state of everything in `groups` as events with action `state`."""
        now = time.time()
        found: list[Event] = []
        if "kernel" in groups:
            found += [
                Event("kernel", "state", "netlink", now, k.name, label(k.state), k)
                for k in self.kernels()
            ]
        if "node" in groups:
            found += [
                Event("node", "state", "netlink", now, n.name, label(n.state), n)
                for n in self.nodes()
            ]
        if "service" in groups:
            found += [
                Event("service", "state", "netlink", now, s.name, "up", s)
                for s in self.services()
                if s.talks
            ]
        return found

    def wait_kernel(
        self,
        which: int | str,
        states: Collection[KernelState],
        timeout: float,
        *,
        give_up: Collection[KernelState] = (),
    ) -> Kernel:
        """Wait until the kernel is in one of `states`, or in one of `give_up`, and return it.

        TimeoutExpiredError, naming the state it is in, after `timeout` seconds; NotFoundError
        when it is released meanwhile.
        """
        deadline = time.monotonic() + timeout
        with self.subscribe(("kernel",)) as stream:
            while True:
                kernel = self.kernel(which)
                if kernel.state in states or kernel.state in give_up:
                    return kernel
                left = deadline - time.monotonic()
                if left <= 0:
                    wanted = " or ".join(sorted(label(state) for state in states))
                    raise TimeoutExpiredError(
                        f"kernel '{kernel.name}' is {label(kernel.state)} and not {wanted}"
                        f" after {timeout:g} s"
                    )
                stream.read(min(left, POLL_SECONDS))


def _event(message: Message) -> list[Event]:
    """The event that a notification means; none for a command that this program does not know."""
    now = time.time()
    if message.cmd in (Cmd.NODE_NTF, Cmd.NODE_GET):
        node = _node(message)
        return [Event("node", "change", "netlink", now, node.name, label(node.state), node)]
    if message.cmd in (Cmd.KERNEL_NTF, Cmd.KERNEL_GET, Cmd.KERNEL_RELEASED):
        kernel = _kernel(message)
        action = "released" if message.cmd == Cmd.KERNEL_RELEASED else "change"
        return [Event("kernel", action, "netlink", now, kernel.name, label(kernel.state), kernel)]
    if message.cmd == Cmd.SERVICE_NTF:
        service = _service(message)
        state = "up" if service.talks else "down"
        return [Event("service", "change", "netlink", now, service.name, state, service)]
    return []
