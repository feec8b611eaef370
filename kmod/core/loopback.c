// SPDX-License-Identifier: GPL-2.0
/*
 * Several nodes inside one kernel, on a fabric in its own memory: for tests, and for trying the message
 * layer where no second kernel can be started. All of it is the real thing but the doorbell, which is an
 * irq_work instead of an interrupt from elsewhere.
 */
#include <linux/slab.h>

#include "echo.h"
#include "fabric.h"
#include "loopback.h"
#include "node.h"
#include "self.h"

static struct pcn_self *pcn_loopbacks[PCN_NODES];

static int pcn_loopback_add(u32 id)
{
	struct pcn_self *self = kvzalloc(sizeof(*self), GFP_KERNEL);
	char name[PCN_SHM_NAME_BYTES];
	u32 epoch;
	int ret;

	if (!self)
		return -ENOMEM;
	pcn_node_setup(self);
	scnprintf(name, sizeof(name), "loop%u", id);
	ret = pcn_node_prepare(id, name, NULL, 0, &epoch);
	if (ret)
		goto err_prepare;
	ret = pcn_self_join(self, id);
	if (ret)
		goto err_join;
	ret = pcn_echo_add_at(id);
	if (ret)
		goto err_echo;
	pcn_loopbacks[id] = self;
	return 0;

err_echo:
	pcn_self_leave(self);
err_join:
	pcn_node_retire(id);
err_prepare:
	kvfree(self);
	return ret;
}

/**
 * pcn_loopback_stop() - take the loopback nodes and their fabric away
 */
void pcn_loopback_stop(void)
{
	u32 id;

	for (id = PCN_NODES; id-- > 1;) {
		struct pcn_self *self = pcn_loopbacks[id];

		if (!self)
			continue;
		pcn_echo_remove_at(id);
		pcn_self_leave(self);
		pcn_node_retire(id);
		pcn_loopbacks[id] = NULL;
		kvfree(self);
	}
	WARN_ON(pcn_fabric_destroy());
}

/**
 * pcn_loopback_start() - make a fabric with several nodes that are all in this kernel
 * @nr: how many, this kernel's own node 0 included
 *
 * Return: 0, -EINVAL for fewer than 2 or more than a fabric holds, -ENOMEM, or what joining gave.
 */
int pcn_loopback_start(u32 nr)
{
	int ret;
	u32 id;

	if (nr < 2 || nr > PCN_NODES) {
		pr_err("loopback=%u cannot be: 2 to %u nodes\n", nr, PCN_NODES);
		return -EINVAL;
	}
	ret = pcn_fabric_join_loopback();
	if (ret)
		return ret;
	for (id = 1; id < nr; id++) {
		ret = pcn_loopback_add(id);
		if (ret) {
			pr_err("loopback node %u cannot join (%d)\n", id, ret);
			pcn_loopback_stop();
			return ret;
		}
	}
	return 0;
}
