// SPDX-License-Identifier: GPL-2.0
/*
 * Round trips, behind `popcornctl ping`: requests to the echo service of a node, and the time until their answers.
 */
#include <linux/atomic.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <asm/tsc.h>

#include "popcorn.h"
#include "echo.h"
#include "ping.h"

#define PCN_PING_BATCH	16	/* requests that are sent at once */

static_assert(POPCORN_PING_SIZE_MAX + PCN_ECHO_COOKIE_BYTES == PCN_MSG_BYTES);
static_assert(POPCORN_PING_CALL_SIZE_MAX + PCN_ECHO_COOKIE_BYTES == PCN_SHM_INLINE_BYTES);

/**
 * struct pcn_ping_request - a request that is under way
 * @cookie: its cookie, 0 when it was answered or given up
 * @tsc: when it was sent
 */
struct pcn_ping_request {
	u64 cookie;
	u64 tsc;
};

/**
 * struct pcn_ping_session - somebody who pings
 * @list: in pcn_ping_sessions
 * @wait: where it sleeps
 * @ask: what it wants
 * @result: what it has; filled under pcn_ping_lock
 * @first_cookie: of its first request; the others follow
 * @next: number of the request that comes next
 * @oldest: number of the oldest that may be under way; @next - @oldest is at most the window
 * @first_tsc: of its first request
 * @last_tsc: of its last answer
 * @room: there may be room again
 * @gone: the node does not answer any more
 * @out: a batch of requests
 * @body: their bodies
 * @data: their slots
 * @request: those under way, each at its number modulo the window; under pcn_ping_lock
 */
struct pcn_ping_session {
	struct list_head list;
	wait_queue_head_t wait;
	const struct pcn_ping_ask *ask;
	struct pcn_ping_result *result;
	u64 first_cookie;
	u32 next;
	u32 oldest;
	u64 first_tsc;
	u64 last_tsc;
	bool room;
	bool gone;
	struct pcn_out out[PCN_PING_BATCH];
	struct pcn_body body[PCN_PING_BATCH];
	u64 data[PCN_PING_BATCH][PCN_SHM_INLINE_BYTES / 8];
	struct pcn_ping_request request[];
};

static LIST_HEAD(pcn_ping_sessions);
static DEFINE_SPINLOCK(pcn_ping_lock);
static atomic64_t pcn_ping_cookie;

/**
 * pcn_ping_take() - give an answer to who waits for it
 * @msg: the answer
 * @cookie: of the request
 * @now: TSC when it came
 *
 * One that comes too late, twice, from another node or with another length is nobody's. From the callbacks of the
 * service.
 */
void pcn_ping_take(const struct pcn_msg *msg, u64 cookie, u64 now)
{
	struct pcn_ping_session *session;
	struct pcn_ping_request *request;

	spin_lock(&pcn_ping_lock);
	list_for_each_entry(session, &pcn_ping_sessions, list) {
		const struct pcn_ping_ask *ask = session->ask;
		u64 number = cookie - session->first_cookie;

		if (number >= ask->count)
			continue;
		request = &session->request[(u32)number % ask->window];
		if (request->cookie != cookie || ask->dst != msg->src ||
		    msg->len + msg->body_len != PCN_ECHO_COOKIE_BYTES + ask->size)
			break;
		session->result->rtt[session->result->answered++] = now - request->tsc;
		session->last_tsc = now;
		WRITE_ONCE(request->cookie, 0);
		wake_up(&session->wait);
		break;
	}
	spin_unlock(&pcn_ping_lock);
}

/**
 * pcn_ping_wake() - have those who ping a node look again
 * @node: node id
 * @gone: it does not answer any more; else there is room again
 *
 * From the callbacks of the service.
 */
void pcn_ping_wake(u32 node, bool gone)
{
	struct pcn_ping_session *session;

	spin_lock(&pcn_ping_lock);
	list_for_each_entry(session, &pcn_ping_sessions, list) {
		if (session->ask->dst != node)
			continue;
		if (gone)
			WRITE_ONCE(session->gone, true);
		WRITE_ONCE(session->room, true);
		wake_up(&session->wait);
	}
	spin_unlock(&pcn_ping_lock);
}

static u64 pcn_ping_cycles(u64 microseconds)
{
	return mul_u64_u32_div(microseconds, tsc_khz, 1000);
}

static ktime_t pcn_ping_time(u64 cycles)
{
	return ns_to_ktime(mul_u64_u32_div(cycles, NSEC_PER_MSEC, tsc_khz));
}

/* The turn after one that was taken; what is more than an interval late is not made up for. */
static u64 pcn_ping_next_turn(const struct pcn_ping_ask *ask, u64 turn, u64 now)
{
	u64 interval = pcn_ping_cycles(ask->interval_us);

	turn += interval;
	return turn + interval < now ? now : turn;
}

static struct pcn_ping_request *pcn_ping_request_of(struct pcn_ping_session *session, u32 number)
{
	return &session->request[number % session->ask->window];
}

static bool pcn_ping_under_way(struct pcn_ping_session *session, u32 number)
{
	return READ_ONCE(pcn_ping_request_of(session, number)->cookie);
}

/* Lets go of a request, unless its answer is faster. */
static void pcn_ping_give_up(struct pcn_ping_session *session, u32 number, bool lost)
{
	struct pcn_ping_request *request = pcn_ping_request_of(session, number);

	spin_lock_bh(&pcn_ping_lock);
	if (request->cookie) {
		WRITE_ONCE(request->cookie, 0);
		session->result->lost += lost;
	}
	spin_unlock_bh(&pcn_ping_lock);
}

/* Goes past what was answered or was not in time; sets when the oldest that is left will be too late. */
static void pcn_ping_advance(struct pcn_ping_session *session, u64 now, u64 *late)
{
	u64 timeout = (u64)session->ask->timeout_ms * tsc_khz;

	*late = U64_MAX;
	for (; session->oldest != session->next; session->oldest++) {
		if (!pcn_ping_under_way(session, session->oldest))
			continue;
		*late = pcn_ping_request_of(session, session->oldest)->tsc + timeout;
		if (now < *late)
			return;
		*late = U64_MAX;
		pcn_ping_give_up(session, session->oldest, true);
	}
}

static void pcn_ping_lose_all(struct pcn_ping_session *session)
{
	for (; session->oldest != session->next; session->oldest++)
		pcn_ping_give_up(session, session->oldest, true);
}

/* Writes the requests that come next; returns how many, or why there is none. */
static int pcn_ping_write(struct pcn_ping_session *session, u32 nr)
{
	const struct pcn_ping_ask *ask = session->ask;
	bool fits = ask->size <= POPCORN_PING_CALL_SIZE_MAX;
	u32 i;
	int ret;

	for (i = 0; i < nr; i++) {
		u64 cookie = session->first_cookie + session->next + i;
		struct pcn_out *out = &session->out[i];

		session->data[i][0] = cookie;
		out->data = session->data[i];
		out->len = PCN_ECHO_COOKIE_BYTES + (fits ? ask->size : 0);
		out->body = NULL;
		if (fits)
			continue;
		ret = pcn_service_reserve(pcn_echo_service(), ask->dst, 0, ask->size, &session->body[i]);
		if (ret)
			return i ?: ret;
		memset(session->body[i].data, (u8)cookie, ask->size);
		out->body = &session->body[i];
	}
	return nr;
}

/* Sends as much as window and turn allow; returns how many, or why none. */
static int pcn_ping_request(struct pcn_ping_session *session)
{
	const struct pcn_ping_ask *ask = session->ask;
	u32 free = ask->window - (session->next - session->oldest);
	int nr, sent, i, ret;
	u64 now;

	nr = ask->interval_us ? 1 : min3(free, ask->count - session->next, (u32)PCN_PING_BATCH);
	nr = pcn_ping_write(session, nr);
	if (nr < 0)
		return nr;
	now = rdtsc_ordered();
	spin_lock_bh(&pcn_ping_lock);
	for (i = 0; i < nr; i++) {
		struct pcn_ping_request *request = pcn_ping_request_of(session, session->next + i);

		request->tsc = now;
		WRITE_ONCE(request->cookie, session->data[i][0]);
	}
	spin_unlock_bh(&pcn_ping_lock);

	ret = pcn_service_send_batch(pcn_echo_service(), ask->dst, 0, session->out, nr);
	sent = max(ret, 0);
	for (i = sent; i < nr; i++) {
		pcn_ping_give_up(session, session->next + i, false);
		if (session->out[i].body)
			pcn_service_release(pcn_echo_service(), session->out[i].body);
	}
	if (!session->next)
		session->first_tsc = now;
	session->next += sent;
	return ret ?: -EAGAIN;
}

static bool pcn_ping_stirs(struct pcn_ping_session *session, bool stuck)
{
	return READ_ONCE(session->gone) || (stuck && READ_ONCE(session->room)) ||
	       (session->oldest != session->next && !pcn_ping_under_way(session, session->oldest));
}

/**
 * struct pcn_ping_vigil - what a session looks for
 * @session: the session
 * @stuck: it waits for room, too
 * @until: TSC when it has looked for long enough
 */
struct pcn_ping_vigil {
	struct pcn_ping_session *session;
	bool stuck;
	u64 until;
};

static bool pcn_ping_seen(void *arg, unsigned long start)
{
	const struct pcn_ping_vigil *vigil = arg;

	return pcn_ping_stirs(vigil->session, vigil->stuck) || rdtsc() >= vigil->until ||
	       signal_pending(current);
}

static void pcn_ping_wait(struct pcn_ping_session *session, bool stuck, u64 now, u64 until)
{
	struct pcn_ping_vigil vigil = { .session = session, .stuck = stuck, .until = until };

	if (!session->ask->busy) {
		if (until > now)
			wait_event_interruptible_hrtimeout(session->wait, pcn_ping_stirs(session, stuck),
							   pcn_ping_time(until - now));
		return;
	}
	pcn_service_busy_poll(pcn_echo_service(), 0, pcn_ping_seen, &vigil);
}

static int pcn_ping_loop(struct pcn_ping_session *session)
{
	const struct pcn_ping_ask *ask = session->ask;
	u64 now = rdtsc_ordered(), turn = now, late, until;
	u64 stuck = 0; /* when it will have waited for room for too long */
	int ret;

	for (;; now = rdtsc_ordered()) {
		pcn_ping_advance(session, now, &late);
		until = late;
		if (session->next == ask->count && session->oldest == session->next)
			return 0;
		if (signal_pending(current))
			return -ERESTARTSYS;
		if (READ_ONCE(session->gone)) {
			pcn_ping_lose_all(session);
			return -ENOTCONN;
		}
		if (session->next != ask->count && session->next - session->oldest < ask->window) {
			if (now < turn) {
				until = min(until, turn);
			} else {
				/* Before the attempt: room that comes from here on is for us. */
				WRITE_ONCE(session->room, false);
				ret = pcn_ping_request(session);
				if (ret > 0) {
					turn = pcn_ping_next_turn(ask, turn, now);
					stuck = 0;
					cond_resched();
					continue;
				}
				if (ret != -EAGAIN) {
					pcn_ping_lose_all(session);
					return ret;
				}
				if (!stuck) {
					session->result->full++;
					stuck = now + (u64)ask->timeout_ms * tsc_khz;
				} else if (now >= stuck) {
					return -EAGAIN;
				}
				until = min(until, stuck);
			}
		}
		pcn_ping_wait(session, stuck, now, until);
	}
}

static int pcn_ping_messages(const struct pcn_ping_ask *ask, struct pcn_ping_result *result)
{
	struct pcn_ping_session *session;
	int ret;

	session = kzalloc(struct_size(session, request, ask->window), GFP_KERNEL);
	if (!session)
		return -ENOMEM;
	init_waitqueue_head(&session->wait);
	session->ask = ask;
	session->result = result;
	session->first_cookie = atomic64_add_return(ask->count, &pcn_ping_cookie) - ask->count + 1;
	spin_lock_bh(&pcn_ping_lock);
	list_add(&session->list, &pcn_ping_sessions);
	spin_unlock_bh(&pcn_ping_lock);

	ret = pcn_ping_loop(session);

	spin_lock_bh(&pcn_ping_lock);
	list_del(&session->list);
	spin_unlock_bh(&pcn_ping_lock);
	if (result->answered)
		result->elapsed = session->last_tsc - session->first_tsc;
	kfree(session);
	return ret;
}

static void pcn_ping_sleep_until(u64 turn)
{
	u64 now = rdtsc_ordered();
	ktime_t time;

	if (now >= turn)
		return;
	time = pcn_ping_time(turn - now);
	set_current_state(TASK_INTERRUPTIBLE);
	schedule_hrtimeout(&time, HRTIMER_MODE_REL);
}

static int pcn_ping_calls(const struct pcn_ping_ask *ask, struct pcn_ping_result *result)
{
	u64 request[PCN_SHM_INLINE_BYTES / 8] = {}, answer[PCN_SHM_INLINE_BYTES / 8];
	int len = PCN_ECHO_COOKIE_BYTES + ask->size, ret;
	u64 turn = rdtsc_ordered(), first = 0, start, now;
	u32 number;

	for (number = 0; number < ask->count; number++) {
		pcn_ping_sleep_until(turn);
		if (signal_pending(current))
			return -ERESTARTSYS;
		request[0] = atomic64_inc_return(&pcn_ping_cookie);
		start = rdtsc_ordered();
		ret = pcn_service_call(pcn_echo_service(), ask->dst, 0, request, len, answer, ask->timeout_ms);
		now = rdtsc_ordered();
		if (ret < 0 && ret != -ETIMEDOUT)
			return ret;
		if (!number)
			first = start;
		if (ret == len && answer[0] == request[0]) {
			result->rtt[result->answered++] = now - start;
			result->elapsed = now - first;
		} else {
			result->lost++;
		}
		turn = pcn_ping_next_turn(ask, turn, start);
		cond_resched();
	}
	return 0;
}

/**
 * pcn_ping_run() - round trips to a node
 * @ask: what is wanted; all in range
 * @result: filled, but for @rtt, which has room
 *
 * May sleep. What was measured before something went wrong is worth telling: then it is 0. A request that is
 * under way when a signal comes is in no figure.
 *
 * Return: 0, -ERESTARTSYS, -ENOTCONN, -EAGAIN if there was no room in time, -EOPNOTSUPP if the node answers no
 * calls, or what pcn_service_send() gives.
 */
int pcn_ping_run(const struct pcn_ping_ask *ask, struct pcn_ping_result *result)
{
	int ret;

	result->answered = 0;
	result->lost = 0;
	result->full = 0;
	result->elapsed = 0;
	ret = ask->call ? pcn_ping_calls(ask, result) : pcn_ping_messages(ask, result);
	return result->answered || result->lost ? 0 : ret;
}
