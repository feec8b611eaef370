// SPDX-License-Identifier: GPL-2.0
/*
 * Starting what was loaded. A secondary that takes a triple fault resets the whole machine, so whatever
 * can be checked about the first steps is checked here.
 */
#include <linux/bits.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <asm/bootparam.h>

#include "kernel.h"
#include "start.h"
#include "trampoline.h"

#define PCN_START_ROOT_OFFSET	PAGE_SIZE	/* of the page-table root in the slice */
#define PCN_START_HEADER_BYTES	SZ_1M		/* at the start of the region, for tables: no code there */
#define PCN_START_WAIT_MS	1000

/* 4-level page tables ("4-Level Paging", Intel SDM 3A); the trampoline knows no others. */
#define PCN_START_ROOT_SHIFT	39
#define PCN_START_LEVEL_BITS	9
#define PCN_START_ADDRESS_MASK	GENMASK_ULL(51, PAGE_SHIFT)

#define PCN_START_SETUP_MAGIC	0x53726448	/* "HdrS" */

static bool pcn_start_in_region(const struct pcn_kernel *kernel, u64 start, u64 bytes)
{
	const struct pcn_memory *memory = &kernel->memory;

	return start >= memory->start && start - memory->start < memory->bytes &&
	       bytes <= memory->bytes - (start - memory->start);
}

static bool pcn_start_in_slice(const struct pcn_kernel *kernel, u64 start)
{
	return start >= kernel->slice.start && start - kernel->slice.start < PCN_SLICE_BYTES;
}

static bool pcn_start_read_entry(const struct pcn_kernel *kernel, u64 table, unsigned int index, u64 *entry)
{
	u64 *map;

	if (!pcn_start_in_region(kernel, table, PAGE_SIZE) && !pcn_start_in_slice(kernel, table))
		return false;
	map = memremap(table, PAGE_SIZE, MEMREMAP_WB);
	if (!map)
		return false;
	*entry = map[index];
	memunmap(map);
	return true;
}

/* Does the address translate to itself, by tables that all lie in the lease? */
static bool pcn_start_maps_itself(const struct pcn_kernel *kernel, u64 root, u64 address)
{
	u64 table = root, entry, page_mask;
	unsigned int index;
	int shift;

	for (shift = PCN_START_ROOT_SHIFT; shift >= PAGE_SHIFT; shift -= PCN_START_LEVEL_BITS) {
		index = (address >> shift) & (PTRS_PER_PTE - 1);
		if (!pcn_start_read_entry(kernel, table, index, &entry))
			return false;
		/* The trampoline does not turn EFER.NXE on: to it the bit is a reserved one. */
		if (!(entry & _PAGE_PRESENT) || entry & _PAGE_NX)
			return false;
		table = entry & PCN_START_ADDRESS_MASK;
		if (shift == PAGE_SHIFT || (entry & _PAGE_PSE && shift < PCN_START_ROOT_SHIFT)) {
			page_mask = ~(BIT_ULL(shift) - 1);
			return (table & page_mask) == (address & page_mask);
		}
	}
	return false;
}

static int pcn_start_check_setup_header(const struct pcn_boot_request *req, struct netlink_ext_ack *extack)
{
	const struct nlattr *attr = req->attrs[POPCORN_A_KERNEL_BOOT_PARAMS];
	const struct boot_params *params = memremap(req->boot_params, PAGE_SIZE, MEMREMAP_WB);
	u32 magic;

	if (!params) {
		pcn_nl_refuse(extack, attr, "boot_params %#llx cannot be mapped", req->boot_params);
		return -ENOMEM;
	}
	magic = params->hdr.header;
	memunmap((void *)params);
	if (magic == PCN_START_SETUP_MAGIC)
		return 0;
	pcn_nl_refuse(extack, attr, "no setup header in the zero page at %#llx: was it loaded?",
		      req->boot_params);
	return -ENOEXEC;
}

static int pcn_start_check_mapping(const struct pcn_kernel *kernel, const struct pcn_boot_request *req,
				   struct netlink_ext_ack *extack)
{
	const struct {
		const char *what;
		u64 address;
	} needed[] = {
		{ "the trampoline", kernel->slice.start },
		{ "boot_params", req->boot_params },
		{ "the entry point", req->entry },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(needed); i++) {
		if (pcn_start_maps_itself(kernel, req->page_table_root, needed[i].address))
			continue;
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_PAGE_TABLE_ROOT],
			      "the page tables at %#llx do not map %s at %#llx to itself",
			      req->page_table_root, needed[i].what, needed[i].address);
		return -EINVAL;
	}
	return 0;
}

/**
 * pcn_start_check() - may a kernel be started like this
 * @kernel: leased, not mapped by anybody
 * @req: how
 * @extack: told why not
 *
 * Return: 0, or a negative errno.
 */
int pcn_start_check(const struct pcn_kernel *kernel, const struct pcn_boot_request *req,
		    struct netlink_ext_ack *extack)
{
	const struct pcn_memory *memory = &kernel->memory;
	u64 code = memory->start + PCN_START_HEADER_BYTES;
	u64 root = kernel->slice.start + PCN_START_ROOT_OFFSET;
	int ret;

	if (!PAGE_ALIGNED(req->boot_params) ||
	    !pcn_start_in_region(kernel, req->boot_params, PAGE_SIZE)) {
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_BOOT_PARAMS],
			      "boot_params %#llx is not a page of the region %#llx-%#llx",
			      req->boot_params, (u64)memory->start, memory->start + memory->bytes - 1);
		return -EINVAL;
	}
	if (req->entry < code || !pcn_start_in_region(kernel, req->entry, 1)) {
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_ENTRY],
			      "entry %#llx is not in the region's code %#llx-%#llx", req->entry, code,
			      memory->start + memory->bytes - 1);
		return -EINVAL;
	}
	if (req->page_table_root != root) {
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_PAGE_TABLE_ROOT],
			      "page-table root %#llx is not page 1 of the slice, %#llx",
			      req->page_table_root, root);
		return -EINVAL;
	}
	ret = pcn_start_check_setup_header(req, extack);
	if (ret)
		return ret;
	return pcn_start_check_mapping(kernel, req, extack);
}

static struct pcn_trampoline_params *pcn_start_place_trampoline(struct pcn_kernel *kernel,
								 const struct pcn_boot_request *req)
{
	void *page = kernel->slice.map;
	struct pcn_trampoline_params *params = page + (pcn_trampoline_params - pcn_trampoline_start);

	memset(page, 0, PAGE_SIZE);
	memcpy(page, pcn_trampoline_start, pcn_trampoline_end - pcn_trampoline_start);
	params->page_table_root = req->page_table_root;
	params->entry = req->entry;
	params->boot_params = req->boot_params;
	return params;
}

/**
 * pcn_start_send_off() - send the first CPU of a kernel to its entry point
 * @kernel: checked
 * @req: likewise
 * @extack: told why not
 *
 * Return: 0, or -EIO with the CPU reset if it did not arrive.
 */
int pcn_start_send_off(struct pcn_kernel *kernel, const struct pcn_boot_request *req,
		       struct netlink_ext_ack *extack)
{
	struct pcn_trampoline_params *params = pcn_start_place_trampoline(kernel, req);
	u32 cpu = kernel->cpus.cpu[0], apic_id = kernel->cpus.apic_id[0];
	ktime_t deadline;
	u32 stage;

	pcn_ipi_init(apic_id);
	pcn_ipi_startup(apic_id, kernel->slice.start >> PAGE_SHIFT);

	deadline = ktime_add_ms(ktime_get(), PCN_START_WAIT_MS);
	for (;;) {
		stage = READ_ONCE(params->stage);
		if (stage >= PCN_TRAMPOLINE_LONG)
			return 0;
		if (ktime_after(ktime_get(), deadline))
			break;
		usleep_range(200, 1000);
	}
	pcn_ipi_init(apic_id);
	pcn_nl_refuse(extack, NULL, "CPU %u (APIC ID %u) did not reach the entry point: %s", cpu, apic_id,
		      stage == PCN_TRAMPOLINE_PROTECTED ? "stuck on the way to long mode" :
		      stage == PCN_TRAMPOLINE_REAL ? "stuck in real mode" : "it did not answer SIPI");
	return -EIO;
}
