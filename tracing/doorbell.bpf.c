// SPDX-License-Identifier: GPL-2.0
/*
 * Doorbells against messages: how many each channel and CPU sent and rang, how many each queue and CPU was
 * rung for, and what the polls after that found.
 *
 * Built by bcc, perhaps with -DONLY_NODE=id. No kernel header, and raw tracepoints: see latency.bpf.c.
 */
#include "probe.bpf.h"

#define CHANNELS_MAX 256	/* ordered pairs of nodes, times queues */
#define QUEUES_MAX 64		/* on a loopback fabric all nodes are here */

enum counter_id {
	MESSAGES,	/* queued and taken, for a limit on them */
	UNRECORDED,	/* events that a full map had no room for */
	COUNTERS
};

struct channel {
	u32 src;
	u32 dst;
	u32 queue;
};

struct sent {
	u64 messages;
	u64 doorbells;
};

struct queue {
	u32 node;
	u32 queue;
};

struct taken {
	u64 interrupts;
	u64 empty;	/* interrupts whose poll took no message */
	u64 polls;
	u64 idle;	/* polls that took no message, whatever they were for */
	u64 messages;
};

/* Per CPU: counting takes no lock and loses nothing. */
BPF_TABLE("percpu_hash", struct channel, struct sent, sent, CHANNELS_MAX);
BPF_TABLE("percpu_hash", struct queue, struct taken, taken, QUEUES_MAX);
BPF_PERCPU_ARRAY(counters, u64, COUNTERS);
/* When the interrupt came that no poll has answered yet; a poll in a thread may be on another CPU. */
BPF_TABLE("hash", struct queue, u64, rung, QUEUES_MAX);

static __always_inline void count(int which, u64 by)
{
	u64 *counter = counters.lookup(&which);

	if (counter)
		*counter += by;
}

static __always_inline struct sent *sent_of(struct channel *channel)
{
	struct sent none = {}, *found;

#ifdef ONLY_NODE
	if (channel->src != ONLY_NODE && channel->dst != ONLY_NODE)
		return 0;
#endif
	found = sent.lookup_or_try_init(channel, &none);
	if (!found)
		count(UNRECORDED, 1);
	return found;
}

static __always_inline struct taken *taken_of(struct queue *queue)
{
	struct taken none = {}, *found;

	found = taken.lookup_or_try_init(queue, &none);
	if (!found)
		count(UNRECORDED, 1);
	return found;
}

PROBE(popcorn_msg_queued)
{
	struct channel channel = {
		.src = ctx->args[0],
		.dst = ctx->args[1],
		.queue = ctx->args[2],
	};
	struct sent *found = sent_of(&channel);

	if (!found)
		return 0;
	found->messages++;
	count(MESSAGES, 1);
	return 0;
}

PROBE(popcorn_doorbell_sent)
{
	struct channel channel = {
		.src = ctx->args[0],
		.dst = ctx->args[1],
		.queue = ctx->args[2],
	};
	struct sent *found = sent_of(&channel);

	if (found)
		found->doorbells++;
	return 0;
}

PROBE(popcorn_doorbell_irq)
{
	struct queue queue = {
		.node = ctx->args[0],
		.queue = ctx->args[1],
	};
	struct taken *found = taken_of(&queue);
	u64 tsc = ctx->args[2], none = 0, *since;

	if (!found)
		return 0;
	found->interrupts++;
	since = rung.lookup_or_try_init(&queue, &none);
	if (since)
		*since = tsc;
	else
		count(UNRECORDED, 1);
	return 0;
}

PROBE(popcorn_poll)
{
	struct queue queue = {
		.node = ctx->args[0],
		.queue = ctx->args[1],
	};
	u64 work = (u32)ctx->args[2], begin = ctx->args[4], *since;
	struct taken *found = taken_of(&queue);

	if (!found)
		return 0;
	found->polls++;
	found->messages += work;
	count(MESSAGES, work);
	if (!work)
		found->idle++;
	since = rung.lookup(&queue);
	/* One that came while this poll was running is the next poll's. */
	if (since && *since && *since <= begin) {
		*since = 0;
		if (!work)
			found->empty++;
	}
	return 0;
}
