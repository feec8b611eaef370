// SPDX-License-Identifier: GPL-2.0
/*
 * The netlink family: services, as every node's own table tells them.
 */
#include <net/genetlink.h>

#include "nl.h"
#include "nl_gen.h"
#include "nl_kernel.h"
#include "node.h"
#include "self.h"
#include "service.h"

static int pcn_nl_put_service(struct sk_buff *skb, u32 node, const struct pcn_shm_service *entry)
{
	int ret;

	ret = nla_put_u32(skb, POPCORN_A_SERVICE_NODE_ID, node) ?:
	      nla_put_string(skb, POPCORN_A_SERVICE_NAME, entry->name) ?:
	      nla_put_u32(skb, POPCORN_A_SERVICE_VERSION, entry->version) ?:
	      nla_put_u32(skb, POPCORN_A_SERVICE_ID, entry->id & ~PCN_SHM_SERVICE_HERE);
	if (!ret && pcn_service_talks(node, entry->id))
		ret = nla_put_flag(skb, POPCORN_A_SERVICE_PEER);
	return ret;
}

/**
 * pcn_nl_notify_service() - tell who listens that a node's service came or went
 * @node: node that has it
 * @service: this kernel's, which is the same
 * @id: what messages to the node carry, with PCN_SHM_SERVICE_HERE or without
 * @up: they talk from now on; false: no longer
 *
 * From softirq context, too, and under locks.
 */
void pcn_nl_notify_service(u32 node, const struct pcn_service *service, u32 id, bool up)
{
	struct sk_buff *skb;
	void *head;
	int ret;

	if (!genl_has_listeners(&pcn_nl_family, &init_net, PCN_NLGRP_SERVICE))
		return;
	skb = genlmsg_new(NLMSG_GOODSIZE, GFP_ATOMIC);
	if (!skb)
		return;
	head = genlmsg_put(skb, 0, 0, &pcn_nl_family, 0, POPCORN_CMD_SERVICE_NTF);
	ret = !head ? -EMSGSIZE :
	      nla_put_u32(skb, POPCORN_A_SERVICE_NODE_ID, node) ?:
	      nla_put_string(skb, POPCORN_A_SERVICE_NAME, service->name) ?:
	      nla_put_u32(skb, POPCORN_A_SERVICE_VERSION, service->version) ?:
	      nla_put_u32(skb, POPCORN_A_SERVICE_ID, id & ~PCN_SHM_SERVICE_HERE);
	if (!ret && up)
		ret = nla_put_flag(skb, POPCORN_A_SERVICE_PEER);
	if (ret) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast(&pcn_nl_family, skb, 0, PCN_NLGRP_SERVICE, GFP_ATOMIC);
}

int pcn_nl_service_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	unsigned long *at = (unsigned long *)cb->args; /* node and entry that come next */
	struct pcn_shm_service entry;
	int ret = 0;

	mutex_lock(&pcn_node_mutex);
	if (!READ_ONCE(pcn_main.live)) {
		mutex_unlock(&pcn_node_mutex);
		pcn_nl_refuse(cb->extack, NULL, "this kernel is on no fabric");
		return -ENODEV;
	}
	for (; at[0] < pcn_fabric.nr_nodes; at[0]++, at[1] = 0) {
		u32 id = at[0];

		if (id != pcn_main.id && !pcn_main.node[id].reachable)
			continue;
		for (; at[1] < PCN_SHM_SERVICES; at[1]++) {
			void *head;

			if (!pcn_service_entry(pcn_fabric_node(id), at[1], &entry))
				continue;
			head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
					   &pcn_nl_family, NLM_F_MULTI, POPCORN_CMD_SERVICE_GET);
			ret = head ? pcn_nl_put_service(skb, id, &entry) : -EMSGSIZE;
			if (ret) {
				if (head)
					genlmsg_cancel(skb, head);
				goto out;
			}
			genlmsg_end(skb, head);
		}
	}
out:
	mutex_unlock(&pcn_node_mutex);
	return ret && ret != -EMSGSIZE ? ret : skb->len;
}
