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

#define PCN_KERNEL_FIRST	1
#define PCN_KERNEL_LAST		(POPCORN_NODES_MAX - 1)

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

extern struct pcn_kernel pcn_kernels[POPCORN_NODES_MAX]; /* by id; the primary's is never used */
extern struct mutex pcn_kernel_table_lock;
extern const struct pcn_host_ops pcn_kernel_ops;

void pcn_kernel_init(void);
bool pcn_kernel_may(struct netlink_ext_ack *extack);
bool pcn_kernel_any_runs(void);
void pcn_kernel_stop_all(unsigned int timeout_ms);

#endif
