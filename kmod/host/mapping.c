// SPDX-License-Identifier: GPL-2.0
/*
 * The memory of kernels, as user space sees it: which of it may be mapped or read, and that it is mapped.
 */
#include <linux/err.h>
#include <linux/io.h>
#include <linux/overflow.h>
#include <linux/string.h>

#include "kernel.h"
#include "mapping.h"

/* The kernel whose region or slice a range lies in, if its memory may be looked at now. */
static struct pcn_kernel *pcn_mapping_kernel(u64 start, u64 bytes)
{
	const struct pcn_kernel_info *info;
	struct pcn_kernel *kernel;
	u64 end;
	u32 id;

	lockdep_assert_held(&pcn_kernel_table_lock);
	if (check_add_overflow(start, bytes, &end))
		return NULL;
	for (id = PCN_KERNEL_FIRST; id <= PCN_KERNEL_LAST; id++) {
		kernel = &pcn_kernels[id];
		info = &kernel->info;
		if (kernel->hold != PCN_KERNEL_HELD || kernel->sealed)
			continue;
		if ((start >= info->memory_start && end <= info->memory_start + info->memory_size) ||
		    (start >= info->slice_start && end <= info->slice_start + info->slice_size))
			return kernel;
	}
	return NULL;
}

/**
 * pcn_mapping_get() - user space is about to map leased memory
 * @start: physical address
 * @bytes: how much
 * @write: to write to it
 *
 * To read it is allowed in every state: that is how a kernel is looked at, alive or dead.
 *
 * Return: the kernel, counted as mapped until pcn_mapping_put(), or -EINVAL if the range does not lie in
 * the region or the slice of one kernel, -EACCES if it may not be written now.
 */
struct pcn_kernel *pcn_mapping_get(u64 start, u64 bytes, bool write)
{
	struct pcn_kernel *kernel;

	mutex_lock(&pcn_kernel_table_lock);
	kernel = pcn_mapping_kernel(start, bytes);
	if (!kernel)
		kernel = ERR_PTR(-EINVAL);
	else if (write && kernel->info.state != POPCORN_KERNEL_STATE_LEASED)
		kernel = ERR_PTR(-EACCES);
	else
		atomic_inc(&kernel->mappings);
	mutex_unlock(&pcn_kernel_table_lock);
	return kernel;
}

/**
 * pcn_mapping_peek() - copy leased memory, whatever its kernel does
 * @start: physical address
 * @to: where to, memory of this kernel
 * @bytes: how much; a lock is held for as long as the copy takes
 *
 * Does not count as a mapping: nothing is kept from the kernel or its lease in between.
 *
 * Return: 0, -EINVAL if the range does not lie in the region or the slice of one kernel, -ENOMEM.
 */
int pcn_mapping_peek(u64 start, void *to, size_t bytes)
{
	void *from;
	int ret = 0;

	mutex_lock(&pcn_kernel_table_lock);
	if (!pcn_mapping_kernel(start, bytes)) {
		ret = -EINVAL;
		goto out;
	}
	from = memremap(start, bytes, MEMREMAP_WB);
	if (!from) {
		ret = -ENOMEM;
		goto out;
	}
	memcpy(to, from, bytes);
	memunmap(from);
out:
	mutex_unlock(&pcn_kernel_table_lock);
	return ret;
}

/**
 * pcn_mapping_again() - an area that maps a kernel was split, moved or inherited
 * @kernel: from pcn_mapping_get()
 */
void pcn_mapping_again(struct pcn_kernel *kernel)
{
	atomic_inc(&kernel->mappings);
}

/**
 * pcn_mapping_put() - an area that maps a kernel is gone
 * @kernel: from pcn_mapping_get()
 */
void pcn_mapping_put(struct pcn_kernel *kernel)
{
	atomic_dec(&kernel->mappings);
}
