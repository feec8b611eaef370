/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_ECHO_H
#define _PCN_ECHO_H

#include <linux/types.h>

/**
 * struct pcn_echo_ask - what round trips to make
 * @dst: node id
 * @count: how many, at most POPCORN_PING_BATCH_MAX
 * @size: bytes of payload besides the cookie, at most POPCORN_PING_SIZE_MAX
 * @window: how many may be under way at once, 1 to POPCORN_PING_WINDOW_MAX
 * @timeout_ms: how long to wait for each answer, and for room
 * @interval_us: from one request to the next
 * @call: make calls; @window is 1, @size at most POPCORN_PING_CALL_SIZE_MAX
 * @busy: look for answers all the time instead of sleeping
 */
struct pcn_echo_ask {
	u32 dst;
	u32 count;
	u32 size;
	u32 window;
	u32 timeout_ms;
	u32 interval_us;
	bool call;
	bool busy;
};

/**
 * struct pcn_echo_result - what came of it
 * @rtt: room for as many as were asked for; filled with the TSC cycles of those that were answered
 * @answered: how many those are
 * @lost: requests that were not answered in time
 * @full: how often a request found no room
 * @elapsed: TSC cycles from the first request to the last answer
 */
struct pcn_echo_result {
	u64 *rtt;
	u32 answered;
	u32 lost;
	u32 full;
	u64 elapsed;
};

int pcn_echo_init(void);
void pcn_echo_exit(void);
int pcn_echo_add_at(u32 node);
void pcn_echo_remove_at(u32 node);
int pcn_echo_ping(const struct pcn_echo_ask *ask, struct pcn_echo_result *result);
u64 pcn_echo_unanswered(u32 node);

#endif
