// SPDX-License-Identifier: GPL-2.0
/*
 * Services: who on this kernel gets a message, and which kernels have the same service.
 *
 * Each node keeps a table of its services in its slot. A kernel that changes its table rings its peers,
 * which look for their own services in it. Nothing is negotiated: who finds a name and version in a
 * peer's table knows the id to send with, and the peer finds the same in the table of whom it hears from.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include "channel.h"
#include "doorbell.h"
#include "node.h"
#include "service.h"

#define PCN_SERVICE_INDEX_BITS	5

static_assert(1 << PCN_SERVICE_INDEX_BITS == PCN_SHM_SERVICES);
static_assert(POPCORN_NODES_MAX == PCN_NODES);

/**
 * struct pcn_service_slot - a place for a service
 * @service: who has it
 * @turns: how often it was given out; part of the id, so that a message to a service that is gone does
 *	not reach the one that took its place
 */
static struct pcn_service_slot {
	struct pcn_service __rcu *service;
	u32 turns;
} pcn_services[PCN_SHM_SERVICES];

static DEFINE_MUTEX(pcn_service_mutex);		/* taken inside pcn_node_mutex, never around it */
static struct pcn_shm_node *pcn_service_shm;	/* own slot, once on the fabric */

/**
 * pcn_service_entry() - read one entry of a node's table
 * @shm: the node's slot
 * @index: below PCN_SHM_SERVICES
 * @entry: filled with a checked copy
 *
 * Return: false if it is free or being changed.
 */
bool pcn_service_entry(const struct pcn_shm_node *shm, unsigned int index, struct pcn_shm_service *entry)
{
	const struct pcn_shm_service *from = &shm->service[index];

	entry->id = smp_load_acquire(&from->id); /* pairs with [P] */
	if (!(entry->id & PCN_SHM_SERVICE_HERE) || entry->id & ~PCN_SHM_SERVICE_HERE & ~0xffff)
		return false;
	entry->version = READ_ONCE(from->version);
	pcn_node_copy_text(entry->name, sizeof(entry->name), from->name, sizeof(from->name));
	smp_rmb(); /* pairs with [G] */
	return READ_ONCE(from->id) == entry->id;
}

/* Under pcn_service_mutex. */
static void pcn_service_write_entry(unsigned int index, const struct pcn_service *service)
{
	struct pcn_shm_service *to = &pcn_service_shm->service[index];

	WRITE_ONCE(to->id, 0);
	smp_wmb(); /* [G] nobody takes a mixture for an entry */
	if (service) {
		WRITE_ONCE(to->version, service->version);
		strscpy_pad(to->name, service->name, sizeof(to->name));
		smp_store_release(&to->id, service->id | PCN_SHM_SERVICE_HERE); /* [P] */
	}
	smp_store_release(&pcn_service_shm->services_seq, pcn_service_shm->services_seq + 1);
}

static u32 pcn_service_find(const struct pcn_service *service, const struct pcn_shm_node *shm)
{
	struct pcn_shm_service entry;
	unsigned int i;

	for (i = 0; i < PCN_SHM_SERVICES; i++)
		if (pcn_service_entry(shm, i, &entry) && entry.version == service->version &&
		    !strcmp(entry.name, service->name))
			return entry.id;
	return 0;
}

/* Has a service learn where it stands with a node. Under the node's rx_lock, which serves callbacks too. */
static void pcn_service_meet(struct pcn_service *service, struct pcn_node *node)
{
	u32 was = service->peer[node->id];
	u32 now = node->reachable ? pcn_service_find(service, pcn_fabric_node(node->id)) : 0;

	if (was == now)
		return;
	WRITE_ONCE(service->peer[node->id], 0);
	if (was && service->peer_down)
		service->peer_down(service, node->id);
	WRITE_ONCE(service->peer[node->id], now);
	if (now && service->peer_up)
		service->peer_up(service, node->id);
}

/**
 * pcn_service_look() - have every service learn where it stands with a node
 * @node: a node whose table or reachability changed; the caller holds pcn_node_mutex
 */
void pcn_service_look(struct pcn_node *node)
{
	struct pcn_service *service;
	unsigned int i;

	/* Before the table is read: what changes from here on is seen as a change. */
	WRITE_ONCE(node->services_seq, smp_load_acquire(&pcn_fabric_node(node->id)->services_seq));
	mutex_lock(&pcn_service_mutex);
	for (i = 0; i < PCN_SHM_SERVICES; i++) {
		service = rcu_dereference_protected(pcn_services[i].service,
						    lockdep_is_held(&pcn_service_mutex));
		if (!service)
			continue;
		spin_lock_bh(&node->rx_lock);
		pcn_service_meet(service, node);
		spin_unlock_bh(&node->rx_lock);
	}
	mutex_unlock(&pcn_service_mutex);
}

/**
 * pcn_service_talks() - does this kernel talk to what a node's table shows
 * @node: node id
 * @entry_id: from pcn_service_entry()
 */
bool pcn_service_talks(u32 node, u32 entry_id)
{
	struct pcn_service *service;
	bool talks = false;
	unsigned int i;

	rcu_read_lock();
	for (i = 0; i < PCN_SHM_SERVICES && !talks; i++) {
		service = rcu_dereference(pcn_services[i].service);
		talks = service && READ_ONCE(service->peer[node]) == entry_id;
	}
	rcu_read_unlock();
	return talks;
}

/**
 * pcn_service_publish() - show this kernel's services in its slot, and keep them up to date from here on
 * @shm: own slot, before it says that the node is up
 */
void pcn_service_publish(struct pcn_shm_node *shm)
{
	unsigned int i;

	mutex_lock(&pcn_service_mutex);
	pcn_service_shm = shm;
	for (i = 0; i < PCN_SHM_SERVICES; i++)
		pcn_service_write_entry(i, rcu_dereference_protected(pcn_services[i].service,
								     lockdep_is_held(&pcn_service_mutex)));
	mutex_unlock(&pcn_service_mutex);
}

/**
 * pcn_service_withdraw() - the slot is not ours any more
 */
void pcn_service_withdraw(void)
{
	mutex_lock(&pcn_service_mutex);
	pcn_service_shm = NULL;
	mutex_unlock(&pcn_service_mutex);
}

/* Under pcn_service_mutex. A peer that is not rung looks within a tick. */
static void pcn_service_tell_peers(void)
{
	u32 id;

	for (id = 0; id < PCN_NODES; id++)
		if (READ_ONCE(pcn_nodes[id].reachable))
			pcn_doorbell_ring(&pcn_nodes[id]);
}

static int pcn_service_check(const struct pcn_service *service)
{
	const char *c;

	if (!service->recv || !service->name || !*service->name)
		return -EINVAL;
	if (strlen(service->name) >= PCN_SHM_SERVICE_BYTES)
		return -ENAMETOOLONG;
	for (c = service->name; *c; c++)
		if (*c <= ' ' || *c > '~')
			return -EINVAL;
	return 0;
}

/**
 * pcn_service_register() - receive the messages of a service, and hear of its peers
 * @service: stays in use until pcn_service_unregister()
 *
 * peer_up may be called before this returns. May sleep.
 *
 * Return: 0, -EINVAL for a name that is empty or has other than printable characters or a missing recv,
 * -ENAMETOOLONG, -EADDRINUSE if this kernel has a service of that name, -ENOSPC if it has too many.
 */
int pcn_service_register(struct pcn_service *service)
{
	struct pcn_service *other;
	int index = -1, i, ret = pcn_service_check(service);

	if (ret)
		return ret;
	mutex_lock(&pcn_service_mutex);
	for (i = PCN_SHM_SERVICES - 1; i >= 0; i--) {
		other = rcu_dereference_protected(pcn_services[i].service,
						  lockdep_is_held(&pcn_service_mutex));
		if (!other) {
			index = i;
		} else if (!strcmp(other->name, service->name)) {
			ret = -EADDRINUSE; /* not -EEXIST, which modprobe takes for "loaded already" */
			goto out;
		}
	}
	if (index < 0) {
		ret = -ENOSPC;
		goto out;
	}
	memset(service->peer, 0, sizeof(service->peer));
	/* The first to have a place has its index as id: control is 0 and echo 1 on every kernel. */
	service->id = index | pcn_services[index].turns++ << PCN_SERVICE_INDEX_BITS;
	rcu_assign_pointer(pcn_services[index].service, service);
	if (pcn_service_shm) {
		pcn_service_write_entry(index, service);
		for (i = 0; i < PCN_NODES; i++) {
			spin_lock_bh(&pcn_nodes[i].rx_lock);
			pcn_service_meet(service, &pcn_nodes[i]);
			spin_unlock_bh(&pcn_nodes[i].rx_lock);
		}
		pcn_service_tell_peers();
	}
out:
	mutex_unlock(&pcn_service_mutex);
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_service_register);

/**
 * pcn_service_unregister() - receive no more
 * @service: as registered
 *
 * Its peers get their peer_down; this side, which knows, does not. Waits for a callback that is running;
 * none runs afterwards. May sleep.
 */
void pcn_service_unregister(struct pcn_service *service)
{
	unsigned int index = service->id & (PCN_SHM_SERVICES - 1), i;

	mutex_lock(&pcn_service_mutex);
	RCU_INIT_POINTER(pcn_services[index].service, NULL);
	if (pcn_service_shm) {
		pcn_service_write_entry(index, NULL);
		pcn_service_tell_peers();
	}
	for (i = 0; i < PCN_NODES; i++)
		WRITE_ONCE(service->peer[i], 0);
	mutex_unlock(&pcn_service_mutex);
	synchronize_rcu();
}
EXPORT_SYMBOL_GPL(pcn_service_unregister);

int pcn_service_send(struct pcn_service *service, u32 dst, const void *data, size_t len)
{
	u32 peer;

	if (dst >= PCN_NODES)
		return -EINVAL;
	peer = READ_ONCE(service->peer[dst]);
	if (peer)
		return pcn_channel_send(dst, (u16)peer, data, len);
	if (!READ_ONCE(pcn_local.live))
		return -ENODEV;
	return dst == pcn_local.id ? -EINVAL : -ENOTCONN;
}
EXPORT_SYMBOL_GPL(pcn_service_send);

int pcn_service_multicast(struct pcn_service *service, const void *data, size_t len, u32 *missed)
{
	u32 full = 0, id;
	int sent = 0;

	if (len > PCN_SHM_INLINE_BYTES)
		return -EMSGSIZE;
	for (id = 0; id < PCN_NODES; id++) {
		int ret = READ_ONCE(service->peer[id]) ? pcn_service_send(service, id, data, len) : -ENOTCONN;

		if (!ret)
			sent++;
		else if (ret == -EAGAIN)
			full |= BIT(id);
	}
	if (missed)
		*missed = full;
	return sent;
}
EXPORT_SYMBOL_GPL(pcn_service_multicast);

/**
 * pcn_service_deliver() - hand a message to its receiver
 * @node: where it came from; the caller holds its rx_lock
 * @msg: a checked copy; its service id is still only what the sender wrote
 *
 * Return: false if nobody wants it: the service is gone, or the sender does not have it.
 */
bool pcn_service_deliver(struct pcn_node *node, const struct pcn_msg *msg)
{
	struct pcn_service *service;
	bool wanted = false;

	rcu_read_lock();
	service = rcu_dereference(pcn_services[msg->service & (PCN_SHM_SERVICES - 1)].service);
	if (service && service->id == msg->service) {
		/* Its first message may be faster than the work that looks at its table. */
		if (unlikely(!service->peer[node->id]))
			pcn_service_meet(service, node);
		wanted = service->peer[node->id];
		if (wanted)
			service->recv(service, msg);
	}
	rcu_read_unlock();
	return wanted;
}
