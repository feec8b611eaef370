/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_NODE_H
#define _PCN_NODE_H

#include <linux/bitmap.h>
#include <linux/device.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>

#include "popcorn_host.h"
#include "fabric.h"
#include "ring.h"

/**
 * struct pcn_node - what this kernel knows of a node; its own one included
 * @id: index in pcn_nodes
 * @state: enum popcorn_node_state as last seen by the scan
 * @epoch: likewise; messages go only to and come only from this incarnation
 * @reachable: @tx and @rx are set up. Written under @tx_lock and @rx_lock
 * @name: copied from the slot
 * @apic_ids: CPUs that its doorbell may point at
 * @tx_lock: serialises senders
 * @tx: channel to it
 * @rx_lock: taken by the poller; serialises it against a new incarnation
 * @rx: channel from it
 * @sent: messages, under @tx_lock
 * @doorbells: rung at it
 * @received: messages, under @rx_lock
 * @services_seq: of its table of services, as last looked at
 * @rejected: messages that failed a check, under @rx_lock
 * @dev: in sysfs, NULL while the node is absent
 */
struct pcn_node {
	u32 id;
	u32 state;
	u32 epoch;
	bool reachable;
	char name[PCN_SHM_NAME_BYTES];
	DECLARE_BITMAP(apic_ids, PCN_APIC_IDS_MAX);

	spinlock_t tx_lock;
	struct pcn_ring tx;
	u64 sent;
	atomic64_t doorbells;

	spinlock_t rx_lock;
	struct pcn_ring rx;
	u64 received;
	u64 rejected;
	u32 services_seq;

	struct device *dev;
};

/**
 * struct pcn_local - which node this kernel is
 * @id: node id
 * @epoch: of this incarnation
 * @live: on the fabric; false makes every sender turn away
 */
struct pcn_local {
	u32 id;
	u32 epoch;
	bool live;
};

extern struct pcn_node pcn_nodes[PCN_NODES];
extern struct pcn_local pcn_local;
extern struct mutex pcn_node_mutex;	/* membership: state, epoch, name and dev of all nodes */

void pcn_node_setup(void);
int pcn_node_join_as_primary(void);
int pcn_node_leave_as_primary(void);
int pcn_node_join(u32 id);
void pcn_node_tell_end(u32 state, const char *reason);
void pcn_node_copy_text(char *to, size_t to_bytes, const char *from, size_t from_bytes);
void pcn_node_refresh_apic_ids(struct pcn_node *node);
bool pcn_node_changed(const struct pcn_node *node);
void pcn_node_scan_soon(void);

#endif
