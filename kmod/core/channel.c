// SPDX-License-Identifier: GPL-2.0
/*
 * Channels: what goes to another node and comes from it through one queue. A ring each way, and the bodies
 * that its slots tell of. Sending is here; receiving is the poller's.
 */
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <asm/tsc.h>

#include "body.h"
#include "channel.h"
#include "grow.h"
#include "node.h"
#include "room.h"
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

static void pcn_channel_end_call(struct pcn_channel *channel, struct pcn_call *call, int ret)
{
	struct pcn_call *first;

	call->ret = ret;
	list_del_init(&call->list);
	channel->nr_calls--;
	first = list_first_entry_or_null(&channel->calls, struct pcn_call, list);
	pcn_ring_hold(&channel->tx, channel->nr_calls, first ? first->pos : 0);
	complete(&call->done);
}

static void pcn_channel_end_answered_calls(struct pcn_channel *channel)
{
	struct pcn_call *call, *next;

	list_for_each_entry_safe(call, next, &channel->calls, list) {
		int ret = pcn_ring_take_answer(call->slot, call->seq, &call->answer);

		if (ret)
			pcn_channel_end_call(channel, call, ret);
	}
}

static int pcn_channel_send_call(struct pcn_channel *channel, u16 service, const struct pcn_out *out,
				 struct pcn_call *call)
{
	struct pcn_ring_msg msg;
	unsigned long flags;
	int ret;

	spin_lock_irqsave(&channel->tx_lock, flags);
	ret = pcn_node_usable(channel->node) ?: pcn_send_make(out, service, &msg);
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
			channel->full++;
			ret = pcn_room_want(channel) ? -EINTR : -EAGAIN;
		}
	}
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	return ret;
}

/**
 * pcn_channel_call() - send a request and wait for the answer in its slot
 * @channel: where to
 * @service: service id, as the receiver has it
 * @data: the request
 * @len: its bytes
 * @answer: filled, PCN_SHM_INLINE_BYTES of room
 * @timeout_ms: how long to wait for room and for the answer
 *
 * Return: as pcn_service_call().
 */
int pcn_channel_call(struct pcn_channel *channel, u16 service, const void *data, size_t len, void *answer,
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
		ret = pcn_channel_send_call(channel, service, &out, &call);
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
			pcn_channel_end_call(channel, &call, got);
	}
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	pcn_poller_spin_end(poller);
	if (ret)
		return ret;

	left = give_up - jiffies;
	left = wait_for_completion_interruptible_timeout(&call.done, max(left, 0L));
	spin_lock_irqsave(&channel->tx_lock, flags);
	if (!list_empty(&call.list))
		pcn_channel_end_call(channel, &call, left < 0 ? -ERESTARTSYS : -ETIMEDOUT);
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	if (call.ret < 0)
		return call.ret;
	memcpy(answer, call.answer.data, PCN_SHM_INLINE_BYTES);
	return PCN_SHM_HEAD_LEN(call.answer.head);
}

/**
 * pcn_channel_look() - the other node may have made room or answered a call
 * @channel: the channel; no tx_lock held
 */
void pcn_channel_look(struct pcn_channel *channel)
{
	struct pcn_self *self = channel->node->self;
	bool room, came_back;
	unsigned long flags;
	u32 had;

	spin_lock_irqsave(&channel->tx_lock, flags);
	had = channel->units;
	if (channel->nr_calls)
		pcn_channel_end_answered_calls(channel);
	room = channel->room_wanted && pcn_room_came(channel);
	pcn_body_reap(channel);
	came_back = channel->units < had;
	spin_unlock_irqrestore(&channel->tx_lock, flags);

	if (came_back && READ_ONCE(self->area_short))
		pcn_room_tell_all(self);
	else if (room)
		pcn_room_tell(channel);
}

/**
 * pcn_channel_tick() - nobody waits for ever for a peer that does not wake as it should
 * @self: whose channels
 */
void pcn_channel_tick(struct pcn_self *self)
{
	u32 id, queue;

	for (id = 0; id < pcn_fabric.nr_nodes; id++)
		for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
			struct pcn_channel *channel = &self->node[id].channel[queue];

			if (!READ_ONCE(channel->room_wanted) && !READ_ONCE(channel->units) &&
			    !waitqueue_active(&channel->room))
				continue;
			if (READ_ONCE(self->node[id].reachable))
				pcn_channel_look(channel);
			wake_up(&channel->room);
		}
}

/**
 * pcn_channel_open() - begin a new incarnation of all channels to and from a node
 * @node: the node, unreachable, with its new epoch
 */
void pcn_channel_open(struct pcn_node *node)
{
	struct pcn_self *self = node->self;
	u32 queue;

	pcn_channel_forget(node);
	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		struct pcn_channel *channel = &node->channel[queue];
		unsigned long flags;

		spin_lock_bh(&self->poller[queue].lock);
		channel->rejected_before += channel->rx.rejected;
		pcn_ring_init(&channel->rx, pcn_fabric_channel(node->id, self->id, queue),
			      pcn_fabric.ring_slots, pcn_ring_tag(node->epoch, self->epoch),
			      pcn_fabric_area(node->id), pcn_fabric.area_bytes);
		spin_lock_irqsave(&channel->tx_lock, flags);
		pcn_ring_init(&channel->tx, pcn_fabric_channel(self->id, node->id, queue),
			      pcn_fabric.ring_slots, pcn_ring_tag(self->epoch, node->epoch),
			      pcn_fabric_area(self->id), pcn_fabric.area_bytes);
		channel->room_wanted = false;
		channel->grow_to = 0;
		spin_unlock_irqrestore(&channel->tx_lock, flags);
		spin_unlock_bh(&self->poller[queue].lock);
	}
}

/**
 * pcn_channel_close() - a node is not to be sent to any more: who waits for it is told
 * @node: the node, unreachable
 *
 * Its rings stay as they are: a node that only went silent goes on where it stopped.
 */
void pcn_channel_close(struct pcn_node *node)
{
	u32 queue;

	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		struct pcn_channel *channel = &node->channel[queue];
		struct pcn_call *call, *next;
		unsigned long flags;

		spin_lock_irqsave(&channel->tx_lock, flags);
		list_for_each_entry_safe(call, next, &channel->calls, list)
			pcn_channel_end_call(channel, call, -ENOTCONN);
		spin_unlock_irqrestore(&channel->tx_lock, flags);
		wake_up_all(&channel->room);
	}
}

/**
 * pcn_channel_forget() - take back what a node's channels have of the area
 * @node: the node, whose kernel does not run any more
 *
 * Not earlier: a kernel that still runs might answer a call in a ring that is somebody else's body by then.
 */
void pcn_channel_forget(struct pcn_node *node)
{
	struct pcn_self *self = node->self;
	u32 queue;

	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		struct pcn_channel *channel = &node->channel[queue];
		unsigned long flags;

		spin_lock_irqsave(&channel->tx_lock, flags);
		spin_lock(&self->area_lock);
		/* A body that is being filled stays with who fills it. */
		channel->units -= pcn_area_reap(&self->area, &channel->loans, channel->tx.pos);
		if (channel->ring_units)
			pcn_area_put(&self->area, channel->ring_unit, channel->ring_units);
		channel->ring_units = 0;
		spin_unlock(&self->area_lock);
		spin_unlock_irqrestore(&channel->tx_lock, flags);
	}
}

static int pcn_channel_setup_node(struct pcn_self *self, u32 id)
{
	struct pcn_node *node = &self->node[id];
	u32 queue;

	node->channel = kvcalloc(pcn_fabric.nr_queues, sizeof(*node->channel), GFP_KERNEL);
	if (!node->channel)
		return -ENOMEM;
	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		struct pcn_channel *channel = &node->channel[queue];

		channel->node = node;
		channel->queue = queue;
		spin_lock_init(&channel->tx_lock);
		INIT_LIST_HEAD(&channel->calls);
		init_waitqueue_head(&channel->room);
		channel->loans.loan = kvmalloc_array(pcn_fabric.ring_slots, sizeof(*channel->loans.loan),
						     GFP_KERNEL);
		if (!channel->loans.loan)
			return -ENOMEM;
		channel->loans.nr_loans = pcn_fabric.ring_slots;
	}
	return 0;
}

/**
 * pcn_channel_setup() - make ready for channels to every node
 * @self: whose, on a mapped fabric
 *
 * Return: 0 or -ENOMEM, with nothing left to free.
 */
int pcn_channel_setup(struct pcn_self *self)
{
	u32 nr_units = pcn_fabric.area_bytes / PCN_SHM_UNIT_BYTES, id;
	unsigned long *map = bitmap_zalloc(nr_units, GFP_KERNEL);
	int ret = map ? 0 : -ENOMEM;

	spin_lock_init(&self->area_lock);
	pcn_area_init(&self->area, map, nr_units);
	self->area_short = false;
	for (id = 0; !ret && id < pcn_fabric.nr_nodes; id++)
		ret = pcn_channel_setup_node(self, id);
	if (ret)
		pcn_channel_free(self);
	return ret;
}

/**
 * pcn_channel_free() - undo pcn_channel_setup(); nobody sends or receives any more
 * @self: whose
 */
void pcn_channel_free(struct pcn_self *self)
{
	u32 id, queue;

	for (id = 0; id < pcn_fabric.nr_nodes; id++) {
		struct pcn_node *node = &self->node[id];

		for (queue = 0; node->channel && queue < pcn_fabric.nr_queues; queue++)
			kvfree(node->channel[queue].loans.loan);
		kvfree(node->channel);
		node->channel = NULL;
	}
	bitmap_free(self->area.map);
	self->area.map = NULL;
}
