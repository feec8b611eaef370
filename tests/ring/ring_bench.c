// SPDX-License-Identifier: GPL-2.0
/*
 * Figures of the real kmod/core/ring.c: two processes on two CPUs.
 *
 *	ring_bench CPU CPU SLOTS	one round, a line "NAME CYCLES" each; TSC cycles per round trip or message
 *
 *	two-line	round trip of one flag line each way, plain spinning: the yardstick
 *	rtt		round trip of a 64-byte slot each way, a ring each way
 *	stream		one-way, per message, as fast as both sides go
 *
 * Every message has its sequence word, service id and time stamp and 48 bytes of payload, which the receiver
 * copies out and adds up.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include "../../kmod/core/ring.h"

#define TRIPS		200000
#define MESSAGES	10000000
#define CHUNKS		100	/* the median of so many parts: an interrupt spoils one, not all */

struct lines {
	u64 there __attribute__((aligned(4096)));
	u64 back __attribute__((aligned(4096)));
	u64 sum __attribute__((aligned(4096)));
};

static struct lines *lines;
static struct pcn_shm_channel *channels[2];
static u32 slots;
static int cpus[2];
static u64 parts[CHUNKS];

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("cannot run on that CPU");
		exit(1);
	}
}

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void tell(const char *name, u64 per_part)
{
	qsort(parts, CHUNKS, sizeof(parts[0]), by_value);
	printf("%s %.2f\n", name, (double)parts[CHUNKS / 2] / per_part);
}

static void run(void (*there)(void), void (*here)(void))
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(cpus[1]);
		there();
		_exit(0);
	}
	pin(cpus[0]);
	here();
	if (waitpid(child, &status, 0) != child || status) {
		fprintf(stderr, "the other side ended with %#x\n", status);
		exit(1);
	}
}

static void two_line_there(void)
{
	u64 n;

	for (n = 1; n <= TRIPS; n++) {
		while (__atomic_load_n(&lines->there, __ATOMIC_ACQUIRE) != n)
			;
		__atomic_store_n(&lines->back, n, __ATOMIC_RELEASE);
	}
}

static void two_line_here(void)
{
	u64 n = 0, start;
	int part, i;

	for (part = 0; part < CHUNKS; part++) {
		start = __rdtsc();
		for (i = 0; i < TRIPS / CHUNKS; i++) {
			__atomic_store_n(&lines->there, ++n, __ATOMIC_RELEASE);
			while (__atomic_load_n(&lines->back, __ATOMIC_ACQUIRE) != n)
				;
		}
		parts[part] = __rdtsc() - start;
	}
	tell("two-line", TRIPS / CHUNKS);
}

static void send(struct pcn_ring *ring, const u64 *data)
{
	u32 seq;

	while (pcn_ring_send(ring, 1, data, PCN_SHM_INLINE_BYTES, __rdtsc(), &seq))
		;
}

static u64 receive(struct pcn_ring *ring)
{
	struct pcn_ring_msg msg;
	u64 sum = 0;
	int i, ret;

	while (!(ret = pcn_ring_receive(ring, &msg)))
		;
	if (ret < 0)
		exit(1);
	for (i = 0; i < PCN_SHM_INLINE_BYTES / 8; i++)
		sum += msg.data[i];
	return sum;
}

static void rtt_there(void)
{
	u64 data[PCN_SHM_INLINE_BYTES / 8] = {};
	struct pcn_ring tx, rx;
	u64 n;

	pcn_ring_init(&rx, channels[0], slots, 1);
	pcn_ring_init(&tx, channels[1], slots, 1);
	for (n = 0; n < TRIPS; n++) {
		data[0] = receive(&rx);
		send(&tx, data);
	}
}

static void rtt_here(void)
{
	u64 data[PCN_SHM_INLINE_BYTES / 8] = {}, start;
	struct pcn_ring tx, rx;
	int part, i;

	pcn_ring_init(&tx, channels[0], slots, 1);
	pcn_ring_init(&rx, channels[1], slots, 1);
	for (part = 0; part < CHUNKS; part++) {
		start = __rdtsc();
		for (i = 0; i < TRIPS / CHUNKS; i++) {
			data[0] = (u64)part << 32 | i;
			send(&tx, data);
			if (receive(&rx) != data[0])
				exit(1);
		}
		parts[part] = __rdtsc() - start;
	}
	tell("rtt", TRIPS / CHUNKS);
}

static void stream_there(void)
{
	struct pcn_ring rx;
	u64 sum = 0, n;

	pcn_ring_init(&rx, channels[0], slots, 2);
	for (n = 0; n < MESSAGES; n++)
		sum += receive(&rx);
	pcn_ring_publish_done(&rx);
	__atomic_store_n(&lines->sum, sum, __ATOMIC_RELEASE);
}

static void stream_here(void)
{
	u64 data[PCN_SHM_INLINE_BYTES / 8] = {}, start, sum = 0, n = 0;
	struct pcn_ring tx;
	int part, i;

	pcn_ring_init(&tx, channels[0], slots, 2);
	for (part = 0; part < CHUNKS; part++) {
		start = __rdtsc();
		for (i = 0; i < MESSAGES / CHUNKS; i++) {
			data[5] = ++n;
			sum += n;
			send(&tx, data);
		}
		parts[part] = __rdtsc() - start;
	}
	while (__atomic_load_n(&lines->sum, __ATOMIC_ACQUIRE) != sum)
		;
	tell("stream", MESSAGES / CHUNKS);
}

int main(int argc, char **argv)
{
	size_t bytes;

	if (argc != 4 || (slots = atoi(argv[3])) < 4 || slots & (slots - 1)) {
		fprintf(stderr, "usage: ring_bench CPU CPU SLOTS\n");
		return 2;
	}
	cpus[0] = atoi(argv[1]);
	cpus[1] = atoi(argv[2]);
	bytes = sizeof(struct pcn_shm_channel) + slots * sizeof(struct pcn_shm_slot);
	lines = shared(sizeof(*lines));
	channels[0] = shared(bytes);
	channels[1] = shared(bytes);
	run(two_line_there, two_line_here);
	run(rtt_there, rtt_here);
	memset(channels[0], 0, bytes);
	run(stream_there, stream_here);
	return 0;
}
