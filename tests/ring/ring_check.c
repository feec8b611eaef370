// SPDX-License-Identifier: GPL-2.0
/*
 * The real kmod/core/ring.c and area.c in user space.
 *
 *	ring_check stream MESSAGES	two processes: every payload, order and count, in slots and bodies,
 *					in batches, as calls that are answered in place, refused or given up, in
 *					a ring that moves; both sides sleep, so a lost wake-up ends in a timeout
 *	ring_check threads MESSAGES	the same as two threads, for the thread sanitizer
 *	ring_check rules		what the interface promises, one by one
 *	ring_check epoch		messages of an earlier incarnation are never delivered
 *	ring_check fuzz SEED ROUNDS	the receiver against a scribbling sender, and the other way round
 *	ring_check area SEED ROUNDS	the allocator against a model that is as simple as can be
 *
 * Exit status 0 and a line of figures, or 1 and what is wrong.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../kmod/core/area.h"
#include "../../kmod/core/ring.h"

#define SLOTS		64
#define SLOTS_MAX	4096
#define AREA_BYTES	(1 << 20)
#define UNITS		(AREA_BYTES / PCN_SHM_UNIT_BYTES)
#define CHANNEL_BYTES	(sizeof(struct pcn_shm_channel) + SLOTS * sizeof(struct pcn_shm_slot))
#define BATCH		16
#define CALLS		8	/* that the sender has under way at once */
#ifndef WAKE_SECONDS
#define WAKE_SECONDS	20	/* far more than a wake-up takes on a loaded machine */
#endif

#define check(what, ...) \
	do { \
		if (!(what)) { \
			printf("failed: line %d: " #what ": ", __LINE__); \
			printf(__VA_ARGS__); \
			putchar('\n'); \
			fflush(stdout); \
			_exit(1); \
		} \
	} while (0)

typedef unsigned long long ull;

struct bell {
	u32 rung;	/* a futex */
	u8 pad[60];
};

struct shared {
	struct bell message;	/* the receiver sleeps on it */
	struct bell room;	/* the sender */
	struct pcn_shm_channel channel __attribute__((aligned(64)));
};

static struct shared *shared_new(void)
{
	void *p = mmap(NULL, sizeof(struct shared) + CHANNEL_BYTES, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(p != MAP_FAILED, "no memory");
	return p;
}

static u8 *area_new(void)
{
	void *p = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(p != MAP_FAILED, "no memory");
	return p;
}

static u64 mix(u64 x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static void ring_bell(struct bell *bell)
{
	__atomic_fetch_add(&bell->rung, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &bell->rung, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static u32 bell_look(const struct bell *bell)
{
	return __atomic_load_n(&bell->rung, __ATOMIC_SEQ_CST);
}

static void bell_wait(struct bell *bell, u32 rung, const char *what, u64 n)
{
	struct timespec limit = { .tv_sec = WAKE_SECONDS };

	while (bell_look(bell) == rung) {
		long ret = syscall(SYS_futex, &bell->rung, FUTEX_WAIT, rung, &limit, NULL, 0);

		check(!(ret < 0 && errno == ETIMEDOUT), "lost wake-up for %s at message %llu", what, (ull)n);
	}
}

/*
 * What message number n looks like; both sides work it out.
 */
enum kind { SLOT, BODY, CALL };

struct want {
	enum kind kind;
	u16 service;
	u32 len;
	u32 body_len;
	u8 data[PCN_SHM_INLINE_BYTES];
	bool refuse;
};

static void fill(u8 *data, u32 len, u64 seed)
{
	u32 i;

	for (i = 0; i < len; i++)
		data[i] = mix(seed + i / 8) >> i % 8 * 8;
}

static void want(u64 n, struct want *w)
{
	u64 x = mix(n), y = mix(x);

	memset(w, 0, sizeof(*w));
	w->service = x >> 32;
	w->kind = x % 16 < 11 ? SLOT : x % 16 < 14 ? BODY : CALL;
	w->len = y % (1 + (w->kind == BODY ? PCN_SHM_HEAD_BYTES : PCN_SHM_INLINE_BYTES));
	w->refuse = y >> 20 & 1;
	if (w->kind == BODY)
		w->body_len = 1 + (y >> 8) % (y >> 40 & 63 ? 2500 : PCN_SHM_BODY_BYTES);
	fill(w->data, w->len, x);
}

/* The words of a body carry its number, so that all of it is told apart cheaply. */
static void body_fill(u8 *body, u32 len, u64 n)
{
	u32 i;

	for (i = 0; i + 8 <= len; i += 8)
		memcpy(body + i, &(u64){ n * 0x9e3779b97f4a7c15ull + i }, 8);
	for (; i < len; i++)
		body[i] = n + i;
}

static bool body_right(const u8 *body, u32 len, u64 n)
{
	u64 word;
	u32 i;

	for (i = 0; i + 8 <= len; i += 8) {
		memcpy(&word, body + i, 8);
		if (word != n * 0x9e3779b97f4a7c15ull + i)
			return false;
	}
	for (; i < len; i++)
		if (body[i] != (u8)(n + i))
			return false;
	return true;
}

static struct pcn_ring_msg answer_to(u64 n)
{
	struct pcn_ring_msg msg = {};
	u32 len = mix(n + 3) % (PCN_SHM_INLINE_BYTES + 1);

	fill((u8 *)msg.data, len, n + 5);
	msg.head = PCN_SHM_HEAD(0, 0, len, 0);
	return msg;
}

/* The sender, as kmod/core/channel.c is one. */

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

static void produce(struct shared *shared, u8 *memory, u64 count)
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

static void take(struct pcn_ring *ring, const struct pcn_ring_msg *msg, u64 n)
{
	struct pcn_ring_msg answer;
	u8 flags = 0;
	struct want w;

	want(n, &w);
	if (w.kind == BODY)
		flags = PCN_SHM_FLAG_BODY;
	if (w.kind == CALL)
		flags = PCN_SHM_FLAG_CALL;
	check(msg->tsc <= n && n - msg->tsc < BATCH, "message %llu is of the batch of %llu", (ull)n,
	      (ull)msg->tsc);
	check(PCN_SHM_HEAD_FLAGS(msg->head) == flags && PCN_SHM_HEAD_LEN(msg->head) == w.len &&
	      PCN_SHM_HEAD_SERVICE(msg->head) == w.service && !memcmp(msg->data, w.data, w.len),
	      "message %llu is damaged: head %#llx", (ull)n, (ull)msg->head);
	if (w.kind == BODY) {
		u32 len;
		u8 *body = pcn_ring_body(ring, msg, &len);

		check(len == w.body_len && body_right(body, len, n), "the body of message %llu is damaged",
		      (ull)n);
	}
	if (w.kind == CALL) {
		answer = answer_to(n);
		if (w.refuse)
			answer.head = PCN_SHM_HEAD(0, 0, 0, PCN_SHM_FLAG_REFUSED);
		if (mix(n + 8) % 64 == 0)
			usleep(100); /* who gave up has gone on by then */
		pcn_ring_answer(ring, PCN_SHM_HEAD_SEQ(msg->head), &answer);
	}
}

static void consume(struct shared *shared, u8 *memory, u64 count)
{
	struct pcn_ring_msg msgs[BATCH];
	u64 n = 0, armed = 0, looks = 0;
	struct pcn_ring ring;
	u32 nr, max, before, i;

	pcn_ring_init(&ring, &shared->channel, SLOTS, pcn_ring_tag(1, 1), memory, AREA_BYTES);
	while (n < count) {
		max = 1 + mix(looks++) % BATCH;
		if (looks % 2)
			pcn_ring_pace(&ring);
		before = ring.pos;
		nr = pcn_ring_receive(&ring, msgs, max);
		check(nr <= max && nr <= ring.pos - before, "%u of %u received", nr, max);
		for (i = 0; i < nr; i++)
			take(&ring, &msgs[i], n + i);
		n += nr;
		if (ring.pos != before) {
			if (pcn_ring_settle(&ring))
				ring_bell(&shared->room);
			/* A slow receiver now and then, so that the ring fills. */
			if (mix(n) % 16384 == 0)
				usleep(500);
		} else if (mix(looks) % 8) {
			sched_yield();
		} else {
			u32 rung = bell_look(&shared->message);

			if (pcn_ring_publish_done(&ring))
				ring_bell(&shared->room);
			armed++;
			if (!pcn_ring_arm(&ring))
				bell_wait(&shared->message, rung, "a message", n);
			pcn_ring_disarm(&ring);
		}
	}
	if (pcn_ring_publish_done(&ring))
		ring_bell(&shared->room);
	check(!pcn_ring_receive(&ring, msgs, BATCH) || ring.rejected, "more came than was sent");
	check(!ring.rejected, "%llu good messages were rejected", (ull)ring.rejected);
	check(armed, "the receiver never slept: nothing is learned of waking it");
	printf("messages %llu armed %llu\n", (ull)n, (ull)armed);
}

static void on_cpu(int which)
{
	cpu_set_t all, one;
	int cpu, n = 0;

	sched_getaffinity(0, sizeof(all), &all);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || n++ != which)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
	}
}

static int stream(u64 count)
{
	struct shared *shared = shared_new();
	u8 *memory = area_new();
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		on_cpu(1);
		produce(shared, memory, count);
		_exit(0);
	}
	on_cpu(0);
	consume(shared, memory, count);
	check(waitpid(child, &status, 0) == child && !status, "the sender ended with %#x", status);
	return 0;
}

struct party {
	struct shared *shared;
	u8 *memory;
	u64 count;
};

static void *produce_thread(void *arg)
{
	struct party *party = arg;

	produce(party->shared, party->memory, party->count);
	return NULL;
}

static int threads(u64 count)
{
	struct party party = { shared_new(), area_new(), count };
	pthread_t sender;

	check(!pthread_create(&sender, NULL, produce_thread, &party), "no thread");
	consume(party.shared, party.memory, count);
	pthread_join(sender, NULL);
	return 0;
}

/* Both sides in one hand. On the heap and exactly as large, so that a sanitizer sees a step beyond it. */
struct pair {
	struct pcn_shm_channel *channel;
	u8 *area;
	struct pcn_ring tx, rx;
};

static void pair_init(struct pair *p, u32 tag)
{
	pcn_ring_init(&p->tx, p->channel, SLOTS, tag, p->area, AREA_BYTES);
	pcn_ring_init(&p->rx, p->channel, SLOTS, tag, p->area, AREA_BYTES);
}

static struct pair pair_new(u32 tag)
{
	struct pair p = { .channel = aligned_alloc(64, CHANNEL_BYTES), .area = aligned_alloc(64, AREA_BYTES) };

	check(p.channel && p.area, "no memory");
	memset(p.area, 0, AREA_BYTES);
	pcn_ring_clear(p.channel, SLOTS);
	pair_init(&p, tag);
	return p;
}

static void pair_free(struct pair *p)
{
	free(p->channel);
	free(p->area);
}

static struct pcn_ring_msg simple(u64 value, u8 flags)
{
	return (struct pcn_ring_msg){ .head = PCN_SHM_HEAD(0, 9, 8, flags), .data = { value } };
}

static void send_one(struct pair *p, u64 value, u8 flags)
{
	struct pcn_ring_msg msg = simple(value, flags);

	check(pcn_ring_send(&p->tx, &msg, 1, 1) == 1, "no room for %llu", (ull)value);
}

/* Receives until there is nothing left, at most max. */
static u32 take_all(struct pair *p, struct pcn_ring_msg *msgs, u32 max)
{
	u32 got = 0, before;

	do {
		before = p->rx.pos;
		got += pcn_ring_receive(&p->rx, msgs + got, max - got);
	} while (p->rx.pos != before && got < max);
	return got;
}

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

static int rules(void)
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

static int epoch(void)
{
	struct pair p = pair_new(1);
	struct pcn_ring_msg msgs[BATCH];
	u64 delivered = 0;
	u32 e, i, nr;

	for (e = 1; e < 5000; e++) {
		/* The receiver comes back in a new epoch; the channel keeps what the old one left. */
		u32 tag = pcn_ring_tag(1, e), sent = 1 + mix(e) % (2 * SLOTS), taken = mix(e + 1) % sent;

		check(tag && tag < 1u << PCN_RING_TAG_BITS, "tag %u", tag);
		check(tag != pcn_ring_tag(1, e - 1) && tag != pcn_ring_tag(2, e), "epoch %u", e);
		pair_init(&p, tag);
		check(!pcn_ring_ready(&p.rx) && !take_all(&p, msgs, BATCH),
		      "epoch %u got a message of an earlier one", e);
		check(pcn_ring_room(&p.tx) == SLOTS, "epoch %u begins with room for %u", e, pcn_ring_room(&p.tx));
		for (i = 0; i < sent; i++) {
			struct pcn_ring_msg msg = simple((u64)e << 32 | i, 0);

			while (!pcn_ring_send(&p.tx, &msg, 1, msg.data[0])) {
				if (!taken)
					goto next;
				nr = take_all(&p, msgs, 1);
				check(!nr || msgs[0].tsc >> 32 == e, "epoch %u message %u", e, i);
				delivered += nr;
				pcn_ring_publish_done(&p.rx);
			}
			if (i < taken) {
				nr = take_all(&p, msgs, 1);
				check(nr == 1 && msgs[0].tsc >> 32 == e, "epoch %u message %u", e, i);
				delivered++;
			}
		}
next:
		;
	}
	printf("epochs %u delivered %llu\n", e - 1, (ull)delivered);
	pair_free(&p);
	return 0;
}

/* A word that is likely to matter: small, a power of two or next to one, a multiple of the unit, or any. */
static u32 interesting(u64 x)
{
	u64 y = mix(x);

	switch (x % 8) {
	case 0:
		return y % 200;
	case 1:
		return (1u << y % 32) + (y >> 8) % 3 - 1;
	case 2:
	case 3:
	case 4:
		return y % (AREA_BYTES / PCN_SHM_UNIT_BYTES + 2) * PCN_SHM_UNIT_BYTES;
	case 5:
		return 1u << y % 18;
	default:
		return y;
	}
}

static void scribble(struct pair *p, u64 x)
{
	struct pcn_shm_slot *slot = &p->rx.slot[p->rx.pos & (p->rx.nr_slots - 1)];
	u64 y = mix(x), z = mix(y);
	u32 words[2] = { interesting(y), interesting(z) };
	u8 flags;

	switch (x % 12) {
	case 0: /* anywhere */
		((u8 *)p->channel)[y % CHANNEL_BYTES] = z;
		break;
	case 1:
		p->area[y % AREA_BYTES] = z;
		break;
	case 2: /* a run of the same byte */
		memset((u8 *)p->channel + y % (CHANNEL_BYTES - 64), z, 64);
		break;
	case 3: /* a message that the receiver will take, with any length and flags, */
	case 4:
		slot->head = PCN_SHM_HEAD(pcn_ring_seq(&p->rx, p->rx.pos), (u16)z, y % 64, z >> 16 & z >> 24 & 0xff);
		slot->tsc = z;
		memcpy(&slot->data[5], words, sizeof(words));
		break;
	case 5: /* with a body anywhere, */
	case 6:
		flags = PCN_SHM_FLAG_BODY | (z >> 8 & 3 ? 0 : PCN_SHM_FLAG_CALL);
		slot->head = PCN_SHM_HEAD(pcn_ring_seq(&p->rx, p->rx.pos), (u16)z, z % 44, flags);
		memcpy(&slot->data[5], words, sizeof(words));
		break;
	case 7: /* a move anywhere */
		slot->head = PCN_SHM_HEAD(pcn_ring_seq(&p->rx, p->rx.pos), 0, 8, PCN_SHM_FLAG_MOVE);
		memcpy(&slot->data[0], words, sizeof(words));
		break;
	case 8: /* what is done, with the right tag and without */
		p->channel->rx.done = (z & 3 ? (u64)p->tx.tag << 32 : y & 0xffffffff00000000) |
				      (u32)(z & 4 ? y : p->tx.pos - y % 100);
		break;
	case 9:
		p->channel->arm.armed = y;
		break;
	case 10:
		p->channel->room.wanted = (z & 1 ? (u64)p->rx.tag << 32 : 0) | interesting(y);
		break;
	default: /* an answer in any slot of the sender's */
		slot = &p->tx.slot[y & (p->tx.nr_slots - 1)];
		slot->head = PCN_SHM_HEAD(pcn_ring_seq(&p->tx, p->tx.pos - y % 70), 0, z % 64,
					  PCN_SHM_FLAG_ANSWER | (z >> 8 & z >> 16 & 0xff));
		break;
	}
}

static bool in_place(const struct pair *p, const struct pcn_ring *ring)
{
	const u8 *start = (const u8 *)ring->slot, *end = (const u8 *)(ring->slot + ring->nr_slots);
	bool in_channel = ring->slot == p->channel->slot && ring->nr_slots == SLOTS;
	bool in_area = start >= p->area && end <= p->area + AREA_BYTES &&
		       !((start - p->area) % PCN_SHM_UNIT_BYTES);

	return ring->nr_slots >= 4 && !(ring->nr_slots & (ring->nr_slots - 1)) && (in_channel || in_area);
}

/* One side works as it should, the other one writes what it likes to all that it can reach. */
static int fuzz(u64 seed, u64 rounds)
{
	struct pair p = pair_new(pcn_ring_tag(3, 4));
	u64 r, got = 0, sent = 0, full = 0, bodies = 0, calls = 0, moves = 0, answers[4] = {}, sum = 0, bad = 0;
	struct pcn_ring_msg out[4] = {}, msgs[8], msg;
	u32 i;

	for (r = 0; r < rounds; r++) {
		u64 x = mix(seed * 1000003 + r), y = mix(x);
		u32 before = p.rx.pos, max = 1 + y % 8, nr, tx_done = p.tx.done, tx_free, room;
		u32 nr_slots = p.rx.nr_slots;
		int ret;

		if (r % 200 == 0) { /* both sides begin anew, on what is left of before */
			bad += p.rx.rejected;
			pair_init(&p, pcn_ring_tag(3, r));
			before = 0;
			tx_done = 0;
			nr_slots = SLOTS;
		}
		scribble(&p, x);

		/* The sender. */
		if (y >> 8 & 1)
			pcn_ring_hold(&p.tx, 1, p.tx.pos - (y >> 9) % (p.tx.nr_slots + 1));
		else
			pcn_ring_hold(&p.tx, 0, 0);
		for (i = 0; i < 4; i++)
			out[i] = simple(y, y >> 16 & 1 ? PCN_SHM_FLAG_CALL : 0);
		nr = pcn_ring_send(&p.tx, out, 1 + (y >> 20) % 4, y);
		check(nr <= 4, "sent %u", nr);
		sent += nr;
		full += !nr;
		check(p.tx.done - tx_done <= p.tx.nr_slots && p.tx.pos - p.tx.done <= p.tx.nr_slots,
		      "the sender believes %u of %u", p.tx.done, p.tx.pos);
		tx_free = pcn_ring_free(&p.tx);
		check(p.tx.pos - tx_free <= p.tx.nr_slots, "free before %u of %u", tx_free, p.tx.pos);
		room = pcn_ring_room(&p.tx);
		check(room <= p.tx.nr_slots, "room for %u", room);
		pcn_ring_take_kick(&p.tx);
		pcn_ring_want_room(&p.tx, p.tx.pos - (y >> 40) % 64);
		ret = pcn_ring_take_answer(&p.tx.slot[(y >> 24) & (p.tx.nr_slots - 1)],
					   pcn_ring_seq(&p.tx, p.tx.pos - (y >> 24) % 64), &msg);
		check(ret == 0 || ret == 1 || ret == -EOPNOTSUPP || ret == -EBADMSG, "answer %d", ret);
		check(ret != 1 || PCN_SHM_HEAD_LEN(msg.head) <= PCN_SHM_INLINE_BYTES, "head %#llx",
		      (ull)msg.head);
		answers[ret == 1 ? 0 : ret == 0 ? 1 : ret == -EBADMSG ? 2 : 3]++;

		/* The receiver. */
		scribble(&p, y);
		pcn_ring_pace(&p.rx);
		nr = pcn_ring_receive(&p.rx, msgs, max);
		check(nr <= max && p.rx.pos - before <= max, "%u of %u, to %u from %u", nr, max, p.rx.pos,
		      before);
		check(in_place(&p, &p.rx), "the ring is at %p, %u slots", (void *)p.rx.slot, p.rx.nr_slots);
		moves += p.rx.nr_slots != nr_slots;
		for (i = 0; i < nr; i++) {
			u8 flags = PCN_SHM_HEAD_FLAGS(msgs[i].head);
			u32 len, at;
			u8 *body;

			check(!(flags & ~(PCN_SHM_FLAG_BODY | PCN_SHM_FLAG_CALL)), "flags %#x", flags);
			check(PCN_SHM_HEAD_LEN(msgs[i].head) <=
			      (flags & PCN_SHM_FLAG_BODY ? PCN_SHM_HEAD_BYTES : PCN_SHM_INLINE_BYTES),
			      "head %#llx", (ull)msgs[i].head);
			if (flags & PCN_SHM_FLAG_BODY) {
				body = pcn_ring_body(&p.rx, &msgs[i], &len);
				check(len && len <= PCN_SHM_BODY_BYTES && body >= p.area &&
				      body + len <= p.area + AREA_BYTES, "a body of %u bytes at %td", len,
				      body - p.area);
				for (at = 0; at < len; at += 64)
					sum += body[at];
				sum += body[len - 1];
				bodies++;
			}
			if (flags & PCN_SHM_FLAG_CALL) {
				pcn_ring_answer(&p.rx, PCN_SHM_HEAD_SEQ(msgs[i].head), &msgs[i]);
				calls++;
			}
		}
		got += nr;
		pcn_ring_settle(&p.rx);
		check(p.rx.pos - p.rx.done < p.rx.nr_slots, "%u are owed", p.rx.pos - p.rx.done);
		if (y >> 50 & 1) {
			pcn_ring_publish_done(&p.rx);
			pcn_ring_arm(&p.rx);
			pcn_ring_disarm(&p.rx);
		}
		p.rx.wait[0] = 0; /* time is of no matter here */
		p.rx.wait[1] = 0;
	}
	bad += p.rx.rejected;
	/* Otherwise this was no fuzzing: each of these paths has to be walked. */
	check(got && bad && sent && full && bodies && calls && moves && answers[0] && answers[1] && answers[2] &&
	      answers[3], "got %llu bad %llu sent %llu full %llu bodies %llu calls %llu moves %llu", (ull)got,
	      (ull)bad, (ull)sent, (ull)full, (ull)bodies, (ull)calls, (ull)moves);
	printf("rounds %llu got %llu bad %llu bodies %llu calls %llu moves %llu (%llu)\n", (ull)r, (ull)got,
	       (ull)bad, (ull)bodies, (ull)calls, (ull)moves, (ull)(sum & 1));
	pair_free(&p);
	return 0;
}

/* The allocator. */

#define AREA_UNITS	200
#define USERS		3
#define LOANS		16

struct user {
	struct pcn_area_loan loan[LOANS];
	struct pcn_area_loans loans;
	struct { u32 pos, unit, nr; } held[LOANS]; /* the model's: in order */
	u32 nr_held;
	u32 units;
	u32 pos;
	u32 done;
};

static bool model_free(const u8 *owner, u32 from, u32 nr)
{
	u32 i;

	for (i = from; i < from + nr; i++)
		if (owner[i])
			return false;
	return true;
}

static u32 model_count(const u8 *owner, u8 who)
{
	u32 i, count = 0;

	for (i = 0; i < AREA_UNITS; i++)
		count += owner[i] == who;
	return count;
}

static int area(u64 seed, u64 rounds)
{
	unsigned long *map = calloc((AREA_UNITS + BITS_PER_LONG - 1) / BITS_PER_LONG, sizeof(long));
	struct user *users = calloc(USERS, sizeof(*users));
	u64 r, given = 0, refused = 0, fair = 0, reaped = 0;
	u8 owner[AREA_UNITS] = {};
	struct pcn_area area;
	u32 i;

	check(map && users, "no memory");
	pcn_area_init(&area, map, AREA_UNITS);
	for (i = 0; i < USERS; i++) {
		users[i].loans.loan = users[i].loan;
		users[i].loans.nr_loans = LOANS;
		users[i].pos = users[i].done = 0xfffffff0; /* numbers wrap */
	}
	for (r = 0; r < rounds; r++) {
		u64 x = mix(seed * 1000003 + r);
		u32 who = x % USERS, nr = 1 + (x >> 8) % (x >> 7 & 1 ? 100 : 6), unit = ~0u, at;
		struct user *u = &users[who];

		if (x >> 32 & 1) { /* get, and lend it or give it back at once */
			u32 nr_free = model_count(owner, 0), had = model_count(owner, 1 + who);
			bool allowed = nr <= nr_free && (!had || had + nr <= nr_free - nr);
			int ret;

			check(had == u->units && nr_free == area.nr_free, "%u units, %u free", u->units,
			      area.nr_free);
			for (at = 0; at + nr <= AREA_UNITS && !model_free(owner, at, nr); at++)
				;
			ret = pcn_area_get(&area, nr, u->units, &unit);
			if (!allowed || at + nr > AREA_UNITS) {
				check(ret == -EAGAIN, "%u units of %u free: %d", nr, nr_free, ret);
				refused++;
				fair += !allowed && nr <= nr_free;
				continue;
			}
			check(!ret && unit == at, "%u units at %u and not at %u", nr, unit, at);
			given++;
			if (u->nr_held == LOANS || x >> 33 & 1) {
				pcn_area_put(&area, unit, nr);
				continue;
			}
			memset(owner + at, 1 + who, nr);
			u->units += nr;
			u->held[u->nr_held].pos = u->pos;
			u->held[u->nr_held].unit = unit;
			u->held[u->nr_held++].nr = nr;
			pcn_area_lend(&u->loans, u->pos, unit, nr);
			u->pos += 1 + (x >> 40) % 3;
		} else { /* the receiver gets on */
			u32 back = 0, kept = 0;

			u->done += (x >> 34) % (u->pos - u->done + 1);
			for (i = 0; i < u->nr_held; i++) {
				if ((s32)(u->done - u->held[i].pos) > 0) {
					memset(owner + u->held[i].unit, 0, u->held[i].nr);
					back += u->held[i].nr;
				} else {
					u->held[kept++] = u->held[i];
				}
			}
			u->nr_held = kept;
			at = pcn_area_reap(&area, &u->loans, u->done);
			check(at == back, "%u units came back and not %u", at, back);
			u->units -= back;
			reaped += back;
			check(u->loans.nr_units == u->units, "%u units are lent", u->loans.nr_units);
		}
	}
	check(given && refused && fair && reaped, "given %llu refused %llu fair %llu reaped %llu", (ull)given,
	      (ull)refused, (ull)fair, (ull)reaped);
	printf("given %llu refused %llu (%llu for the others' sake) reaped %llu\n", (ull)given, (ull)refused,
	       (ull)fair, (ull)reaped);
	free(map);
	free(users);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	if (argc == 3 && !strcmp(argv[1], "stream"))
		return stream(strtoull(argv[2], NULL, 0));
	if (argc == 3 && !strcmp(argv[1], "threads"))
		return threads(strtoull(argv[2], NULL, 0));
	if (argc == 2 && !strcmp(argv[1], "rules"))
		return rules();
	if (argc == 2 && !strcmp(argv[1], "epoch"))
		return epoch();
	if (argc == 4 && !strcmp(argv[1], "fuzz"))
		return fuzz(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	if (argc == 4 && !strcmp(argv[1], "area"))
		return area(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	fprintf(stderr, "usage: ring_check stream MESSAGES | threads MESSAGES | rules | epoch | "
			"fuzz SEED ROUNDS | area SEED ROUNDS\n");
	return 2;
}
