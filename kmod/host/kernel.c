// SPDX-License-Identifier: GPL-2.0
/*
 * The kernels that something is leased to, and the states they go through.
 *
 * Two locks. Each kernel's @op is held through an operation on it and orders those. The table lock is
 * held for moments, around every look at or change of what is told about a kernel; so one can be asked
 * about, and events of others seen, while an operation takes its seconds. Mapping the device takes the
 * table lock inside mmap_lock: nothing under the table lock may touch user memory.
 */
#include <linux/capability.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/string.h>
#include <linux/topology.h>

#include "kernel.h"
#include "request.h"
#include "start.h"
#include "trace.h"

/* A kernel that panicked writes its log and its message for a while yet. */
#define PCN_KERNEL_CRASH_GRACE_MS	500

#define STATE(name)	POPCORN_KERNEL_STATE_##name

struct pcn_kernel pcn_kernels[POPCORN_NODES_MAX];
DEFINE_MUTEX(pcn_kernel_table_lock);
static bool pcn_kernel_shut; /* this kernel is going down: nothing is started any more */

/* Which states may follow which. */
static const u8 pcn_kernel_follows[] = {
	[STATE(LEASED)] = BIT(STATE(STARTING)),
	[STATE(STARTING)] = BIT(STATE(RUNNING)) | BIT(STATE(LEASED)) | BIT(STATE(STOPPED)) |
			    BIT(STATE(CRASHED)) | BIT(STATE(KILLED)),
	[STATE(RUNNING)] = BIT(STATE(STOPPING)) | BIT(STATE(STOPPED)) | BIT(STATE(CRASHED)) |
			   BIT(STATE(KILLED)) | BIT(STATE(HUNG)),
	[STATE(STOPPING)] = BIT(STATE(RUNNING)) | BIT(STATE(STOPPED)) | BIT(STATE(CRASHED)) |
			    BIT(STATE(KILLED)) | BIT(STATE(HUNG)),
	[STATE(HUNG)] = BIT(STATE(RUNNING)) | BIT(STATE(STOPPED)) | BIT(STATE(CRASHED)) |
			BIT(STATE(KILLED)),
	[STATE(STOPPED)] = BIT(STATE(LEASED)),
	[STATE(CRASHED)] = BIT(STATE(LEASED)),
	[STATE(KILLED)] = BIT(STATE(LEASED)),
};

static const char *const pcn_kernel_state_names[] = {
	[STATE(LEASED)] = "leased",
	[STATE(STARTING)] = "starting",
	[STATE(RUNNING)] = "running",
	[STATE(STOPPING)] = "stopping",
	[STATE(STOPPED)] = "stopped",
	[STATE(CRASHED)] = "crashed",
	[STATE(KILLED)] = "killed",
	[STATE(HUNG)] = "hung",
};

static const char *pcn_kernel_state_name(const struct pcn_kernel *kernel)
{
	return pcn_kernel_state_names[kernel->info.state];
}

/* One that hangs does, too: its CPUs are doing something, and perhaps it is only slow. */
static bool pcn_kernel_runs(const struct pcn_kernel *kernel)
{
	return kernel->info.state == STATE(STARTING) || kernel->info.state == STATE(RUNNING) ||
	       kernel->info.state == STATE(STOPPING) || kernel->info.state == STATE(HUNG);
}

static void pcn_kernel_snapshot(struct pcn_kernel *kernel, struct pcn_kernel_info *info)
{
	lockdep_assert_held(&pcn_kernel_table_lock);
	*info = kernel->info;
	info->age_ms = ktime_ms_delta(ktime_get(), kernel->since);
}

static void pcn_kernel_notify(struct pcn_kernel *kernel, bool released)
{
	static struct pcn_kernel_info info; /* large for a stack, and the lock is held */

	pcn_kernel_snapshot(kernel, &info);
	pcn_nl_notify_kernel(&info, released);
}

/* The only place that changes a state once there is one. False if it may not follow. */
static bool pcn_kernel_enter(struct pcn_kernel *kernel, u32 state, const char *reason)
{
	lockdep_assert_held(&pcn_kernel_table_lock);
	if (!(pcn_kernel_follows[kernel->info.state] & BIT(state)))
		return false;
	kernel->info.state = state;
	kernel->since = ktime_get();
	strscpy(kernel->info.reason, reason, sizeof(kernel->info.reason));
	pcn_kernel_notify(kernel, false);
	return true;
}

/* A stage of starting it begins. */
static void pcn_kernel_trace(const struct pcn_kernel *kernel, enum pcn_kernel_stage stage)
{
	trace_popcorn_kernel_stage(kernel->info.id, stage, rdtsc_ordered());
}

static void pcn_kernel_reset_work(struct work_struct *work)
{
	struct pcn_kernel *kernel = container_of(to_delayed_work(work), struct pcn_kernel, reset);

	pcn_cpu_reset(&kernel->cpus);
}

/* Its CPUs do nothing any more, and no work is left that would reset them later. */
static void pcn_kernel_halt(struct pcn_kernel *kernel)
{
	lockdep_assert_held(&kernel->op);
	cancel_delayed_work_sync(&kernel->reset);
	pcn_cpu_reset(&kernel->cpus);
}

/* Its slot, wiped for a new incarnation. */
static int pcn_kernel_expect(struct pcn_kernel *kernel, u32 *epoch, struct netlink_ext_ack *extack)
{
	int ret = pcn_node_prepare(kernel->info.id, kernel->info.name, kernel->cpus.apic_id,
				   kernel->cpus.nr, epoch);

	if (ret)
		pcn_nl_refuse(extack, NULL, "no slot on the fabric (%d)", ret);
	else
		kernel->expected = true;
	return ret;
}

/* Its peers need not wait for answers any more. */
static void pcn_kernel_retire(struct pcn_kernel *kernel)
{
	if (kernel->expected)
		pcn_node_retire(kernel->info.id);
	kernel->expected = false;
}

/**
 * pcn_kernel_init() - once, when the module is loaded
 */
void pcn_kernel_init(void)
{
	u32 id;

	for (id = PCN_KERNEL_FIRST; id <= PCN_KERNEL_LAST; id++) {
		mutex_init(&pcn_kernels[id].op);
		INIT_DELAYED_WORK(&pcn_kernels[id].reset, pcn_kernel_reset_work);
	}
}

/**
 * pcn_kernel_may() - may the caller do such things at all
 * @extack: told why not, may be NULL
 */
bool pcn_kernel_may(struct netlink_ext_ack *extack)
{
	if (!capable(CAP_SYS_BOOT)) {
		pcn_nl_refuse(extack, NULL, "needs CAP_SYS_BOOT");
		return false;
	}
	if (!capable(CAP_SYS_RAWIO)) {
		pcn_nl_refuse(extack, NULL, "needs CAP_SYS_RAWIO");
		return false;
	}
	return true;
}

/* A kernel beside this one can do whatever kexec could; what forbids that forbids this. */
static int pcn_kernel_may_start(struct netlink_ext_ack *extack)
{
	int ret;

	if (!pcn_kernel_may(extack))
		return -EPERM;
	ret = security_locked_down(LOCKDOWN_KEXEC);
	if (ret)
		pcn_nl_refuse(extack, NULL, "this kernel is locked down");
	return ret;
}

/*
 * Begins an operation, one that is to start the kernel or another, if the caller may: the kernel with its @op
 * held, or an error that is explained.
 */
static struct pcn_kernel *pcn_kernel_get(u32 id, bool to_start, struct netlink_ext_ack *extack)
{
	struct pcn_kernel *kernel;
	int ret;

	if (to_start)
		ret = pcn_kernel_may_start(extack);
	else
		ret = pcn_kernel_may(extack) ? 0 : -EPERM;
	if (ret)
		return ERR_PTR(ret);
	if (id >= PCN_KERNEL_FIRST && id <= PCN_KERNEL_LAST) {
		kernel = &pcn_kernels[id];
		if (mutex_lock_interruptible(&kernel->op)) {
			pcn_nl_refuse(extack, NULL, "interrupted");
			return ERR_PTR(-EINTR);
		}
		if (kernel->hold == PCN_KERNEL_HELD)
			return kernel;
		mutex_unlock(&kernel->op);
	}
	pcn_nl_refuse(extack, NULL, "there is no kernel %u", id);
	return ERR_PTR(-ENOENT);
}

static void pcn_kernel_put(struct pcn_kernel *kernel)
{
	mutex_unlock(&kernel->op);
}

static int pcn_kernel_refuse_mapped(const struct pcn_kernel *kernel, struct netlink_ext_ack *extack)
{
	if (!atomic_read(&kernel->mappings))
		return 0;
	pcn_nl_refuse(extack, NULL, "the memory of kernel %s is still mapped by a process",
		      kernel->info.name);
	return -EBUSY;
}

/* Before its memory is wiped: it does not run, and nobody looks at it or will. */
static int pcn_kernel_seal(struct pcn_kernel *kernel, struct netlink_ext_ack *extack)
{
	int ret = -EBUSY;

	mutex_lock(&pcn_kernel_table_lock);
	if (pcn_kernel_runs(kernel))
		pcn_nl_refuse(extack, NULL, "kernel %s is %s; stop or kill it first", kernel->info.name,
			      pcn_kernel_state_name(kernel));
	else
		ret = pcn_kernel_refuse_mapped(kernel, extack);
	if (!ret)
		kernel->sealed = true;
	mutex_unlock(&pcn_kernel_table_lock);
	return ret;
}

static struct pcn_kernel *pcn_kernel_find_name(const char *name)
{
	u32 id;

	lockdep_assert_held(&pcn_kernel_table_lock);
	for (id = PCN_KERNEL_FIRST; id <= PCN_KERNEL_LAST; id++)
		if (pcn_kernels[id].hold != PCN_KERNEL_FREE && !strcmp(pcn_kernels[id].info.name, name))
			return &pcn_kernels[id];
	return NULL;
}

/* A place in the table and the name; the rest comes later. */
static struct pcn_kernel *pcn_kernel_claim(const char *name, struct nlattr **attrs,
					   struct netlink_ext_ack *extack)
{
	struct pcn_kernel *kernel, *other;
	u32 id;

	mutex_lock(&pcn_kernel_table_lock);
	other = pcn_kernel_find_name(name);
	if (other || !strcmp(name, "primary")) {
		pcn_nl_refuse(extack, attrs[POPCORN_A_KERNEL_NAME], "name %s is taken by kernel %u", name,
			      other ? other->info.id : 0);
		kernel = ERR_PTR(-EEXIST);
		goto out;
	}
	for (id = PCN_KERNEL_FIRST; id <= PCN_KERNEL_LAST; id++)
		if (pcn_kernels[id].hold == PCN_KERNEL_FREE)
			break;
	if (id > PCN_KERNEL_LAST) {
		pcn_nl_refuse(extack, NULL, "there are %u kernels already, as many as can be",
			      PCN_KERNEL_LAST);
		kernel = ERR_PTR(-ENOSPC);
		goto out;
	}
	kernel = &pcn_kernels[id];
	memset(&kernel->info, 0, sizeof(kernel->info));
	kernel->info.id = id;
	strscpy(kernel->info.name, name, sizeof(kernel->info.name));
	kernel->sealed = false;
	kernel->hold = PCN_KERNEL_CLAIMED;
out:
	mutex_unlock(&pcn_kernel_table_lock);
	return kernel;
}

static void pcn_kernel_unclaim(struct pcn_kernel *kernel)
{
	mutex_lock(&pcn_kernel_table_lock);
	kernel->hold = PCN_KERNEL_FREE;
	mutex_unlock(&pcn_kernel_table_lock);
}

/* What is told of a lease, and the kernel is there for others. */
static void pcn_kernel_settle(struct pcn_kernel *kernel, u32 epoch, struct pcn_kernel_info *told)
{
	struct pcn_kernel_info *info = &kernel->info;

	mutex_lock(&pcn_kernel_table_lock);
	info->state = STATE(LEASED);
	info->nr_cpus = kernel->cpus.nr;
	memcpy(info->cpu, kernel->cpus.cpu, sizeof(info->cpu));
	memcpy(info->apic_id, kernel->cpus.apic_id, sizeof(info->apic_id));
	info->memory_backend = kernel->memory.backend;
	info->memory_start = kernel->memory.start;
	info->memory_size = kernel->memory.bytes;
	info->slice_start = kernel->slice.start;
	info->slice_size = PCN_SLICE_BYTES;
	info->bsp_apic_id = pcn_cpu_bsp_apic_id();
	info->epoch = epoch;
	kernel->since = ktime_get();
	kernel->hold = PCN_KERNEL_HELD;
	pcn_kernel_notify(kernel, false);
	pcn_kernel_snapshot(kernel, told);
	mutex_unlock(&pcn_kernel_table_lock);
}

static int pcn_kernel_new(const struct pcn_kernel_request *req, struct pcn_kernel_info *info,
			  struct netlink_ext_ack *extack)
{
	struct pcn_memory_wish wish = {
		.name = req->name,
		.backend = req->memory_backend,
		.start = req->memory_start,
		.bytes = req->memory_size,
		.start_attr = req->attrs[POPCORN_A_KERNEL_MEMORY_START],
		.bytes_attr = req->attrs[POPCORN_A_KERNEL_MEMORY_SIZE],
	};
	struct pcn_kernel *kernel;
	u32 epoch, stuck;
	int ret;

	ret = pcn_kernel_may_start(extack);
	if (!ret)
		ret = pcn_request_check(req, extack);
	if (ret)
		return ret;

	kernel = pcn_kernel_claim(req->name, req->attrs, extack);
	if (IS_ERR(kernel))
		return PTR_ERR(kernel);
	mutex_lock(&kernel->op);
	/* What is likely to fail comes first, what others feel comes last. */
	ret = pcn_cpu_check(req->cpu, req->nr_cpus, extack, req->attrs[POPCORN_A_KERNEL_CPU]);
	if (ret)
		goto err_memory;
	wish.nid = cpu_to_node(req->cpu[0]);
	pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_MEMORY);
	ret = pcn_memory_lease(&kernel->memory, &wish, extack);
	if (ret)
		goto err_memory;
	/* That may have taken long: perhaps nobody waits for the rest any more. */
	if (signal_pending(current)) {
		pcn_nl_refuse(extack, NULL, "interrupted");
		ret = -EINTR;
		goto err_slice;
	}
	pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_SLICE);
	ret = pcn_slice_lease(&kernel->slice, req->name, extack);
	if (ret)
		goto err_slice;
	pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_CPUS);
	ret = pcn_cpu_lease(&kernel->cpus, req->cpu, req->nr_cpus, kernel->info.id, extack,
			    req->attrs[POPCORN_A_KERNEL_CPU]);
	if (ret)
		goto err_cpus;
	pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_SLOT);
	ret = pcn_kernel_expect(kernel, &epoch, extack);
	if (ret)
		goto err_expect;
	__module_get(THIS_MODULE);
	pcn_kernel_settle(kernel, epoch, info);
	pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_LOAD);
	mutex_unlock(&kernel->op);
	return 0;

err_expect:
	pcn_cpu_release(&kernel->cpus, &stuck);
err_cpus:
	pcn_slice_release(&kernel->slice);
err_slice:
	pcn_memory_release(&kernel->memory);
err_memory:
	pcn_kernel_unclaim(kernel);
	mutex_unlock(&kernel->op);
	return ret;
}

static int pcn_kernel_info(u32 id, const char *name, struct pcn_kernel_info *info)
{
	struct pcn_kernel *kernel = NULL;

	mutex_lock(&pcn_kernel_table_lock);
	if (name) {
		kernel = pcn_kernel_find_name(name);
		if (kernel && kernel->hold != PCN_KERNEL_HELD)
			kernel = NULL;
	} else {
		for (id = max_t(u32, id, PCN_KERNEL_FIRST); id <= PCN_KERNEL_LAST && !kernel; id++)
			if (pcn_kernels[id].hold == PCN_KERNEL_HELD)
				kernel = &pcn_kernels[id];
	}
	if (kernel)
		pcn_kernel_snapshot(kernel, info);
	mutex_unlock(&pcn_kernel_table_lock);
	return kernel ? 0 : -ENOENT;
}

static int pcn_kernel_prepare(u32 id, struct pcn_kernel_info *info, struct netlink_ext_ack *extack)
{
	struct pcn_kernel *kernel;
	u32 epoch;
	int ret;

	kernel = pcn_kernel_get(id, true, extack);
	if (IS_ERR(kernel))
		return PTR_ERR(kernel);
	ret = pcn_kernel_seal(kernel, extack);
	if (ret)
		goto out;
	pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_WIPE);
	pcn_kernel_halt(kernel);
	pcn_slice_clear(&kernel->slice);
	ret = pcn_memory_scrub(&kernel->memory);
	if (ret)
		pcn_nl_refuse(extack, NULL, "the memory cannot be mapped (%d)", ret);
	else
		ret = pcn_kernel_expect(kernel, &epoch, extack);

	mutex_lock(&pcn_kernel_table_lock);
	kernel->sealed = false;
	if (!ret) {
		kernel->info.epoch = epoch;
		kernel->info.entry = 0;
		kernel->info.boot_params = 0;
		kernel->info.page_table_root = 0;
		kernel->info.join_us = 0;
		kernel->info.image[0] = '\0';
		pcn_kernel_enter(kernel, STATE(LEASED), "");
		pcn_kernel_snapshot(kernel, info);
		pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_LOAD);
	}
	mutex_unlock(&pcn_kernel_table_lock);
out:
	pcn_kernel_put(kernel);
	return ret;
}

/* All that is to be known before the first INIT; then it is starting. */
static int pcn_kernel_set_out(struct pcn_kernel *kernel, const struct pcn_boot_request *req,
			      struct netlink_ext_ack *extack)
{
	int ret;

	lockdep_assert_held(&pcn_kernel_table_lock);
	if (pcn_kernel_shut) {
		pcn_nl_refuse(extack, NULL, "this kernel is shutting down");
		return -ESHUTDOWN;
	}
	if (kernel->info.state != STATE(LEASED)) {
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_ID], "kernel %s is %s, not leased",
			      kernel->info.name, pcn_kernel_state_name(kernel));
		return -EBUSY;
	}
	pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_CHECK);
	ret = pcn_kernel_refuse_mapped(kernel, extack);
	if (!ret)
		ret = pcn_start_check(kernel, req, extack);
	if (ret)
		return ret;
	kernel->info.entry = req->entry;
	kernel->info.boot_params = req->boot_params;
	kernel->info.page_table_root = req->page_table_root;
	strscpy(kernel->info.image, req->image ?: "", sizeof(kernel->info.image));
	strscpy(kernel->info.recipe, req->recipe ?: "", sizeof(kernel->info.recipe));
	kernel->sent_off = ktime_get();
	pcn_kernel_enter(kernel, STATE(STARTING), "");
	return 0;
}

static int pcn_kernel_boot(u32 id, const struct pcn_boot_request *req, struct netlink_ext_ack *extack)
{
	struct pcn_kernel *kernel;
	int ret;

	kernel = pcn_kernel_get(id, true, extack);
	if (IS_ERR(kernel))
		return PTR_ERR(kernel);

	mutex_lock(&pcn_kernel_table_lock);
	ret = pcn_kernel_set_out(kernel, req, extack);
	mutex_unlock(&pcn_kernel_table_lock);
	if (ret)
		goto out;
	pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_INIT);
	ret = pcn_start_send_off(kernel, req, extack);
	if (!ret) {
		pcn_kernel_trace(kernel, PCN_KERNEL_STAGE_ENTRY);
	} else {
		mutex_lock(&pcn_kernel_table_lock);
		pcn_kernel_enter(kernel, STATE(LEASED), "its first CPU did not reach the entry point");
		mutex_unlock(&pcn_kernel_table_lock);
	}
out:
	pcn_kernel_put(kernel);
	return ret;
}

static int pcn_kernel_ask_stop(struct pcn_kernel *kernel, struct netlink_ext_ack *extack)
{
	u32 id = kernel->info.id;
	int ret = 0;

	mutex_lock(&pcn_kernel_table_lock);
	if (kernel->info.state == STATE(STARTING)) {
		pcn_nl_refuse(extack, NULL, "kernel %s has not joined and cannot be asked; kill it",
			      kernel->info.name);
		ret = -ENOTCONN;
	} else if (kernel->info.state == STATE(HUNG)) {
		pcn_nl_refuse(extack, NULL, "kernel %s is hung and cannot be asked; kill it",
			      kernel->info.name);
		ret = -ENOTCONN;
	} else if (!pcn_kernel_runs(kernel)) {
		pcn_nl_refuse(extack, NULL, "kernel %s does not run: it is %s", kernel->info.name,
			      pcn_kernel_state_name(kernel));
		ret = -ESRCH;
	} else {
		/* Before it is asked: it may be quick. Asking again changes nothing. */
		pcn_kernel_enter(kernel, STATE(STOPPING), "");
	}
	mutex_unlock(&pcn_kernel_table_lock);
	if (ret)
		return ret;

	ret = pcn_control_ask_stop(id);
	if (ret) {
		pcn_nl_refuse(extack, NULL, "kernel %s cannot be asked (%d); kill it", kernel->info.name,
			      ret);
		mutex_lock(&pcn_kernel_table_lock);
		pcn_kernel_enter(kernel, STATE(RUNNING), "does not take a request to stop");
		mutex_unlock(&pcn_kernel_table_lock);
	}
	return ret;
}

static int pcn_kernel_stop(u32 id, struct netlink_ext_ack *extack)
{
	struct pcn_kernel *kernel;
	int ret;

	kernel = pcn_kernel_get(id, false, extack);
	if (IS_ERR(kernel))
		return PTR_ERR(kernel);
	ret = pcn_kernel_ask_stop(kernel, extack);
	pcn_kernel_put(kernel);
	return ret;
}

static int pcn_kernel_kill(u32 id, struct netlink_ext_ack *extack)
{
	struct pcn_kernel *kernel;
	bool killed;

	kernel = pcn_kernel_get(id, false, extack);
	if (IS_ERR(kernel))
		return PTR_ERR(kernel);
	pcn_kernel_halt(kernel);
	mutex_lock(&pcn_kernel_table_lock);
	/* One that ended by itself keeps its state and reason, here and on the fabric. */
	killed = pcn_kernel_enter(kernel, STATE(KILLED), "killed");
	mutex_unlock(&pcn_kernel_table_lock);
	if (killed)
		pcn_kernel_retire(kernel);
	/* An event may have come in between and have its CPUs reset once more. */
	cancel_delayed_work_sync(&kernel->reset);
	pcn_kernel_put(kernel);
	return 0;
}

/* The CPUs of @info become those that were sent one. */
static int pcn_kernel_send_nmi(struct pcn_kernel *kernel, struct pcn_kernel_info *info,
			       struct netlink_ext_ack *extack)
{
	bool sent[PCN_KERNEL_CPUS_MAX];
	u32 i;

	lockdep_assert_held(&pcn_kernel_table_lock);
	/* While it is in such a state nothing has reset its CPUs, nor is about to. */
	if (kernel->info.state == STATE(STARTING) || !pcn_kernel_runs(kernel)) {
		pcn_nl_refuse(extack, NULL, "kernel %s is %s: only one that has joined and not ended can be asked",
			      kernel->info.name, pcn_kernel_state_name(kernel));
		return -ESRCH;
	}
	if (!pcn_nmi_send(kernel->info.id, kernel->cpus.apic_id, kernel->cpus.nr, sent)) {
		pcn_nl_refuse(extack, NULL, "no CPU of kernel %s takes an NMI from here", kernel->info.name);
		return -EOPNOTSUPP;
	}
	pcn_kernel_snapshot(kernel, info);
	info->nr_cpus = 0;
	for (i = 0; i < kernel->cpus.nr; i++) {
		if (!sent[i])
			continue;
		info->cpu[info->nr_cpus] = kernel->cpus.cpu[i];
		info->apic_id[info->nr_cpus++] = kernel->cpus.apic_id[i];
	}
	return 0;
}

static int pcn_kernel_nmi(u32 id, struct pcn_kernel_info *info, struct netlink_ext_ack *extack)
{
	struct pcn_kernel *kernel;
	int ret;

	kernel = pcn_kernel_get(id, false, extack);
	if (IS_ERR(kernel))
		return PTR_ERR(kernel);
	mutex_lock(&pcn_kernel_table_lock);
	ret = pcn_kernel_send_nmi(kernel, info, extack);
	mutex_unlock(&pcn_kernel_table_lock);
	pcn_kernel_put(kernel);
	return ret;
}

static int pcn_kernel_del(u32 id, struct netlink_ext_ack *extack)
{
	struct pcn_kernel *kernel;
	u32 stuck;
	int ret;

	kernel = pcn_kernel_get(id, false, extack);
	if (IS_ERR(kernel))
		return PTR_ERR(kernel);
	ret = pcn_kernel_seal(kernel, extack);
	if (ret) {
		pcn_kernel_put(kernel);
		return ret;
	}
	pcn_kernel_halt(kernel);
	pcn_kernel_retire(kernel);
	/* Cannot fail for memory of this kernel; a reserved range it does not use itself. */
	pcn_memory_scrub(&kernel->memory);
	pcn_memory_release(&kernel->memory);
	pcn_slice_release(&kernel->slice);
	ret = pcn_cpu_release(&kernel->cpus, &stuck);
	if (ret)
		pcn_nl_refuse(extack, NULL, "kernel %s is given back, but CPU %u does not come online (%d)",
			      kernel->info.name, stuck, ret);

	mutex_lock(&pcn_kernel_table_lock);
	pcn_kernel_notify(kernel, true);
	kernel->hold = PCN_KERNEL_FREE;
	mutex_unlock(&pcn_kernel_table_lock);
	pcn_kernel_put(kernel);
	module_put(THIS_MODULE);
	return ret;
}

static void pcn_kernel_ended(struct pcn_kernel *kernel, u32 state, const char *reason,
			     unsigned int grace_ms)
{
	if (pcn_kernel_enter(kernel, state, reason))
		schedule_delayed_work(&kernel->reset, msecs_to_jiffies(grace_ms));
}

static void pcn_kernel_node_event(u32 node, u32 state, const char *reason)
{
	struct pcn_kernel *kernel;

	if (node < PCN_KERNEL_FIRST || node > PCN_KERNEL_LAST)
		return;
	kernel = &pcn_kernels[node];
	mutex_lock(&pcn_kernel_table_lock);
	if (kernel->hold != PCN_KERNEL_HELD)
		goto out;
	switch (state) {
	case POPCORN_NODE_STATE_UP:
		/* Also told when a node that gave no sign of life for a while does so again. */
		if (kernel->info.state == STATE(HUNG))
			pcn_kernel_enter(kernel, STATE(RUNNING), "alive again");
		if (kernel->info.state != STATE(STARTING))
			break;
		kernel->info.join_us = ktime_us_delta(ktime_get(), kernel->sent_off);
		pcn_kernel_enter(kernel, STATE(RUNNING), "");
		break;
	case POPCORN_NODE_STATE_HUNG:
		pcn_kernel_enter(kernel, STATE(HUNG), reason);
		break;
	case POPCORN_NODE_STATE_LEFT:
		pcn_kernel_ended(kernel, STATE(STOPPED), "left the fabric", 0);
		break;
	case POPCORN_NODE_STATE_STOPPED:
		pcn_kernel_ended(kernel, STATE(STOPPED), reason, 0);
		break;
	case POPCORN_NODE_STATE_CRASHED:
		pcn_kernel_ended(kernel, STATE(CRASHED), reason, PCN_KERNEL_CRASH_GRACE_MS);
		break;
	}
out:
	mutex_unlock(&pcn_kernel_table_lock);
}

/**
 * pcn_kernel_any_runs() - does a secondary run
 */
bool pcn_kernel_any_runs(void)
{
	bool runs = false;
	u32 id;

	mutex_lock(&pcn_kernel_table_lock);
	for (id = PCN_KERNEL_FIRST; id <= PCN_KERNEL_LAST; id++)
		runs |= pcn_kernels[id].hold == PCN_KERNEL_HELD && pcn_kernel_runs(&pcn_kernels[id]);
	mutex_unlock(&pcn_kernel_table_lock);
	return runs;
}

/**
 * pcn_kernel_stop_all() - this kernel goes down: end all secondaries, by asking first
 * @timeout_ms: how long to wait for the last one
 *
 * Nothing can be started any more afterwards.
 */
void pcn_kernel_stop_all(unsigned int timeout_ms)
{
	ktime_t deadline = ktime_add_ms(ktime_get(), timeout_ms);
	u32 id;

	mutex_lock(&pcn_kernel_table_lock);
	pcn_kernel_shut = true;
	mutex_unlock(&pcn_kernel_table_lock);
	for (id = PCN_KERNEL_FIRST; id <= PCN_KERNEL_LAST; id++) {
		struct pcn_kernel *kernel = &pcn_kernels[id];

		mutex_lock(&kernel->op);
		if (kernel->hold == PCN_KERNEL_HELD)
			pcn_kernel_ask_stop(kernel, NULL);
		mutex_unlock(&kernel->op);
	}
	while (pcn_kernel_any_runs() && ktime_before(ktime_get(), deadline))
		msleep(20);
	for (id = PCN_KERNEL_FIRST; id <= PCN_KERNEL_LAST; id++) {
		struct pcn_kernel *kernel = &pcn_kernels[id];

		mutex_lock(&kernel->op);
		if (kernel->hold == PCN_KERNEL_HELD) {
			pcn_kernel_halt(kernel);
			mutex_lock(&pcn_kernel_table_lock);
			pcn_kernel_enter(kernel, STATE(KILLED), "the primary went down");
			mutex_unlock(&pcn_kernel_table_lock);
		}
		mutex_unlock(&kernel->op);
	}
}

const struct pcn_host_ops pcn_kernel_ops = {
	.owner = THIS_MODULE,
	.info = pcn_kernel_info,
	.new = pcn_kernel_new,
	.prepare = pcn_kernel_prepare,
	.boot = pcn_kernel_boot,
	.stop = pcn_kernel_stop,
	.kill = pcn_kernel_kill,
	.nmi = pcn_kernel_nmi,
	.del = pcn_kernel_del,
	.node_event = pcn_kernel_node_event,
};
