/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One-way ring, single producer, single consumer, in memory that the other side may scribble over.
 *
 * Each slot carries its own sequence word, so neither side reads a shared index on the fast path. The
 * upper bits of the word are the tag of this incarnation of the channel: what a former incarnation left in
 * a slot never matches. All that decides about memory accesses (position, size) is kept privately.
 */
#ifndef _PCN_RING_H
#define _PCN_RING_H

#include "ring_port.h"
#include "../uapi/popcorn_shm.h"

#define PCN_RING_TAG_BITS	12
#define PCN_RING_COUNT_MASK	((1u << (32 - PCN_RING_TAG_BITS)) - 1)

/**
 * struct pcn_ring - one side's view of a channel
 * @shm: the channel
 * @nr_slots: its slots, a power of two
 * @tag: of this incarnation, 1 to 4095
 * @pos: messages that this side has put in or taken out
 * @done: producer: messages that the consumer is known to be done with; consumer: what it last told
 */
struct pcn_ring {
	struct pcn_shm_channel *shm;
	u32 nr_slots;
	u32 tag;
	u32 pos;
	u32 done;
};

/**
 * struct pcn_ring_msg - a message taken out of a ring: a private copy
 * @seq: its sequence word
 * @service: as the sender wrote it, unchecked
 * @len: bytes of @data, checked
 * @tsc: as the sender wrote it
 * @data: payload
 */
struct pcn_ring_msg {
	u32 seq;
	u16 service;
	u8 len;
	u64 tsc;
	u64 data[PCN_SHM_INLINE_BYTES / 8];
};

u32 pcn_ring_tag(u32 src_epoch, u32 dst_epoch);
void pcn_ring_init(struct pcn_ring *ring, struct pcn_shm_channel *shm, u32 nr_slots, u32 tag);
void pcn_ring_clear(struct pcn_shm_channel *shm, u32 nr_slots);

int pcn_ring_send(struct pcn_ring *ring, u16 service, const void *data, size_t len, u64 tsc, u32 *seq);
bool pcn_ring_take_kick(struct pcn_ring *ring);

int pcn_ring_receive(struct pcn_ring *ring, struct pcn_ring_msg *msg);
bool pcn_ring_ready(const struct pcn_ring *ring);
void pcn_ring_publish_done(struct pcn_ring *ring);
void pcn_ring_arm(struct pcn_ring *ring);
void pcn_ring_disarm(struct pcn_ring *ring);

#endif
