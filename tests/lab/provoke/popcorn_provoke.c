// SPDX-License-Identifier: GPL-2.0
/*
 * One mistake of each kind that the debug kernel is there to find. Built in the lab by test_reports.py.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *what = "";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "The mistake to make");

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(spin);
static int one = 1, width = 32;

static noinline void use_after_free(void)
{
	char *memory = kmalloc(64, GFP_KERNEL);

	if (!memory)
		return;
	kfree(memory);
	pr_info("read %d\n", READ_ONCE(memory[8]));
}

static noinline void out_of_bounds(void)
{
	char *memory = kmalloc(64, GFP_KERNEL);

	if (memory)
		pr_info("read %d\n", READ_ONCE(memory[63 + READ_ONCE(one)]));
	kfree(memory);
}

static noinline void shift(void)
{
	pr_info("shifted to %d\n", READ_ONCE(one) << READ_ONCE(width));
}

static noinline void lock_order(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static noinline void sleep_in_atomic(void)
{
	spin_lock(&spin);
	might_sleep();
	spin_unlock(&spin);
}

/* Several: a stale value on a stack may look like a pointer to one. */
static noinline void leak(void)
{
	int i;

	for (i = 0; i < 8; i++)
		pr_info("leaked %d\n", !!kzalloc(160, GFP_KERNEL));
}

static noinline void warn(void)
{
	WARN_ON(READ_ONCE(one));
}

static const struct {
	const char *name;
	void (*make)(void);
} mistakes[] = {
	{ "use-after-free", use_after_free },
	{ "out-of-bounds", out_of_bounds },
	{ "shift", shift },
	{ "lock-order", lock_order },
	{ "sleep-in-atomic", sleep_in_atomic },
	{ "leak", leak },
	{ "warn", warn },
};

static int __init provoke_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(mistakes); i++) {
		if (!strcmp(what, mistakes[i].name)) {
			mistakes[i].make();
			return 0;
		}
	}
	return -EINVAL;
}
module_init(provoke_init);

static void __exit provoke_exit(void)
{
}
module_exit(provoke_exit);

MODULE_DESCRIPTION("Popcorn: mistakes for the debug kernel to find");
MODULE_LICENSE("GPL");
