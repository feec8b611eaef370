// SPDX-License-Identifier: GPL-2.0
/*
 * tracing/latency.bpf.c as a program of this machine: one-element stand-ins for bcc's maps, events
 * from standard input, what was counted to standard output as JSON. test_tracing_latency.py builds it.
 *
 * An event is a letter (m delivered, q queued, d doorbell; upper case: the map is full) and the
 * tracepoint's arguments, filled up with zeros to twelve.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef uint32_t u32;
typedef uint64_t u64;

struct context {
	u64 args[12];
};

#define BPF_TABLE(kind, key, leaf, name, n) \
	static struct { leaf *(*lookup_or_try_init)(key *, leaf *); } name
#define BPF_PERCPU_ARRAY(name, type, n) static struct { type *(*lookup)(int *); } name
#define BPF_ARRAY BPF_PERCPU_ARRAY
#define PROBE(event) static int event(struct context *ctx)

/* As bcc's helpers.h has it: one more than the logarithm. */
static u64 bpf_log2l(u64 value)
{
	return value ? 64 - __builtin_clzll(value) : 1;
}

#include SOURCE

static struct arrivals arrivals, empty;
static struct departures departures;
static u64 rung, counts[COUNTERS];
static bool full;

static struct arrivals *find_arrivals(struct flow *flow, struct arrivals *first)
{
	return full ? NULL : &arrivals;
}

static struct departures *find_departures(struct flow *flow, struct departures *first)
{
	return full ? NULL : &departures;
}

static u64 *find_rung(struct pair *pair, u64 *first)
{
	return full ? NULL : &rung;
}

static u64 *find_count(int *index)
{
	return &counts[*index];
}

static u64 *find_khz(int *index)
{
	static u64 khz = TSC_KHZ;

	return &khz;
}

static struct arrivals *find_blank(int *index)
{
	return &empty;
}

static void print(void)
{
	printf("{\"delivered\": [%lu, %lu], \"queued\": [%lu, %lu], \"rung\": %lu,",
	       arrivals.messages, arrivals.bytes, departures.messages, departures.bytes, rung);
	printf(" \"counters\": [%lu, %lu], \"stages\": [", counts[DELIVERED], counts[UNRECORDED]);
	for (int i = 0; i < STAGES; i++) {
		const struct stage *stage = &arrivals.stages[i];
		const char *comma = "";

		printf("%s[%lu, %lu, %lu, %lu, %lu, {", i ? ", " : "", stage->times.count,
		       stage->backwards, stage->times.total, stage->times.min, stage->times.max);
		for (int slot = 0; slot < SLOTS; slot++) {
			if (!stage->times.slots[slot])
				continue;
			printf("%s\"%d\": %lu", comma, slot, stage->times.slots[slot]);
			comma = ", ";
		}
		printf("}]");
	}
	printf("]}\n");
}

int main(void)
{
	struct context event;
	char what;

	delivered.lookup_or_try_init = find_arrivals;
	queued.lookup_or_try_init = find_departures;
	doorbells.lookup_or_try_init = find_rung;
	counters.lookup = find_count;
	blank.lookup = find_blank;
	tsc_khz.lookup = find_khz;
	while (scanf(" %c", &what) == 1) {
		for (int i = 0; i < 12; i++)
			if (scanf("%lu", &event.args[i]) != 1)
				return 2;
		full = isupper(what);
		switch (tolower(what)) {
		case 'm':
			popcorn_msg_delivered(&event);
			break;
		case 'q':
			popcorn_msg_queued(&event);
			break;
		case 'd':
			popcorn_doorbell_sent(&event);
			break;
		default:
			return 2;
		}
	}
	print();
	return 0;
}
