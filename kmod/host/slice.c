// SPDX-License-Identifier: GPL-2.0
/*
 * Slices of the first MiB. SIPI starts a CPU in real mode, so every secondary needs a page there for our
 * trampoline and room for its own one. Kernels of today reserve the whole first MiB and use, once
 * booted, only their own trampoline near its end.
 */
#include <linux/bitmap.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pfn.h>
#include <linux/slab.h>
#include <asm/bios_ebda.h>

#include "popcorn_host.h"
#include "slice.h"

#define PCN_SLICE_FIRST		0x20000
#define PCN_SLICE_END		0x90000
#define PCN_SLICES		((PCN_SLICE_END - PCN_SLICE_FIRST) / PCN_SLICE_BYTES)

/* An extended BIOS data area lies somewhere here, or the BIOS did not say (arch/x86/kernel/ebda.c). */
#define PCN_SLICE_EBDA_MIN	0x20000
#define PCN_SLICE_EBDA_MAX	0x9f000

#define PCN_SLICE_TRAMPOLINE_MAX SZ_64K

static DECLARE_BITMAP(pcn_slices_used, PCN_SLICES);
static DEFINE_MUTEX(pcn_slice_mutex);

/*
 * This kernel's own trampoline begins with a table of where its parts are (struct real_mode_header):
 * physical addresses, which start with its own. Where that is cannot be asked for.
 */
static bool pcn_slice_page_is_trampoline(phys_addr_t page, const u32 *words)
{
	int i;

	/* text_start, ro_end, trampoline_start, trampoline_header */
	for (i = 0; i < 4; i++)
		if (words[i] < page || words[i] >= page + PCN_SLICE_TRAMPOLINE_MAX)
			return false;
	return words[0] < words[1];
}

static bool pcn_slice_holds_trampoline(phys_addr_t start)
{
	phys_addr_t page;

	/* It may begin before the slice and reach into it. */
	for (page = start - PCN_SLICE_TRAMPOLINE_MAX; page < start + PCN_SLICE_BYTES; page += PAGE_SIZE)
		if (page_is_ram(PHYS_PFN(page)) &&
		    pcn_slice_page_is_trampoline(page, phys_to_virt(page)))
			return true;
	return false;
}

static bool pcn_slice_is_idle_ram(phys_addr_t start)
{
	unsigned int ebda = get_bios_ebda();
	unsigned long pfn;

	/* The EBDA reaches from there to the end of conventional memory. */
	if (ebda >= PCN_SLICE_EBDA_MIN && ebda <= PCN_SLICE_EBDA_MAX && start + PCN_SLICE_BYTES > ebda)
		return false;
	for (pfn = PHYS_PFN(start); pfn < PHYS_PFN(start + PCN_SLICE_BYTES); pfn++)
		if (!page_is_ram(pfn) || !pfn_valid(pfn) || !PageReserved(pfn_to_page(pfn)))
			return false;
	return true;
}

static int pcn_slice_take(struct pcn_slice *slice, phys_addr_t start)
{
	int ret;

	if (!pcn_slice_is_idle_ram(start) || pcn_slice_holds_trampoline(start))
		return -EBUSY;
	slice->map = memremap(start, PCN_SLICE_BYTES, MEMREMAP_WB);
	if (!slice->map)
		return -ENOMEM;
	slice->saved = kvmalloc(PCN_SLICE_BYTES, GFP_KERNEL);
	if (!slice->saved) {
		ret = -ENOMEM;
		goto err_map;
	}
	slice->resource = (struct resource){
		.name = slice->label,
		.start = start,
		.end = start + PCN_SLICE_BYTES - 1,
		.flags = IORESOURCE_MEM,
	};
	ret = insert_resource(&iomem_resource, &slice->resource);
	if (ret)
		goto err_resource;
	slice->start = start;
	memcpy(slice->saved, slice->map, PCN_SLICE_BYTES);
	pcn_slice_clear(slice);
	return 0;

err_resource:
	kvfree(slice->saved);
err_map:
	memunmap(slice->map);
	return ret;
}

/**
 * pcn_slice_lease() - take a slice of the first MiB
 * @slice: filled
 * @name: of the kernel that it is for
 * @extack: told why not
 *
 * Return: 0, -ENOSPC if no slice is left, -ENOMEM.
 */
int pcn_slice_lease(struct pcn_slice *slice, const char *name, struct netlink_ext_ack *extack)
{
	int ret = -ENOSPC;
	u32 i;

	memset(slice, 0, sizeof(*slice));
	snprintf(slice->label, sizeof(slice->label), "Popcorn %s low", name);
	mutex_lock(&pcn_slice_mutex);
	for_each_clear_bit(i, pcn_slices_used, PCN_SLICES) {
		ret = pcn_slice_take(slice, PCN_SLICE_FIRST + i * PCN_SLICE_BYTES);
		if (!ret) {
			__set_bit(i, pcn_slices_used);
			break;
		}
		if (ret == -ENOMEM)
			break;
		ret = -ENOSPC;
	}
	mutex_unlock(&pcn_slice_mutex);
	if (ret == -ENOSPC)
		pcn_nl_refuse(extack, NULL, "no slice of the first MiB is left: %u are leased",
			      bitmap_weight(pcn_slices_used, PCN_SLICES));
	else if (ret)
		pcn_nl_refuse(extack, NULL, "no memory to save a slice of the first MiB");
	return ret;
}

/**
 * pcn_slice_release() - give a slice back as it was
 * @slice: from pcn_slice_lease(); its kernel does not run
 */
void pcn_slice_release(struct pcn_slice *slice)
{
	mutex_lock(&pcn_slice_mutex);
	memcpy(slice->map, slice->saved, PCN_SLICE_BYTES);
	remove_resource(&slice->resource);
	kvfree(slice->saved);
	memunmap(slice->map);
	__clear_bit((slice->start - PCN_SLICE_FIRST) / PCN_SLICE_BYTES, pcn_slices_used);
	memset(slice, 0, sizeof(*slice));
	mutex_unlock(&pcn_slice_mutex);
}

/**
 * pcn_slice_clear() - wipe what a kernel left there
 * @slice: from pcn_slice_lease(); its kernel does not run
 */
void pcn_slice_clear(struct pcn_slice *slice)
{
	memset(slice->map, 0, PCN_SLICE_BYTES);
}
