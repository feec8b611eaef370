/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between popcorn.ko (the core, in every kernel) and popcorn_host.ko (in the primary, which starts the
 * others). The host registers with the core and calls it; the core knows the host only as these ops, so
 * that a secondary carries nothing of it.
 */
#ifndef _POPCORN_HOST_H
#define _POPCORN_HOST_H

#include <linux/netlink.h>
#include <linux/types.h>

#include "popcorn.h"

struct genl_info;
struct module;

#define PCN_KERNEL_CPUS_MAX	64	/* CPUs that one secondary can be given */
#define PCN_APIC_IDS_MAX	4096	/* APIC IDs that fit the map in a node slot */

/**
 * enum pcn_kernel_stage - what a tracer sees of the way to a running kernel (tracepoint popcorn_kernel_stage)
 * @PCN_KERNEL_STAGE_MEMORY: memory is looked for and emptied
 * @PCN_KERNEL_STAGE_SLICE: a slice of the first MiB is taken
 * @PCN_KERNEL_STAGE_CPUS: CPUs are taken offline
 * @PCN_KERNEL_STAGE_SLOT: the node's slot on the fabric is prepared
 * @PCN_KERNEL_STAGE_WIPE: instead of these four, for a kernel that has its lease: what it left is wiped
 * @PCN_KERNEL_STAGE_LOAD: the lease is there, user space writes the kernel into it
 * @PCN_KERNEL_STAGE_CHECK: what was loaded is checked
 * @PCN_KERNEL_STAGE_INIT: INIT and SIPI go to the first CPU
 * @PCN_KERNEL_STAGE_ENTRY: that CPU is in long mode and about to enter the kernel, which boots
 * @PCN_KERNEL_STAGE_JOINED: it registered on the fabric, by its own stamp
 *
 * The end is the state running (tracepoint popcorn_kernel_state). Values are never reused.
 */
enum pcn_kernel_stage {
	PCN_KERNEL_STAGE_MEMORY,
	PCN_KERNEL_STAGE_SLICE,
	PCN_KERNEL_STAGE_CPUS,
	PCN_KERNEL_STAGE_SLOT,
	PCN_KERNEL_STAGE_WIPE,
	PCN_KERNEL_STAGE_LOAD,
	PCN_KERNEL_STAGE_CHECK,
	PCN_KERNEL_STAGE_INIT,
	PCN_KERNEL_STAGE_ENTRY,
	PCN_KERNEL_STAGE_JOINED,
};

/**
 * struct pcn_kernel_info - what the host knows of one kernel, copied out at one moment
 * @id: kernel id, which is its node id
 * @state: enum popcorn_kernel_state
 * @name: as given at kernel-new
 * @reason: why it is in @state, one line, may be empty
 * @image: what was loaded, in the loader's words, may be empty
 * @recipe: how to load it again, likewise
 * @nr_cpus: entries of @cpu and @apic_id
 * @cpu: logical numbers in this kernel; the first one boots
 * @apic_id: physical APIC IDs, in the order of @cpu
 * @memory_backend: enum popcorn_memory_backend
 * @memory_start: physical start of the region
 * @memory_size: bytes
 * @slice_start: physical start of the slice of the first MiB
 * @slice_size: bytes
 * @bsp_apic_id: the CPU that booted the machine
 * @epoch: of the node slot, as last prepared
 * @entry: 64-bit entry point, 0 before the first boot
 * @boot_params: zero page
 * @page_table_root: PML4 page
 * @age_ms: since the last change of state
 * @join_us: from the first INIT to the registration, 0 before
 */
struct pcn_kernel_info {
	u32 id;
	u32 state;
	char name[POPCORN_NAME_MAX + 1];
	char reason[128];
	char image[256];
	char recipe[2048];
	u32 nr_cpus;
	u32 cpu[PCN_KERNEL_CPUS_MAX];
	u32 apic_id[PCN_KERNEL_CPUS_MAX];
	u32 memory_backend;
	u64 memory_start;
	u64 memory_size;
	u64 slice_start;
	u64 slice_size;
	u32 bsp_apic_id;
	u32 epoch;
	u64 entry;
	u64 boot_params;
	u64 page_table_root;
	u64 age_ms;
	u64 join_us;
};

/**
 * struct pcn_kernel_request - a kernel-new request, shape-checked but not yet judged
 * @name: NUL-terminated, at most POPCORN_NAME_MAX bytes
 * @nr_cpus: entries of @cpu, at least 1
 * @cpu: logical CPU numbers in the order asked for
 * @memory_backend: enum popcorn_memory_backend
 * @memory_start: for the reserved backend; 0 otherwise
 * @memory_size: bytes
 * @attrs: the request's attributes by enum popcorn_a_kernel, to blame one in an error
 */
struct pcn_kernel_request {
	const char *name;
	u32 nr_cpus;
	u32 cpu[PCN_KERNEL_CPUS_MAX];
	u32 memory_backend;
	u64 memory_start;
	u64 memory_size;
	struct nlattr **attrs;
};

/**
 * struct pcn_boot_request - a kernel-boot request
 * @entry: physical address of the 64-bit entry point
 * @boot_params: physical address of the zero page
 * @page_table_root: physical address of the PML4 page
 * @image: what was loaded, for people; may be NULL
 * @recipe: how to load it again; may be NULL
 * @attrs: the request's attributes, to blame one in an error
 */
struct pcn_boot_request {
	u64 entry;
	u64 boot_params;
	u64 page_table_root;
	const char *image;
	const char *recipe;
	struct nlattr **attrs;
};

/**
 * struct pcn_host_ops - what the host does for the core
 * @owner: held while an operation runs
 * @info: copy out the first kernel with an id of at least @id, or, where @name is given, the one of that
 *	name; -ENOENT if there is none
 * @new: lease to a new kernel; all or nothing
 * @prepare: make a kernel that does not run ready to be loaded
 * @boot: check what was loaded and send the first CPU to it
 * @stop: ask to power off
 * @kill: reset its CPUs
 * @nmi: have its CPUs print where they are; @info has those that were told to
 * @del: give everything back
 * @node_event: a node's slot changed its state (enum popcorn_node_state); process context, may sleep.
 *	@reason is the node's own text and lives only as long as the call
 *
 * All are called in process context, several at once, and take their own locks. Every refusal of new,
 * prepare, boot, stop, kill, nmi and del explains itself with pcn_nl_refuse().
 */
struct pcn_host_ops {
	struct module *owner;
	int (*info)(u32 id, const char *name, struct pcn_kernel_info *info);
	int (*new)(const struct pcn_kernel_request *req, struct pcn_kernel_info *info,
		   struct netlink_ext_ack *extack);
	int (*prepare)(u32 id, struct pcn_kernel_info *info, struct netlink_ext_ack *extack);
	int (*boot)(u32 id, const struct pcn_boot_request *req, struct netlink_ext_ack *extack);
	int (*stop)(u32 id, struct netlink_ext_ack *extack);
	int (*kill)(u32 id, struct netlink_ext_ack *extack);
	int (*nmi)(u32 id, struct pcn_kernel_info *info, struct netlink_ext_ack *extack);
	int (*del)(u32 id, struct netlink_ext_ack *extack);
	void (*node_event)(u32 node, u32 state, const char *reason);
};

/* host.c */
int pcn_host_register(const struct pcn_host_ops *ops);
void pcn_host_unregister(const struct pcn_host_ops *ops);

/* nl.c */
__printf(3, 4) void pcn_nl_refuse(struct netlink_ext_ack *extack, const struct nlattr *attr,
				  const char *fmt, ...);
void pcn_nl_notify_kernel(const struct pcn_kernel_info *info, bool released);

/* fabric.c: the primary creates the fabric in memory that the host took */
size_t pcn_fabric_bytes_min(void);
int pcn_fabric_create(phys_addr_t start, size_t bytes);
int pcn_fabric_destroy(void);

/* node.c */
int pcn_node_prepare(u32 id, const char *name, const u32 *apic_ids, unsigned int nr, u32 *epoch);
void pcn_node_retire(u32 id);
void pcn_self_cpus_changed(void);

/* control.c */
int pcn_control_ask_stop(u32 id);

/* nmi.c */
unsigned int pcn_nmi_send(u32 id, const u32 *apic_ids, unsigned int nr, bool *sent);

/* ipi.c: the two ways to the interrupt command register */
void pcn_ipi_send(u32 apic_id, u8 vector);
void pcn_ipi_nmi(u32 apic_id);
void pcn_ipi_init(u32 apic_id);
void pcn_ipi_startup(u32 apic_id, u8 page);

#endif
