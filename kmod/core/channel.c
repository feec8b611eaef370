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
#include "service.h"
#include "trace.h"
#include "wake.h"

#define PCN_CHANNEL_BATCH	16	/* slots that are made up at once, on the stack */

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

/* Leaves no byte of @msg to chance that goes into the ring. */
static int pcn_channel_make(const struct pcn_out *out, u16 service, struct pcn_ring_msg *msg)
{
	u32 max = out->body ? PCN_SHM_HEAD_BYTES : PCN_SHM_INLINE_BYTES;
	struct pcn_shm_body body;

	if (out->len > max)
		return -EMSGSIZE;
	memcpy(msg->data, out->data, out->len);
	memset((u8 *)msg->data + out->len, 0, sizeof(msg->data) - out->len);
	msg->head = PCN_SHM_HEAD(0, service, out->len, out->body ? PCN_SHM_FLAG_BODY : 0);
	if (out->body) {
		body.offset = out->body->unit * PCN_SHM_UNIT_BYTES;
		body.len = out->body->len;
		memcpy((u8 *)msg->data + PCN_SHM_HEAD_BYTES, &body, sizeof(body));
	}
	return 0;
}

static u32 pcn_channel_bytes(const struct pcn_out *out)
{
	return out->len + (out->body ? out->body->len : 0);
}

/*
 * Not inline, like all that a tracepoint takes when it is on: it would be in registers, and those saved, for every
 * message that nobody traces.
 */
static noinline void pcn_channel_trace_queued(const struct pcn_channel *channel, u32 pos, u16 service,
					      const struct pcn_out *out, u32 nr, u64 tsc)
{
	u32 i;

	for (i = 0; i < nr; i++)
		trace_popcorn_msg_queued(channel->node->self->id, channel->node->id, channel->queue,
					 pcn_ring_seq(&channel->tx, pos + i), service,
					 pcn_channel_bytes(&out[i]), tsc);
}

static noinline void pcn_channel_trace_full(const struct pcn_channel *channel, u64 tsc)
{
	trace_popcorn_channel_full(channel->node->self->id, channel->node->id, channel->queue, tsc);
}

/* After @nr messages went into the ring. Looks once whether they are traced, and not for each. */
static __always_inline void pcn_channel_account(struct pcn_channel *channel, u32 pos, u16 service,
						const struct pcn_out *out, u32 nr, u64 tsc)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		bytes += pcn_channel_bytes(&out[i]);
		if (out[i].body)
			pcn_body_lend(channel, pos + i, out[i].body);
	}
	channel->sent += nr;
	channel->sent_bytes += bytes;
	if (trace_popcorn_msg_queued_enabled())
		pcn_channel_trace_queued(channel, pos, service, out, nr, tsc);
}

static int pcn_channel_send_locked(struct pcn_channel *channel, u16 service, u32 ring_slots,
				   const struct pcn_out *out, u32 nr)
{
	struct pcn_ring_msg msgs[PCN_CHANNEL_BATCH] pcn_uninitialized;
	int ret = pcn_node_usable(channel->node);
	u32 sent = 0, n, got, pos;
	u64 tsc;

	while (!ret && sent < nr) {
		for (n = 0; n < ARRAY_SIZE(msgs) && sent + n < nr; n++) {
			ret = pcn_channel_make(&out[sent + n], service, &msgs[n]);
			if (ret)
				break;
		}
		pos = channel->tx.pos;
		tsc = rdtsc();
		got = pcn_ring_send(&channel->tx, msgs, n, tsc);
		pcn_channel_account(channel, pos, service, &out[sent], got, tsc);
		sent += got;
		if (got == n)
			continue;
		channel->full++;
		if (trace_popcorn_channel_full_enabled())
			pcn_channel_trace_full(channel, tsc);
		pcn_grow_ask(channel, ring_slots);
		/* Asking may find that there is room by now; then there is for one message at least. */
		if (!pcn_room_want(channel))
			ret = -EAGAIN;
	}
	if (sent && pcn_ring_take_kick(&channel->tx))
		pcn_wake_peer(channel, false);
	return sent ? sent : ret;
}

/**
 * pcn_channel_send() - queue messages and wake the receiver if it sleeps
 * @channel: where to
 * @service: service id, as the receiver has it
 * @ring_slots: slots that the ring should have if it turns out full
 * @out: the messages
 * @nr: how many
 *
 * Return: as pcn_service_send_batch().
 */
int pcn_channel_send(struct pcn_channel *channel, u16 service, u32 ring_slots, const struct pcn_out *out,
		     u32 nr)
{
	unsigned long flags;
	int ret;

	rcu_read_lock();
	spin_lock_irqsave(&channel->tx_lock, flags);
	ret = pcn_channel_send_locked(channel, service, ring_slots, out, nr);
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	rcu_read_unlock();
	return ret;
}

/**
 * pcn_channel_send_bytes() - queue one message, in a slot or with a body, as its length asks for
 * @channel: where to
 * @service: service id, as the receiver has it
 * @ring_slots: slots that the ring should have if it turns out full
 * @data: payload
 * @len: its bytes
 *
 * Return: as pcn_service_send().
 */
int pcn_channel_send_bytes(struct pcn_channel *channel, u16 service, u32 ring_slots, const void *data,
			   size_t len)
{
	struct pcn_out out = { .data = data, .len = len };
	struct pcn_body body;
	int ret;

	if (len > PCN_MSG_BYTES)
		return -EMSGSIZE;
	if (len <= PCN_SHM_INLINE_BYTES) {
		ret = pcn_channel_send(channel, service, ring_slots, &out, 1);
		return ret < 0 ? ret : 0;
	}
	ret = pcn_body_reserve(channel, len, &body);
	if (ret)
		return ret;
	memcpy(body.data, data, len);
	out.len = 0;
	out.body = &body;
	ret = pcn_channel_send(channel, service, ring_slots, &out, 1);
	if (ret < 0)
		pcn_body_release(&body);
	return ret < 0 ? ret : 0;
}

static bool pcn_channel_is_first(struct pcn_channel *channel, struct wait_queue_entry *wait)
{
	unsigned long flags;
	bool first;

	spin_lock_irqsave(&channel->room.lock, flags);
	first = list_is_first(&wait->entry, &channel->room.head);
	spin_unlock_irqrestore(&channel->room.lock, flags);
	return first;
}

/* Room often comes sooner than a doorbell would. Returns true if the receiver got on. */
static bool pcn_channel_spin_for_room(struct pcn_channel *channel)
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
 * pcn_channel_send_wait() - queue a message, waiting for room
 * @channel: where to
 * @service: service id, as the receiver has it
 * @ring_slots: slots that the ring should have if it turns out full
 * @data: payload
 * @len: its bytes; a single channel's share of the area bounds them too
 * @timeout_ms: how long to wait at most
 *
 * Return: as pcn_service_send_wait().
 */
int pcn_channel_send_wait(struct pcn_channel *channel, u16 service, u32 ring_slots, const void *data,
			  size_t len, unsigned int timeout_ms)
{
	long left = msecs_to_jiffies(timeout_ms);
	struct wait_queue_entry wait;
	int ret = -EAGAIN;

	/* Whoever waits already goes first. */
	if (!waitqueue_active(&channel->room)) {
		ret = pcn_channel_send_bytes(channel, service, ring_slots, data, len);
		if (ret == -EAGAIN && pcn_channel_spin_for_room(channel))
			ret = pcn_channel_send_bytes(channel, service, ring_slots, data, len);
	}
	if (ret != -EAGAIN)
		return ret;

	WRITE_ONCE(channel->waits, channel->waits + 1);
	init_waitqueue_entry(&wait, current);
	add_wait_queue_exclusive(&channel->room, &wait);
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (pcn_channel_is_first(channel, &wait)) {
			ret = pcn_channel_send_bytes(channel, service, ring_slots, data, len);
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
	ret = pcn_node_usable(channel->node) ?: pcn_channel_make(out, service, &msg);
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
			pcn_channel_account(channel, pos, service, out, 1, tsc);
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
