// SPDX-License-Identifier: GPL-2.0
/*
 * The netlink family: fabric, nodes and ping. Kernels are in nl_kernel.c, channels in nl_channel.c. Shape and
 * range of attributes are checked by the generated policies (nl_gen.c), so the handlers only judge what needs
 * knowledge.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <net/genetlink.h>
#include <asm/tsc.h>

#include "channel.h"
#include "doorbell.h"
#include "echo.h"
#include "host.h"
#include "nl.h"
#include "nl_gen.h"
#include "nl_kernel.h"
#include "node.h"
#include "ping.h"
#include "self.h"
#include "stats.h"

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

static int pcn_nl_put_shape(struct sk_buff *skb)
{
	struct pcn_shape shape;
	int ret;

	if (!pcn_shape_get(&shape))
		return 0;
	ret = nla_put_u32(skb, POPCORN_A_FABRIC_NR_QUEUES, shape.nr_queues) ?:
	      nla_put_u32(skb, POPCORN_A_FABRIC_RING_SLOTS, shape.ring_slots) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_FABRIC_AREA_BYTES, shape.area_bytes);
	if (!ret && shape.loopback)
		ret = nla_put_flag(skb, POPCORN_A_FABRIC_LOOPBACK);
	return ret;
}

int pcn_nl_fabric_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	const struct pcn_host_ops *host;
	struct sk_buff *reply;
	void *head;
	int ret;

	if (!READ_ONCE(pcn_main.live)) {
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
	      nla_put_u32(reply, POPCORN_A_FABRIC_NODE_ID, pcn_main.id) ?:
	      nla_put_u32(reply, POPCORN_A_FABRIC_NR_NODES, pcn_fabric.nr_nodes) ?:
	      nla_put_u32(reply, POPCORN_A_FABRIC_TSC_KHZ, tsc_khz);
	mutex_unlock(&pcn_node_mutex);
	ret = ret ?: pcn_nl_put_shape(reply);
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

/* A node writes its slot itself, and garbage if it is broken: no more than it was given. */
static u32 pcn_nl_node_cpus(const struct pcn_node *node)
{
	u32 says = READ_ONCE(pcn_fabric_node(node->id)->nr_cpus);
	u32 given = bitmap_weight(node->apic_ids, PCN_APIC_IDS_MAX);

	return given ? min(says, given) : says; /* loopback nodes have none of their own */
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
	      nla_put_u32(skb, POPCORN_A_NODE_NR_CPUS, pcn_nl_node_cpus(node));
	if (!ret && heartbeat && tsc_khz)
		ret = pcn_nl_put_u64(skb, POPCORN_A_NODE_HEARTBEAT_AGE,
				     now > heartbeat ? div_u64(now - heartbeat, tsc_khz) : 0);
	if (!ret && pcn_doorbell_where(node->id, 0, &apic_id, &vector))
		ret = nla_put_u32(skb, POPCORN_A_NODE_APIC_ID, apic_id) ?:
		      nla_put_u32(skb, POPCORN_A_NODE_VECTOR, vector);
	return ret;
}

static int pcn_nl_put_tuning(struct sk_buff *skb)
{
	struct pcn_tuning tuning;

	if (!pcn_tuning_get(&tuning))
		return 0;
	return nla_put_u32(skb, POPCORN_A_NODE_WINDOW_MAX, tuning.window_max_us) ?:
	       nla_put_u32(skb, POPCORN_A_NODE_THREADED, tuning.threaded) ?:
	       nla_put_u32(skb, POPCORN_A_NODE_DOORBELL_COST, tuning.doorbell_cost_ns);
}

/* The sum over its queues. */
static int pcn_nl_put_counts(struct sk_buff *skb, const struct pcn_node *node)
{
	u64 sent = 0, received = 0, doorbells = 0, rejected = 0;
	u32 queue;

	for (queue = 0; queue < node->nr_queues && node->channel; queue++) {
		const struct pcn_channel *channel = &node->channel[queue];

		sent += READ_ONCE(channel->sent);
		received += READ_ONCE(channel->received);
		doorbells += READ_ONCE(channel->doorbells) + READ_ONCE(channel->room_doorbells);
		rejected += READ_ONCE(channel->rejected_before) + READ_ONCE(channel->rx.rejected) +
			    READ_ONCE(channel->unwanted);
	}
	return pcn_nl_put_u64(skb, POPCORN_A_NODE_SENT, sent) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_NODE_RECEIVED, received) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_NODE_DOORBELLS_SENT, doorbells) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_NODE_REJECTED, rejected);
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
	      pcn_nl_put_counts(skb, node) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_NODE_UNANSWERED, pcn_echo_unanswered(node->id));
	if (!ret && pcn_channel_shut(node->id))
		ret = nla_put_flag(skb, POPCORN_A_NODE_SHUT);
	if (!ret && node->id == pcn_main.id)
		ret = nla_put_flag(skb, POPCORN_A_NODE_SELF) ?: pcn_nl_put_tuning(skb);
	/* Until it is registered, nothing in its slot is of this incarnation. */
	if (ret || !pcn_fabric.header || node->state == POPCORN_NODE_STATE_ABSENT ||
	    node->state == POPCORN_NODE_STATE_EXPECTED || node->state == POPCORN_NODE_STATE_JOINING)
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
	if (!READ_ONCE(pcn_main.live)) {
		pcn_nl_refuse(info->extack, NULL, "this kernel is on no fabric");
		ret = -ENODEV;
	} else if (pcn_main.node[id].state == POPCORN_NODE_STATE_ABSENT) {
		pcn_nl_refuse(info->extack, attr, "there is no node %u", id);
		ret = -ENOENT;
	} else {
		ret = pcn_nl_fill_node(reply, &pcn_main.node[id]);
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

	if (!READ_ONCE(pcn_main.live)) {
		pcn_nl_refuse(cb->extack, NULL, "this kernel is on no fabric");
		return -ENODEV;
	}
	mutex_lock(&pcn_node_mutex);
	for (; cb->args[0] < PCN_NODES; cb->args[0]++) {
		struct pcn_node *node = &pcn_main.node[cb->args[0]];
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

int pcn_nl_node_set_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *window = info->attrs[POPCORN_A_NODE_WINDOW_MAX];
	struct nlattr *threads = info->attrs[POPCORN_A_NODE_THREADED];
	u32 window_max_us = window ? nla_get_u32(window) : 0;
	bool threaded = threads && nla_get_u32(threads);
	int ret;

	if (!window && !threads) {
		pcn_nl_refuse(info->extack, NULL, "nothing to set: give window-max or threaded");
		return -EINVAL;
	}
	ret = pcn_tuning_set(window ? &window_max_us : NULL, threads ? &threaded : NULL);
	if (ret == -ENODEV)
		pcn_nl_refuse(info->extack, NULL, "this kernel is on no fabric");
	else if (ret)
		pcn_nl_refuse(info->extack, threads, "this kernel cannot poll in threads (error %d)", -ret);
	return ret;
}

static u32 pcn_nl_u32_or(const struct nlattr *attr, u32 otherwise)
{
	return attr ? nla_get_u32(attr) : otherwise;
}

static int pcn_nl_ping_ask(struct genl_info *info, struct pcn_ping_ask *ask)
{
	struct nlattr **attrs = info->attrs;

	if (!attrs[POPCORN_A_PING_NODE_ID]) {
		pcn_nl_refuse(info->extack, NULL, "which node? attribute node-id is missing");
		return -EINVAL;
	}
	*ask = (struct pcn_ping_ask) {
		.dst = nla_get_u32(attrs[POPCORN_A_PING_NODE_ID]),
		.count = pcn_nl_u32_or(attrs[POPCORN_A_PING_COUNT], 1),
		.size = pcn_nl_u32_or(attrs[POPCORN_A_PING_SIZE], 16),
		.window = pcn_nl_u32_or(attrs[POPCORN_A_PING_WINDOW], 1),
		.timeout_ms = pcn_nl_u32_or(attrs[POPCORN_A_PING_TIMEOUT], 1000),
		.interval_us = pcn_nl_u32_or(attrs[POPCORN_A_PING_INTERVAL], 0),
		.call = nla_get_flag(attrs[POPCORN_A_PING_CALL]),
		.busy = nla_get_flag(attrs[POPCORN_A_PING_BUSY]),
	};
	if (!ask->call)
		return 0;
	if (ask->size > POPCORN_PING_CALL_SIZE_MAX) {
		pcn_nl_refuse(info->extack, attrs[POPCORN_A_PING_SIZE],
			      "size %u does not fit a call, which has room for %u bytes", ask->size,
			      POPCORN_PING_CALL_SIZE_MAX);
		return -EINVAL;
	}
	if (ask->window > 1) {
		pcn_nl_refuse(info->extack, attrs[POPCORN_A_PING_WINDOW],
			      "window %u: calls are made one at a time", ask->window);
		return -EINVAL;
	}
	if (ask->busy) {
		pcn_nl_refuse(info->extack, attrs[POPCORN_A_PING_BUSY],
			      "busy: a call decides by itself how long it looks for its answer");
		return -EINVAL;
	}
	return 0;
}

static int pcn_nl_ping_failed(struct genl_info *info, const struct pcn_ping_ask *ask, int ret)
{
	struct nlattr *attr = info->attrs[POPCORN_A_PING_NODE_ID];

	switch (ret) {
	case -ENOTCONN:
		pcn_nl_refuse(info->extack, attr, "node %u is not up", ask->dst);
		break;
	case -ENODEV:
		pcn_nl_refuse(info->extack, NULL, "this kernel is on no fabric");
		break;
	case -EINVAL:
		pcn_nl_refuse(info->extack, attr, "node %u is this kernel itself", ask->dst);
		break;
	case -EAGAIN:
		pcn_nl_refuse(info->extack, attr, "the channel to node %u is full", ask->dst);
		break;
	case -EOPNOTSUPP:
		pcn_nl_refuse(info->extack, attr, "node %u answers no calls", ask->dst);
		break;
	case -ERESTARTSYS:
		return -EINTR;
	}
	return ret;
}

static int pcn_nl_ping_reply(struct genl_info *info, const struct pcn_ping_ask *ask,
			     const struct pcn_ping_result *result)
{
	struct sk_buff *reply;
	void *head;
	u32 i;
	int ret;

	reply = genlmsg_new(256 + result->answered * nla_total_size(sizeof(u64)), GFP_KERNEL);
	if (!reply)
		return -ENOMEM;
	head = genlmsg_put_reply(reply, info, &pcn_nl_family, 0, POPCORN_CMD_PING);
	ret = !head ? -EMSGSIZE :
	      nla_put_u32(reply, POPCORN_A_PING_NODE_ID, ask->dst) ?:
	      nla_put_u32(reply, POPCORN_A_PING_SENT, result->answered + result->lost) ?:
	      nla_put_u32(reply, POPCORN_A_PING_LOST, result->lost) ?:
	      nla_put_u32(reply, POPCORN_A_PING_FULL, result->full) ?:
	      pcn_nl_put_u64(reply, POPCORN_A_PING_ELAPSED, result->elapsed);
	for (i = 0; i < result->answered && !ret; i++)
		ret = pcn_nl_put_u64(reply, POPCORN_A_PING_RTT, result->rtt[i]);
	if (ret) {
		nlmsg_free(reply);
		return ret;
	}
	genlmsg_end(reply, head);
	return genlmsg_reply(reply, info);
}

int pcn_nl_ping_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct pcn_ping_result result;
	struct pcn_ping_ask ask;
	int ret = pcn_nl_ping_ask(info, &ask);

	if (ret)
		return ret;
	result.rtt = kvmalloc_array(ask.count, sizeof(*result.rtt), GFP_KERNEL);
	if (!result.rtt)
		return -ENOMEM;
	ret = pcn_ping_run(&ask, &result);
	ret = ret ? pcn_nl_ping_failed(info, &ask, ret) : pcn_nl_ping_reply(info, &ask, &result);
	kvfree(result.rtt);
	return ret;
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
