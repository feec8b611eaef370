// SPDX-License-Identifier: GPL-2.0
/*
 * The netlink family: fabric, nodes and ping. Kernels are in nl_kernel.c. Shape and range of attributes are
 * checked by the generated policies (nl_gen.c), so the handlers only judge what needs knowledge.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <net/genetlink.h>
#include <asm/tsc.h>

#include "doorbell.h"
#include "echo.h"
#include "host.h"
#include "nl.h"
#include "nl_gen.h"
#include "nl_kernel.h"
#include "node.h"

#define PCN_NL_TEXTS		64
#define PCN_NL_TEXT_BYTES	160

/**
 * pcn_nl_refuse() - say why a request is refused
 * @extack: of the request
 * @attr: the attribute to blame, or NULL
 * @fmt: one line, as for printk
 *
 * The text has to outlive the handler, since netlink sends it afterwards: it is kept in one of a number of
 * buffers that are used in turn.
 */
void pcn_nl_refuse(struct netlink_ext_ack *extack, const struct nlattr *attr, const char *fmt, ...)
{
	static char texts[PCN_NL_TEXTS][PCN_NL_TEXT_BYTES];
	static atomic_t turn;
	char *text = texts[(unsigned int)atomic_inc_return(&turn) % PCN_NL_TEXTS];
	va_list args;

	va_start(args, fmt);
	vscnprintf(text, PCN_NL_TEXT_BYTES, fmt, args);
	va_end(args);
	if (extack) {
		extack->_msg = text;
		extack->bad_attr = attr;
	}
}
EXPORT_SYMBOL_GPL(pcn_nl_refuse);

int pcn_nl_fabric_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	const struct pcn_host_ops *host;
	struct sk_buff *reply;
	void *head;
	int ret;

	if (!READ_ONCE(pcn_local.live)) {
		pcn_nl_refuse(info->extack, NULL, "this kernel is on no fabric");
		return -ENODEV;
	}
	reply = genlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);
	if (!reply)
		return -ENOMEM;
	head = genlmsg_put_reply(reply, info, &pcn_nl_family, 0, POPCORN_CMD_FABRIC_GET);
	if (!head) {
		nlmsg_free(reply);
		return -EMSGSIZE;
	}
	mutex_lock(&pcn_node_mutex);
	ret = pcn_nl_put_u64(reply, POPCORN_A_FABRIC_PHYS, pcn_fabric.phys) ?:
	      pcn_nl_put_u64(reply, POPCORN_A_FABRIC_SIZE, pcn_fabric.bytes) ?:
	      nla_put_u32(reply, POPCORN_A_FABRIC_VERSION, PCN_SHM_VERSION) ?:
	      nla_put_u32(reply, POPCORN_A_FABRIC_NODE_ID, pcn_local.id) ?:
	      nla_put_u32(reply, POPCORN_A_FABRIC_NR_NODES, pcn_fabric.nr_nodes) ?:
	      nla_put_u32(reply, POPCORN_A_FABRIC_TSC_KHZ, tsc_khz);
	mutex_unlock(&pcn_node_mutex);
	host = pcn_host_get();
	if (host) {
		ret = ret ?: nla_put_flag(reply, POPCORN_A_FABRIC_HOST);
		pcn_host_put(host);
	}
	if (ret) {
		nlmsg_free(reply);
		return ret;
	}
	genlmsg_end(reply, head);
	return genlmsg_reply(reply, info);
}

static int pcn_nl_fill_live_node(struct sk_buff *skb, struct pcn_node *node)
{
	const struct pcn_shm_node *shm = pcn_fabric_node(node->id);
	u64 heartbeat = READ_ONCE(shm->heartbeat), now = rdtsc_ordered();
	char release[PCN_SHM_RELEASE_BYTES], machine[PCN_SHM_MACHINE_BYTES];
	u32 apic_id, vector;
	int ret;

	pcn_node_copy_text(release, sizeof(release), shm->release, sizeof(shm->release));
	pcn_node_copy_text(machine, sizeof(machine), shm->machine, sizeof(shm->machine));
	ret = nla_put_string(skb, POPCORN_A_NODE_RELEASE, release) ?:
	      nla_put_string(skb, POPCORN_A_NODE_MACHINE, machine) ?:
	      nla_put_u32(skb, POPCORN_A_NODE_NR_CPUS, READ_ONCE(shm->nr_cpus));
	if (!ret && heartbeat && tsc_khz)
		ret = pcn_nl_put_u64(skb, POPCORN_A_NODE_HEARTBEAT_AGE,
				     now > heartbeat ? div_u64(now - heartbeat, tsc_khz) : 0);
	if (!ret && pcn_doorbell_where(node->id, &apic_id, &vector))
		ret = nla_put_u32(skb, POPCORN_A_NODE_APIC_ID, apic_id) ?:
		      nla_put_u32(skb, POPCORN_A_NODE_VECTOR, vector);
	return ret;
}

/* Under pcn_node_mutex. */
static int pcn_nl_fill_node(struct sk_buff *skb, struct pcn_node *node)
{
	char *reason;
	int ret;

	ret = nla_put_u32(skb, POPCORN_A_NODE_ID, node->id) ?:
	      nla_put_string(skb, POPCORN_A_NODE_NAME, node->name) ?:
	      nla_put_u32(skb, POPCORN_A_NODE_STATE, node->state) ?:
	      nla_put_u32(skb, POPCORN_A_NODE_EPOCH, node->epoch) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_NODE_SENT, node->sent) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_NODE_RECEIVED, node->received) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_NODE_DOORBELLS_SENT, atomic64_read(&node->doorbells)) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_NODE_REJECTED, node->rejected);
	if (!ret && node->id == pcn_local.id)
		ret = nla_put_flag(skb, POPCORN_A_NODE_SELF);
	if (ret || !pcn_fabric.header || node->state == POPCORN_NODE_STATE_ABSENT ||
	    node->state == POPCORN_NODE_STATE_EXPECTED)
		return ret;
	ret = pcn_nl_fill_live_node(skb, node);
	if (ret)
		return ret;
	reason = kmalloc(PCN_SHM_REASON_BYTES, GFP_KERNEL);
	if (!reason)
		return -ENOMEM;
	pcn_node_copy_text(reason, PCN_SHM_REASON_BYTES, pcn_fabric_node(node->id)->reason,
			   PCN_SHM_REASON_BYTES);
	ret = nla_put_string(skb, POPCORN_A_NODE_REASON, reason);
	kfree(reason);
	return ret;
}

/**
 * pcn_nl_notify_node() - tell who listens that a node changed
 * @node: the node; the caller holds pcn_node_mutex
 */
void pcn_nl_notify_node(struct pcn_node *node)
{
	struct sk_buff *skb;
	void *head;

	if (!genl_has_listeners(&pcn_nl_family, &init_net, PCN_NLGRP_NODE))
		return;
	skb = genlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);
	if (!skb)
		return;
	head = genlmsg_put(skb, 0, 0, &pcn_nl_family, 0, POPCORN_CMD_NODE_NTF);
	if (!head || pcn_nl_fill_node(skb, node)) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast(&pcn_nl_family, skb, 0, PCN_NLGRP_NODE, GFP_KERNEL);
}

int pcn_nl_node_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *attr = info->attrs[POPCORN_A_NODE_ID];
	struct sk_buff *reply;
	void *head;
	u32 id;
	int ret;

	if (!attr) {
		pcn_nl_refuse(info->extack, NULL, "which node? attribute id is missing");
		return -EINVAL;
	}
	id = nla_get_u32(attr);
	reply = genlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);
	if (!reply)
		return -ENOMEM;
	head = genlmsg_put_reply(reply, info, &pcn_nl_family, 0, POPCORN_CMD_NODE_GET);
	if (!head) {
		nlmsg_free(reply);
		return -EMSGSIZE;
	}
	mutex_lock(&pcn_node_mutex);
	if (!READ_ONCE(pcn_local.live)) {
		pcn_nl_refuse(info->extack, NULL, "this kernel is on no fabric");
		ret = -ENODEV;
	} else if (pcn_nodes[id].state == POPCORN_NODE_STATE_ABSENT) {
		pcn_nl_refuse(info->extack, attr, "there is no node %u", id);
		ret = -ENOENT;
	} else {
		ret = pcn_nl_fill_node(reply, &pcn_nodes[id]);
	}
	mutex_unlock(&pcn_node_mutex);
	if (ret) {
		nlmsg_free(reply);
		return ret;
	}
	genlmsg_end(reply, head);
	return genlmsg_reply(reply, info);
}

int pcn_nl_node_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	int ret = 0;

	if (!READ_ONCE(pcn_local.live)) {
		pcn_nl_refuse(cb->extack, NULL, "this kernel is on no fabric");
		return -ENODEV;
	}
	mutex_lock(&pcn_node_mutex);
	for (; cb->args[0] < PCN_NODES; cb->args[0]++) {
		struct pcn_node *node = &pcn_nodes[cb->args[0]];
		void *head;

		if (node->state == POPCORN_NODE_STATE_ABSENT)
			continue;
		head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &pcn_nl_family,
				   NLM_F_MULTI, POPCORN_CMD_NODE_GET);
		ret = head ? pcn_nl_fill_node(skb, node) : -EMSGSIZE;
		if (ret) {
			if (head)
				genlmsg_cancel(skb, head);
			break;
		}
		genlmsg_end(skb, head);
	}
	mutex_unlock(&pcn_node_mutex);
	return ret && ret != -EMSGSIZE ? ret : skb->len;
}

static u32 pcn_nl_u32_or(const struct nlattr *attr, u32 otherwise)
{
	return attr ? nla_get_u32(attr) : otherwise;
}

/* Fills @reply with the round trips; the first failure other than a lost answer ends it. */
static int pcn_nl_ping_loop(struct sk_buff *reply, struct genl_info *info, u32 id, u32 count)
{
	u32 size = pcn_nl_u32_or(info->attrs[POPCORN_A_PING_SIZE], 16);
	u32 timeout = pcn_nl_u32_or(info->attrs[POPCORN_A_PING_TIMEOUT], 1000);
	u32 interval = pcn_nl_u32_or(info->attrs[POPCORN_A_PING_INTERVAL], 0);
	u32 sent = 0, lost = 0;
	u64 cycles;
	int ret = 0;

	while (sent < count) {
		ret = pcn_echo_ping(id, size, timeout, &cycles);
		if (ret && ret != -ETIMEDOUT)
			break;
		sent++;
		if (ret)
			lost++;
		else if (pcn_nl_put_u64(reply, POPCORN_A_PING_RTT, cycles))
			return -EMSGSIZE;
		ret = 0;
		if (interval && sent < count) {
			if (interval < 1000)
				usleep_range(interval, interval + 10);
			else
				msleep_interruptible(interval / 1000);
		}
		if (signal_pending(current))
			break;
	}
	/* What was measured before a node went away is worth telling. */
	if (ret && !sent)
		return ret;
	return nla_put_u32(reply, POPCORN_A_PING_SENT, sent) ?:
	       nla_put_u32(reply, POPCORN_A_PING_LOST, lost);
}

int pcn_nl_ping_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *attr = info->attrs[POPCORN_A_PING_NODE_ID];
	u32 count = pcn_nl_u32_or(info->attrs[POPCORN_A_PING_COUNT], 1), id;
	struct sk_buff *reply;
	void *head;
	int ret;

	if (!attr) {
		pcn_nl_refuse(info->extack, NULL, "which node? attribute node-id is missing");
		return -EINVAL;
	}
	id = nla_get_u32(attr);
	reply = genlmsg_new(256 + count * nla_total_size(sizeof(u64)), GFP_KERNEL);
	if (!reply)
		return -ENOMEM;
	head = genlmsg_put_reply(reply, info, &pcn_nl_family, 0, POPCORN_CMD_PING);
	if (!head) {
		nlmsg_free(reply);
		return -EMSGSIZE;
	}
	ret = nla_put_u32(reply, POPCORN_A_PING_NODE_ID, id) ?:
	      pcn_nl_ping_loop(reply, info, id, count);
	if (ret) {
		if (ret == -ENOTCONN)
			pcn_nl_refuse(info->extack, attr, "node %u is not up", id);
		else if (ret == -ENODEV)
			pcn_nl_refuse(info->extack, NULL, "this kernel is on no fabric");
		else if (ret == -EINVAL)
			pcn_nl_refuse(info->extack, attr, "node %u is this kernel itself", id);
		else if (ret == -EAGAIN)
			pcn_nl_refuse(info->extack, attr, "the channel to node %u is full", id);
		nlmsg_free(reply);
		return ret == -ERESTARTSYS ? -EINTR : ret;
	}
	genlmsg_end(reply, head);
	return genlmsg_reply(reply, info);
}

struct genl_family pcn_nl_family __ro_after_init = {
	.name = POPCORN_FAMILY_NAME,
	.version = POPCORN_FAMILY_VERSION,
	.module = THIS_MODULE,
	/* A lease takes seconds; a ping must not wait for it, nor other families. */
	.parallel_ops = true,
	.ops = pcn_nl_ops,
	.n_ops = PCN_NL_NR_OPS,
	.mcgrps = pcn_nl_mcgrps,
	.n_mcgrps = PCN_NL_NR_MCGRPS,
	.resv_start_op = 1,
};

int pcn_nl_init(void)
{
	return genl_register_family(&pcn_nl_family);
}

void pcn_nl_exit(void)
{
	genl_unregister_family(&pcn_nl_family);
}
