// SPDX-License-Identifier: GPL-2.0
#include "ring.h"

static u32 pcn_ring_seq(const struct pcn_ring *ring, u32 pos)
{
	/* A slot's next message differs in the count even right after the count wrapped, because a ring
	 * is much smaller than the count's range. The tag is never 0, so neither is the word.
	 */
	return ring->tag << (32 - PCN_RING_TAG_BITS) | (pos & PCN_RING_COUNT_MASK);
}

static struct pcn_shm_slot *pcn_ring_slot(const struct pcn_ring *ring, u32 pos)
{
	return &ring->shm->slot[pos & (ring->nr_slots - 1)];
}

/**
 * pcn_ring_tag() - the tag of the channel between two incarnations of two nodes
 * @src_epoch: epoch of the sender
 * @dst_epoch: epoch of the receiver
 *
 * Both sides know both epochs, so they agree without talking. Epochs that follow one another on either
 * side give different tags.
 *
 * Return: 1 to 4095.
 */
u32 pcn_ring_tag(u32 src_epoch, u32 dst_epoch)
{
	return 1 + (src_epoch * 61 + dst_epoch) % ((1u << PCN_RING_TAG_BITS) - 1);
}

/**
 * pcn_ring_init() - begin a new incarnation on one side
 * @ring: this side's view
 * @shm: the channel, mapped with @nr_slots slots
 * @nr_slots: a power of two
 * @tag: from pcn_ring_tag()
 */
void pcn_ring_init(struct pcn_ring *ring, struct pcn_shm_channel *shm, u32 nr_slots, u32 tag)
{
	ring->shm = shm;
	ring->nr_slots = nr_slots;
	ring->tag = tag;
	ring->pos = 0;
	ring->done = 0;
}

/**
 * pcn_ring_clear() - wipe a channel that nobody uses
 * @shm: the channel
 * @nr_slots: its slots
 */
void pcn_ring_clear(struct pcn_shm_channel *shm, u32 nr_slots)
{
	memset(shm, 0, sizeof(*shm) + nr_slots * sizeof(shm->slot[0]));
}

static bool pcn_ring_has_room(struct pcn_ring *ring)
{
	u64 word;
	u32 done;

	if (ring->pos - ring->done < ring->nr_slots)
		return true;
	/* Pairs with [D] in pcn_ring_publish_done(): the slots are read before they are given back. */
	word = pcn_load_acquire(&ring->shm->rx.done);
	if (word >> 32 != ring->tag)
		return false;
	done = (u32)word;
	/* It may only have moved forward, and not beyond what was sent; anything else is garbage. */
	if (done - ring->done > ring->pos - ring->done)
		return false;
	ring->done = done;
	return ring->pos - ring->done < ring->nr_slots;
}

/**
 * pcn_ring_send() - put one message in
 * @ring: the producer's view; the caller serialises producers
 * @service: service id
 * @data: payload
 * @len: its bytes, at most PCN_SHM_INLINE_BYTES
 * @tsc: time stamp to carry
 * @seq: set to the message's sequence word
 *
 * Return: 0, -EAGAIN if the ring is full, -EMSGSIZE.
 */
int pcn_ring_send(struct pcn_ring *ring, u16 service, const void *data, size_t len, u64 tsc, u32 *seq)
{
	struct pcn_shm_slot *slot;

	if (len > PCN_SHM_INLINE_BYTES)
		return -EMSGSIZE;
	if (!pcn_ring_has_room(ring))
		return -EAGAIN;

	slot = pcn_ring_slot(ring, ring->pos);
	slot->service = service;
	slot->len = len;
	slot->flags = 0;
	slot->tsc = tsc;
	memcpy(slot->data, data, len);
	*seq = pcn_ring_seq(ring, ring->pos);
	/* [S] Publishes the slot. Pairs with [R] in pcn_ring_receive(). */
	pcn_store_release(&slot->seq, *seq);
	ring->pos++;
	return 0;
}

/**
 * pcn_ring_take_kick() - does the consumer want a doorbell now
 * @ring: the producer's view, after pcn_ring_send()
 *
 * Of several senders that ask, one is told yes for each time that the consumer armed.
 *
 * Return: true if the caller has to ring.
 */
bool pcn_ring_take_kick(struct pcn_ring *ring)
{
	/* [K] The message before the look at the flag; pairs with [A] in pcn_ring_arm(): either the
	 * consumer sees the message when it rechecks, or this side sees the flag.
	 */
	pcn_full_barrier();
	return READ_ONCE(ring->shm->arm.armed) && pcn_exchange(&ring->shm->arm.armed, 0);
}

/**
 * pcn_ring_receive() - take one message out
 * @ring: the consumer's view
 * @msg: filled with a private, bounded copy
 *
 * Return: 1 for a message, 0 if there is none, -EBADMSG for one whose length or flags cannot be; that one
 * is taken out too.
 */
int pcn_ring_receive(struct pcn_ring *ring, struct pcn_ring_msg *msg)
{
	struct pcn_shm_slot *slot = pcn_ring_slot(ring, ring->pos);
	u8 flags;

	msg->seq = pcn_ring_seq(ring, ring->pos);
	/* [R] Pairs with [S]. */
	if (pcn_load_acquire(&slot->seq) != msg->seq)
		return 0;
	ring->pos++;

	msg->service = READ_ONCE(slot->service);
	msg->len = READ_ONCE(slot->len);
	flags = READ_ONCE(slot->flags);
	msg->tsc = READ_ONCE(slot->tsc);
	if (msg->len > PCN_SHM_INLINE_BYTES || flags)
		return -EBADMSG;
	/* All of it, whatever the length says: a copy of a known size needs no loop. */
	memcpy(msg->data, slot->data, sizeof(msg->data));

	/* Told in quarters of the ring: the producer's line is disturbed seldom, and never starved. */
	if (ring->pos - ring->done >= ring->nr_slots / 4)
		pcn_ring_publish_done(ring);
	return 1;
}

/**
 * pcn_ring_ready() - is there a message
 * @ring: the consumer's view
 */
bool pcn_ring_ready(const struct pcn_ring *ring)
{
	return READ_ONCE(pcn_ring_slot(ring, ring->pos)->seq) == pcn_ring_seq(ring, ring->pos);
}

/**
 * pcn_ring_publish_done() - give the slots of all messages taken out back to the producer
 * @ring: the consumer's view
 */
void pcn_ring_publish_done(struct pcn_ring *ring)
{
	if (ring->done == ring->pos)
		return;
	ring->done = ring->pos;
	/* [D] The copies before the slots are free. Pairs with the acquire in pcn_ring_has_room(). */
	pcn_store_release(&ring->shm->rx.done, (u64)ring->tag << 32 | ring->pos);
}

/**
 * pcn_ring_arm() - ask for a doorbell with the next message
 * @ring: the consumer's view
 *
 * The caller looks once more with pcn_ring_ready() afterwards: what came before the flag was seen has no
 * doorbell.
 */
void pcn_ring_arm(struct pcn_ring *ring)
{
	WRITE_ONCE(ring->shm->arm.armed, 1);
	/* [A] The flag before the recheck. Pairs with [K] in pcn_ring_take_kick(). */
	pcn_full_barrier();
}

/**
 * pcn_ring_disarm() - no doorbells, this side is polling
 * @ring: the consumer's view
 */
void pcn_ring_disarm(struct pcn_ring *ring)
{
	if (READ_ONCE(ring->shm->arm.armed))
		WRITE_ONCE(ring->shm->arm.armed, 0);
}
