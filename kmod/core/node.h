/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_NODE_H
#define _PCN_NODE_H

#include <linux/bitmap.h>
#include <linux/device.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "popcorn_host.h"
#include "channel.h"
#include "fabric.h"
#include "poller.h"
#include "service.h"

/**
 * struct pcn_node - what a node knows of one node; its own one included
 * @self: who knows it
 * @id: index in @self's nodes
 * @state: enum popcorn_node_state as last seen by the scan, or HUNG by our own judgement
 * @epoch: likewise; messages go only to and come only from this incarnation
 * @reachable: its channels are set up and in use. Whoever is in the middle of
 *	a message looked at it under the channel's tx_lock or its poller's lock
 * @shut: it sent garbage; unreachable until it has a new epoch
 * @nr_queues: queues that both sides have, 1 at least
 * @name: copied from the slot
 * @apic_ids: CPUs that its doorbell may point at
 * @channel: one for each queue of the fabric
 * @meet_lock: serialises peer_up and peer_down of each service with regard to this node
 * @services_seq: of its table of services, as last looked at
 * @missed_seq: of its table when a message came for a service that it did not show, so that a peer which
 *	keeps sending such has its table read once for each change of it
 * @scan_at: jiffies before which a change of its slot makes nobody look; see pcn_node_scan_for()
 * @heartbeat: as last seen
 * @still: ticks since it last changed
 * @dev: in sysfs, NULL while the node is absent
 */
struct pcn_node {
	struct pcn_self *self;
	u32 id;
	u32 state;
	u32 epoch;
	bool reachable;
	bool shut;
	u32 nr_queues;
	char name[PCN_SHM_NAME_BYTES];
	DECLARE_BITMAP(apic_ids, PCN_APIC_IDS_MAX);

	struct pcn_channel *channel;

	spinlock_t meet_lock;
	u32 services_seq;
	u32 missed_seq;
	unsigned long scan_at;

	u64 heartbeat;
	u32 still;

	struct device *dev;
};

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
extern struct mutex pcn_node_mutex;		/* membership: state, epoch, name and dev of all nodes */

void pcn_node_setup(struct pcn_self *self);
int pcn_node_join_as_primary(void);
int pcn_node_leave_as_primary(void);
int pcn_node_join(struct pcn_self *self, u32 id);
void pcn_node_leave(struct pcn_self *self);
void pcn_node_tell_end(u32 state, const char *reason);
void pcn_node_copy_text(char *to, size_t to_bytes, const char *from, size_t from_bytes);
void pcn_node_refresh_apic_ids(struct pcn_node *node);
bool pcn_node_changed(const struct pcn_node *node);
void pcn_node_scan_soon(struct pcn_self *self);
void pcn_node_scan_for(struct pcn_node *node);
void pcn_node_suspect(struct pcn_node *node, u64 rejected);

/**
 * pcn_node_usable() - may be sent to now
 * @node: the node; under tx_lock of a channel to it
 *
 * Inline, as each send asks.
 *
 * Return: 0; -ENODEV if this node has left; -ENOTCONN.
 */
static inline int pcn_node_usable(const struct pcn_node *node)
{
	if (!READ_ONCE(node->self->live))
		return -ENODEV;
	/* The scan may not have seen yet that the node is another one now. */
	if (!node->reachable || READ_ONCE(pcn_fabric_node(node->id)->epoch) != node->epoch)
		return -ENOTCONN;
	return 0;
}

#endif
