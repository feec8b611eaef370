/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_SLICE_H
#define _PCN_SLICE_H

#include <linux/ioport.h>
#include <linux/sizes.h>
#include <linux/types.h>

struct netlink_ext_ack;

#define PCN_SLICE_BYTES		SZ_64K
#define PCN_SLICE_LABEL_BYTES	64

/**
 * struct pcn_slice - a piece of the first MiB, leased to one kernel
 * @start: physical address
 * @map: the slice, mapped; page 0 is for the trampoline, page 1 for the page-table root
 * @saved: what was in it before
 * @label: its name in /proc/iomem
 * @resource: its entry there
 */
struct pcn_slice {
	phys_addr_t start;
	void *map;
	void *saved;
	char label[PCN_SLICE_LABEL_BYTES];
	struct resource resource;
};

int pcn_slice_lease(struct pcn_slice *slice, const char *name, struct netlink_ext_ack *extack);
void pcn_slice_release(struct pcn_slice *slice);
void pcn_slice_clear(struct pcn_slice *slice);

#endif
