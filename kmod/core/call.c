// SPDX-License-Identifier: GPL-2.0
/*
 * Calls: requests that are answered in their own slots, so that an answer needs no room and no message.
 */
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/sched/signal.h>
#include <asm/tsc.h>

#include "call.h"
#include "channel.h"
#include "node.h"
#include "room.h"
#include "self.h"
#include "send.h"
#include "wake.h"

/**
 * struct pcn_call - somebody who waits for an answer
 * @list: in the channel's calls
 * @slot: where the request is and the answer comes
 * @pos: of the request
 * @seq: its sequence word
 * @ret: what came of it, once @done
 * @answer: likewise
 * @done: completed by whoever takes it off the list
 */
struct pcn_call {
	struct list_head list;
	const struct pcn_shm_slot *slot;
	u32 pos;
	u32 seq;
	int ret;
	struct pcn_ring_msg answer;
	struct completion done;
};

/* Under tx_lock. */
static void pcn_call_end(struct pcn_channel *channel, struct pcn_call *call, int ret)
{
	struct pcn_call *first;

	call->ret = ret;
	list_del_init(&call->list);
	channel->nr_calls--;
	first = list_first_entry_or_null(&channel->calls, struct pcn_call, list);
	pcn_ring_hold(&channel->tx, channel->nr_calls, first ? first->pos : 0);
	complete(&call->done);
}

/**
 * pcn_call_take_answers() - end the calls that have been answered
 * @channel: that they went through; under its tx_lock
 */
void pcn_call_take_answers(struct pcn_channel *channel)
{
	struct pcn_call *call, *next;

	list_for_each_entry_safe(call, next, &channel->calls, list) {
		int ret = pcn_ring_take_answer(call->slot, call->seq, &call->answer);

		if (ret)
			pcn_call_end(channel, call, ret);
	}
}

/**
 * pcn_call_end_all() - end the calls that wait for an answer
 * @channel: that they went through; under its tx_lock
 * @ret: what came of them
 */
void pcn_call_end_all(struct pcn_channel *channel, int ret)
{
	struct pcn_call *call, *next;

	list_for_each_entry_safe(call, next, &channel->calls, list)
		pcn_call_end(channel, call, ret);
}

static int pcn_call_send(struct pcn_channel *channel, u16 service, const struct pcn_out *out,
			 struct pcn_call *call)
{
	struct pcn_ring_msg msg;
	unsigned long flags;
	int ret;

	spin_lock_irqsave(&channel->tx_lock, flags);
	ret = pcn_self_reaches(channel->node) ?: pcn_send_make(out, service, &msg);
	if (!ret) {
		u32 pos = channel->tx.pos;
		u64 tsc = rdtsc();

		msg.head |= PCN_SHM_HEAD(0, 0, 0, PCN_SHM_FLAG_CALL);
		call->pos = pos;
		call->seq = pcn_ring_seq(&channel->tx, pos);
		call->slot = &channel->tx.slot[pos & (channel->tx.nr_slots - 1)];
		if (pcn_ring_send(&channel->tx, &msg, 1, tsc)) {
			list_add_tail(&call->list, &channel->calls);
			channel->nr_calls++;
			if (channel->nr_calls == 1)
				pcn_ring_hold(&channel->tx, 1, pos);
			else
				pcn_ring_hold(&channel->tx, channel->nr_calls, channel->tx.oldest_call);
			pcn_send_account(channel, pos, service, out, 1, tsc);
			if (pcn_ring_take_kick(&channel->tx))
				pcn_wake_peer(channel, false);
		} else {
			ret = pcn_room_none(channel, tsc) ? -EINTR : -EAGAIN;
		}
	}
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	return ret;
}

/**
 * pcn_call_wait() - send a request and wait for the answer in its slot
 * @channel: where to
 * @service: service id, as the receiver has it
 * @data: the request
 * @len: its bytes
 * @answer: filled, PCN_SHM_INLINE_BYTES of room
 * @timeout_ms: how long to wait for room and for the answer
 *
 * Return: as pcn_service_call().
 */
int pcn_call_wait(struct pcn_channel *channel, u16 service, const void *data, size_t len, void *answer,
		  unsigned int timeout_ms)
{
	struct pcn_poller *poller = &channel->node->self->poller[channel->queue];
	unsigned long give_up = jiffies + msecs_to_jiffies(timeout_ms);
	struct pcn_out out = { .data = data, .len = len };
	struct pcn_call call = { .ret = 0 };
	unsigned long flags;
	u32 looks;
	long left;
	u64 end;
	int ret;

	if (len > PCN_SHM_INLINE_BYTES)
		return -EMSGSIZE;
	init_completion(&call.done);
	INIT_LIST_HEAD(&call.list);
	pcn_poller_spin_begin(poller);
	for (;;) {
		ret = pcn_call_send(channel, service, &out, &call);
		if (ret != -EAGAIN && ret != -EINTR)
			break;
		if (time_after(jiffies, give_up) || signal_pending(current)) {
			ret = ret == -EINTR ? -EAGAIN : ret;
			break;
		}
		if (ret == -EAGAIN)
			schedule_timeout_interruptible(1);
	}
	if (!ret) {
		/* For as long as a doorbell would take; a peer that polls is much faster. */
		end = rdtsc() + READ_ONCE(poller->window_max);
		for (looks = 0; !completion_done(&call.done) && rdtsc() < end && !need_resched(); looks++) {
			pcn_ring_pace_answer(&channel->tx, looks);
			if (pcn_ring_answered(call.slot, call.seq))
				break;
		}
	}
	spin_lock_irqsave(&channel->tx_lock, flags);
	if (!ret && !list_empty(&call.list)) {
		int got = pcn_ring_take_answer(call.slot, call.seq, &call.answer);

		if (got)
			pcn_call_end(channel, &call, got);
	}
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	pcn_poller_spin_end(poller);
	if (ret)
		return ret;

	left = give_up - jiffies;
	left = wait_for_completion_interruptible_timeout(&call.done, max(left, 0L));
	spin_lock_irqsave(&channel->tx_lock, flags);
	if (!list_empty(&call.list))
		pcn_call_end(channel, &call, left < 0 ? -ERESTARTSYS : -ETIMEDOUT);
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	if (call.ret < 0)
		return call.ret;
	memcpy(answer, call.answer.data, PCN_SHM_INLINE_BYTES);
	return PCN_SHM_HEAD_LEN(call.answer.head);
}
