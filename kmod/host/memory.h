/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_MEMORY_H
#define _PCN_MEMORY_H

#include <linux/ioport.h>
#include <linux/types.h>

struct netlink_ext_ack;
struct nlattr;

#define PCN_MEMORY_LABEL_BYTES	64

/**
 * struct pcn_memory - a range of memory that this kernel has given away
 * @backend: enum popcorn_memory_backend
 * @start: physical address, a multiple of the granule
 * @bytes: a multiple of the granule
 * @label: its name in /proc/iomem
 * @resource: its entry there (contig)
 */
struct pcn_memory {
	u32 backend;
	phys_addr_t start;
	u64 bytes;
	char label[PCN_MEMORY_LABEL_BYTES];
	struct resource resource;
};

/**
 * struct pcn_memory_wish - what to lease, and whom to blame
 * @name: what it is for
 * @backend: enum popcorn_memory_backend
 * @start: for the reserved backend
 * @bytes: how much
 * @nid: NUMA node to look at first
 * @start_attr: attribute that gave @start, may be NULL
 * @bytes_attr: attribute that gave @bytes, may be NULL
 */
struct pcn_memory_wish {
	const char *name;
	u32 backend;
	u64 start;
	u64 bytes;
	int nid;
	const struct nlattr *start_attr;
	const struct nlattr *bytes_attr;
};

int pcn_memory_lease(struct pcn_memory *memory, const struct pcn_memory_wish *wish,
		     struct netlink_ext_ack *extack);
void pcn_memory_release(struct pcn_memory *memory);
int pcn_memory_scrub(const struct pcn_memory *memory);

#endif
