/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the message layer tells about itself, and lets be set: all that the control side needs to know of it.
 * Of the main node of this kernel (pcn_self_main). From any context that may sleep, also under pcn_node_mutex;
 * numbers that belong together need not be of one moment.
 */
#ifndef _PCN_STATS_H
#define _PCN_STATS_H

#include <linux/types.h>

#include "../uapi/popcorn_shm.h"

/**
 * struct pcn_channel_stats - both ways of a channel between this node and another
 * @sent: messages to it
 * @sent_bytes: their payload
 * @received: messages from it
 * @received_bytes: their payload
 * @doorbells: rung at its queue for messages
 * @room_doorbells: rung at its queue because it waited for room
 * @full: sends that found no room
 * @waits: sends that slept until there was room
 * @rejected: messages from it that failed a check
 * @answered: calls from it that were answered in place
 * @area_bytes: of this node's area that bodies take which it has not given back; not the ring
 * @ring_slots: of the way there
 * @ring_slots_from: of the way here
 * @armed: this node sleeps and wants a doorbell
 *
 * Counted since this kernel joined, also over incarnations of the other node.
 */
struct pcn_channel_stats {
	u64 sent;
	u64 sent_bytes;
	u64 received;
	u64 received_bytes;
	u64 doorbells;
	u64 room_doorbells;
	u64 full;
	u64 waits;
	u64 rejected;
	u64 answered;
	u64 area_bytes;
	u32 ring_slots;
	u32 ring_slots_from;
	bool armed;
};

/**
 * struct pcn_queue_stats - one poller of this node
 * @polls: times that it ran
 * @messages: what it found
 * @irqs: doorbells
 * @spurious: doorbells that no message came with
 * @sleeps: times that it armed its channels and stopped
 * @window_hits: messages that came while it polled on, instead of sleeping
 * @window_ns: how long it polls on at present
 * @cpu: CPU of the doorbell
 * @irq: Linux interrupt of the doorbell
 */
struct pcn_queue_stats {
	u64 polls;
	u64 messages;
	u64 irqs;
	u64 spurious;
	u64 sleeps;
	u64 window_hits;
	u64 window_ns;
	u32 cpu;
	u32 irq;
};

/**
 * struct pcn_tuning - how this node waits for messages
 * @window_max_us: longest polling window, at most POPCORN_POLL_WINDOW_MAX; 0 never polls
 * @threaded: it polls in kernel threads
 * @doorbell_cost_ns: of being woken, measured when it joined
 */
struct pcn_tuning {
	u32 window_max_us;
	bool threaded;
	u32 doorbell_cost_ns;
};

/**
 * struct pcn_shape - what the fabric holds
 * @area_bytes: of each node's area
 * @nr_nodes: node slots
 * @nr_queues: channels for each ordered pair of nodes
 * @ring_slots: messages that each holds as it is laid out
 * @loopback: it is inside this kernel, whose nodes are all in it
 */
struct pcn_shape {
	u64 area_bytes;
	u32 nr_nodes;
	u32 nr_queues;
	u32 ring_slots;
	bool loopback;
};

bool pcn_channel_stats(u32 node, u32 queue, struct pcn_channel_stats *stats);
bool pcn_queue_stats(u32 queue, struct pcn_queue_stats *stats);
bool pcn_channel_shut(u32 node);
void pcn_latency_read(u32 src, u32 dst, u32 queue, u32 stage, u64 buckets[PCN_SHM_BUCKETS]);
bool pcn_shape_get(struct pcn_shape *shape);
bool pcn_tuning_get(struct pcn_tuning *tuning);
int pcn_tuning_set(const u32 *window_max_us, const bool *threaded);

#endif
