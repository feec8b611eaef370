/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_SELF_H
#define _PCN_SELF_H

#include <linux/atomic.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "area.h"
#include "node.h"
#include "poller.h"
#include "service.h"

/**
 * struct pcn_self - a node that this kernel is
 * @id: node id
 * @epoch: of this incarnation
 * @live: on the fabric; false makes every sender turn away
 * @nr_queues: queues that it receives through
 * @node: the nodes of the fabric, as this one sees them
 * @poller: the receiving side, one for each queue
 * @threaded: the pollers run in kernel threads
 * @netdev: carries the pollers' NAPI contexts; nobody else sees it
 * @area_lock: serialises @area; taken inside a channel's tx_lock
 * @area: this node's room for bodies and grown rings
 * @area_short: somebody waits for room in @area
 * @sleepers: callers that wait for room or for an answer: the channels stay until they are gone
 * @services: its services
 * @services_shm: own slot, while they are shown there
 * @wq: runs the works below, one at a time
 * @scan: looks at all slots
 * @tick: heartbeat, and a look that needs no doorbell
 * @grow: moves rings that turned out too small
 *
 * One for each kernel, pcn_main; more than one only with loopback nodes (loopback.c).
 */
struct pcn_self {
	u32 id;
	u32 epoch;
	bool live;
	u32 nr_queues;
	struct pcn_node node[PCN_NODES];
	struct pcn_poller poller[PCN_QUEUES];
	bool threaded;
	struct net_device *netdev;

	spinlock_t area_lock;
	struct pcn_area area;
	bool area_short;
	atomic_t sleepers;

	struct pcn_service_place services[PCN_SHM_SERVICES];
	struct pcn_shm_node *services_shm;

	struct workqueue_struct *wq;
	struct work_struct scan;
	struct delayed_work tick;
	struct work_struct grow;
};

extern struct pcn_self pcn_main;		/* this kernel */
extern struct pcn_self *pcn_selves[PCN_NODES];	/* by node id: the nodes that are in this kernel */

int pcn_self_join_as_primary(void);
int pcn_self_leave_as_primary(void);
int pcn_self_join(struct pcn_self *self, u32 id);
void pcn_self_leave(struct pcn_self *self);
void pcn_self_tell_end(u32 state, const char *reason);

/**
 * pcn_self_reaches() - may a node be sent to now
 * @node: the node; under tx_lock of a channel to it
 *
 * Inline, as each send asks.
 *
 * Return: 0; -ENODEV if this node has left; -ENOTCONN.
 */
static inline int pcn_self_reaches(const struct pcn_node *node)
{
	if (!READ_ONCE(node->self->live))
		return -ENODEV;
	/* The scan may not have seen yet that the node is another one now. */
	if (!node->reachable || READ_ONCE(pcn_fabric_node(node->id)->epoch) != node->epoch)
		return -ENOTCONN;
	return 0;
}

#endif
