/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Layout of the fabric: the shared memory through which kernels talk. docs/shared-memory.md tells the
 * story; this file is the truth. Kernels of different versions and word sizes meet here, so every field
 * has a fixed width, 64-bit fields are aligned to 8 bytes everywhere (i386 would pack them tighter), and
 * every offset is asserted. Little-endian only, as the machine is.
 *
 *	+0			header
 *	+nodes_offset		nr_nodes node slots of node_bytes each
 *	+channels_offset	nr_queues x nr_nodes x nr_nodes channels of channel_bytes each; that of queue q
 *				from node s to node d has index (q * nr_nodes + s) * nr_nodes + d
 *	+areas_offset		nr_nodes areas of area_bytes each: what a node sends that fits no slot, and
 *				rings that have outgrown their channel
 *
 * Who writes what: the header and the head of each node slot belong to the primary, the rest of a slot to
 * the node, but for @queue, where the node's peers wake it; of a channel, @tx, @room and the slots belong to
 * the sender, @rx, @arm and @latency to the receiver. Three exceptions: the sender takes @arm back when it
 * rings, the receiver takes @room back when it does, and it answers a call in the slot of the call. A node's
 * area is written by the node alone. No reader trusts any of it: read once, check, then use.
 */
#ifndef _UAPI_POPCORN_SHM_H
#define _UAPI_POPCORN_SHM_H

#include <linux/types.h>

#define PCN_SHM_MAGIC		0x004e524f43504f50ULL	/* "POPCORN" and a NUL */
#define PCN_SHM_VERSION_MAJOR	3	/* another major: refuse to join */
#define PCN_SHM_VERSION_MINOR	1
#define PCN_SHM_VERSION		((PCN_SHM_VERSION_MAJOR << 16) | PCN_SHM_VERSION_MINOR)

#define PCN_SHM_NAME_BYTES	32
#define PCN_SHM_RELEASE_BYTES	80
#define PCN_SHM_MACHINE_BYTES	16
#define PCN_SHM_REASON_BYTES	256
#define PCN_SHM_SERVICES	32	/* that one node can have */
#define PCN_SHM_SERVICE_BYTES	32	/* of a service's name, with the NUL */
#define PCN_SHM_SERVICE_HERE	0x80000000u
#define PCN_SHM_QUEUES		8	/* that a node slot has room for */
#define PCN_SHM_APIC_WORDS	64	/* map of a node's APIC IDs: 4096 bits */
#define PCN_SHM_SLOT_BYTES	64	/* a cache line: one message is one ownership transfer */
#define PCN_SHM_INLINE_BYTES	48	/* payload that fits a slot */
#define PCN_SHM_HEAD_BYTES	40	/* payload that fits a slot which also tells of a body */
#define PCN_SHM_BODY_BYTES	(128 << 10)	/* longest body of a message */
#define PCN_SHM_UNIT_BYTES	1024	/* areas are given out in multiples of it */
#define PCN_SHM_RING_SLOTS_MAX	(1 << 16)
#define PCN_SHM_PENDING		64	/* senders that one queue can tell apart */
#define PCN_SHM_BUCKETS		32

/**
 * struct pcn_shm_header - start of the fabric
 * @magic: PCN_SHM_MAGIC, written last by the creator
 * @version: PCN_SHM_VERSION of the creator
 * @header_bytes: room that the header takes
 * @fabric_bytes: size of the whole
 * @fabric_phys: where the creator put it, to tell a mapping of the wrong place
 * @nr_nodes: node slots
 * @node_bytes: size of one
 * @nodes_offset: of the first
 * @channels_offset: of the first channel
 * @channel_bytes: size of one, a multiple of 64
 * @ring_slots: slots in each channel, a power of two
 * @nr_queues: channels for each ordered pair of nodes
 * @tsc_khz: rate of the TSC that all nodes share
 * @clock_seq: odd while the primary writes the two below
 * @machine: a hash of what the firmware calls this machine: the same at each boot, another one elsewhere
 * @clock_tsc: a TSC value, and
 * @clock_ns: the wall clock (ns since 1970) at that moment
 * @areas_offset: of the first area, a multiple of 4096
 * @area_bytes: size of one, likewise
 */
struct pcn_shm_header {
	__aligned_u64 magic;
	__u32 version;
	__u32 header_bytes;
	__aligned_u64 fabric_bytes;
	__aligned_u64 fabric_phys;
	__u32 nr_nodes;
	__u32 node_bytes;
	__aligned_u64 nodes_offset;
	__aligned_u64 channels_offset;
	__u32 channel_bytes;
	__u32 ring_slots;
	__u32 nr_queues;
	__u32 tsc_khz;
	__u32 clock_seq;
	__u32 machine;
	__aligned_u64 clock_tsc;
	__aligned_u64 clock_ns;
	__aligned_u64 areas_offset;
	__aligned_u64 area_bytes;
};

/**
 * struct pcn_shm_doorbell - where one queue of a node is interrupted
 * @apic_id: physical APIC ID
 * @vector: interrupt vector, 0 while there is none
 *
 * One 64-bit word, so that a sender never sees half of a move.
 */
struct pcn_shm_doorbell {
	__u32 apic_id;
	__u32 vector;
};

/**
 * struct pcn_shm_service - a service that a node has
 * @id: what messages to it carry, with PCN_SHM_SERVICE_HERE; 0 while the entry is free. Written last when
 *	an entry is taken and first when it is given up, so whoever reads the same @id before and after
 *	has read what belongs together
 * @version: of the service
 * @name: NUL-terminated
 */
struct pcn_shm_service {
	__u32 id;
	__u32 version;
	char name[PCN_SHM_SERVICE_BYTES];
};

/**
 * struct pcn_shm_queue - how one queue of a node is woken
 * @pending: a byte for each sender, set by it after it took back @arm of its channel; the node clears it
 *	before it looks at that channel
 * @asleep: 1 while the node wants a doorbell for the next byte that is set; who rings takes it back to 0
 *
 * A line each: senders write the one only when they wake a channel, and the node the other only when it
 * falls asleep, so neither is touched while messages stream.
 */
struct pcn_shm_queue {
	__u8 pending[PCN_SHM_PENDING];
	__u32 asleep;
	__u8 pad[60];
};

/**
 * struct pcn_shm_node - one node's slot
 * @state: enum popcorn_node_state; the primary sets expected and absent, the node the others
 * @epoch: grows each time the primary prepares the slot
 * @name: of the kernel, NUL-terminated
 * @nmi: grows before the primary sends the node's CPUs an NMI to ask for their backtraces (since 3.1)
 * @apic_ids: which CPUs the node owns, a bit for each APIC ID; kept by the primary
 * @heartbeat: TSC at the node's last sign of life
 * @joined: TSC at its registration
 * @nr_cpus: CPUs online at registration
 * @nr_queues: queues with a doorbell
 * @release: uname -r
 * @machine: uname -m
 * @doorbell: struct pcn_shm_doorbell for each queue, as one 64-bit word: apic_id | vector << 32
 * @reason: why it stopped or crashed, NUL-terminated
 * @services_seq: grows with each change of @service
 * @service: what the node's peers can send to
 * @queue: where its peers wake it
 * @nmi_cpus: which of its CPUs take that NMI, a bit for each APIC ID (since 3.1)
 */
struct pcn_shm_node {
	/* the primary's */
	__u32 state;
	__u32 epoch;
	char name[PCN_SHM_NAME_BYTES];
	__u32 nmi;
	__u32 reserved[5];
	__aligned_u64 apic_ids[PCN_SHM_APIC_WORDS];
	/* the node's */
	__aligned_u64 heartbeat;
	__aligned_u64 joined;
	__u32 nr_cpus;
	__u32 nr_queues;
	char release[PCN_SHM_RELEASE_BYTES];
	char machine[PCN_SHM_MACHINE_BYTES];
	__aligned_u64 doorbell[PCN_SHM_QUEUES];
	char reason[PCN_SHM_REASON_BYTES];
	__u32 services_seq;
	__u32 reserved_node;
	struct pcn_shm_service service[PCN_SHM_SERVICES];
	struct pcn_shm_queue queue[PCN_SHM_QUEUES];
	__aligned_u64 nmi_cpus[PCN_SHM_APIC_WORDS];
};

/**
 * struct pcn_shm_slot - one message
 * @head: what it is, one word: sequence word (bits 0-31), service id as the receiver's table has it (32-47),
 *	bytes of @data in use (48-55), flags (56-63). Written last, so that it publishes the rest
 * @tsc: when it was queued
 * @data: payload; with PCN_SHM_FLAG_BODY the first 40 bytes of it and a struct pcn_shm_body in the last 8,
 *	with PCN_SHM_FLAG_MOVE a struct pcn_shm_move
 *
 * The sequence word is the tag of the channel's incarnation (upper 12 bits) and the number of the message.
 */
struct pcn_shm_slot {
	__aligned_u64 head;
	__aligned_u64 tsc;
	__aligned_u64 data[PCN_SHM_INLINE_BYTES / 8];
};

#define PCN_SHM_HEAD(seq, service, len, flags) \
	((__u64)(seq) | (__u64)(service) << 32 | (__u64)(len) << 48 | (__u64)(flags) << 56)
#define PCN_SHM_HEAD_SEQ(head)		((__u32)(head))
#define PCN_SHM_HEAD_SERVICE(head)	((__u16)((head) >> 32))
#define PCN_SHM_HEAD_LEN(head)		((__u8)((head) >> 48))
#define PCN_SHM_HEAD_FLAGS(head)	((__u8)((head) >> 56))

#define PCN_SHM_FLAG_BODY	0x01	/* the message goes on in the sender's area */
#define PCN_SHM_FLAG_CALL	0x02	/* the sender waits for an answer in this slot */
#define PCN_SHM_FLAG_ANSWER	0x04	/* the answer: written by the receiver into the slot of the call */
#define PCN_SHM_FLAG_REFUSED	0x08	/* with ANSWER: there is none, nobody would give one */
#define PCN_SHM_FLAG_MOVE	0x10	/* no message: the ring goes on elsewhere */
#define PCN_SHM_FLAGS		0x1f

/**
 * struct pcn_shm_body - the part of a message that lies in the sender's area
 * @offset: from the start of the area, bytes, a multiple of PCN_SHM_UNIT_BYTES
 * @len: bytes, at most PCN_SHM_BODY_BYTES
 *
 * It belongs to the receiver until it is done with the message (@rx of the channel).
 */
struct pcn_shm_body {
	__u32 offset;
	__u32 len;
};

/**
 * struct pcn_shm_move - where a ring goes on
 * @offset: from the start of the sender's area, bytes, a multiple of PCN_SHM_UNIT_BYTES
 * @nr_slots: slots there, a power of two, at most PCN_SHM_RING_SLOTS_MAX; wiped
 *
 * The next message has the next number and lies at that number's place in the new ring.
 */
struct pcn_shm_move {
	__u32 offset;
	__u32 nr_slots;
};

/**
 * enum pcn_shm_stage - what the always-on histograms tell apart
 * @PCN_SHM_STAGE_DELIVER: from a message's time stamp to its delivery
 * @PCN_SHM_STAGE_DOORBELL: from ringing to the interrupt
 * @PCN_SHM_STAGE_POLL: from the interrupt to the poll
 * @PCN_SHM_STAGES: how many there are
 */
enum pcn_shm_stage {
	PCN_SHM_STAGE_DELIVER,
	PCN_SHM_STAGE_DOORBELL,
	PCN_SHM_STAGE_POLL,
	PCN_SHM_STAGES,
};

/**
 * struct pcn_shm_channel - the one-way ring from one node to another
 * @tx: the sender's line: TSC of its last doorbell, and how many it rang
 * @rx: the receiver's line: tag and number of the messages that it is done with, as one word (tag in the
 *	upper half) so that the sender never pairs one incarnation's count with another's tag
 * @arm: 1 while the receiver does not look at this channel by itself; the sender that finds it so takes it
 *	back to 0 and wakes the receiver (struct pcn_shm_queue)
 * @room: not 0 while the sender waits for room: tag (upper half) and the number (lower half) of messages that
 *	the receiver should be done with when it wakes the sender, which takes it back to 0
 * @latency: by stage, how many took 2^i to 2^(i+1) - 1 TSC cycles; the last one also counts what took longer
 * @slot: the ring, unless it has moved
 *
 * A line each, so that neither side's writing disturbs what the other side polls.
 */
struct pcn_shm_channel {
	struct {
		__aligned_u64 doorbell_tsc;
		__aligned_u64 doorbells;
		__u8 pad[48];
	} tx;
	struct {
		__aligned_u64 done;
		__u8 pad[56];
	} rx;
	struct {
		__u32 armed;
		__u8 pad[60];
	} arm;
	struct {
		__aligned_u64 wanted;
		__u8 pad[56];
	} room;
	__aligned_u64 latency[PCN_SHM_STAGES][PCN_SHM_BUCKETS];
	struct pcn_shm_slot slot[];
};

#ifndef __KERNEL__
#include <stddef.h>
#define pcn_shm_assert(what)	_Static_assert(what, #what)
#else
#include <linux/build_bug.h>
#define pcn_shm_assert(what)	static_assert(what)
#endif

pcn_shm_assert(offsetof(struct pcn_shm_header, magic) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_header, version) == 8);
pcn_shm_assert(offsetof(struct pcn_shm_header, header_bytes) == 12);
pcn_shm_assert(offsetof(struct pcn_shm_header, fabric_bytes) == 16);
pcn_shm_assert(offsetof(struct pcn_shm_header, fabric_phys) == 24);
pcn_shm_assert(offsetof(struct pcn_shm_header, nr_nodes) == 32);
pcn_shm_assert(offsetof(struct pcn_shm_header, node_bytes) == 36);
pcn_shm_assert(offsetof(struct pcn_shm_header, nodes_offset) == 40);
pcn_shm_assert(offsetof(struct pcn_shm_header, channels_offset) == 48);
pcn_shm_assert(offsetof(struct pcn_shm_header, channel_bytes) == 56);
pcn_shm_assert(offsetof(struct pcn_shm_header, ring_slots) == 60);
pcn_shm_assert(offsetof(struct pcn_shm_header, nr_queues) == 64);
pcn_shm_assert(offsetof(struct pcn_shm_header, tsc_khz) == 68);
pcn_shm_assert(offsetof(struct pcn_shm_header, clock_seq) == 72);
pcn_shm_assert(offsetof(struct pcn_shm_header, machine) == 76);
pcn_shm_assert(offsetof(struct pcn_shm_header, clock_tsc) == 80);
pcn_shm_assert(offsetof(struct pcn_shm_header, clock_ns) == 88);
pcn_shm_assert(offsetof(struct pcn_shm_header, areas_offset) == 96);
pcn_shm_assert(offsetof(struct pcn_shm_header, area_bytes) == 104);
pcn_shm_assert(sizeof(struct pcn_shm_header) == 112);

pcn_shm_assert(offsetof(struct pcn_shm_node, state) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_node, epoch) == 4);
pcn_shm_assert(offsetof(struct pcn_shm_node, name) == 8);
pcn_shm_assert(offsetof(struct pcn_shm_node, nmi) == 40);
pcn_shm_assert(offsetof(struct pcn_shm_node, apic_ids) == 64);
pcn_shm_assert(offsetof(struct pcn_shm_node, heartbeat) == 576);
pcn_shm_assert(offsetof(struct pcn_shm_node, joined) == 584);
pcn_shm_assert(offsetof(struct pcn_shm_node, nr_cpus) == 592);
pcn_shm_assert(offsetof(struct pcn_shm_node, nr_queues) == 596);
pcn_shm_assert(offsetof(struct pcn_shm_node, release) == 600);
pcn_shm_assert(offsetof(struct pcn_shm_node, machine) == 680);
pcn_shm_assert(offsetof(struct pcn_shm_node, doorbell) == 696);
pcn_shm_assert(offsetof(struct pcn_shm_node, reason) == 760);
pcn_shm_assert(offsetof(struct pcn_shm_node, services_seq) == 1016);
pcn_shm_assert(offsetof(struct pcn_shm_node, service) == 1024);
pcn_shm_assert(offsetof(struct pcn_shm_node, queue) == 2304);
pcn_shm_assert(offsetof(struct pcn_shm_node, nmi_cpus) == 3328);
pcn_shm_assert(sizeof(struct pcn_shm_node) == 3840);

pcn_shm_assert(offsetof(struct pcn_shm_queue, pending) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_queue, asleep) == 64);
pcn_shm_assert(sizeof(struct pcn_shm_queue) == 128);

pcn_shm_assert(offsetof(struct pcn_shm_service, id) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_service, version) == 4);
pcn_shm_assert(offsetof(struct pcn_shm_service, name) == 8);
pcn_shm_assert(sizeof(struct pcn_shm_service) == 40);

pcn_shm_assert(offsetof(struct pcn_shm_slot, head) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_slot, tsc) == 8);
pcn_shm_assert(offsetof(struct pcn_shm_slot, data) == 16);
pcn_shm_assert(sizeof(struct pcn_shm_slot) == PCN_SHM_SLOT_BYTES);

pcn_shm_assert(offsetof(struct pcn_shm_body, offset) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_body, len) == 4);
pcn_shm_assert(sizeof(struct pcn_shm_body) == PCN_SHM_INLINE_BYTES - PCN_SHM_HEAD_BYTES);

pcn_shm_assert(offsetof(struct pcn_shm_move, offset) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_move, nr_slots) == 4);
pcn_shm_assert(sizeof(struct pcn_shm_move) == 8);

pcn_shm_assert(offsetof(struct pcn_shm_channel, tx) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_channel, rx) == 64);
pcn_shm_assert(offsetof(struct pcn_shm_channel, arm) == 128);
pcn_shm_assert(offsetof(struct pcn_shm_channel, room) == 192);
pcn_shm_assert(offsetof(struct pcn_shm_channel, latency) == 256);
pcn_shm_assert(offsetof(struct pcn_shm_channel, slot) == 1024);

#endif
