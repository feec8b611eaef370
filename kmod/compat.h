/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The one place that knows kernel versions. Force-included before everything. Each entry gives the newest
 * form its name here and makes older kernels follow; it says since when the newest form is there.
 */
#ifndef _PCN_COMPAT_H
#define _PCN_COMPAT_H

#define pr_fmt(fmt)	KBUILD_MODNAME ": " fmt

#include <linux/version.h>
#include <linux/device.h>
#include <linux/netdevice.h>
#include <linux/slab.h>

/* class_create() lost its owner with 1aaba11da9aa ("driver core: class: remove module * ...", v6.4). */
static inline struct class *pcn_class_create(const char *name)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	return class_create(name);
#else
	return class_create(THIS_MODULE, name);
#endif
}

/* alloc_netdev_dummy() is there since v6.10; init_dummy_netdev() went private soon after. */
static inline struct net_device *pcn_netdev_create(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	return alloc_netdev_dummy(0);
#else
	struct net_device *netdev = kzalloc(sizeof(*netdev), GFP_KERNEL);

	if (netdev)
		init_dummy_netdev(netdev);
	return netdev;
#endif
}

static inline void pcn_netdev_destroy(struct net_device *netdev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	free_netdev(netdev);
#else
	kfree(netdev);
#endif
}

/* vm_flags_set() and vm_flags_clear(): bc292ab00f6c ("mm: introduce vma->vm_flags wrapper functions", v6.3). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#include <linux/mm.h>
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/*
 * alloc_contig_range() took a migratetype until "mm/page_isolation: remove migratetype parameter from more
 * functions" (v6.17) gave it flags instead.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define ACR_FLAGS_NONE	MIGRATE_MOVABLE
#endif

/*
 * Does the firmware's own memory map call this page RAM? Asked about memory that memmap= took away, which
 * "reserved" alone does not tell from device memory. e820__mapped_raw_any() is for KVM only since "x86:
 * Restrict KVM-induced symbol exports to KVM modules where obvious/possible" (v6.19), so newer kernels go
 * by the reservation and by what drivers have claimed.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#include <asm/e820/api.h>
#endif
static inline bool pcn_firmware_says_ram(u64 page)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	return true;
#else
	return e820__mapped_raw_any(page, page + PAGE_SIZE, E820_TYPE_RAM);
#endif
}

#endif
