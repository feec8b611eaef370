// SPDX-License-Identifier: GPL-2.0
/*
 * Which node has which address. Each peer tells its own; those that are behind a peer, on a bridge that its
 * link is a port of, are learned from the frames that come from there. What is told wins over what is learned.
 */
#include <linux/etherdevice.h>
#include <linux/hash.h>
#include <linux/jiffies.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "link.h"
#include "table.h"

#define PCN_TABLE_MAX		4096		/* a peer may make addresses up */
#define PCN_TABLE_AGE		(300 * HZ)	/* as bridges do */

/**
 * struct pcn_table_entry - an address that was learned
 * @node: in the bucket
 * @rcu: readers may have it still
 * @address: see ether_addr_to_u64()
 * @owner: node that it is behind
 * @seen: jiffies of the last frame from it
 */
struct pcn_table_entry {
	struct hlist_node node;
	struct rcu_head rcu;
	u64 address;
	u32 owner;
	unsigned long seen;
};

static struct hlist_head *pcn_table_bucket(struct pcn_link *link, u64 address)
{
	return &link->learned[hash_64(address, PCN_LINK_LEARNED_BITS)];
}

static struct pcn_table_entry *pcn_table_lookup(struct pcn_link *link, u64 address)
{
	struct pcn_table_entry *entry;

	hlist_for_each_entry_rcu(entry, pcn_table_bucket(link, address), node,
				 lockdep_is_held(&link->learned_lock))
		if (entry->address == address)
			return entry;
	return NULL;
}

/* Under learned_lock. */
static void pcn_table_remove(struct pcn_link *link, struct pcn_table_entry *entry)
{
	hlist_del_rcu(&entry->node);
	link->nr_learned--;
	kfree_rcu(entry, rcu);
}

/* Those of a node, or those that are too old, or all. Under learned_lock. */
static void pcn_table_sweep(struct pcn_link *link, unsigned long owners, bool old_only)
{
	struct pcn_table_entry *entry;
	struct hlist_node *next;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(link->learned); i++)
		hlist_for_each_entry_safe(entry, next, &link->learned[i], node)
			if (owners & BIT(entry->owner) &&
			    (!old_only || time_after(jiffies, entry->seen + PCN_TABLE_AGE)))
				pcn_table_remove(link, entry);
}

/**
 * pcn_table_hear() - a peer told its address
 * @link: whose peer
 * @node: the peer
 * @address: what it told
 *
 * An address that is ours or another peer's is not believed.
 *
 * Return: whether it is.
 */
bool pcn_table_hear(struct pcn_link *link, u32 node, const u8 *address)
{
	u64 word = ether_addr_to_u64(address);
	u32 id;

	if (!is_valid_ether_addr(address) || ether_addr_equal(address, link->dev->dev_addr))
		return false;
	for (id = 0; id < POPCORN_NODES_MAX; id++)
		if (id != node && READ_ONCE(link->address[id]) == word)
			return false;
	WRITE_ONCE(link->address[node], word);
	pcn_count_add(link, PCN_COUNT_rx_hello, 1);
	return true;
}

/**
 * pcn_table_learn() - a frame from an address came
 * @link: where
 * @node: through this peer
 * @address: from this address
 */
void pcn_table_learn(struct pcn_link *link, u32 node, const u8 *address)
{
	u64 word = ether_addr_to_u64(address);
	struct pcn_table_entry *entry;
	u32 id;

	if (likely(READ_ONCE(link->address[node]) == word) || !is_valid_ether_addr(address) ||
	    ether_addr_equal(address, link->dev->dev_addr))
		return;
	for (id = 0; id < POPCORN_NODES_MAX; id++)
		if (READ_ONCE(link->address[id]) == word)
			return;
	entry = pcn_table_lookup(link, word);
	if (entry) {
		if (READ_ONCE(entry->owner) != node)
			WRITE_ONCE(entry->owner, node);
		if (READ_ONCE(entry->seen) != jiffies)
			WRITE_ONCE(entry->seen, jiffies);
		return;
	}
	spin_lock_bh(&link->learned_lock);
	if (link->nr_learned >= PCN_TABLE_MAX)
		pcn_table_sweep(link, ~0UL, true);
	/* Another queue may have been faster; full is as good as unknown: frames to it go to all. */
	if (link->nr_learned < PCN_TABLE_MAX && !pcn_table_lookup(link, word)) {
		entry = kzalloc(sizeof(*entry), GFP_ATOMIC);
		if (entry) {
			entry->address = word;
			entry->owner = node;
			entry->seen = jiffies;
			hlist_add_head_rcu(&entry->node, pcn_table_bucket(link, word));
			link->nr_learned++;
			pcn_count_add(link, PCN_COUNT_rx_learned, 1);
		}
	}
	spin_unlock_bh(&link->learned_lock);
}

/**
 * pcn_table_forget() - a peer is gone, and what was behind it
 * @link: whose peer
 * @node: the peer
 */
void pcn_table_forget(struct pcn_link *link, u32 node)
{
	WRITE_ONCE(link->address[node], 0);
	spin_lock_bh(&link->learned_lock);
	pcn_table_sweep(link, BIT(node), false);
	spin_unlock_bh(&link->learned_lock);
}

/**
 * pcn_table_clear() - forget everything
 * @link: whose
 */
void pcn_table_clear(struct pcn_link *link)
{
	u32 id;

	for (id = 0; id < POPCORN_NODES_MAX; id++)
		WRITE_ONCE(link->address[id], 0);
	spin_lock_bh(&link->learned_lock);
	pcn_table_sweep(link, ~0UL, false);
	spin_unlock_bh(&link->learned_lock);
}

/**
 * pcn_table_find() - where do frames to an address go; under rcu_read_lock()
 * @link: from where
 * @address: to where
 *
 * Return: nodes (bit by id): its owner, or all peers for a group or if nobody is known to have it.
 */
unsigned long pcn_table_find(struct pcn_link *link, const u8 *address)
{
	unsigned long peers = READ_ONCE(link->peers);
	struct pcn_table_entry *entry;
	u64 word;
	u32 id;

	if (is_multicast_ether_addr(address))
		return peers;
	word = ether_addr_to_u64(address);
	/* Addresses that we made up ourselves end in the node. */
	id = address[ETH_ALEN - 1] % POPCORN_NODES_MAX;
	if (likely(READ_ONCE(link->address[id]) == word))
		return peers & BIT(id);
	for (id = 0; id < POPCORN_NODES_MAX; id++)
		if (READ_ONCE(link->address[id]) == word)
			return peers & BIT(id);
	entry = pcn_table_lookup(link, word);
	if (entry && time_before(jiffies, READ_ONCE(entry->seen) + PCN_TABLE_AGE))
		return peers & BIT(READ_ONCE(entry->owner));
	return peers;
}
