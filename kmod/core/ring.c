// SPDX-License-Identifier: GPL-2.0
#include "ring.h"

/* How far ahead slots are fetched while messages come in batches; the share of a small ring is smaller. */
#define PCN_RING_SEND_AHEAD	48
#define PCN_RING_RECEIVE_AHEAD	24
#define PCN_RING_AHEAD_SHARE	4

#define PCN_RING_BURST_MAX	64	/* messages that one receive looks for at most */
#define PCN_RING_BURST		4	/* as many in a row are a stream */
#define PCN_RING_OLD		1024	/* TSC cycles: a message that waited so long has others behind it */

/* TSC cycles. A look that came too early costs one transfer of the line, one that comes too late its delay. */
#define PCN_RING_WAIT_EARLY	5	/* more, after a look that was too early */
#define PCN_RING_WAIT_MAX	144
#define PCN_RING_WAIT_ANSWERED	320	/* the same, after a call was answered: the answer has to travel first */
#define PCN_RING_WAIT_CALLER	64
#define PCN_RING_IDLE_LOOKS	8	/* after so many looks no wait would have been right */

#define PCN_RING_MOVE_SLOTS	4	/* a smaller ring is none */
#define PCN_RING_OWED_BYTES	(128 << 10)	/* of bodies, and */
#define PCN_RING_OWED_SHARE	8		/* of the area: more is not kept from the sender */

/* The head without its sequence word. */
#define PCN_RING_HEAD_REST	(~0xffffffffULL)

/**
 * pcn_ring_seq() - the sequence word of a message
 * @ring: either side's
 * @pos: number of the message
 */
u32 pcn_ring_seq(const struct pcn_ring *ring, u32 pos)
{
	return ring->tag << (32 - PCN_RING_TAG_BITS) | (pos & PCN_RING_COUNT_MASK);
}

/**
 * pcn_ring_tag() - what marks one incarnation of a channel
 * @src_epoch: epoch of the sender's node
 * @dst_epoch: of the receiver's
 *
 * It differs from that of the next 4,094 incarnations of either node.
 *
 * Return: 1 to 4095; memory that was wiped has 0.
 */
u32 pcn_ring_tag(u32 src_epoch, u32 dst_epoch)
{
	return 1 + (src_epoch * 61 + dst_epoch) % ((1u << PCN_RING_TAG_BITS) - 1);
}

/**
 * pcn_ring_init() - begin a new incarnation with the ring in the channel
 * @ring: one side's view
 * @shm: the channel
 * @nr_slots: slots there
 * @tag: pcn_ring_tag()
 * @area: the sender's area
 * @area_bytes: its size
 */
void pcn_ring_init(struct pcn_ring *ring, struct pcn_shm_channel *shm, u32 nr_slots, u32 tag, void *area,
		   u32 area_bytes)
{
	memset(ring, 0, sizeof(*ring));
	ring->shm = shm;
	ring->slot = shm->slot;
	ring->area = area;
	ring->area_bytes = area_bytes;
	ring->nr_slots = nr_slots;
	ring->tag = tag;
	ring->burst = PCN_RING_BURST_MAX;
	ring->probe = 1;
	ring->probe_after = 1;
}

/**
 * pcn_ring_clear() - wipe a channel that neither side uses
 * @shm: the channel
 * @nr_slots: slots there
 */
void pcn_ring_clear(struct pcn_shm_channel *shm, u32 nr_slots)
{
	memset(shm, 0, sizeof(*shm) + nr_slots * sizeof(shm->slot[0]));
}

static struct pcn_shm_slot *pcn_ring_slot(const struct pcn_ring *ring, u32 pos)
{
	return &ring->slot[pos & (ring->nr_slots - 1)];
}

/* How far the receiver is; believed only if it lies between what was known and what was sent. */
static void pcn_ring_read_done(struct pcn_ring *ring)
{
	/* [D] pairs with pcn_ring_publish_done(): its reads of slots and bodies come before our writes. */
	u64 word = pcn_load_acquire(&ring->shm->rx.done);
	u32 done = (u32)word;

	if (word >> 32 == ring->tag && done - ring->done <= ring->pos - ring->done)
		ring->done = done;
}

/**
 * pcn_ring_free() - the messages whose slots, bodies and former rings can be used again
 * @ring: producer's
 *
 * Return: the position of the first one that cannot: the receiver, or a caller, is not done with it.
 */
u32 pcn_ring_free(const struct pcn_ring *ring)
{
	return ring->nr_calls && (s32)(ring->oldest_call - ring->done) < 0 ? ring->oldest_call : ring->done;
}

static u32 pcn_ring_known_room(const struct pcn_ring *ring)
{
	u32 used = ring->pos - pcn_ring_free(ring);

	/* A ring may have moved to a smaller place. */
	return used < ring->nr_slots ? ring->nr_slots - used : 0;
}

/**
 * pcn_ring_room() - look how far the receiver is
 * @ring: producer's; its @done is brought up to date
 *
 * Return: messages that there is room for.
 */
u32 pcn_ring_room(struct pcn_ring *ring)
{
	pcn_ring_read_done(ring);
	return pcn_ring_known_room(ring);
}

/**
 * pcn_ring_hold() - tell which calls have not been ended
 * @ring: producer's
 * @nr_calls: how many
 * @oldest_call: position of the oldest; its slot and all after it stay as they are
 *
 * A call that was given up needs no holding: its slot is used again when the receiver is done with it, and no
 * answer comes after that.
 */
void pcn_ring_hold(struct pcn_ring *ring, u32 nr_calls, u32 oldest_call)
{
	ring->nr_calls = nr_calls;
	ring->oldest_call = oldest_call;
}

/* Whole words, and the head last: so little is all the work. */
static inline void pcn_ring_fill(struct pcn_shm_slot *slot, u64 head, u64 tsc, const u64 *data)
{
	WRITE_ONCE(slot->data[0], data[0]);
	WRITE_ONCE(slot->data[1], data[1]);
	WRITE_ONCE(slot->data[2], data[2]);
	WRITE_ONCE(slot->data[3], data[3]);
	WRITE_ONCE(slot->data[4], data[4]);
	WRITE_ONCE(slot->data[5], data[5]);
	WRITE_ONCE(slot->tsc, tsc);
	/* [S] The head publishes the rest of the slot, and a body. Pairs with [R]. */
	pcn_store_release(&slot->head, head);
}

static u32 pcn_ring_ahead(const struct pcn_ring *ring, u32 most)
{
	u32 share = ring->nr_slots / PCN_RING_AHEAD_SHARE;

	return share < most ? share : most;
}

/**
 * pcn_ring_send() - put messages in
 * @ring: producer's
 * @msgs: the messages, as they are: nothing is checked
 * @nr: how many
 * @tsc: time stamp of all of them
 *
 * Return: how many there was room for, from the first on.
 */
u32 pcn_ring_send(struct pcn_ring *ring, const struct pcn_ring_msg *msgs, u32 nr, u64 tsc)
{
	u32 mask = ring->nr_slots - 1, tag = pcn_ring_seq(ring, 0), pos = ring->pos, end;
	u32 room = pcn_ring_known_room(ring), ahead;
	struct pcn_shm_slot *slots = ring->slot;

	if (unlikely(room < nr))
		room = pcn_ring_room(ring);
	if (unlikely(room < nr))
		nr = room;
	/* Not for a single message: the receiver would only take the line back before it is written. */
	ahead = nr > 1 ? pcn_ring_ahead(ring, PCN_RING_SEND_AHEAD) : 0;
	for (end = pos + nr; pos != end; pos++, msgs++) {
		pcn_prefetchw(&slots[(pos + ahead) & mask]);
		pcn_ring_fill(&slots[pos & mask],
			      (msgs->head & PCN_RING_HEAD_REST) | tag | (pos & PCN_RING_COUNT_MASK), tsc,
			      msgs->data);
	}
	ring->pos = pos;
	return nr;
}

/**
 * pcn_ring_move() - go on in another place: a ring that is too small becomes a larger one
 * @ring: producer's
 * @offset: from the start of the area, a multiple of PCN_SHM_UNIT_BYTES; nobody uses what is there
 * @nr_slots: slots there, a power of two from 4 to PCN_SHM_RING_SLOTS_MAX
 * @tsc: time stamp
 *
 * It takes one slot of the old place. That is the caller's again once the receiver is done with this slot.
 *
 * Return: false if the old place has no slot left.
 */
bool pcn_ring_move(struct pcn_ring *ring, u32 offset, u32 nr_slots, u64 tsc)
{
	struct pcn_shm_move move = { .offset = offset, .nr_slots = nr_slots };
	u64 data[PCN_SHM_INLINE_BYTES / 8] = {};

	if (!pcn_ring_known_room(ring) && !pcn_ring_room(ring))
		return false;
	/* Before the slot is published: what lay here must not look like messages. */
	memset(ring->area + offset, 0, (size_t)nr_slots * PCN_SHM_SLOT_BYTES);
	memcpy(data, &move, sizeof(move));
	pcn_ring_fill(pcn_ring_slot(ring, ring->pos),
		      PCN_SHM_HEAD(pcn_ring_seq(ring, ring->pos), 0, sizeof(move), PCN_SHM_FLAG_MOVE), tsc, data);
	ring->pos++;
	ring->slot = ring->area + offset;
	ring->nr_slots = nr_slots;
	return true;
}

/**
 * pcn_ring_take_kick() - after sending: does the receiver have to be woken?
 * @ring: producer's
 *
 * Return: true if it asked for that; only one sender gets to know.
 */
bool pcn_ring_take_kick(struct pcn_ring *ring)
{
	/* [K] The message before the look at the flag. Pairs with [A]: either we see the flag or the
	 * receiver sees the message.
	 */
	pcn_full_barrier();
	/* By now the message has left. The next one will be written while this one's answer is read. */
	pcn_prefetchw(pcn_ring_slot(ring, ring->pos));
	return READ_ONCE(ring->shm->arm.armed) && pcn_exchange(&ring->shm->arm.armed, 0);
}

/**
 * pcn_ring_want_room() - ask to be woken when the receiver is done with some more messages
 * @ring: producer's
 * @done: how many, counted as @ring->pos
 *
 * Return: true if it is by now, and nobody will wake us.
 */
bool pcn_ring_want_room(struct pcn_ring *ring, u32 done)
{
	WRITE_ONCE(ring->shm->room.wanted, (u64)ring->tag << 32 | done);
	/* [H] The wish before the look at what is done. Pairs with [Y]: either we see that it is done or
	 * the receiver sees the wish.
	 */
	pcn_full_barrier();
	pcn_ring_read_done(ring);
	if ((s32)(ring->done - done) < 0)
		return false;
	WRITE_ONCE(ring->shm->room.wanted, 0);
	return true;
}

/**
 * pcn_ring_answered() - is there an answer?
 * @slot: of the call
 * @seq: sequence word of the call
 */
bool pcn_ring_answered(const struct pcn_shm_slot *slot, u32 seq)
{
	u64 head = READ_ONCE(slot->head);

	return PCN_SHM_HEAD_SEQ(head) == seq && PCN_SHM_HEAD_FLAGS(head) & PCN_SHM_FLAG_ANSWER;
}

/**
 * pcn_ring_take_answer() - take the answer to a call
 * @slot: of the call
 * @seq: sequence word of the call
 * @msg: filled: head, with a length that is checked, and data
 *
 * Return: 1, 0 while there is none, -EOPNOTSUPP if there will be none, -EBADMSG if it cannot be one.
 */
int pcn_ring_take_answer(const struct pcn_shm_slot *slot, u32 seq, struct pcn_ring_msg *msg)
{
	/* [Q] pairs with [P] in pcn_ring_answer(). */
	u64 head = pcn_load_acquire(&slot->head);
	u8 flags = PCN_SHM_HEAD_FLAGS(head);
	u32 i;

	if (PCN_SHM_HEAD_SEQ(head) != seq || !(flags & PCN_SHM_FLAG_ANSWER))
		return 0;
	if (flags & ~(PCN_SHM_FLAG_ANSWER | PCN_SHM_FLAG_REFUSED) ||
	    PCN_SHM_HEAD_LEN(head) > PCN_SHM_INLINE_BYTES)
		return -EBADMSG;
	if (flags & PCN_SHM_FLAG_REFUSED)
		return -EOPNOTSUPP;
	msg->head = head;
	msg->tsc = READ_ONCE(slot->tsc);
	for (i = 0; i < PCN_SHM_INLINE_BYTES / 8; i++)
		msg->data[i] = READ_ONCE(slot->data[i]);
	return 1;
}

/**
 * pcn_ring_pace_answer() - wait a moment between two looks for an answer
 * @ring: producer's, of the call; nothing is changed, so no lock is needed
 * @looks: how many were in vain so far
 *
 * As pcn_ring_pace(). Takes the time to fetch the slot of the next message.
 */
void pcn_ring_pace_answer(const struct pcn_ring *ring, u32 looks)
{
	u64 start;

	if (looks) {
		pcn_relax();
		return;
	}
	start = pcn_cycles();
	while (pcn_cycles() - start < PCN_RING_WAIT_CALLER)
		;
	pcn_prefetchw(pcn_ring_slot(ring, READ_ONCE(ring->pos)));
}

static struct pcn_shm_body pcn_ring_body_of(const struct pcn_ring_msg *msg)
{
	struct pcn_shm_body body;

	memcpy(&body, &msg->data[PCN_SHM_HEAD_BYTES / 8], sizeof(body));
	return body;
}

static bool pcn_ring_take_body(struct pcn_ring *ring, const struct pcn_ring_msg *msg)
{
	struct pcn_shm_body body = pcn_ring_body_of(msg);

	if (PCN_SHM_HEAD_LEN(msg->head) > PCN_SHM_HEAD_BYTES || !body.len || body.len > PCN_SHM_BODY_BYTES ||
	    body.offset % PCN_SHM_UNIT_BYTES || body.offset >= ring->area_bytes ||
	    body.len > ring->area_bytes - body.offset)
		return false;
	ring->body_bytes += body.len;
	return true;
}

static bool pcn_ring_follow(struct pcn_ring *ring, const struct pcn_ring_msg *msg)
{
	struct pcn_shm_move move;

	memcpy(&move, msg->data, sizeof(move));
	if (PCN_SHM_HEAD_FLAGS(msg->head) != PCN_SHM_FLAG_MOVE ||
	    PCN_SHM_HEAD_LEN(msg->head) != sizeof(move) || move.nr_slots < PCN_RING_MOVE_SLOTS ||
	    move.nr_slots > PCN_SHM_RING_SLOTS_MAX || move.nr_slots & (move.nr_slots - 1) ||
	    move.offset % PCN_SHM_UNIT_BYTES || move.offset >= ring->area_bytes ||
	    move.nr_slots * PCN_SHM_SLOT_BYTES > ring->area_bytes - move.offset)
		return false;
	ring->slot = ring->area + move.offset;
	ring->nr_slots = move.nr_slots;
	return true;
}

/* All but plain messages and calls. Returns true if it is to be handed out. */
static noinline bool pcn_ring_take_odd(struct pcn_ring *ring, const struct pcn_ring_msg *msg)
{
	u8 flags = PCN_SHM_HEAD_FLAGS(msg->head);

	if (flags & PCN_SHM_FLAG_MOVE) {
		ring->rejected += !pcn_ring_follow(ring, msg);
		return false;
	}
	if (!(flags & ~(PCN_SHM_FLAG_BODY | PCN_SHM_FLAG_CALL)) && flags & PCN_SHM_FLAG_BODY &&
	    pcn_ring_take_body(ring, msg))
		return true;
	ring->rejected++;
	return false;
}

/*
 * A look at a slot takes its line from the sender, who has to fetch it back to write the message. So when
 * messages come one by one, only one is looked for, and the wait before the look is made such that one look in
 * six is too early. When they come faster than they are taken out, many are looked for and there is no wait.
 * @taken of @limit that were looked for were there, the first of them at the first look unless @ring->looks.
 */
static void pcn_ring_learn(struct pcn_ring *ring, const struct pcn_ring_msg *msg, u32 taken, u32 limit)
{
	u32 most = ring->answered_before ? PCN_RING_WAIT_ANSWERED : PCN_RING_WAIT_MAX;
	u32 *wait = &ring->wait[ring->answered_before];

	if (!ring->looks)
		*wait -= !!*wait;
	else if (ring->looks < PCN_RING_IDLE_LOOKS && *wait + PCN_RING_WAIT_EARLY <= most)
		*wait += PCN_RING_WAIT_EARLY;

	if (taken < limit) {
		ring->burst = 1;
		ring->probe = ring->probe_after;
		if (ring->probe_after < PCN_RING_BURST_MAX)
			ring->probe_after *= 2;
	} else if (ring->burst > 1) {
		if (ring->burst < PCN_RING_BURST_MAX)
			ring->burst *= 2;
		ring->probe_after = 1;
	} else if ((!ring->looked || (s64)(ring->looked - msg->tsc) > PCN_RING_OLD) && !--ring->probe) {
		/* It lay there for a while, or nobody knows. */
		ring->burst = 2;
	}
	ring->looks = 0;
	ring->looked = 0;
}

/**
 * pcn_ring_receive() - take messages out
 * @ring: consumer's
 * @msgs: filled with private copies
 * @max: how many at most
 *
 * What cannot be is dropped and counted in @ring->rejected. It counts towards @max, as does a move of the
 * ring, so that the work is bounded whatever the sender does. A move is followed only when no messages are
 * handed out before it: theirs is the old place, where they are answered.
 *
 * Return: how many; 0 if there were none or none that can be. There may be more than were handed out, even if
 * these are fewer than @max.
 */
u32 pcn_ring_receive(struct pcn_ring *ring, struct pcn_ring_msg *msgs, u32 max)
{
	u32 first = ring->pos, pos = first, limit = max < ring->burst ? max : ring->burst, ahead;
	u32 mask = ring->nr_slots - 1, tag = pcn_ring_seq(ring, 0);
	const struct pcn_shm_slot *slots = ring->slot;
	struct pcn_ring_msg *msg = msgs;

	ahead = limit >= PCN_RING_BURST ? pcn_ring_ahead(ring, PCN_RING_RECEIVE_AHEAD) : 0;
	while (pos - first != limit) {
		const struct pcn_shm_slot *slot = &slots[pos & mask];
		/* [R] pairs with [S]. */
		u64 head = pcn_load_acquire(&slot->head);

		if (PCN_SHM_HEAD_SEQ(head) != (tag | (pos & PCN_RING_COUNT_MASK)))
			break;
		pcn_prefetch(&slots[(pos + ahead) & mask]);
		msg->head = head;
		msg->tsc = READ_ONCE(slot->tsc);
		msg->data[0] = READ_ONCE(slot->data[0]);
		msg->data[1] = READ_ONCE(slot->data[1]);
		msg->data[2] = READ_ONCE(slot->data[2]);
		msg->data[3] = READ_ONCE(slot->data[3]);
		msg->data[4] = READ_ONCE(slot->data[4]);
		msg->data[5] = READ_ONCE(slot->data[5]);
		/* One comparison for no flags but CALL and a length that can be. */
		if (unlikely((head >> 48 & ~((u64)PCN_SHM_FLAG_CALL << 8)) > PCN_SHM_INLINE_BYTES)) {
			if (PCN_SHM_HEAD_FLAGS(head) & PCN_SHM_FLAG_MOVE && msg != msgs)
				break;
			msg += pcn_ring_take_odd(ring, msg);
			slots = ring->slot;
			mask = ring->nr_slots - 1;
		} else {
			msg++;
		}
		pos++;
	}
	ring->pos = pos;
	if (pos == first)
		ring->looks++;
	else
		pcn_ring_learn(ring, msgs, pos - first, limit);
	return msg - msgs;
}

/**
 * pcn_ring_pace() - wait a moment before a look: a look that is too early keeps the message from coming
 * @ring: consumer's, before each pcn_ring_receive() of one who looks all the time
 *
 * At most %PCN_RING_WAIT_ANSWERED cycles, nothing while messages stream. Learns from what the looks find, so it
 * fits machines on which a line travels fast and such on which it does not.
 */
void pcn_ring_pace(struct pcn_ring *ring)
{
	u64 start;
	u32 wait;

	if (ring->looks) {
		pcn_relax();
		return;
	}
	ring->answered_before = ring->answered;
	ring->answered = false;
	if (ring->burst > 1)
		return;
	wait = ring->wait[ring->answered_before];
	start = pcn_cycles();
	do {
		ring->looked = pcn_cycles();
	} while (ring->looked - start < wait);
}

/**
 * pcn_ring_ready() - would pcn_ring_receive() find something?
 * @ring: consumer's
 */
bool pcn_ring_ready(const struct pcn_ring *ring)
{
	return PCN_SHM_HEAD_SEQ(READ_ONCE(pcn_ring_slot(ring, ring->pos)->head)) ==
	       pcn_ring_seq(ring, ring->pos);
}

/**
 * pcn_ring_body() - where the body of a message is
 * @ring: consumer's, that handed it out
 * @msg: with PCN_SHM_FLAG_BODY
 * @len: set to its bytes
 *
 * It lies inside the sender's area, and the sender can still write it. It is there until the receiver tells
 * that it is done.
 *
 * Return: its beginning.
 */
void *pcn_ring_body(const struct pcn_ring *ring, const struct pcn_ring_msg *msg, u32 *len)
{
	struct pcn_shm_body body = pcn_ring_body_of(msg);

	*len = body.len;
	return ring->area + body.offset;
}

/**
 * pcn_ring_answer() - answer a call in its own slot
 * @ring: consumer's
 * @seq: sequence word of the call, one of those that the last pcn_ring_receive() handed out
 * @msg: the answer: head (length, and PCN_SHM_FLAG_REFUSED if there is none) and data
 */
void pcn_ring_answer(struct pcn_ring *ring, u32 seq, const struct pcn_ring_msg *msg)
{
	struct pcn_shm_slot *slot = pcn_ring_slot(ring, seq & PCN_RING_COUNT_MASK);
	u32 i;

	ring->answered = true;
	for (i = 0; i < PCN_SHM_INLINE_BYTES / 8; i++)
		WRITE_ONCE(slot->data[i], msg->data[i]);
	/* [P] pairs with [Q] in pcn_ring_take_answer(). */
	pcn_store_release(&slot->head, (msg->head & PCN_RING_HEAD_REST) | seq |
				       PCN_SHM_HEAD(0, 0, 0, PCN_SHM_FLAG_ANSWER));
}

/**
 * pcn_ring_publish_done() - tell the sender that we are done with all that was handed out
 * @ring: consumer's
 *
 * Return: true if the sender waits for the room that this made; the caller wakes it.
 */
bool pcn_ring_publish_done(struct pcn_ring *ring)
{
	u64 wanted;

	if (ring->done == ring->pos)
		return false;
	ring->done = ring->pos;
	ring->body_bytes = 0;
	/* [D] What was read and answered before what the sender does with the room. */
	pcn_store_release(&ring->shm->rx.done, (u64)ring->tag << 32 | ring->done);
	/* [Y] The count before the look at the wish. Pairs with [H] in pcn_ring_want_room(). */
	pcn_full_barrier();
	wanted = READ_ONCE(ring->shm->room.wanted);
	if (wanted >> 32 != ring->tag || (s32)(ring->done - (u32)wanted) < 0)
		return false;
	return pcn_exchange(&ring->shm->room.wanted, 0);
}

/**
 * pcn_ring_settle() - between two receives: tell the sender how far we are, if that is worth it
 * @ring: consumer's
 *
 * Return: as pcn_ring_publish_done().
 */
bool pcn_ring_settle(struct pcn_ring *ring)
{
	if (ring->pos - ring->done < ring->nr_slots / 4 && ring->body_bytes < PCN_RING_OWED_BYTES &&
	    ring->body_bytes <= ring->area_bytes / PCN_RING_OWED_SHARE)
		return false;
	return pcn_ring_publish_done(ring);
}

/**
 * pcn_ring_arm() - have the next sender wake us
 * @ring: consumer's
 *
 * Return: true if there is a message by now: do not sleep.
 */
bool pcn_ring_arm(struct pcn_ring *ring)
{
	WRITE_ONCE(ring->shm->arm.armed, 1);
	/* [A] The flag before the second look. Pairs with [K] in pcn_ring_take_kick(). */
	pcn_full_barrier();
	return pcn_ring_ready(ring);
}

/**
 * pcn_ring_disarm() - no need to be woken: we look by ourselves
 * @ring: consumer's
 */
void pcn_ring_disarm(struct pcn_ring *ring)
{
	if (READ_ONCE(ring->shm->arm.armed))
		WRITE_ONCE(ring->shm->arm.armed, 0);
}
