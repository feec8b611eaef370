/* SPDX-License-Identifier: GPL-2.0 */
/*
 * popcorn_stress.ko, for the tests: streams of messages whose every byte is known. What was lost, came twice, out
 * of order, damaged or from an incarnation that is gone is counted where it arrives.
 *
 *	control.c	what is asked for, by debugfs here and by messages from elsewhere
 *	send.c		a thread for each stream
 *	receive.c	what comes is checked
 *	payload.c	what a message looks like
 */
#ifndef _PCN_STRESS_H
#define _PCN_STRESS_H

#include <linux/bitmap.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "popcorn.h"

#define STRESS_QUEUES	4		/* that streams go through */
#define STRESS_SENDERS	4		/* streams of one queue, each with a thread of its own */
#define STRESS_SEEN	4096		/* messages of a stream that are told from those that come twice */
#define STRESS_BYTES	(64 << 10)	/* longest message of a stream */

/**
 * enum stress_kind - what a message is
 * @STRESS_HELLO: which incarnation this is; with flag 1 the other one is to say so too
 * @STRESS_DATA: a message of a stream
 * @STRESS_END: the end of a stream; its number is how many there were
 * @STRESS_ANSWER: of a message of a stream that was a call
 * @STRESS_NOTE: a message that is only counted
 * @STRESS_START: streams are to be sent, struct stress_spec
 * @STRESS_STOP: no more
 * @STRESS_RESET: counts begin at 0
 * @STRESS_ASK: reports are asked for
 * @STRESS_REPORT: what one kernel knows of one node, struct stress_report
 * @STRESS_CRASH: that kernel is to end; enum stress_crash is its flag
 *
 * Of those with content of their own, from START on, @seq of the head is its sum.
 */
enum stress_kind {
	STRESS_HELLO = 1,
	STRESS_DATA,
	STRESS_END,
	STRESS_ANSWER,
	STRESS_NOTE,
	STRESS_START,
	STRESS_STOP,
	STRESS_RESET,
	STRESS_ASK,
	STRESS_REPORT,
	STRESS_CRASH,
};

/**
 * enum stress_crash - how a kernel is to end
 * @STRESS_PANIC: by a panic in a work
 * @STRESS_PANIC_HERE: by one where the order is received
 * @STRESS_HANG: all of its CPUs loop with interrupts off, in stress_hang_loop()
 */
enum stress_crash {
	STRESS_PANIC,
	STRESS_PANIC_HERE,
	STRESS_HANG,
};

/**
 * struct stress_head - what each message begins with
 * @kind: enum stress_kind
 * @queue: that it was sent through
 * @sender: thread that sent it
 * @flags: of its kind
 * @from: incarnation of the sender, a random number
 * @to: incarnation of the receiver that it is for, as far as the sender knows; 0 for any
 * @run: which run it is part of
 * @seq: its number in the stream
 * @len: bytes of the whole message
 * @check: of the above; what follows is generated from it
 */
struct stress_head {
	__u8 kind;
	__u8 queue;
	__u8 sender;
	__u8 flags;
	__u32 from;
	__u32 to;
	__u32 run;
	__u32 seq;
	__u32 len;
	__u64 check;
};

enum stress_mode {
	STRESS_MODE_WAIT = 1,	/* sends that block */
	STRESS_MODE_AGAIN = 2,	/* sends that are tried again when room is told of */
	STRESS_MODE_BATCH = 4,	/* several at once, bodies written in place */
	STRESS_MODE_CALL = 8,	/* calls, answered in place, among sends that block */
};

/**
 * struct stress_spec - a run
 * @run: its number
 * @to: nodes, bit by id
 * @queues: of each
 * @senders: streams of each queue
 * @messages: of each stream, 0 for as many as there is time for
 * @in_slot: of 1000 messages, those that fit a slot
 * @small: likewise, those of less than 1 KiB
 * @max: bytes of all others, at most
 * @modes: enum stress_mode, in turns
 * @pause_us: after each 64 messages
 */
struct stress_spec {
	__u32 run;
	__u32 to;
	__u32 queues;
	__u32 senders;
	__u32 messages;
	__u32 in_slot;
	__u32 small;
	__u32 max;
	__u32 modes;
	__u32 pause_us;
};

enum stress_count {
	STRESS_SENT,		/* messages of streams */
	STRESS_SENT_BYTES,
	STRESS_CALLS,		/* of them, those that were answered */
	STRESS_FULL,		/* attempts that found no room */
	STRESS_STARVED,		/* waits for room that lasted for too long */
	STRESS_ERRORS,		/* errors that there should not be */
	STRESS_ERROR,		/* the last of them */
	STRESS_RECEIVED,
	STRESS_BYTES_IN,
	STRESS_NOTES,
	STRESS_LOST,
	STRESS_TWICE,
	STRESS_LATE,		/* after a message that was sent later */
	STRESS_DAMAGED,
	STRESS_STALE,		/* from a former incarnation of the sender */
	STRESS_MISSENT,		/* for a former incarnation of this node */
	STRESS_UNASKED,		/* outside of peer_up and peer_down */
	STRESS_ENDED,		/* streams that came to their end */
	STRESS_UPS,
	STRESS_DOWNS,
	STRESS_DISORDER,	/* up while up, or down while down */
	STRESS_BEGAN,		/* TSC when the last stream began to be sent */
	STRESS_DONE,		/* TSC when the last stream came to its end */
	STRESS_COUNTS,
};

/**
 * struct stress_report - what one node knows of another one
 * @node: the one
 * @peer: the other one, POPCORN_NODES_MAX after the last
 * @up: it is up
 * @running: streams to it
 * @count: enum stress_count
 */
struct stress_report {
	__u32 node;
	__u32 peer;
	__u32 up;
	__u32 running;
	__u64 count[STRESS_COUNTS];
};

/**
 * struct stress_stream - a stream that is received
 * @run: which
 * @next: number that comes next
 * @ended: it came to its end
 * @seen: those that came, by their number modulo STRESS_SEEN
 */
struct stress_stream {
	u32 run;
	u32 next;
	bool ended;
	DECLARE_BITMAP(seen, STRESS_SEEN);
};

/**
 * struct stress_rx - what comes from one node through one queue; one message at a time
 * @from: incarnation that @stream belongs to
 * @stream: by sender
 * @count: enum stress_count
 */
struct stress_rx {
	u32 from;
	struct stress_stream stream[STRESS_SENDERS];
	u64 count[STRESS_COUNTS];
};

/**
 * struct stress_tx - a stream that is sent
 * @peer: where to
 * @queue: through which queue
 * @sender: number of the thread
 * @spec: what
 * @task: the thread, NULL while there is none
 * @stop: it is to end the stream
 * @done: it did
 * @to: incarnation of the peer that @seq counts for
 * @seq: number of the next message
 * @buffer: where messages are made, @spec.max bytes
 * @batch: where those that go at once are made
 * @count: enum stress_count
 */
struct stress_tx {
	struct stress_peer *peer;
	u32 queue;
	u32 sender;
	struct stress_spec spec;
	struct task_struct *task;
	bool stop;
	bool done;
	u32 to;
	u32 seq;
	void *buffer;
	struct stress_batch *batch;
	u64 count[STRESS_COUNTS];
};

#define STRESS_GONE	256	/* incarnations that are remembered */

/**
 * struct stress_peer - another node
 * @node: who knows it
 * @id: its id
 * @lock: serialises what follows, up to @gone
 * @from: its incarnation
 * @meeting: it came up and has not said who it is
 * @early: messages of the old incarnation since it came up
 * @nr_gone: incarnations that are no more
 * @gone: the last of them
 * @up: between its peer_up and its peer_down
 * @hello: says who we are
 * @hello_flags: of that
 * @rooms: how often there was room again
 * @count: enum stress_count
 * @rx: by queue
 * @tx: by queue and sender
 */
struct stress_peer {
	struct stress_node *node;
	u32 id;
	spinlock_t lock;
	u32 from;
	bool meeting;
	u64 early;
	u32 nr_gone;
	u32 gone[STRESS_GONE];
	bool up;
	struct work_struct hello;
	u8 hello_flags;
	u32 rooms;
	u64 count[STRESS_COUNTS];
	struct stress_rx rx[STRESS_QUEUES];
	struct stress_tx tx[STRESS_QUEUES][STRESS_SENDERS];
};

/**
 * struct stress_node - a node that this kernel is; one, but for loopback
 * @service: "test.stress" there
 * @incarnation: a random number
 * @wait: for room, and for peers
 * @peer: by id
 */
struct stress_node {
	struct pcn_service service;
	u32 incarnation;
	wait_queue_head_t wait;
	struct stress_peer *peer[POPCORN_NODES_MAX];
};

/* payload.c */
void stress_payload_seal(struct stress_head *head);
void stress_payload_fill(void *to, u64 check, u32 len);
bool stress_payload_open(const struct pcn_msg *msg, struct stress_head *head, const void **rest);
bool stress_payload_verify(const void *rest, u64 check, u32 len);
u32 stress_payload_sum(const void *data, u32 len);
u32 stress_payload_len(const struct stress_spec *spec, u32 stream, u32 seq);

/* send.c */
int stress_send_start(struct stress_node *node, const struct stress_spec *spec);
void stress_send_stop(struct stress_node *node);
u32 stress_send_running(const struct stress_peer *peer);
int stress_send_word(struct stress_node *node, u32 dst, u8 kind, u8 flags, const void *data, u32 len);

/* receive.c */
void stress_receive(struct pcn_service *service, const struct pcn_msg *msg);
void stress_receive_up(struct pcn_service *service, u32 node);
void stress_receive_down(struct pcn_service *service, u32 node);
void stress_receive_room(struct pcn_service *service, u32 node);

/* control.c */
extern struct workqueue_struct *stress_control_wq;

void stress_control_take(struct stress_node *node, u32 src, const struct stress_head *head, const void *rest);

static inline u32 stress_node_id(const struct stress_node *node)
{
	return pcn_service_node(&node->service);
}

#endif
