// SPDX-License-Identifier: GPL-2.0
/*
 * The sending side: a thread for each stream.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <asm/tsc.h>

#include "stress.h"

#define STRESS_TURN	64		/* messages until the next mode has its turn */
#define STRESS_BATCH	16
#define STRESS_CALLS_EVERY	16
#define STRESS_WAIT_MS	20000		/* longer than anybody should wait for room */

/**
 * struct stress_batch - where messages that go at once are made: too much for the stack of a thread
 * @message: heads, and what follows one that fits a slot
 * @out: as the core takes them
 * @body: of those that do not fit a slot
 */
struct stress_batch {
	struct {
		struct stress_head head;
		u8 rest[PCN_SHM_INLINE_BYTES - sizeof(struct stress_head)];
	} __aligned(8) message[STRESS_BATCH];
	struct pcn_out out[STRESS_BATCH];
	struct pcn_body body[STRESS_BATCH];
};

static void stress_count(struct stress_tx *tx, enum stress_count count, u64 add)
{
	WRITE_ONCE(tx->count[count], tx->count[count] + add);
}

static void stress_error(struct stress_tx *tx, int error)
{
	/* Told to stop in the middle of waiting. */
	if (error == -ERESTARTSYS)
		return;
	stress_count(tx, STRESS_ERRORS, 1);
	WRITE_ONCE(tx->count[STRESS_ERROR], -error);
}

static u32 stress_stream(const struct stress_tx *tx)
{
	return tx->queue * STRESS_SENDERS + tx->sender;
}

static void stress_head(const struct stress_tx *tx, u8 kind, u32 seq, u32 len, struct stress_head *head)
{
	*head = (struct stress_head) {
		.kind = kind,
		.queue = tx->queue,
		.sender = tx->sender,
		.from = tx->peer->node->incarnation,
		.to = tx->to,
		.run = tx->spec.run,
		.seq = seq,
		.len = len,
	};
	stress_payload_seal(head);
}

/* The whole of the next message into the buffer. Returns its length. */
static u32 stress_make(struct stress_tx *tx)
{
	u32 len = stress_payload_len(&tx->spec, stress_stream(tx), tx->seq);
	struct stress_head *head = tx->buffer;

	stress_head(tx, STRESS_DATA, tx->seq, len, head);
	stress_payload_fill(head + 1, head->check, len - sizeof(*head));
	return len;
}

static void stress_sent(struct stress_tx *tx, u32 len)
{
	tx->seq++;
	stress_count(tx, STRESS_SENT, 1);
	stress_count(tx, STRESS_SENT_BYTES, len);
}

static int stress_send_wait(struct stress_tx *tx)
{
	u32 len = stress_make(tx);
	int ret = pcn_service_send_wait(&tx->peer->node->service, tx->peer->id, tx->queue, tx->buffer, len,
					STRESS_WAIT_MS);

	if (ret == -EAGAIN)
		stress_count(tx, STRESS_STARVED, 1);
	if (!ret)
		stress_sent(tx, len);
	return ret == -EAGAIN ? 0 : ret;
}

/* There was no room after @rooms tellings of it: wait for the next one. */
static void stress_wait_for_room(struct stress_tx *tx, u32 rooms)
{
	struct stress_peer *peer = tx->peer;

	stress_count(tx, STRESS_FULL, 1);
	if (!wait_event_interruptible_timeout(peer->node->wait,
					      READ_ONCE(peer->rooms) != rooms || !READ_ONCE(peer->up),
					      msecs_to_jiffies(STRESS_WAIT_MS)))
		stress_count(tx, STRESS_STARVED, 1);
}

/* Up to @nr messages at once. Only as many of them as there is room for have a body. */
static int stress_send_batch(struct stress_tx *tx, u32 nr)
{
	struct pcn_service *service = &tx->peer->node->service;
	struct stress_batch *batch = tx->batch;
	u32 rooms = READ_ONCE(tx->peer->rooms), left, i;
	int ret = 0, sent;

	memset(batch->out, 0, sizeof(batch->out));
	left = tx->spec.messages ? tx->spec.messages - tx->seq : nr;
	for (i = 0; i < min(nr, left); i++) {
		u32 len = stress_payload_len(&tx->spec, stress_stream(tx), tx->seq + i);
		u32 rest = len - sizeof(struct stress_head);

		stress_head(tx, STRESS_DATA, tx->seq + i, len, &batch->message[i].head);
		batch->out[i].data = &batch->message[i];
		batch->out[i].len = len;
		if (len <= PCN_SHM_INLINE_BYTES) {
			stress_payload_fill(batch->message[i].rest, batch->message[i].head.check, rest);
			continue;
		}
		ret = pcn_service_reserve(service, tx->peer->id, tx->queue, rest, &batch->body[i]);
		if (ret)
			break;
		stress_payload_fill(batch->body[i].data, batch->message[i].head.check, rest);
		batch->out[i].len = sizeof(struct stress_head);
		batch->out[i].body = &batch->body[i];
	}
	nr = i;
	sent = nr ? pcn_service_send_batch(service, tx->peer->id, tx->queue, batch->out, nr) : ret;
	for (i = max(sent, 0); i < nr; i++)
		if (batch->out[i].body)
			pcn_service_release(service, &batch->body[i]);
	for (i = 0; (int)i < sent; i++)
		stress_sent(tx, batch->message[i].head.len);
	if (sent == -EAGAIN) {
		stress_wait_for_room(tx, rooms);
		return 0;
	}
	return min(sent, 0);
}

static int stress_send_again(struct stress_tx *tx)
{
	u32 rooms, len;
	int ret;

	/* The shortest way to send goes through queue 0 only. */
	if (tx->queue)
		return stress_send_batch(tx, 1);
	len = stress_make(tx);
	rooms = READ_ONCE(tx->peer->rooms);
	ret = pcn_service_send(&tx->peer->node->service, tx->peer->id, tx->buffer, len);
	if (ret == -EAGAIN) {
		stress_wait_for_room(tx, rooms);
		return 0;
	}
	if (!ret)
		stress_sent(tx, len);
	return ret;
}

static int stress_send_call(struct stress_tx *tx)
{
	u64 answer[PCN_SHM_INLINE_BYTES / 8];
	struct stress_head head, want;
	int ret;

	stress_head(tx, STRESS_DATA, tx->seq, sizeof(head), &head);
	stress_head(tx, STRESS_ANSWER, tx->seq, sizeof(head), &want);
	ret = pcn_service_call(&tx->peer->node->service, tx->peer->id, tx->queue, &head, sizeof(head), answer,
			       STRESS_WAIT_MS);
	if (ret == -EAGAIN) {
		stress_count(tx, STRESS_STARVED, 1);
		return 0;
	}
	if (ret >= 0 || ret == -ETIMEDOUT || ret == -EOPNOTSUPP || ret == -ERESTARTSYS) {
		stress_sent(tx, sizeof(head));
		/* Told to stop while the answer was on its way. */
		if (ret == -ERESTARTSYS)
			return ret;
		if (ret == sizeof(want) && !memcmp(answer, &want, sizeof(want)))
			stress_count(tx, STRESS_CALLS, 1);
		else
			stress_error(tx, ret < 0 ? ret : -EBADMSG);
		return 0;
	}
	return ret;
}

static int stress_send_some(struct stress_tx *tx)
{
	u32 modes = tx->spec.modes, turn = tx->seq / STRESS_TURN % hweight32(modes);

	for (; turn; turn--)
		modes &= modes - 1;
	switch (modes & -modes) {
	case STRESS_MODE_WAIT:
		return stress_send_wait(tx);
	case STRESS_MODE_AGAIN:
		return stress_send_again(tx);
	case STRESS_MODE_BATCH:
		return stress_send_batch(tx, 1 + tx->seq % STRESS_BATCH);
	default:
		/* Each of them takes a round trip, and the CPUs may be busy with something else. */
		return tx->seq % STRESS_CALLS_EVERY ? stress_send_wait(tx) : stress_send_call(tx);
	}
}

static bool stress_ready(const struct stress_tx *tx)
{
	const struct stress_peer *peer = tx->peer;

	return READ_ONCE(peer->up) && !READ_ONCE(peer->meeting) && READ_ONCE(peer->from);
}

/* Tells the receiver how many there were. */
static void stress_end(struct stress_tx *tx)
{
	struct stress_head head;
	int ret, tries;

	stress_head(tx, STRESS_END, tx->seq, sizeof(head), &head);
	for (tries = 0; tries < 3 && stress_ready(tx) && READ_ONCE(tx->peer->from) == tx->to; tries++) {
		ret = pcn_service_send_wait(&tx->peer->node->service, tx->peer->id, tx->queue, &head, sizeof(head),
					    STRESS_WAIT_MS);
		if (!ret || ret == -ENOTCONN)
			return;
		stress_error(tx, ret);
	}
}

static bool stress_goes_on(struct stress_tx *tx)
{
	u32 queues;

	if (READ_ONCE(tx->stop))
		return false;
	if (!stress_ready(tx))
		return true;
	queues = pcn_service_queues(&tx->peer->node->service, tx->peer->id);
	/* The peer may have fewer queues than this thread was made for. */
	if (queues && tx->queue >= queues)
		return false;
	return !tx->spec.messages || tx->to != READ_ONCE(tx->peer->from) || tx->seq < tx->spec.messages;
}

static void stress_pause(struct stress_tx *tx, u32 before)
{
	if (tx->spec.pause_us && before / STRESS_TURN != tx->seq / STRESS_TURN)
		fsleep(tx->spec.pause_us);
	cond_resched();
}

static int stress_thread(void *arg)
{
	struct stress_tx *tx = arg;
	struct stress_peer *peer = tx->peer;
	int ret;

	WRITE_ONCE(tx->count[STRESS_BEGAN], rdtsc());
	while (stress_goes_on(tx)) {
		u32 before = tx->seq;

		if (!stress_ready(tx)) {
			wait_event_interruptible_timeout(peer->node->wait, READ_ONCE(tx->stop) || stress_ready(tx),
							 HZ);
			continue;
		}
		if (tx->to != READ_ONCE(peer->from)) {
			/* A new incarnation of the peer has received nothing yet. */
			tx->to = READ_ONCE(peer->from);
			tx->seq = 0;
			continue;
		}
		ret = stress_send_some(tx);
		if (ret && ret != -ENOTCONN)
			stress_error(tx, ret);
		if (ret)
			schedule_timeout_interruptible(1);
		stress_pause(tx, before);
	}
	if (tx->to)
		stress_end(tx);
	WRITE_ONCE(tx->done, true);
	return 0;
}

static void stress_free_room(struct stress_tx *tx)
{
	kvfree(tx->buffer);
	tx->buffer = NULL;
	kfree(tx->batch);
	tx->batch = NULL;
}

static void stress_reap(struct stress_tx *tx)
{
	if (!tx->task)
		return;
	kthread_stop(tx->task);
	put_task_struct(tx->task);
	tx->task = NULL;
	stress_free_room(tx);
}

static int stress_start(struct stress_tx *tx, const struct stress_spec *spec)
{
	struct task_struct *task;

	if (tx->task && !READ_ONCE(tx->done))
		return -EBUSY;
	stress_reap(tx);
	tx->buffer = kvmalloc(max_t(u32, spec->max, PCN_SHM_INLINE_BYTES), GFP_KERNEL);
	tx->batch = kmalloc(sizeof(*tx->batch), GFP_KERNEL);
	if (!tx->buffer || !tx->batch) {
		stress_free_room(tx);
		return -ENOMEM;
	}
	tx->spec = *spec;
	tx->stop = false;
	tx->done = false;
	tx->to = 0;
	tx->seq = 0;
	task = kthread_create(stress_thread, tx, "stress/%u>%u.%u.%u", stress_node_id(tx->peer->node), tx->peer->id,
			      tx->queue, tx->sender);
	if (IS_ERR(task)) {
		stress_free_room(tx);
		return PTR_ERR(task);
	}
	tx->task = get_task_struct(task);
	/* Of a queue's senders each has another CPU to begin with; where it goes on is the scheduler's. */
	set_cpus_allowed_ptr(task, cpumask_of(cpumask_nth(stress_stream(tx) % num_online_cpus(), cpu_online_mask)));
	set_cpus_allowed_ptr(task, cpu_possible_mask);
	wake_up_process(task);
	return 0;
}

static bool stress_spec_is_good(const struct stress_spec *spec)
{
	return spec->run && spec->to && spec->queues && spec->queues <= STRESS_QUEUES && spec->senders &&
	       spec->senders <= STRESS_SENDERS && spec->max <= STRESS_BYTES && spec->modes &&
	       spec->modes < 2 * STRESS_MODE_CALL && spec->in_slot <= 1000 && spec->small <= 1000 &&
	       spec->pause_us <= USEC_PER_SEC;
}

/**
 * stress_send_start() - begin streams
 * @node: from which node; the caller serialises
 * @spec: what is wanted; its own node is left out
 *
 * Return: 0, -EINVAL, -EBUSY where one is being sent, -ENOMEM.
 */
int stress_send_start(struct stress_node *node, const struct stress_spec *spec)
{
	u32 id, queue, sender;
	int ret;

	if (!stress_spec_is_good(spec))
		return -EINVAL;
	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		if (!(spec->to & BIT(id)) || !node->peer[id] || id == stress_node_id(node))
			continue;
		for (queue = 0; queue < spec->queues; queue++) {
			for (sender = 0; sender < spec->senders; sender++) {
				ret = stress_start(&node->peer[id]->tx[queue][sender], spec);
				if (ret)
					return ret;
			}
		}
	}
	return 0;
}

/**
 * stress_send_stop() - end all streams
 * @node: of which node; the caller serialises
 */
void stress_send_stop(struct stress_node *node)
{
	u32 id, i;

	for (id = 0; id < POPCORN_NODES_MAX; id++)
		for (i = 0; node->peer[id] && i < STRESS_QUEUES * STRESS_SENDERS; i++)
			WRITE_ONCE(node->peer[id]->tx[i / STRESS_SENDERS][i % STRESS_SENDERS].stop, true);
	wake_up_all(&node->wait);
	for (id = 0; id < POPCORN_NODES_MAX; id++)
		for (i = 0; node->peer[id] && i < STRESS_QUEUES * STRESS_SENDERS; i++)
			stress_reap(&node->peer[id]->tx[i / STRESS_SENDERS][i % STRESS_SENDERS]);
}

/**
 * stress_send_running() - how many streams are being sent
 * @peer: to which node
 */
u32 stress_send_running(const struct stress_peer *peer)
{
	u32 nr = 0, i;

	for (i = 0; i < STRESS_QUEUES * STRESS_SENDERS; i++) {
		const struct stress_tx *tx = &peer->tx[i / STRESS_SENDERS][i % STRESS_SENDERS];

		nr += READ_ONCE(tx->task) && !READ_ONCE(tx->done);
	}
	return nr;
}

/**
 * stress_send_word() - send a message that is in no stream, through queue 0
 * @node: from which node
 * @dst: where to
 * @kind: enum stress_kind
 * @flags: of that kind
 * @data: its content; NULL for a kind that has none of its own
 * @len: its bytes
 *
 * May sleep. Return: as pcn_service_send_wait().
 */
int stress_send_word(struct stress_node *node, u32 dst, u8 kind, u8 flags, const void *data, u32 len)
{
	struct stress_head *head;
	u32 bytes = sizeof(*head) + len;
	int ret;

	head = kvzalloc(bytes, GFP_KERNEL);
	if (!head)
		return -ENOMEM;
	head->kind = kind;
	head->flags = flags;
	head->from = node->incarnation;
	head->len = bytes;
	if (data)
		memcpy(head + 1, data, len);
	if (kind >= STRESS_START)
		head->seq = stress_payload_sum(head + 1, len);
	stress_payload_seal(head);
	if (kind < STRESS_START)
		stress_payload_fill(head + 1, head->check, len);
	ret = pcn_service_send_wait(&node->service, dst, 0, head, bytes, STRESS_WAIT_MS);
	kvfree(head);
	return ret;
}
