// SPDX-License-Identifier: GPL-2.0
/*
 * Where popcorn_host hooks in.
 */
#include <linux/module.h>
#include <linux/mutex.h>

#include "host.h"

static const struct pcn_host_ops *pcn_host_ops;
static DEFINE_MUTEX(pcn_host_mutex);

/**
 * pcn_host_register() - offer to start kernels
 * @ops: stays in use until pcn_host_unregister()
 *
 * Return: 0 or -EBUSY.
 */
int pcn_host_register(const struct pcn_host_ops *ops)
{
	int ret = 0;

	mutex_lock(&pcn_host_mutex);
	if (pcn_host_ops)
		ret = -EBUSY;
	else
		pcn_host_ops = ops;
	mutex_unlock(&pcn_host_mutex);
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_host_register);

/**
 * pcn_host_unregister() - offer it no more
 * @ops: as registered
 *
 * For the host's module exit: operations hold the module, so none is running.
 */
void pcn_host_unregister(const struct pcn_host_ops *ops)
{
	mutex_lock(&pcn_host_mutex);
	if (pcn_host_ops == ops)
		pcn_host_ops = NULL;
	mutex_unlock(&pcn_host_mutex);
}
EXPORT_SYMBOL_GPL(pcn_host_unregister);

/**
 * pcn_host_get() - the host, held
 *
 * Return: its ops, NULL if it is not loaded. To be given to pcn_host_put().
 */
const struct pcn_host_ops *pcn_host_get(void)
{
	const struct pcn_host_ops *ops;

	mutex_lock(&pcn_host_mutex);
	ops = pcn_host_ops;
	if (ops && !try_module_get(ops->owner))
		ops = NULL;
	mutex_unlock(&pcn_host_mutex);
	return ops;
}

/**
 * pcn_host_put() - done with the host
 * @ops: from pcn_host_get()
 */
void pcn_host_put(const struct pcn_host_ops *ops)
{
	module_put(ops->owner);
}

/**
 * pcn_host_node_event() - tell the host, if there is one, that a node changed its state
 * @node: node id
 * @state: enum popcorn_node_state
 * @reason: the node's own words
 */
void pcn_host_node_event(u32 node, u32 state, const char *reason)
{
	const struct pcn_host_ops *ops = pcn_host_get();

	if (!ops)
		return;
	ops->node_event(node, state, reason);
	pcn_host_put(ops);
}
