/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_FABRIC_H
#define _PCN_FABRIC_H

#include <linux/types.h>

#include "../uapi/popcorn_shm.h"

#define PCN_NODES	16	/* slots that a fabric has; the ids that netlink speaks of */
#define PCN_QUEUES	4	/* channels for each ordered pair of nodes */
#define PCN_RING_SLOTS	64	/* messages that each holds before it grows */

/**
 * struct pcn_fabric - the mapped fabric, with its geometry as it was when it was checked
 * @header: its start; NULL while there is none
 * @phys: where it is, 0 for one that is in this kernel only (loopback.c)
 * @bytes: how large
 * @nr_nodes: node slots
 * @nr_queues: channels for each ordered pair of nodes
 * @ring_slots: slots in each channel
 * @area_bytes: of each node's area
 *
 * The geometry is never read from shared memory again: nobody can move it under us.
 */
struct pcn_fabric {
	struct pcn_shm_header *header;
	phys_addr_t phys;
	size_t bytes;
	u32 nr_nodes;
	u32 nr_queues;
	u32 ring_slots;
	u32 area_bytes;
	u32 node_bytes;
	u32 channel_bytes;
	size_t nodes_offset;
	size_t channels_offset;
	size_t areas_offset;
};

extern struct pcn_fabric pcn_fabric;

int pcn_fabric_join(phys_addr_t phys, size_t bytes);
int pcn_fabric_join_loopback(void);
void pcn_fabric_unmap(void);
struct pcn_shm_node *pcn_fabric_node(u32 id);
struct pcn_shm_channel *pcn_fabric_channel(u32 src, u32 dst, u32 queue);
void *pcn_fabric_area(u32 id);
void pcn_fabric_publish_clock(void);
bool pcn_fabric_read_clock(struct timespec64 *now);

#endif
