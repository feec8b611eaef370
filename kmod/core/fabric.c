// SPDX-License-Identifier: GPL-2.0
#include <linux/dmi.h>
#include <linux/io.h>
#include <linux/jhash.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sizes.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>
#include <asm/tsc.h>

#include "popcorn_host.h"
#include "fabric.h"
#include "ring.h"
#include "self.h"

struct pcn_fabric pcn_fabric;

#define PCN_FABRIC_NODE_BYTES	4096
#define PCN_FABRIC_CHANNEL_BYTES \
	ALIGN(sizeof(struct pcn_shm_channel) + PCN_RING_SLOTS * sizeof(struct pcn_shm_slot), 1024)
#define PCN_FABRIC_AREAS_OFFSET \
	ALIGN(PAGE_SIZE + PCN_NODES * PCN_FABRIC_NODE_BYTES + \
	      PCN_QUEUES * PCN_NODES * PCN_NODES * PCN_FABRIC_CHANNEL_BYTES, PAGE_SIZE)
/* Two of the longest messages under way, and as much again for grown rings. */
#define PCN_FABRIC_AREA_BYTES_MIN	(4 * PCN_SHM_BODY_BYTES)
#define PCN_FABRIC_AREA_BYTES_MAX	SZ_1G
#define PCN_FABRIC_LOOPBACK_BYTES	SZ_32M

static_assert(sizeof(struct pcn_shm_node) <= PCN_FABRIC_NODE_BYTES);

/**
 * pcn_fabric_bytes_min() - the smallest fabric that holds every node, channel and area
 */
size_t pcn_fabric_bytes_min(void)
{
	return PCN_FABRIC_AREAS_OFFSET + PCN_NODES * PCN_FABRIC_AREA_BYTES_MIN;
}
EXPORT_SYMBOL_GPL(pcn_fabric_bytes_min);

/**
 * pcn_fabric_node() - a node's slot
 * @id: below the fabric's nr_nodes
 */
struct pcn_shm_node *pcn_fabric_node(u32 id)
{
	return (void *)pcn_fabric.header + pcn_fabric.nodes_offset + id * pcn_fabric.node_bytes;
}

/**
 * pcn_fabric_channel() - the channel from one node to another
 * @src: below the fabric's nr_nodes
 * @dst: likewise
 * @queue: below its nr_queues
 */
struct pcn_shm_channel *pcn_fabric_channel(u32 src, u32 dst, u32 queue)
{
	size_t index = (queue * pcn_fabric.nr_nodes + src) * pcn_fabric.nr_nodes + dst;

	return (void *)pcn_fabric.header + pcn_fabric.channels_offset +
	       index * pcn_fabric.channel_bytes;
}

/**
 * pcn_fabric_area() - the area of a node
 * @id: below the fabric's nr_nodes
 */
void *pcn_fabric_area(u32 id)
{
	return (void *)pcn_fabric.header + pcn_fabric.areas_offset + (size_t)id * pcn_fabric.area_bytes;
}

/* Does a table of @nr entries of @each bytes at @offset end, and where? */
static bool pcn_fabric_end(u64 offset, u64 nr, u64 each, u64 *end)
{
	return !check_mul_overflow(nr, each, end) && !check_add_overflow(*end, offset, end);
}

/* Nothing of the header is believed that would lead outside the mapping. */
static int pcn_fabric_adopt(struct pcn_shm_header *header, phys_addr_t phys, size_t bytes)
{
	u32 version = READ_ONCE(header->version);
	u32 nr_nodes = READ_ONCE(header->nr_nodes), node_bytes = READ_ONCE(header->node_bytes);
	u32 ring_slots = READ_ONCE(header->ring_slots), nr_queues = READ_ONCE(header->nr_queues);
	u32 channel_bytes = READ_ONCE(header->channel_bytes);
	u64 area_bytes = READ_ONCE(header->area_bytes), areas = READ_ONCE(header->areas_offset);
	u64 nodes = READ_ONCE(header->nodes_offset), channels = READ_ONCE(header->channels_offset);
	u64 nodes_end, channels_end, areas_end;

	if (READ_ONCE(header->magic) != PCN_SHM_MAGIC) {
		pr_err("no fabric at %pa: wrong magic\n", &phys);
		return -EINVAL;
	}
	if (version >> 16 != PCN_SHM_VERSION_MAJOR) {
		pr_err("fabric has layout version %u.%u, this module knows %u\n", version >> 16,
		       version & 0xffff, PCN_SHM_VERSION_MAJOR);
		return -EPROTONOSUPPORT;
	}
	if (READ_ONCE(header->fabric_phys) != phys || READ_ONCE(header->fabric_bytes) != bytes) {
		pr_err("fabric says it is %llu bytes at %#llx, not %zu at %pa\n",
		       READ_ONCE(header->fabric_bytes), READ_ONCE(header->fabric_phys), bytes, &phys);
		return -EINVAL;
	}
	if (!nr_nodes || nr_nodes > PCN_NODES || node_bytes < sizeof(struct pcn_shm_node) ||
	    !IS_ALIGNED(node_bytes, 64) || nodes < sizeof(*header) || !IS_ALIGNED(nodes, 64) ||
	    !pcn_fabric_end(nodes, nr_nodes, node_bytes, &nodes_end) || nodes_end > bytes) {
		pr_err("fabric has bad node slots: %u of %u bytes at %llu\n", nr_nodes, node_bytes, nodes);
		return -EINVAL;
	}
	if (!nr_queues || nr_queues > PCN_QUEUES) {
		pr_err("fabric has %u queues, this module knows 1 to %u\n", nr_queues, PCN_QUEUES);
		return -EINVAL;
	}
	if (ring_slots < 4 || ring_slots > PCN_SHM_RING_SLOTS_MAX || !is_power_of_2(ring_slots) ||
	    !IS_ALIGNED(channel_bytes, 64) ||
	    channel_bytes < sizeof(struct pcn_shm_channel) + (u64)ring_slots * sizeof(struct pcn_shm_slot) ||
	    channels < nodes_end || !IS_ALIGNED(channels, 64) ||
	    !pcn_fabric_end(channels, (u64)nr_queues * nr_nodes * nr_nodes, channel_bytes, &channels_end) ||
	    channels_end > bytes) {
		pr_err("fabric has bad channels: %u slots in %u bytes at %llu\n", ring_slots,
		       channel_bytes, channels);
		return -EINVAL;
	}
	if (area_bytes < PCN_FABRIC_AREA_BYTES_MIN || area_bytes > PCN_FABRIC_AREA_BYTES_MAX ||
	    !PAGE_ALIGNED(area_bytes) || areas < channels_end || !PAGE_ALIGNED(areas) ||
	    !pcn_fabric_end(areas, nr_nodes, area_bytes, &areas_end) || areas_end > bytes) {
		pr_err("fabric has bad areas: %llu bytes each at %llu\n", area_bytes, areas);
		return -EINVAL;
	}
	pcn_fabric = (struct pcn_fabric){
		.header = header,
		.phys = phys,
		.bytes = bytes,
		.nr_nodes = nr_nodes,
		.nr_queues = nr_queues,
		.ring_slots = ring_slots,
		.area_bytes = area_bytes,
		.node_bytes = node_bytes,
		.channel_bytes = channel_bytes,
		.nodes_offset = nodes,
		.channels_offset = channels,
		.areas_offset = areas,
	};
	return 0;
}

static struct pcn_shm_header *pcn_fabric_map(phys_addr_t phys, size_t bytes)
{
	if (!phys || !PAGE_ALIGNED(phys) || bytes < PAGE_SIZE)
		return NULL;
	return memremap(phys, bytes, MEMREMAP_WB);
}

/**
 * pcn_fabric_join() - map the fabric that the primary made
 * @phys: where it is
 * @bytes: how large
 *
 * Return: 0, -EINVAL if there is none or it makes no sense, -EPROTONOSUPPORT for another version, -ENOMEM.
 */
int pcn_fabric_join(phys_addr_t phys, size_t bytes)
{
	struct pcn_shm_header *header = pcn_fabric_map(phys, bytes);
	int ret;

	if (!header) {
		pr_err("cannot map a fabric of %zu bytes at %pa\n", bytes, &phys);
		return -EINVAL;
	}
	ret = pcn_fabric_adopt(header, phys, bytes);
	if (ret)
		memunmap(header);
	return ret;
}

/**
 * pcn_fabric_unmap() - forget the fabric; nobody may be using it any more
 */
void pcn_fabric_unmap(void)
{
	if (pcn_fabric.phys)
		memunmap(pcn_fabric.header);
	else
		vfree(pcn_fabric.header);
	memset(&pcn_fabric, 0, sizeof(pcn_fabric));
}

/**
 * pcn_fabric_publish_clock() - the primary tells what time it is
 *
 * Secondaries have no clock chip; they add the TSC cycles since then. Called by one thread at a time.
 */
void pcn_fabric_publish_clock(void)
{
	struct pcn_shm_header *header = pcn_fabric.header;
	u32 seq = header->clock_seq | 1;
	unsigned long flags;

	WRITE_ONCE(header->clock_seq, seq);
	smp_wmb(); /* [C] the odd number before the values */
	local_irq_save(flags);
	WRITE_ONCE(header->clock_tsc, rdtsc_ordered());
	WRITE_ONCE(header->clock_ns, ktime_get_real_ns());
	local_irq_restore(flags);
	smp_store_release(&header->clock_seq, seq + 1); /* [E] the values before the even number */
}

/**
 * pcn_fabric_read_clock() - what time is it, by the primary's clock
 * @now: set to it
 *
 * Return: false if the primary has not told, or is telling without an end.
 */
bool pcn_fabric_read_clock(struct timespec64 *now)
{
	struct pcn_shm_header *header = pcn_fabric.header;
	u32 khz = READ_ONCE(header->tsc_khz), seq;
	u64 tsc, ns;
	int tries;

	for (tries = 0; tries < 1000; tries++, cpu_relax()) {
		seq = smp_load_acquire(&header->clock_seq); /* pairs with [E] */
		if (!seq || seq & 1)
			continue;
		tsc = READ_ONCE(header->clock_tsc);
		ns = READ_ONCE(header->clock_ns);
		smp_rmb(); /* pairs with [C] */
		if (READ_ONCE(header->clock_seq) != seq || !khz)
			continue;
		ns += mul_u64_u32_div(rdtsc_ordered() - tsc, 1000000, khz);
		*now = ns_to_timespec64(ns);
		return timespec64_valid_settod(now);
	}
	return false;
}

/* Virtual machines often have no more than their kind. */
static u32 pcn_fabric_hash_machine(void)
{
	static const int fields[] = { DMI_SYS_VENDOR, DMI_PRODUCT_NAME, DMI_PRODUCT_UUID, DMI_PRODUCT_SERIAL,
				      DMI_BOARD_SERIAL };
	u32 hash = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		const char *text = dmi_get_system_info(fields[i]);

		if (text)
			hash = jhash(text, strlen(text), hash);
	}
	return hash;
}

static void pcn_fabric_lay_out(struct pcn_shm_header *header, phys_addr_t start, size_t bytes)
{
	memset(header, 0, bytes);
	*header = (struct pcn_shm_header){
		.version = PCN_SHM_VERSION,
		.header_bytes = sizeof(*header),
		.fabric_bytes = bytes,
		.fabric_phys = start,
		.nr_nodes = PCN_NODES,
		.node_bytes = PCN_FABRIC_NODE_BYTES,
		.nodes_offset = PAGE_SIZE,
		.channels_offset = PAGE_SIZE + PCN_NODES * PCN_FABRIC_NODE_BYTES,
		.channel_bytes = PCN_FABRIC_CHANNEL_BYTES,
		.ring_slots = PCN_RING_SLOTS,
		.nr_queues = PCN_QUEUES,
		.tsc_khz = tsc_khz,
		.machine = pcn_fabric_hash_machine(),
		.areas_offset = PCN_FABRIC_AREAS_OFFSET,
		.area_bytes = min_t(u64, PCN_FABRIC_AREA_BYTES_MAX,
				    round_down((bytes - PCN_FABRIC_AREAS_OFFSET) / PCN_NODES, PAGE_SIZE)),
	};
	smp_store_release(&header->magic, PCN_SHM_MAGIC);
}

static int pcn_fabric_join_own(struct pcn_shm_header *header, phys_addr_t start, size_t bytes)
{
	int ret;

	pcn_fabric_lay_out(header, start, bytes);
	ret = pcn_fabric_adopt(header, start, bytes);
	if (ret)
		return ret;
	pcn_fabric_publish_clock();
	return pcn_self_join_as_primary();
}

/**
 * pcn_fabric_create() - lay out a new fabric, with this kernel as node 0
 * @start: physical address, page-aligned
 * @bytes: at least pcn_fabric_bytes_min()
 *
 * Return: 0, -EBUSY if this kernel is on a fabric already, -EINVAL, -ENOMEM, or what joining gave.
 */
int pcn_fabric_create(phys_addr_t start, size_t bytes)
{
	struct pcn_shm_header *header;
	int ret;

	if (bytes < pcn_fabric_bytes_min())
		return -EINVAL;
	if (pcn_fabric.header)
		return -EBUSY;
	header = pcn_fabric_map(start, bytes);
	if (!header)
		return -ENOMEM;
	ret = pcn_fabric_join_own(header, start, bytes);
	if (ret) {
		memunmap(header);
		memset(&pcn_fabric, 0, sizeof(pcn_fabric));
	}
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_fabric_create);

/**
 * pcn_fabric_join_loopback() - a fabric in this kernel's own memory, with this kernel as node 0
 *
 * Return: 0, -ENOMEM, or what joining gave.
 */
int pcn_fabric_join_loopback(void)
{
	struct pcn_shm_header *header = vzalloc(PCN_FABRIC_LOOPBACK_BYTES);
	int ret;

	if (!header)
		return -ENOMEM;
	ret = pcn_fabric_join_own(header, 0, PCN_FABRIC_LOOPBACK_BYTES);
	if (ret) {
		vfree(header);
		memset(&pcn_fabric, 0, sizeof(pcn_fabric));
	}
	return ret;
}

/**
 * pcn_fabric_destroy() - leave the fabric that this kernel made
 *
 * Return: 0, -EBUSY while another node is on it or expected, -ENODEV.
 */
int pcn_fabric_destroy(void)
{
	int ret;

	if (!pcn_fabric.header)
		return -ENODEV;
	ret = pcn_self_leave_as_primary();
	if (ret)
		return ret;
	WRITE_ONCE(pcn_fabric.header->magic, 0);
	pcn_fabric_unmap();
	return 0;
}
EXPORT_SYMBOL_GPL(pcn_fabric_destroy);
