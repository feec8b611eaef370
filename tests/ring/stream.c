// SPDX-License-Identifier: GPL-2.0
/*
 * All kinds of messages between two processes, or two threads.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "bell.h"
#include "payload.h"

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

int stream(u64 count)
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

int threads(u64 count)
{
	struct party party = { shared_new(), area_new(), count };
	pthread_t sender;

	check(!pthread_create(&sender, NULL, produce_thread, &party), "no thread");
	consume(party.shared, party.memory, count);
	pthread_join(sender, NULL);
	return 0;
}
