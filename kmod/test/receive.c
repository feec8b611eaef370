// SPDX-License-Identifier: GPL-2.0
/*
 * The receiving side: every message is checked and counted.
 */
#include <linux/kernel.h>
#include <asm/tsc.h>

#include "stress.h"

static void stress_count(struct stress_rx *rx, enum stress_count count, u64 add)
{
	WRITE_ONCE(rx->count[count], rx->count[count] + add);
}

static bool stress_is_gone(const struct stress_peer *peer, u32 incarnation)
{
	u32 i;

	for (i = 0; i < min_t(u32, peer->nr_gone, STRESS_GONE); i++)
		if (peer->gone[i] == incarnation)
			return true;
	return false;
}

/*
 * A node that came up may be a new incarnation, or the old one that was only slow. Until it says so, what comes from
 * the old one is put aside: it was stale if a new one shows itself.
 */
static bool stress_knows(struct stress_peer *peer, struct stress_rx *rx, const struct stress_head *head)
{
	bool known = true;

	if (likely(head->from == rx->from && !READ_ONCE(peer->meeting)))
		return true;
	spin_lock(&peer->lock);
	if (head->from == peer->from) {
		peer->early += peer->meeting && head->kind != STRESS_HELLO;
	} else if (!peer->meeting || stress_is_gone(peer, head->from)) {
		known = false;
	} else {
		stress_count(rx, STRESS_STALE, peer->early);
		peer->early = 0;
		if (peer->from)
			peer->gone[peer->nr_gone++ % STRESS_GONE] = peer->from;
		WRITE_ONCE(peer->from, head->from);
	}
	if (known && rx->from != peer->from) {
		memset(rx->stream, 0, sizeof(rx->stream));
		rx->from = peer->from;
	}
	if (known && head->kind == STRESS_HELLO) {
		peer->early = 0;
		WRITE_ONCE(peer->meeting, false);
	}
	spin_unlock(&peer->lock);
	return known;
}

static void stress_begin(struct stress_stream *stream, u32 run)
{
	stream->run = run;
	stream->next = 0;
	stream->ended = false;
	bitmap_zero(stream->seen, STRESS_SEEN);
}

/* Of a stream, message @seq came. What was skipped counts as lost until it comes after all. */
static void stress_sequence(struct stress_rx *rx, struct stress_stream *stream, u32 seq)
{
	u32 bit = seq % STRESS_SEEN;

	if (unlikely(seq < stream->next)) {
		if (stream->next - seq > STRESS_SEEN || test_bit(bit, stream->seen)) {
			stress_count(rx, STRESS_TWICE, 1);
		} else {
			stress_count(rx, STRESS_LATE, 1);
			stress_count(rx, STRESS_LOST, -1);
			__set_bit(bit, stream->seen);
		}
		return;
	}
	stress_count(rx, STRESS_LOST, seq - stream->next);
	if (unlikely(seq - stream->next >= STRESS_SEEN)) {
		bitmap_zero(stream->seen, STRESS_SEEN);
		stream->next = seq;
	}
	for (; unlikely(stream->next < seq); stream->next++)
		__clear_bit(stream->next % STRESS_SEEN, stream->seen);
	__set_bit(bit, stream->seen);
	stream->next++;
}

static void stress_data(struct stress_rx *rx, const struct stress_head *head)
{
	struct stress_stream *stream = &rx->stream[head->sender];

	if (unlikely(stream->run != head->run || stream->ended)) {
		/* Every stream begins at 0; the middle of one that was not begun is left over. */
		if (stream->run == head->run || head->seq) {
			stress_count(rx, STRESS_STALE, 1);
			return;
		}
		stress_begin(stream, head->run);
	}
	if (head->kind == STRESS_DATA) {
		stress_sequence(rx, stream, head->seq);
		return;
	}
	stress_count(rx, STRESS_LOST, head->seq - stream->next);
	stress_count(rx, STRESS_ENDED, 1);
	rx->count[STRESS_DONE] = rdtsc();
	stream->ended = true;
}

static void stress_answer(const struct pcn_msg *msg, const struct stress_head *head)
{
	struct stress_head answer = *head;

	answer.kind = STRESS_ANSWER;
	answer.len = sizeof(answer);
	stress_payload_seal(&answer);
	pcn_msg_answer(msg, &answer, sizeof(answer));
}

/**
 * stress_receive() - a message came
 * @service: of which node
 * @msg: it
 */
void stress_receive(struct pcn_service *service, const struct pcn_msg *msg)
{
	struct stress_node *node = container_of(service, struct stress_node, service);
	struct stress_peer *peer;
	struct stress_head head;
	struct stress_rx *rx;
	const void *rest;

	if (WARN_ON_ONCE(msg->src >= POPCORN_NODES_MAX || !node->peer[msg->src]))
		return;
	peer = node->peer[msg->src];
	rx = &peer->rx[msg->queue % STRESS_QUEUES];
	if (unlikely(!READ_ONCE(peer->up)))
		stress_count(rx, STRESS_UNASKED, 1);
	if (!stress_payload_open(msg, &head, &rest) || head.queue != msg->queue ||
	    head.sender >= STRESS_SENDERS || msg->queue >= STRESS_QUEUES ||
	    (head.kind < STRESS_START && !stress_payload_verify(rest, head.check, head.len - sizeof(head)))) {
		stress_count(rx, STRESS_DAMAGED, 1);
		return;
	}
	if (!stress_knows(peer, rx, &head)) {
		stress_count(rx, STRESS_STALE, 1);
		return;
	}
	if (head.to && head.to != node->incarnation) {
		stress_count(rx, STRESS_MISSENT, 1);
		return;
	}
	switch (head.kind) {
	case STRESS_DATA:
		stress_count(rx, STRESS_RECEIVED, 1);
		stress_count(rx, STRESS_BYTES_IN, head.len);
		stress_data(rx, &head);
		if (msg->call)
			stress_answer(msg, &head);
		break;
	case STRESS_END:
		stress_data(rx, &head);
		break;
	case STRESS_NOTE:
		stress_count(rx, STRESS_NOTES, 1);
		if (msg->call)
			stress_answer(msg, &head);
		break;
	case STRESS_HELLO:
		wake_up_all(&node->wait);
		if (head.flags) {
			WRITE_ONCE(peer->hello_flags, 0);
			queue_work(stress_control_wq, &peer->hello);
		}
		break;
	default:
		stress_control_take(node, msg->src, &head, rest);
	}
}

/**
 * stress_receive_up() - a peer is there
 * @service: of which node
 * @id: its id
 */
void stress_receive_up(struct pcn_service *service, u32 id)
{
	struct stress_node *node = container_of(service, struct stress_node, service);
	struct stress_peer *peer = node->peer[id];

	spin_lock(&peer->lock);
	peer->count[STRESS_UPS]++;
	peer->count[STRESS_DISORDER] += peer->up;
	peer->early = 0;
	peer->meeting = true;
	WRITE_ONCE(peer->up, true);
	WRITE_ONCE(peer->hello_flags, 1);
	spin_unlock(&peer->lock);
	queue_work(stress_control_wq, &peer->hello);
}

/**
 * stress_receive_down() - a peer is gone
 * @service: of which node
 * @id: its id
 */
void stress_receive_down(struct pcn_service *service, u32 id)
{
	struct stress_node *node = container_of(service, struct stress_node, service);
	struct stress_peer *peer = node->peer[id];

	spin_lock(&peer->lock);
	peer->count[STRESS_DOWNS]++;
	peer->count[STRESS_DISORDER] += !peer->up;
	WRITE_ONCE(peer->up, false);
	spin_unlock(&peer->lock);
	wake_up_all(&node->wait);
}

/**
 * stress_receive_room() - a send may be tried again
 * @service: of which node
 * @id: where to
 */
void stress_receive_room(struct pcn_service *service, u32 id)
{
	struct stress_node *node = container_of(service, struct stress_node, service);

	WRITE_ONCE(node->peer[id]->rooms, node->peer[id]->rooms + 1);
	wake_up_all(&node->wait);
}
