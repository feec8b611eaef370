// SPDX-License-Identifier: GPL-2.0
/*
 * The interrupt command register. The kernel's own IPI functions know only CPUs of this kernel; these
 * reach any APIC ID of the machine.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/module.h>
#include <asm/apic.h>
#include <asm/msr.h>

#include "popcorn_host.h"

static void pcn_ipi_write(u32 apic_id, u32 command)
{
	unsigned long flags;

	local_irq_save(flags);
	if (x2apic_mode) {
		/* The write is not serialising: what the target will look at must be visible first. */
		mb();
		wrmsr(APIC_BASE_MSR + (APIC_ICR >> 4), command, apic_id);
	} else {
		void __iomem *base = (void __iomem *)APIC_BASE;

		while (readl(base + APIC_ICR) & APIC_ICR_BUSY)
			cpu_relax();
		writel(apic_id << 24, base + APIC_ICR2);
		writel(command, base + APIC_ICR);
	}
	local_irq_restore(flags);
}

/**
 * pcn_ipi_send() - interrupt any CPU of the machine
 * @apic_id: its physical APIC ID
 * @vector: vector to raise there
 *
 * From any context.
 */
void pcn_ipi_send(u32 apic_id, u8 vector)
{
	pcn_ipi_write(apic_id, APIC_DM_FIXED | vector);
}
EXPORT_SYMBOL_GPL(pcn_ipi_send);

/**
 * pcn_ipi_nmi() - interrupt any CPU of the machine, whether it allows interrupts or not
 * @apic_id: its physical APIC ID; one that runs under a kernel which expects it
 *
 * From any context.
 */
void pcn_ipi_nmi(u32 apic_id)
{
	pcn_ipi_write(apic_id, APIC_DM_NMI);
}

/**
 * pcn_ipi_init() - reset a CPU, so that it waits for pcn_ipi_startup()
 * @apic_id: its physical APIC ID
 *
 * Sleeps 10 ms, as the protocol asks for between INIT and startup.
 */
void pcn_ipi_init(u32 apic_id)
{
	pcn_ipi_write(apic_id, APIC_INT_LEVELTRIG | APIC_INT_ASSERT | APIC_DM_INIT);
	msleep(10);
	pcn_ipi_write(apic_id, APIC_INT_LEVELTRIG | APIC_DM_INIT);
}
EXPORT_SYMBOL_GPL(pcn_ipi_init);

/**
 * pcn_ipi_startup() - send a CPU that was reset to real-mode code
 * @apic_id: its physical APIC ID
 * @page: page number of the code, below 0x100
 *
 * Twice, as the protocol says; a CPU that left at the first ignores the second.
 */
void pcn_ipi_startup(u32 apic_id, u8 page)
{
	pcn_ipi_write(apic_id, APIC_DM_STARTUP | page);
	usleep_range(300, 1000);
	pcn_ipi_write(apic_id, APIC_DM_STARTUP | page);
	usleep_range(300, 1000);
}
EXPORT_SYMBOL_GPL(pcn_ipi_startup);
