// SPDX-License-Identifier: GPL-2.0
/*
 * Membership. What the slots in the fabric say is looked at by one function, pcn_node_scan(), in one
 * thread; everything else works with the private copies that it makes.
 */
#include <linux/module.h>
#include <linux/timekeeping.h>
#include <linux/utsname.h>
#include <linux/workqueue.h>
#include <asm/smp.h>
#include <asm/tsc.h>

#include "channel.h"
#include "doorbell.h"
#include "host.h"
#include "nl.h"
#include "node.h"
#include "service.h"
#include "sysfs.h"
#include "trace.h"

#define PCN_NODE_TICK_MS	500	/* heartbeat, clock, and a look that needs no doorbell */

struct pcn_node pcn_nodes[PCN_NODES];
struct pcn_local pcn_local;
DEFINE_MUTEX(pcn_node_mutex);

static struct workqueue_struct *pcn_node_wq;
static void pcn_node_scan(struct work_struct *work);
static void pcn_node_tick(struct work_struct *work);
static DECLARE_WORK(pcn_node_scan_work, pcn_node_scan);
static DECLARE_DELAYED_WORK(pcn_node_tick_work, pcn_node_tick);

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

/* Written by the primary into its own slot, and into a secondary's when it is prepared. */
static void pcn_node_write_apic_ids(struct pcn_shm_node *shm, const unsigned long *map)
{
	u64 words[PCN_SHM_APIC_WORDS];
	unsigned int i;

	bitmap_to_arr64(words, map, PCN_APIC_IDS_MAX);
	for (i = 0; i < ARRAY_SIZE(words); i++)
		WRITE_ONCE(shm->apic_ids[i], words[i]);
}

static void pcn_node_read_apic_ids(unsigned long *map, const struct pcn_shm_node *shm)
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
	if (pcn_local.id)
		pcn_node_read_apic_ids(node->apic_ids, pcn_fabric_node(node->id));
}

/**
 * pcn_node_own_cpus_changed() - tell the peers which CPUs this node has now
 */
void pcn_node_own_cpus_changed(void)
{
	struct pcn_node *self = &pcn_nodes[pcn_local.id];
	int cpu;

	mutex_lock(&pcn_node_mutex);
	if (pcn_fabric.header && !pcn_local.id) {
		bitmap_zero(self->apic_ids, PCN_APIC_IDS_MAX);
		for_each_online_cpu(cpu) {
			u32 apic_id = per_cpu(x86_cpu_to_apicid, cpu);

			if (apic_id < PCN_APIC_IDS_MAX)
				__set_bit(apic_id, self->apic_ids);
		}
		pcn_node_write_apic_ids(pcn_fabric_node(0), self->apic_ids);
	}
	mutex_unlock(&pcn_node_mutex);
}
EXPORT_SYMBOL_GPL(pcn_node_own_cpus_changed);

static void pcn_node_announce(struct pcn_node *node)
{
	lockdep_assert_held(&pcn_node_mutex);
	trace_popcorn_node_state(node->id, node->epoch, node->state);
	pcn_sysfs_update(node);
	pcn_nl_notify_node(node);
}

static void pcn_node_connect(struct pcn_node *node)
{
	struct pcn_shm_channel *to = pcn_fabric_channel(pcn_local.id, node->id);
	struct pcn_shm_channel *from = pcn_fabric_channel(node->id, pcn_local.id);
	unsigned long flags;

	lockdep_assert_held(&pcn_node_mutex);
	spin_lock_bh(&node->rx_lock);
	pcn_ring_init(&node->rx, from, pcn_fabric.ring_slots,
		      pcn_ring_tag(node->epoch, pcn_local.epoch));
	node->received = 0;
	node->rejected = 0;
	spin_lock_irqsave(&node->tx_lock, flags);
	pcn_ring_init(&node->tx, to, pcn_fabric.ring_slots,
		      pcn_ring_tag(pcn_local.epoch, node->epoch));
	node->sent = 0;
	atomic64_set(&node->doorbells, 0);
	WRITE_ONCE(node->reachable, true);
	spin_unlock_irqrestore(&node->tx_lock, flags);
	spin_unlock_bh(&node->rx_lock);
	pcn_service_look(node);
	/* The poller arms the new channel when it finds it empty. */
	pcn_channel_poll_soon();
}

static void pcn_node_disconnect(struct pcn_node *node)
{
	unsigned long flags;

	lockdep_assert_held(&pcn_node_mutex);
	spin_lock_bh(&node->rx_lock);
	spin_lock_irqsave(&node->tx_lock, flags);
	WRITE_ONCE(node->reachable, false);
	spin_unlock_irqrestore(&node->tx_lock, flags);
	spin_unlock_bh(&node->rx_lock);
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
 */
void pcn_node_scan_soon(void)
{
	queue_work(pcn_node_wq, &pcn_node_scan_work);
}

/* Returns true if the host has to hear of it. */
static bool pcn_node_look(struct pcn_node *node)
{
	struct pcn_shm_node *shm = pcn_fabric_node(node->id);
	u32 state = READ_ONCE(shm->state), epoch = READ_ONCE(shm->epoch);

	if (state > POPCORN_NODE_STATE_CRASHED)
		return false;
	/* The primary made the epoch; whoever changes it in the slot is not believed. */
	if (!pcn_local.id && epoch != node->epoch)
		return false;
	if (state == node->state && epoch == node->epoch) {
		if (node->reachable && pcn_node_changed(node))
			pcn_service_look(node);
		return false;
	}

	if (node->reachable)
		pcn_node_disconnect(node);
	WRITE_ONCE(node->epoch, epoch);
	WRITE_ONCE(node->state, state);
	if (pcn_local.id) {
		pcn_node_copy_text(node->name, sizeof(node->name), shm->name, sizeof(shm->name));
		pcn_node_read_apic_ids(node->apic_ids, shm);
	}
	if (state == POPCORN_NODE_STATE_UP)
		pcn_node_connect(node);
	pcn_node_announce(node);
	return true;
}

static void pcn_node_scan(struct work_struct *work)
{
	static char reason[PCN_SHM_REASON_BYTES]; /* too large for the stack; the queue is ordered */
	bool tell;
	u32 id;

	for (id = 0; id < PCN_NODES; id++) {
		struct pcn_node *node = &pcn_nodes[id];
		u32 state;

		mutex_lock(&pcn_node_mutex);
		if (!pcn_local.live || id >= pcn_fabric.nr_nodes || id == pcn_local.id) {
			mutex_unlock(&pcn_node_mutex);
			continue;
		}
		tell = pcn_node_look(node);
		state = node->state;
		pcn_node_copy_text(reason, sizeof(reason), pcn_fabric_node(id)->reason,
				   sizeof(reason));
		mutex_unlock(&pcn_node_mutex);
		/* Outside the lock: the host calls back into this file. */
		if (tell)
			pcn_host_node_event(id, state, reason);
	}
}

static void pcn_node_tick(struct work_struct *work)
{
	struct pcn_shm_node *shm = pcn_fabric_node(pcn_local.id);

	WRITE_ONCE(shm->heartbeat, rdtsc_ordered());
	if (!pcn_local.id)
		pcn_fabric_publish_clock();
	pcn_node_scan(NULL);
	/* A doorbell that went to a CPU which was just leaving is not lost for longer than this. */
	pcn_channel_poll_soon();
	queue_delayed_work(pcn_node_wq, &pcn_node_tick_work, msecs_to_jiffies(PCN_NODE_TICK_MS));
}

static void pcn_node_fill_slot(struct pcn_shm_node *shm)
{
	strscpy(shm->release, init_utsname()->release, sizeof(shm->release));
	strscpy(shm->machine, init_utsname()->machine, sizeof(shm->machine));
	shm->nr_cpus = num_online_cpus();
	shm->nr_queues = PCN_QUEUES;
	shm->joined = rdtsc_ordered();
	WRITE_ONCE(shm->heartbeat, shm->joined);
	pcn_service_publish(shm);
}

static int pcn_node_go_live(void)
{
	struct pcn_node *self = &pcn_nodes[pcn_local.id];
	int ret;

	pcn_node_wq = alloc_ordered_workqueue("popcorn", WQ_MEM_RECLAIM);
	if (!pcn_node_wq)
		return -ENOMEM;
	ret = pcn_channel_start();
	if (ret)
		goto err_channel;
	ret = pcn_doorbell_start(pcn_channel_doorbell);
	if (ret)
		goto err_doorbell;
	mutex_lock(&pcn_node_mutex);
	pcn_node_fill_slot(pcn_fabric_node(pcn_local.id));
	self->epoch = pcn_local.epoch;
	self->state = POPCORN_NODE_STATE_UP;
	mutex_unlock(&pcn_node_mutex);
	return 0;

err_doorbell:
	pcn_channel_stop();
err_channel:
	destroy_workqueue(pcn_node_wq);
	return ret;
}

static void pcn_node_start_ticking(void)
{
	mutex_lock(&pcn_node_mutex);
	WRITE_ONCE(pcn_local.live, true);
	pcn_node_announce(&pcn_nodes[pcn_local.id]);
	mutex_unlock(&pcn_node_mutex);
	queue_delayed_work(pcn_node_wq, &pcn_node_tick_work, 0);
}

/**
 * pcn_node_join_as_primary() - become node 0 of a fabric just made
 *
 * Return: 0 or what starting channels and doorbells gave.
 */
int pcn_node_join_as_primary(void)
{
	struct pcn_shm_node *shm = pcn_fabric_node(0);
	int ret;

	pcn_local.id = 0;
	pcn_local.epoch = 1;
	shm->epoch = 1;
	strscpy(shm->name, "primary", sizeof(shm->name));
	strscpy(pcn_nodes[0].name, "primary", sizeof(pcn_nodes[0].name));
	ret = pcn_node_go_live();
	if (ret)
		return ret;
	pcn_node_own_cpus_changed();
	smp_store_release(&shm->state, POPCORN_NODE_STATE_UP);
	pcn_node_start_ticking();
	return 0;
}

/**
 * pcn_node_leave_as_primary() - stop being node 0
 *
 * Return: 0, -EBUSY while another slot is in use.
 */
int pcn_node_leave_as_primary(void)
{
	u32 id;

	mutex_lock(&pcn_node_mutex);
	for (id = 1; id < pcn_fabric.nr_nodes; id++) {
		if (pcn_nodes[id].state != POPCORN_NODE_STATE_ABSENT) {
			mutex_unlock(&pcn_node_mutex);
			return -EBUSY;
		}
	}
	WRITE_ONCE(pcn_local.live, false);
	pcn_nodes[0].state = POPCORN_NODE_STATE_ABSENT;
	pcn_node_announce(&pcn_nodes[0]);
	mutex_unlock(&pcn_node_mutex);

	synchronize_rcu(); /* senders that saw it live are done */
	pcn_doorbell_stop();
	pcn_channel_stop();
	cancel_delayed_work_sync(&pcn_node_tick_work);
	destroy_workqueue(pcn_node_wq);
	pcn_service_withdraw();
	return 0;
}

/**
 * pcn_node_join() - register this kernel in the slot that the primary prepared for it
 * @id: its node id
 *
 * Return: 0, -EINVAL for an id that cannot be, -EBUSY if the slot does not expect anybody or another
 * kernel was faster, or what starting channels and doorbells gave.
 */
int pcn_node_join(u32 id)
{
	struct pcn_shm_node *shm;
	struct timespec64 now;
	u32 expected = POPCORN_NODE_STATE_EXPECTED;
	int ret;

	if (!id || id >= pcn_fabric.nr_nodes) {
		pr_err("node %u cannot be: a secondary is 1 to %u\n", id, pcn_fabric.nr_nodes - 1);
		return -EINVAL;
	}
	shm = pcn_fabric_node(id);
	if (READ_ONCE(shm->state) != expected) {
		pr_err("node slot %u expects no kernel (state %u): is another one in it?\n", id,
		       READ_ONCE(shm->state));
		return -EBUSY;
	}
	pcn_local.id = id;
	pcn_local.epoch = READ_ONCE(shm->epoch);
	pcn_node_copy_text(pcn_nodes[id].name, sizeof(pcn_nodes[id].name), shm->name,
			   sizeof(shm->name));
	pcn_node_read_apic_ids(pcn_nodes[id].apic_ids, shm);
	if (pcn_fabric_read_clock(&now))
		do_settimeofday64(&now);
	else
		pr_warn("the primary tells no time: this kernel's clock is not set\n");

	ret = pcn_node_go_live();
	if (ret)
		return ret;
	if (!try_cmpxchg(&shm->state, &expected, POPCORN_NODE_STATE_UP)) {
		pr_err("node slot %u was taken by another kernel\n", id);
		pcn_doorbell_stop();
		pcn_channel_stop();
		destroy_workqueue(pcn_node_wq);
		pcn_service_withdraw();
		return -EBUSY;
	}
	pcn_node_start_ticking();
	flush_delayed_work(&pcn_node_tick_work); /* the peers are known when this returns */
	for (id = 0; id < pcn_fabric.nr_nodes; id++)
		if (pcn_nodes[id].reachable)
			pcn_doorbell_ring(&pcn_nodes[id]);
	return 0;
}

/**
 * pcn_node_tell_end() - this kernel ends: say so and wake everybody
 * @state: POPCORN_NODE_STATE_STOPPED or _CRASHED
 * @reason: one line
 *
 * For the guards: takes no lock, may be called in a panic. What was told first stays: a panic is the
 * cause of the reset that follows it.
 */
void pcn_node_tell_end(u32 state, const char *reason)
{
	struct pcn_shm_node *shm = pcn_fabric_node(pcn_local.id);
	u32 id;

	u32 state_now = READ_ONCE(shm->state);

	if (state_now != POPCORN_NODE_STATE_UP && state_now != POPCORN_NODE_STATE_EXPECTED)
		return;
	strscpy(shm->reason, reason, sizeof(shm->reason));
	smp_store_release(&shm->state, state);
	for (id = 0; id < pcn_fabric.nr_nodes; id++)
		if (READ_ONCE(pcn_nodes[id].reachable))
			pcn_doorbell_ring(&pcn_nodes[id]);
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
	u32 peer;

	if (!pcn_local.live)
		return -ENODEV;
	if (!id || id >= pcn_fabric.nr_nodes)
		return -EINVAL;
	for (i = 0; i < nr; i++)
		if (apic_ids[i] >= PCN_APIC_IDS_MAX)
			return -EINVAL;

	node = &pcn_nodes[id];
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
	for (peer = 0; peer < pcn_fabric.nr_nodes; peer++) {
		pcn_ring_clear(pcn_fabric_channel(id, peer), pcn_fabric.ring_slots);
		pcn_ring_clear(pcn_fabric_channel(peer, id), pcn_fabric.ring_slots);
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
	struct pcn_node *node = &pcn_nodes[id];

	mutex_lock(&pcn_node_mutex);
	if (node->reachable)
		pcn_node_disconnect(node);
	WRITE_ONCE(pcn_fabric_node(id)->state, POPCORN_NODE_STATE_ABSENT);
	node->state = POPCORN_NODE_STATE_ABSENT;
	pcn_node_announce(node);
	mutex_unlock(&pcn_node_mutex);
}
EXPORT_SYMBOL_GPL(pcn_node_retire);

/**
 * pcn_node_setup() - once, when the module is loaded
 */
void pcn_node_setup(void)
{
	u32 id;

	for (id = 0; id < PCN_NODES; id++) {
		pcn_nodes[id].id = id;
		spin_lock_init(&pcn_nodes[id].tx_lock);
		spin_lock_init(&pcn_nodes[id].rx_lock);
	}
}
