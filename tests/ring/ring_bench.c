// SPDX-License-Identifier: GPL-2.0
/*
 * Figures of the real kmod/core/ring.c and area.c: two processes on two CPUs.
 *
 *	ring_bench CPU CPU [FIGURE...]	one round, all figures or those named: a line "NAME CYCLES" each
 *
 * TSC cycles per round trip, per message or per MiB; the median of many short parts, so that an interrupt
 * spoils one and not all. Every message has its sequence word, service id and time stamp and 48 bytes of
 * payload, which the receiver copies out and adds up.
 *
 *	two-line	round trip of a flag in a line each way, plain spinning: the yardstick
 *	line64		the same with all 64 bytes of the lines written and read
 *	one-line64	the same in one line, to and fro
 *	rtt		round trip over a ring each way; each send looks whether the receiver sleeps
 *	inplace		call and answer in the slot of the call; the same
 *	stream		one way, in batches of 16 with one time stamp each, in a ring of 4096 slots
 *	stream-wake	the same, and each batch looks whether the receiver sleeps
 *	stream-stamps	the same as stream, but a time stamp for each message, sent one by one
 *	stream-small	the same as stream in a ring of 64 slots
 *	bulk		1 MiB in bodies of 64 KiB through area and ring
 *	pipeline-C-D	1 MiB by hand, D buffers of C KiB with a flag each: what bulk is compared with
 *	rte-ring	DPDK's ring, one way, 64-byte elements in bulks of 32, 4096 slots
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

#include "../../kmod/core/area.h"
#include "../../kmod/core/ring.h"
#ifdef HAVE_RTE_RING
#include <rte_ring.h>
#endif

#define PARTS		150
#define TRIPS		1000		/* in a part */
#define MESSAGES	96000		/* in a part, a multiple of the batches */
#define MIB		(1 << 20)
#define COPIES		4		/* MiB in a part */
#define BATCH		16
#define SMALL		64		/* slots that a channel begins with */
#define LARGE		4096
#define AREA_BYTES	MIB
#define BODY_BYTES	(64 << 10)
#define DEPTH_MAX	16
#define PLACES		32		/* of a flag line: which one makes a difference */

struct line {
	u64 word[8];
} __attribute__((aligned(64)));

/* Two lines that no prefetcher takes for neighbours. */
struct place {
	struct line pad0[8], there, pad1[71], back, pad2[47];
} __attribute__((aligned(4096)));

struct shared {
	struct place place[PLACES];
	struct line ready;
	struct line sum;
};

static struct shared *s;
static struct pcn_shm_channel *channel[2];
static u8 *area;
static u8 *pipe_buffer;
static struct line *pipe_flag;
static int cpus[2];
static u64 parts[PARTS];
static bool stamps;	/* stream: a time stamp for each message */
static bool wake;	/* after each send, look whether the receiver sleeps */
static u32 slots;
static u32 chunk, depth;

static void *shared_memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static void pin(int cpu)
{
	struct sched_param first = { .sched_priority = 1 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("cannot run on that CPU");
		exit(1);
	}
	/* Who may, keeps others off for the blink of an eye that a figure takes. */
	sched_setscheduler(0, SCHED_FIFO, &first);
}

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void tell(const char *name, u64 per_part)
{
	qsort(parts, PARTS, sizeof(parts[0]), by_value);
	printf("%s %.3f\n", name, (double)parts[PARTS / 2] / per_part);
	fflush(stdout);
}

static void set(u64 *word, u64 value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static u64 get(const u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* The raw transfers, which everything else is compared with. */

static void two_line_there(void)
{
	int part;
	u64 n, i;

	for (part = 0, n = 0; part < PARTS; part++) {
		struct place *place = &s->place[part % PLACES];

		for (i = 0; i < TRIPS; i++) {
			n++;
			while (get(&place->there.word[0]) != n)
				;
			set(&place->back.word[0], n);
		}
	}
}

static void two_line_here(void)
{
	int part;
	u64 n, i;

	for (part = 0, n = 0; part < PARTS; part++) {
		struct place *place = &s->place[part % PLACES];
		u64 start = pcn_cycles();

		for (i = 0; i < TRIPS; i++) {
			set(&place->there.word[0], ++n);
			while (get(&place->back.word[0]) != n)
				;
		}
		parts[part] = pcn_cycles() - start;
	}
}

static void put_line(struct line *line, u64 n)
{
	int i;

	for (i = 1; i < 8; i++)
		WRITE_ONCE(line->word[i], n + i);
	set(&line->word[0], n);
}

static void take_line(const struct line *line, u64 n)
{
	int i;

	while (get(&line->word[0]) != n)
		;
	for (i = 1; i < 8; i++)
		(void)READ_ONCE(line->word[i]);
}

static void line64_there(void)
{
	int part;
	u64 n, i;

	for (part = 0, n = 0; part < PARTS; part++) {
		struct place *place = &s->place[part % PLACES];

		for (i = 0; i < TRIPS; i++) {
			take_line(&place->there, ++n);
			put_line(&place->back, n);
		}
	}
}

static void line64_here(void)
{
	int part;
	u64 n, i;

	for (part = 0, n = 0; part < PARTS; part++) {
		struct place *place = &s->place[part % PLACES];
		u64 start = pcn_cycles();

		for (i = 0; i < TRIPS; i++) {
			put_line(&place->there, ++n);
			take_line(&place->back, n);
		}
		parts[part] = pcn_cycles() - start;
	}
}

static void one_line64_there(void)
{
	int part;
	u64 n, i;

	for (part = 0, n = 0; part < PARTS; part++) {
		struct place *place = &s->place[part % PLACES];

		for (i = 0; i < TRIPS; i++, n += 2) {
			take_line(&place->there, n + 1);
			put_line(&place->there, n + 2);
		}
	}
}

static void one_line64_here(void)
{
	int part;
	u64 n, i;

	for (part = 0, n = 0; part < PARTS; part++) {
		struct place *place = &s->place[part % PLACES];
		u64 start = pcn_cycles();

		for (i = 0; i < TRIPS; i++, n += 2) {
			put_line(&place->there, n + 1);
			take_line(&place->there, n + 2);
		}
		parts[part] = pcn_cycles() - start;
	}
}

/* The ring. */

static void send(struct pcn_ring *ring, const struct pcn_ring_msg *msgs, u32 nr)
{
	u32 sent = 0, got;

	while (sent < nr) {
		got = pcn_ring_send(ring, msgs + sent, nr - sent, pcn_cycles());
		sent += got;
		if (!got)
			pcn_relax();
		if (wake && pcn_ring_take_kick(ring))
			exit(1);
	}
}

static u32 receive(struct pcn_ring *ring, struct pcn_ring_msg *msgs, u32 max)
{
	u32 nr;

	do {
		pcn_ring_pace(ring);
		nr = pcn_ring_receive(ring, msgs, max);
	} while (!nr);
	return nr;
}

static u64 sum(const struct pcn_ring_msg *msg)
{
	return msg->data[0] + msg->data[1] + msg->data[2] + msg->data[3] + msg->data[4] + msg->data[5];
}

static struct pcn_ring_msg message(u8 flags)
{
	return (struct pcn_ring_msg){ .head = PCN_SHM_HEAD(0, 7, PCN_SHM_INLINE_BYTES, flags) };
}

static void rings(struct pcn_ring *tx, struct pcn_ring *rx, int mine)
{
	pcn_ring_init(tx, channel[mine], slots, 1, area, AREA_BYTES);
	pcn_ring_init(rx, channel[!mine], slots, 1, area, AREA_BYTES);
}

static void rtt_there(void)
{
	struct pcn_ring_msg in[BATCH], out = message(0);
	struct pcn_ring tx, rx;
	u64 n;

	rings(&tx, &rx, 1);
	for (n = 0; n < PARTS * TRIPS; n++) {
		if (receive(&rx, in, BATCH) != 1)
			exit(1);
		out.data[0] = sum(in);
		send(&tx, &out, 1);
		pcn_ring_settle(&rx);
	}
}

static void rtt_here(void)
{
	struct pcn_ring_msg in[BATCH], out = message(0);
	struct pcn_ring tx, rx;
	u64 n, start;
	int part, i;

	rings(&tx, &rx, 0);
	for (part = 0, n = 0; part < PARTS; part++) {
		start = pcn_cycles();
		for (i = 0; i < TRIPS; i++) {
			out.data[0] = ++n;
			send(&tx, &out, 1);
			if (receive(&rx, in, BATCH) != 1 || sum(in) != n)
				exit(1);
			pcn_ring_settle(&rx);
		}
		parts[part] = pcn_cycles() - start;
	}
}

static void inplace_there(void)
{
	struct pcn_ring_msg in[BATCH], out = message(0);
	struct pcn_ring tx, rx;
	u64 n;

	rings(&tx, &rx, 1);
	for (n = 0; n < PARTS * TRIPS; n++) {
		if (receive(&rx, in, BATCH) != 1)
			exit(1);
		out.data[0] = sum(in);
		pcn_ring_answer(&rx, PCN_SHM_HEAD_SEQ(in->head), &out);
		pcn_ring_settle(&rx);
	}
}

static void inplace_here(void)
{
	struct pcn_ring_msg in, out = message(PCN_SHM_FLAG_CALL);
	struct pcn_ring tx, rx;
	u64 n, start;
	int part, i;

	rings(&tx, &rx, 0);
	for (part = 0, n = 0; part < PARTS; part++) {
		start = pcn_cycles();
		for (i = 0; i < TRIPS; i++) {
			const struct pcn_shm_slot *slot = &tx.slot[tx.pos & (tx.nr_slots - 1)];
			u32 seq = pcn_ring_seq(&tx, tx.pos), looks;

			out.data[0] = ++n;
			pcn_ring_hold(&tx, 1, tx.pos);
			send(&tx, &out, 1);
			for (looks = 0;; looks++) {
				pcn_ring_pace_answer(&tx, looks);
				if (pcn_ring_answered(slot, seq))
					break;
			}
			if (pcn_ring_take_answer(slot, seq, &in) != 1 || sum(&in) != n)
				exit(1);
			pcn_ring_hold(&tx, 0, 0);
		}
		parts[part] = pcn_cycles() - start;
	}
}

static void stream_there(void)
{
	struct pcn_ring_msg in[BATCH];
	u64 n, total = 0;
	struct pcn_ring tx, rx;
	u32 nr, i;

	rings(&tx, &rx, 1);
	for (n = 0; n < (u64)PARTS * MESSAGES; n += nr) {
		nr = receive(&rx, in, BATCH);
		for (i = 0; i < nr; i++)
			total += sum(&in[i]);
		pcn_ring_settle(&rx);
	}
	set(&s->sum.word[0], total);
}

static void stream_here(void)
{
	struct pcn_ring_msg out[BATCH];
	u64 n, total, start;
	struct pcn_ring tx, rx;
	int part, i, j;

	rings(&tx, &rx, 0);
	for (i = 0; i < BATCH; i++)
		out[i] = message(0);
	for (part = 0, n = 0, total = 0; part < PARTS; part++) {
		start = pcn_cycles();
		for (i = 0; i < MESSAGES; i += BATCH) {
			for (j = 0; j < BATCH; j++) {
				out[j].data[5] = ++n;
				total += n;
			}
			if (!stamps)
				send(&tx, out, BATCH);
			for (j = 0; stamps && j < BATCH; j++)
				send(&tx, &out[j], 1);
		}
		parts[part] = pcn_cycles() - start;
	}
	while (get(&s->sum.word[0]) != total)
		;
}

/* Large transfers: copied in by the sender, out by the receiver. */

static void copy(void *to, const void *from, size_t bytes)
{
	__asm__ volatile("rep movsb" : "+D" (to), "+S" (from), "+c" (bytes) : : "memory");
}

static u8 *source;
static u8 *target;

static void bulk_there(void)
{
	struct pcn_ring_msg in[BATCH];
	struct pcn_ring tx, rx;
	u64 got, len;
	u32 nr, i;

	rings(&tx, &rx, 1);
	for (got = 0; got < (u64)PARTS * COPIES * MIB;) {
		nr = receive(&rx, in, BATCH);
		for (i = 0; i < nr; i++) {
			u32 body_len;
			void *body = pcn_ring_body(&rx, &in[i], &body_len);

			copy(target + got % MIB, body, body_len);
			got += body_len;
		}
		pcn_ring_settle(&rx);
	}
	for (len = 0, i = 0; i < MIB; i++)
		len += target[i];
	set(&s->sum.word[0], len);
}

static void bulk_here(void)
{
	static unsigned long map[AREA_BYTES / PCN_SHM_UNIT_BYTES / BITS_PER_LONG];
	static struct pcn_area_loan loan[LARGE];
	struct pcn_area_loans loans = { .loan = loan, .nr_loans = LARGE };
	struct pcn_ring_msg out = message(PCN_SHM_FLAG_BODY);
	u32 units = BODY_BYTES / PCN_SHM_UNIT_BYTES, unit;
	struct pcn_shm_body body = { .len = BODY_BYTES };
	struct pcn_area pool;
	struct pcn_ring tx, rx;
	u64 start, total = 0;
	int part, i, at;

	rings(&tx, &rx, 0);
	memset(map, 0, sizeof(map));
	pcn_area_init(&pool, map, AREA_BYTES / PCN_SHM_UNIT_BYTES);
	out.head = PCN_SHM_HEAD(0, 7, 0, PCN_SHM_FLAG_BODY);
	for (part = 0; part < PARTS; part++) {
		start = pcn_cycles();
		for (i = 0; i < COPIES; i++) {
			source[part % MIB]++;
			for (at = 0; at < MIB; at += BODY_BYTES) {
				while (pcn_area_get(&pool, units, loans.nr_units, &unit)) {
					pcn_ring_room(&tx);
					if (!pcn_area_reap(&pool, &loans, pcn_ring_free(&tx)))
						pcn_relax();
				}
				body.offset = unit * PCN_SHM_UNIT_BYTES;
				copy(area + body.offset, source + at, BODY_BYTES);
				memcpy(&out.data[5], &body, sizeof(body));
				pcn_area_lend(&loans, tx.pos, unit, units);
				send(&tx, &out, 1);
			}
		}
		parts[part] = pcn_cycles() - start;
	}
	for (i = 0; i < MIB; i++)
		total += source[i];
	while (get(&s->sum.word[0]) != total)
		;
}

/* The same by hand, and nothing else. */

static void pipeline_there(void)
{
	u64 n = 0, got;
	u32 i;

	for (got = 0; got < (u64)PARTS * COPIES * MIB; got += chunk, n++) {
		u64 *flag = &pipe_flag[n % depth].word[0];

		while (get(flag) != 2 * n + 1)
			pcn_relax();
		copy(target + got % MIB, pipe_buffer + n % depth * chunk, chunk);
		set(flag, 2 * n + 2);
	}
	for (got = 0, i = 0; i < MIB; i++)
		got += target[i];
	set(&s->sum.word[0], got);
}

static void pipeline_here(void)
{
	u64 n = 0, start, total = 0;
	int part, i, at;

	for (part = 0; part < PARTS; part++) {
		start = pcn_cycles();
		for (i = 0; i < COPIES; i++) {
			source[part % MIB]++;
			for (at = 0; at < MIB; at += chunk, n++) {
				u64 *flag = &pipe_flag[n % depth].word[0];

				while (n >= depth && get(flag) != 2 * (n - depth) + 2)
					pcn_relax();
				copy(pipe_buffer + n % depth * chunk, source + at, chunk);
				set(flag, 2 * n + 1);
			}
		}
		parts[part] = pcn_cycles() - start;
	}
	for (i = 0; i < MIB; i++)
		total += source[i];
	while (get(&s->sum.word[0]) != total)
		;
}

#ifdef HAVE_RTE_RING
#define RTE_BULK	32

static struct rte_ring *rte;

/* As rte_ring_init() does, which would want a library. */
static void rte_new(void)
{
	memset(rte, 0, sizeof(*rte));
	rte->size = LARGE;
	rte->mask = LARGE - 1;
	rte->capacity = LARGE - 1;
	rte->prod.sync_type = RTE_RING_SYNC_ST;
	rte->cons.sync_type = RTE_RING_SYNC_ST;
}

static void rte_there(void)
{
	struct line in[RTE_BULK];
	u64 n, total = 0;
	u32 i;

	for (n = 0; n < (u64)PARTS * MESSAGES; n += RTE_BULK) {
		while (!rte_ring_dequeue_bulk_elem(rte, in, sizeof(in[0]), RTE_BULK, NULL))
			pcn_relax();
		for (i = 0; i < RTE_BULK; i++)
			total += in[i].word[2] + in[i].word[3] + in[i].word[4] + in[i].word[5] +
				 in[i].word[6] + in[i].word[7];
	}
	set(&s->sum.word[0], total);
}

static void rte_here(void)
{
	struct line out[RTE_BULK] = {};
	u64 n, start, total;
	int part, i, j;

	for (part = 0, n = 0, total = 0; part < PARTS; part++) {
		start = pcn_cycles();
		for (i = 0; i < MESSAGES; i += RTE_BULK) {
			for (j = 0; j < RTE_BULK; j++) {
				out[j].word[7] = ++n;
				total += n;
			}
			while (!rte_ring_enqueue_bulk_elem(rte, out, sizeof(out[0]), RTE_BULK, NULL))
				pcn_relax();
		}
		parts[part] = pcn_cycles() - start;
	}
	while (get(&s->sum.word[0]) != total)
		;
}
#endif

static char **names;

static bool wanted(const char *name)
{
	char **one;

	for (one = names; *one; one++)
		if (!strcmp(*one, name))
			return true;
	return !*names;
}

static void run(const char *name, void (*there)(void), void (*here)(void), u64 per_part)
{
	int status;
	pid_t child;

	if (!wanted(name))
		return;
	memset(s, 0, sizeof(*s));
	memset(pipe_flag, 0, DEPTH_MAX * sizeof(*pipe_flag));
	pcn_ring_clear(channel[0], LARGE);
	pcn_ring_clear(channel[1], LARGE);
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(cpus[1]);
		memset(target, 1, MIB);
		set(&s->ready.word[0], 1);
		there();
		_exit(0);
	}
	pin(cpus[0]);
	while (!get(&s->ready.word[0]))
		usleep(100);
	here();
	if (waitpid(child, &status, 0) != child || status) {
		fprintf(stderr, "%s: the other side ended with %#x\n", name, status);
		exit(1);
	}
	tell(name, per_part);
}

static void run_pipelines(void)
{
	static const u32 kib[] = { 16, 32, 64, 128 }, depths[] = { 2, 4, 8, DEPTH_MAX };
	char name[32];
	u32 i, j;

	for (i = 0; i < sizeof(kib) / sizeof(kib[0]); i++) {
		for (j = 0; j < sizeof(depths) / sizeof(depths[0]); j++) {
			chunk = kib[i] << 10;
			depth = depths[j];
			snprintf(name, sizeof(name), "pipeline-%u-%u", kib[i], depth);
			run(name, pipeline_there, pipeline_here, COPIES);
		}
	}
}

int main(int argc, char **argv)
{
	size_t bytes = sizeof(struct pcn_shm_channel) + LARGE * sizeof(struct pcn_shm_slot);

	if (argc < 3) {
		fprintf(stderr, "usage: ring_bench CPU CPU [FIGURE...]\n");
		return 2;
	}
	cpus[0] = atoi(argv[1]);
	cpus[1] = atoi(argv[2]);
	names = argv + 3;
	s = shared_memory(sizeof(*s));
	channel[0] = shared_memory(bytes);
	channel[1] = shared_memory(bytes);
	area = shared_memory(AREA_BYTES);
	pipe_buffer = shared_memory(DEPTH_MAX * PCN_SHM_BODY_BYTES);
	pipe_flag = shared_memory(DEPTH_MAX * sizeof(*pipe_flag));
	source = shared_memory(MIB);
	target = shared_memory(MIB);

	run("two-line", two_line_there, two_line_here, TRIPS);
	run("line64", line64_there, line64_here, TRIPS);
	run("one-line64", one_line64_there, one_line64_here, TRIPS);
	slots = SMALL;
	wake = true;
	run("rtt", rtt_there, rtt_here, TRIPS);
	run("inplace", inplace_there, inplace_here, TRIPS);
	wake = false;
	run("stream-small", stream_there, stream_here, MESSAGES);
	slots = LARGE;
	run("stream", stream_there, stream_here, MESSAGES);
	wake = true;
	run("stream-wake", stream_there, stream_here, MESSAGES);
	wake = false;
	stamps = true;
	run("stream-stamps", stream_there, stream_here, MESSAGES);
#ifdef HAVE_RTE_RING
	rte = shared_memory(sizeof(*rte) + LARGE * sizeof(struct line));
	rte_new();
	run("rte-ring", rte_there, rte_here, MESSAGES);
#endif
	/* The yardstick once more: the machine may have become faster or slower. */
	run("two-line", two_line_there, two_line_here, TRIPS);
	slots = SMALL;
	run("bulk", bulk_there, bulk_here, COPIES);
	run_pipelines();
	run("bulk", bulk_there, bulk_here, COPIES);
	return 0;
}
