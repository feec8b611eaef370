// SPDX-License-Identifier: GPL-2.0
/*
 * The echo service: a message that comes back.
 *
 * A message begins with a cookie, which is always in the slot; all that it carries comes back as it is, with
 * PCN_ECHO_REPLY in the cookie. What is too long for the slot is in a body. A call is answered in its own slot.
 */
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <asm/tsc.h>

#include "popcorn.h"
#include "echo.h"
#include "ping.h"

#define PCN_ECHO_REPLY		(1ULL << 63)	/* in the cookie: this is on its way back */
#define PCN_ECHO_BACKLOG	256	/* replies that are kept for a node that has no room */
#define PCN_ECHO_BACKLOG_BYTES	(8 << 20)	/* and what their bodies may take: a flood with its usual window */

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

static struct pcn_echo pcn_echo_here;
static struct pcn_echo *pcn_echo_there[POPCORN_NODES_MAX];	/* of loopback nodes */

static struct pcn_echo *pcn_echo_of(struct pcn_service *service)
{
	return container_of(service, struct pcn_echo, service);
}

/**
 * pcn_echo_service() - the service that pings are sent through: this kernel's own, not that of a loopback node
 */
struct pcn_service *pcn_echo_service(void)
{
	return &pcn_echo_here.service;
}

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
	else if (service == pcn_echo_service())
		pcn_ping_take(msg, cookie & ~PCN_ECHO_REPLY, now);
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
	if (service == pcn_echo_service())
		pcn_ping_wake(node, false);
}

static void pcn_echo_peer_down(struct pcn_service *service, u32 node)
{
	struct pcn_echo_backlog *backlog = &pcn_echo_of(service)->backlog[node];

	spin_lock(&backlog->lock);
	pcn_echo_forget_all(backlog);
	spin_unlock(&backlog->lock);
	if (service == pcn_echo_service())
		pcn_ping_wake(node, true);
}

/**
 * pcn_echo_unanswered() - pings of a node whose answers found no room and could not be kept
 * @node: node id
 */
u64 pcn_echo_unanswered(u32 node)
{
	return READ_ONCE(pcn_echo_here.backlog[node].dropped);
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
