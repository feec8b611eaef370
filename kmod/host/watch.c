// SPDX-License-Identifier: GPL-2.0
/*
 * What happens to this kernel and concerns the others: before it reboots, powers off or is replaced by
 * kexec, all secondaries end. If it panics they live on: no notifier for that, on purpose.
 */
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/reboot.h>
#include <linux/suspend.h>

#include "kernel.h"
#include "watch.h"

#define PCN_WATCH_GRACE_MS	3000

static int pcn_watch_reboot(struct notifier_block *nb, unsigned long code, void *command)
{
	pcn_kernel_stop_all(PCN_WATCH_GRACE_MS);
	return NOTIFY_DONE;
}

/* A machine that sleeps takes its secondaries with it, and only this kernel would wake up. */
static int pcn_watch_sleep(struct notifier_block *nb, unsigned long event, void *unused)
{
	if (event != PM_SUSPEND_PREPARE && event != PM_HIBERNATION_PREPARE)
		return NOTIFY_DONE;
	if (!pcn_kernel_any_runs())
		return NOTIFY_DONE;
	pr_warn("the machine cannot sleep while a secondary runs\n");
	return notifier_from_errno(-EBUSY);
}

static struct notifier_block pcn_watch_reboot_nb = {
	.notifier_call = pcn_watch_reboot,
	.priority = INT_MAX, /* while everything that stopping them needs still works */
};

static struct notifier_block pcn_watch_sleep_nb = {
	.notifier_call = pcn_watch_sleep,
};

/**
 * pcn_watch_init() - watch from now on
 *
 * Return: 0 or what registering a notifier gave.
 */
int pcn_watch_init(void)
{
	int ret = register_reboot_notifier(&pcn_watch_reboot_nb);

	if (ret)
		return ret;
	ret = register_pm_notifier(&pcn_watch_sleep_nb);
	if (ret)
		unregister_reboot_notifier(&pcn_watch_reboot_nb);
	return ret;
}

/**
 * pcn_watch_exit() - watch no more
 */
void pcn_watch_exit(void)
{
	unregister_pm_notifier(&pcn_watch_sleep_nb);
	unregister_reboot_notifier(&pcn_watch_reboot_nb);
}
