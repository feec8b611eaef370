/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_PING_H
#define _PCN_PING_H

#include <linux/types.h>

struct pcn_msg;

/**
 * struct pcn_ping_ask - what round trips to make
 * @dst: node id
 * @count: how many, at most POPCORN_PING_BATCH_MAX
 * @size: bytes of payload besides the cookie, at most POPCORN_PING_SIZE_MAX
 * @window: how many may be under way at once, 1 to POPCORN_PING_WINDOW_MAX
 * @timeout_ms: how long to wait for each answer, and for room
 * @interval_us: from one request to the next
 * @call: make calls; @window is 1, @size at most POPCORN_PING_CALL_SIZE_MAX
 * @busy: look for answers all the time instead of sleeping
 */
struct pcn_ping_ask {
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
 * struct pcn_ping_result - what came of it
 * @rtt: room for as many as were asked for; filled with the TSC cycles of those that were answered
 * @answered: how many those are
 * @lost: requests that were not answered in time
 * @full: how often a request found no room
 * @elapsed: TSC cycles from the first request to the last answer
 */
struct pcn_ping_result {
	u64 *rtt;
	u32 answered;
	u32 lost;
	u32 full;
	u64 elapsed;
};

int pcn_ping_run(const struct pcn_ping_ask *ask, struct pcn_ping_result *result);
void pcn_ping_take(const struct pcn_msg *msg, u64 cookie, u64 now);
void pcn_ping_wake(u32 node, bool gone);

#endif
