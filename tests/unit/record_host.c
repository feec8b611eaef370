// SPDX-License-Identifier: GPL-2.0
/* tracing/record.bpf.c as a program of this machine: each record as a line, then what was seen and lost. */
#include "bpf_host.h"
#define bpf_ktime_get_ns() 5000
#include SOURCE

int main(void)
{
	struct context context;
	char name[64];

	while (next_event(name, &context)) {
		TRACEPOINT(popcorn_msg_queued);
		TRACEPOINT(popcorn_doorbell_sent);
		TRACEPOINT(popcorn_doorbell_irq);
		TRACEPOINT(popcorn_msg_delivered);
		TRACEPOINT(popcorn_poll);
		TRACEPOINT(popcorn_channel_full);
		TRACEPOINT(popcorn_channel_room);
		TRACEPOINT(popcorn_service_peer);
		TRACEPOINT(popcorn_node_state);
		TRACEPOINT(popcorn_kernel_state);
		TRACEPOINT(popcorn_kernel_stage);
		TRACEPOINT(popcorn_net_transmit);
		TRACEPOINT(popcorn_net_receive);
		TRACEPOINT(popcorn_net_drop);
		TRACEPOINT(popcorn_tty_transmit);
		TRACEPOINT(popcorn_tty_receive);
	}
	for (int i = 0; i < KINDS; i++)
		printf("%lu %lu ", seen_map[i], lost_map[i]);
	printf("\n");
	return 0;
}
