// SPDX-License-Identifier: GPL-2.0
/*
 * Figures of the message layer, and what can be set, for the control side.
 */
#include <linux/export.h>
#include <linux/irq.h>
#include <linux/math64.h>
#include <linux/rcupdate.h>
#include <asm/tsc.h>

#include "channel.h"
#include "doorbell.h"
#include "node.h"
#include "self.h"
#include "stats.h"

static u64 pcn_stats_ns(u64 cycles)
{
	return tsc_khz ? mul_u64_u32_div(cycles, NSEC_PER_MSEC, tsc_khz) : 0;
}

/* Under pcn_node_mutex, which keeps the channels there. */
static struct pcn_channel *pcn_stats_channel(u32 node, u32 queue)
{
	if (!pcn_main.live || node >= pcn_fabric.nr_nodes || node == pcn_main.id)
		return NULL;
	/* One that was never met has nothing to tell. */
	if (!pcn_main.node[node].nr_queues || queue >= pcn_main.node[node].nr_queues)
		return NULL;
	return &pcn_main.node[node].channel[queue];
}

/**
 * pcn_channel_stats() - figures of both ways of a channel
 * @node: the other node
 * @queue: which queue
 * @stats: filled
 *
 * Return: false without a fabric, and for a channel that never was.
 */
bool pcn_channel_stats(u32 node, u32 queue, struct pcn_channel_stats *stats)
{
	struct pcn_channel *channel;

	mutex_lock(&pcn_node_mutex);
	channel = pcn_stats_channel(node, queue);
	if (channel)
		*stats = (struct pcn_channel_stats){
			.sent = READ_ONCE(channel->sent),
			.sent_bytes = READ_ONCE(channel->sent_bytes),
			.received = READ_ONCE(channel->received),
			.received_bytes = READ_ONCE(channel->received_bytes),
			.doorbells = READ_ONCE(channel->doorbells),
			.room_doorbells = READ_ONCE(channel->room_doorbells),
			.full = READ_ONCE(channel->full),
			.waits = READ_ONCE(channel->waits),
			.rejected = READ_ONCE(channel->rejected_before) + READ_ONCE(channel->rx.rejected) +
				    READ_ONCE(channel->unwanted),
			.answered = READ_ONCE(channel->answered),
			.area_bytes = (u64)READ_ONCE(channel->units) * PCN_SHM_UNIT_BYTES,
			.ring_slots = READ_ONCE(channel->tx.nr_slots),
			.ring_slots_from = READ_ONCE(channel->rx.nr_slots),
			.armed = READ_ONCE(channel->rx.shm->arm.armed),
		};
	mutex_unlock(&pcn_node_mutex);
	return channel;
}

/**
 * pcn_queue_stats() - figures of one poller of this node
 * @queue: which queue
 * @stats: filled
 *
 * Return: false without a fabric, and for a queue that is not there.
 */
bool pcn_queue_stats(u32 queue, struct pcn_queue_stats *stats)
{
	const struct pcn_poller *poller;
	struct irq_data *data;
	bool there;

	mutex_lock(&pcn_node_mutex);
	there = pcn_main.live && queue < pcn_main.nr_queues;
	if (there) {
		poller = &pcn_main.poller[queue];
		*stats = (struct pcn_queue_stats){
			.polls = READ_ONCE(poller->polls),
			.messages = READ_ONCE(poller->messages),
			.irqs = READ_ONCE(poller->irqs),
			.spurious = READ_ONCE(poller->spurious),
			.sleeps = READ_ONCE(poller->sleeps),
			.window_hits = READ_ONCE(poller->window_hits),
			.window_ns = pcn_stats_ns(READ_ONCE(poller->window)),
			.irq = pcn_doorbell_irq(queue),
		};
		data = stats->irq ? irq_get_irq_data(stats->irq) : NULL;
		if (data)
			stats->cpu = cpumask_first(irq_data_get_effective_affinity_mask(data));
	}
	mutex_unlock(&pcn_node_mutex);
	return there;
}

/**
 * pcn_channel_shut() - were a node's channels shut because it sent garbage
 * @node: node id
 */
bool pcn_channel_shut(u32 node)
{
	return READ_ONCE(pcn_main.node[node].shut);
}

/**
 * pcn_latency_read() - the histogram of one stage of one channel, of whichever kernels
 * @src: sender
 * @dst: receiver, who keeps it
 * @queue: which queue
 * @stage: enum pcn_shm_stage
 * @buckets: filled; zeroes where there is no such channel
 */
void pcn_latency_read(u32 src, u32 dst, u32 queue, u32 stage, u64 buckets[PCN_SHM_BUCKETS])
{
	const struct pcn_shm_channel *shm;
	u32 i;

	memset(buckets, 0, PCN_SHM_BUCKETS * sizeof(*buckets));
	mutex_lock(&pcn_node_mutex);
	if (pcn_main.live && src < pcn_fabric.nr_nodes && dst < pcn_fabric.nr_nodes &&
	    queue < pcn_fabric.nr_queues && stage < PCN_SHM_STAGES) {
		shm = pcn_fabric_channel(src, dst, queue);
		for (i = 0; i < PCN_SHM_BUCKETS; i++)
			buckets[i] = READ_ONCE(shm->latency[stage][i]);
	}
	mutex_unlock(&pcn_node_mutex);
}

/**
 * pcn_shape_get() - what the fabric holds
 * @shape: filled
 *
 * Return: false without a fabric.
 */
bool pcn_shape_get(struct pcn_shape *shape)
{
	bool live;

	mutex_lock(&pcn_node_mutex);
	live = pcn_main.live;
	*shape = (struct pcn_shape){
		.area_bytes = pcn_fabric.area_bytes,
		.nr_nodes = pcn_fabric.nr_nodes,
		.nr_queues = pcn_fabric.nr_queues,
		.ring_slots = pcn_fabric.ring_slots,
		.loopback = live && !pcn_fabric.phys,
	};
	mutex_unlock(&pcn_node_mutex);
	return live;
}

/* It was told in microseconds, which are seldom whole cycles. */
static u32 pcn_stats_window_us(const struct pcn_self *self)
{
	return DIV_ROUND_CLOSEST_ULL(pcn_stats_ns(READ_ONCE(self->poller[0].window_max)), 1000);
}

static void pcn_stats_set_window(struct pcn_self *self, u32 max_us)
{
	pcn_poller_set_window(self, mul_u64_u32_div(tsc_khz, max_us, 1000));
}

/**
 * pcn_tuning_get() - how this node waits for messages
 * @tuning: filled; the caller may hold pcn_node_mutex
 *
 * Return: false without a fabric.
 */
bool pcn_tuning_get(struct pcn_tuning *tuning)
{
	*tuning = (struct pcn_tuning){
		.window_max_us = pcn_stats_window_us(&pcn_main),
		.threaded = READ_ONCE(pcn_main.threaded),
		.doorbell_cost_ns = pcn_stats_ns(pcn_doorbell_cost()),
	};
	return READ_ONCE(pcn_main.live);
}

/**
 * pcn_tuning_set() - set how this node waits for messages
 * @window_max_us: longest polling window, NULL to leave it
 * @threaded: poll in kernel threads, NULL to leave it
 *
 * Return: 0, -ENODEV without a fabric, or why the kernel does not poll in threads.
 */
int pcn_tuning_set(const u32 *window_max_us, const bool *threaded)
{
	int ret = 0;

	mutex_lock(&pcn_node_mutex);
	if (!pcn_main.live)
		ret = -ENODEV;
	if (!ret && threaded) {
		ret = pcn_poller_set_threaded(&pcn_main, *threaded);
		if (!ret)
			WRITE_ONCE(pcn_main.threaded, *threaded);
	}
	if (!ret && window_max_us)
		pcn_stats_set_window(&pcn_main, *window_max_us);
	mutex_unlock(&pcn_node_mutex);
	return ret;
}

static struct pcn_self *pcn_stats_self(u32 node)
{
	struct pcn_self *self = node < PCN_NODES ? READ_ONCE(pcn_selves[node]) : NULL;

	return self && READ_ONCE(self->live) ? self : NULL;
}

/**
 * pcn_service_window_at() - how long a node of this kernel goes on looking for messages before it sleeps
 * @node: node id
 * @max_us: set to the longest that it may be, microseconds
 *
 * Return: 0, -ENODEV for a node that is not in this kernel.
 */
int pcn_service_window_at(u32 node, u32 *max_us)
{
	const struct pcn_self *self;

	/* The node goes only after all who saw it live are done; likewise below. */
	rcu_read_lock();
	self = pcn_stats_self(node);
	if (self)
		*max_us = pcn_stats_window_us(self);
	rcu_read_unlock();
	return self ? 0 : -ENODEV;
}
EXPORT_SYMBOL_GPL(pcn_service_window_at);

/**
 * pcn_service_set_window_at() - set that, for all services of the node
 * @node: node id
 * @max_us: microseconds, at most POPCORN_POLL_WINDOW_MAX; 0 never looks
 *
 * Return: 0, -ERANGE, -ENODEV for a node that is not in this kernel.
 */
int pcn_service_set_window_at(u32 node, u32 max_us)
{
	struct pcn_self *self;

	if (max_us > POPCORN_POLL_WINDOW_MAX)
		return -ERANGE;
	rcu_read_lock();
	self = pcn_stats_self(node);
	if (self)
		pcn_stats_set_window(self, max_us);
	rcu_read_unlock();
	return self ? 0 : -ENODEV;
}
EXPORT_SYMBOL_GPL(pcn_service_set_window_at);
