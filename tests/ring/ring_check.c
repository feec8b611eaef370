// SPDX-License-Identifier: GPL-2.0
/*
 * The real kmod/core/ring.c in user space.
 *
 *	ring_check stream MESSAGES	two processes: every payload, order and count; sleeps and wakes by
 *					arm and kick, so a lost wake-up ends in a timeout
 *	ring_check epoch		messages of an earlier incarnation are never delivered
 *	ring_check fuzz SEED ROUNDS	the receiver against a scribbling sender, and the other way round
 *
 * Exit status 0 and a line of figures, or 1 and what is wrong.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "../../kmod/core/ring.h"

#define SLOTS		256
#define BYTES		(sizeof(struct pcn_shm_channel) + SLOTS * sizeof(struct pcn_shm_slot))
#define WAKE_SECONDS	10	/* far more than a wake-up takes on a loaded machine */

#define check(what, ...) do { if (!(what)) { printf("failed: " #what ": " __VA_ARGS__); putchar('\n'); exit(1); } } while (0)

struct shared {
	u32 bell;		/* grows with each doorbell; a futex */
	u32 doorbells;
	u8 pad[56];
	struct pcn_shm_channel channel __attribute__((aligned(64)));
};

static struct shared *shared_new(void)
{
	void *p = mmap(NULL, sizeof(struct shared) + BYTES, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

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

/* What message number n looks like; both sides work it out. Returns its length. */
static size_t message(u64 n, u8 *data, u16 *service)
{
	u64 seed = mix(n), len = seed % (PCN_SHM_INLINE_BYTES + 1), i;

	for (i = 0; i < len; i++)
		data[i] = mix(seed + i / 8) >> i % 8 * 8;
	*service = seed >> 32;
	return len;
}

static void ring_bell(struct shared *s)
{
	__atomic_fetch_add(&s->doorbells, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->bell, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &s->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void produce(struct shared *s, u64 count)
{
	struct pcn_ring ring;
	u8 data[PCN_SHM_INLINE_BYTES];
	u16 service;
	u64 n, full = 0;
	u32 seq;

	pcn_ring_init(&ring, &s->channel, SLOTS, pcn_ring_tag(1, 1));
	for (n = 0; n < count; n++) {
		size_t len = message(n, data, &service);

		while (pcn_ring_send(&ring, service, data, len, n, &seq) == -EAGAIN) {
			full++;
			sched_yield();
		}
		if (pcn_ring_take_kick(&ring))
			ring_bell(s);
		/* Pauses, so that the receiver falls asleep at all kinds of moments. */
		if (mix(n + 77) % 4096 == 0)
			usleep(mix(n) % 200);
	}
	check(count < 10 * SLOTS || full, "the ring was never full: nothing is learned of a full one");
}

/* Sleeps like the kernel's receiver: arm, look again, wait for the bell. */
static void wait_for_bell(struct shared *s, struct pcn_ring *ring, u64 n)
{
	struct timespec limit = { .tv_sec = WAKE_SECONDS };
	u32 bell = __atomic_load_n(&s->bell, __ATOMIC_SEQ_CST);

	pcn_ring_arm(ring);
	if (pcn_ring_ready(ring))
		return;
	while (__atomic_load_n(&s->bell, __ATOMIC_SEQ_CST) == bell) {
		long ret = syscall(SYS_futex, &s->bell, FUTEX_WAIT, bell, &limit, NULL, 0);

		check(!(ret < 0 && errno == ETIMEDOUT), "lost wake-up before message %llu",
		      (unsigned long long)n);
	}
}

static int stream(u64 count)
{
	struct shared *s = shared_new();
	struct pcn_ring ring;
	struct pcn_ring_msg msg;
	u8 data[PCN_SHM_INLINE_BYTES];
	u16 service;
	u64 n = 0, sleeps = 0;
	int status;
	pid_t child;

	pcn_ring_init(&ring, &s->channel, SLOTS, pcn_ring_tag(1, 1));
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		produce(s, count);
		exit(0);
	}
	while (n < count) {
		int ret = pcn_ring_receive(&ring, &msg);
		size_t len;

		if (!ret) {
			sleeps++;
			wait_for_bell(s, &ring, n);
			pcn_ring_disarm(&ring);
			continue;
		}
		check(ret == 1, "message %llu: %d", (unsigned long long)n, ret);
		len = message(n, data, &service);
		check(msg.tsc == n, "message %llu instead of %llu", (unsigned long long)msg.tsc,
		      (unsigned long long)n);
		check(msg.len == len && msg.service == service && !memcmp(msg.data, data, len),
		      "message %llu is damaged", (unsigned long long)n);
		n++;
		/* A slow receiver now and then, so that the ring fills. */
		if (mix(n) % 16384 == 0)
			usleep(500);
	}
	check(!pcn_ring_receive(&ring, &msg), "more came than was sent");
	check(waitpid(child, &status, 0) == child && !status, "the sender ended with %#x", status);
	check(s->doorbells <= sleeps, "%u doorbells for %llu times armed", s->doorbells,
	      (unsigned long long)sleeps);
	printf("messages %llu armed %llu doorbells %u\n", (unsigned long long)n,
	       (unsigned long long)sleeps, s->doorbells);
	return 0;
}

static int epoch(void)
{
	struct shared *s = shared_new();
	struct pcn_ring tx, rx;
	struct pcn_ring_msg msg;
	u64 delivered = 0;
	u32 e, seq, i;

	for (e = 1; e < 5000; e++) {
		/* The receiver comes back in a new epoch; the channel keeps what the old one left. */
		u32 tag = pcn_ring_tag(1, e), sent = 1 + mix(e) % (2 * SLOTS), taken = mix(e + 1) % sent;

		check(tag && tag < 1u << PCN_RING_TAG_BITS, "tag %u", tag);
		check(tag != pcn_ring_tag(1, e - 1) && tag != pcn_ring_tag(2, e), "epoch %u", e);
		pcn_ring_init(&tx, &s->channel, SLOTS, tag);
		pcn_ring_init(&rx, &s->channel, SLOTS, tag);
		check(!pcn_ring_receive(&rx, &msg), "epoch %u got a message of an earlier one", e);
		for (i = 0; i < sent; i++) {
			u64 word = (u64)e << 32 | i;

			while (pcn_ring_send(&tx, 1, &word, sizeof(word), word, &seq)) {
				check(taken, "a new incarnation's ring is full");
				check(pcn_ring_receive(&rx, &msg) == 1, "epoch %u message %u", e, i);
				check(msg.tsc >> 32 == e, "epoch %u", e);
				delivered++;
				pcn_ring_publish_done(&rx);
			}
			if (i < taken) {
				check(pcn_ring_receive(&rx, &msg) == 1 && msg.tsc >> 32 == e,
				      "epoch %u message %u", e, i);
				delivered++;
			}
			if (i == SLOTS - 1 && !taken)
				break;
		}
	}
	printf("epochs %u delivered %llu\n", e - 1, (unsigned long long)delivered);
	return 0;
}

/* One side works as it should, the other one writes what it likes to all that it can reach. */
static int fuzz(u64 seed, u64 rounds)
{
	/* On the heap and exactly as large, so that the address sanitizer sees a step beyond it. */
	struct pcn_shm_channel *channel = aligned_alloc(64, BYTES);
	struct pcn_ring tx, rx;
	struct pcn_ring_msg msg;
	u64 r, got = 0, bad = 0, sent = 0, full = 0;
	u8 data[PCN_SHM_INLINE_BYTES] = {};
	u32 seq;

	check(channel, "no memory");
	memset(channel, 0, BYTES);
	pcn_ring_init(&tx, channel, SLOTS, pcn_ring_tag(3, 4));
	pcn_ring_init(&rx, channel, SLOTS, pcn_ring_tag(3, 4));
	for (r = 0; r < rounds; r++) {
		u64 x = mix(seed + r), y = mix(x);
		struct pcn_shm_slot *slot = &channel->slot[rx.pos % SLOTS];
		u32 before = rx.pos, done = tx.done;
		int ret;

		switch (x % 8) {
		case 0:	/* anywhere */
			((u8 *)channel)[y % BYTES] = y >> 32;
			break;
		case 1:	/* a message that the receiver will take, with any length and flags */
			slot->len = y;
			slot->flags = y >> 8 & (y >> 16 & 1 ? 0xff : 0);
			slot->service = y >> 24;
			slot->tsc = mix(y);
			slot->seq = rx.tag << (32 - PCN_RING_TAG_BITS) | (rx.pos & PCN_RING_COUNT_MASK);
			break;
		case 2:	/* the count of what is done, with the right tag */
			channel->rx.done = (u64)tx.tag << 32 | (u32)y;
			break;
		case 3:
			channel->rx.done = y;
			break;
		case 4:
			channel->arm.armed = y;
			break;
		case 5:	/* a run of the same byte */
			memset((u8 *)channel + y % (BYTES - 64), y >> 40, 64);
			break;
		default:
			break;
		}
		ret = pcn_ring_send(&tx, 1, data, y % (PCN_SHM_INLINE_BYTES + 1), y, &seq);
		check(ret == 0 || ret == -EAGAIN, "send gives %d", ret);
		check(tx.pos - tx.done <= SLOTS, "the sender believes %u of %u", tx.done, tx.pos);
		check(tx.done - done <= SLOTS, "done went from %u to %u", done, tx.done);
		sent += !ret;
		full += !!ret;
		pcn_ring_take_kick(&tx);
		ret = pcn_ring_receive(&rx, &msg);
		check(ret == 0 || ret == 1 || ret == -EBADMSG, "receive gives %d", ret);
		check(rx.pos - before == (ret != 0), "position went from %u to %u", before, rx.pos);
		check(ret != 1 || msg.len <= PCN_SHM_INLINE_BYTES, "length %u", msg.len);
		got += ret == 1;
		bad += ret < 0;
	}
	/* Otherwise this was no fuzzing: each of these paths has to be walked. */
	check(got && bad && sent && full, "got %llu bad %llu sent %llu full %llu", (unsigned long long)got,
	      (unsigned long long)bad, (unsigned long long)sent, (unsigned long long)full);
	printf("rounds %llu got %llu bad %llu\n", (unsigned long long)r, (unsigned long long)got,
	       (unsigned long long)bad);
	free(channel);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "stream"))
		return stream(strtoull(argv[2], NULL, 0));
	if (argc == 2 && !strcmp(argv[1], "epoch"))
		return epoch();
	if (argc == 4 && !strcmp(argv[1], "fuzz"))
		return fuzz(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	fprintf(stderr, "usage: ring_check stream MESSAGES | epoch | fuzz SEED ROUNDS\n");
	return 2;
}
