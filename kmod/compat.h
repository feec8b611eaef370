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
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#include <linux/hex.h>	/* out of kernel.h */
#else
#include <linux/kernel.h>
#endif

/*
 * Distributions' kernels have the compiler clear what is on the stack (CONFIG_INIT_STACK_ALL_ZERO, since v5.15). Not
 * what has this: for what is written in full before it is read, and large on a path that is taken for every message.
 */
#if __has_attribute(__uninitialized__)
#define pcn_uninitialized	__attribute__((__uninitialized__))
#else
#define pcn_uninitialized
#endif

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
static inline struct net_device *pcn_netdev_create(const char *name)
{
	struct net_device *netdev;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	netdev = alloc_netdev_dummy(0);
#else
	netdev = kzalloc(sizeof(*netdev), GFP_KERNEL);
	if (netdev)
		init_dummy_netdev(netdev);
#endif
	if (netdev)
		strscpy(netdev->name, name, sizeof(netdev->name)); /* names the threads of threaded NAPI */
	return netdev;
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
 * Consoles that need no console_lock, with a thread of their own and safe from anywhere, are complete since
 * 13189fa73a97 ("printk: nbcon: Rely on kthreads for normal operation", v6.12).
 */
#define PCN_COMPAT_NBCON	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0))

/*
 * An interface says what XDP it can do since d3d854fd6a1d ("netdev-genl: create a simple family for netdev
 * stuff", v6.3).
 */
static inline void pcn_xdp_set_features(struct net_device *dev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	dev->xdp_features = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT | NETDEV_XDP_ACT_NDO_XMIT;
#endif
}

/*
 * Another sk_buff may come back since e6d5dbdd20aa ("xdp: add multi-buff support for xdp running in generic
 * mode", v6.9).
 */
static inline int pcn_xdp_generic(struct bpf_prog *program, struct sk_buff **skb)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	return do_xdp_generic(program, skb);
#else
	return do_xdp_generic(program, *skb);
#endif
}

/*
 * An interface of a link kind is made from a struct since 69c7be1b903f ("rtnetlink: Pack newlink() params
 * into struct", v6.15). This makes @newlink out of @add(dev, tb, data, extack).
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
#define PCN_RTNL_NEWLINK(newlink, add)							\
	static int newlink(struct net_device *dev, struct rtnl_newlink_params *params,	\
			   struct netlink_ext_ack *extack)				\
	{										\
		return add(dev, params->tb, params->data, extack);			\
	}
#else
#define PCN_RTNL_NEWLINK(newlink, add)							\
	static int newlink(struct net *net, struct net_device *dev, struct nlattr *tb[], \
			   struct nlattr *data[], struct netlink_ext_ack *extack)	\
	{										\
		return add(dev, tb, data, extack);					\
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

/*
 * AF_VSOCK transports know network namespaces since v7.0: packets come with one, and callbacks that allow a
 * connection get its socket. Popcorn's, like virtio's in a guest, is there for those of mode "global".
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#define PCN_VSOCK_NET		, struct net *net
#define PCN_VSOCK_NO_NET	, NULL
#define PCN_VSOCK_SK		struct vsock_sock *vsk,
#define pcn_vsock_global(vsk)	vsock_net_mode_global(vsk)
#else
#define PCN_VSOCK_NET
#define PCN_VSOCK_NO_NET
#define PCN_VSOCK_SK
#define pcn_vsock_global(vsk)	true
#endif

/*
 * What else a transport that stands on virtio's common code hands on to it: read_skb since 634f1a7110b4
 * ("vsock: support sockmap", v6.4), notify_set_rcvlowat since v6.8, unsent_bytes since v6.12, which is why
 * the common code wants to know of each packet that was sent.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define PCN_VSOCK_MORE_OPS							\
	.read_skb = virtio_transport_read_skb,					\
	.notify_set_rcvlowat = virtio_transport_notify_set_rcvlowat,		\
	.unsent_bytes = virtio_transport_unsent_bytes,
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define PCN_VSOCK_MORE_OPS							\
	.read_skb = virtio_transport_read_skb,					\
	.notify_set_rcvlowat = virtio_transport_notify_set_rcvlowat,
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define PCN_VSOCK_MORE_OPS							\
	.read_skb = virtio_transport_read_skb,
#else
#define PCN_VSOCK_MORE_OPS
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define virtio_transport_consume_skb_sent(skb, consume)	consume_skb(skb)
#endif

/*
 * What the tty layer counts in: size_t since "tty: make tty_operations::write()'s count size_t" and its
 * companions (v6.6); bool for what is on or off since "tty: Convert ->carrier_raised() and callchains to
 * bool" (v6.3).
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
typedef ssize_t pcn_tty_ssize;
typedef size_t pcn_tty_size;
typedef size_t pcn_tty_received;
#else
typedef int pcn_tty_ssize;
typedef int pcn_tty_size;
typedef int pcn_tty_received;
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
typedef bool pcn_tty_bool;
#else
typedef int pcn_tty_bool;
#endif

#endif
