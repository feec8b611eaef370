// SPDX-License-Identifier: GPL-2.0
/* tracing/doorbell.bpf.c as a program of this machine: what was counted, as JSON. */
#include "bpf_host.h"
#include SOURCE

int main(void)
{
	struct context context;
	char name[64];

	while (next_event(name, &context)) {
		TRACEPOINT(popcorn_msg_queued);
		TRACEPOINT(popcorn_doorbell_sent);
		TRACEPOINT(popcorn_doorbell_irq);
		TRACEPOINT(popcorn_poll);
	}
	printf("{\"sent\": [");
	for (int i = 0; i < sent_map.used; i++)
		printf("%s[%u, %u, %u, %lu, %lu]", i ? ", " : "", sent_map.keys[i].src,
		       sent_map.keys[i].dst, sent_map.keys[i].queue, sent_map.leaves[i].messages,
		       sent_map.leaves[i].doorbells);
	printf("], \"taken\": [");
	for (int i = 0; i < taken_map.used; i++) {
		const struct taken *taken = &taken_map.leaves[i];

		printf("%s[%u, %u, %lu, %lu, %lu, %lu, %lu]", i ? ", " : "", taken_map.keys[i].node,
		       taken_map.keys[i].queue, taken->interrupts, taken->empty, taken->polls,
		       taken->idle, taken->messages);
	}
	printf("], \"counters\": [%lu, %lu]}\n", counters_map[MESSAGES], counters_map[UNRECORDED]);
	return 0;
}
