// SPDX-License-Identifier: GPL-2.0
/*
 * The echo service: a message that comes back. Behind `popcornctl ping`.
 *
 * A message begins with a cookie, which is always in the slot; all that it carries comes back as it is, with
 * PCN_ECHO_REPLY in the cookie. What is too long for the slot is in a body. A call is answered in its own slot.
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

#define PCN_ECHO_REPLY		(1ULL << 63)	/* in the cookie: this is on its way back */
#define PCN_ECHO_COOKIE_BYTES	8
#define PCN_ECHO_BATCH		16	/* requests that are sent at once */
#define PCN_ECHO_BACKLOG	256	/* replies that are kept for a node that has no room */
#define PCN_ECHO_BACKLOG_BYTES	(8 << 20)	/* and what their bodies may take: a flood with its usual window */

static_assert(POPCORN_PING_SIZE_MAX + PCN_ECHO_COOKIE_BYTES == PCN_MSG_BYTES);
static_assert(POPCORN_PING_CALL_SIZE_MAX + PCN_ECHO_COOKIE_BYTES == PCN_SHM_INLINE_BYTES);

/**
 * struct pcn_echo_reply - a reply that found no room
 * @list: in its node's backlog
 * @queue: that it goes through
 * @len: bytes of @data
 * @body_len: bytes of @body
 * @data: what goes into the slot
 * @body: a copy, NULL if there is none
 */
struct pcn_echo_reply {
	struct list_head list;
	u32 queue;
	u32 len;
	u32 body_len;
	u8 data[PCN_SHM_INLINE_BYTES];
	void *body;
};

/**
 * struct pcn_echo_backlog - what waits for room to one node
 * @lock: held from a send that may find no room until the reply is in @replies, so that the room that comes
 *	meanwhile is not missed
 * @replies: in the order of the requests; while there are any, there will be a call of room
 * @nr: how many
 * @bytes: of their bodies
 * @dropped: replies that could not be kept
 */
struct pcn_echo_backlog {
	spinlock_t lock;
	struct list_head replies;
	u32 nr;
	u32 bytes;
	u64 dropped;
};

/**
 * struct pcn_echo - the service as one node has it
 * @service: as registered
 * @backlog: by node
 */
struct pcn_echo {
	struct pcn_service service;
	struct pcn_echo_backlog backlog[POPCORN_NODES_MAX];
};

/**
 * struct pcn_echo_request - a request that is under way
 * @cookie: its cookie, 0 when it was answered or given up
 * @tsc: when it was sent
 */
struct pcn_echo_request {
	u64 cookie;
	u64 tsc;
};

/**
 * struct pcn_echo_session - somebody who pings
 * @list: in pcn_echo_sessions
 * @wait: where it sleeps
 * @ask: what it wants
 * @result: what it has; filled under pcn_echo_lock
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
 * @request: those under way, each at its number modulo the window; under pcn_echo_lock
 */
struct pcn_echo_session {
	struct list_head list;
	wait_queue_head_t wait;
	const struct pcn_echo_ask *ask;
	struct pcn_echo_result *result;
	u64 first_cookie;
	u32 next;
	u32 oldest;
	u64 first_tsc;
	u64 last_tsc;
	bool room;
	bool gone;
	struct pcn_out out[PCN_ECHO_BATCH];
	struct pcn_body body[PCN_ECHO_BATCH];
	u64 data[PCN_ECHO_BATCH][PCN_SHM_INLINE_BYTES / 8];
	struct pcn_echo_request request[];
};

static LIST_HEAD(pcn_echo_sessions);
static DEFINE_SPINLOCK(pcn_echo_lock);
static atomic64_t pcn_echo_cookie;

static struct pcn_echo pcn_echo_here;
static struct pcn_echo *pcn_echo_there[POPCORN_NODES_MAX];	/* of loopback nodes */

static struct pcn_echo *pcn_echo_of(struct pcn_service *service)
{
	return container_of(service, struct pcn_echo, service);
}

/* Replies. */

static int pcn_echo_send(struct pcn_service *service, u32 dst, u32 queue, const void *data, u32 len,
			 const void *body, u32 body_len)
{
	struct pcn_out out = { .data = data, .len = len };
	struct pcn_body room;
	int ret;

	if (body_len) {
		ret = pcn_service_reserve(service, dst, queue, body_len, &room);
		if (ret)
			return ret;
		memcpy(room.data, body, body_len);
		out.body = &room;
	}
	ret = pcn_service_send_batch(service, dst, queue, &out, 1);
	if (ret == 1)
		return 0;
	if (body_len)
		pcn_service_release(service, &room);
	return ret ?: -EAGAIN;
}

static struct pcn_echo_reply *pcn_echo_copy(u32 queue, const void *data, u32 len, const void *body, u32 body_len)
{
	struct pcn_echo_reply *reply = kzalloc(sizeof(*reply), GFP_NOWAIT | __GFP_NOWARN);

	if (!reply)
		return NULL;
	if (body_len) {
		reply->body = kmemdup(body, body_len, GFP_NOWAIT | __GFP_NOWARN);
		if (!reply->body) {
			kfree(reply);
			return NULL;
		}
	}
	reply->queue = queue;
	reply->len = len;
	reply->body_len = body_len;
	memcpy(reply->data, data, len);
	return reply;
}

static void pcn_echo_keep(struct pcn_echo_backlog *backlog, u32 queue, const void *data, u32 len,
			  const void *body, u32 body_len)
{
	struct pcn_echo_reply *reply = NULL;

	if (backlog->nr < PCN_ECHO_BACKLOG && body_len <= PCN_ECHO_BACKLOG_BYTES - backlog->bytes)
		reply = pcn_echo_copy(queue, data, len, body, body_len);
	if (!reply) {
		backlog->dropped++;
		return;
	}
	list_add_tail(&reply->list, &backlog->replies);
	backlog->nr++;
	backlog->bytes += body_len;
}

static void pcn_echo_forget(struct pcn_echo_backlog *backlog, struct pcn_echo_reply *reply)
{
	list_del(&reply->list);
	backlog->nr--;
	backlog->bytes -= reply->body_len;
	kfree(reply->body);
	kfree(reply);
}

static void pcn_echo_forget_all(struct pcn_echo_backlog *backlog)
{
	struct pcn_echo_reply *reply, *next;

	list_for_each_entry_safe(reply, next, &backlog->replies, list)
		pcn_echo_forget(backlog, reply);
}

static void pcn_echo_answer(struct pcn_service *service, const struct pcn_msg *msg, u64 cookie)
{
	struct pcn_echo_backlog *backlog = &pcn_echo_of(service)->backlog[msg->src];
	u32 queue = msg->queue < pcn_service_queues(service, msg->src) ? msg->queue : 0;
	u8 data[PCN_SHM_INLINE_BYTES];
	int ret = -EAGAIN;

	cookie |= PCN_ECHO_REPLY;
	memcpy(data, msg->data, msg->len);
	memcpy(data, &cookie, sizeof(cookie));
	spin_lock(&backlog->lock);
	/* What waits goes first. */
	if (list_empty(&backlog->replies))
		ret = pcn_echo_send(service, msg->src, queue, data, msg->len, msg->body, msg->body_len);
	if (ret == -EAGAIN)
		pcn_echo_keep(backlog, queue, data, msg->len, msg->body, msg->body_len);
	spin_unlock(&backlog->lock);
}

/* Somebody's answer. One that comes too late, twice, from another node or with another length is nobody's. */
static void pcn_echo_take(const struct pcn_msg *msg, u64 cookie, u64 now)
{
	struct pcn_echo_session *session;
	struct pcn_echo_request *request;

	spin_lock(&pcn_echo_lock);
	list_for_each_entry(session, &pcn_echo_sessions, list) {
		const struct pcn_echo_ask *ask = session->ask;
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
	spin_unlock(&pcn_echo_lock);
}

static void pcn_echo_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
	u64 now = rdtsc_ordered(), cookie;

	if (msg->len < PCN_ECHO_COOKIE_BYTES)
		return;
	memcpy(&cookie, msg->data, sizeof(cookie));
	if (msg->call)
		pcn_msg_answer(msg, msg->data, msg->len);
	else if (!(cookie & PCN_ECHO_REPLY))
		pcn_echo_answer(service, msg, cookie);
	else if (service == &pcn_echo_here.service)
		pcn_echo_take(msg, cookie & ~PCN_ECHO_REPLY, now);
}

static void pcn_echo_wake(struct pcn_service *service, u32 node, bool gone)
{
	struct pcn_echo_session *session;

	if (service != &pcn_echo_here.service)
		return;
	spin_lock(&pcn_echo_lock);
	list_for_each_entry(session, &pcn_echo_sessions, list) {
		if (session->ask->dst != node)
			continue;
		if (gone)
			WRITE_ONCE(session->gone, true);
		WRITE_ONCE(session->room, true);
		wake_up(&session->wait);
	}
	spin_unlock(&pcn_echo_lock);
}

static void pcn_echo_room(struct pcn_service *service, u32 node)
{
	struct pcn_echo_backlog *backlog = &pcn_echo_of(service)->backlog[node];
	struct pcn_echo_reply *reply, *next;

	spin_lock(&backlog->lock);
	list_for_each_entry_safe(reply, next, &backlog->replies, list) {
		if (pcn_echo_send(service, node, reply->queue, reply->data, reply->len, reply->body,
				  reply->body_len) == -EAGAIN)
			break;
		/* Sent, or there is nobody to send it to. */
		pcn_echo_forget(backlog, reply);
	}
	spin_unlock(&backlog->lock);
	pcn_echo_wake(service, node, false);
}

static void pcn_echo_peer_down(struct pcn_service *service, u32 node)
{
	struct pcn_echo_backlog *backlog = &pcn_echo_of(service)->backlog[node];

	spin_lock(&backlog->lock);
	pcn_echo_forget_all(backlog);
	spin_unlock(&backlog->lock);
	pcn_echo_wake(service, node, true);
}

/**
 * pcn_echo_unanswered() - pings of a node whose answers found no room and could not be kept
 * @node: node id
 */
u64 pcn_echo_unanswered(u32 node)
{
	return READ_ONCE(pcn_echo_here.backlog[node].dropped);
}

/* Requests. */

static u64 pcn_echo_cycles(u64 microseconds)
{
	return mul_u64_u32_div(microseconds, tsc_khz, 1000);
}

static ktime_t pcn_echo_time(u64 cycles)
{
	return ns_to_ktime(mul_u64_u32_div(cycles, NSEC_PER_MSEC, tsc_khz));
}

/* The turn after one that was taken; what is more than an interval late is not made up for. */
static u64 pcn_echo_next_turn(const struct pcn_echo_ask *ask, u64 turn, u64 now)
{
	u64 interval = pcn_echo_cycles(ask->interval_us);

	turn += interval;
	return turn + interval < now ? now : turn;
}

static struct pcn_echo_request *pcn_echo_request_of(struct pcn_echo_session *session, u32 number)
{
	return &session->request[number % session->ask->window];
}

static bool pcn_echo_under_way(struct pcn_echo_session *session, u32 number)
{
	return READ_ONCE(pcn_echo_request_of(session, number)->cookie);
}

/* Lets go of a request, unless its answer is faster. */
static void pcn_echo_give_up(struct pcn_echo_session *session, u32 number, bool lost)
{
	struct pcn_echo_request *request = pcn_echo_request_of(session, number);

	spin_lock_bh(&pcn_echo_lock);
	if (request->cookie) {
		WRITE_ONCE(request->cookie, 0);
		session->result->lost += lost;
	}
	spin_unlock_bh(&pcn_echo_lock);
}

/* Goes past what was answered or was not in time; sets when the oldest that is left will be too late. */
static void pcn_echo_advance(struct pcn_echo_session *session, u64 now, u64 *late)
{
	u64 timeout = (u64)session->ask->timeout_ms * tsc_khz;

	*late = U64_MAX;
	for (; session->oldest != session->next; session->oldest++) {
		if (!pcn_echo_under_way(session, session->oldest))
			continue;
		*late = pcn_echo_request_of(session, session->oldest)->tsc + timeout;
		if (now < *late)
			return;
		*late = U64_MAX;
		pcn_echo_give_up(session, session->oldest, true);
	}
}

static void pcn_echo_lose_all(struct pcn_echo_session *session)
{
	for (; session->oldest != session->next; session->oldest++)
		pcn_echo_give_up(session, session->oldest, true);
}

/* Writes the requests that come next; returns how many, or why there is none. */
static int pcn_echo_write(struct pcn_echo_session *session, u32 nr)
{
	const struct pcn_echo_ask *ask = session->ask;
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
		ret = pcn_service_reserve(&pcn_echo_here.service, ask->dst, 0, ask->size, &session->body[i]);
		if (ret)
			return i ?: ret;
		memset(session->body[i].data, (u8)cookie, ask->size);
		out->body = &session->body[i];
	}
	return nr;
}

/* Sends as much as window and turn allow; returns how many, or why none. */
static int pcn_echo_request(struct pcn_echo_session *session)
{
	const struct pcn_echo_ask *ask = session->ask;
	u32 free = ask->window - (session->next - session->oldest);
	int nr, sent, i, ret;
	u64 now;

	nr = ask->interval_us ? 1 : min3(free, ask->count - session->next, (u32)PCN_ECHO_BATCH);
	nr = pcn_echo_write(session, nr);
	if (nr < 0)
		return nr;
	now = rdtsc_ordered();
	spin_lock_bh(&pcn_echo_lock);
	for (i = 0; i < nr; i++) {
		struct pcn_echo_request *request = pcn_echo_request_of(session, session->next + i);

		request->tsc = now;
		WRITE_ONCE(request->cookie, session->data[i][0]);
	}
	spin_unlock_bh(&pcn_echo_lock);

	ret = pcn_service_send_batch(&pcn_echo_here.service, ask->dst, 0, session->out, nr);
	sent = max(ret, 0);
	for (i = sent; i < nr; i++) {
		pcn_echo_give_up(session, session->next + i, false);
		if (session->out[i].body)
			pcn_service_release(&pcn_echo_here.service, session->out[i].body);
	}
	if (!session->next)
		session->first_tsc = now;
	session->next += sent;
	return ret ?: -EAGAIN;
}

static bool pcn_echo_stirs(struct pcn_echo_session *session, bool stuck)
{
	return READ_ONCE(session->gone) || (stuck && READ_ONCE(session->room)) ||
	       (session->oldest != session->next && !pcn_echo_under_way(session, session->oldest));
}

/**
 * struct pcn_echo_vigil - what a session looks for
 * @session: the session
 * @stuck: it waits for room, too
 * @until: TSC when it has looked for long enough
 */
struct pcn_echo_vigil {
	struct pcn_echo_session *session;
	bool stuck;
	u64 until;
};

static bool pcn_echo_seen(void *arg, unsigned long start)
{
	const struct pcn_echo_vigil *vigil = arg;

	return pcn_echo_stirs(vigil->session, vigil->stuck) || rdtsc() >= vigil->until ||
	       signal_pending(current);
}

static void pcn_echo_wait(struct pcn_echo_session *session, bool stuck, u64 now, u64 until)
{
	struct pcn_echo_vigil vigil = { .session = session, .stuck = stuck, .until = until };

	if (!session->ask->busy) {
		if (until > now)
			wait_event_interruptible_hrtimeout(session->wait, pcn_echo_stirs(session, stuck),
							   pcn_echo_time(until - now));
		return;
	}
	pcn_service_busy_poll(&pcn_echo_here.service, 0, pcn_echo_seen, &vigil);
}

static int pcn_echo_run(struct pcn_echo_session *session)
{
	const struct pcn_echo_ask *ask = session->ask;
	u64 now = rdtsc_ordered(), turn = now, late, until;
	u64 stuck = 0; /* when it will have waited for room for too long */
	int ret;

	for (;; now = rdtsc_ordered()) {
		pcn_echo_advance(session, now, &late);
		until = late;
		if (session->next == ask->count && session->oldest == session->next)
			return 0;
		if (signal_pending(current))
			return -ERESTARTSYS;
		if (READ_ONCE(session->gone)) {
			pcn_echo_lose_all(session);
			return -ENOTCONN;
		}
		if (session->next != ask->count && session->next - session->oldest < ask->window) {
			if (now < turn) {
				until = min(until, turn);
			} else {
				/* Before the attempt: room that comes from here on is for us. */
				WRITE_ONCE(session->room, false);
				ret = pcn_echo_request(session);
				if (ret > 0) {
					turn = pcn_echo_next_turn(ask, turn, now);
					stuck = 0;
					cond_resched();
					continue;
				}
				if (ret != -EAGAIN) {
					pcn_echo_lose_all(session);
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
		pcn_echo_wait(session, stuck, now, until);
	}
}

static int pcn_echo_messages(const struct pcn_echo_ask *ask, struct pcn_echo_result *result)
{
	struct pcn_echo_session *session;
	int ret;

	session = kzalloc(struct_size(session, request, ask->window), GFP_KERNEL);
	if (!session)
		return -ENOMEM;
	init_waitqueue_head(&session->wait);
	session->ask = ask;
	session->result = result;
	session->first_cookie = atomic64_add_return(ask->count, &pcn_echo_cookie) - ask->count + 1;
	spin_lock_bh(&pcn_echo_lock);
	list_add(&session->list, &pcn_echo_sessions);
	spin_unlock_bh(&pcn_echo_lock);

	ret = pcn_echo_run(session);

	spin_lock_bh(&pcn_echo_lock);
	list_del(&session->list);
	spin_unlock_bh(&pcn_echo_lock);
	if (result->answered)
		result->elapsed = session->last_tsc - session->first_tsc;
	kfree(session);
	return ret;
}

static void pcn_echo_sleep_until(u64 turn)
{
	u64 now = rdtsc_ordered();
	ktime_t time;

	if (now >= turn)
		return;
	time = pcn_echo_time(turn - now);
	set_current_state(TASK_INTERRUPTIBLE);
	schedule_hrtimeout(&time, HRTIMER_MODE_REL);
}

static int pcn_echo_calls(const struct pcn_echo_ask *ask, struct pcn_echo_result *result)
{
	u64 request[PCN_SHM_INLINE_BYTES / 8] = {}, answer[PCN_SHM_INLINE_BYTES / 8];
	int len = PCN_ECHO_COOKIE_BYTES + ask->size, ret;
	u64 turn = rdtsc_ordered(), first = 0, start, now;
	u32 number;

	for (number = 0; number < ask->count; number++) {
		pcn_echo_sleep_until(turn);
		if (signal_pending(current))
			return -ERESTARTSYS;
		request[0] = atomic64_inc_return(&pcn_echo_cookie);
		start = rdtsc_ordered();
		ret = pcn_service_call(&pcn_echo_here.service, ask->dst, 0, request, len, answer, ask->timeout_ms);
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
		turn = pcn_echo_next_turn(ask, turn, start);
		cond_resched();
	}
	return 0;
}

/**
 * pcn_echo_ping() - round trips to a node
 * @ask: what is wanted; all in range
 * @result: filled, but for @rtt, which has room
 *
 * May sleep. What was measured before something went wrong is worth telling: then it is 0. A request that is
 * under way when a signal comes is in no figure.
 *
 * Return: 0, -ERESTARTSYS, -ENOTCONN, -EAGAIN if there was no room in time, -EOPNOTSUPP if the node answers no
 * calls, or what pcn_service_send() gives.
 */
int pcn_echo_ping(const struct pcn_echo_ask *ask, struct pcn_echo_result *result)
{
	int ret;

	result->answered = 0;
	result->lost = 0;
	result->full = 0;
	result->elapsed = 0;
	ret = ask->call ? pcn_echo_calls(ask, result) : pcn_echo_messages(ask, result);
	return result->answered || result->lost ? 0 : ret;
}

static void pcn_echo_setup(struct pcn_echo *echo)
{
	u32 i;

	echo->service = (struct pcn_service) {
		.name = "popcorn.echo",
		.version = 1,
		.recv = pcn_echo_recv,
		.peer_down = pcn_echo_peer_down,
		.room = pcn_echo_room,
	};
	for (i = 0; i < POPCORN_NODES_MAX; i++) {
		spin_lock_init(&echo->backlog[i].lock);
		INIT_LIST_HEAD(&echo->backlog[i].replies);
		echo->backlog[i].dropped = 0;
	}
}

static void pcn_echo_end(struct pcn_echo *echo)
{
	u32 i;

	pcn_service_unregister(&echo->service);
	/* No callback runs any more. */
	for (i = 0; i < POPCORN_NODES_MAX; i++)
		pcn_echo_forget_all(&echo->backlog[i]);
}

int pcn_echo_init(void)
{
	pcn_echo_setup(&pcn_echo_here);
	return pcn_service_register(&pcn_echo_here.service);
}

void pcn_echo_exit(void)
{
	pcn_echo_end(&pcn_echo_here);
}

/**
 * pcn_echo_add_at() - answer pings as a loopback node, too
 * @node: its id
 *
 * Return: 0, -ENOMEM, or as pcn_service_register_at().
 */
int pcn_echo_add_at(u32 node)
{
	struct pcn_echo *echo = kvzalloc(sizeof(*echo), GFP_KERNEL);
	int ret;

	if (!echo)
		return -ENOMEM;
	pcn_echo_setup(echo);
	ret = pcn_service_register_at(&echo->service, node);
	if (ret) {
		kvfree(echo);
		return ret;
	}
	pcn_echo_there[node] = echo;
	return 0;
}

/**
 * pcn_echo_remove_at() - no longer
 * @node: its id
 */
void pcn_echo_remove_at(u32 node)
{
	pcn_echo_end(pcn_echo_there[node]);
	kvfree(pcn_echo_there[node]);
	pcn_echo_there[node] = NULL;
}
