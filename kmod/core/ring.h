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
 * struct pcn_ring_msg - a message as it is handed in or out: a private copy of a slot
 * @head: PCN_SHM_HEAD(); the sequence word in it is filled in by the ring. Handed out: length and flags are
 *	checked, a body lies inside the sender's area; the service id is as the sender wrote it
 * @tsc: time stamp, as the sender wrote it
 * @data: payload
 */
struct pcn_ring_msg {
	u64 head;
	u64 tsc;
	u64 data[PCN_SHM_INLINE_BYTES / 8];
};

/**
 * struct pcn_ring - one side's view of a channel
 * @shm: the channel
 * @slot: where the ring is: in the channel, or in the sender's area
 * @area: the sender's area
 * @area_bytes: its size
 * @nr_slots: slots of the ring, a power of two
 * @tag: of this incarnation, 1 to 4095
 * @pos: messages that this side has put in or taken out
 * @done: producer: messages that the consumer is known to be done with; consumer: what it last told
 * @nr_calls: producer: calls whose answers have not been taken
 * @oldest_call: producer: position of the oldest of them; its slot and those after it are not used again
 * @rejected: consumer: messages that were taken out and dropped because they cannot be
 * @body_bytes: consumer: of bodies that were taken since it last told how far it is
 * @looks: consumer: looks in vain since the last message
 * @burst: consumer: messages that one receive looks for; 1 while they come one by one
 * @probe: consumer: single messages after which it looks for two, and
 * @probe_after: how many that will be the next time
 * @wait: consumer: TSC cycles from a message to the look for the next one, [1] after an answer
 * @looked: consumer: TSC of the first look since the last message, 0 if it does not wait
 * @answered: consumer: a call was answered since the last wait
 * @answered_before: consumer: a call was answered before the last wait
 */
struct pcn_ring {
	struct pcn_shm_channel *shm;
	struct pcn_shm_slot *slot;
	void *area;
	u32 area_bytes;
	u32 nr_slots;
	u32 tag;
	u32 pos;
	u32 done;
	u32 nr_calls;
	u32 oldest_call;
	u64 rejected;
	u32 body_bytes;
	u32 looks;
	u32 burst;
	u32 probe;
	u32 probe_after;
	u32 wait[2];
	u64 looked;
	bool answered;
	bool answered_before;
};

u32 pcn_ring_seq(const struct pcn_ring *ring, u32 pos);
u32 pcn_ring_tag(u32 src_epoch, u32 dst_epoch);
void pcn_ring_init(struct pcn_ring *ring, struct pcn_shm_channel *shm, u32 nr_slots, u32 tag, void *area,
		   u32 area_bytes);
void pcn_ring_clear(struct pcn_shm_channel *shm, u32 nr_slots);

/* Producer. The caller serialises producers. */
u32 pcn_ring_room(struct pcn_ring *ring);
u32 pcn_ring_free(const struct pcn_ring *ring);
u32 pcn_ring_send(struct pcn_ring *ring, const struct pcn_ring_msg *msgs, u32 nr, u64 tsc);
bool pcn_ring_move(struct pcn_ring *ring, u32 offset, u32 nr_slots, u64 tsc);
bool pcn_ring_take_kick(struct pcn_ring *ring);
bool pcn_ring_want_room(struct pcn_ring *ring, u32 done);
void pcn_ring_hold(struct pcn_ring *ring, u32 nr_calls, u32 oldest_call);
bool pcn_ring_answered(const struct pcn_shm_slot *slot, u32 seq);
int pcn_ring_take_answer(const struct pcn_shm_slot *slot, u32 seq, struct pcn_ring_msg *msg);
void pcn_ring_pace_answer(const struct pcn_ring *ring, u32 looks);

/* Consumer. */
void pcn_ring_pace(struct pcn_ring *ring);
u32 pcn_ring_receive(struct pcn_ring *ring, struct pcn_ring_msg *msgs, u32 max);
bool pcn_ring_ready(const struct pcn_ring *ring);
void *pcn_ring_body(const struct pcn_ring *ring, const struct pcn_ring_msg *msg, u32 *len);
void pcn_ring_answer(struct pcn_ring *ring, u32 seq, const struct pcn_ring_msg *msg);
bool pcn_ring_settle(struct pcn_ring *ring);
bool pcn_ring_publish_done(struct pcn_ring *ring);
bool pcn_ring_arm(struct pcn_ring *ring);
void pcn_ring_disarm(struct pcn_ring *ring);

#endif
