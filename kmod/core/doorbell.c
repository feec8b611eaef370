// SPDX-License-Identifier: GPL-2.0
/*
 * Doorbells: an interrupt of one kernel that another kernel raises.
 *
 * Ours is an ordinary Linux interrupt whose vector comes from x86_vector_domain, so it follows CPU hotplug
 * and smp_affinity. Nobody programs a device with it: {APIC ID, vector} is published in the node slot, and
 * peers write it to their interrupt command register.
 */
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/msi.h>
#include <asm/apic.h>
#include <asm/hw_irq.h>
#include <asm/irq_vectors.h>
#include <asm/irqdomain.h>
#include <asm/smp.h>
#include <asm/tsc.h>

#include "popcorn_host.h"
#include "doorbell.h"
#include "fabric.h"
#include "node.h"
#include "poller.h"
#include "self.h"
#include "trace.h"

/**
 * struct pcn_doorbell - the interrupt of one queue
 * @irq: Linux number, 0 while there is none
 * @poller: who is told
 */
struct pcn_doorbell {
	int irq;
	struct pcn_poller *poller;
};

static struct fwnode_handle *pcn_doorbell_fwnode;
static struct irq_domain *pcn_doorbell_domain;
static struct pcn_doorbell pcn_doorbells[PCN_QUEUES];
static u64 pcn_doorbell_cycles;		/* what ringing costs, as measured */
static u64 pcn_doorbell_measured;	/* TSC in the interrupt, while that is being measured */
static bool pcn_doorbell_measuring;

static irqreturn_t pcn_doorbell_interrupt(int irq, void *data)
{
	struct pcn_doorbell *doorbell = data;
	u64 tsc = rdtsc_ordered();

	if (unlikely(READ_ONCE(pcn_doorbell_measuring))) {
		WRITE_ONCE(pcn_doorbell_measured, tsc);
		return IRQ_HANDLED;
	}
	trace_popcorn_doorbell_irq(pcn_main.id, doorbell->poller->queue, tsc);
	pcn_poller_doorbell(doorbell->poller, tsc);
	return IRQ_HANDLED;
}

static void pcn_doorbell_publish(struct irq_data *data)
{
	struct pcn_doorbell *doorbell = irq_data_get_irq_chip_data(data);
	struct irq_data *parent = data->parent_data;
	unsigned int cpu = cpumask_first(irq_data_get_effective_affinity_mask(data));
	struct msi_msg msg = {};
	u32 apic_id, vector;

	if (cpu >= nr_cpu_ids)
		return;
	/* The message's destination may be a logical mask; only its vector is of use. */
	parent->chip->irq_compose_msi_msg(parent, &msg);
	vector = msg.arch_data.vector;
	apic_id = per_cpu(x86_cpu_to_apicid, cpu);
	WRITE_ONCE(pcn_fabric_node(pcn_main.id)->doorbell[doorbell - pcn_doorbells],
		   (u64)vector << 32 | apic_id);
}

static int pcn_doorbell_set_affinity(struct irq_data *data, const struct cpumask *mask, bool force)
{
	int ret = irq_chip_set_affinity_parent(data, mask, force);

	if (ret >= 0)
		pcn_doorbell_publish(data);
	return ret;
}

/* There is no device to silence: peers ring only while a channel is armed. */
static void pcn_doorbell_nop(struct irq_data *data)
{
}

static struct irq_chip pcn_doorbell_chip = {
	.name = "popcorn",
	.irq_ack = irq_chip_ack_parent,
	.irq_mask = pcn_doorbell_nop,
	.irq_unmask = pcn_doorbell_nop,
	.irq_set_affinity = pcn_doorbell_set_affinity,
	.irq_retrigger = irq_chip_retrigger_hierarchy,
	.flags = IRQCHIP_SKIP_SET_WAKE,
};

static int pcn_doorbell_domain_alloc(struct irq_domain *domain, unsigned int irq, unsigned int nr,
				     void *arg)
{
	int ret = irq_domain_alloc_irqs_parent(domain, irq, nr, arg);

	if (ret)
		return ret;
	/* Whose it is: pcn_doorbell_start_queue() says which one is being made. */
	irq_domain_set_info(domain, irq, irq, &pcn_doorbell_chip, ((struct irq_alloc_info *)arg)->data,
			    handle_edge_irq, NULL, "edge");
	return 0;
}

static void pcn_doorbell_domain_free(struct irq_domain *domain, unsigned int irq, unsigned int nr)
{
	irq_domain_free_irqs_common(domain, irq, nr);
}

static const struct irq_domain_ops pcn_doorbell_domain_ops = {
	.alloc = pcn_doorbell_domain_alloc,
	.free = pcn_doorbell_domain_free,
};

static void pcn_doorbell_stop_queue(struct pcn_doorbell *doorbell)
{
	if (!doorbell->irq)
		return;
	WRITE_ONCE(pcn_fabric_node(pcn_main.id)->doorbell[doorbell - pcn_doorbells], 0);
	free_irq(doorbell->irq, doorbell);
	irq_dispose_mapping(doorbell->irq);
	doorbell->irq = 0;
}

static int pcn_doorbell_start_queue(struct pcn_doorbell *doorbell, struct pcn_poller *poller)
{
	static const char *const names[] = { "popcorn-doorbell0", "popcorn-doorbell1", "popcorn-doorbell2",
					     "popcorn-doorbell3" };
	unsigned int cpu = cpumask_local_spread(poller->queue, NUMA_NO_NODE);
	struct irq_alloc_info info = { .mask = cpu_online_mask, .data = doorbell };
	int irq, ret;

	static_assert(ARRAY_SIZE(names) == PCN_QUEUES);
	doorbell->poller = poller;
	irq = irq_domain_alloc_irqs(pcn_doorbell_domain, 1, NUMA_NO_NODE, &info);
	if (irq < 0)
		return irq;
	ret = request_irq(irq, pcn_doorbell_interrupt, IRQF_NO_THREAD, names[poller->queue], doorbell);
	if (ret) {
		irq_dispose_mapping(irq);
		return ret;
	}
	doorbell->irq = irq;
	pcn_doorbell_publish(irq_get_irq_data(irq));
	/* One queue for each CPU to begin with; smp_affinity may say otherwise at any time. */
	irq_set_affinity(irq, cpumask_of(cpu));
	return 0;
}

/* How long until an interrupt that this kernel sends to itself is being handled. */
static u64 pcn_doorbell_measure_once(void)
{
	u64 begin, limit = tsc_khz * 10ULL; /* 10 ms */
	u32 apic_id, vector;

	WRITE_ONCE(pcn_doorbell_measured, 0);
	if (!pcn_doorbell_where(pcn_main.id, 0, &apic_id, &vector))
		return limit;
	begin = rdtsc_ordered();
	pcn_ipi_send(apic_id, vector);
	while (!READ_ONCE(pcn_doorbell_measured))
		if (rdtsc() - begin > limit)
			return limit;
	return pcn_doorbell_measured - begin;
}

/* The best of several: what the way costs, not what else the CPU had to do. */
static void pcn_doorbell_measure(void)
{
	int i;

	pcn_doorbell_cycles = U64_MAX;
	WRITE_ONCE(pcn_doorbell_measuring, true);
	for (i = 0; i < 16; i++)
		pcn_doorbell_cycles = min(pcn_doorbell_cycles, pcn_doorbell_measure_once());
	WRITE_ONCE(pcn_doorbell_measuring, false);
}

/**
 * pcn_doorbell_cost() - TSC cycles from ringing to the interrupt, measured when this kernel joined; 0 before
 */
u64 pcn_doorbell_cost(void)
{
	return pcn_doorbell_cycles;
}

/**
 * pcn_doorbell_start() - get an interrupt for each queue and publish it
 * @self: for whom
 *
 * A loopback node needs none: it is called in the kernel that it is in.
 *
 * Return: 0 or a negative errno.
 */
int pcn_doorbell_start(struct pcn_self *self)
{
	int ret = 0;
	u32 queue;

	if (self != &pcn_main || !pcn_fabric.phys)
		return 0;
	if (!x86_vector_domain)
		return -ENODEV;
	pcn_doorbell_fwnode = irq_domain_alloc_named_fwnode("popcorn-doorbell");
	if (!pcn_doorbell_fwnode)
		return -ENOMEM;
	pcn_doorbell_domain = irq_domain_create_hierarchy(x86_vector_domain, 0, 0, pcn_doorbell_fwnode,
							  &pcn_doorbell_domain_ops, NULL);
	if (!pcn_doorbell_domain) {
		irq_domain_free_fwnode(pcn_doorbell_fwnode);
		return -ENOMEM;
	}
	for (queue = 0; !ret && queue < self->nr_queues; queue++)
		ret = pcn_doorbell_start_queue(&pcn_doorbells[queue], &self->poller[queue]);
	if (ret) {
		pcn_doorbell_stop(self);
		return ret;
	}
	pcn_doorbell_measure();
	return 0;
}

/**
 * pcn_doorbell_stop() - take the doorbells off the slot and give the interrupts back
 * @self: whose
 */
void pcn_doorbell_stop(struct pcn_self *self)
{
	u32 queue;

	if (self != &pcn_main || !pcn_fabric.phys)
		return;
	for (queue = 0; queue < PCN_QUEUES; queue++)
		pcn_doorbell_stop_queue(&pcn_doorbells[queue]);
	irq_domain_remove(pcn_doorbell_domain);
	irq_domain_free_fwnode(pcn_doorbell_fwnode);
}

/**
 * pcn_doorbell_irq() - Linux interrupt number of a queue's doorbell, 0 if it has none
 * @queue: below PCN_QUEUES
 */
int pcn_doorbell_irq(u32 queue)
{
	return READ_ONCE(pcn_doorbells[queue].irq);
}

/**
 * pcn_doorbell_where() - where does a node's slot say that a doorbell is
 * @id: node id
 * @queue: below PCN_QUEUES
 * @apic_id: set
 * @vector: set
 *
 * Return: false if it has none.
 */
bool pcn_doorbell_where(u32 id, u32 queue, u32 *apic_id, u32 *vector)
{
	u64 word = READ_ONCE(pcn_fabric_node(id)->doorbell[queue]);

	*apic_id = (u32)word;
	*vector = word >> 32;
	return *vector;
}

/* A stale or forged pair would interrupt a CPU that belongs to somebody else, or stand for an exception. */
static bool pcn_doorbell_valid(struct pcn_node *node, u32 apic_id, u32 vector)
{
	/* The first one is an ordinary device vector in kernels that keep no cleanup vector there (6.12). */
	if (vector < FIRST_EXTERNAL_VECTOR || vector >= FIRST_SYSTEM_VECTOR ||
	    vector == IA32_SYSCALL_VECTOR || apic_id >= PCN_APIC_IDS_MAX)
		return false;
	if (test_bit(apic_id, node->apic_ids))
		return true;
	pcn_node_refresh_apic_ids(node);
	return test_bit(apic_id, node->apic_ids);
}

/**
 * pcn_doorbell_ring() - interrupt a node
 * @node: the node
 * @queue: which of its queues
 *
 * From any context; takes no lock.
 *
 * Return: false if its slot names no doorbell that may be rung.
 */
bool pcn_doorbell_ring(struct pcn_node *node, u32 queue)
{
	struct pcn_self *here = READ_ONCE(pcn_selves[node->id]);
	u32 apic_id, vector;

	if (here) { /* only on a loopback fabric is a peer in this kernel */
		if (trace_popcorn_doorbell_sent_enabled())
			trace_popcorn_doorbell_sent(node->self->id, node->id, queue, 0, 0, rdtsc());
		irq_work_queue(&here->poller[queue].loop);
		return true;
	}
	if (!pcn_doorbell_where(node->id, queue, &apic_id, &vector))
		return false;
	if (!pcn_doorbell_valid(node, apic_id, vector)) {
		pr_warn_ratelimited("node %u has a bad doorbell (APIC ID %u, vector %u): not rung\n",
				    node->id, apic_id, vector);
		return false;
	}
	if (trace_popcorn_doorbell_sent_enabled())
		trace_popcorn_doorbell_sent(node->self->id, node->id, queue, apic_id, vector, rdtsc_ordered());
	pcn_ipi_send(apic_id, vector);
	return true;
}
