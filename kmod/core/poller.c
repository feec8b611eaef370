// SPDX-License-Identifier: GPL-2.0
/*
 * Receiving. Each queue has a NAPI context, so the kernel's own budget, threaded mode, busy polling and
 * accounting apply; it hangs on a net device that nobody else sees.
 *
 * A poll looks only at channels that are active. One that was found empty is armed: its sender says by a byte
 * in the queue's line that there is something again. When all are armed the queue sleeps, and whoever sets
 * such a byte then rings the doorbell. So a poll costs by the peers that talk and not by all.
 */
#include <linux/bitops.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <net/busy_poll.h>
#include <asm/tsc.h>

#include "channel.h"
#include "doorbell.h"
#include "node.h"
#include "poller.h"
#include "self.h"
#include "service.h"
#include "trace.h"
#include "wake.h"

/* Bits of a queue's pending line are handled a word at a time. */
#define PCN_POLLER_WORDS	(PCN_NODES / sizeof(unsigned long))

static_assert(PCN_NODES <= BITS_PER_LONG);
static_assert(PCN_NODES % sizeof(unsigned long) == 0 && PCN_NODES <= PCN_SHM_PENDING);

static struct pcn_shm_queue *pcn_poller_shm(const struct pcn_poller *poller)
{
	return &pcn_fabric_node(poller->self->id)->queue[poller->queue];
}

static bool pcn_poller_called(const struct pcn_poller *poller)
{
	const unsigned long *pending = (const unsigned long *)pcn_poller_shm(poller)->pending;
	unsigned int word;

	for (word = 0; word < PCN_POLLER_WORDS; word++)
		if (READ_ONCE(pending[word]))
			return true;
	return READ_ONCE(poller->attention);
}

static void pcn_poller_activate(struct pcn_poller *poller, u32 id)
{
	struct pcn_node *node = &poller->self->node[id];

	if (pcn_node_changed(node))
		pcn_node_scan_for(node);
	if (!READ_ONCE(node->reachable) || poller->queue >= node->nr_queues)
		return;
	__set_bit(id, &poller->active);
	pcn_ring_disarm(&node->channel[poller->queue].rx);
	pcn_channel_look(&node->channel[poller->queue]);
}

/* Who has something for us since the last look. Under the lock, as everything below. */
static void pcn_poller_gather(struct pcn_poller *poller)
{
	unsigned long *pending = (unsigned long *)pcn_poller_shm(poller)->pending;
	unsigned long look = 0, id;
	unsigned int word;

	if (READ_ONCE(poller->attention))
		look = xchg(&poller->attention, 0);
	for (word = 0; word < PCN_POLLER_WORDS; word++) {
		u8 *byte = (u8 *)&pending[word];
		unsigned int i;

		if (likely(!READ_ONCE(pending[word])))
			continue;
		for (i = 0; i < sizeof(*pending); i++) {
			if (!READ_ONCE(byte[i]))
				continue;
			WRITE_ONCE(byte[i], 0);
			look |= BIT(word * sizeof(*pending) + i);
		}
	}
	if (likely(!look))
		return;
	/* Between the look at the bytes and that at the channels: what was sent before a byte that we saw
	 * is seen. And they are taken back before the channels are armed again, else the next one was lost.
	 * Pairs with [W] in pcn_wake_peer().
	 */
	smp_mb();
	look &= ~BIT(poller->self->id);
	for_each_set_bit(id, &look, pcn_fabric.nr_nodes)
		pcn_poller_activate(poller, id);
}

static void pcn_poller_count(u64 *buckets, u64 from, u64 to)
{
	unsigned int bucket = to > from ? min_t(unsigned int, fls64(to - from) - 1, PCN_SHM_BUCKETS - 1) : 0;

	WRITE_ONCE(buckets[bucket], READ_ONCE(buckets[bucket]) + 1);
}

/* Which stages this message went through: one that came while we polled had no doorbell of its own. */
static void pcn_poller_trace_delivered(const struct pcn_poller *poller, const struct pcn_channel *channel,
				       const struct pcn_ring_msg *msg)
{
	u64 now = rdtsc(), doorbell, irq = 0, poll = 0;
	u32 body_len = 0;

	if (PCN_SHM_HEAD_FLAGS(msg->head) & PCN_SHM_FLAG_BODY)
		pcn_ring_body(&channel->rx, msg, &body_len);
	doorbell = READ_ONCE(channel->rx.shm->tx.doorbell_tsc);
	if (doorbell < msg->tsc || doorbell > now)
		doorbell = 0;
	if (doorbell && poller->irq_tsc >= doorbell)
		irq = poller->irq_tsc;
	if (poller->poll_tsc >= msg->tsc)
		poll = poller->poll_tsc;
	trace_popcorn_msg_delivered(channel->node->id, poller->self->id, poller->queue,
				    PCN_SHM_HEAD_SEQ(msg->head), PCN_SHM_HEAD_SERVICE(msg->head),
				    PCN_SHM_HEAD_LEN(msg->head) + body_len, msg->tsc, doorbell, irq, poll, now);
}

/* Not inline, as pcn_send_trace_queued(). */
static noinline void pcn_poller_trace_poll(const struct pcn_poller *poller, int work, int budget)
{
	trace_popcorn_poll(poller->self->id, poller->queue, work, budget, poller->poll_tsc, rdtsc());
}

/**
 * struct pcn_poller_call - a call that is being delivered
 * @channel: that it came through
 * @answered: recv did
 */
struct pcn_poller_call {
	struct pcn_channel *channel;
	bool answered;
};

/* Not inline: an answer takes room on the stack that is cleared, which messages that are no calls would pay for. */
static noinline void pcn_poller_refuse(struct pcn_channel *channel, u32 seq)
{
	struct pcn_ring_msg refusal = { .head = PCN_SHM_HEAD(0, 0, 0, PCN_SHM_FLAG_REFUSED) };

	pcn_ring_answer(&channel->rx, seq, &refusal);
}

/* Not inline: it is called from two places, and from one only where tracepoints are left out. */
static noinline void pcn_poller_deliver(struct pcn_channel *channel, const struct pcn_ring_msg *raw)
{
	u8 flags = PCN_SHM_HEAD_FLAGS(raw->head);
	struct pcn_poller_call call = { .channel = channel };
	struct pcn_msg msg pcn_uninitialized;

	msg.src = channel->node->id;
	msg.queue = channel->queue;
	msg.service = PCN_SHM_HEAD_SERVICE(raw->head);
	msg.call = flags & PCN_SHM_FLAG_CALL;
	msg.seq = PCN_SHM_HEAD_SEQ(raw->head);
	msg.queued = raw->tsc;
	msg.len = PCN_SHM_HEAD_LEN(raw->head);
	msg.body = NULL;
	msg.body_len = 0;
	if (flags & PCN_SHM_FLAG_BODY)
		msg.body = pcn_ring_body(&channel->rx, raw, &msg.body_len);
	msg.private = &call;
	memcpy(msg.data, raw->data, sizeof(msg.data));

	if (pcn_service_deliver(channel->node, &msg)) {
		channel->received++;
		channel->received_bytes += msg.len + msg.body_len;
	} else {
		channel->unwanted++;
	}
	if (!msg.call)
		return;
	if (call.answered)
		channel->answered++;
	else
		pcn_poller_refuse(channel, msg.seq);
	/* As if the answer were a message: the caller sleeps on the way back. */
	if (pcn_ring_take_kick(&channel->tx))
		pcn_wake_peer(channel, false);
}

int pcn_msg_answer(const struct pcn_msg *msg, const void *data, size_t len)
{
	struct pcn_poller_call *call = msg->private;
	struct pcn_ring_msg answer = {};

	if (len > PCN_SHM_INLINE_BYTES)
		return -EMSGSIZE;
	if (!msg->call || call->answered)
		return -EINVAL;
	memcpy(answer.data, data, len);
	answer.head = PCN_SHM_HEAD(0, 0, len, 0);
	call->answered = true;
	pcn_ring_answer(&call->channel->rx, msg->seq, &answer);
	return 0;
}
EXPORT_SYMBOL_GPL(pcn_msg_answer);

struct napi_struct *pcn_msg_napi(const struct pcn_msg *msg)
{
	struct pcn_poller_call *call = msg->private;
	struct pcn_poller *poller = &call->channel->node->self->poller[call->channel->queue];

	poller->gro = true;
	return &poller->napi;
}
EXPORT_SYMBOL_GPL(pcn_msg_napi);

size_t pcn_msg_copy(const struct pcn_msg *msg, void *to, size_t max)
{
	size_t head = min_t(size_t, msg->len, max), body = min_t(size_t, msg->body_len, max - head);

	memcpy(to, msg->data, head);
	if (body)
		memcpy(to + head, msg->body, body);
	return head + body;
}
EXPORT_SYMBOL_GPL(pcn_msg_copy);

/* What a stream may add to the longest window, in windows; and the share of its own work. */
#define PCN_POLLER_STREAM	64
#define PCN_POLLER_CREDIT	8

/*
 * How long to go on looking. A sender of many messages is interrupted now and then for longer than a doorbell
 * takes. To look on until it is back is cheap, measured by the work that there was: so that work earns time.
 */
static u64 pcn_poller_patience(const struct pcn_poller *poller)
{
	return poller->window + min(poller->credit, PCN_POLLER_STREAM * READ_ONCE(poller->window_max));
}

/* The end of a wait for work, and of the work. */
static void pcn_poller_earn(struct pcn_poller *poller, u64 found, u64 done)
{
	u64 most = PCN_POLLER_STREAM * READ_ONCE(poller->window_max), waited = 0;

	if (found > poller->work_tsc + poller->window)
		waited = found - poller->work_tsc - poller->window;
	poller->credit -= min(waited, poller->credit);
	if (done > found)
		poller->credit = min(poller->credit + (done - found) / PCN_POLLER_CREDIT, most);
	poller->work_tsc = done;
}

/*
 * haltpoll's rule: had the wait been shorter than the longest window, a longer window would have saved the
 * doorbell; had it been longer, a window would have been for nothing.
 */
static void pcn_poller_adapt(struct pcn_poller *poller, u64 queued)
{
	u64 max = READ_ONCE(poller->window_max), least = max / 8;

	poller->slept = false;
	if (queued > poller->work_tsc && queued - poller->work_tsc > max) {
		poller->window /= 2;
		if (poller->window < least)
			poller->window = 0;
	} else {
		poller->window = min(max, max(2 * poller->window, least));
	}
}

static void pcn_poller_count_delivered(const struct pcn_channel *channel, const struct pcn_ring_msg *msg, u64 now)
{
	pcn_poller_count(channel->rx.shm->latency[PCN_SHM_STAGE_DELIVER], msg->tsc, now);
}

static noinline void pcn_poller_deliver_traced(struct pcn_poller *poller, struct pcn_channel *channel, u32 nr,
					       u64 now)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		pcn_poller_count_delivered(channel, &poller->batch[i], now);
		pcn_poller_trace_delivered(poller, channel, &poller->batch[i]);
		pcn_poller_deliver(channel, &poller->batch[i]);
	}
}

/* Looks once whether the messages are traced, and not for each. */
static __always_inline void pcn_poller_deliver_batch(struct pcn_poller *poller, struct pcn_channel *channel,
						     u32 nr, u64 now)
{
	u32 i;

	if (trace_popcorn_msg_delivered_enabled()) {
		pcn_poller_deliver_traced(poller, channel, nr, now);
		return;
	}
	for (i = 0; i < nr; i++) {
		pcn_poller_count_delivered(channel, &poller->batch[i], now);
		pcn_poller_deliver(channel, &poller->batch[i]);
	}
}

/* One batch of one channel. Returns how much work that was. */
static int pcn_poller_drain(struct pcn_poller *poller, struct pcn_channel *channel, int budget)
{
	struct pcn_ring *rx = &channel->rx;
	u32 before = rx->pos, nr;
	u64 rejected = rx->rejected, now;

	nr = pcn_ring_receive(rx, poller->batch, min_t(u32, budget, PCN_POLLER_BATCH));
	if (rx->pos == before)
		return 0;
	now = rdtsc();
	if (nr && unlikely(poller->slept))
		pcn_poller_adapt(poller, poller->batch[0].tsc);
	poller->messages += nr;
	pcn_poller_deliver_batch(poller, channel, nr, now);
	if (unlikely(rx->rejected != rejected))
		pcn_node_suspect(channel->node, rx->rejected);
	if (pcn_ring_settle(rx))
		pcn_wake_peer(channel, true);
	pcn_poller_earn(poller, now, rdtsc());
	return rx->pos - before;
}

/* One batch of each active channel. */
static int pcn_poller_round(struct pcn_poller *poller, int budget)
{
	u32 nr = pcn_fabric.nr_nodes, first = poller->turn++ % nr, i;
	int work = 0;

	if (is_power_of_2(poller->active)) { /* a single peer, as is usual */
		first = __ffs(poller->active);
		nr = 1;
	}
	for (i = 0; i < nr && work < budget; i++) {
		u32 id = (first + i) % pcn_fabric.nr_nodes;
		struct pcn_node *node = &poller->self->node[id];
		struct pcn_channel *channel;

		if (!test_bit(id, &poller->active))
			continue;
		if (unlikely(!node->reachable)) {
			__clear_bit(id, &poller->active);
			continue;
		}
		channel = &node->channel[poller->queue];
		work += pcn_poller_drain(poller, channel, budget - work);
		if (unlikely(READ_ONCE(channel->nr_calls)))
			pcn_channel_look(channel);
	}
	return work;
}

static bool pcn_poller_in_window(const struct pcn_poller *poller)
{
	/* Who polls in its own context wants to go on with what it got. */
	if (test_bit(NAPI_STATE_IN_BUSY_POLL, &poller->napi.state))
		return false;
	return rdtsc() - poller->work_tsc < pcn_poller_patience(poller) && READ_ONCE(poller->running);
}

/* A look that comes too early takes the line from a sender who is about to write it. */
static void pcn_poller_pause(struct pcn_poller *poller)
{
	if (is_power_of_2(poller->active)) /* a single peer */
		pcn_ring_pace(&poller->self->node[__ffs(poller->active)].channel[poller->queue].rx);
	else
		cpu_relax();
}

static int pcn_poller_work(struct pcn_poller *poller, int budget)
{
	bool waited = false;
	int work = 0, done;

	do {
		pcn_poller_gather(poller);
		done = poller->active ? pcn_poller_round(poller, budget - work) : 0;
		work += done;
		if (done) {
			poller->window_hits += waited;
			waited = false;
			/* Before the first look, too; nothing while messages stream. */
			if (pcn_poller_in_window(poller))
				pcn_poller_pause(poller);
			continue;
		}
		/* Not with packets held back: NAPI passes them on between two polls. */
		if (poller->gro || need_resched() || !pcn_poller_in_window(poller))
			break;
		waited = true;
		pcn_poller_pause(poller);
	} while (work < budget);
	return work;
}

/* Asks every sender to wake us. Returns false if one of them was faster: poll again. */
static bool pcn_poller_sleep(struct pcn_poller *poller)
{
	struct pcn_shm_queue *queue = pcn_poller_shm(poller);
	unsigned long id;

	for_each_set_bit(id, &poller->active, pcn_fabric.nr_nodes) {
		struct pcn_node *node = &poller->self->node[id];
		struct pcn_channel *channel = &node->channel[poller->queue];

		if (node->reachable) {
			if (pcn_ring_publish_done(&channel->rx))
				pcn_wake_peer(channel, true);
			if (pcn_ring_arm(&channel->rx))
				continue;
			/* The flag that was just set is also for answers. */
			if (READ_ONCE(channel->nr_calls))
				pcn_channel_look(channel);
		}
		__clear_bit(id, &poller->active);
	}
	if (poller->active)
		return false;
	poller->slept = true;
	poller->sleeps++;
	/* The last spinner does this when it leaves. */
	if (!atomic_read(&poller->spinners))
		WRITE_ONCE(queue->asleep, 1);
	/* [Z] The flag before the look at the bytes. Pairs with [W] in pcn_wake_peer(). */
	smp_mb();
	return !pcn_poller_called(poller);
}

/* What the last doorbell cost, told by its first poll for each channel that it may have been rung for. */
static void pcn_poller_count_doorbell(struct pcn_poller *poller)
{
	unsigned long id;

	for_each_set_bit(id, &poller->active, pcn_fabric.nr_nodes) {
		struct pcn_channel *channel = &poller->self->node[id].channel[poller->queue];
		u64 rung = READ_ONCE(channel->rx.shm->tx.doorbell_tsc);

		/* Older than a second: not this one's. A peer may also have written anything. */
		if (!rung || rung > poller->irq_tsc || poller->irq_tsc - rung > tsc_khz * 1000ULL)
			continue;
		pcn_poller_count(channel->rx.shm->latency[PCN_SHM_STAGE_DOORBELL], rung, poller->irq_tsc);
		pcn_poller_count(channel->rx.shm->latency[PCN_SHM_STAGE_POLL], poller->irq_tsc,
				 poller->poll_tsc);
	}
}

static int pcn_poller_poll(struct napi_struct *napi, int budget)
{
	struct pcn_poller *poller = container_of(napi, struct pcn_poller, napi);
	struct pcn_shm_queue *queue = pcn_poller_shm(poller);
	bool rang;
	int work;

	spin_lock(&poller->lock);
	poller->poll_tsc = rdtsc();
	poller->polls++;
	if (READ_ONCE(queue->asleep))
		WRITE_ONCE(queue->asleep, 0);
	rang = poller->irq_fresh;
	if (rang) {
		poller->irq_fresh = false;
		pcn_poller_gather(poller);
		if (!poller->active)
			poller->spurious++;
		pcn_poller_count_doorbell(poller);
	}
	work = pcn_poller_work(poller, budget);
	if (trace_popcorn_poll_enabled())
		pcn_poller_trace_poll(poller, work, budget);
	poller->gro = false;
	/* As if there were more: others have their turn, and nobody has to ring meanwhile. */
	if (work < budget && pcn_poller_in_window(poller))
		work = budget;
	if (work < budget && napi_complete_done(napi, work) && !pcn_poller_sleep(poller))
		napi_schedule(napi);
	spin_unlock(&poller->lock);
	return work;
}

/**
 * pcn_poller_doorbell() - the doorbell of a queue rang
 * @poller: the queue's
 * @tsc: when
 *
 * In hard interrupt context.
 */
void pcn_poller_doorbell(struct pcn_poller *poller, u64 tsc)
{
	WRITE_ONCE(poller->irq_tsc, tsc);
	WRITE_ONCE(poller->irq_fresh, true);
	WRITE_ONCE(poller->irqs, poller->irqs + 1);
	if (READ_ONCE(poller->running))
		napi_schedule_irqoff(&poller->napi);
}

static void pcn_poller_loop(struct irq_work *work)
{
	pcn_poller_doorbell(container_of(work, struct pcn_poller, loop), rdtsc());
}

static void pcn_poller_schedule(struct pcn_poller *poller)
{
	local_bh_disable();
	rcu_read_lock();
	if (READ_ONCE(poller->running))
		napi_schedule(&poller->napi);
	rcu_read_unlock();
	local_bh_enable();
}

/**
 * pcn_poller_look_at() - look at a node's channel without having been rung; process context
 * @poller: the queue's
 * @node: node id
 */
void pcn_poller_look_at(struct pcn_poller *poller, u32 node)
{
	set_bit(node, &poller->attention);
	pcn_poller_schedule(poller);
}

/**
 * pcn_poller_look_at_all() - look at every node's channels; process context
 * @self: whose
 */
void pcn_poller_look_at_all(struct pcn_self *self)
{
	u32 queue, id;

	for (queue = 0; queue < self->nr_queues; queue++) {
		bool any = false;

		for (id = 0; id < pcn_fabric.nr_nodes; id++) {
			if (READ_ONCE(self->node[id].reachable)) {
				set_bit(id, &self->poller[queue].attention);
				any = true;
			}
		}
		if (any)
			pcn_poller_schedule(&self->poller[queue]);
	}
}

/**
 * pcn_poller_spin_begin() - the caller will look for an answer by itself: no doorbells for this queue
 * @poller: the queue's
 */
void pcn_poller_spin_begin(struct pcn_poller *poller)
{
	atomic_inc(&poller->spinners);
	if (READ_ONCE(pcn_poller_shm(poller)->asleep))
		WRITE_ONCE(pcn_poller_shm(poller)->asleep, 0);
}

/**
 * pcn_poller_spin_end() - it does not any more
 * @poller: the queue's
 */
void pcn_poller_spin_end(struct pcn_poller *poller)
{
	if (!atomic_dec_and_test(&poller->spinners))
		return;
	WRITE_ONCE(pcn_poller_shm(poller)->asleep, 1);
	/* [Z] as in pcn_poller_sleep(). */
	smp_mb();
	if (pcn_poller_called(poller))
		pcn_poller_schedule(poller);
}

/**
 * pcn_poller_busy() - poll in the caller's context, without doorbells, until it has enough
 * @poller: the queue's
 * @done: asked between two polls
 * @arg: for @done
 */
void pcn_poller_busy(struct pcn_poller *poller, bool (*done)(void *arg, unsigned long start), void *arg)
{
	napi_busy_loop(poller->napi.napi_id, done, arg, false, PCN_POLLER_BATCH);
}

/**
 * pcn_poller_set_window() - how long each queue may go on looking after the last message
 * @self: whose
 * @cycles: 0 for not at all
 */
void pcn_poller_set_window(struct pcn_self *self, u64 cycles)
{
	u32 queue;

	for (queue = 0; queue < PCN_QUEUES; queue++) {
		struct pcn_poller *poller = &self->poller[queue];

		spin_lock_bh(&poller->lock);
		WRITE_ONCE(poller->window_max, cycles);
		poller->window = min(poller->window, cycles);
		poller->credit = min(poller->credit, PCN_POLLER_STREAM * cycles);
		spin_unlock_bh(&poller->lock);
	}
}

/**
 * pcn_poller_set_threaded() - poll in kernel threads, which can be given priorities and CPUs, or in softirqs
 * @self: whose
 * @threaded: in threads
 *
 * Return: 0 or a negative errno.
 */
int pcn_poller_set_threaded(struct pcn_self *self, bool threaded)
{
	/* The parameter is an enum since v6.17, with the same two values. */
	return dev_set_threaded(self->netdev, threaded);
}

/**
 * pcn_poller_start() - be ready to receive
 * @self: for whom
 *
 * Return: 0 or -ENOMEM.
 */
int pcn_poller_start(struct pcn_self *self)
{
	u32 queue;

	self->netdev = pcn_netdev_create("popcorn");
	if (!self->netdev)
		return -ENOMEM;
	for (queue = 0; queue < PCN_QUEUES; queue++) {
		struct pcn_poller *poller = &self->poller[queue];

		memset(poller, 0, sizeof(*poller));
		poller->self = self;
		poller->queue = queue;
		spin_lock_init(&poller->lock);
		init_irq_work(&poller->loop, pcn_poller_loop);
		netif_napi_add(self->netdev, &poller->napi, pcn_poller_poll);
		napi_enable(&poller->napi);
		WRITE_ONCE(poller->running, true);
	}
	return 0;
}

/**
 * pcn_poller_stop() - stop receiving; the doorbells are gone already
 * @self: for whom
 */
void pcn_poller_stop(struct pcn_self *self)
{
	u32 queue;

	for (queue = 0; queue < PCN_QUEUES; queue++)
		WRITE_ONCE(self->poller[queue].running, false);
	synchronize_rcu();
	for (queue = 0; queue < PCN_QUEUES; queue++) {
		irq_work_sync(&self->poller[queue].loop);
		napi_disable(&self->poller[queue].napi);
		netif_napi_del(&self->poller[queue].napi);
	}
	pcn_netdev_destroy(self->netdev);
	self->netdev = NULL;
}
