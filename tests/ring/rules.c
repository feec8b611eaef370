// SPDX-License-Identifier: GPL-2.0
/*
 * What the interface promises, one by one.
 */
#include "pair.h"

static void rule_done(void)
{
	struct pair p = pair_new(5);
	struct pcn_ring_msg msgs[SLOTS];
	u32 i;

	for (i = 0; i < SLOTS; i++)
		send_one(&p, i, 0);
	check(pcn_ring_send(&p.tx, msgs, 1, 1) == 0, "a full ring took one more");
	check(take_all(&p, msgs, SLOTS / 4 - 1) == SLOTS / 4 - 1, "not all came");
	check(pcn_ring_room(&p.tx) == 0, "there is room for what may still be answered");
	pcn_ring_settle(&p.rx);
	check(pcn_ring_room(&p.tx) == 0, "less than a quarter was told");
	check(take_all(&p, msgs, 1) == 1, "not all came");
	check(pcn_ring_room(&p.tx) == 0, "taking one told of the ones before");
	pcn_ring_settle(&p.rx);
	check(pcn_ring_room(&p.tx) == SLOTS / 4, "a quarter was not told");
	check(take_all(&p, msgs, 1) == 1, "not all came");
	pcn_ring_publish_done(&p.rx);
	check(pcn_ring_room(&p.tx) == SLOTS / 4 + 1, "the rest was not told");
	/* What a former incarnation was done with says nothing. */
	p.channel->rx.done = (u64)4 << 32 | p.tx.pos;
	check(pcn_ring_room(&p.tx) == SLOTS / 4 + 1, "it believed a former incarnation");
	/* Batches: from the first on. */
	for (i = 0; i < SLOTS; i++)
		msgs[i] = simple(i, 0);
	check(pcn_ring_send(&p.tx, msgs, SLOTS, 1) == SLOTS / 4 + 1, "not as many as there is room for");
	pair_free(&p);
}

static void rule_bodies_are_settled(void)
{
	struct pair p = pair_new(5);
	struct pcn_shm_body body = { .len = PCN_SHM_BODY_BYTES };
	struct pcn_ring_msg msg = simple(0, PCN_SHM_FLAG_BODY);

	memcpy(&msg.data[5], &body, sizeof(body));
	check(pcn_ring_send(&p.tx, &msg, 1, 1) == 1 && take_all(&p, &msg, 1) == 1, "it did not come");
	pcn_ring_settle(&p.rx);
	check(p.tx.done == 0 && pcn_ring_room(&p.tx) == SLOTS, "a large body was kept from its owner");
	pair_free(&p);
}

static void rule_room(void)
{
	struct pair p = pair_new(5);
	struct pcn_ring_msg msgs[SLOTS];
	u32 i;

	for (i = 0; i < SLOTS; i++)
		send_one(&p, i, 0);
	check(!pcn_ring_want_room(&p.tx, 48), "there is no room");
	check(take_all(&p, msgs, 32) == 32, "not all came");
	check(!pcn_ring_settle(&p.rx), "woken for less than was asked for");
	check(take_all(&p, msgs, 16) == 16, "not all came");
	check(pcn_ring_settle(&p.rx), "not woken");
	check(take_all(&p, msgs, 16) == 16, "not all came");
	check(!pcn_ring_settle(&p.rx), "woken twice");
	check(pcn_ring_want_room(&p.tx, 64), "all the room is there");
	send_one(&p, 0, 0);
	check(take_all(&p, msgs, 1) == 1 && !pcn_ring_publish_done(&p.rx), "the wish was not taken back");
	/* What a former incarnation wished. */
	p.channel->room.wanted = 1;
	send_one(&p, 0, 0);
	check(take_all(&p, msgs, 1) == 1 && !pcn_ring_publish_done(&p.rx), "a wish of another incarnation");
	pair_free(&p);
}

static void rule_arm(void)
{
	struct pair p = pair_new(5);
	struct pcn_ring_msg msg;

	check(!pcn_ring_take_kick(&p.tx), "nobody sleeps");
	check(!pcn_ring_arm(&p.rx), "there is nothing");
	send_one(&p, 1, 0);
	check(pcn_ring_take_kick(&p.tx) && !pcn_ring_take_kick(&p.tx), "one doorbell");
	check(pcn_ring_ready(&p.rx) && pcn_ring_arm(&p.rx), "there is something");
	pcn_ring_disarm(&p.rx);
	check(!pcn_ring_take_kick(&p.tx), "it looks by itself");
	check(take_all(&p, &msg, 1) == 1 && !pcn_ring_ready(&p.rx), "it was taken");
	pair_free(&p);
}

static void rule_calls(void)
{
	struct pair p = pair_new(5);
	struct pcn_ring_msg msgs[SLOTS], msg, answer = simple(77, 0);
	const struct pcn_shm_slot *slot = &p.tx.slot[0];
	u32 seq = pcn_ring_seq(&p.tx, 0), i;

	pcn_ring_hold(&p.tx, 1, 0);
	send_one(&p, 7, PCN_SHM_FLAG_CALL);
	check(!pcn_ring_answered(slot, seq) && !pcn_ring_take_answer(slot, seq, &msg), "no answer yet");
	check(take_all(&p, msgs, 1) == 1 && PCN_SHM_HEAD_FLAGS(msgs[0].head) == PCN_SHM_FLAG_CALL, "a call");
	pcn_ring_answer(&p.rx, PCN_SHM_HEAD_SEQ(msgs[0].head), &answer);
	pcn_ring_publish_done(&p.rx);
	/* The answer stays until it is taken, whatever is sent and done meanwhile. */
	for (i = 1; i < SLOTS; i++)
		send_one(&p, i, 0);
	check(take_all(&p, msgs, SLOTS) == SLOTS - 1, "not all came");
	pcn_ring_publish_done(&p.rx);
	check(pcn_ring_room(&p.tx) == 0 && pcn_ring_free(&p.tx) == 0, "the slot of a call is free");
	check(pcn_ring_answered(slot, seq), "no answer");
	check(pcn_ring_take_answer(slot, seq, &msg) == 1 && msg.data[0] == 77 &&
	      PCN_SHM_HEAD_LEN(msg.head) == 8, "another answer");
	pcn_ring_hold(&p.tx, 0, 0);
	check(pcn_ring_room(&p.tx) == SLOTS, "room %u", pcn_ring_room(&p.tx));

	/* Given up: the slot is used again when the receiver is done with it, and not before. */
	send_one(&p, 8, PCN_SHM_FLAG_CALL);
	for (i = 1; i < SLOTS; i++)
		send_one(&p, i, 0);
	check(take_all(&p, msgs, 1) == 1 && pcn_ring_send(&p.tx, &msg, 1, 1) == 0, "used before its time");
	pcn_ring_answer(&p.rx, PCN_SHM_HEAD_SEQ(msgs[0].head), &answer);
	pcn_ring_publish_done(&p.rx);
	send_one(&p, 99, 0);
	check(take_all(&p, msgs, SLOTS) == SLOTS && msgs[SLOTS - 1].data[0] == 99, "a late answer did harm");
	pair_free(&p);
}

static void rule_answers(void)
{
	static const struct { u8 flags, len; int ret; } cases[] = {
		{ PCN_SHM_FLAG_ANSWER, 0, 1 },
		{ PCN_SHM_FLAG_ANSWER, PCN_SHM_INLINE_BYTES, 1 },
		{ PCN_SHM_FLAG_ANSWER, PCN_SHM_INLINE_BYTES + 1, -EBADMSG },
		{ PCN_SHM_FLAG_ANSWER | PCN_SHM_FLAG_REFUSED, 0, -EOPNOTSUPP },
		{ PCN_SHM_FLAG_ANSWER | PCN_SHM_FLAG_BODY, 8, -EBADMSG },
		{ PCN_SHM_FLAG_ANSWER | PCN_SHM_FLAG_MOVE, 8, -EBADMSG },
		{ PCN_SHM_FLAG_ANSWER | 0x80, 8, -EBADMSG },
		{ PCN_SHM_FLAG_REFUSED, 0, 0 },
		{ PCN_SHM_FLAG_CALL, 8, 0 },
	};
	struct pcn_shm_slot slot;
	struct pcn_ring_msg msg;
	u32 i;

	memset(&slot, 0, sizeof(slot));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int ret;

		slot.head = PCN_SHM_HEAD(1234, 0, cases[i].len, cases[i].flags);
		ret = pcn_ring_take_answer(&slot, 1234, &msg);
		check(ret == cases[i].ret, "flags %#x len %u: %d", cases[i].flags, cases[i].len, ret);
		check(!pcn_ring_take_answer(&slot, 1235, &msg), "the answer to another call");
	}
}

static void rule_rejects(void)
{
	static const struct { u8 flags, len; u32 offset, body_len; bool good; } cases[] = {
		{ 0, 0, 0, 0, true },
		{ 0, 48, 0, 0, true },
		{ 0, 49, 0, 0, false },
		{ 0, 255, 0, 0, false },
		{ PCN_SHM_FLAG_CALL, 48, 0, 0, true },
		{ PCN_SHM_FLAG_CALL, 49, 0, 0, false },
		{ PCN_SHM_FLAG_ANSWER, 8, 0, 0, false },
		{ PCN_SHM_FLAG_REFUSED, 8, 0, 0, false },
		{ PCN_SHM_FLAG_CALL | PCN_SHM_FLAG_ANSWER, 8, 0, 0, false },
		{ 0x20, 8, 0, 0, false },
		{ 0x40, 8, 0, 0, false },
		{ 0x80, 8, 0, 0, false },
		{ PCN_SHM_FLAG_BODY | 0x80, 8, 0, 1, false },
		{ PCN_SHM_FLAG_BODY | PCN_SHM_FLAG_ANSWER, 8, 0, 1, false },
		{ PCN_SHM_FLAG_BODY | PCN_SHM_FLAG_MOVE, 8, 0, 1, false },
		{ PCN_SHM_FLAG_BODY, 0, 0, 1, true },
		{ PCN_SHM_FLAG_BODY, 40, 0, 1, true },
		{ PCN_SHM_FLAG_BODY, 41, 0, 1, false },
		{ PCN_SHM_FLAG_BODY | PCN_SHM_FLAG_CALL, 40, 1024, 1, true },
		{ PCN_SHM_FLAG_BODY, 0, 0, 0, false },
		{ PCN_SHM_FLAG_BODY, 0, 0, PCN_SHM_BODY_BYTES, true },
		{ PCN_SHM_FLAG_BODY, 0, 0, PCN_SHM_BODY_BYTES + 1, false },
		{ PCN_SHM_FLAG_BODY, 0, 0, 0xffffffff, false },
		{ PCN_SHM_FLAG_BODY, 0, 512, 1, false },
		{ PCN_SHM_FLAG_BODY, 0, AREA_BYTES - 1024, 1024, true },
		{ PCN_SHM_FLAG_BODY, 0, AREA_BYTES - 1024, 1025, false },
		{ PCN_SHM_FLAG_BODY, 0, AREA_BYTES, 1, false },
		{ PCN_SHM_FLAG_BODY, 0, 0xfffffc00, 0x400, false },
		/* Moves: what would be the offset and the length of a body are in the first word. */
		{ PCN_SHM_FLAG_MOVE, 8, 0, 3, false },
		{ PCN_SHM_FLAG_MOVE, 8, 0, 2, false },
		{ PCN_SHM_FLAG_MOVE, 8, 0, 0, false },
		{ PCN_SHM_FLAG_MOVE, 8, 0, 96, false },
		{ PCN_SHM_FLAG_MOVE, 8, 0, 2 * PCN_SHM_RING_SLOTS_MAX, false },
		{ PCN_SHM_FLAG_MOVE, 8, 0, 0x80000000, false },
		{ PCN_SHM_FLAG_MOVE, 8, 64, 64, false },
		{ PCN_SHM_FLAG_MOVE, 8, AREA_BYTES, 64, false },
		{ PCN_SHM_FLAG_MOVE, 8, AREA_BYTES - 1024, 32, false },
		{ PCN_SHM_FLAG_MOVE, 8, 0xfffffc00, 64, false },
		{ PCN_SHM_FLAG_MOVE | PCN_SHM_FLAG_CALL, 8, 0, 64, false },
		{ PCN_SHM_FLAG_MOVE, 9, 0, 64, false },
	};
	u32 i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pair p = pair_new(5);
		struct pcn_ring_msg msgs[4], msg = simple(1, 0);
		u32 told[2] = { cases[i].offset, cases[i].body_len };

		msg.head = PCN_SHM_HEAD(0, 9, cases[i].len, cases[i].flags);
		memcpy(&msg.data[cases[i].flags & PCN_SHM_FLAG_MOVE ? 0 : 5], told, sizeof(told));
		check(pcn_ring_send(&p.tx, &msg, 1, 1) == 1, "no room");
		send_one(&p, 2, 0);
		check(take_all(&p, msgs, 4) == 1u + cases[i].good, "case %u", i);
		check(p.rx.rejected == !cases[i].good && p.rx.pos == 2, "case %u: rejected %llu", i,
		      (ull)p.rx.rejected);
		check(msgs[cases[i].good].data[0] == 2, "case %u: what came after it is lost", i);
		pair_free(&p);
	}
}

static void rule_work_is_bounded(void)
{
	struct pair p = pair_new(5);
	struct pcn_ring_msg msgs[4];
	u32 i;

	for (i = 0; i < SLOTS; i++)
		send_one(&p, i, 0x80);
	check(pcn_ring_receive(&p.rx, msgs, 4) == 0 && p.rx.pos == 4, "it went on to %u", p.rx.pos);
	pair_free(&p);
}

static void rule_moves(void)
{
	struct pair p = pair_new(5);
	struct pcn_ring_msg msgs[SLOTS], msg, answer = simple(5, 0);
	const struct pcn_shm_slot *slot = &p.tx.slot[1];
	struct pcn_shm_slot *forged = (void *)(p.area + 8192);
	u32 seq = pcn_ring_seq(&p.tx, 1), i;

	/* What lies where the ring will be looks like its next messages. */
	for (i = 0; i < 256; i++)
		forged[i].head = PCN_SHM_HEAD(pcn_ring_seq(&p.tx, i), 9, 8, 0);
	send_one(&p, 1, 0);
	send_one(&p, 2, PCN_SHM_FLAG_CALL);
	pcn_ring_hold(&p.tx, 1, 1);
	check(pcn_ring_move(&p.tx, 8192, 256, 1), "no room to move");
	check(p.tx.nr_slots == 256 && (u8 *)p.tx.slot == p.area + 8192, "it did not move");
	p.rx.burst = 16;
	check(pcn_ring_receive(&p.rx, msgs, 16) == 2, "not both that are before the move");
	check(p.rx.nr_slots == SLOTS, "the move was followed before the answers were given");
	pcn_ring_answer(&p.rx, PCN_SHM_HEAD_SEQ(msgs[1].head), &answer);
	check(pcn_ring_take_answer(slot, seq, &msg) == 1 && msg.data[0] == 5, "the answer went elsewhere");
	check(pcn_ring_receive(&p.rx, msgs, 16) == 0 && p.rx.nr_slots == 256, "the move was not followed");
	check(!pcn_ring_ready(&p.rx), "what lay there before is taken for a message");
	check(pcn_ring_free(&p.tx) == 0, "the old place is free");
	pcn_ring_publish_done(&p.rx);
	pcn_ring_room(&p.tx);
	check(pcn_ring_free(&p.tx) == 1, "the old place is free while a call waits in it");
	pcn_ring_hold(&p.tx, 0, 0);
	check(pcn_ring_room(&p.tx) == 256, "room %u", pcn_ring_room(&p.tx));
	for (i = 0; i < 256; i++)
		send_one(&p, i, 0);
	check(take_all(&p, msgs, SLOTS) == SLOTS && msgs[SLOTS - 1].data[0] == SLOTS - 1, "not in order");

	/* To a smaller place, with more in the old one than the new one holds. */
	pcn_ring_publish_done(&p.rx);
	check(pcn_ring_move(&p.tx, 0, 16, 1), "no room to move");
	check(pcn_ring_room(&p.tx) == 0, "room %u", pcn_ring_room(&p.tx));
	for (i = SLOTS; i < 256; i++)
		check(take_all(&p, msgs, 1) == 1 && msgs[0].data[0] == i, "message %u is lost", i);
	check(take_all(&p, msgs, 1) == 0 && p.rx.nr_slots == 16, "the move was not followed");
	pcn_ring_publish_done(&p.rx);
	check(pcn_ring_room(&p.tx) == 16, "room %u", pcn_ring_room(&p.tx));

	/* A move takes a slot, and there may be none. */
	for (i = 0; i < 16; i++)
		send_one(&p, i, 0);
	check(!pcn_ring_move(&p.tx, 8192, 256, 1) && p.tx.nr_slots == 16, "it moved without a word");
	pair_free(&p);
}

static void rule_singles_and_streams(void)
{
	struct pair p = pair_new(5);
	struct pcn_ring_msg msgs[16];
	u32 i, rounds = 0;

	/* Messages one by one: no look beyond them. */
	for (i = 0; i < 100; i++) {
		send_one(&p, i, 0);
		pcn_ring_pace(&p.rx);
		check(pcn_ring_receive(&p.rx, msgs, 16) == 1, "message %u", i);
		pcn_ring_publish_done(&p.rx);
		pcn_ring_pace(&p.rx);
		check(pcn_ring_receive(&p.rx, msgs, 16) == 0, "after message %u", i);
		check(p.rx.wait[0] <= 144 && p.rx.wait[1] <= 320, "it waits %u", p.rx.wait[0]);
	}
	/* Then many: soon all at once. */
	while (pcn_ring_room(&p.tx))
		send_one(&p, 0, 0);
	for (i = 0; i < SLOTS; rounds++)
		i += pcn_ring_receive(&p.rx, msgs, 16);
	check(rounds < SLOTS, "%u rounds for %u messages", rounds, SLOTS);
	pair_free(&p);
}

int rules(void)
{
	rule_done();
	rule_bodies_are_settled();
	rule_room();
	rule_arm();
	rule_calls();
	rule_answers();
	rule_rejects();
	rule_work_is_bounded();
	rule_moves();
	rule_singles_and_streams();
	printf("all hold\n");
	return 0;
}
