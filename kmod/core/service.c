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

#include "body.h"
#include "call.h"
#include "channel.h"
#include "nl.h"
#include "node.h"
#include "self.h"
#include "send.h"
#include "service.h"
#include "trace.h"
#include "wake.h"

#define PCN_SERVICE_INDEX_BITS	5

static_assert(1 << PCN_SERVICE_INDEX_BITS == PCN_SHM_SERVICES);
static_assert(POPCORN_NODES_MAX == PCN_NODES);

static DEFINE_MUTEX(pcn_service_mutex);		/* taken inside pcn_node_mutex, never around it */

static struct pcn_service *pcn_service_at(struct pcn_self *self, unsigned int index)
{
	return rcu_dereference_protected(self->services[index].service,
					 lockdep_is_held(&pcn_service_mutex));
}

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
static void pcn_service_write_entry(struct pcn_self *self, unsigned int index,
				    const struct pcn_service *service)
{
	struct pcn_shm_service *to = &self->services_shm->service[index];

	WRITE_ONCE(to->id, 0);
	smp_wmb(); /* [G] nobody takes a mixture for an entry */
	if (service) {
		WRITE_ONCE(to->version, service->version);
		strscpy_pad(to->name, service->name, sizeof(to->name));
		smp_store_release(&to->id, service->id | PCN_SHM_SERVICE_HERE); /* [P] */
	}
	smp_store_release(&self->services_shm->services_seq, self->services_shm->services_seq + 1);
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

static void pcn_service_tell(struct pcn_service *service, struct pcn_node *node, u32 peer, bool up)
{
	trace_popcorn_service_peer(node->self->id, node->id, service->id, up, rdtsc());
	/* What user space sees is this kernel's own node. */
	if (node->self == &pcn_main)
		pcn_nl_notify_service(node->id, service, peer, up);
}

/* Under the node's meet_lock, which serves callbacks too. */
static void pcn_service_go_up(struct pcn_service *service, struct pcn_node *node)
{
	u32 peer;

	if (service->peer[node->id] || test_bit(node->id, &service->leaving) || !node->reachable)
		return;
	peer = pcn_service_find(service, pcn_fabric_node(node->id));
	if (!peer)
		return;
	WRITE_ONCE(service->peer[node->id], peer); /* it may send from peer_up on */
	pcn_service_tell(service, node, peer, true);
	if (service->peer_up)
		service->peer_up(service, node->id);
	/* [U] What peer_up did before what recv does. Pairs with the acquire in pcn_service_deliver(). */
	smp_mb__before_atomic();
	set_bit(node->id, &service->up);
}

/*
 * Is what a service sends with still what the node shows? If not, nothing is sent or delivered any more.
 * Returns what it was then, else 0.
 */
static u32 pcn_service_begin_down(struct pcn_service *service, struct pcn_node *node)
{
	u32 was, now = node->reachable ? pcn_service_find(service, pcn_fabric_node(node->id)) : 0;

	spin_lock_bh(&node->meet_lock);
	was = service->peer[node->id];
	if (was == now)
		was = 0;
	if (was) {
		WRITE_ONCE(service->peer[node->id], 0);
		set_bit(node->id, &service->leaving);
		clear_bit(node->id, &service->up);
	}
	spin_unlock_bh(&node->meet_lock);
	return was;
}

static void pcn_service_finish_down(struct pcn_service *service, struct pcn_node *node, u32 was)
{
	spin_lock_bh(&node->meet_lock);
	pcn_service_tell(service, node, was, false);
	if (service->peer_down)
		service->peer_down(service, node->id);
	clear_bit(node->id, &service->leaving);
	spin_unlock_bh(&node->meet_lock);
}

/**
 * pcn_service_look() - have every service learn where it stands with a node
 * @node: a node whose table or reachability changed; the caller holds pcn_node_mutex
 */
void pcn_service_look(struct pcn_node *node)
{
	struct pcn_self *self = node->self;
	u32 seq = smp_load_acquire(&pcn_fabric_node(node->id)->services_seq), was[PCN_SHM_SERVICES] = {};
	struct pcn_service *service;
	bool down = false;
	unsigned int i;

	/* Before the table is read: what changes from here on is seen as a change. */
	WRITE_ONCE(node->services_seq, seq);
	mutex_lock(&pcn_service_mutex);
	for (i = 0; i < PCN_SHM_SERVICES; i++) {
		service = pcn_service_at(self, i);
		if (service)
			was[i] = pcn_service_begin_down(service, node);
		down |= was[i];
	}
	/* Deliveries that saw them up are over: nothing comes after peer_down. */
	if (down)
		synchronize_rcu();
	for (i = 0; i < PCN_SHM_SERVICES; i++) {
		service = pcn_service_at(self, i);
		if (!service)
			continue;
		if (was[i])
			pcn_service_finish_down(service, node, was[i]);
		spin_lock_bh(&node->meet_lock);
		pcn_service_go_up(service, node);
		spin_unlock_bh(&node->meet_lock);
	}
	mutex_unlock(&pcn_service_mutex);
}

/* A first message may be faster than the work that looks at the sender's table. In softirq. */
static void pcn_service_meet_early(struct pcn_node *node)
{
	u32 seq = smp_load_acquire(&pcn_fabric_node(node->id)->services_seq);
	struct pcn_service *service;
	unsigned int i;

	/* Once for each change of the table, whatever a peer sends. */
	if (READ_ONCE(node->missed_seq) == seq)
		return;
	spin_lock(&node->meet_lock);
	for (i = 0; i < PCN_SHM_SERVICES; i++) {
		service = rcu_dereference(node->self->services[i].service);
		if (service)
			pcn_service_go_up(service, node);
	}
	WRITE_ONCE(node->missed_seq, seq);
	spin_unlock(&node->meet_lock);
}

/**
 * pcn_service_room() - tell who may wait for it that there is room for messages to a node
 * @node: the node
 */
void pcn_service_room(struct pcn_node *node)
{
	struct pcn_service *service;
	unsigned int i;

	local_bh_disable();
	rcu_read_lock();
	for (i = 0; i < PCN_SHM_SERVICES; i++) {
		service = rcu_dereference(node->self->services[i].service);
		if (service && service->room && READ_ONCE(service->peer[node->id]))
			service->room(service, node->id);
	}
	rcu_read_unlock();
	local_bh_enable();
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
		service = rcu_dereference(pcn_main.services[i].service);
		talks = service && READ_ONCE(service->peer[node]) == entry_id;
	}
	rcu_read_unlock();
	return talks;
}

/**
 * pcn_service_publish() - show a node's services in its slot, and keep them up to date from here on
 * @self: the node
 * @shm: its slot, before it says that the node is up
 */
void pcn_service_publish(struct pcn_self *self, struct pcn_shm_node *shm)
{
	unsigned int i;

	mutex_lock(&pcn_service_mutex);
	self->services_shm = shm;
	for (i = 0; i < PCN_SHM_SERVICES; i++)
		pcn_service_write_entry(self, i, pcn_service_at(self, i));
	mutex_unlock(&pcn_service_mutex);
}

/**
 * pcn_service_withdraw() - the slot is not ours any more
 * @self: whose
 */
void pcn_service_withdraw(struct pcn_self *self)
{
	mutex_lock(&pcn_service_mutex);
	self->services_shm = NULL;
	mutex_unlock(&pcn_service_mutex);
}

/* Under pcn_service_mutex. A peer that is not rung looks within a tick. */
static void pcn_service_tell_peers(struct pcn_self *self)
{
	u32 id;

	for (id = 0; id < PCN_NODES; id++)
		if (READ_ONCE(self->node[id].reachable))
			pcn_wake_peer(&self->node[id].channel[0], false);
}

static int pcn_service_place_self(struct pcn_place *place, struct pcn_self *self)
{
	int ret = -ENODEV;

	/* The fabric goes only after all who saw its node live are done. */
	rcu_read_lock();
	if (self && READ_ONCE(self->live)) {
		place->node = self->id;
		place->queues = self->nr_queues;
		place->ring_slots = pcn_fabric.ring_slots;
		place->machine = READ_ONCE(pcn_fabric.header->machine);
		ret = 0;
	}
	rcu_read_unlock();
	return ret;
}

/**
 * pcn_service_place() - what there is to know before a service is registered
 * @place: filled
 *
 * Return: 0, -ENODEV while this kernel is on no fabric.
 */
int pcn_service_place(struct pcn_place *place)
{
	return pcn_service_place_self(place, &pcn_main);
}
EXPORT_SYMBOL_GPL(pcn_service_place);

/**
 * pcn_service_place_at() - likewise, on one of several nodes that are in this kernel
 * @place: filled
 * @node: node id
 *
 * Return: 0, -ENODEV for a node that is not in this kernel.
 */
int pcn_service_place_at(struct pcn_place *place, u32 node)
{
	return pcn_service_place_self(place, node < PCN_NODES ? READ_ONCE(pcn_selves[node]) : NULL);
}
EXPORT_SYMBOL_GPL(pcn_service_place_at);

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

static int pcn_service_register_self(struct pcn_service *service, struct pcn_self *self)
{
	struct pcn_service *other;
	int index = -1, i, ret = pcn_service_check(service);

	if (ret)
		return ret;
	mutex_lock(&pcn_service_mutex);
	for (i = PCN_SHM_SERVICES - 1; i >= 0; i--) {
		other = pcn_service_at(self, i);
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
	service->up = 0;
	service->leaving = 0;
	service->self = self;
	/* The first to have a place has its index as id: control is 0 and echo 1 on every kernel. */
	service->id = index | self->services[index].turns++ << PCN_SERVICE_INDEX_BITS;
	rcu_assign_pointer(self->services[index].service, service);
	if (self->services_shm) {
		pcn_service_write_entry(self, index, service);
		for (i = 0; i < PCN_NODES; i++) {
			struct pcn_node *node = &self->node[i];

			spin_lock_bh(&node->meet_lock);
			pcn_service_go_up(service, node);
			spin_unlock_bh(&node->meet_lock);
		}
		pcn_service_tell_peers(self);
	}
out:
	mutex_unlock(&pcn_service_mutex);
	return ret;
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
	return pcn_service_register_self(service, &pcn_main);
}
EXPORT_SYMBOL_GPL(pcn_service_register);

/**
 * pcn_service_register_at() - likewise, on one of several nodes that are in this kernel
 * @service: stays in use until pcn_service_unregister(); one for each node that has it
 * @node: node id
 *
 * For tests on loopback nodes; other modules need not know which node their kernel is.
 *
 * Return: as pcn_service_register(), -ENODEV for a node that is not in this kernel.
 */
int pcn_service_register_at(struct pcn_service *service, u32 node)
{
	struct pcn_self *self = node < PCN_NODES ? READ_ONCE(pcn_selves[node]) : NULL;

	return self ? pcn_service_register_self(service, self) : -ENODEV;
}
EXPORT_SYMBOL_GPL(pcn_service_register_at);

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
	struct pcn_self *self = service->self;

	mutex_lock(&pcn_service_mutex);
	RCU_INIT_POINTER(self->services[index].service, NULL);
	if (self->services_shm) {
		pcn_service_write_entry(self, index, NULL);
		pcn_service_tell_peers(self);
	}
	for (i = 0; i < PCN_NODES; i++)
		WRITE_ONCE(service->peer[i], 0);
	mutex_unlock(&pcn_service_mutex);
	synchronize_rcu();
}
EXPORT_SYMBOL_GPL(pcn_service_unregister);

/*
 * The channel to a node, and what messages to its service carry. Under rcu_read_lock(): channels go only
 * after all who saw the node live are done.
 */
static int pcn_service_find_channel(const struct pcn_service *service, u32 dst, u32 queue,
				    struct pcn_channel **channel, u16 *id)
{
	struct pcn_self *self = service->self;
	u32 peer;

	if (dst >= PCN_NODES)
		return -EINVAL;
	if (!READ_ONCE(self->live))
		return -ENODEV;
	peer = READ_ONCE(service->peer[dst]);
	if (!peer)
		return dst == self->id ? -EINVAL : -ENOTCONN;
	if (queue >= self->node[dst].nr_queues)
		return -EINVAL;
	*channel = &self->node[dst].channel[queue];
	*id = (u16)peer;
	return 0;
}

/* Likewise, for who will sleep; the caller counts @sleepers down again. */
static int pcn_service_hold_channel(const struct pcn_service *service, u32 dst, u32 queue,
				    struct pcn_channel **channel, u16 *id)
{
	int ret;

	rcu_read_lock();
	ret = pcn_service_find_channel(service, dst, queue, channel, id);
	if (!ret)
		atomic_inc(&service->self->sleepers);
	rcu_read_unlock();
	return ret;
}

int pcn_service_node(const struct pcn_service *service)
{
	return READ_ONCE(service->self->live) ? (int)service->self->id : -ENODEV;
}
EXPORT_SYMBOL_GPL(pcn_service_node);

void pcn_service_node_name(const struct pcn_service *service, u32 node, char *name, size_t len)
{
	strscpy(name, node < PCN_NODES ? service->self->node[node].name : "", len);
}
EXPORT_SYMBOL_GPL(pcn_service_node_name);

u32 pcn_service_queues(const struct pcn_service *service, u32 dst)
{
	if (dst >= PCN_NODES || !READ_ONCE(service->peer[dst]))
		return 0;
	return READ_ONCE(service->self->node[dst].nr_queues);
}
EXPORT_SYMBOL_GPL(pcn_service_queues);

int pcn_service_send(struct pcn_service *service, u32 dst, const void *data, size_t len)
{
	struct pcn_channel *channel;
	int ret;
	u16 id;

	rcu_read_lock();
	ret = pcn_service_find_channel(service, dst, 0, &channel, &id);
	if (!ret)
		ret = pcn_send_bytes(channel, id, READ_ONCE(service->ring_slots), data, len);
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_service_send);

int pcn_service_send_wait(struct pcn_service *service, u32 dst, u32 queue, const void *data, size_t len,
			  unsigned int timeout_ms)
{
	struct pcn_channel *channel;
	int ret;
	u16 id;

	ret = pcn_service_hold_channel(service, dst, queue, &channel, &id);
	if (ret)
		return ret;
	ret = pcn_send_wait(channel, id, READ_ONCE(service->ring_slots), data, len, timeout_ms);
	atomic_dec(&service->self->sleepers);
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_service_send_wait);

int pcn_service_send_batch(struct pcn_service *service, u32 dst, u32 queue, const struct pcn_out *out, u32 nr)
{
	struct pcn_channel *channel;
	int ret;
	u16 id;

	rcu_read_lock();
	ret = pcn_service_find_channel(service, dst, queue, &channel, &id);
	if (!ret)
		ret = pcn_send_batch(channel, id, READ_ONCE(service->ring_slots), out, nr);
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_service_send_batch);

int pcn_service_reserve(struct pcn_service *service, u32 dst, u32 queue, u32 len, struct pcn_body *body)
{
	struct pcn_channel *channel;
	int ret;
	u16 id;

	rcu_read_lock();
	ret = pcn_service_find_channel(service, dst, queue, &channel, &id);
	if (!ret)
		ret = pcn_body_reserve(channel, len, body);
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_service_reserve);

void pcn_service_release(struct pcn_service *service, const struct pcn_body *body)
{
	pcn_body_release(body);
}
EXPORT_SYMBOL_GPL(pcn_service_release);

int pcn_service_call(struct pcn_service *service, u32 dst, u32 queue, const void *data, size_t len,
		     void *answer, unsigned int timeout_ms)
{
	struct pcn_channel *channel;
	int ret;
	u16 id;

	ret = pcn_service_hold_channel(service, dst, queue, &channel, &id);
	if (ret)
		return ret;
	ret = pcn_call_wait(channel, id, data, len, answer, timeout_ms);
	atomic_dec(&service->self->sleepers);
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_service_call);

int pcn_service_busy_poll(struct pcn_service *service, u32 queue, bool (*done)(void *arg, unsigned long start),
			  void *arg)
{
	struct pcn_self *self = service->self;
	int ret = 0;

	rcu_read_lock();
	if (!READ_ONCE(self->live))
		ret = -ENODEV;
	else if (queue >= self->nr_queues)
		ret = -EINVAL;
	else
		atomic_inc(&self->sleepers);
	rcu_read_unlock();
	if (ret)
		return ret;
	pcn_poller_busy(&self->poller[queue], done, arg);
	atomic_dec(&self->sleepers);
	return 0;
}
EXPORT_SYMBOL_GPL(pcn_service_busy_poll);

int pcn_service_multicast(struct pcn_service *service, const void *data, size_t len, u32 *missed)
{
	u32 full = 0, id;
	int sent = 0;

	if (len > PCN_MSG_BYTES)
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
 * @node: where it came from; the caller holds the lock of the queue's poller
 * @msg: a checked copy; its service id is still only what the sender wrote
 *
 * Return: false if nobody wants it: the service is gone, or the sender does not have it.
 */
bool pcn_service_deliver(struct pcn_node *node, const struct pcn_msg *msg)
{
	struct pcn_service *service;
	bool wanted = false;

	rcu_read_lock();
	service = rcu_dereference(node->self->services[msg->service & (PCN_SHM_SERVICES - 1)].service);
	if (service && service->id == msg->service) {
		if (unlikely(!test_bit(node->id, &service->up)))
			pcn_service_meet_early(node);
		wanted = smp_load_acquire(&service->up) & BIT(node->id); /* pairs with [U] */
		if (wanted)
			service->recv(service, msg);
	}
	rcu_read_unlock();
	return wanted;
}
