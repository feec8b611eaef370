// SPDX-License-Identifier: GPL-2.0
/*
 * CPUs: from this kernel to a secondary and back.
 *
 * A leased CPU is offline and, to this kernel, not present: as if it had been pulled out. So nobody can
 * put it online, and the "all but self" shorthand of the local APIC, which would reach the secondary's
 * CPUs, goes out of use: the kernel takes it only while all present CPUs are its own
 * (apic_smt_update(), which every hotplug operation calls when it is done). Hence "present" is cleared
 * inside the operation that takes the CPU offline, by a hotplug state of ours; cleared after it, the
 * shorthand would stay until the next one.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <asm/smp.h>

#include "cpu.h"

#define PCN_CPU_BOOT		0
#define PCN_CPU_ONLINE_TRIES	20
#define PCN_CPU_ONLINE_PAUSE_MS	100

/* Kernel that a CPU is leased to, 0 for none. Written under pcn_cpu_mutex, read by the hotplug state. */
static u8 pcn_cpu_owner[NR_CPUS];
static DEFINE_MUTEX(pcn_cpu_mutex);
static enum cpuhp_state pcn_cpu_state;

static int pcn_cpu_went_down(unsigned int cpu)
{
	if (READ_ONCE(pcn_cpu_owner[cpu]))
		set_cpu_present(cpu, false);
	return 0;
}

/* Only on the way back from an offlining that failed in a later step. */
static int pcn_cpu_goes_up(unsigned int cpu)
{
	if (READ_ONCE(pcn_cpu_owner[cpu]))
		set_cpu_present(cpu, true);
	return 0;
}

/**
 * pcn_cpu_init() - once, when the module is loaded
 *
 * Return: 0 or what registering the hotplug state gave.
 */
int pcn_cpu_init(void)
{
	int ret = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN, "popcorn/host:lease",
					    pcn_cpu_goes_up, pcn_cpu_went_down);

	if (ret < 0)
		return ret;
	pcn_cpu_state = ret;
	return 0;
}

/**
 * pcn_cpu_exit() - undo pcn_cpu_init(); no CPU is leased
 */
void pcn_cpu_exit(void)
{
	cpuhp_remove_state_nocalls(pcn_cpu_state);
}

static int pcn_cpu_check_one(u32 cpu, struct netlink_ext_ack *extack, const struct nlattr *attr)
{
	if (cpu >= nr_cpu_ids || !cpu_possible(cpu)) {
		pcn_nl_refuse(extack, attr, "CPU %u does not exist", cpu);
		return -ENODEV;
	}
	if (cpu == PCN_CPU_BOOT) {
		pcn_nl_refuse(extack, attr, "CPU %u is the boot CPU, which stays with this kernel", cpu);
		return -EBUSY;
	}
	if (pcn_cpu_owner[cpu]) {
		pcn_nl_refuse(extack, attr, "CPU %u is leased to kernel %u", cpu, pcn_cpu_owner[cpu]);
		return -EBUSY;
	}
	if (!cpu_present(cpu)) {
		pcn_nl_refuse(extack, attr, "CPU %u is not present", cpu);
		return -ENODEV;
	}
	if (!cpu_online(cpu)) {
		pcn_nl_refuse(extack, attr, "CPU %u is offline; put it online first", cpu);
		return -EBUSY;
	}
	if (per_cpu(x86_cpu_to_apicid, cpu) >= PCN_APIC_IDS_MAX) {
		pcn_nl_refuse(extack, attr, "CPU %u has APIC ID %u, the fabric's map ends at %u", cpu,
			      (u32)per_cpu(x86_cpu_to_apicid, cpu), PCN_APIC_IDS_MAX - 1);
		return -ERANGE;
	}
	return 0;
}

static int pcn_cpu_check_all(const u32 *cpu, u32 nr, struct netlink_ext_ack *extack,
			     const struct nlattr *attr)
{
	u32 i, j, online;
	int ret;

	if (!nr || nr > PCN_KERNEL_CPUS_MAX) {
		pcn_nl_refuse(extack, attr, "%u CPUs; a kernel has 1 to %u", nr, PCN_KERNEL_CPUS_MAX);
		return -EINVAL;
	}
	for (i = 0; i < nr; i++) {
		ret = pcn_cpu_check_one(cpu[i], extack, attr);
		if (ret)
			return ret;
		for (j = 0; j < i; j++) {
			if (cpu[j] == cpu[i]) {
				pcn_nl_refuse(extack, attr, "CPU %u is given twice", cpu[i]);
				return -EINVAL;
			}
		}
	}
	/* The boot CPU is refused above, but it may be offline itself. */
	online = num_online_cpus();
	if (nr >= online) {
		pcn_nl_refuse(extack, attr, "CPU %u is the last one online", cpu[nr - 1]);
		return -EBUSY;
	}
	return 0;
}

/**
 * pcn_cpu_check() - could these CPUs be leased now
 * @cpu: logical numbers
 * @nr: how many
 * @extack: told why not
 * @attr: to blame
 *
 * Asked before the slow part of a lease; pcn_cpu_lease() asks again.
 *
 * Return: 0 or a negative errno.
 */
int pcn_cpu_check(const u32 *cpu, u32 nr, struct netlink_ext_ack *extack, const struct nlattr *attr)
{
	int ret;

	mutex_lock(&pcn_cpu_mutex);
	ret = pcn_cpu_check_all(cpu, nr, extack, attr);
	mutex_unlock(&pcn_cpu_mutex);
	return ret;
}

static int pcn_cpu_give_back(u32 cpu)
{
	int tries, ret;

	/* First, or the hotplug state would clear "present" again if bringing it up fails. */
	WRITE_ONCE(pcn_cpu_owner[cpu], 0);
	set_cpu_present(cpu, true);
	for (tries = 0; tries < PCN_CPU_ONLINE_TRIES; tries++) {
		ret = add_cpu(cpu);
		/* Hotplug is shut for moments, e.g. while a PCI driver is bound. */
		if (ret != -EBUSY)
			break;
		msleep(PCN_CPU_ONLINE_PAUSE_MS);
	}
	if (ret < 0) {
		pr_err("CPU %u does not come back online (%d)\n", cpu, ret);
		return ret;
	}
	return 0;
}

static int pcn_cpu_take(u32 cpu, u32 owner, struct netlink_ext_ack *extack, const struct nlattr *attr)
{
	int ret;

	WRITE_ONCE(pcn_cpu_owner[cpu], owner);
	ret = remove_cpu(cpu);
	if (!ret && cpu_present(cpu)) {
		/* Cannot be: our state is in every offlining. Leasing it would leave broadcasts on. */
		WARN_ON_ONCE(1);
		ret = -EIO;
		add_cpu(cpu);
	}
	if (!ret)
		return 0;

	WRITE_ONCE(pcn_cpu_owner[cpu], 0);
	if (ret > 0) {
		pcn_nl_refuse(extack, attr, "CPU %u was put offline meanwhile", cpu);
		return -EBUSY;
	}
	pcn_nl_refuse(extack, attr, "CPU %u cannot be put offline (%d)", cpu, ret);
	return ret;
}

/**
 * pcn_cpu_lease() - take CPUs away from this kernel
 * @cpus: filled
 * @cpu: logical numbers
 * @nr: how many
 * @owner: id of the kernel that gets them
 * @extack: told why not
 * @attr: to blame
 *
 * Return: 0, or a negative errno with all of them back online.
 */
int pcn_cpu_lease(struct pcn_cpus *cpus, const u32 *cpu, u32 nr, u32 owner,
		  struct netlink_ext_ack *extack, const struct nlattr *attr)
{
	int ret;

	memset(cpus, 0, sizeof(*cpus));
	mutex_lock(&pcn_cpu_mutex);
	ret = pcn_cpu_check_all(cpu, nr, extack, attr);
	if (ret)
		goto out;
	while (cpus->nr < nr) {
		cpus->cpu[cpus->nr] = cpu[cpus->nr];
		cpus->apic_id[cpus->nr] = per_cpu(x86_cpu_to_apicid, cpu[cpus->nr]);
		ret = pcn_cpu_take(cpu[cpus->nr], owner, extack, attr);
		if (ret)
			goto err_take;
		cpus->nr++;
	}
	pcn_self_cpus_changed();
	goto out;

err_take:
	while (cpus->nr)
		pcn_cpu_give_back(cpus->cpu[--cpus->nr]);
out:
	mutex_unlock(&pcn_cpu_mutex);
	return ret;
}

/**
 * pcn_cpu_release() - give leased CPUs back to this kernel
 * @cpus: from pcn_cpu_lease(); empty afterwards
 * @stuck: set to a CPU that did not come online, where one did not
 *
 * The INIT of the normal bring-up takes them, whatever they are doing.
 *
 * Return: 0, or a negative errno if one did not come online; it is present and may be tried again by
 * hand, and is leased no more.
 */
int pcn_cpu_release(struct pcn_cpus *cpus, u32 *stuck)
{
	int ret = 0, failed;
	u32 i;

	mutex_lock(&pcn_cpu_mutex);
	for (i = 0; i < cpus->nr; i++) {
		failed = pcn_cpu_give_back(cpus->cpu[i]);
		if (failed) {
			ret = failed;
			*stuck = cpus->cpu[i];
		}
	}
	cpus->nr = 0;
	pcn_self_cpus_changed();
	mutex_unlock(&pcn_cpu_mutex);
	return ret;
}

/**
 * pcn_cpu_reset() - stop leased CPUs, whatever they are doing
 * @cpus: from pcn_cpu_lease()
 *
 * They wait for SIPI afterwards. Sleeps 10 ms for each.
 */
void pcn_cpu_reset(const struct pcn_cpus *cpus)
{
	u32 i;

	for (i = 0; i < cpus->nr; i++)
		pcn_ipi_init(cpus->apic_id[i]);
}

/**
 * pcn_cpu_bsp_apic_id() - the CPU that booted the machine, which no secondary may start
 */
u32 pcn_cpu_bsp_apic_id(void)
{
	return per_cpu(x86_cpu_to_apicid, PCN_CPU_BOOT);
}
