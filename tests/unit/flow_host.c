// SPDX-License-Identifier: GPL-2.0
/* tracing/flow.bpf.c as a program of this machine: each record as a line, then the counters. */
#include "bpf_host.h"
#include SOURCE

int main(void)
{
	struct context context;
	char name[64];

	while (next_event(name, &context))
		TRACEPOINT(popcorn_msg_delivered);
	printf("%lu %lu %lu\n", counters_map[DELIVERED], counters_map[SLOW], counters_map[LOST]);
	return 0;
}
