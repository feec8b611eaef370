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

#endif
