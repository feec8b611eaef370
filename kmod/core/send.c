// SPDX-License-Identifier: GPL-2.0
/*
 * Sending: messages into the slots of a channel's ring, and the receiver woken if it does not look by itself.
 */
#include <linux/jiffies.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>
#include <asm/tsc.h>

#include "body.h"
#include "channel.h"
#include "grow.h"
#include "node.h"
#include "room.h"
#include "self.h"
#include "send.h"
#include "trace.h"
#include "wake.h"

#define PCN_SEND_BATCH	16	/* slots that are made up at once, on the stack */

/**
 * pcn_send_trace_queued() - trace messages that went into the ring
 * @channel: that they went into
 * @pos: of the first
 * @service: that they are for
 * @out: the messages
 * @nr: how many
 * @tsc: when
 *
 * Not inline, like all that a tracepoint takes when it is on: it would be in registers, and those saved, for
 * every message that nobody traces.
 */
noinline void pcn_send_trace_queued(const struct pcn_channel *channel, u32 pos, u16 service,
				    const struct pcn_out *out, u32 nr, u64 tsc)
{
	u32 i;

	for (i = 0; i < nr; i++)
		trace_popcorn_msg_queued(channel->node->self->id, channel->node->id, channel->queue,
					 pcn_ring_seq(&channel->tx, pos + i), service,
					 pcn_send_len(&out[i]), tsc);
}

/* Under tx_lock. */
static int pcn_send_locked(struct pcn_channel *channel, u16 service, u32 ring_slots,
			   const struct pcn_out *out, u32 nr)
{
	struct pcn_ring_msg msgs[PCN_SEND_BATCH] pcn_uninitialized;
	int ret = pcn_self_reaches(channel->node);
	u32 sent = 0, n, got, pos;
	u64 tsc;

	while (!ret && sent < nr) {
		for (n = 0; n < ARRAY_SIZE(msgs) && sent + n < nr; n++) {
			ret = pcn_send_make(&out[sent + n], service, &msgs[n]);
			if (ret)
				break;
		}
		pos = channel->tx.pos;
		tsc = rdtsc();
		got = pcn_ring_send(&channel->tx, msgs, n, tsc);
		pcn_send_account(channel, pos, service, &out[sent], got, tsc);
		sent += got;
		if (got == n)
			continue;
		pcn_grow_ask(channel, ring_slots);
		/* Asking may find that there is room by now; then there is for one message at least. */
		if (!pcn_room_none(channel, tsc))
			ret = -EAGAIN;
	}
	if (sent && pcn_ring_take_kick(&channel->tx))
		pcn_wake_peer(channel, false);
	return sent ? sent : ret;
}

/**
 * pcn_send_batch() - queue messages and wake the receiver if it sleeps
 * @channel: where to
 * @service: service id, as the receiver has it
 * @ring_slots: slots that the ring should have if it turns out full
 * @out: the messages
 * @nr: how many
 *
 * Return: as pcn_service_send_batch().
 */
int pcn_send_batch(struct pcn_channel *channel, u16 service, u32 ring_slots, const struct pcn_out *out,
		   u32 nr)
{
	unsigned long flags;
	int ret;

	rcu_read_lock();
	spin_lock_irqsave(&channel->tx_lock, flags);
	ret = pcn_send_locked(channel, service, ring_slots, out, nr);
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	rcu_read_unlock();
	return ret;
}

/**
 * pcn_send_bytes() - queue one message, in a slot or with a body, as its length asks for
 * @channel: where to
 * @service: service id, as the receiver has it
 * @ring_slots: slots that the ring should have if it turns out full
 * @data: payload
 * @len: its bytes
 *
 * Return: as pcn_service_send().
 */
int pcn_send_bytes(struct pcn_channel *channel, u16 service, u32 ring_slots, const void *data, size_t len)
{
	struct pcn_out out = { .data = data, .len = len };
	struct pcn_body body;
	int ret;

	if (len > PCN_MSG_BYTES)
		return -EMSGSIZE;
	if (len <= PCN_SHM_INLINE_BYTES) {
		ret = pcn_send_batch(channel, service, ring_slots, &out, 1);
		return ret < 0 ? ret : 0;
	}
	ret = pcn_body_reserve(channel, len, &body);
	if (ret)
		return ret;
	memcpy(body.data, data, len);
	out.len = 0;
	out.body = &body;
	ret = pcn_send_batch(channel, service, ring_slots, &out, 1);
	if (ret < 0)
		pcn_body_release(&body);
	return ret < 0 ? ret : 0;
}

static bool pcn_send_is_first(struct pcn_channel *channel, struct wait_queue_entry *wait)
{
	unsigned long flags;
	bool first;

	spin_lock_irqsave(&channel->room.lock, flags);
	first = list_is_first(&wait->entry, &channel->room.head);
	spin_unlock_irqrestore(&channel->room.lock, flags);
	return first;
}

/* Room often comes sooner than a doorbell would. Returns true if the receiver got on. */
static bool pcn_send_spin_for_room(struct pcn_channel *channel)
{
	struct pcn_shm_channel *shm = channel->tx.shm;
	u64 end = rdtsc() + READ_ONCE(channel->node->self->poller[channel->queue].window_max);
	u64 done = READ_ONCE(shm->rx.done);

	while (rdtsc() < end && !need_resched()) {
		if (READ_ONCE(shm->rx.done) != done)
			return true;
		cpu_relax();
	}
	return false;
}

/**
 * pcn_send_wait() - queue a message, waiting for room
 * @channel: where to
 * @service: service id, as the receiver has it
 * @ring_slots: slots that the ring should have if it turns out full
 * @data: payload
 * @len: its bytes; a single channel's share of the area bounds them too
 * @timeout_ms: how long to wait at most
 *
 * Return: as pcn_service_send_wait().
 */
int pcn_send_wait(struct pcn_channel *channel, u16 service, u32 ring_slots, const void *data, size_t len,
		  unsigned int timeout_ms)
{
	long left = msecs_to_jiffies(timeout_ms);
	struct wait_queue_entry wait;
	int ret = -EAGAIN;

	/* Whoever waits already goes first. */
	if (!waitqueue_active(&channel->room)) {
		ret = pcn_send_bytes(channel, service, ring_slots, data, len);
		if (ret == -EAGAIN && pcn_send_spin_for_room(channel))
			ret = pcn_send_bytes(channel, service, ring_slots, data, len);
	}
	if (ret != -EAGAIN)
		return ret;

	WRITE_ONCE(channel->waits, channel->waits + 1);
	init_waitqueue_entry(&wait, current);
	add_wait_queue_exclusive(&channel->room, &wait);
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (pcn_send_is_first(channel, &wait)) {
			ret = pcn_send_bytes(channel, service, ring_slots, data, len);
			if (ret != -EAGAIN)
				break;
		}
		if (signal_pending(current)) {
			ret = -ERESTARTSYS;
			break;
		}
		if (!left)
			break;
		left = schedule_timeout(left);
	}
	__set_current_state(TASK_RUNNING);
	remove_wait_queue(&channel->room, &wait);
	wake_up(&channel->room); /* the next one's turn */
	return ret;
}
