// SPDX-License-Identifier: GPL-2.0
/*
 * Every event of the module, one by one, for a timeline.
 *
 * Built by bcc, with -DPAGES=n (of the buffer, a power of two). No kernel header, and raw tracepoints: see
 * latency.bpf.c.
 */
#include "probe.bpf.h"

/* In the order of EVENTS in record.py. */
enum event_kind {
	MSG_QUEUED,
	DOORBELL_SENT,
	DOORBELL_IRQ,
	MSG_DELIVERED,
	POLL,
	CHANNEL_FULL,
	CHANNEL_ROOM,
	SERVICE_PEER,
	NODE_STATE,
	KERNEL_STATE,
	KERNEL_STAGE,
	NET_TRANSMIT,
	NET_RECEIVE,
	NET_DROP,
	TTY_TRANSMIT,
	TTY_RECEIVE,
	KINDS
};

/*
 * As EVENT in record.py has it. The stamps of most events are fewer, and end the record early; where the words do not
 * suffice, the first stamps are words, too.
 */
struct event {
	u32 kind;
	u32 cpu;
	u32 word[6];
	u64 clock;	/* CLOCK_MONOTONIC, which Python has, too */
	u64 stamp[5];
};

BPF_RINGBUF_OUTPUT(events, PAGES);
BPF_PERCPU_ARRAY(seen, u64, KINDS);
/* Those that the buffer had no room for. */
BPF_PERCPU_ARRAY(lost, u64, KINDS);

static __always_inline void emit(struct event *event, u64 bytes)
{
	int kind = event->kind;
	u64 *counter = seen.lookup(&kind);

	if (counter)
		(*counter)++;
	if (!events.ringbuf_output(event, bytes, 0))
		return;
	counter = lost.lookup(&kind);
	if (counter)
		(*counter)++;
}

/* An event with @words arguments that are words, and then @stamps that are stamps. bcc rewrites no maps in here. */
#define RECORD(number, words, stamps)								\
do {												\
	struct event event = { .kind = number, .cpu = bpf_get_smp_processor_id() };		\
												\
	event.clock = bpf_ktime_get_ns();							\
	for (int i = 0; i < (words); i++)							\
		event.word[i] = ctx->args[i];							\
	for (int i = 0; i < (stamps); i++)							\
		event.stamp[i] = ctx->args[(words) + i];					\
	emit(&event, sizeof(event) - (5 - (stamps)) * sizeof(u64));				\
} while (0)

PROBE(popcorn_msg_queued)
{
	RECORD(MSG_QUEUED, 6, 1);
	return 0;
}

PROBE(popcorn_doorbell_sent)
{
	RECORD(DOORBELL_SENT, 5, 1);
	return 0;
}

PROBE(popcorn_doorbell_irq)
{
	RECORD(DOORBELL_IRQ, 2, 1);
	return 0;
}

PROBE(popcorn_msg_delivered)
{
	RECORD(MSG_DELIVERED, 6, 5);
	return 0;
}

PROBE(popcorn_poll)
{
	RECORD(POLL, 4, 2);
	return 0;
}

PROBE(popcorn_channel_full)
{
	RECORD(CHANNEL_FULL, 3, 1);
	return 0;
}

PROBE(popcorn_channel_room)
{
	RECORD(CHANNEL_ROOM, 3, 1);
	return 0;
}

PROBE(popcorn_service_peer)
{
	RECORD(SERVICE_PEER, 4, 1);
	return 0;
}

PROBE(popcorn_node_state)
{
	RECORD(NODE_STATE, 3, 1);
	return 0;
}

PROBE(popcorn_kernel_state)
{
	RECORD(KERNEL_STATE, 2, 1);
	return 0;
}

PROBE(popcorn_kernel_stage)
{
	RECORD(KERNEL_STAGE, 2, 1);
	return 0;
}

PROBE(popcorn_net_transmit)
{
	RECORD(NET_TRANSMIT, 6, 3);
	return 0;
}

PROBE(popcorn_net_receive)
{
	RECORD(NET_RECEIVE, 5, 2);
	return 0;
}

PROBE(popcorn_net_drop)
{
	RECORD(NET_DROP, 6, 2);
	return 0;
}

PROBE(popcorn_tty_transmit)
{
	RECORD(TTY_TRANSMIT, 5, 1);
	return 0;
}

PROBE(popcorn_tty_receive)
{
	RECORD(TTY_RECEIVE, 5, 1);
	return 0;
}
