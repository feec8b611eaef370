// SPDX-License-Identifier: GPL-2.0
/* tracing/flow.bpf.c as a program of this machine: each record as a line, then the counters. */
#include "bpf_host.h"
#include SOURCE

int main(void)
{
	struct context context;
	char name[64];

#ifdef SLOWER
	slower_cycles_map[0] = SLOWER_CYCLES;
#endif
	while (next_event(name, &context)) {
		TRACEPOINT(popcorn_msg_delivered);
#ifdef FRAMES
		TRACEPOINT(popcorn_net_receive);
		TRACEPOINT(popcorn_net_drop);
#endif
	}
	printf("%lu %lu %lu", counters_map[DELIVERED], counters_map[SLOW], counters_map[LOST]);
#ifdef FRAMES
	printf(" %lu", counters_map[DROPPED]);
#endif
	printf("\n");
	return 0;
}
