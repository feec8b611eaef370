/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_CPU_H
#define _PCN_CPU_H

#include <linux/types.h>

#include "popcorn_host.h"

struct netlink_ext_ack;
struct nlattr;

/**
 * struct pcn_cpus - CPUs leased to one kernel
 * @nr: entries of @cpu and @apic_id
 * @cpu: logical numbers in this kernel, in the order asked for; the first one boots
 * @apic_id: physical APIC IDs, in the same order
 */
struct pcn_cpus {
	u32 nr;
	u32 cpu[PCN_KERNEL_CPUS_MAX];
	u32 apic_id[PCN_KERNEL_CPUS_MAX];
};

int pcn_cpu_init(void);
void pcn_cpu_exit(void);

int pcn_cpu_check(const u32 *cpu, u32 nr, struct netlink_ext_ack *extack, const struct nlattr *attr);
int pcn_cpu_lease(struct pcn_cpus *cpus, const u32 *cpu, u32 nr, u32 owner,
		  struct netlink_ext_ack *extack, const struct nlattr *attr);
int pcn_cpu_release(struct pcn_cpus *cpus, u32 *stuck);
void pcn_cpu_reset(const struct pcn_cpus *cpus);
u32 pcn_cpu_bsp_apic_id(void);

#endif
