/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* GENERATED from kmod/uapi/popcorn.yaml by `make gen` */
/* (PYTHONPATH=tools python3 -m codegen). Do not edit. */
#ifndef _UAPI_POPCORN_H
#define _UAPI_POPCORN_H

/*
 * Control of Popcorn: the fabric and its nodes (in every kernel), and the
 * kernels that the primary starts (only where popcorn_host is loaded). Every
 * refusal carries an extack message and, where one attribute is to blame, its
 * offset.
 */

#define POPCORN_FAMILY_NAME	"popcorn"
#define POPCORN_FAMILY_VERSION	1

/* Longest name of a kernel, in bytes, without the terminating NUL. */
#define POPCORN_NAME_MAX	31

/* Nodes that a fabric can hold; ids run from 0 (the primary) to 15. */
#define POPCORN_NODES_MAX	16

/* Most round trips that one ping request may ask for. */
#define POPCORN_PING_BATCH_MAX	4096

/* Most ping requests that may be under way at once. */
#define POPCORN_PING_WINDOW_MAX	256

/* Longest payload of a ping, bytes; with its cookie it is the longest message. */
#define POPCORN_PING_SIZE_MAX	131064

/* Longest payload of a ping that is answered in place, bytes; with its cookie */
/*   it fills a slot. */
#define POPCORN_PING_CALL_SIZE_MAX	40

/* Longest polling window that a node can be given, microseconds. */
#define POPCORN_POLL_WINDOW_MAX	1000000

/* Buckets of a latency histogram. */
#define POPCORN_LATENCY_BUCKETS	32

/* Leased memory comes in multiples of this, in bytes. */
#define POPCORN_MEMORY_GRANULE	2097152

/**
 * enum popcorn_node_state - Where a node is in its life, as its slot in the
 *   fabric tells.
 * @POPCORN_NODE_STATE_ABSENT: Nobody uses the slot.
 * @POPCORN_NODE_STATE_EXPECTED: The primary has prepared the slot; the kernel
 *   has not registered yet.
 * @POPCORN_NODE_STATE_UP: Registered and reachable.
 * @POPCORN_NODE_STATE_LEFT: Took its leave in order (its module was removed).
 * @POPCORN_NODE_STATE_STOPPED: Its kernel powered off, halted or rebooted, and
 *   a guard parked it.
 * @POPCORN_NODE_STATE_CRASHED: Its kernel panicked.
 * @POPCORN_NODE_STATE_JOINING: Its kernel has claimed the slot and is
 *   registering.
 * @POPCORN_NODE_STATE_HUNG: Gave no sign of life for some seconds; nothing is
 *   sent to it, and what is in its channels waits.
 */
enum popcorn_node_state {
	POPCORN_NODE_STATE_ABSENT,
	POPCORN_NODE_STATE_EXPECTED,
	POPCORN_NODE_STATE_UP,
	POPCORN_NODE_STATE_LEFT,
	POPCORN_NODE_STATE_STOPPED,
	POPCORN_NODE_STATE_CRASHED,
	POPCORN_NODE_STATE_JOINING,
	POPCORN_NODE_STATE_HUNG,
};

/**
 * enum popcorn_kernel_state - Where a kernel that the primary leased resources
 *   to is in its life.
 * @POPCORN_KERNEL_STATE_LEASED: Has its CPUs and memory; nothing runs there.
 *   Its memory may be written.
 * @POPCORN_KERNEL_STATE_STARTING: Its first CPU was sent off; it has not
 *   registered on the fabric.
 * @POPCORN_KERNEL_STATE_RUNNING: Registered on the fabric.
 * @POPCORN_KERNEL_STATE_STOPPING: Asked to power off.
 * @POPCORN_KERNEL_STATE_STOPPED: Powered off, halted or rebooted; its CPUs are
 *   parked. It can be started again.
 * @POPCORN_KERNEL_STATE_CRASHED: Panicked; its CPUs are parked and its memory
 *   is as it was.
 * @POPCORN_KERNEL_STATE_KILLED: Its CPUs were reset by the primary.
 * @POPCORN_KERNEL_STATE_HUNG: Gave no sign of life for some seconds. Nothing
 *   was done to it: it may only be slow, and runs again when it gives one.
 */
enum popcorn_kernel_state {
	POPCORN_KERNEL_STATE_LEASED,
	POPCORN_KERNEL_STATE_STARTING,
	POPCORN_KERNEL_STATE_RUNNING,
	POPCORN_KERNEL_STATE_STOPPING,
	POPCORN_KERNEL_STATE_STOPPED,
	POPCORN_KERNEL_STATE_CRASHED,
	POPCORN_KERNEL_STATE_KILLED,
	POPCORN_KERNEL_STATE_HUNG,
};

/**
 * enum popcorn_memory_backend - Where leased memory comes from.
 * @POPCORN_MEMORY_BACKEND_CONTIG: Taken from the running kernel's page
 *   allocator.
 * @POPCORN_MEMORY_BACKEND_RESERVED: A range that the primary was booted without
 *   (memmap=SIZE$START).
 */
enum popcorn_memory_backend {
	POPCORN_MEMORY_BACKEND_CONTIG,
	POPCORN_MEMORY_BACKEND_RESERVED,
};

/**
 * enum popcorn_latency_stage - What the latency histograms of a channel tell
 *   apart.
 * @POPCORN_LATENCY_STAGE_DELIVER: From a message's time stamp to its delivery.
 * @POPCORN_LATENCY_STAGE_DOORBELL: From ringing the doorbell to its interrupt.
 * @POPCORN_LATENCY_STAGE_POLL: From the interrupt to the poll that it asked
 *   for.
 */
enum popcorn_latency_stage {
	POPCORN_LATENCY_STAGE_DELIVER,
	POPCORN_LATENCY_STAGE_DOORBELL,
	POPCORN_LATENCY_STAGE_POLL,
};

/**
 * enum popcorn_a_fabric - Attributes of the set `fabric`.
 * @POPCORN_A_FABRIC_PHYS: (u64) Physical address of the fabric, bytes.
 * @POPCORN_A_FABRIC_SIZE: (u64) Size of the fabric, bytes.
 * @POPCORN_A_FABRIC_VERSION: (u32) Layout version, major in the upper and minor
 *   in the lower 16 bits.
 * @POPCORN_A_FABRIC_NODE_ID: (u32) The node that this kernel is.
 * @POPCORN_A_FABRIC_NR_NODES: (u32) Node slots in the fabric.
 * @POPCORN_A_FABRIC_TSC_KHZ: (u32) Rate of the time stamp counter that all
 *   nodes share, kHz.
 * @POPCORN_A_FABRIC_HOST: (flag) popcorn_host is loaded, kernels can be started
 *   from here.
 * @POPCORN_A_FABRIC_NR_QUEUES: (u32) Channels for each ordered pair of nodes.
 * @POPCORN_A_FABRIC_RING_SLOTS: (u32) Messages that each channel holds as it is
 *   laid out.
 * @POPCORN_A_FABRIC_AREA_BYTES: (u64) Room that each node has for what fits no
 *   slot, bytes.
 * @POPCORN_A_FABRIC_LOOPBACK: (flag) The fabric is inside this kernel, all of
 *   its nodes are.
 */
enum popcorn_a_fabric {
	POPCORN_A_FABRIC_PHYS = 1,
	POPCORN_A_FABRIC_SIZE,
	POPCORN_A_FABRIC_VERSION,
	POPCORN_A_FABRIC_NODE_ID,
	POPCORN_A_FABRIC_NR_NODES,
	POPCORN_A_FABRIC_TSC_KHZ,
	POPCORN_A_FABRIC_HOST,
	POPCORN_A_FABRIC_NR_QUEUES,
	POPCORN_A_FABRIC_RING_SLOTS,
	POPCORN_A_FABRIC_AREA_BYTES,
	POPCORN_A_FABRIC_LOOPBACK,
};

#define POPCORN_A_FABRIC_MAX	POPCORN_A_FABRIC_LOOPBACK

/**
 * enum popcorn_a_node - Attributes of the set `node`.
 * @POPCORN_A_NODE_ID: (u32) Node id, 0 is the primary.
 * @POPCORN_A_NODE_NAME: (string) Name of the kernel.
 * @POPCORN_A_NODE_STATE: (u32) State of the node.
 * @POPCORN_A_NODE_EPOCH: (u32) Grows by one each time a kernel is prepared for
 *   this slot.
 * @POPCORN_A_NODE_RELEASE: (string) Kernel release, as `uname -r` prints it.
 * @POPCORN_A_NODE_MACHINE: (string) Architecture, as `uname -m` prints it.
 * @POPCORN_A_NODE_NR_CPUS: (u32) CPUs online in that kernel when it registered.
 * @POPCORN_A_NODE_HEARTBEAT_AGE: (u64) Time since the node's last sign of life,
 *   milliseconds.
 * @POPCORN_A_NODE_REASON: (string) Why it stopped or crashed, in the kernel's
 *   own words; may be empty.
 * @POPCORN_A_NODE_APIC_ID: (u32) APIC ID that this node's doorbell goes to.
 * @POPCORN_A_NODE_VECTOR: (u32) Vector that this node's doorbell raises.
 * @POPCORN_A_NODE_SENT: (u64) Messages that this kernel sent to the node.
 * @POPCORN_A_NODE_RECEIVED: (u64) Messages that this kernel received from the
 *   node.
 * @POPCORN_A_NODE_DOORBELLS_SENT: (u64) Doorbells that this kernel rang at the
 *   node.
 * @POPCORN_A_NODE_REJECTED: (u64) Messages from the node that failed a check
 *   and were not delivered.
 * @POPCORN_A_NODE_SELF: (flag) This node is the kernel that answers.
 * @POPCORN_A_NODE_SHUT: (flag) Its channels were shut because it sent garbage;
 *   they open when it comes back in a new epoch.
 * @POPCORN_A_NODE_WINDOW_MAX: (u32) Longest time that the node polls before it
 *   sleeps, microseconds; 0 never polls. Told of the kernel that answers only.
 * @POPCORN_A_NODE_THREADED: (u32) 1 if the node polls in kernel threads, 0 if
 *   in softirqs. Told of the kernel that answers only.
 * @POPCORN_A_NODE_DOORBELL_COST: (u32) What it costs the node to be woken by a
 *   doorbell, measured when it joined, nanoseconds. Told of the kernel that
 *   answers only.
 * @POPCORN_A_NODE_UNANSWERED: (u64) Pings from the node whose answers found no
 *   room for so long that they were given up.
 */
enum popcorn_a_node {
	POPCORN_A_NODE_ID = 1,
	POPCORN_A_NODE_NAME,
	POPCORN_A_NODE_STATE,
	POPCORN_A_NODE_EPOCH,
	POPCORN_A_NODE_RELEASE,
	POPCORN_A_NODE_MACHINE,
	POPCORN_A_NODE_NR_CPUS,
	POPCORN_A_NODE_HEARTBEAT_AGE,
	POPCORN_A_NODE_REASON,
	POPCORN_A_NODE_APIC_ID,
	POPCORN_A_NODE_VECTOR,
	POPCORN_A_NODE_SENT,
	POPCORN_A_NODE_RECEIVED,
	POPCORN_A_NODE_DOORBELLS_SENT,
	POPCORN_A_NODE_REJECTED,
	POPCORN_A_NODE_SELF,
	POPCORN_A_NODE_SHUT,
	POPCORN_A_NODE_WINDOW_MAX,
	POPCORN_A_NODE_THREADED,
	POPCORN_A_NODE_DOORBELL_COST,
	POPCORN_A_NODE_UNANSWERED,
};

#define POPCORN_A_NODE_MAX	POPCORN_A_NODE_UNANSWERED

/**
 * enum popcorn_a_kernel - Attributes of the set `kernel`.
 * @POPCORN_A_KERNEL_ID: (u32) Id of the kernel, which is its node id.
 * @POPCORN_A_KERNEL_NAME: (string) Name, letters, digits, dot, dash and
 *   underscore, beginning with a letter.
 * @POPCORN_A_KERNEL_STATE: (u32) State of the kernel.
 * @POPCORN_A_KERNEL_REASON: (string) Why the kernel is in this state, one line;
 *   may be empty.
 * @POPCORN_A_KERNEL_CPU: (u32, any number of times) A leased CPU, by the
 *   primary's logical number. The first one boots the kernel.
 * @POPCORN_A_KERNEL_APIC_ID: (u32, any number of times) APIC IDs of the leased
 *   CPUs, in the order of `cpu`.
 * @POPCORN_A_KERNEL_MEMORY_BACKEND: (u32) Where the memory comes from; contig
 *   unless told otherwise.
 * @POPCORN_A_KERNEL_MEMORY_START: (u64) Physical start of the leased memory,
 *   bytes. Given on request only for the reserved backend.
 * @POPCORN_A_KERNEL_MEMORY_SIZE: (u64) Size of the leased memory, bytes, a
 *   multiple of the granule.
 * @POPCORN_A_KERNEL_SLICE_START: (u64) Physical start of the slice of the first
 *   MiB, bytes. Page 0 is the trampoline's, page 1 for the page-table root.
 * @POPCORN_A_KERNEL_SLICE_SIZE: (u64) Size of that slice, bytes.
 * @POPCORN_A_KERNEL_BSP_APIC_ID: (u32) APIC ID of the CPU that booted the
 *   machine.
 * @POPCORN_A_KERNEL_TSC_KHZ: (u32) Rate of the time stamp counter, kHz.
 * @POPCORN_A_KERNEL_X2APIC: (flag) The machine's CPUs run in x2APIC mode.
 * @POPCORN_A_KERNEL_FABRIC_START: (u64) Physical start of the fabric, bytes.
 * @POPCORN_A_KERNEL_FABRIC_SIZE: (u64) Size of the fabric, bytes.
 * @POPCORN_A_KERNEL_ENTRY: (u64) Physical address of the 64-bit entry point.
 * @POPCORN_A_KERNEL_BOOT_PARAMS: (u64) Physical address of the zero page.
 * @POPCORN_A_KERNEL_PAGE_TABLE_ROOT: (u64) Physical address of the PML4 page,
 *   below 4 GiB.
 * @POPCORN_A_KERNEL_IMAGE: (string) What was loaded, for people; kept by the
 *   module and shown again.
 * @POPCORN_A_KERNEL_EPOCH: (u32) Epoch of the node slot that the kernel was
 *   prepared with.
 * @POPCORN_A_KERNEL_AGE: (u64) Time since the last change of state,
 *   milliseconds.
 * @POPCORN_A_KERNEL_JOIN_TIME: (u64) Time from the first INIT to the
 *   registration on the fabric, microseconds; 0 before.
 * @POPCORN_A_KERNEL_RECIPE: (string) How to make again what was loaded, in the
 *   loader's words; kept by the module until the next boot, and told when one
 *   kernel is asked for.
 */
enum popcorn_a_kernel {
	POPCORN_A_KERNEL_ID = 1,
	POPCORN_A_KERNEL_NAME,
	POPCORN_A_KERNEL_STATE,
	POPCORN_A_KERNEL_REASON,
	POPCORN_A_KERNEL_CPU,
	POPCORN_A_KERNEL_APIC_ID,
	POPCORN_A_KERNEL_MEMORY_BACKEND,
	POPCORN_A_KERNEL_MEMORY_START,
	POPCORN_A_KERNEL_MEMORY_SIZE,
	POPCORN_A_KERNEL_SLICE_START,
	POPCORN_A_KERNEL_SLICE_SIZE,
	POPCORN_A_KERNEL_BSP_APIC_ID,
	POPCORN_A_KERNEL_TSC_KHZ,
	POPCORN_A_KERNEL_X2APIC,
	POPCORN_A_KERNEL_FABRIC_START,
	POPCORN_A_KERNEL_FABRIC_SIZE,
	POPCORN_A_KERNEL_ENTRY,
	POPCORN_A_KERNEL_BOOT_PARAMS,
	POPCORN_A_KERNEL_PAGE_TABLE_ROOT,
	POPCORN_A_KERNEL_IMAGE,
	POPCORN_A_KERNEL_EPOCH,
	POPCORN_A_KERNEL_AGE,
	POPCORN_A_KERNEL_JOIN_TIME,
	POPCORN_A_KERNEL_RECIPE,
};

#define POPCORN_A_KERNEL_MAX	POPCORN_A_KERNEL_RECIPE

/**
 * enum popcorn_a_ping - Attributes of the set `ping`.
 * @POPCORN_A_PING_NODE_ID: (u32) Node to ping.
 * @POPCORN_A_PING_COUNT: (u32) Round trips to make.
 * @POPCORN_A_PING_SIZE: (u32) Bytes of payload that go there and come back,
 *   besides the cookie; 16 unless told otherwise.
 * @POPCORN_A_PING_TIMEOUT: (u32) Time to wait for each answer, milliseconds;
 *   1000 unless told otherwise.
 * @POPCORN_A_PING_INTERVAL: (u32) Time from one request to the next,
 *   microseconds; a request whose turn is over follows at once. None unless
 *   told otherwise.
 * @POPCORN_A_PING_RTT: (u64, any number of times) A round trip that was
 *   answered, TSC cycles.
 * @POPCORN_A_PING_SENT: (u32) Requests that were sent.
 * @POPCORN_A_PING_LOST: (u32) Requests that were not answered in time.
 * @POPCORN_A_PING_WINDOW: (u32) Requests that may be under way at once; 1
 *   unless told otherwise.
 * @POPCORN_A_PING_CALL: (flag) The request is a call, answered in its own slot;
 *   one at a time, and size is at most 40.
 * @POPCORN_A_PING_BUSY: (flag) Look for answers all the time instead of
 *   sleeping until they come. Not for calls.
 * @POPCORN_A_PING_ELAPSED: (u64) From the first request to the last answer, TSC
 *   cycles; 0 if there was none.
 * @POPCORN_A_PING_FULL: (u32) How often a request found no room and had to
 *   wait.
 */
enum popcorn_a_ping {
	POPCORN_A_PING_NODE_ID = 1,
	POPCORN_A_PING_COUNT,
	POPCORN_A_PING_SIZE,
	POPCORN_A_PING_TIMEOUT,
	POPCORN_A_PING_INTERVAL,
	POPCORN_A_PING_RTT,
	POPCORN_A_PING_SENT,
	POPCORN_A_PING_LOST,
	POPCORN_A_PING_WINDOW,
	POPCORN_A_PING_CALL,
	POPCORN_A_PING_BUSY,
	POPCORN_A_PING_ELAPSED,
	POPCORN_A_PING_FULL,
};

#define POPCORN_A_PING_MAX	POPCORN_A_PING_FULL

/**
 * enum popcorn_a_channel - Attributes of the set `channel`.
 * @POPCORN_A_CHANNEL_NODE_ID: (u32) The other node.
 * @POPCORN_A_CHANNEL_QUEUE: (u32) Which of the channels to and from it.
 * @POPCORN_A_CHANNEL_SENT: (u64) Messages to it.
 * @POPCORN_A_CHANNEL_SENT_BYTES: (u64) Their payload, bytes.
 * @POPCORN_A_CHANNEL_RECEIVED: (u64) Messages from it.
 * @POPCORN_A_CHANNEL_RECEIVED_BYTES: (u64) Their payload, bytes.
 * @POPCORN_A_CHANNEL_DOORBELLS_SENT: (u64) Doorbells rung at its queue, for
 *   messages.
 * @POPCORN_A_CHANNEL_ROOM_DOORBELLS: (u64) Doorbells rung at its queue because
 *   it waited for room.
 * @POPCORN_A_CHANNEL_FULL: (u64) Sends that found no room.
 * @POPCORN_A_CHANNEL_WAITS: (u64) Sends that slept until there was room.
 * @POPCORN_A_CHANNEL_REJECTED: (u64) Messages from it that failed a check and
 *   were not delivered.
 * @POPCORN_A_CHANNEL_ANSWERED: (u64) Calls from it that were answered in place.
 * @POPCORN_A_CHANNEL_RING_SLOTS: (u32) Messages that the ring to it holds.
 * @POPCORN_A_CHANNEL_RING_SLOTS_FROM: (u32) Messages that the ring from it
 *   holds.
 * @POPCORN_A_CHANNEL_AREA_BYTES: (u64) Of this node's area, what that node has
 *   not given back yet, bytes.
 * @POPCORN_A_CHANNEL_ARMED: (flag) This node does not poll the channel; the
 *   next message from there rings.
 */
enum popcorn_a_channel {
	POPCORN_A_CHANNEL_NODE_ID = 1,
	POPCORN_A_CHANNEL_QUEUE,
	POPCORN_A_CHANNEL_SENT,
	POPCORN_A_CHANNEL_SENT_BYTES,
	POPCORN_A_CHANNEL_RECEIVED,
	POPCORN_A_CHANNEL_RECEIVED_BYTES,
	POPCORN_A_CHANNEL_DOORBELLS_SENT,
	POPCORN_A_CHANNEL_ROOM_DOORBELLS,
	POPCORN_A_CHANNEL_FULL,
	POPCORN_A_CHANNEL_WAITS,
	POPCORN_A_CHANNEL_REJECTED,
	POPCORN_A_CHANNEL_ANSWERED,
	POPCORN_A_CHANNEL_RING_SLOTS,
	POPCORN_A_CHANNEL_RING_SLOTS_FROM,
	POPCORN_A_CHANNEL_AREA_BYTES,
	POPCORN_A_CHANNEL_ARMED,
};

#define POPCORN_A_CHANNEL_MAX	POPCORN_A_CHANNEL_ARMED

/**
 * enum popcorn_a_queue - Attributes of the set `queue`.
 * @POPCORN_A_QUEUE_QUEUE: (u32) Which of this node's queues.
 * @POPCORN_A_QUEUE_POLLS: (u64) Times that it was polled.
 * @POPCORN_A_QUEUE_POLL_MESSAGES: (u64) Messages that the polls found.
 * @POPCORN_A_QUEUE_DOORBELL_IRQS: (u64) Doorbells that interrupted it.
 * @POPCORN_A_QUEUE_SPURIOUS: (u64) Of them, those that no message came with.
 * @POPCORN_A_QUEUE_SLEEPS: (u64) Times that it stopped polling and asked for a
 *   doorbell.
 * @POPCORN_A_QUEUE_WINDOW: (u64) How long it polls for more before it sleeps,
 *   at present, nanoseconds.
 * @POPCORN_A_QUEUE_WINDOW_HITS: (u64) Times that a message came in the window
 *   and saved a doorbell.
 * @POPCORN_A_QUEUE_CPU: (u32) CPU that its doorbell interrupts.
 * @POPCORN_A_QUEUE_IRQ: (u32) Number of that interrupt, as in /proc/interrupts.
 */
enum popcorn_a_queue {
	POPCORN_A_QUEUE_QUEUE = 1,
	POPCORN_A_QUEUE_POLLS,
	POPCORN_A_QUEUE_POLL_MESSAGES,
	POPCORN_A_QUEUE_DOORBELL_IRQS,
	POPCORN_A_QUEUE_SPURIOUS,
	POPCORN_A_QUEUE_SLEEPS,
	POPCORN_A_QUEUE_WINDOW,
	POPCORN_A_QUEUE_WINDOW_HITS,
	POPCORN_A_QUEUE_CPU,
	POPCORN_A_QUEUE_IRQ,
};

#define POPCORN_A_QUEUE_MAX	POPCORN_A_QUEUE_IRQ

/**
 * enum popcorn_a_latency - Attributes of the set `latency`.
 * @POPCORN_A_LATENCY_SRC: (u32) Node that sent.
 * @POPCORN_A_LATENCY_DST: (u32) Node that received, and counted.
 * @POPCORN_A_LATENCY_QUEUE: (u32) Which of the channels between them.
 * @POPCORN_A_LATENCY_STAGE: (u32) What was timed.
 * @POPCORN_A_LATENCY_COUNT: (u64, any number of times) The histogram, 32
 *   buckets: the i-th counts what took 2^i to 2^(i+1) - 1 TSC cycles, the last
 *   one also what took longer.
 */
enum popcorn_a_latency {
	POPCORN_A_LATENCY_SRC = 1,
	POPCORN_A_LATENCY_DST,
	POPCORN_A_LATENCY_QUEUE,
	POPCORN_A_LATENCY_STAGE,
	POPCORN_A_LATENCY_COUNT,
};

#define POPCORN_A_LATENCY_MAX	POPCORN_A_LATENCY_COUNT

/**
 * enum popcorn_a_service - Attributes of the set `service`.
 * @POPCORN_A_SERVICE_NODE_ID: (u32) Node that has the service.
 * @POPCORN_A_SERVICE_NAME: (string) Name of the service.
 * @POPCORN_A_SERVICE_VERSION: (u32) Its version; only nodes with the same one
 *   talk.
 * @POPCORN_A_SERVICE_ID: (u32) What messages to it carry.
 * @POPCORN_A_SERVICE_PEER: (flag) This kernel has the same service in the same
 *   version, and the two talk.
 */
enum popcorn_a_service {
	POPCORN_A_SERVICE_NODE_ID = 1,
	POPCORN_A_SERVICE_NAME,
	POPCORN_A_SERVICE_VERSION,
	POPCORN_A_SERVICE_ID,
	POPCORN_A_SERVICE_PEER,
};

#define POPCORN_A_SERVICE_MAX	POPCORN_A_SERVICE_PEER

/**
 * enum popcorn_cmd - Commands and notifications.
 * @POPCORN_CMD_FABRIC_GET: The fabric that this kernel is on.
 * @POPCORN_CMD_NODE_GET: One node, or all that are not absent.
 * @POPCORN_CMD_NODE_NTF: A node changed its state.
 * @POPCORN_CMD_PING: Round trips to a node through its echo service.
 * @POPCORN_CMD_KERNEL_GET: One kernel by id or by name, or all that hold a
 *   lease.
 * @POPCORN_CMD_KERNEL_NTF: A kernel was leased to, changed its state or was
 *   released (then its state is the last one).
 * @POPCORN_CMD_KERNEL_NEW: Lease CPUs, memory and a low slice to a new kernel.
 *   All of it or nothing.
 * @POPCORN_CMD_KERNEL_PREPARE: Make a kernel that does not run ready to be
 *   loaded (again): its memory is cleared, its node slot gets a new epoch, its
 *   state becomes leased.
 * @POPCORN_CMD_KERNEL_BOOT: Start the kernel that was written into the leased
 *   memory.
 * @POPCORN_CMD_KERNEL_STOP: Ask a running kernel to power off. It is done when
 *   its state says so.
 * @POPCORN_CMD_KERNEL_KILL: Reset the CPUs of a kernel, whatever it is doing.
 *   Its lease stays.
 * @POPCORN_CMD_KERNEL_DEL: Give back all that a kernel that does not run has
 *   leased; its memory is cleared first.
 * @POPCORN_CMD_KERNEL_RELEASED: A kernel's lease was given back; it is gone.
 * @POPCORN_CMD_SERVICE_GET: The services of every node that is up, this one
 *   included.
 * @POPCORN_CMD_SERVICE_NTF: A node's service and this kernel's talk from now on
 *   (then `peer` is there) or no longer.
 * @POPCORN_CMD_CHANNEL_GET: The channels between this kernel and each node that
 *   it has met, one for each queue.
 * @POPCORN_CMD_QUEUE_GET: The queues of this kernel, which poll for messages.
 * @POPCORN_CMD_LATENCY_GET: The latency histograms of all channels of the
 *   fabric, whichever kernels they join, as the receivers keep them; without
 *   those that are empty.
 * @POPCORN_CMD_NODE_SET: Change how this kernel's node waits for messages. What
 *   is not given stays.
 * @POPCORN_CMD_KERNEL_NMI: Have the CPUs of a kernel that has joined and not
 *   ended print their backtraces into its log, also where they allow no
 *   interrupts. The answer tells which CPUs were told to.
 */
enum popcorn_cmd {
	POPCORN_CMD_FABRIC_GET = 1,
	POPCORN_CMD_NODE_GET,
	POPCORN_CMD_NODE_NTF,
	POPCORN_CMD_PING,
	POPCORN_CMD_KERNEL_GET,
	POPCORN_CMD_KERNEL_NTF,
	POPCORN_CMD_KERNEL_NEW,
	POPCORN_CMD_KERNEL_PREPARE,
	POPCORN_CMD_KERNEL_BOOT,
	POPCORN_CMD_KERNEL_STOP,
	POPCORN_CMD_KERNEL_KILL,
	POPCORN_CMD_KERNEL_DEL,
	POPCORN_CMD_KERNEL_RELEASED,
	POPCORN_CMD_SERVICE_GET,
	POPCORN_CMD_SERVICE_NTF,
	POPCORN_CMD_CHANNEL_GET,
	POPCORN_CMD_QUEUE_GET,
	POPCORN_CMD_LATENCY_GET,
	POPCORN_CMD_NODE_SET,
	POPCORN_CMD_KERNEL_NMI,
};

#define POPCORN_CMD_MAX	POPCORN_CMD_KERNEL_NMI

#define POPCORN_MCGRP_NODE	"node"
#define POPCORN_MCGRP_KERNEL	"kernel"
#define POPCORN_MCGRP_SERVICE	"service"

#endif /* _UAPI_POPCORN_H */
