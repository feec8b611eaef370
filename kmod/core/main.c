// SPDX-License-Identifier: GPL-2.0
/*
 * popcorn.ko: the message layer, in every kernel.
 *
 * Without parameters it waits for popcorn_host to make a fabric: this is the primary. A secondary is told
 * by its command line where the fabric is and which node it is. With loopback= it makes a fabric for itself.
 */
#include <linux/module.h>
#include <net/genetlink.h>

#include "control.h"
#include "echo.h"
#include "fabric.h"
#include "guard.h"
#include "loopback.h"
#include "nl.h"
#include "node.h"
#include "self.h"
#include "sysfs.h"

static unsigned long fabric;
module_param(fabric, ulong, 0444);
MODULE_PARM_DESC(fabric, "Physical address of the fabric to join (secondaries)");

static unsigned long fabric_bytes;
module_param(fabric_bytes, ulong, 0444);
MODULE_PARM_DESC(fabric_bytes, "Its size");

static unsigned int node;
module_param(node, uint, 0444);
MODULE_PARM_DESC(node, "Node id of this kernel, 1 to 15 (secondaries)");

static unsigned int loopback;
module_param(loopback, uint, 0444);
MODULE_PARM_DESC(loopback, "Make a fabric of so many nodes inside this kernel, to try or to test (2 to 16)");

static int __init pcn_join(void)
{
	int ret = pcn_fabric_join(fabric, fabric_bytes);

	if (ret)
		return ret;
	/* Before anybody counts on this kernel: from here on its end is not the machine's. */
	ret = pcn_guard_start();
	if (ret)
		goto err_guard;
	ret = pcn_self_join(&pcn_main, node);
	if (ret)
		goto err_join;
	pcn_guard_keep();
	return 0;

err_join:
	pcn_guard_stop();
err_guard:
	pcn_fabric_unmap();
	return ret;
}

static int __init pcn_init(void)
{
	int ret;

	pcn_node_setup(&pcn_main);
	ret = pcn_sysfs_init();
	if (ret)
		return ret;
	ret = pcn_control_init();
	if (ret)
		goto err_control;
	ret = pcn_echo_init();
	if (ret)
		goto err_echo;
	ret = pcn_nl_init();
	if (ret)
		goto err_nl;
	if (fabric)
		ret = pcn_join();
	else if (loopback)
		ret = pcn_loopback_start(loopback);
	if (ret)
		goto err_join;
	return 0;

err_join:
	pcn_nl_exit();
err_nl:
	pcn_echo_exit();
err_echo:
	pcn_control_exit();
err_control:
	pcn_sysfs_exit();
	return ret;
}

/* Never in a secondary, which the guards pin; and the host, which uses this module, is gone. */
static void __exit pcn_exit(void)
{
	if (loopback)
		pcn_loopback_stop();
	pcn_nl_exit();
	pcn_echo_exit();
	pcn_control_exit();
	pcn_sysfs_exit();
}

module_init(pcn_init);
module_exit(pcn_exit);
MODULE_DESCRIPTION("Popcorn: messages between Linux kernels on one machine");
MODULE_LICENSE("GPL");
MODULE_VERSION(PCN_VERSION);
MODULE_ALIAS_GENL_FAMILY(POPCORN_FAMILY_NAME);
