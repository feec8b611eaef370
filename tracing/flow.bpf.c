// SPDX-License-Identifier: GPL-2.0
/*
 * Every message that is delivered, with the stamps of its stages, one by one; with FRAMES, every frame that a link
 * receives or drops.
 *
 * Built by bcc, with -DPAGES=n (of the buffer, a power of two), and perhaps
 * -DFRAMES=1, -DONLY_NODE=id, -DONLY_LINK=node (a node has one link), ONLY_SERVICE(node, id), a condition, -DLEN_MIN=bytes,
 * -DLEN_MAX=bytes and -DSLOWER=1 (than slower_cycles). No kernel header, and raw tracepoints: see latency.bpf.c.
 */
#include "probe.bpf.h"

enum counter_id {
	DELIVERED,	/* messages, or frames received, that the filters but the time let through */
	SLOW,		/* those that took long enough, to be shown, and drops */
	LOST,		/* those of them that the buffer had no room for */
	DROPPED,	/* frames dropped that the same filters let through */
	COUNTERS
};

/* As EVENT in flow.py has it, or FRAME. */
struct event {
	u32 src;
	u32 dst;
	u32 queue;
	u32 seq;
	u32 service;
	u32 len;
	u64 queued;
	u64 doorbell;
	u64 irq;
	u64 poll;
	u64 delivered;
	u32 cpu;
	u32 reason;	/* of a drop, which is never 0 */
#ifdef FRAMES
	u64 stack;
#endif
};

BPF_RINGBUF_OUTPUT(events, PAGES);
BPF_PERCPU_ARRAY(counters, u64, COUNTERS);
#ifdef FRAMES
/* The message that this CPU delivered last. */
BPF_PERCPU_ARRAY(last, struct event, 1);
#endif
#ifdef SLOWER
/* Not shown if it takes so many cycles or less; set before the first event. */
BPF_ARRAY(slower_cycles, u64, 1);
#endif

static __always_inline void count(int which)
{
	u64 *counter = counters.lookup(&which);

	if (counter)
		(*counter)++;
}

static __always_inline bool is_slow(u64 begin, u64 end)
{
#ifdef SLOWER
	int zero = 0;
	u64 *cycles = slower_cycles.lookup(&zero);

	return cycles && end >= begin && end - begin > *cycles;
#else
	return true;
#endif
}

static __always_inline bool passes(const struct event *event)
{
#ifdef ONLY_NODE
	if (event->src != ONLY_NODE && event->dst != ONLY_NODE)
		return false;
#endif
#ifdef ONLY_SERVICE
	if (!ONLY_SERVICE(event->dst, event->service))
		return false;
#endif
#ifdef LEN_MIN
	if (event->len < LEN_MIN)
		return false;
#endif
#ifdef LEN_MAX
	if (event->len > LEN_MAX)
		return false;
#endif
	return true;
}

static __always_inline bool wanted(const struct event *event)
{
#ifdef ONLY_LINK
	if (event->dst != ONLY_LINK)
		return false;
#endif
	return passes(event);
}

static __always_inline void show(struct event *event)
{
	count(SLOW);
	if (events.ringbuf_output(event, sizeof(*event), 0))
		count(LOST);
}

PROBE(popcorn_msg_delivered)
{
	struct event event = {
		.src = ctx->args[0],
		.dst = ctx->args[1],
		.queue = ctx->args[2],
		.seq = ctx->args[3],
		.service = ctx->args[4],
		.len = ctx->args[5],
		.queued = ctx->args[6],
		.doorbell = ctx->args[7],
		.irq = ctx->args[8],
		.poll = ctx->args[9],
		.delivered = ctx->args[10],
		.cpu = bpf_get_smp_processor_id(),
	};

#ifdef FRAMES
	/* A link receives in the callback that the message is for: before another one is delivered on this CPU. */
	struct event *kept;
	int zero = 0;

	kept = last.lookup(&zero);
	if (kept)
		*kept = event;
#else
	if (!wanted(&event))
		return 0;
	count(DELIVERED);
	if (is_slow(event.queued, event.delivered))
		show(&event);
#endif
	return 0;
}

#ifdef FRAMES
PROBE(popcorn_net_receive)
{
	struct event event = {
		.src = ctx->args[1],
		.dst = ctx->args[2],
		.queue = ctx->args[3],
		.len = ctx->args[4],
		.queued = ctx->args[5],
		.stack = ctx->args[6],
		.cpu = bpf_get_smp_processor_id(),
	};
	struct event *message;
	int zero = 0;

	if (!wanted(&event))
		return 0;
	count(DELIVERED);
	if (!is_slow(event.queued, event.stack))
		return 0;
	message = last.lookup(&zero);
	if (message && message->queued == event.queued && message->src == event.src &&
	    message->dst == event.dst && message->queue == event.queue) {
		event.seq = message->seq;
		event.service = message->service;
		event.doorbell = message->doorbell;
		event.irq = message->irq;
		event.poll = message->poll;
		event.delivered = message->delivered;
	}
	show(&event);
	return 0;
}

PROBE(popcorn_net_drop)
{
	/* Both are read before one is chosen: the verifier takes no computed offset into the context. */
	volatile u32 node = ctx->args[1], peer = ctx->args[2];
	bool rx = ctx->args[4];
	struct event event = {
		.src = rx ? peer : node,
		.dst = rx ? node : peer,
		.queue = ctx->args[3],
		.reason = ctx->args[5],
		.len = ctx->args[6],
		.queued = ctx->args[7],
		.stack = ctx->args[7],
		.cpu = bpf_get_smp_processor_id(),
	};

#ifdef ONLY_LINK
	if (node != ONLY_LINK)
		return 0;
#endif
	if (!passes(&event))
		return 0;
	count(DROPPED);
	/* It took no time, so none is slow. */
#ifndef SLOWER
	show(&event);
#endif
	return 0;
}
#endif
