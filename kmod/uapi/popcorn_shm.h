/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Layout of the fabric: the shared memory through which kernels talk. docs/shared-memory.md tells the
 * story; this file is the truth. Kernels of different versions and word sizes meet here, so every field
 * has a fixed width, 64-bit fields are aligned to 8 bytes everywhere (i386 would pack them tighter), and
 * every offset is asserted. Little-endian only, as the machine is.
 *
 *	+0			header
 *	+nodes_offset		nr_nodes node slots of node_bytes each
 *	+channels_offset	nr_nodes x nr_nodes channels of channel_bytes each; the channel from node s
 *				to node d has index s * nr_nodes + d
 *
 * Who writes what: the header and the head of each node slot belong to the primary, the rest of a slot to
 * the node; of a channel, @tx and the slots belong to the sender, @rx and @arm to the receiver (the sender
 * may clear @arm). No reader trusts any of it: read once, check, then use.
 */
#ifndef _UAPI_POPCORN_SHM_H
#define _UAPI_POPCORN_SHM_H

#include <linux/types.h>

#define PCN_SHM_MAGIC		0x004e524f43504f50ULL	/* "POPCORN" and a NUL */
#define PCN_SHM_VERSION_MAJOR	2	/* another major: refuse to join */
#define PCN_SHM_VERSION_MINOR	0
#define PCN_SHM_VERSION		((PCN_SHM_VERSION_MAJOR << 16) | PCN_SHM_VERSION_MINOR)

#define PCN_SHM_NAME_BYTES	32
#define PCN_SHM_RELEASE_BYTES	80
#define PCN_SHM_MACHINE_BYTES	16
#define PCN_SHM_REASON_BYTES	256
#define PCN_SHM_SERVICES	32	/* that one node can have */
#define PCN_SHM_SERVICE_BYTES	32	/* of a service's name, with the NUL */
#define PCN_SHM_SERVICE_HERE	0x80000000u
#define PCN_SHM_DOORBELLS	8	/* queues that a node slot has doorbells for */
#define PCN_SHM_APIC_WORDS	64	/* map of a node's APIC IDs: 4096 bits */
#define PCN_SHM_SLOT_BYTES	64	/* a cache line: one message is one ownership transfer */
#define PCN_SHM_INLINE_BYTES	48	/* payload that fits a slot */

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
 * @channel_bytes: size of one, a multiple of 4096
 * @ring_slots: slots in each channel, a power of two
 * @nr_queues: channels for each ordered pair of nodes
 * @tsc_khz: rate of the TSC that all nodes share
 * @clock_seq: odd while the primary writes the two below
 * @clock_tsc: a TSC value, and
 * @clock_ns: the wall clock (ns since 1970) at that moment
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
	__u32 reserved;
	__aligned_u64 clock_tsc;
	__aligned_u64 clock_ns;
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
 * struct pcn_shm_node - one node's slot
 * @state: enum popcorn_node_state; the primary sets expected and absent, the node the others
 * @epoch: grows each time the primary prepares the slot
 * @name: of the kernel, NUL-terminated
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
 */
struct pcn_shm_node {
	/* the primary's */
	__u32 state;
	__u32 epoch;
	char name[PCN_SHM_NAME_BYTES];
	__u32 reserved[6];
	__aligned_u64 apic_ids[PCN_SHM_APIC_WORDS];
	/* the node's */
	__aligned_u64 heartbeat;
	__aligned_u64 joined;
	__u32 nr_cpus;
	__u32 nr_queues;
	char release[PCN_SHM_RELEASE_BYTES];
	char machine[PCN_SHM_MACHINE_BYTES];
	__aligned_u64 doorbell[PCN_SHM_DOORBELLS];
	char reason[PCN_SHM_REASON_BYTES];
	__u32 services_seq;
	__u32 reserved_node;
	struct pcn_shm_service service[PCN_SHM_SERVICES];
};

/**
 * struct pcn_shm_slot - one message
 * @seq: tag of the channel's incarnation and message number; written last, so that it publishes the rest
 * @service: service id, as the receiver's table has it
 * @len: bytes of @data in use, at most PCN_SHM_INLINE_BYTES
 * @flags: must be 0
 * @tsc: when it was queued
 * @data: payload
 */
struct pcn_shm_slot {
	__u32 seq;
	__u16 service;
	__u8 len;
	__u8 flags;
	__aligned_u64 tsc;
	__u8 data[PCN_SHM_INLINE_BYTES];
};

/**
 * struct pcn_shm_channel - the one-way ring from one node to another
 * @tx: the sender's line: TSC of its last doorbell, and how many it rang
 * @rx: the receiver's line: tag and number of the messages that it is done with, as one word (tag in the
 *	upper half) so that the sender never pairs one incarnation's count with another's tag
 * @arm: 1 while the receiver wants a doorbell; the sender that rings takes it back to 0
 * @slot: the ring
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
	__u8 pad[64];
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
pcn_shm_assert(offsetof(struct pcn_shm_header, clock_tsc) == 80);
pcn_shm_assert(offsetof(struct pcn_shm_header, clock_ns) == 88);
pcn_shm_assert(sizeof(struct pcn_shm_header) == 96);

pcn_shm_assert(offsetof(struct pcn_shm_node, state) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_node, epoch) == 4);
pcn_shm_assert(offsetof(struct pcn_shm_node, name) == 8);
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
pcn_shm_assert(sizeof(struct pcn_shm_node) == 2304);

pcn_shm_assert(offsetof(struct pcn_shm_service, id) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_service, version) == 4);
pcn_shm_assert(offsetof(struct pcn_shm_service, name) == 8);
pcn_shm_assert(sizeof(struct pcn_shm_service) == 40);

pcn_shm_assert(offsetof(struct pcn_shm_slot, seq) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_slot, service) == 4);
pcn_shm_assert(offsetof(struct pcn_shm_slot, len) == 6);
pcn_shm_assert(offsetof(struct pcn_shm_slot, flags) == 7);
pcn_shm_assert(offsetof(struct pcn_shm_slot, tsc) == 8);
pcn_shm_assert(offsetof(struct pcn_shm_slot, data) == 16);
pcn_shm_assert(sizeof(struct pcn_shm_slot) == PCN_SHM_SLOT_BYTES);

pcn_shm_assert(offsetof(struct pcn_shm_channel, tx) == 0);
pcn_shm_assert(offsetof(struct pcn_shm_channel, rx) == 64);
pcn_shm_assert(offsetof(struct pcn_shm_channel, arm) == 128);
pcn_shm_assert(offsetof(struct pcn_shm_channel, slot) == 256);

#endif
