// SPDX-License-Identifier: GPL-2.0
/* tracing/net.bpf.c as a program of this machine: what was counted, as JSON. */
#include "bpf_host.h"

/* As bcc's helpers.h has it: one more than the logarithm. */
static u64 bpf_log2l(u64 value)
{
	return value ? 64 - __builtin_clzll(value) : 1;
}

#include SOURCE

static void print_numbers(const struct numbers *numbers)
{
	const char *comma = "";

	printf("[%lu, %lu, %lu, %lu, {", numbers->count, numbers->total, numbers->min, numbers->max);
	for (int slot = 0; slot < SLOTS; slot++) {
		if (!numbers->slots[slot])
			continue;
		printf("%s\"%d\": %lu", comma, slot, numbers->slots[slot]);
		comma = ", ";
	}
	printf("}]");
}

int main(void)
{
	struct context context;
	char name[64];

	tsc_khz_map[0] = TSC_KHZ;
	while (next_event(name, &context)) {
		TRACEPOINT(popcorn_net_transmit);
		TRACEPOINT(popcorn_net_receive);
		TRACEPOINT(popcorn_net_drop);
	}
	printf("{\"sent\": [");
	for (int i = 0; i < sent_map.used; i++) {
		const struct sent *sent = &sent_map.leaves[i];

		printf("%s[%u, %u, %u, %lu, %lu, %lu, %lu, ", i ? ", " : "", sent_map.keys[i].src,
		       sent_map.keys[i].dst, sent_map.keys[i].queue, sent->packets, sent->bytes,
		       sent->merged, sent->segments);
		print_numbers(&sent->sizes);
		printf("]");
	}
	printf("], \"received\": [");
	for (int i = 0; i < received_map.used; i++) {
		const struct received *received = &received_map.leaves[i];

		printf("%s[%u, %u, %u, %lu, ", i ? ", " : "", received_map.keys[i].src,
		       received_map.keys[i].dst, received_map.keys[i].queue, received->backwards);
		print_numbers(&received->sizes);
		printf(", ");
		print_numbers(&received->times);
		printf("]");
	}
	printf("], \"dropped\": [");
	for (int i = 0; i < dropped_map.used; i++) {
		const struct cause *cause = &dropped_map.keys[i];

		printf("%s[%u, %u, %u, %u, %u, %lu, %lu]", i ? ", " : "", cause->node, cause->peer,
		       cause->queue, cause->rx, cause->reason, dropped_map.leaves[i].packets,
		       dropped_map.leaves[i].bytes);
	}
	printf("], \"counters\": [%lu, %lu]}\n", counters_map[PACKETS], counters_map[UNRECORDED]);
	return 0;
}
