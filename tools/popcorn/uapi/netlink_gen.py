# SPDX-License-Identifier: GPL-2.0
# GENERATED from kmod/uapi/popcorn.yaml by `make gen`
# (PYTHONPATH=tools python3 -m codegen). Do not edit.
"""The numbers, names and types of the netlink protocol.

`NLA_MAPS` holds pyroute2's ``nla_map`` of each attribute set, `DO_SET` the set of each
command and notification, `MULTI` the attributes that may come any number of times,
`DOCS` what each command, attribute and enum entry means, by its C name.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = (
    "DOCS",
    "DO_SET",
    "FAMILY",
    "LATENCY_BUCKETS",
    "MCAST_GROUPS",
    "MEMORY_GRANULE",
    "MULTI",
    "NAME_MAX",
    "NLA_MAPS",
    "NODES_MAX",
    "PING_BATCH_MAX",
    "PING_CALL_SIZE_MAX",
    "PING_SIZE_MAX",
    "PING_WINDOW_MAX",
    "POLL_WINDOW_MAX",
    "VERSION",
    "ChannelAttr",
    "Cmd",
    "FabricAttr",
    "KernelAttr",
    "KernelState",
    "LatencyAttr",
    "LatencyStage",
    "MemoryBackend",
    "NodeAttr",
    "NodeState",
    "PingAttr",
    "QueueAttr",
    "ServiceAttr",
)

FAMILY = "popcorn"
VERSION = 1

#: Longest name of a kernel, in bytes, without the terminating NUL.
NAME_MAX = 31

#: Nodes that a fabric can hold; ids run from 0 (the primary) to 15.
NODES_MAX = 16

#: Most round trips that one ping request may ask for.
PING_BATCH_MAX = 4096

#: Most ping requests that may be under way at once.
PING_WINDOW_MAX = 256

#: Longest payload of a ping, bytes; with its cookie it is the longest message.
PING_SIZE_MAX = 131064

#: Longest payload of a ping that is answered in place, bytes; with its cookie it fills a slot.
PING_CALL_SIZE_MAX = 40

#: Longest polling window that a node can be given, microseconds.
POLL_WINDOW_MAX = 1000000

#: Buckets of a latency histogram.
LATENCY_BUCKETS = 32

#: Leased memory comes in multiples of this, in bytes.
MEMORY_GRANULE = 2097152


class Cmd(IntEnum):
    """Commands and notifications."""

    FABRIC_GET = 1
    NODE_GET = 2
    NODE_NTF = 3
    PING = 4
    KERNEL_GET = 5
    KERNEL_NTF = 6
    KERNEL_NEW = 7
    KERNEL_PREPARE = 8
    KERNEL_BOOT = 9
    KERNEL_STOP = 10
    KERNEL_KILL = 11
    KERNEL_DEL = 12
    KERNEL_RELEASED = 13
    SERVICE_GET = 14
    SERVICE_NTF = 15
    CHANNEL_GET = 16
    QUEUE_GET = 17
    LATENCY_GET = 18
    NODE_SET = 19
    KERNEL_NMI = 20


class NodeState(IntEnum):
    """Where a node is in its life, as its slot in the fabric tells."""

    ABSENT = 0
    EXPECTED = 1
    UP = 2
    LEFT = 3
    STOPPED = 4
    CRASHED = 5
    JOINING = 6
    HUNG = 7


class KernelState(IntEnum):
    """Where a kernel that the primary leased resources to is in its life."""

    LEASED = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3
    STOPPED = 4
    CRASHED = 5
    KILLED = 6
    HUNG = 7


class MemoryBackend(IntEnum):
    """Where leased memory comes from."""

    CONTIG = 0
    RESERVED = 1


class LatencyStage(IntEnum):
    """What the latency histograms of a channel tell apart."""

    DELIVER = 0
    DOORBELL = 1
    POLL = 2


class FabricAttr(IntEnum):
    """Attributes of the set `fabric`."""

    PHYS = 1
    SIZE = 2
    VERSION = 3
    NODE_ID = 4
    NR_NODES = 5
    TSC_KHZ = 6
    HOST = 7
    NR_QUEUES = 8
    RING_SLOTS = 9
    AREA_BYTES = 10
    LOOPBACK = 11


class NodeAttr(IntEnum):
    """Attributes of the set `node`."""

    ID = 1
    NAME = 2
    STATE = 3
    EPOCH = 4
    RELEASE = 5
    MACHINE = 6
    NR_CPUS = 7
    HEARTBEAT_AGE = 8
    REASON = 9
    APIC_ID = 10
    VECTOR = 11
    SENT = 12
    RECEIVED = 13
    DOORBELLS_SENT = 14
    REJECTED = 15
    SELF = 16
    SHUT = 17
    WINDOW_MAX = 18
    THREADED = 19
    DOORBELL_COST = 20
    UNANSWERED = 21


class KernelAttr(IntEnum):
    """Attributes of the set `kernel`."""

    ID = 1
    NAME = 2
    STATE = 3
    REASON = 4
    CPU = 5
    APIC_ID = 6
    MEMORY_BACKEND = 7
    MEMORY_START = 8
    MEMORY_SIZE = 9
    SLICE_START = 10
    SLICE_SIZE = 11
    BSP_APIC_ID = 12
    TSC_KHZ = 13
    X2APIC = 14
    FABRIC_START = 15
    FABRIC_SIZE = 16
    ENTRY = 17
    BOOT_PARAMS = 18
    PAGE_TABLE_ROOT = 19
    IMAGE = 20
    EPOCH = 21
    AGE = 22
    JOIN_TIME = 23
    RECIPE = 24


class PingAttr(IntEnum):
    """Attributes of the set `ping`."""

    NODE_ID = 1
    COUNT = 2
    SIZE = 3
    TIMEOUT = 4
    INTERVAL = 5
    RTT = 6
    SENT = 7
    LOST = 8
    WINDOW = 9
    CALL = 10
    BUSY = 11
    ELAPSED = 12
    FULL = 13


class ChannelAttr(IntEnum):
    """Attributes of the set `channel`."""

    NODE_ID = 1
    QUEUE = 2
    SENT = 3
    SENT_BYTES = 4
    RECEIVED = 5
    RECEIVED_BYTES = 6
    DOORBELLS_SENT = 7
    ROOM_DOORBELLS = 8
    FULL = 9
    WAITS = 10
    REJECTED = 11
    ANSWERED = 12
    RING_SLOTS = 13
    RING_SLOTS_FROM = 14
    AREA_BYTES = 15
    ARMED = 16


class QueueAttr(IntEnum):
    """Attributes of the set `queue`."""

    QUEUE = 1
    POLLS = 2
    POLL_MESSAGES = 3
    DOORBELL_IRQS = 4
    SPURIOUS = 5
    SLEEPS = 6
    WINDOW = 7
    WINDOW_HITS = 8
    CPU = 9
    IRQ = 10


class LatencyAttr(IntEnum):
    """Attributes of the set `latency`."""

    SRC = 1
    DST = 2
    QUEUE = 3
    STAGE = 4
    COUNT = 5


class ServiceAttr(IntEnum):
    """Attributes of the set `service`."""

    NODE_ID = 1
    NAME = 2
    VERSION = 3
    ID = 4
    PEER = 5


NLA_MAPS: dict[str, tuple[tuple[str, str], ...]] = {
    "fabric": (
        ("POPCORN_A_FABRIC_UNSPEC", "none"),
        ("POPCORN_A_FABRIC_PHYS", "uint64"),
        ("POPCORN_A_FABRIC_SIZE", "uint64"),
        ("POPCORN_A_FABRIC_VERSION", "uint32"),
        ("POPCORN_A_FABRIC_NODE_ID", "uint32"),
        ("POPCORN_A_FABRIC_NR_NODES", "uint32"),
        ("POPCORN_A_FABRIC_TSC_KHZ", "uint32"),
        ("POPCORN_A_FABRIC_HOST", "flag"),
        ("POPCORN_A_FABRIC_NR_QUEUES", "uint32"),
        ("POPCORN_A_FABRIC_RING_SLOTS", "uint32"),
        ("POPCORN_A_FABRIC_AREA_BYTES", "uint64"),
        ("POPCORN_A_FABRIC_LOOPBACK", "flag"),
    ),
    "node": (
        ("POPCORN_A_NODE_UNSPEC", "none"),
        ("POPCORN_A_NODE_ID", "uint32"),
        ("POPCORN_A_NODE_NAME", "asciiz"),
        ("POPCORN_A_NODE_STATE", "uint32"),
        ("POPCORN_A_NODE_EPOCH", "uint32"),
        ("POPCORN_A_NODE_RELEASE", "asciiz"),
        ("POPCORN_A_NODE_MACHINE", "asciiz"),
        ("POPCORN_A_NODE_NR_CPUS", "uint32"),
        ("POPCORN_A_NODE_HEARTBEAT_AGE", "uint64"),
        ("POPCORN_A_NODE_REASON", "asciiz"),
        ("POPCORN_A_NODE_APIC_ID", "uint32"),
        ("POPCORN_A_NODE_VECTOR", "uint32"),
        ("POPCORN_A_NODE_SENT", "uint64"),
        ("POPCORN_A_NODE_RECEIVED", "uint64"),
        ("POPCORN_A_NODE_DOORBELLS_SENT", "uint64"),
        ("POPCORN_A_NODE_REJECTED", "uint64"),
        ("POPCORN_A_NODE_SELF", "flag"),
        ("POPCORN_A_NODE_SHUT", "flag"),
        ("POPCORN_A_NODE_WINDOW_MAX", "uint32"),
        ("POPCORN_A_NODE_THREADED", "uint32"),
        ("POPCORN_A_NODE_DOORBELL_COST", "uint32"),
        ("POPCORN_A_NODE_UNANSWERED", "uint64"),
    ),
    "kernel": (
        ("POPCORN_A_KERNEL_UNSPEC", "none"),
        ("POPCORN_A_KERNEL_ID", "uint32"),
        ("POPCORN_A_KERNEL_NAME", "asciiz"),
        ("POPCORN_A_KERNEL_STATE", "uint32"),
        ("POPCORN_A_KERNEL_REASON", "asciiz"),
        ("POPCORN_A_KERNEL_CPU", "uint32"),
        ("POPCORN_A_KERNEL_APIC_ID", "uint32"),
        ("POPCORN_A_KERNEL_MEMORY_BACKEND", "uint32"),
        ("POPCORN_A_KERNEL_MEMORY_START", "uint64"),
        ("POPCORN_A_KERNEL_MEMORY_SIZE", "uint64"),
        ("POPCORN_A_KERNEL_SLICE_START", "uint64"),
        ("POPCORN_A_KERNEL_SLICE_SIZE", "uint64"),
        ("POPCORN_A_KERNEL_BSP_APIC_ID", "uint32"),
        ("POPCORN_A_KERNEL_TSC_KHZ", "uint32"),
        ("POPCORN_A_KERNEL_X2APIC", "flag"),
        ("POPCORN_A_KERNEL_FABRIC_START", "uint64"),
        ("POPCORN_A_KERNEL_FABRIC_SIZE", "uint64"),
        ("POPCORN_A_KERNEL_ENTRY", "uint64"),
        ("POPCORN_A_KERNEL_BOOT_PARAMS", "uint64"),
        ("POPCORN_A_KERNEL_PAGE_TABLE_ROOT", "uint64"),
        ("POPCORN_A_KERNEL_IMAGE", "asciiz"),
        ("POPCORN_A_KERNEL_EPOCH", "uint32"),
        ("POPCORN_A_KERNEL_AGE", "uint64"),
        ("POPCORN_A_KERNEL_JOIN_TIME", "uint64"),
        ("POPCORN_A_KERNEL_RECIPE", "asciiz"),
    ),
    "ping": (
        ("POPCORN_A_PING_UNSPEC", "none"),
        ("POPCORN_A_PING_NODE_ID", "uint32"),
        ("POPCORN_A_PING_COUNT", "uint32"),
        ("POPCORN_A_PING_SIZE", "uint32"),
        ("POPCORN_A_PING_TIMEOUT", "uint32"),
        ("POPCORN_A_PING_INTERVAL", "uint32"),
        ("POPCORN_A_PING_RTT", "uint64"),
        ("POPCORN_A_PING_SENT", "uint32"),
        ("POPCORN_A_PING_LOST", "uint32"),
        ("POPCORN_A_PING_WINDOW", "uint32"),
        ("POPCORN_A_PING_CALL", "flag"),
        ("POPCORN_A_PING_BUSY", "flag"),
        ("POPCORN_A_PING_ELAPSED", "uint64"),
        ("POPCORN_A_PING_FULL", "uint32"),
    ),
    "channel": (
        ("POPCORN_A_CHANNEL_UNSPEC", "none"),
        ("POPCORN_A_CHANNEL_NODE_ID", "uint32"),
        ("POPCORN_A_CHANNEL_QUEUE", "uint32"),
        ("POPCORN_A_CHANNEL_SENT", "uint64"),
        ("POPCORN_A_CHANNEL_SENT_BYTES", "uint64"),
        ("POPCORN_A_CHANNEL_RECEIVED", "uint64"),
        ("POPCORN_A_CHANNEL_RECEIVED_BYTES", "uint64"),
        ("POPCORN_A_CHANNEL_DOORBELLS_SENT", "uint64"),
        ("POPCORN_A_CHANNEL_ROOM_DOORBELLS", "uint64"),
        ("POPCORN_A_CHANNEL_FULL", "uint64"),
        ("POPCORN_A_CHANNEL_WAITS", "uint64"),
        ("POPCORN_A_CHANNEL_REJECTED", "uint64"),
        ("POPCORN_A_CHANNEL_ANSWERED", "uint64"),
        ("POPCORN_A_CHANNEL_RING_SLOTS", "uint32"),
        ("POPCORN_A_CHANNEL_RING_SLOTS_FROM", "uint32"),
        ("POPCORN_A_CHANNEL_AREA_BYTES", "uint64"),
        ("POPCORN_A_CHANNEL_ARMED", "flag"),
    ),
    "queue": (
        ("POPCORN_A_QUEUE_UNSPEC", "none"),
        ("POPCORN_A_QUEUE_QUEUE", "uint32"),
        ("POPCORN_A_QUEUE_POLLS", "uint64"),
        ("POPCORN_A_QUEUE_POLL_MESSAGES", "uint64"),
        ("POPCORN_A_QUEUE_DOORBELL_IRQS", "uint64"),
        ("POPCORN_A_QUEUE_SPURIOUS", "uint64"),
        ("POPCORN_A_QUEUE_SLEEPS", "uint64"),
        ("POPCORN_A_QUEUE_WINDOW", "uint64"),
        ("POPCORN_A_QUEUE_WINDOW_HITS", "uint64"),
        ("POPCORN_A_QUEUE_CPU", "uint32"),
        ("POPCORN_A_QUEUE_IRQ", "uint32"),
    ),
    "latency": (
        ("POPCORN_A_LATENCY_UNSPEC", "none"),
        ("POPCORN_A_LATENCY_SRC", "uint32"),
        ("POPCORN_A_LATENCY_DST", "uint32"),
        ("POPCORN_A_LATENCY_QUEUE", "uint32"),
        ("POPCORN_A_LATENCY_STAGE", "uint32"),
        ("POPCORN_A_LATENCY_COUNT", "uint64"),
    ),
    "service": (
        ("POPCORN_A_SERVICE_UNSPEC", "none"),
        ("POPCORN_A_SERVICE_NODE_ID", "uint32"),
        ("POPCORN_A_SERVICE_NAME", "asciiz"),
        ("POPCORN_A_SERVICE_VERSION", "uint32"),
        ("POPCORN_A_SERVICE_ID", "uint32"),
        ("POPCORN_A_SERVICE_PEER", "flag"),
    ),
}

MULTI: frozenset[str] = frozenset(
    {
        "POPCORN_A_KERNEL_APIC_ID",
        "POPCORN_A_KERNEL_CPU",
        "POPCORN_A_LATENCY_COUNT",
        "POPCORN_A_PING_RTT",
    }
)

DO_SET: dict[Cmd, str] = {
    Cmd.FABRIC_GET: "fabric",
    Cmd.NODE_GET: "node",
    Cmd.NODE_NTF: "node",
    Cmd.PING: "ping",
    Cmd.KERNEL_GET: "kernel",
    Cmd.KERNEL_NTF: "kernel",
    Cmd.KERNEL_NEW: "kernel",
    Cmd.KERNEL_PREPARE: "kernel",
    Cmd.KERNEL_BOOT: "kernel",
    Cmd.KERNEL_STOP: "kernel",
    Cmd.KERNEL_KILL: "kernel",
    Cmd.KERNEL_DEL: "kernel",
    Cmd.KERNEL_RELEASED: "kernel",
    Cmd.SERVICE_GET: "service",
    Cmd.SERVICE_NTF: "service",
    Cmd.CHANNEL_GET: "channel",
    Cmd.QUEUE_GET: "queue",
    Cmd.LATENCY_GET: "latency",
    Cmd.NODE_SET: "node",
    Cmd.KERNEL_NMI: "kernel",
}

MCAST_GROUPS: tuple[str, ...] = (
    "node",
    "kernel",
    "service",
)

DOCS: dict[str, str] = {
    "POPCORN_CMD_FABRIC_GET": "The fabric that this kernel is on.",
    "POPCORN_CMD_NODE_GET": "One node, or all that are not absent.",
    "POPCORN_CMD_NODE_NTF": "A node changed its state.",
    "POPCORN_CMD_PING": "Round trips to a node through its echo service.",
    "POPCORN_CMD_KERNEL_GET": "One kernel by id or by name, or all that hold a lease.",
    "POPCORN_CMD_KERNEL_NTF": "A kernel was leased to, changed its state or was released (then its state is the last one).",  # noqa: E501
    "POPCORN_CMD_KERNEL_NEW": "Lease CPUs, memory and a low slice to a new kernel. All of it or nothing.",  # noqa: E501
    "POPCORN_CMD_KERNEL_PREPARE": "Make a kernel that does not run ready to be loaded (again): its memory is cleared, its node slot gets a new epoch, its state becomes leased.",  # noqa: E501
    "POPCORN_CMD_KERNEL_BOOT": "Start the kernel that was written into the leased memory.",
    "POPCORN_CMD_KERNEL_STOP": "Ask a running kernel to power off. It is done when its state says so.",  # noqa: E501
    "POPCORN_CMD_KERNEL_KILL": "Reset the CPUs of a kernel, whatever it is doing. Its lease stays.",
    "POPCORN_CMD_KERNEL_DEL": "Give back all that a kernel that does not run has leased; its memory is cleared first.",  # noqa: E501
    "POPCORN_CMD_KERNEL_RELEASED": "A kernel's lease was given back; it is gone.",
    "POPCORN_CMD_SERVICE_GET": "The services of every node that is up, this one included.",
    "POPCORN_CMD_SERVICE_NTF": "A node's service and this kernel's talk from now on (then `peer` is there) or no longer.",  # noqa: E501
    "POPCORN_CMD_CHANNEL_GET": "The channels between this kernel and each node that it has met, one for each queue.",  # noqa: E501
    "POPCORN_CMD_QUEUE_GET": "The queues of this kernel, which poll for messages.",
    "POPCORN_CMD_LATENCY_GET": "The latency histograms of all channels of the fabric, whichever kernels they join, as the receivers keep them; without those that are empty.",  # noqa: E501
    "POPCORN_CMD_NODE_SET": "Change how this kernel's node waits for messages. What is not given stays.",  # noqa: E501
    "POPCORN_CMD_KERNEL_NMI": "Have the CPUs of a kernel that has joined and not ended print their backtraces into its log, also where they allow no interrupts. The answer tells which CPUs were told to.",  # noqa: E501
    "POPCORN_A_FABRIC_PHYS": "Physical address of the fabric, bytes.",
    "POPCORN_A_FABRIC_SIZE": "Size of the fabric, bytes.",
    "POPCORN_A_FABRIC_VERSION": "Layout version, major in the upper and minor in the lower 16 bits.",  # noqa: E501
    "POPCORN_A_FABRIC_NODE_ID": "The node that this kernel is.",
    "POPCORN_A_FABRIC_NR_NODES": "Node slots in the fabric.",
    "POPCORN_A_FABRIC_TSC_KHZ": "Rate of the time stamp counter that all nodes share, kHz.",
    "POPCORN_A_FABRIC_HOST": "popcorn_host is loaded, kernels can be started from here.",
    "POPCORN_A_FABRIC_NR_QUEUES": "Channels for each ordered pair of nodes.",
    "POPCORN_A_FABRIC_RING_SLOTS": "Messages that each channel holds as it is laid out.",
    "POPCORN_A_FABRIC_AREA_BYTES": "Room that each node has for what fits no slot, bytes.",
    "POPCORN_A_FABRIC_LOOPBACK": "The fabric is inside this kernel, all of its nodes are.",
    "POPCORN_A_NODE_ID": "Node id, 0 is the primary.",
    "POPCORN_A_NODE_NAME": "Name of the kernel.",
    "POPCORN_A_NODE_STATE": "State of the node.",
    "POPCORN_A_NODE_EPOCH": "Grows by one each time a kernel is prepared for this slot.",
    "POPCORN_A_NODE_RELEASE": "Kernel release, as `uname -r` prints it.",
    "POPCORN_A_NODE_MACHINE": "Architecture, as `uname -m` prints it.",
    "POPCORN_A_NODE_NR_CPUS": "CPUs online in that kernel when it registered.",
    "POPCORN_A_NODE_HEARTBEAT_AGE": "Time since the node's last sign of life, milliseconds.",
    "POPCORN_A_NODE_REASON": "Why it stopped or crashed, in the kernel's own words; may be empty.",
    "POPCORN_A_NODE_APIC_ID": "APIC ID that this node's doorbell goes to.",
    "POPCORN_A_NODE_VECTOR": "Vector that this node's doorbell raises.",
    "POPCORN_A_NODE_SENT": "Messages that this kernel sent to the node.",
    "POPCORN_A_NODE_RECEIVED": "Messages that this kernel received from the node.",
    "POPCORN_A_NODE_DOORBELLS_SENT": "Doorbells that this kernel rang at the node.",
    "POPCORN_A_NODE_REJECTED": "Messages from the node that failed a check and were not delivered.",
    "POPCORN_A_NODE_SELF": "This node is the kernel that answers.",
    "POPCORN_A_NODE_SHUT": "Its channels were shut because it sent garbage; they open when it comes back in a new epoch.",  # noqa: E501
    "POPCORN_A_NODE_WINDOW_MAX": "Longest time that the node polls before it sleeps, microseconds; 0 never polls. Told of the kernel that answers only.",  # noqa: E501
    "POPCORN_A_NODE_THREADED": "1 if the node polls in kernel threads, 0 if in softirqs. Told of the kernel that answers only.",  # noqa: E501
    "POPCORN_A_NODE_DOORBELL_COST": "What it costs the node to be woken by a doorbell, measured when it joined, nanoseconds. Told of the kernel that answers only.",  # noqa: E501
    "POPCORN_A_NODE_UNANSWERED": "Pings from the node whose answers found no room for so long that they were given up.",  # noqa: E501
    "POPCORN_A_KERNEL_ID": "Id of the kernel, which is its node id.",
    "POPCORN_A_KERNEL_NAME": "Name, letters, digits, dot, dash and underscore, beginning with a letter.",  # noqa: E501
    "POPCORN_A_KERNEL_STATE": "State of the kernel.",
    "POPCORN_A_KERNEL_REASON": "Why the kernel is in this state, one line; may be empty.",
    "POPCORN_A_KERNEL_CPU": "A leased CPU, by the primary's logical number. The first one boots the kernel.",  # noqa: E501
    "POPCORN_A_KERNEL_APIC_ID": "APIC IDs of the leased CPUs, in the order of `cpu`.",
    "POPCORN_A_KERNEL_MEMORY_BACKEND": "Where the memory comes from; contig unless told otherwise.",
    "POPCORN_A_KERNEL_MEMORY_START": "Physical start of the leased memory, bytes. Given on request only for the reserved backend.",  # noqa: E501
    "POPCORN_A_KERNEL_MEMORY_SIZE": "Size of the leased memory, bytes, a multiple of the granule.",
    "POPCORN_A_KERNEL_SLICE_START": "Physical start of the slice of the first MiB, bytes. Page 0 is the trampoline's, page 1 for the page-table root.",  # noqa: E501
    "POPCORN_A_KERNEL_SLICE_SIZE": "Size of that slice, bytes.",
    "POPCORN_A_KERNEL_BSP_APIC_ID": "APIC ID of the CPU that booted the machine.",
    "POPCORN_A_KERNEL_TSC_KHZ": "Rate of the time stamp counter, kHz.",
    "POPCORN_A_KERNEL_X2APIC": "The machine's CPUs run in x2APIC mode.",
    "POPCORN_A_KERNEL_FABRIC_START": "Physical start of the fabric, bytes.",
    "POPCORN_A_KERNEL_FABRIC_SIZE": "Size of the fabric, bytes.",
    "POPCORN_A_KERNEL_ENTRY": "Physical address of the 64-bit entry point.",
    "POPCORN_A_KERNEL_BOOT_PARAMS": "Physical address of the zero page.",
    "POPCORN_A_KERNEL_PAGE_TABLE_ROOT": "Physical address of the PML4 page, below 4 GiB.",
    "POPCORN_A_KERNEL_IMAGE": "What was loaded, for people; kept by the module and shown again.",
    "POPCORN_A_KERNEL_EPOCH": "Epoch of the node slot that the kernel was prepared with.",
    "POPCORN_A_KERNEL_AGE": "Time since the last change of state, milliseconds.",
    "POPCORN_A_KERNEL_JOIN_TIME": "Time from the first INIT to the registration on the fabric, microseconds; 0 before.",  # noqa: E501
    "POPCORN_A_KERNEL_RECIPE": "How to make again what was loaded, in the loader's words; kept by the module until the next boot, and told when one kernel is asked for.",  # noqa: E501
    "POPCORN_A_PING_NODE_ID": "Node to ping.",
    "POPCORN_A_PING_COUNT": "Round trips to make.",
    "POPCORN_A_PING_SIZE": "Bytes of payload that go there and come back, besides the cookie; 16 unless told otherwise.",  # noqa: E501
    "POPCORN_A_PING_TIMEOUT": "Time to wait for each answer, milliseconds; 1000 unless told otherwise.",  # noqa: E501
    "POPCORN_A_PING_INTERVAL": "Time from one request to the next, microseconds; a request whose turn is over follows at once. None unless told otherwise.",  # noqa: E501
    "POPCORN_A_PING_RTT": "A round trip that was answered, TSC cycles.",
    "POPCORN_A_PING_SENT": "Requests that were sent.",
    "POPCORN_A_PING_LOST": "Requests that were not answered in time.",
    "POPCORN_A_PING_WINDOW": "Requests that may be under way at once; 1 unless told otherwise.",
    "POPCORN_A_PING_CALL": "The request is a call, answered in its own slot; one at a time, and size is at most 40.",  # noqa: E501
    "POPCORN_A_PING_BUSY": "Look for answers all the time instead of sleeping until they come. Not for calls.",  # noqa: E501
    "POPCORN_A_PING_ELAPSED": "From the first request to the last answer, TSC cycles; 0 if there was none.",  # noqa: E501
    "POPCORN_A_PING_FULL": "How often a request found no room and had to wait.",
    "POPCORN_A_CHANNEL_NODE_ID": "The other node.",
    "POPCORN_A_CHANNEL_QUEUE": "Which of the channels to and from it.",
    "POPCORN_A_CHANNEL_SENT": "Messages to it.",
    "POPCORN_A_CHANNEL_SENT_BYTES": "Their payload, bytes.",
    "POPCORN_A_CHANNEL_RECEIVED": "Messages from it.",
    "POPCORN_A_CHANNEL_RECEIVED_BYTES": "Their payload, bytes.",
    "POPCORN_A_CHANNEL_DOORBELLS_SENT": "Doorbells rung at its queue, for messages.",
    "POPCORN_A_CHANNEL_ROOM_DOORBELLS": "Doorbells rung at its queue because it waited for room.",
    "POPCORN_A_CHANNEL_FULL": "Sends that found no room.",
    "POPCORN_A_CHANNEL_WAITS": "Sends that slept until there was room.",
    "POPCORN_A_CHANNEL_REJECTED": "Messages from it that failed a check and were not delivered.",
    "POPCORN_A_CHANNEL_ANSWERED": "Calls from it that were answered in place.",
    "POPCORN_A_CHANNEL_RING_SLOTS": "Messages that the ring to it holds.",
    "POPCORN_A_CHANNEL_RING_SLOTS_FROM": "Messages that the ring from it holds.",
    "POPCORN_A_CHANNEL_AREA_BYTES": "Of this node's area, what that node has not given back yet, bytes.",  # noqa: E501
    "POPCORN_A_CHANNEL_ARMED": "This node does not poll the channel; the next message from there rings.",  # noqa: E501
    "POPCORN_A_QUEUE_QUEUE": "Which of this node's queues.",
    "POPCORN_A_QUEUE_POLLS": "Times that it was polled.",
    "POPCORN_A_QUEUE_POLL_MESSAGES": "Messages that the polls found.",
    "POPCORN_A_QUEUE_DOORBELL_IRQS": "Doorbells that interrupted it.",
    "POPCORN_A_QUEUE_SPURIOUS": "Of them, those that no message came with.",
    "POPCORN_A_QUEUE_SLEEPS": "Times that it stopped polling and asked for a doorbell.",
    "POPCORN_A_QUEUE_WINDOW": "How long it polls for more before it sleeps, at present, nanoseconds.",  # noqa: E501
    "POPCORN_A_QUEUE_WINDOW_HITS": "Times that a message came in the window and saved a doorbell.",
    "POPCORN_A_QUEUE_CPU": "CPU that its doorbell interrupts.",
    "POPCORN_A_QUEUE_IRQ": "Number of that interrupt, as in /proc/interrupts.",
    "POPCORN_A_LATENCY_SRC": "Node that sent.",
    "POPCORN_A_LATENCY_DST": "Node that received, and counted.",
    "POPCORN_A_LATENCY_QUEUE": "Which of the channels between them.",
    "POPCORN_A_LATENCY_STAGE": "What was timed.",
    "POPCORN_A_LATENCY_COUNT": "The histogram, 32 buckets: the i-th counts what took 2^i to 2^(i+1) - 1 TSC cycles, the last one also what took longer.",  # noqa: E501
    "POPCORN_A_SERVICE_NODE_ID": "Node that has the service.",
    "POPCORN_A_SERVICE_NAME": "Name of the service.",
    "POPCORN_A_SERVICE_VERSION": "Its version; only nodes with the same one talk.",
    "POPCORN_A_SERVICE_ID": "What messages to it carry.",
    "POPCORN_A_SERVICE_PEER": "This kernel has the same service in the same version, and the two talk.",  # noqa: E501
    "POPCORN_NODE_STATE_ABSENT": "Nobody uses the slot.",
    "POPCORN_NODE_STATE_EXPECTED": "The primary has prepared the slot; the kernel has not registered yet.",  # noqa: E501
    "POPCORN_NODE_STATE_UP": "Registered and reachable.",
    "POPCORN_NODE_STATE_LEFT": "Took its leave in order (its module was removed).",
    "POPCORN_NODE_STATE_STOPPED": "Its kernel powered off, halted or rebooted, and a guard parked it.",  # noqa: E501
    "POPCORN_NODE_STATE_CRASHED": "Its kernel panicked.",
    "POPCORN_NODE_STATE_JOINING": "Its kernel has claimed the slot and is registering.",
    "POPCORN_NODE_STATE_HUNG": "Gave no sign of life for some seconds; nothing is sent to it, and what is in its channels waits.",  # noqa: E501
    "POPCORN_KERNEL_STATE_LEASED": "Has its CPUs and memory; nothing runs there. Its memory may be written.",  # noqa: E501
    "POPCORN_KERNEL_STATE_STARTING": "Its first CPU was sent off; it has not registered on the fabric.",  # noqa: E501
    "POPCORN_KERNEL_STATE_RUNNING": "Registered on the fabric.",
    "POPCORN_KERNEL_STATE_STOPPING": "Asked to power off.",
    "POPCORN_KERNEL_STATE_STOPPED": "Powered off, halted or rebooted; its CPUs are parked. It can be started again.",  # noqa: E501
    "POPCORN_KERNEL_STATE_CRASHED": "Panicked; its CPUs are parked and its memory is as it was.",
    "POPCORN_KERNEL_STATE_KILLED": "Its CPUs were reset by the primary.",
    "POPCORN_KERNEL_STATE_HUNG": "Gave no sign of life for some seconds. Nothing was done to it: it may only be slow, and runs again when it gives one.",  # noqa: E501
    "POPCORN_MEMORY_BACKEND_CONTIG": "Taken from the running kernel's page allocator.",
    "POPCORN_MEMORY_BACKEND_RESERVED": "A range that the primary was booted without (memmap=SIZE$START).",  # noqa: E501
    "POPCORN_LATENCY_STAGE_DELIVER": "From a message's time stamp to its delivery.",
    "POPCORN_LATENCY_STAGE_DOORBELL": "From ringing the doorbell to its interrupt.",
    "POPCORN_LATENCY_STAGE_POLL": "From the interrupt to the poll that it asked for.",
}
