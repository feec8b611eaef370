/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_NODE_H
#define _PCN_NODE_H

#include <linux/bitmap.h>
#include <linux/device.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>

#include "popcorn_host.h"
#include "fabric.h"

struct pcn_channel;
struct pcn_self;

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

extern struct mutex pcn_node_mutex;		/* membership: state, epoch, name and dev of all nodes */

void pcn_node_setup(struct pcn_self *self);
void pcn_node_copy_text(char *to, size_t to_bytes, const char *from, size_t from_bytes);
void pcn_node_announce(struct pcn_node *node);
void pcn_node_disconnect(struct pcn_node *node);
void pcn_node_write_apic_ids(struct pcn_shm_node *shm, const unsigned long *map);
void pcn_node_read_apic_ids(unsigned long *map, const struct pcn_shm_node *shm);
void pcn_node_refresh_apic_ids(struct pcn_node *node);
bool pcn_node_changed(const struct pcn_node *node);
void pcn_node_scan_soon(struct pcn_self *self);
void pcn_node_scan_for(struct pcn_node *node);
void pcn_node_suspect(struct pcn_node *node, u64 rejected);

#endif
