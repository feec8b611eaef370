// SPDX-License-Identifier: GPL-2.0
/*
 * The other nodes that have the service. Lines to a node are made when it is first seen and stay, as serial
 * ports do; whoever has one open when the node goes is hung up.
 */
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "tty.h"

static struct pcn_tty_node *pcn_tty_node_of(struct pcn_service *service)
{
	return container_of(service, struct pcn_tty_node, service);
}

/**
 * pcn_tty_line_is_terminal() - which end of the line is this
 * @line: the line
 *
 * Return: true at the lower node id, where somebody looks on: it begins raw and without echo, and keeps
 * what it was sent while closed. The other end begins as terminals do, with a shell in mind.
 */
bool pcn_tty_line_is_terminal(const struct pcn_tty_line *line)
{
	return pcn_service_node(&line->peer->node->service) < (int)line->peer->id;
}

/* In softirq or like it, one message at a time for each peer. */
static void pcn_tty_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
	struct pcn_tty_peer *peer = &pcn_tty_node_of(service)->peer[msg->src];
	struct pcn_tty_head head;

	if (msg->len < sizeof(head))
		return;
	memcpy(&head, msg->data, sizeof(head));
	if (head.line >= PCN_TTY_LINES)
		return;
	pcn_tty_line_receive(&peer->line[head.line], &head, msg->data + sizeof(head), msg->len - sizeof(head),
			     msg->body, msg->body_len);
}

static void pcn_tty_room(struct pcn_service *service, u32 node)
{
	struct pcn_tty_peer *peer = &pcn_tty_node_of(service)->peer[node];
	u32 first = peer->turn++, i;

	for (i = 0; i < PCN_TTY_LINES; i++)
		pcn_tty_line_send(&peer->line[(first + i) % PCN_TTY_LINES]);
}

static void pcn_tty_peer_up(struct pcn_service *service, u32 node)
{
	struct pcn_tty_peer *peer = &pcn_tty_node_of(service)->peer[node];
	u32 i;

	for (i = 0; i < PCN_TTY_LINES; i++)
		pcn_tty_line_begin(&peer->line[i]);
	/* What a console says before anybody looks is kept. */
	for (i = 0; i < PCN_TTY_LINES; i++)
		if (!i || pcn_tty_console_is_on(&peer->line[i]))
			peer->line[i].wanted = true;
	smp_store_release(&peer->up, true);
	for (i = 0; i < PCN_TTY_LINES; i++)
		pcn_tty_line_send(&peer->line[i]);
	WRITE_ONCE(peer->tell, true);
	schedule_work(&peer->work);
}

static void pcn_tty_peer_down(struct pcn_service *service, u32 node)
{
	struct pcn_tty_peer *peer = &pcn_tty_node_of(service)->peer[node];
	u32 i;

	WRITE_ONCE(peer->up, false);
	for (i = 0; i < PCN_TTY_LINES; i++)
		pcn_tty_line_end(&peer->line[i]);
	WRITE_ONCE(peer->tell, true);
	schedule_work(&peer->work);
}

static void pcn_tty_peer_work(struct work_struct *work)
{
	struct pcn_tty_peer *peer = container_of(work, struct pcn_tty_peer, work);
	bool tell = xchg(&peer->tell, false), added = false;
	u32 i;

	for (i = 0; i < PCN_TTY_LINES; i++) {
		struct pcn_tty_line *line = &peer->line[i];

		if (READ_ONCE(line->wanted) && pcn_tty_line_prepare(line))
			pr_warn("no memory for line %u to node %u\n", i, peer->id);
		mutex_lock(&peer->mutex);
		if (!line->dev && !pcn_tty_driver_add(line))
			added = true;
		mutex_unlock(&peer->mutex);
	}
	if (added || !tell)
		return;
	/* udev's names follow who is there. */
	for (i = 0; i < PCN_TTY_LINES; i++)
		if (peer->line[i].dev)
			kobject_uevent(&peer->line[i].dev->kobj, KOBJ_CHANGE);
}

/**
 * pcn_tty_node_create() - have the service on a node of this kernel
 * @at: node id, or -1 for this kernel's own, whatever its id is or will be
 * @base: minor of its first line
 *
 * Return: the node, or an ERR_PTR.
 */
struct pcn_tty_node *pcn_tty_node_create(int at, u32 base)
{
	struct pcn_tty_node *node = kvzalloc(sizeof(*node), GFP_KERNEL);
	u32 id, i;
	int ret;

	if (!node)
		return ERR_PTR(-ENOMEM);
	node->base = base;
	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		struct pcn_tty_peer *peer = &node->peer[id];

		peer->node = node;
		peer->id = id;
		mutex_init(&peer->mutex);
		INIT_WORK(&peer->work, pcn_tty_peer_work);
		for (i = 0; i < PCN_TTY_LINES; i++)
			pcn_tty_line_setup(&peer->line[i], peer, i);
	}
	pcn_tty_driver_own(node);
	node->service.name = PCN_TTY_SERVICE;
	node->service.version = PCN_TTY_VERSION;
	node->service.recv = pcn_tty_recv;
	node->service.peer_up = pcn_tty_peer_up;
	node->service.peer_down = pcn_tty_peer_down;
	node->service.room = pcn_tty_room;
	ret = at < 0 ? pcn_service_register(&node->service) : pcn_service_register_at(&node->service, at);
	if (ret) {
		pr_err("the service is not registered (%d)\n", ret);
		pcn_tty_driver_disown(node);
		kvfree(node);
		return ERR_PTR(ret);
	}
	return node;
}

/**
 * pcn_tty_node_destroy() - undo it; nobody has a line open
 * @node: from pcn_tty_node_create()
 */
void pcn_tty_node_destroy(struct pcn_tty_node *node)
{
	u32 id, i;

	pcn_service_unregister(&node->service);
	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		cancel_work_sync(&node->peer[id].work);
		for (i = 0; i < PCN_TTY_LINES; i++)
			pcn_tty_driver_remove(&node->peer[id].line[i]);
	}
	for (id = 0; id < POPCORN_NODES_MAX; id++)
		for (i = 0; i < PCN_TTY_LINES; i++)
			pcn_tty_line_free(&node->peer[id].line[i]);
	pcn_tty_driver_disown(node);
	kvfree(node);
}
