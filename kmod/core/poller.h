/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_POLLER_H
#define _PCN_POLLER_H

#include <linux/irq_work.h>
#include <linux/netdevice.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "ring.h"

struct pcn_channel;
struct pcn_node;
struct pcn_self;

#define PCN_POLLER_BATCH	16	/* messages taken out of a ring at once */

/**
 * struct pcn_poller - the receiving side of one queue
 * @self: whose
 * @queue: which
 * @napi: its context
 * @lock: held while messages are delivered, or while a channel's receiving side changes
 * @attention: nodes (bit by id) to look at, asked for by this kernel
 * @active: nodes whose channels are looked at in each poll; under @lock
 * @turn: node that the next poll begins with, so that none starves the others
 * @spinners: callers that wait for an answer by looking for it; while there are some the queue is awake
 * @running: @napi may be scheduled
 * @irq_tsc: when the doorbell last rang
 * @irq_fresh: it rang since the last poll
 * @poll_tsc: when the poll that is running began
 * @work_tsc: when the last message was done with
 * @gro: packets may be held back in @napi
 * @slept: the queue has been armed since
 * @window: cycles that it goes on looking after the last message; adapts between 0 and @window_max
 * @window_max: cycles
 * @credit: cycles that a stream has earned to go on looking beyond @window
 * @polls: how often @napi polled
 * @messages: that came of it
 * @spurious: doorbells after which there was nothing to look at
 * @sleeps: how often it armed
 * @window_hits: messages found in the window, each a doorbell saved
 * @irqs: doorbells that rang
 * @loop: the doorbell of a node in the same kernel
 * @batch: what is being delivered
 */
struct pcn_poller {
	struct pcn_self *self;
	u32 queue;
	struct napi_struct napi;
	spinlock_t lock;
	unsigned long attention;
	unsigned long active;
	u32 turn;
	atomic_t spinners;
	bool running;
	u64 irq_tsc;
	bool irq_fresh;
	u64 poll_tsc;
	u64 work_tsc;
	bool gro;
	bool slept;
	u64 window;
	u64 window_max;
	u64 credit;
	u64 polls;
	u64 messages;
	u64 spurious;
	u64 sleeps;
	u64 window_hits;
	u64 irqs;
	struct irq_work loop;
	struct pcn_ring_msg batch[PCN_POLLER_BATCH];
};

int pcn_poller_start(struct pcn_self *self);
void pcn_poller_stop(struct pcn_self *self);
void pcn_poller_doorbell(struct pcn_poller *poller, u64 tsc);
void pcn_poller_look_at(struct pcn_poller *poller, u32 node);
void pcn_poller_look_at_all(struct pcn_self *self);
void pcn_poller_spin_begin(struct pcn_poller *poller);
void pcn_poller_spin_end(struct pcn_poller *poller);
void pcn_poller_busy(struct pcn_poller *poller, bool (*done)(void *arg, unsigned long start), void *arg);
void pcn_poller_set_window(struct pcn_self *self, u64 cycles);
int pcn_poller_set_threaded(struct pcn_self *self, bool threaded);

#endif
