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
#include "trace.h"

static struct {
	struct fwnode_handle *fwnode;
	struct irq_domain *domain;
	int irq;
	pcn_doorbell_handler handler;
} pcn_doorbell;

static irqreturn_t pcn_doorbell_interrupt(int irq, void *unused)
{
	u64 tsc = rdtsc_ordered();

	trace_popcorn_doorbell_irq(pcn_local.id, 0, tsc);
	pcn_doorbell.handler(tsc);
	return IRQ_HANDLED;
}

static void pcn_doorbell_publish(struct irq_data *data)
{
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
	WRITE_ONCE(pcn_fabric_node(pcn_local.id)->doorbell[0], (u64)vector << 32 | apic_id);
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
	irq_domain_set_info(domain, irq, irq, &pcn_doorbell_chip, NULL, handle_edge_irq, NULL, "edge");
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

/**
 * pcn_doorbell_start() - get an interrupt and publish it
 * @handler: called when it comes
 *
 * Return: 0 or a negative errno.
 */
int pcn_doorbell_start(pcn_doorbell_handler handler)
{
	struct irq_alloc_info info = { .mask = cpu_online_mask };
	int ret;

	if (!x86_vector_domain)
		return -ENODEV;
	pcn_doorbell.handler = handler;
	pcn_doorbell.fwnode = irq_domain_alloc_named_fwnode("popcorn-doorbell");
	if (!pcn_doorbell.fwnode)
		return -ENOMEM;
	pcn_doorbell.domain = irq_domain_create_hierarchy(x86_vector_domain, 0, 0, pcn_doorbell.fwnode,
							  &pcn_doorbell_domain_ops, NULL);
	if (!pcn_doorbell.domain) {
		ret = -ENOMEM;
		goto err_domain;
	}
	ret = irq_domain_alloc_irqs(pcn_doorbell.domain, 1, NUMA_NO_NODE, &info);
	if (ret < 0)
		goto err_irq;
	pcn_doorbell.irq = ret;
	ret = request_irq(pcn_doorbell.irq, pcn_doorbell_interrupt, IRQF_NO_THREAD, "popcorn-doorbell",
			  &pcn_doorbell);
	if (ret)
		goto err_request;
	pcn_doorbell_publish(irq_get_irq_data(pcn_doorbell.irq));
	return 0;

err_request:
	irq_dispose_mapping(pcn_doorbell.irq);
err_irq:
	irq_domain_remove(pcn_doorbell.domain);
err_domain:
	irq_domain_free_fwnode(pcn_doorbell.fwnode);
	return ret;
}

/**
 * pcn_doorbell_stop() - take the doorbell off the slot and give the interrupt back
 */
void pcn_doorbell_stop(void)
{
	WRITE_ONCE(pcn_fabric_node(pcn_local.id)->doorbell[0], 0);
	free_irq(pcn_doorbell.irq, &pcn_doorbell);
	irq_dispose_mapping(pcn_doorbell.irq);
	irq_domain_remove(pcn_doorbell.domain);
	irq_domain_free_fwnode(pcn_doorbell.fwnode);
}

/**
 * pcn_doorbell_where() - where does a node's slot say that its doorbell is
 * @id: node id
 * @apic_id: set
 * @vector: set
 *
 * Return: false if it has none.
 */
bool pcn_doorbell_where(u32 id, u32 *apic_id, u32 *vector)
{
	u64 word = READ_ONCE(pcn_fabric_node(id)->doorbell[0]);

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
 *
 * From any context; takes no lock.
 *
 * Return: false if its slot names no doorbell that may be rung.
 */
bool pcn_doorbell_ring(struct pcn_node *node)
{
	u32 apic_id, vector;

	if (!pcn_doorbell_where(node->id, &apic_id, &vector))
		return false;
	if (!pcn_doorbell_valid(node, apic_id, vector)) {
		pr_warn_ratelimited("node %u has a bad doorbell (APIC ID %u, vector %u): not rung\n",
				    node->id, apic_id, vector);
		return false;
	}
	atomic64_inc(&node->doorbells);
	trace_popcorn_doorbell_sent(pcn_local.id, node->id, 0, apic_id, vector, rdtsc_ordered());
	pcn_ipi_send(apic_id, vector);
	return true;
}
