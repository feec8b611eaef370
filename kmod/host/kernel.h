/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_KERNEL_H
#define _PCN_KERNEL_H

#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "popcorn_host.h"
#include "cpu.h"
#include "memory.h"
#include "slice.h"

/**
 * enum pcn_kernel_hold - what is in a place of the table
 * @PCN_KERNEL_FREE: nothing
 * @PCN_KERNEL_CLAIMED: a kernel-new that is not done; its name is taken
 * @PCN_KERNEL_HELD: a kernel
 */
enum pcn_kernel_hold {
	PCN_KERNEL_FREE,
	PCN_KERNEL_CLAIMED,
	PCN_KERNEL_HELD,
};

/**
 * struct pcn_kernel - a kernel that something is leased to
 * @op: held through each operation on it, which may take seconds; outside pcn_kernel_table_lock. What it
 *	leased changes only under it
 * @hold: under pcn_kernel_table_lock, as all below up to @mappings; becomes and ceases to be HELD only under
 *	@op, too
 * @sealed: nobody may map it: it is being cleared or given back
 * @expected: its slot on the fabric is its own; under @op alone
 * @info: what is told about it
 * @since: of the last change of state
 * @sent_off: first INIT of this incarnation
 * @mappings: areas of user space that map it; grows only under pcn_kernel_table_lock
 * @cpus: leased to it
 * @memory: leased to it
 * @slice: leased to it
 * @reset: resets its CPUs when it has ended; queued only under pcn_kernel_table_lock
 */
struct pcn_kernel {
	struct mutex op;
	enum pcn_kernel_hold hold;
	bool sealed;
	bool expected;
	struct pcn_kernel_info info;
	ktime_t since;
	ktime_t sent_off;
	atomic_t mappings;
	struct pcn_cpus cpus;
	struct pcn_memory memory;
	struct pcn_slice slice;
	struct delayed_work reset;
};

extern const struct pcn_host_ops pcn_kernel_ops;

void pcn_kernel_init(void);
bool pcn_kernel_may(struct netlink_ext_ack *extack);
struct pcn_kernel *pcn_kernel_map(u64 start, u64 bytes, bool write);
int pcn_kernel_peek(u64 start, void *to, size_t bytes);
void pcn_kernel_mapped_again(struct pcn_kernel *kernel);
void pcn_kernel_unmap(struct pcn_kernel *kernel);
bool pcn_kernel_any_runs(void);
void pcn_kernel_stop_all(unsigned int timeout_ms);

#endif
