/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_CHANNEL_H
#define _PCN_CHANNEL_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "popcorn.h"
#include "area.h"
#include "ring.h"

struct pcn_node;
struct pcn_self;

/**
 * struct pcn_channel - both directions between this node and another one, through one queue
 * @node: the other one
 * @queue: which
 * @tx_lock: serialises senders: all up to @waits
 * @tx: the ring there
 * @loans: bodies that the receiver has
 * @units: units of the area that these and reserved bodies take
 * @ring_unit: where @tx lies in the area, and
 * @ring_units: how much of it; 0 while it is in the channel
 * @calls: struct pcn_call that wait for an answer, in the order of their slots
 * @nr_calls: how many
 * @grow_to: slots that @tx should have; the grow work sees to it
 * @room_wanted: the receiver was asked to wake us when there is room
 * @room: blocking senders, in the order in which they came
 * @sent: messages
 * @sent_bytes: their payload
 * @doorbells: rung for a message
 * @full: sends that found no room
 * @waits: blocking sends that slept
 * @rx: the ring here. From here on under the lock of the queue's poller
 * @received: messages delivered
 * @received_bytes: their payload
 * @unwanted: messages for services that are not there
 * @answered: calls answered in place
 * @rejected_before: messages rejected in former incarnations of @rx
 * @room_doorbells: rung because the other one waited for room
 */
struct pcn_channel {
	struct pcn_node *node;
	u32 queue;

	spinlock_t tx_lock;
	struct pcn_ring tx;
	struct pcn_area_loans loans;
	u32 units;
	u32 ring_unit;
	u32 ring_units;
	struct list_head calls;
	u32 nr_calls;
	u32 grow_to;
	bool room_wanted;
	wait_queue_head_t room;
	u64 sent;
	u64 sent_bytes;
	u64 doorbells;
	u64 full;
	u64 waits;

	struct pcn_ring rx ____cacheline_aligned_in_smp;
	u64 received;
	u64 received_bytes;
	u64 unwanted;
	u64 answered;
	u64 rejected_before;
	u64 room_doorbells;
};

int pcn_channel_setup(struct pcn_self *self);
void pcn_channel_free(struct pcn_self *self);
void pcn_channel_open(struct pcn_node *node);
void pcn_channel_close(struct pcn_node *node);
void pcn_channel_forget(struct pcn_node *node);
void pcn_channel_look(struct pcn_channel *channel);
void pcn_channel_tick(struct pcn_self *self);

#endif
