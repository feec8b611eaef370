// SPDX-License-Identifier: GPL-2.0
/*
 * One-way latency of messages, stage by stage, and counts of what was sent and rung.
 *
 * Built by bcc, perhaps with -DONLY_NODE=id and ONLY_SERVICE(node, id), a condition on the service of a node. No
 * kernel header is included, so that it does not depend on one that bcc is too old for; the arguments are those
 * of the tracepoints' prototypes, which have the order of their fields (docs/tracepoints.md).
 *
 * Raw tracepoints, and not perf ones (TRACEPOINT_PROBE): the kernel skips a perf one, and counts it
 * nowhere, while any other BPF program is active on the CPU, and a delivery often interrupts a
 * program that runs at the sending of another message. A raw one is skipped only when it interrupts
 * itself, and that is counted (recursion_misses in the program's fdinfo).
 */
#include "numbers.bpf.h"
#include "probe.bpf.h"

#define FLOWS_MAX 256	/* 8 nodes, 4 queues, 8 services */

enum stage_id {
	QUEUED_DOORBELL,
	DOORBELL_INTERRUPT,
	INTERRUPT_POLL,
	POLL_DELIVERED,
	QUEUED_DELIVERED,
	STAGES
};

enum counter_id {
	DELIVERED,	/* messages delivered, for a limit on them */
	UNRECORDED,	/* events that a full map had no room for */
	COUNTERS
};

struct flow {
	u32 src;
	u32 dst;
	u32 queue;
	u32 service;
};

struct pair {
	u32 src;
	u32 dst;
};

struct stage {
	u64 backwards;	/* the end was stamped before the beginning; in nothing else here */
	struct numbers times;	/* nanoseconds */
};

struct arrivals {
	u64 messages;
	u64 bytes;
	struct stage stages[STAGES];
};

struct departures {
	u64 messages;
	u64 bytes;
};

/* All maps are per CPU: counting takes no lock and loses nothing. */
BPF_TABLE("percpu_hash", struct flow, struct arrivals, delivered, FLOWS_MAX);
BPF_TABLE("percpu_hash", struct flow, struct departures, queued, FLOWS_MAX);
BPF_TABLE("percpu_hash", struct pair, u64, doorbells, FLOWS_MAX);
BPF_PERCPU_ARRAY(counters, u64, COUNTERS);
/* A struct arrivals to begin with, which is too large for the stack. Never written. */
BPF_PERCPU_ARRAY(blank, struct arrivals, 1);

/* The rate of the time stamp counter, set before the first event: a kernel may measure it anew at each boot. */
BPF_ARRAY(tsc_khz, u64, 1);

static __always_inline void count(int which)
{
	u64 *counter = counters.lookup(&which);

	if (counter)
		(*counter)++;
}

static __always_inline bool wanted_node(u32 src, u32 dst)
{
#ifdef ONLY_NODE
	return src == ONLY_NODE || dst == ONLY_NODE;
#else
	return true;
#endif
}

static __always_inline bool wanted(const struct flow *flow)
{
#ifdef ONLY_SERVICE
	if (!ONLY_SERVICE(flow->dst, flow->service))
		return false;
#endif
	return wanted_node(flow->src, flow->dst);
}

static __always_inline void record(struct stage *stage, u64 begin, u64 end, u64 khz)
{
	/* A stage that the message did not go through. */
	if (!begin || !end)
		return;
	if (end < begin) {
		stage->backwards++;
		return;
	}
	numbers_add(&stage->times, tsc_to_ns(end - begin, khz));
}

PROBE(popcorn_msg_delivered)
{
	struct flow flow = {
		.src = ctx->args[0],
		.dst = ctx->args[1],
		.queue = ctx->args[2],
		.service = ctx->args[4],
	};
	u64 stamp_queued = ctx->args[6], stamp_doorbell = ctx->args[7], stamp_irq = ctx->args[8];
	u64 stamp_poll = ctx->args[9], stamp_delivered = ctx->args[10];
	struct arrivals *arrivals, *empty;
	int zero = 0;
	u64 *khz;

	if (!wanted(&flow))
		return 0;
	khz = tsc_khz.lookup(&zero);
	empty = blank.lookup(&zero);
	if (!khz || !empty)
		return 0;
	arrivals = delivered.lookup_or_try_init(&flow, empty);
	if (!arrivals) {
		count(UNRECORDED);
		return 0;
	}
	arrivals->messages++;
	arrivals->bytes += (u32)ctx->args[5];
	record(&arrivals->stages[QUEUED_DOORBELL], stamp_queued, stamp_doorbell, *khz);
	record(&arrivals->stages[DOORBELL_INTERRUPT], stamp_doorbell, stamp_irq, *khz);
	record(&arrivals->stages[INTERRUPT_POLL], stamp_irq, stamp_poll, *khz);
	record(&arrivals->stages[POLL_DELIVERED], stamp_poll, stamp_delivered, *khz);
	record(&arrivals->stages[QUEUED_DELIVERED], stamp_queued, stamp_delivered, *khz);
	count(DELIVERED);
	return 0;
}

PROBE(popcorn_msg_queued)
{
	struct flow flow = {
		.src = ctx->args[0],
		.dst = ctx->args[1],
		.queue = ctx->args[2],
		.service = ctx->args[4],
	};
	struct departures *departures, none = {};

	if (!wanted(&flow))
		return 0;
	departures = queued.lookup_or_try_init(&flow, &none);
	if (!departures) {
		count(UNRECORDED);
		return 0;
	}
	departures->messages++;
	departures->bytes += (u32)ctx->args[5];
	return 0;
}

PROBE(popcorn_doorbell_sent)
{
	struct pair pair = {
		.src = ctx->args[0],
		.dst = ctx->args[1],
	};
	u64 *rung, none = 0;

	if (!wanted_node(pair.src, pair.dst))
		return 0;
	rung = doorbells.lookup_or_try_init(&pair, &none);
	if (rung)
		(*rung)++;
	else
		count(UNRECORDED);
	return 0;
}
