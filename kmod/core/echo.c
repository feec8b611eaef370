// SPDX-License-Identifier: GPL-2.0
/*
 * The echo service: a message that comes back. Behind `popcornctl ping`.
 */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/spinlock.h>
#include <asm/tsc.h>

#include "popcorn.h"
#include "echo.h"

#define PCN_ECHO_REPLY		(1ULL << 63)	/* in the cookie: this is on its way back */
#define PCN_ECHO_COOKIE_BYTES	8

struct pcn_echo_waiter {
	struct list_head list;
	struct completion done;
	u64 cookie;
	u64 tsc;
	u32 src;
};

static LIST_HEAD(pcn_echo_waiters);
static DEFINE_SPINLOCK(pcn_echo_lock);
static atomic64_t pcn_echo_cookie;

static void pcn_echo_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
	u64 now = rdtsc_ordered(), cookie;
	struct pcn_echo_waiter *waiter;
	u8 reply[PCN_SHM_INLINE_BYTES];

	if (msg->len < PCN_ECHO_COOKIE_BYTES)
		return;
	memcpy(&cookie, msg->data, sizeof(cookie));
	if (!(cookie & PCN_ECHO_REPLY)) {
		cookie |= PCN_ECHO_REPLY;
		memcpy(reply, msg->data, msg->len);
		memcpy(reply, &cookie, sizeof(cookie));
		/* A full channel means that the asker does not listen: it will see the answer missing. */
		pcn_service_send(service, msg->src, reply, msg->len);
		return;
	}

	cookie &= ~PCN_ECHO_REPLY;
	spin_lock(&pcn_echo_lock);
	list_for_each_entry(waiter, &pcn_echo_waiters, list) {
		if (waiter->cookie == cookie && waiter->src == msg->src) {
			waiter->tsc = now;
			complete(&waiter->done);
			break;
		}
	}
	spin_unlock(&pcn_echo_lock);
}

static struct pcn_service pcn_echo_service = {
	.name = "popcorn.echo",
	.version = 1,
	.recv = pcn_echo_recv,
};

/**
 * pcn_echo_ping() - one round trip to a node
 * @dst: node id
 * @payload_bytes: besides the cookie
 * @timeout_ms: how long to wait for the answer
 * @cycles: set to the TSC cycles that it took
 *
 * Return: 0, -ETIMEDOUT, -ERESTARTSYS on a signal, or what pcn_service_send() gave.
 */
int pcn_echo_ping(u32 dst, u32 payload_bytes, unsigned int timeout_ms, u64 *cycles)
{
	struct pcn_echo_waiter waiter = { .src = dst };
	u8 request[PCN_SHM_INLINE_BYTES] = {};
	u64 start;
	long left;
	int ret;

	if (payload_bytes > sizeof(request) - PCN_ECHO_COOKIE_BYTES)
		return -EMSGSIZE;
	init_completion(&waiter.done);
	waiter.cookie = atomic64_inc_return(&pcn_echo_cookie) & ~PCN_ECHO_REPLY;
	memcpy(request, &waiter.cookie, sizeof(waiter.cookie));

	spin_lock_bh(&pcn_echo_lock);
	list_add(&waiter.list, &pcn_echo_waiters);
	spin_unlock_bh(&pcn_echo_lock);

	start = rdtsc_ordered();
	ret = pcn_service_send(&pcn_echo_service, dst, request,
			       PCN_ECHO_COOKIE_BYTES + payload_bytes);
	if (!ret) {
		left = wait_for_completion_interruptible_timeout(&waiter.done,
								 msecs_to_jiffies(timeout_ms));
		if (left < 0)
			ret = left;
		else if (!left)
			ret = -ETIMEDOUT;
	}

	spin_lock_bh(&pcn_echo_lock);
	list_del(&waiter.list);
	spin_unlock_bh(&pcn_echo_lock);
	if (!ret)
		*cycles = waiter.tsc - start;
	return ret;
}

int pcn_echo_init(void)
{
	return pcn_service_register(&pcn_echo_service);
}

void pcn_echo_exit(void)
{
	pcn_service_unregister(&pcn_echo_service);
}
