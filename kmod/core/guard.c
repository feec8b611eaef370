// SPDX-License-Identifier: GPL-2.0
/*
 * Guards of a secondary: whatever ends this kernel must not end the machine. They stay for good; a
 * secondary without them could reset everybody, so the module cannot be removed there.
 *
 * What they cannot stop is told in docs/isolation.md: a triple fault, or code that writes to the reset
 * ports itself.
 */
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/panic_notifier.h>
#include <linux/reboot.h>
#include <linux/smp.h>

#include "guard.h"
#include "self.h"

static void __noreturn pcn_guard_park(void)
{
	for (;;)
		asm volatile("cli; hlt" ::: "memory");
}
NOKPROBE_SYMBOL(pcn_guard_park);

static void pcn_guard_park_other(void *unused)
{
	pcn_guard_park();
}

/* The last in the chain: everybody else has been told by then. */
static int pcn_guard_reboot(struct notifier_block *nb, unsigned long code, void *command)
{
	pr_emerg("this kernel ends here; the machine goes on\n");
	/* The other CPUs would go on running user space. */
	smp_call_function(pcn_guard_park_other, NULL, 0);
	pcn_self_tell_end(POPCORN_NODE_STATE_STOPPED,
			  /* Without ACPI the kernel turns a power off into a halt. */
			  code == SYS_RESTART ? "restart" : "halt or power off");
	pcn_guard_park();
	return NOTIFY_STOP;
}

static int pcn_guard_panic(struct notifier_block *nb, unsigned long code, void *text)
{
	pcn_self_tell_end(POPCORN_NODE_STATE_CRASHED, text ? text : "panic");
	return NOTIFY_DONE;
}

/* Everything that is about to reset the machine comes through here: sysrq-b, a panic with a timeout,
 * a restart that slipped past the notifier.
 */
static int pcn_guard_emergency(struct kprobe *kp, struct pt_regs *regs)
{
	pcn_self_tell_end(POPCORN_NODE_STATE_STOPPED, "emergency restart");
	pcn_guard_park();
	return 0;
}
NOKPROBE_SYMBOL(pcn_guard_emergency);

static struct notifier_block pcn_guard_reboot_nb = {
	.notifier_call = pcn_guard_reboot,
	.priority = INT_MIN,
};

static struct notifier_block pcn_guard_panic_nb = {
	.notifier_call = pcn_guard_panic,
	.priority = INT_MAX,
};

static struct kprobe pcn_guard_kprobe = {
	.symbol_name = "native_machine_emergency_restart",
	.pre_handler = pcn_guard_emergency,
};

/**
 * pcn_guard_start() - guard the machine against this kernel's end
 *
 * Return: 0, or a negative errno with no guard left behind.
 */
int pcn_guard_start(void)
{
	int ret = register_kprobe(&pcn_guard_kprobe);

	if (ret) {
		pr_err("cannot guard the machine against a restart from here (%d)\n", ret);
		return ret;
	}
	ret = register_reboot_notifier(&pcn_guard_reboot_nb);
	if (ret) {
		unregister_kprobe(&pcn_guard_kprobe);
		return ret;
	}
	atomic_notifier_chain_register(&panic_notifier_list, &pcn_guard_panic_nb);
	return 0;
}

/**
 * pcn_guard_stop() - take the guards back; only where the module will not stay
 */
void pcn_guard_stop(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &pcn_guard_panic_nb);
	unregister_reboot_notifier(&pcn_guard_reboot_nb);
	unregister_kprobe(&pcn_guard_kprobe);
}

/**
 * pcn_guard_keep() - from here on the guards, and so the module, stay for the rest of this kernel's life
 */
void pcn_guard_keep(void)
{
	__module_get(THIS_MODULE);
}
