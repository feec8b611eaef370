// SPDX-License-Identifier: GPL-2.0
/*
 * Membership. What the slots in the fabric say is looked at by one function, pcn_node_scan(), in one
 * thread; everything else works with the private copies that it makes.
 */
#include <linux/module.h>
#include <linux/workqueue.h>
#include <asm/tsc.h>

#include "channel.h"
#include "grow.h"
#include "host.h"
#include "nl.h"
#include "node.h"
#include "poller.h"
#include "self.h"
#include "service.h"
#include "sysfs.h"
#include "trace.h"
#include "wake.h"

#define PCN_NODE_TICK_MS	500U	/* heartbeat, clock, and a look that needs no doorbell */
/* Without a heartbeat until a node counts as hung: found within 5 s, whenever the last one came. */
#define PCN_NODE_HUNG_TICKS	8
#define PCN_NODE_REJECTS	64	/* bad messages until a node's channels are shut */
#define PCN_NODE_SCAN_JIFFIES	max(1, HZ / 100)

DEFINE_MUTEX(pcn_node_mutex);

/**
 * pcn_node_copy_text() - copy a string out of shared memory
 * @to: filled, always NUL-terminated, with printable ASCII only
 * @to_bytes: its room
 * @from: in shared memory, perhaps without a NUL
 * @from_bytes: its room
 */
void pcn_node_copy_text(char *to, size_t to_bytes, const char *from, size_t from_bytes)
{
	size_t i;

	for (i = 0; i + 1 < to_bytes && i < from_bytes; i++) {
		char c = READ_ONCE(from[i]);

		if (!c)
			break;
		to[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	to[i] = '\0';
}

/**
 * pcn_node_write_apic_ids() - say in a slot which CPUs its node owns
 * @shm: the slot; of the primary itself, or of a secondary that is being prepared
 * @map: their APIC IDs
 */
void pcn_node_write_apic_ids(struct pcn_shm_node *shm, const unsigned long *map)
{
	u64 words[PCN_SHM_APIC_WORDS];
	unsigned int i;

	bitmap_to_arr64(words, map, PCN_APIC_IDS_MAX);
	for (i = 0; i < ARRAY_SIZE(words); i++)
		WRITE_ONCE(shm->apic_ids[i], words[i]);
}

/**
 * pcn_node_read_apic_ids() - which CPUs does a slot say that its node owns
 * @map: set
 * @shm: the slot
 */
void pcn_node_read_apic_ids(unsigned long *map, const struct pcn_shm_node *shm)
{
	u64 words[PCN_SHM_APIC_WORDS];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = READ_ONCE(shm->apic_ids[i]);
	bitmap_from_arr64(map, words, PCN_APIC_IDS_MAX);
}

/**
 * pcn_node_refresh_apic_ids() - look again at which CPUs a node owns
 * @node: the node
 *
 * The primary's CPUs come and go with its leases; its peers look again when a doorbell of it points at a
 * CPU that they do not know. For a secondary the primary's private map is the truth and stays.
 */
void pcn_node_refresh_apic_ids(struct pcn_node *node)
{
	if (node->self->id)
		pcn_node_read_apic_ids(node->apic_ids, pcn_fabric_node(node->id));
}

/**
 * pcn_node_announce() - tell user space that a node changed
 * @node: the node; the caller holds pcn_node_mutex
 *
 * What user space sees is how this kernel's own node sees them.
 */
void pcn_node_announce(struct pcn_node *node)
{
	lockdep_assert_held(&pcn_node_mutex);
	if (node->self != &pcn_main)
		return;
	trace_popcorn_node_state(node->id, node->epoch, node->state, rdtsc());
	pcn_sysfs_update(node);
	pcn_nl_notify_node(node);
}

static void pcn_node_set_reachable(struct pcn_node *node, bool reachable)
{
	unsigned long flags;
	u32 queue;

	lockdep_assert_held(&pcn_node_mutex);
	WRITE_ONCE(node->reachable, reachable);
	/* Whoever is sending or delivering looked at it under one of these: through them once, and nobody
	 * goes by what it was before.
	 */
	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		spin_lock_bh(&node->self->poller[queue].lock);
		spin_lock_irqsave(&node->channel[queue].tx_lock, flags);
		spin_unlock_irqrestore(&node->channel[queue].tx_lock, flags);
		spin_unlock_bh(&node->self->poller[queue].lock);
	}
}

static void pcn_node_resume(struct pcn_node *node)
{
	u32 queue;

	pcn_node_set_reachable(node, true);
	pcn_service_look(node);
	/* The poller arms the new channels when it finds them empty. */
	for (queue = 0; queue < node->nr_queues; queue++)
		pcn_poller_look_at(&node->self->poller[queue], node->id);
}

static void pcn_node_connect(struct pcn_node *node)
{
	struct pcn_shm_node *shm = pcn_fabric_node(node->id);
	u32 queues = READ_ONCE(shm->nr_queues);

	pcn_channel_open(node);
	node->nr_queues = clamp(queues, 1U, node->self->nr_queues);
	node->shut = false;
	node->heartbeat = READ_ONCE(shm->heartbeat);
	node->still = 0;
	node->missed_seq = READ_ONCE(shm->services_seq) - 1;
	pcn_node_resume(node);
}

/**
 * pcn_node_disconnect() - send nothing to a node any more, and take nothing from it
 * @node: a reachable one; the caller holds pcn_node_mutex
 */
void pcn_node_disconnect(struct pcn_node *node)
{
	pcn_node_set_reachable(node, false);
	pcn_channel_close(node);
	pcn_service_look(node);
}

/**
 * pcn_node_changed() - does the slot say something that the scan has not seen
 * @node: the node
 *
 * Cheap; asked by the poller, since the doorbell of a kernel that ends comes without a message.
 */
bool pcn_node_changed(const struct pcn_node *node)
{
	const struct pcn_shm_node *shm = pcn_fabric_node(node->id);

	return READ_ONCE(shm->state) != READ_ONCE(node->state) ||
	       READ_ONCE(shm->epoch) != READ_ONCE(node->epoch) ||
	       (READ_ONCE(node->reachable) &&
		READ_ONCE(shm->services_seq) != READ_ONCE(node->services_seq));
}

/**
 * pcn_node_scan_soon() - have the slots looked at; from any context
 * @self: by whom
 */
void pcn_node_scan_soon(struct pcn_self *self)
{
	queue_work(self->wq, &self->scan);
}

/**
 * pcn_node_scan_for() - have the slots looked at because one of them changed; from any context
 * @node: whose
 *
 * Not more often than a hundred times a second: a slot that changes all the time has no more work done for it.
 * What is left out is seen with the next tick.
 */
void pcn_node_scan_for(struct pcn_node *node)
{
	if (time_before(jiffies, READ_ONCE(node->scan_at)))
		return;
	WRITE_ONCE(node->scan_at, jiffies + PCN_NODE_SCAN_JIFFIES);
	pcn_node_scan_soon(node->self);
}

/**
 * pcn_node_suspect() - a node sent something that cannot be
 * @node: the node; the caller holds the lock of a poller
 * @rejected: how often that happened on the channel in this incarnation
 *
 * A kernel that works never does, so after a number of times nothing of it is looked at any more until it is
 * started again.
 */
void pcn_node_suspect(struct pcn_node *node, u64 rejected)
{
	pr_warn_ratelimited("node %u sends messages that cannot be: %llu so far\n", node->id, rejected);
	if (rejected < PCN_NODE_REJECTS || READ_ONCE(node->shut))
		return;
	WRITE_ONCE(node->shut, true);
	pr_err("node %u: its channels are shut until it is started again\n", node->id);
	pcn_node_scan_soon(node->self);
}

/* A node only goes forward within an epoch; whoever goes back is not believed. */
static int pcn_node_rank(u32 state)
{
	switch (state) {
	case POPCORN_NODE_STATE_EXPECTED:
		return 1;
	case POPCORN_NODE_STATE_JOINING:
		return 2;
	case POPCORN_NODE_STATE_UP:
	case POPCORN_NODE_STATE_HUNG:
		return 3;
	case POPCORN_NODE_STATE_LEFT:
	case POPCORN_NODE_STATE_STOPPED:
	case POPCORN_NODE_STATE_CRASHED:
		return 4;
	default:
		return 0;
	}
}

static bool pcn_node_believes(const struct pcn_node *node, u32 state, u32 epoch)
{
	/* A node calls itself nothing of the kind: that is how others see it. */
	if (state == POPCORN_NODE_STATE_HUNG || state > POPCORN_NODE_STATE_HUNG)
		return false;
	/* The primary writes epochs, and who is absent or expected; whoever changes that is not believed. */
	if (!node->self->id)
		return epoch == node->epoch && pcn_node_rank(state) > pcn_node_rank(node->state);
	return epoch != node->epoch || state == POPCORN_NODE_STATE_ABSENT ||
	       pcn_node_rank(state) > pcn_node_rank(node->state);
}

static void pcn_node_enter(struct pcn_node *node, u32 state, u32 epoch)
{
	struct pcn_shm_node *shm = pcn_fabric_node(node->id);

	if (node->reachable)
		pcn_node_disconnect(node);
	WRITE_ONCE(node->epoch, epoch);
	WRITE_ONCE(node->state, state);
	if (node->self->id) {
		pcn_node_copy_text(node->name, sizeof(node->name), shm->name, sizeof(shm->name));
		pcn_node_read_apic_ids(node->apic_ids, shm);
	}
	if (state == POPCORN_NODE_STATE_UP)
		pcn_node_connect(node);
	else if (state == POPCORN_NODE_STATE_ABSENT)
		pcn_channel_forget(node);
	/* When it says that it did, which is before we saw it. */
	if (state == POPCORN_NODE_STATE_UP && node->self == &pcn_main && !pcn_main.id)
		trace_popcorn_kernel_stage(node->id, PCN_KERNEL_STAGE_JOINED, READ_ONCE(shm->joined));
	pcn_node_announce(node);
}

/* Returns true if the host has to hear of it. */
static bool pcn_node_look(struct pcn_node *node)
{
	struct pcn_shm_node *shm = pcn_fabric_node(node->id);
	u32 state = READ_ONCE(shm->state), epoch = READ_ONCE(shm->epoch);

	if (node->shut && node->reachable) {
		pcn_node_disconnect(node);
		pcn_node_announce(node);
	}
	if (epoch == node->epoch &&
	    (state == node->state ||
	     (state == POPCORN_NODE_STATE_UP && node->state == POPCORN_NODE_STATE_HUNG))) {
		if (node->reachable && pcn_node_changed(node))
			pcn_service_look(node);
		return false;
	}
	if (!pcn_node_believes(node, state, epoch))
		return false;
	pcn_node_enter(node, state, epoch);
	return true;
}

/* Once in a tick. Returns true if the host has to hear of it. */
static bool pcn_node_feel_pulse(struct pcn_node *node)
{
	u64 heartbeat = READ_ONCE(pcn_fabric_node(node->id)->heartbeat);

	if (heartbeat != node->heartbeat) {
		node->heartbeat = heartbeat;
		node->still = 0;
	} else if (node->still < PCN_NODE_HUNG_TICKS) {
		node->still++;
	}
	if (node->state == POPCORN_NODE_STATE_UP && node->still == PCN_NODE_HUNG_TICKS) {
		pr_warn("node %u gives no sign of life\n", node->id);
		WRITE_ONCE(node->state, POPCORN_NODE_STATE_HUNG);
		if (node->reachable)
			pcn_node_disconnect(node);
	} else if (node->state == POPCORN_NODE_STATE_HUNG && !node->still) {
		/* It was only slow: what it had sent meanwhile is still in its channels. */
		pr_info("node %u is alive again\n", node->id);
		WRITE_ONCE(node->state, POPCORN_NODE_STATE_UP);
		if (!node->shut)
			pcn_node_resume(node);
	} else {
		return false;
	}
	pcn_node_announce(node);
	return true;
}

static void pcn_node_scan_all(struct pcn_self *self, bool tick)
{
	static char reason[PCN_SHM_REASON_BYTES]; /* too large for the stack; only pcn_main has a host */
	bool tell;
	u32 id;

	for (id = 0; id < pcn_fabric.nr_nodes; id++) {
		struct pcn_node *node = &self->node[id];
		u32 state;

		mutex_lock(&pcn_node_mutex);
		if (!self->live || id == self->id) {
			mutex_unlock(&pcn_node_mutex);
			continue;
		}
		tell = pcn_node_look(node);
		if (tick)
			tell |= pcn_node_feel_pulse(node);
		tell &= self == &pcn_main;
		state = node->state;
		if (tell && state == POPCORN_NODE_STATE_HUNG)
			scnprintf(reason, sizeof(reason), "no heartbeat for %u s",
				  PCN_NODE_TICK_MS * PCN_NODE_HUNG_TICKS / 1000);
		else if (tell)
			pcn_node_copy_text(reason, sizeof(reason), pcn_fabric_node(id)->reason,
					   sizeof(reason));
		mutex_unlock(&pcn_node_mutex);
		/* Outside the lock: the host calls back into this file. */
		if (tell)
			pcn_host_node_event(id, state, reason);
	}
}

static void pcn_node_scan(struct work_struct *work)
{
	pcn_node_scan_all(container_of(work, struct pcn_self, scan), false);
}

static void pcn_node_tick(struct work_struct *work)
{
	struct pcn_self *self = container_of(to_delayed_work(work), struct pcn_self, tick);

	WRITE_ONCE(pcn_fabric_node(self->id)->heartbeat, rdtsc_ordered());
	if (!self->id)
		pcn_fabric_publish_clock();
	pcn_node_scan_all(self, true);
	pcn_channel_tick(self);
	/* A doorbell that went to a CPU which was just leaving is not lost for longer than this. */
	pcn_poller_look_at_all(self);
	queue_delayed_work(self->wq, &self->tick, msecs_to_jiffies(PCN_NODE_TICK_MS));
}

/**
 * pcn_node_prepare() - make a slot ready for a kernel that will be started
 * @id: its node id
 * @name: its name
 * @apic_ids: of its CPUs
 * @nr: how many
 * @epoch: set to the new incarnation
 *
 * Whatever was in the slot and in all channels to and from it is wiped. The kernel that was there must not
 * be running any more.
 *
 * Return: 0, -ENODEV without a fabric, -EINVAL for an id or APIC ID that cannot be.
 */
int pcn_node_prepare(u32 id, const char *name, const u32 *apic_ids, unsigned int nr, u32 *epoch)
{
	struct pcn_node *node;
	struct pcn_shm_node *shm;
	unsigned int i;
	u32 peer, queue;

	if (!pcn_main.live)
		return -ENODEV;
	if (!id || id >= pcn_fabric.nr_nodes)
		return -EINVAL;
	for (i = 0; i < nr; i++)
		if (apic_ids[i] >= PCN_APIC_IDS_MAX)
			return -EINVAL;

	node = &pcn_main.node[id];
	shm = pcn_fabric_node(id);
	mutex_lock(&pcn_node_mutex);
	if (node->reachable)
		pcn_node_disconnect(node);
	/* Nobody joins or sends while it is wiped: the state goes first and comes last. */
	WRITE_ONCE(shm->state, POPCORN_NODE_STATE_ABSENT);
	node->epoch++;
	smp_store_release(&shm->epoch, node->epoch);
	memset((void *)shm + offsetof(struct pcn_shm_node, name), 0,
	       pcn_fabric.node_bytes - offsetof(struct pcn_shm_node, name));
	for (peer = 0; peer < pcn_fabric.nr_nodes; peer++)
		for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
			pcn_ring_clear(pcn_fabric_channel(id, peer, queue), pcn_fabric.ring_slots);
			pcn_ring_clear(pcn_fabric_channel(peer, id, queue), pcn_fabric.ring_slots);
		}
	strscpy(shm->name, name, sizeof(shm->name));
	strscpy(node->name, name, sizeof(node->name));
	bitmap_zero(node->apic_ids, PCN_APIC_IDS_MAX);
	for (i = 0; i < nr; i++)
		__set_bit(apic_ids[i], node->apic_ids);
	pcn_node_write_apic_ids(shm, node->apic_ids);
	node->state = POPCORN_NODE_STATE_EXPECTED;
	smp_store_release(&shm->state, POPCORN_NODE_STATE_EXPECTED);
	*epoch = node->epoch;
	pcn_node_announce(node);
	mutex_unlock(&pcn_node_mutex);
	return 0;
}
EXPORT_SYMBOL_GPL(pcn_node_prepare);

/**
 * pcn_node_retire() - nobody will be in this slot until it is prepared again
 * @id: node id that was prepared
 */
void pcn_node_retire(u32 id)
{
	struct pcn_node *node = &pcn_main.node[id];

	mutex_lock(&pcn_node_mutex);
	if (node->reachable)
		pcn_node_disconnect(node);
	WRITE_ONCE(pcn_fabric_node(id)->state, POPCORN_NODE_STATE_ABSENT);
	node->state = POPCORN_NODE_STATE_ABSENT;
	node->shut = false;
	pcn_channel_forget(node);
	pcn_node_announce(node);
	mutex_unlock(&pcn_node_mutex);
}
EXPORT_SYMBOL_GPL(pcn_node_retire);

/**
 * pcn_node_setup() - once for each node that is to be in this kernel
 * @self: zeroed
 */
void pcn_node_setup(struct pcn_self *self)
{
	u32 id;

	INIT_WORK(&self->scan, pcn_node_scan);
	INIT_DELAYED_WORK(&self->tick, pcn_node_tick);
	INIT_WORK(&self->grow, pcn_grow_all);
	for (id = 0; id < PCN_NODES; id++) {
		self->node[id].self = self;
		self->node[id].id = id;
		spin_lock_init(&self->node[id].meet_lock);
	}
}
