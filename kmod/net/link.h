/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_LINK_H
#define _PCN_LINK_H

#include <linux/list.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <net/xdp.h>

#include "popcorn.h"
#include "count.h"

#define PCN_LINK_MTU_MAX	65520
#define PCN_LINK_RING_SLOTS	1024
#define PCN_LINK_RING_SLOTS_MAX	4096
#define PCN_LINK_FILTER_BITS	6	/* 2^6 of them fill a word */
#define PCN_LINK_LEARNED_BITS	8

static_assert(POPCORN_NODES_MAX <= BITS_PER_LONG);

/**
 * struct pcn_link_queue - a transmit queue; under the lock of the netdev's queue of that number
 * @held: a frame that a channel had no room for; the netdev's queue is stopped
 * @held_for: nodes (bit by id) that it is still to be sent to
 * @held_sent: it was sent to one already
 */
struct pcn_link_queue {
	struct sk_buff *held;
	unsigned long held_for;
	bool held_sent;
};

/**
 * struct pcn_link_rx - a receiving queue of the message layer
 * @frag: page that the next fragment of a received frame comes from
 * @xdp: what XDP knows of it
 */
struct pcn_link_rx {
	struct page_frag frag;
	struct xdp_rxq_info xdp;
};

/**
 * struct pcn_link - a network interface on the segment of all nodes
 * @dev: as the kernel has it
 * @list: in the list of all links; under rtnl
 * @node: that it belongs to
 * @node_given: it was asked for by number; else it is this kernel's, whichever that is
 * @machine: what the default address was made from
 * @nr_queues: that the message layer has for it
 * @ring_slots: messages that its channels may grow to hold
 * @service: the message layer's end
 * @counts: per CPU
 * @peers: nodes (bit by id) that have a link too
 * @hello_due: of these, those that have yet to be told of our address
 * @address: by node, as it told us, or 0; see ether_addr_to_u64()
 * @filter: bit by hash of the addresses that this interface wants besides its own; all set if it wants all
 * @queue: transmit queues
 * @program: of XDP, or NULL; changed under rtnl
 * @rx: by receiving queue
 * @learned_lock: serialises changes of @learned
 * @learned: addresses behind the peers, by hash; read under RCU
 * @nr_learned: how many
 */
struct pcn_link {
	struct net_device *dev;
	struct list_head list;
	u32 node;
	bool node_given;
	u32 machine;
	u32 nr_queues;
	u32 ring_slots;
	struct pcn_service service;
	struct pcn_counts __percpu *counts;
	unsigned long peers;
	unsigned long hello_due;
	u64 address[POPCORN_NODES_MAX];
	u64 filter;
	struct pcn_link_queue queue[PCN_SHM_QUEUES];
	struct bpf_prog __rcu *program;
	struct pcn_link_rx rx[PCN_SHM_QUEUES];
	spinlock_t learned_lock;
	struct hlist_head learned[1 << PCN_LINK_LEARNED_BITS];
	u32 nr_learned;
};

static inline struct pcn_link *pcn_link_of(struct pcn_service *service)
{
	return container_of(service, struct pcn_link, service);
}

extern const struct ethtool_ops pcn_ethtool_ops;

void pcn_link_setup(struct net_device *dev);
void pcn_link_say_hello(struct pcn_link *link);

#endif
