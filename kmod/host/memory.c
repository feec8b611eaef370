// SPDX-License-Identifier: GPL-2.0
/*
 * Memory: a contiguous range, out of the running kernel's page allocator (contig) or out of what it was
 * booted without (reserved).
 *
 * The page allocator can vacate a range only if nothing unmovable lies in it, and says so after the
 * work. So a survey is made first, which granules look movable; it is only a hint, but it makes most
 * tries succeed, and it is what an error can tell: how much could be had.
 */
#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/hugetlb.h>
#include <linux/io.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pfn.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <asm/e820/api.h>

#include "popcorn_host.h"
#include "memory.h"

#define PCN_MEMORY_LOWEST	SZ_16M	/* below it is memory for ISA DMA */
#define PCN_MEMORY_TRIES	48	/* of a node; each may take seconds */
#define PCN_MEMORY_CHUNK	SZ_2M	/* scrubbed at once */
#define PCN_MEMORY_SPARE	SZ_64M	/* left to this kernel at the least */

#define GRANULE_PAGES		(POPCORN_MEMORY_GRANULE >> PAGE_SHIFT)

/* Where a region begins: coarsely aligned ones leave the rest of memory in larger pieces. */
static const u64 pcn_memory_steps[] = { SZ_128M, SZ_16M, POPCORN_MEMORY_GRANULE };

static DEFINE_MUTEX(pcn_memory_mutex); /* one search at a time: two would spoil each other's range */

/**
 * struct pcn_memory_survey - which granules of a NUMA node look as if they could be had
 * @first: number of the first granule, counted from address 0
 * @nr: granules
 * @movable: one bit for each
 */
struct pcn_memory_survey {
	unsigned long first;
	unsigned long nr;
	unsigned long *movable;
};

static u64 pcn_memory_mib(u64 bytes)
{
	return bytes / SZ_1M;
}

/* Read without a lock or a reference, as has_unmovable_pages() does: a hint. */
static bool pcn_memory_page_movable(struct page *page)
{
	struct page *head = compound_head(page);

	if (PageReserved(page) || PageHWPoison(page) || PageHuge(head))
		return false;
	if (PageBuddy(page) || PageLRU(head))
		return true;
	/* In a per-CPU list of free pages; slab pages may have no reference either. */
	return !page_ref_count(head) && !PageCompound(page) && !PageSlab(head);
}

static bool pcn_memory_granule_movable(unsigned long granule, int nid)
{
	unsigned long pfn = granule * GRANULE_PAGES, i;
	struct page *page = pfn_to_online_page(pfn);
	struct zone *zone;

	if (!page || page_to_nid(page) != nid)
		return false;
	zone = page_zone(page);
	for (i = 0; i < GRANULE_PAGES; i++) {
		page = pfn_to_page(pfn + i);
		if (page_zone(page) != zone || !pcn_memory_page_movable(page))
			return false;
	}
	return true;
}

static int pcn_memory_survey(struct pcn_memory_survey *survey, int nid)
{
	unsigned long granule, end = node_end_pfn(nid) / GRANULE_PAGES;

	survey->first = DIV_ROUND_UP(node_start_pfn(nid), GRANULE_PAGES);
	survey->first = max_t(unsigned long, survey->first, PCN_MEMORY_LOWEST / POPCORN_MEMORY_GRANULE);
	survey->nr = end > survey->first ? end - survey->first : 0;
	/* One more, so that there is something to allocate in a node without a granule. */
	survey->movable = kvcalloc(BITS_TO_LONGS(survey->nr + 1), sizeof(long), GFP_KERNEL);
	if (!survey->movable)
		return -ENOMEM;
	for (granule = survey->first; granule < end; granule++) {
		if (pcn_memory_granule_movable(granule, nid))
			__set_bit(granule - survey->first, survey->movable);
		cond_resched();
	}
	return 0;
}

static void pcn_memory_survey_done(struct pcn_memory_survey *survey)
{
	kvfree(survey->movable);
}

static u64 pcn_memory_longest(const struct pcn_memory_survey *survey)
{
	unsigned long bit = 0, end, longest = 0;

	while ((bit = find_next_bit(survey->movable, survey->nr, bit)) < survey->nr) {
		end = find_next_zero_bit(survey->movable, survey->nr, bit);
		longest = max(longest, end - bit);
		bit = end;
	}
	return longest * (u64)POPCORN_MEMORY_GRANULE;
}

static bool pcn_memory_one_zone(unsigned long granule, unsigned long nr)
{
	struct zone *zone = page_zone(pfn_to_page(granule * GRANULE_PAGES));
	unsigned long i;

	for (i = 1; i < nr; i++)
		if (page_zone(pfn_to_page((granule + i) * GRANULE_PAGES)) != zone)
			return false;
	return true;
}

static int pcn_memory_claim(struct pcn_memory *memory, phys_addr_t start)
{
	unsigned long pfn = PHYS_PFN(start), pages = PHYS_PFN(memory->bytes);
	int ret;

	ret = alloc_contig_range(pfn, pfn + pages, ACR_FLAGS_NONE, GFP_KERNEL | __GFP_NOWARN);
	if (ret)
		return ret;
	memory->resource = (struct resource){
		.name = memory->label,
		.start = start,
		.end = start + memory->bytes - 1,
		.flags = IORESOURCE_MEM,
	};
	/* Fails where the range crosses two entries for RAM, as hot-plugged memory has. */
	ret = insert_resource(&iomem_resource, &memory->resource);
	if (ret) {
		free_contig_range(pfn, pages);
		return ret;
	}
	memory->start = start;
	return 0;
}

/* Top down, so that what needs low addresses keeps them. Returns -ENOSPC when there is no such range. */
static int pcn_memory_search_step(struct pcn_memory *memory, const struct pcn_memory_survey *survey,
				  int step, unsigned int *tries)
{
	unsigned long want = memory->bytes / POPCORN_MEMORY_GRANULE, bit;
	u64 start;
	int ret;

	if (want > survey->nr)
		return -ENOSPC;
	start = ALIGN_DOWN((survey->first + survey->nr - want) * (u64)POPCORN_MEMORY_GRANULE,
			   pcn_memory_steps[step]);
	for (; start >= survey->first * (u64)POPCORN_MEMORY_GRANULE; start -= pcn_memory_steps[step]) {
		if (step && IS_ALIGNED(start, pcn_memory_steps[step - 1]))
			continue; /* had its turn */
		bit = start / POPCORN_MEMORY_GRANULE - survey->first;
		if (find_next_zero_bit(survey->movable, bit + want, bit) < bit + want)
			continue;
		if (!pcn_memory_one_zone(survey->first + bit, want))
			continue;
		if (signal_pending(current))
			return -EINTR;
		if (++*tries > PCN_MEMORY_TRIES)
			return -ENOSPC;
		ret = pcn_memory_claim(memory, start);
		/* -EBUSY: something there would not move after all. */
		if (!ret || ret == -EINTR)
			return ret;
		cond_resched();
	}
	return -ENOSPC;
}

static int pcn_memory_search_node(struct pcn_memory *memory, int nid, u64 *longest, unsigned int *tries)
{
	struct pcn_memory_survey survey;
	unsigned int node_tries = 0;
	int step, ret;

	ret = pcn_memory_survey(&survey, nid);
	if (ret)
		return ret;
	*longest = max(*longest, pcn_memory_longest(&survey));
	for (step = 0; step < ARRAY_SIZE(pcn_memory_steps); step++) {
		ret = pcn_memory_search_step(memory, &survey, step, &node_tries);
		if (ret != -ENOSPC)
			break;
	}
	*tries += min_t(unsigned int, node_tries, PCN_MEMORY_TRIES);
	pcn_memory_survey_done(&survey);
	return ret;
}

/* What this kernel can do without, before it starts to suffer. */
static u64 pcn_memory_dispensable(void)
{
	u64 available = (u64)max_t(long, si_mem_available(), 0) << PAGE_SHIFT;
	u64 spare = max_t(u64, PCN_MEMORY_SPARE, ((u64)totalram_pages() << PAGE_SHIFT) / 32);

	return available > spare ? ALIGN_DOWN(available - spare, POPCORN_MEMORY_GRANULE) : 0;
}

static u64 pcn_memory_longest_anywhere(void)
{
	struct pcn_memory_survey survey;
	u64 longest = 0;
	int nid;

	for_each_online_node(nid) {
		if (pcn_memory_survey(&survey, nid))
			continue;
		longest = max(longest, pcn_memory_longest(&survey));
		pcn_memory_survey_done(&survey);
	}
	return longest;
}

static int pcn_memory_lease_contig(struct pcn_memory *memory, const struct pcn_memory_wish *wish,
				   struct netlink_ext_ack *extack)
{
	u64 longest = 0, dispensable = pcn_memory_dispensable();
	unsigned int tries = 0;
	int nid, ret = -ENOSPC;

	if (wish->start) {
		pcn_nl_refuse(extack, wish->start_attr,
			      "a start address is for the reserved backend only");
		return -EINVAL;
	}
	if (memory->bytes > dispensable) {
		pcn_nl_refuse(extack, wish->bytes_attr,
			      "%llu MiB are not to be had: at most %llu MiB, this kernel needs the rest",
			      pcn_memory_mib(memory->bytes),
			      pcn_memory_mib(min(dispensable, pcn_memory_longest_anywhere())));
		return -ENOMEM;
	}
	if (mutex_lock_interruptible(&pcn_memory_mutex))
		return -EINTR;
	if (node_online(wish->nid))
		ret = pcn_memory_search_node(memory, wish->nid, &longest, &tries);
	for_each_online_node(nid) {
		if (ret != -ENOSPC)
			break;
		if (nid != wish->nid)
			ret = pcn_memory_search_node(memory, nid, &longest, &tries);
	}
	mutex_unlock(&pcn_memory_mutex);

	if (ret == -EINTR) {
		pcn_nl_refuse(extack, NULL, "interrupted");
	} else if (ret == -ENOSPC) {
		ret = -ENOMEM;
		longest = min(dispensable, longest);
		if (longest < memory->bytes)
			pcn_nl_refuse(extack, wish->bytes_attr,
				      "%llu MiB are not to be had in one piece: at most %llu MiB",
				      pcn_memory_mib(memory->bytes), pcn_memory_mib(longest));
		else
			pcn_nl_refuse(extack, wish->bytes_attr,
				      "%llu MiB could not be vacated in %u tries: at most %llu MiB looked movable",
				      pcn_memory_mib(memory->bytes), tries, pcn_memory_mib(longest));
	} else if (ret) {
		pcn_nl_refuse(extack, wish->bytes_attr, "no memory for the search (%d)", ret);
	}
	return ret;
}

/* True if the whole range is RAM that this kernel was told to keep its hands off. */
static bool pcn_memory_is_spared(u64 start, u64 end)
{
	u64 page;

	for (page = start; page < end; page += PAGE_SIZE) {
		if (page_is_ram(PHYS_PFN(page)) ||
		    !e820__mapped_any(page, page + PAGE_SIZE, E820_TYPE_RESERVED) ||
		    !pcn_firmware_says_ram(page))
			return false;
		if (IS_ALIGNED(page, SZ_64M))
			cond_resched();
	}
	return true;
}

static int pcn_memory_lease_reserved(struct pcn_memory *memory, const struct pcn_memory_wish *wish,
				     struct netlink_ext_ack *extack)
{
	u64 end;

	if (!wish->start) {
		pcn_nl_refuse(extack, wish->start_attr, "the reserved backend needs a start address");
		return -EINVAL;
	}
	if (!IS_ALIGNED(wish->start, POPCORN_MEMORY_GRANULE)) {
		pcn_nl_refuse(extack, wish->start_attr, "memory start %#llx is not a multiple of %llu MiB",
			      wish->start, pcn_memory_mib(POPCORN_MEMORY_GRANULE));
		return -EINVAL;
	}
	if (check_add_overflow(wish->start, memory->bytes, &end) ||
	    end > 1ULL << boot_cpu_data.x86_phys_bits) {
		pcn_nl_refuse(extack, wish->bytes_attr, "%llu MiB at %#llx end beyond the last address",
			      pcn_memory_mib(memory->bytes), wish->start);
		return -EINVAL;
	}
	if (!pcn_memory_is_spared(wish->start, end)) {
		if (page_is_ram(PHYS_PFN(wish->start)))
			pcn_nl_refuse(extack, wish->start_attr,
				      "%#llx-%#llx is in use as RAM; boot with memmap=%lluM$%#llx",
				      wish->start, end - 1, pcn_memory_mib(memory->bytes), wish->start);
		else
			pcn_nl_refuse(extack, wish->start_attr, "%#llx-%#llx is not reserved RAM",
				      wish->start, end - 1);
		return -EINVAL;
	}
	/* Another lease there, or a driver's claim, makes this fail. */
	if (!request_mem_region(wish->start, memory->bytes, memory->label)) {
		pcn_nl_refuse(extack, wish->start_attr, "%#llx-%#llx is in use, see /proc/iomem",
			      wish->start, end - 1);
		return -EBUSY;
	}
	memory->start = wish->start;
	return 0;
}

/**
 * pcn_memory_lease() - take memory away from this kernel
 * @memory: filled
 * @wish: what for, how much
 * @extack: told why not
 *
 * It is zeroed. May take seconds.
 *
 * Return: 0, -EINVAL, -ENOMEM if it is not to be had, -EBUSY, -EINTR if a signal came.
 */
int pcn_memory_lease(struct pcn_memory *memory, const struct pcn_memory_wish *wish,
		     struct netlink_ext_ack *extack)
{
	int ret;

	if (!wish->bytes || !IS_ALIGNED(wish->bytes, POPCORN_MEMORY_GRANULE)) {
		pcn_nl_refuse(extack, wish->bytes_attr, "memory size %llu is not a multiple of %llu MiB",
			      wish->bytes, pcn_memory_mib(POPCORN_MEMORY_GRANULE));
		return -EINVAL;
	}
	memset(memory, 0, sizeof(*memory));
	memory->backend = wish->backend;
	memory->bytes = wish->bytes;
	snprintf(memory->label, sizeof(memory->label), "Popcorn %s", wish->name);

	switch (wish->backend) {
	case POPCORN_MEMORY_BACKEND_CONTIG:
		ret = pcn_memory_lease_contig(memory, wish, extack);
		break;
	case POPCORN_MEMORY_BACKEND_RESERVED:
		ret = pcn_memory_lease_reserved(memory, wish, extack);
		break;
	default:
		pcn_nl_refuse(extack, NULL, "no such memory backend: %u", wish->backend);
		ret = -EINVAL;
	}
	if (ret)
		return ret;
	/* The allocator may have done it: twice would take as long as all the rest. */
	if (wish->backend == POPCORN_MEMORY_BACKEND_CONTIG && want_init_on_alloc(GFP_KERNEL))
		return 0;
	ret = pcn_memory_scrub(memory);
	if (ret) {
		pcn_nl_refuse(extack, wish->start_attr, "%#llx cannot be mapped (%d)", (u64)memory->start,
			      ret);
		pcn_memory_release(memory);
	}
	return ret;
}

/**
 * pcn_memory_release() - give memory back to this kernel
 * @memory: from pcn_memory_lease(); nobody uses it. What is in it is the caller's to scrub
 */
void pcn_memory_release(struct pcn_memory *memory)
{
	if (memory->backend == POPCORN_MEMORY_BACKEND_RESERVED) {
		release_mem_region(memory->start, memory->bytes);
	} else {
		remove_resource(&memory->resource);
		free_contig_range(PHYS_PFN(memory->start), PHYS_PFN(memory->bytes));
	}
	memset(memory, 0, sizeof(*memory));
}

/**
 * pcn_memory_scrub() - zero it
 * @memory: from pcn_memory_lease()
 *
 * Return: 0, -ENOMEM if a piece of it could not be mapped.
 */
int pcn_memory_scrub(const struct pcn_memory *memory)
{
	u64 done;

	for (done = 0; done < memory->bytes; done += PCN_MEMORY_CHUNK) {
		/* RAM of this kernel comes out of its direct map; no mapping is made for it. */
		void *chunk = memremap(memory->start + done, PCN_MEMORY_CHUNK, MEMREMAP_WB);

		if (!chunk)
			return -ENOMEM;
		memset64(chunk, 0, PCN_MEMORY_CHUNK / sizeof(u64));
		memunmap(chunk);
		cond_resched();
	}
	return 0;
}
