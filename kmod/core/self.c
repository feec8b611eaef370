// SPDX-License-Identifier: GPL-2.0
/*
 * What this kernel itself is on the fabric: it registers in a slot, shows its services, and leaves.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/timekeeping.h>
#include <linux/utsname.h>
#include <linux/workqueue.h>
#include <asm/smp.h>
#include <asm/tsc.h>

#include "channel.h"
#include "doorbell.h"
#include "nmi.h"
#include "poller.h"
#include "self.h"
#include "service.h"
#include "wake.h"

struct pcn_self pcn_main;
struct pcn_self *pcn_selves[PCN_NODES];

/**
 * pcn_self_cpus_changed() - tell the peers which CPUs this node has now
 */
void pcn_self_cpus_changed(void)
{
	struct pcn_node *self = &pcn_main.node[pcn_main.id];
	int cpu;

	mutex_lock(&pcn_node_mutex);
	if (pcn_fabric.header && !pcn_main.id) {
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
EXPORT_SYMBOL_GPL(pcn_self_cpus_changed);

static void pcn_self_fill_slot(struct pcn_self *self)
{
	struct pcn_shm_node *shm = pcn_fabric_node(self->id);

	strscpy(shm->release, init_utsname()->release, sizeof(shm->release));
	strscpy(shm->machine, init_utsname()->machine, sizeof(shm->machine));
	WRITE_ONCE(shm->nr_cpus, num_online_cpus());
	WRITE_ONCE(shm->nr_queues, self->nr_queues);
	shm->joined = rdtsc_ordered();
	WRITE_ONCE(shm->heartbeat, shm->joined);
	pcn_service_publish(self, shm);
}

static void pcn_self_unfill_slot(struct pcn_self *self)
{
	pcn_doorbell_stop(self);
	pcn_poller_stop(self);
	destroy_workqueue(self->wq);
	pcn_service_withdraw(self);
	pcn_channel_free(self);
}

static int pcn_self_go_live(struct pcn_self *self)
{
	struct pcn_node *own = &self->node[self->id];
	int ret;

	self->nr_queues = min(pcn_fabric.nr_queues, num_online_cpus());
	ret = pcn_channel_setup(self);
	if (ret)
		return ret;
	self->wq = alloc_ordered_workqueue("popcorn", WQ_MEM_RECLAIM | WQ_HIGHPRI);
	if (!self->wq) {
		ret = -ENOMEM;
		goto err_wq;
	}
	ret = pcn_poller_start(self);
	if (ret)
		goto err_poller;
	ret = pcn_doorbell_start(self);
	if (ret)
		goto err_doorbell;
	/* As long a look as the doorbell that it may save costs, there and back. A node in the same kernel
	 * would take the CPU away from the very sender that it waits for.
	 */
	if (pcn_fabric.phys)
		pcn_poller_set_window(self, clamp_val(2 * pcn_doorbell_cost(), tsc_khz / 200, tsc_khz / 4));
	mutex_lock(&pcn_node_mutex);
	pcn_self_fill_slot(self);
	own->epoch = self->epoch;
	own->state = POPCORN_NODE_STATE_UP;
	mutex_unlock(&pcn_node_mutex);
	return 0;

err_doorbell:
	pcn_poller_stop(self);
err_poller:
	destroy_workqueue(self->wq);
err_wq:
	pcn_channel_free(self);
	return ret;
}

static void pcn_self_start_ticking(struct pcn_self *self)
{
	mutex_lock(&pcn_node_mutex);
	WRITE_ONCE(self->live, true);
	WRITE_ONCE(pcn_selves[self->id], self);
	pcn_node_announce(&self->node[self->id]);
	mutex_unlock(&pcn_node_mutex);
	queue_delayed_work(self->wq, &self->tick, 0);
}

/* Peers look at our slot. */
static void pcn_self_tell_peers(struct pcn_self *self)
{
	u32 id;

	for (id = 0; id < pcn_fabric.nr_nodes; id++)
		if (READ_ONCE(self->node[id].reachable))
			pcn_wake_peer(&self->node[id].channel[0], false);
}

/**
 * pcn_self_join_as_primary() - become node 0 of a fabric just made
 *
 * Return: 0 or what starting channels and doorbells gave.
 */
int pcn_self_join_as_primary(void)
{
	struct pcn_shm_node *shm = pcn_fabric_node(0);
	int ret;

	pcn_main.id = 0;
	pcn_main.epoch = 1;
	shm->epoch = 1;
	strscpy(shm->name, "primary", sizeof(shm->name));
	strscpy(pcn_main.node[0].name, "primary", sizeof(pcn_main.node[0].name));
	ret = pcn_self_go_live(&pcn_main);
	if (ret)
		return ret;
	pcn_self_cpus_changed();
	smp_store_release(&shm->state, POPCORN_NODE_STATE_UP);
	pcn_self_start_ticking(&pcn_main);
	return 0;
}

/* Nobody is told: the slot says it. */
static void pcn_self_stop(struct pcn_self *self)
{
	u32 id;

	mutex_lock(&pcn_node_mutex);
	for (id = 0; id < pcn_fabric.nr_nodes; id++)
		if (self->node[id].reachable)
			pcn_node_disconnect(&self->node[id]);
	WRITE_ONCE(self->live, false);
	self->node[self->id].state = POPCORN_NODE_STATE_ABSENT;
	pcn_node_announce(&self->node[self->id]);
	WRITE_ONCE(pcn_selves[self->id], NULL);
	mutex_unlock(&pcn_node_mutex);

	synchronize_rcu(); /* senders that saw it live are done, */
	while (atomic_read(&self->sleepers)) /* or asleep, and were woken when their peer went */
		msleep(1);
	cancel_delayed_work_sync(&self->tick);
	cancel_work_sync(&self->scan);
	cancel_work_sync(&self->grow);
	for (id = 0; id < PCN_NODES; id++)
		self->node[id].state = POPCORN_NODE_STATE_ABSENT;
	pcn_self_unfill_slot(self);
}

/**
 * pcn_self_leave_as_primary() - stop being node 0
 *
 * Return: 0, -EBUSY while another slot is in use.
 */
int pcn_self_leave_as_primary(void)
{
	u32 id;

	mutex_lock(&pcn_node_mutex);
	for (id = 1; id < pcn_fabric.nr_nodes; id++) {
		if (pcn_main.node[id].state != POPCORN_NODE_STATE_ABSENT) {
			mutex_unlock(&pcn_node_mutex);
			return -EBUSY;
		}
	}
	mutex_unlock(&pcn_node_mutex);
	pcn_self_stop(&pcn_main);
	return 0;
}

static void pcn_self_set_clock(void)
{
	struct timespec64 now;

	if (pcn_fabric_read_clock(&now))
		do_settimeofday64(&now);
	else
		pr_warn("the primary tells no time: this kernel's clock is not set\n");
}

/**
 * pcn_self_join() - register in the slot that the primary prepared
 * @self: who
 * @id: its node id
 *
 * Return: 0, -EINVAL for an id that cannot be, -EBUSY if the slot does not expect anybody or another
 * kernel was faster, or what starting channels and doorbells gave.
 */
int pcn_self_join(struct pcn_self *self, u32 id)
{
	struct pcn_shm_node *shm;
	u32 expected = POPCORN_NODE_STATE_EXPECTED;
	int ret;

	if (!id || id >= pcn_fabric.nr_nodes) {
		pr_err("node %u cannot be: a secondary is 1 to %u\n", id, pcn_fabric.nr_nodes - 1);
		return -EINVAL;
	}
	shm = pcn_fabric_node(id);
	/* First of all: whoever comes second must not write into it. */
	if (!try_cmpxchg(&shm->state, &expected, POPCORN_NODE_STATE_JOINING)) {
		pr_err("node slot %u expects no kernel (state %u): is another one in it?\n", id, expected);
		return -EBUSY;
	}
	self->id = id;
	self->epoch = READ_ONCE(shm->epoch);
	pcn_node_copy_text(self->node[id].name, sizeof(self->node[id].name), shm->name, sizeof(shm->name));
	pcn_node_read_apic_ids(self->node[id].apic_ids, shm);
	if (pcn_fabric.phys)
		pcn_self_set_clock();

	ret = pcn_self_go_live(self);
	if (ret) {
		/* The slot stays as it is until it is prepared again: half of it may be written. */
		strscpy(shm->reason, "could not join", sizeof(shm->reason));
		smp_store_release(&shm->state, POPCORN_NODE_STATE_LEFT);
		return ret;
	}
	/* Before it is up: whoever sees that may ask. */
	if (self == &pcn_main)
		pcn_nmi_start();
	smp_store_release(&shm->state, POPCORN_NODE_STATE_UP);
	pcn_self_start_ticking(self);
	flush_delayed_work(&self->tick); /* the peers are known when this returns */
	pcn_self_tell_peers(self);
	return 0;
}

/**
 * pcn_self_leave() - give the slot up, in order
 * @self: who joined
 */
void pcn_self_leave(struct pcn_self *self)
{
	WRITE_ONCE(pcn_fabric_node(self->id)->state, POPCORN_NODE_STATE_LEFT);
	pcn_self_tell_peers(self);
	pcn_self_stop(self);
}

/**
 * pcn_self_tell_end() - this kernel ends: say so and wake everybody
 * @state: POPCORN_NODE_STATE_STOPPED or _CRASHED
 * @reason: one line
 *
 * For the guards: takes no lock, may be called in a panic. What was told first stays: a panic is the
 * cause of the reset that follows it.
 */
void pcn_self_tell_end(u32 state, const char *reason)
{
	struct pcn_shm_node *shm = pcn_fabric_node(pcn_main.id);
	u32 state_now = READ_ONCE(shm->state);

	if (state_now != POPCORN_NODE_STATE_UP && state_now != POPCORN_NODE_STATE_EXPECTED &&
	    state_now != POPCORN_NODE_STATE_JOINING)
		return;
	strscpy(shm->reason, reason, sizeof(shm->reason));
	smp_store_release(&shm->state, state);
	pcn_self_tell_peers(&pcn_main);
}
