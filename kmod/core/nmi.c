// SPDX-License-Identifier: GPL-2.0
/*
 * Backtraces of a secondary's CPUs into its own log, on request of the primary by NMI: also of one that
 * loops with interrupts off.
 *
 * Only CPUs that take it are sent one: those that their kernel has brought up, by their bits in its slot.
 * One that still waits for SIPI has no interrupt table.
 */
#include <linux/cpuhotplug.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/ptrace.h>
#include <asm/nmi.h>
#include <asm/smp.h>

#include "fabric.h"
#include "nmi.h"
#include "self.h"

static DEFINE_PER_CPU(u32, pcn_nmi_seen);

/* Only what is safe here: the kernel's own unknown-NMI and hardlockup reports print the same way. */
static int pcn_nmi_handle(unsigned int type, struct pt_regs *regs)
{
	u32 asked = READ_ONCE(pcn_fabric_node(pcn_main.id)->nmi);

	/* The request is counted before the NMI is sent: without a new one it is somebody else's. */
	if (asked == this_cpu_read(pcn_nmi_seen))
		return NMI_DONE;
	this_cpu_write(pcn_nmi_seen, asked);
	pr_warn("NMI from the primary: CPU %d is at %pS\n", smp_processor_id(),
		(void *)instruction_pointer(regs));
	dump_stack();
	return NMI_HANDLED;
}

/* Called one at a time; nobody else writes there. */
static void pcn_nmi_show(unsigned int cpu, bool takes)
{
	u32 apic_id = per_cpu(x86_cpu_to_apicid, cpu);
	__u64 *word, bit = BIT_ULL(apic_id % 64);

	if (apic_id >= PCN_APIC_IDS_MAX)
		return;
	word = &pcn_fabric_node(pcn_main.id)->nmi_cpus[apic_id / 64];
	WRITE_ONCE(*word, takes ? *word | bit : *word & ~bit);
}

static int pcn_nmi_cpu_up(unsigned int cpu)
{
	pcn_nmi_show(cpu, true);
	return 0;
}

static int pcn_nmi_cpu_down(unsigned int cpu)
{
	pcn_nmi_show(cpu, false);
	return 0;
}

/**
 * pcn_nmi_start() - answer the primary's NMIs from now on; in a secondary whose slot is its own
 *
 * Without it everything else works; for the rest of this kernel's life, like the guards.
 */
void pcn_nmi_start(void)
{
	u32 asked = READ_ONCE(pcn_fabric_node(pcn_main.id)->nmi);
	int cpu, ret;

	for_each_possible_cpu(cpu)
		per_cpu(pcn_nmi_seen, cpu) = asked;
	ret = register_nmi_handler(NMI_LOCAL, pcn_nmi_handle, 0, "popcorn");
	if (!ret) {
		ret = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "popcorn:nmi", pcn_nmi_cpu_up,
					pcn_nmi_cpu_down);
		if (ret < 0)
			unregister_nmi_handler(NMI_LOCAL, "popcorn");
	}
	if (ret < 0)
		pr_warn("the primary cannot ask for backtraces of this kernel (%d)\n", ret);
}

/**
 * pcn_nmi_send() - have the CPUs of a node print their backtraces
 * @id: its node id
 * @apic_ids: of the CPUs that it may have
 * @nr: how many
 * @sent: set for each, whether it was sent one; not if its kernel does not say that it takes one
 *
 * Return: how many were sent one.
 */
unsigned int pcn_nmi_send(u32 id, const u32 *apic_ids, unsigned int nr, bool *sent)
{
	struct pcn_shm_node *shm = pcn_fabric_node(id);
	unsigned int i, count = 0;

	WRITE_ONCE(shm->nmi, READ_ONCE(shm->nmi) + 1);
	mb(); /* the request before the NMI: a device register, in x2APIC mode an MSR, is written next */
	for (i = 0; i < nr; i++) {
		u32 apic_id = apic_ids[i];

		sent[i] = apic_id < PCN_APIC_IDS_MAX &&
			  READ_ONCE(shm->nmi_cpus[apic_id / 64]) & BIT_ULL(apic_id % 64);
		if (!sent[i])
			continue;
		pcn_ipi_nmi(apic_id);
		count++;
	}
	return count;
}
EXPORT_SYMBOL_GPL(pcn_nmi_send);
