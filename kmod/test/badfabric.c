// SPDX-License-Identifier: GPL-2.0
/*
 * A fabric that is wrong in one thing, for the tests: popcorn is loaded with its address and must refuse it. There
 * is only its beginning, the header and the node slots; nothing else may be touched before they are found good.
 *
 *	echo reset >/sys/module/popcorn_badfabric/parameters/poke		a good one
 *	echo OFFSET BYTES VALUE >/sys/module/popcorn_badfabric/parameters/poke	with something else in it
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <asm/tsc.h>

#include "../uapi/popcorn_shm.h"

#define BAD_ORDER	8	/* pages that are ours: 1 MiB */
#define BAD_TRIES	32
#define BAD_NODES	16
#define BAD_QUEUES	4
#define BAD_NODE_BYTES	4096
#define BAD_RING_SLOTS	64
#define BAD_CHANNEL_BYTES	\
	ALIGN(sizeof(struct pcn_shm_channel) + BAD_RING_SLOTS * sizeof(struct pcn_shm_slot), 4096)
#define BAD_CHANNELS_OFFSET	(PAGE_SIZE + BAD_NODES * BAD_NODE_BYTES)
#define BAD_AREAS_OFFSET	\
	ALIGN(BAD_CHANNELS_OFFSET + BAD_QUEUES * BAD_NODES * BAD_NODES * BAD_CHANNEL_BYTES, PAGE_SIZE)
#define BAD_AREA_BYTES	SZ_1M
#define BAD_BYTES	(BAD_AREAS_OFFSET + BAD_NODES * (u64)BAD_AREA_BYTES)

static void *bad_pages;

static unsigned long phys;
module_param(phys, ulong, 0444);
MODULE_PARM_DESC(phys, "Read it: where the fabric is");

static unsigned long bytes;
module_param(bytes, ulong, 0444);
MODULE_PARM_DESC(bytes, "Read it: how large it says to be");

static void bad_reset(void)
{
	memset(bad_pages, 0, PAGE_SIZE << BAD_ORDER);
	*(struct pcn_shm_header *)bad_pages = (struct pcn_shm_header) {
		.magic = PCN_SHM_MAGIC,
		.version = PCN_SHM_VERSION,
		.header_bytes = sizeof(struct pcn_shm_header),
		.fabric_bytes = bytes,
		.fabric_phys = phys,
		.nr_nodes = BAD_NODES,
		.node_bytes = BAD_NODE_BYTES,
		.nodes_offset = PAGE_SIZE,
		.channels_offset = BAD_CHANNELS_OFFSET,
		.channel_bytes = BAD_CHANNEL_BYTES,
		.ring_slots = BAD_RING_SLOTS,
		.nr_queues = BAD_QUEUES,
		.tsc_khz = tsc_khz,
		.areas_offset = BAD_AREAS_OFFSET,
		.area_bytes = BAD_AREA_BYTES,
	};
}

static int bad_poke(const char *text, const struct kernel_param *param)
{
	u64 value[3]; /* offset, bytes, value */
	char line[64], *rest = line;
	unsigned int i;

	if (!bad_pages)
		return -ENODEV;
	if (sysfs_streq(text, "reset")) {
		bad_reset();
		return 0;
	}
	if (strscpy(line, text, sizeof(line)) < 0)
		return -E2BIG;
	for (i = 0; i < ARRAY_SIZE(value); i++) {
		char *word = strsep(&rest, " \n");

		if (!word || kstrtou64(word, 0, &value[i]))
			return -EINVAL;
	}
	if (value[1] > sizeof(value[2]) || value[0] > (PAGE_SIZE << BAD_ORDER) - sizeof(value[2]))
		return -ERANGE;
	memcpy(bad_pages + value[0], &value[2], value[1]);
	return 0;
}

static const struct kernel_param_ops bad_poke_ops = {
	.set = bad_poke,
};
module_param_cb(poke, &bad_poke_ops, NULL, 0200);
MODULE_PARM_DESC(poke, "'reset', or OFFSET BYTES VALUE");

/* What is mapped goes far behind our pages; it has to be memory, too, or it could not be mapped at all. */
static int __init bad_init(void)
{
	unsigned long blocks[BAD_TRIES];
	unsigned int nr = 0, i;

	while (nr < BAD_TRIES && !bad_pages) {
		blocks[nr] = __get_free_pages(GFP_KERNEL, BAD_ORDER);
		if (!blocks[nr])
			break;
		if (region_intersects(virt_to_phys((void *)blocks[nr]), BAD_BYTES, IORESOURCE_SYSTEM_RAM,
				      IORES_DESC_NONE) == REGION_INTERSECTS)
			bad_pages = (void *)blocks[nr];
		else
			nr++;
	}
	for (i = 0; i < nr; i++)
		free_pages(blocks[i], BAD_ORDER);
	if (!bad_pages)
		return -ENOMEM;
	phys = virt_to_phys(bad_pages);
	bytes = BAD_BYTES;
	bad_reset();
	return 0;
}

static void __exit bad_exit(void)
{
	free_pages((unsigned long)bad_pages, BAD_ORDER);
}

module_init(bad_init);
module_exit(bad_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Popcorn: fabrics that are wrong, for the tests");
