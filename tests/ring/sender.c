// SPDX-License-Identifier: GPL-2.0
/*
 * The sender, as kmod/core/send.c and call.c are one.
 */
#include <sched.h>

#include "../../kmod/core/area.h"
#include "bell.h"
#include "payload.h"

#define SLOTS_MAX	4096
#define UNITS		(AREA_BYTES / PCN_SHM_UNIT_BYTES)
#define CALLS		8	/* that the sender has under way at once */

struct call {
	const struct pcn_shm_slot *slot;
	u64 n;
	u32 pos;
	u32 seq;
};

struct sender {
	struct shared *shared;
	u8 *memory;
	struct pcn_ring ring;
	struct pcn_area area;
	unsigned long map[UNITS / BITS_PER_LONG];
	struct pcn_area_loan loan[SLOTS_MAX];
	struct pcn_area_loans loans;
	u32 had;
	u32 ring_unit;
	u32 ring_units;
	struct call call[CALLS];
	u32 first_call;
	u32 next_call;
	u64 n;
	u64 doorbells, full, short_of_area, slept, moves, answered, refused, given_up;
};

static void sender_init(struct sender *s, struct shared *shared, u8 *memory)
{
	memset(s, 0, sizeof(*s));
	s->shared = shared;
	s->memory = memory;
	pcn_ring_init(&s->ring, &shared->channel, SLOTS, pcn_ring_tag(1, 1), memory, AREA_BYTES);
	pcn_area_init(&s->area, s->map, UNITS);
	s->loans.loan = s->loan;
	s->loans.nr_loans = SLOTS_MAX;
}

static void sender_reap(struct sender *s)
{
	pcn_ring_room(&s->ring);
	s->had -= pcn_area_reap(&s->area, &s->loans, pcn_ring_free(&s->ring));
}

static void sender_hold(struct sender *s)
{
	u32 nr = s->next_call - s->first_call;

	pcn_ring_hold(&s->ring, nr, nr ? s->call[s->first_call % CALLS].pos : 0);
}

/* Answers may come at any time; some are not waited for. */
static void sender_look_at_calls(struct sender *s)
{
	while (s->first_call != s->next_call) {
		struct call *call = &s->call[s->first_call % CALLS];
		struct pcn_ring_msg msg, right = answer_to(call->n);
		struct want w;
		int ret;

		want(call->n, &w);
		if (mix(call->n + 9) % 4 == 0) {
			s->given_up++;
		} else {
			ret = pcn_ring_take_answer(call->slot, call->seq, &msg);
			if (!ret)
				break;
			if (w.refuse) {
				check(ret == -EOPNOTSUPP, "call %llu: %d", (ull)call->n, ret);
				s->refused++;
			} else {
				check(ret == 1, "call %llu: %d", (ull)call->n, ret);
				check(PCN_SHM_HEAD_LEN(msg.head) == PCN_SHM_HEAD_LEN(right.head) &&
				      !memcmp(msg.data, right.data, PCN_SHM_HEAD_LEN(right.head)),
				      "the answer to call %llu is damaged", (ull)call->n);
				s->answered++;
			}
		}
		s->first_call++;
		sender_hold(s);
	}
}

static void sender_kick(struct sender *s)
{
	if (!pcn_ring_take_kick(&s->ring))
		return;
	s->doorbells++;
	ring_bell(&s->shared->message);
}

/* Waits for the receiver, mostly asleep. */
static void sender_wait(struct sender *s)
{
	u32 rung = bell_look(&s->shared->room), waiting = s->ring.pos - s->ring.done;

	sender_look_at_calls(s);
	if (!waiting || mix(s->n + s->full) % 4 == 0) {
		sched_yield();
	} else if (!pcn_ring_want_room(&s->ring, s->ring.done + waiting - waiting / 4)) {
		s->slept++;
		bell_wait(&s->shared->room, rung, "room", s->n);
	}
	sender_reap(s);
}

static u32 sender_get(struct sender *s, u32 nr_units, u32 had)
{
	u32 unit;

	sender_reap(s);
	while (pcn_area_get(&s->area, nr_units, had + s->had, &unit)) {
		s->short_of_area++;
		sender_wait(s);
	}
	return unit;
}

static void sender_move(struct sender *s)
{
	u32 slots = 4 << mix(s->n + 1) % 11, units = slots * PCN_SHM_SLOT_BYTES / PCN_SHM_UNIT_BYTES, pos;
	u32 unit;

	if (slots > SLOTS_MAX)
		slots = SLOTS_MAX;
	units = (slots * PCN_SHM_SLOT_BYTES + PCN_SHM_UNIT_BYTES - 1) / PCN_SHM_UNIT_BYTES;
	if (pcn_area_get(&s->area, units, 0, &unit))
		return;
	pos = s->ring.pos;
	if (!pcn_ring_move(&s->ring, unit * PCN_SHM_UNIT_BYTES, slots, s->n)) {
		pcn_area_put(&s->area, unit, units);
		return;
	}
	if (s->ring_units) {
		pcn_area_lend(&s->loans, pos, s->ring_unit, s->ring_units);
		s->had += s->ring_units;
	}
	s->ring_unit = unit;
	s->ring_units = units;
	s->moves++;
	sender_kick(s);
}

static void sender_batch(struct sender *s, u64 count)
{
	u32 nr = 1 + mix(s->n + 2) % BATCH, sent = 0, got, i;
	struct { u32 unit, units; } body[BATCH];
	struct pcn_ring_msg msgs[BATCH];
	struct want w[BATCH];

	if (mix(s->n + 4) % 3)
		nr = 1;
	if (nr > count - s->n)
		nr = count - s->n;
	for (i = 0; i < nr; i++) {
		memset(&msgs[i], 0, sizeof(msgs[i]));
		want(s->n + i, &w[i]);
		memcpy(msgs[i].data, w[i].data, w[i].len);
		msgs[i].head = PCN_SHM_HEAD(0, w[i].service, w[i].len, 0);
		if (w[i].kind == CALL) {
			/* A batch ends with the first call: CALLS bounds them. */
			while (s->next_call - s->first_call == CALLS) {
				sender_look_at_calls(s);
				sched_yield();
			}
			msgs[i].head |= PCN_SHM_HEAD(0, 0, 0, PCN_SHM_FLAG_CALL);
			nr = i + 1;
		}
		if (w[i].kind == BODY) {
			struct pcn_shm_body told = { .len = w[i].body_len };

			body[i].units = (told.len + PCN_SHM_UNIT_BYTES - 1) / PCN_SHM_UNIT_BYTES;
			if (i && s->had + 2 * body[i].units > s->area.nr_free) {
				nr = i; /* the others first, or nobody gives anything back */
				break;
			}
			body[i].unit = sender_get(s, body[i].units, 0);
			s->had += body[i].units;
			told.offset = body[i].unit * PCN_SHM_UNIT_BYTES;
			body_fill(s->memory + told.offset, told.len, s->n + i);
			memcpy((u8 *)msgs[i].data + PCN_SHM_HEAD_BYTES, &told, sizeof(told));
			msgs[i].head |= PCN_SHM_HEAD(0, 0, 0, PCN_SHM_FLAG_BODY);
		}
	}
	while (sent < nr) {
		u32 pos = s->ring.pos;

		got = pcn_ring_send(&s->ring, msgs + sent, nr - sent, s->n + sent);
		check(got <= nr - sent, "%u of %u sent", got, nr - sent);
		for (i = sent; i < sent + got; i++, pos++) {
			if (w[i].kind == BODY)
				pcn_area_lend(&s->loans, pos, body[i].unit, body[i].units);
			if (w[i].kind == CALL) {
				s->call[s->next_call++ % CALLS] = (struct call){
					.slot = &s->ring.slot[pos & (s->ring.nr_slots - 1)],
					.n = s->n + i, .pos = pos, .seq = pcn_ring_seq(&s->ring, pos),
				};
				sender_hold(s);
			}
		}
		sent += got;
		if (got)
			sender_kick(s);
		if (sent < nr) {
			s->full++;
			sender_wait(s);
		}
	}
	s->n += nr;
}

void produce(struct shared *shared, u8 *memory, u64 count)
{
	struct sender *s = malloc(sizeof(*s));

	check(s, "no memory");
	sender_init(s, shared, memory);
	while (s->n < count) {
		sender_batch(s, count);
		sender_look_at_calls(s);
		if (mix(s->n + 6) % 512 == 0)
			sender_move(s);
		/* Pauses, so that the receiver falls asleep at all kinds of moments. */
		if (mix(s->n + 77) % 2048 == 0)
			usleep(mix(s->n) % 200);
	}
	while (s->first_call != s->next_call) {
		sender_look_at_calls(s);
		sched_yield();
	}
	/* All that was lent comes back. */
	while (s->loans.first != s->loans.next) {
		sender_reap(s);
		sched_yield();
	}
	check(s->had == 0 && s->loans.nr_units == 0, "%u units are missing", s->had);
	check(s->area.nr_free == UNITS - s->ring_units, "%u units are free", s->area.nr_free);
	if (count >= 50000) /* else nothing was learned of these */
		check(s->full && s->slept && s->moves && s->answered && s->refused && s->given_up,
		      "full %llu slept %llu moves %llu answered %llu refused %llu given up %llu", (ull)s->full,
		      (ull)s->slept, (ull)s->moves, (ull)s->answered, (ull)s->refused, (ull)s->given_up);
	printf("doorbells %llu full %llu slept %llu short %llu moves %llu answered %llu ", (ull)s->doorbells,
	       (ull)s->full, (ull)s->slept, (ull)s->short_of_area, (ull)s->moves, (ull)s->answered);
	fflush(stdout);
	free(s);
}
