// SPDX-License-Identifier: GPL-2.0
/*
 * Packets of links: how many and how long, how long they took from the sender's link to the receiver's stack, and
 * which were dropped for what.
 *
 * Built by bcc, perhaps with -DONLY_NODE=id, -DONLY_LINK=node (a node has one link). No kernel
 * header, and raw tracepoints: see latency.bpf.c.
 */
#include "numbers.bpf.h"
#include "probe.bpf.h"

#define FLOWS_MAX 256	/* ordered pairs of nodes, times queues */
#define DROPS_MAX 1024	/* the same, for several reasons */

enum counter_id {
	PACKETS,	/* sent and received, for a limit on them */
	UNRECORDED,	/* events that a full map had no room for */
	COUNTERS
};

struct flow {
	u32 src;
	u32 dst;
	u32 queue;
};

struct cause {
	u32 node;	/* whose link */
	u32 peer;
	u32 queue;
	u32 rx;
	u32 reason;
};

struct sent {
	u64 packets;	/* whose first copy this was, as tx_packets; their bytes, as tx_bytes */
	u64 bytes;
	u64 merged;	/* copies that stand for several segments, and for how many */
	u64 segments;
	struct numbers sizes;
};

struct received {
	u64 backwards;	/* queued after they were received, by a broken sender; in no time here */
	struct numbers sizes;
	struct numbers times;
};

struct dropped {
	u64 packets;
	u64 bytes;
};

/* All maps are per CPU: counting takes no lock and loses nothing. */
BPF_TABLE("percpu_hash", struct flow, struct sent, sent, FLOWS_MAX);
BPF_TABLE("percpu_hash", struct flow, struct received, received, FLOWS_MAX);
BPF_TABLE("percpu_hash", struct cause, struct dropped, dropped, DROPS_MAX);
BPF_PERCPU_ARRAY(counters, u64, COUNTERS);
/* To begin with, as they are too large for the stack. Never written. */
BPF_PERCPU_ARRAY(none_sent, struct sent, 1);
BPF_PERCPU_ARRAY(none_received, struct received, 1);
/* The rate of the time stamp counter, set before the first event: a kernel may measure it anew at each boot. */
BPF_ARRAY(tsc_khz, u64, 1);

static __always_inline void count(int which)
{
	u64 *counter = counters.lookup(&which);

	if (counter)
		(*counter)++;
}

static __always_inline bool wanted(u32 link, u32 peer)
{
#ifdef ONLY_LINK
	if (link != ONLY_LINK)
		return false;
#endif
#ifdef ONLY_NODE
	if (link != ONLY_NODE && peer != ONLY_NODE)
		return false;
#endif
	return true;
}

PROBE(popcorn_net_transmit)
{
	struct flow flow = {
		.src = ctx->args[1],
		.dst = ctx->args[2],
		.queue = ctx->args[3],
	};
	u64 len = (u32)ctx->args[4], gso_size = (u32)ctx->args[5], gso_segs = (u32)ctx->args[6];
	struct sent *found, *none;
	int zero = 0;

	if (!wanted(flow.src, flow.dst))
		return 0;
	none = none_sent.lookup(&zero);
	if (!none)
		return 0;
	found = sent.lookup_or_try_init(&flow, none);
	if (!found) {
		count(UNRECORDED);
		return 0;
	}
	if ((u32)ctx->args[7]) {
		found->packets++;
		found->bytes += len;
	}
	if (gso_size) {
		found->merged++;
		found->segments += gso_segs;
	}
	numbers_add(&found->sizes, len);
	count(PACKETS);
	return 0;
}

PROBE(popcorn_net_receive)
{
	struct flow flow = {
		.src = ctx->args[1],
		.dst = ctx->args[2],
		.queue = ctx->args[3],
	};
	u64 len = (u32)ctx->args[4], queued = ctx->args[5], now = ctx->args[6], *khz;
	struct received *found, *none;
	int zero = 0;

	if (!wanted(flow.dst, flow.src))
		return 0;
	khz = tsc_khz.lookup(&zero);
	none = none_received.lookup(&zero);
	if (!khz || !none)
		return 0;
	found = received.lookup_or_try_init(&flow, none);
	if (!found) {
		count(UNRECORDED);
		return 0;
	}
	numbers_add(&found->sizes, len);
	count(PACKETS);
	if (now < queued) {
		found->backwards++;
		return 0;
	}
	numbers_add(&found->times, tsc_to_ns(now - queued, *khz));
	return 0;
}

PROBE(popcorn_net_drop)
{
	struct cause cause = {
		.node = ctx->args[1],
		.peer = ctx->args[2],
		.queue = ctx->args[3],
		.rx = ctx->args[4],
		.reason = ctx->args[5],
	};
	struct dropped *found, none = {};

	if (!wanted(cause.node, cause.peer))
		return 0;
	found = dropped.lookup_or_try_init(&cause, &none);
	if (!found) {
		count(UNRECORDED);
		return 0;
	}
	found->packets++;
	found->bytes += (u32)ctx->args[6];
	return 0;
}
