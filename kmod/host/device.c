// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/popcorn/host: the leased memory, for the loader to write and for whoever wants to look into a
 * kernel from outside. The offset of mmap() and of read() is a physical address.
 *
 * Both look at any kernel, only mmap() can write, and only while the kernel is leased and not started.
 * A mapping also pins the lease: the memory is not wiped or given back under it. read() does not.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "device.h"
#include "kernel.h"
#include "mapping.h"

#define PCN_DEVICE_CHUNK	SZ_64K /* read at once */

static int pcn_device_open(struct inode *inode, struct file *file)
{
	if (!pcn_kernel_may(NULL))
		return -EPERM;
	return security_locked_down(LOCKDOWN_DEV_MEM);
}

/* Through a buffer: the table of kernels is locked for the copy, and user memory may fault. */
static ssize_t pcn_device_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	size_t done = 0, bytes;
	ssize_t ret = 0;
	void *buffer;

	if (*pos < 0)
		return -EINVAL;
	buffer = kvmalloc(min_t(size_t, count, PCN_DEVICE_CHUNK), GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	while (done < count) {
		bytes = min_t(size_t, count - done, PCN_DEVICE_CHUNK);
		ret = pcn_mapping_peek(*pos, buffer, bytes);
		if (!ret && copy_to_user(to + done, buffer, bytes))
			ret = -EFAULT;
		if (ret)
			break;
		done += bytes;
		*pos += bytes;
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		cond_resched();
	}
	kvfree(buffer);
	return done ? done : ret;
}

static void pcn_device_vma_open(struct vm_area_struct *vma)
{
	pcn_mapping_again(vma->vm_private_data);
}

static void pcn_device_vma_close(struct vm_area_struct *vma)
{
	pcn_mapping_put(vma->vm_private_data);
}

static const struct vm_operations_struct pcn_device_vm_ops = {
	.open = pcn_device_vma_open,
	.close = pcn_device_vma_close,
};

static int pcn_device_mmap(struct file *file, struct vm_area_struct *vma)
{
	u64 start, bytes = vma->vm_end - vma->vm_start;
	bool write = vma->vm_flags & VM_WRITE;
	struct pcn_kernel *kernel;
	int ret;

	if (check_mul_overflow((u64)vma->vm_pgoff, (u64)PAGE_SIZE, &start))
		return -EINVAL;
	/* A private page would be copied on the first write, and the kernel would not see it. */
	if (write && !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EACCES;
	kernel = pcn_mapping_get(start, bytes, write);
	if (IS_ERR(kernel))
		return PTR_ERR(kernel);

	/* What the mapping may do was judged now; mprotect() must not add to it later. */
	vm_flags_clear(vma, VM_MAYEXEC | (write ? 0 : VM_MAYWRITE));
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	ret = remap_pfn_range(vma, vma->vm_start, vma->vm_pgoff, bytes, vma->vm_page_prot);
	if (ret) {
		pcn_mapping_put(kernel);
		return ret;
	}
	vma->vm_private_data = kernel;
	vma->vm_ops = &pcn_device_vm_ops;
	return 0;
}

static const struct file_operations pcn_device_fops = {
	.owner = THIS_MODULE,
	.open = pcn_device_open,
	.read = pcn_device_read,
	.mmap = pcn_device_mmap,
	.llseek = noop_llseek,
};

static struct miscdevice pcn_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "popcorn_host",
	.nodename = "popcorn/host",
	.mode = 0600,
	.fops = &pcn_device_fops,
};

/**
 * pcn_device_init() - make the device
 *
 * Return: 0 or what misc_register() gave.
 */
int pcn_device_init(void)
{
	return misc_register(&pcn_device);
}

/**
 * pcn_device_exit() - remove it; nobody has it open, or the module would be in use
 */
void pcn_device_exit(void)
{
	misc_deregister(&pcn_device);
}
