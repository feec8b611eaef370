// SPDX-License-Identifier: GPL-2.0
/*
 * popcorn_tty.ko: terminals between kernels. docs/console.md tells what they are for.
 */
#include <linux/module.h>

#include "tty.h"

static int loopback = -1;
module_param(loopback, int, 0444);
MODULE_PARM_DESC(loopback, "Also be at the other end, on this loopback node (see popcorn.loopback)");

static struct pcn_tty_node *pcn_tty_own, *pcn_tty_other;

static void pcn_tty_stop(void)
{
	pcn_tty_console_exit();
	if (!IS_ERR_OR_NULL(pcn_tty_other))
		pcn_tty_node_destroy(pcn_tty_other);
	if (!IS_ERR_OR_NULL(pcn_tty_own))
		pcn_tty_node_destroy(pcn_tty_own);
	pcn_tty_driver_exit();
}

static int __init pcn_tty_init(void)
{
	struct pcn_tty_peer *primary;
	u32 i;
	int ret = pcn_tty_driver_init();

	if (ret)
		return ret;
	pcn_tty_own = pcn_tty_node_create(-1, 0);
	if (IS_ERR(pcn_tty_own)) {
		ret = PTR_ERR(pcn_tty_own);
		goto err;
	}
	if (loopback >= 0) {
		pcn_tty_other = pcn_tty_node_create(loopback, PCN_TTY_NODE_MINORS);
		if (IS_ERR(pcn_tty_other)) {
			ret = PTR_ERR(pcn_tty_other);
			goto err;
		}
	}
	if (pcn_service_node(&pcn_tty_own->service) > 0) {
		/* A secondary's console must have a device before the primary comes. */
		primary = &pcn_tty_own->peer[0];
		mutex_lock(&primary->mutex);
		for (i = 0; i < PCN_TTY_LINES; i++)
			if (!primary->line[i].dev)
				pcn_tty_driver_add(&primary->line[i]);
		mutex_unlock(&primary->mutex);
		pcn_tty_console_init(primary);
	}
	return 0;

err:
	pcn_tty_stop();
	return ret;
}

module_init(pcn_tty_init);
module_exit(pcn_tty_stop);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Popcorn: terminals between kernels");
