// SPDX-License-Identifier: GPL-2.0
/*
 * Every message that is delivered, with the stamps of its stages, one by one.
 *
 * Built by bcc, with -DTSC_KHZ=n and -DPAGES=n (of the buffer, a power of two), and perhaps
 * -DONLY_NODE=id, -DONLY_SERVICE=id, -DLEN_MIN=bytes, -DLEN_MAX=bytes and -DSLOWER_CYCLES=n. No kernel
 * header, and raw tracepoints: see latency.bpf.c.
 */
enum counter_id {
	DELIVERED,	/* messages that the filters but the time let through */
	SLOW,		/* those that took long enough, to be shown */
	LOST,		/* those of them that the buffer had no room for */
	COUNTERS
};

/* As class Event in flow.py has it. */
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
	u32 reserved;
};

BPF_RINGBUF_OUTPUT(events, PAGES);
BPF_PERCPU_ARRAY(counters, u64, COUNTERS);

static __always_inline void count(int which)
{
	u64 *counter = counters.lookup(&which);

	if (counter)
		(*counter)++;
}

static __always_inline bool wanted(const struct event *event)
{
#ifdef ONLY_NODE
	if (event->src != ONLY_NODE && event->dst != ONLY_NODE)
		return false;
#endif
#ifdef ONLY_SERVICE
	if (event->service != ONLY_SERVICE)
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

RAW_TRACEPOINT_PROBE(popcorn_msg_delivered)
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

	if (!wanted(&event))
		return 0;
	count(DELIVERED);
#ifdef SLOWER_CYCLES
	if (event.delivered < event.queued || event.delivered - event.queued <= SLOWER_CYCLES)
		return 0;
#endif
	count(SLOW);
	if (events.ringbuf_output(&event, sizeof(event), 0))
		count(LOST);
	return 0;
}
