// SPDX-License-Identifier: GPL-2.0
/* GENERATED from kmod/uapi/popcorn.yaml by `make gen` */
/* (PYTHONPATH=tools python3 -m codegen). Do not edit. */

#include <net/genetlink.h>
#include <net/netlink.h>

#include "nl_gen.h"

/* Not const: a policy of Linux 6.1 takes a pointer to a range that might change. */
static struct netlink_range_validation pcn_nl_ping_size_range = {
	.max = 131064,
};

static struct netlink_range_validation pcn_nl_ping_interval_range = {
	.max = 10000000,
};

static struct netlink_range_validation pcn_nl_node_window_max_range = {
	.max = 1000000,
};

/*
 * The policy of a command holds for its dump too, and lets more through.
 * Linux 6.1 hands no extack to a dump: there, it is EINVAL without a message.
 */
static int pcn_nl_dump_start(struct netlink_callback *cb)
{
	if (!nlmsg_attrlen(cb->nlh, GENL_HDRLEN))
		return 0;
	NL_SET_ERR_MSG(cb->extack, "a dump takes no attributes");
	return -EINVAL;
}

static const struct nla_policy pcn_nl_node_get_policy[POPCORN_A_NODE_ID + 1] = {
	[POPCORN_A_NODE_ID] = NLA_POLICY_MAX(NLA_U32, 15),
};

static const struct nla_policy pcn_nl_ping_policy[POPCORN_A_PING_BUSY + 1] = {
	[POPCORN_A_PING_NODE_ID] = NLA_POLICY_MAX(NLA_U32, 15),
	[POPCORN_A_PING_COUNT] = NLA_POLICY_RANGE(NLA_U32, 1, 4096),
	[POPCORN_A_PING_SIZE] = NLA_POLICY_FULL_RANGE(NLA_U32, &pcn_nl_ping_size_range),
	[POPCORN_A_PING_TIMEOUT] = NLA_POLICY_RANGE(NLA_U32, 1, 10000),
	[POPCORN_A_PING_INTERVAL] = NLA_POLICY_FULL_RANGE(NLA_U32, &pcn_nl_ping_interval_range),
	[POPCORN_A_PING_WINDOW] = NLA_POLICY_RANGE(NLA_U32, 1, 256),
	[POPCORN_A_PING_CALL] = { .type = NLA_FLAG, },
	[POPCORN_A_PING_BUSY] = { .type = NLA_FLAG, },
};

static const struct nla_policy pcn_nl_kernel_get_policy[POPCORN_A_KERNEL_NAME + 1] = {
	[POPCORN_A_KERNEL_ID] = NLA_POLICY_RANGE(NLA_U32, 1, 15),
	[POPCORN_A_KERNEL_NAME] = { .type = NLA_NUL_STRING, .len = 31, },
};

static const struct nla_policy pcn_nl_kernel_new_policy[POPCORN_A_KERNEL_MEMORY_SIZE + 1] = {
	[POPCORN_A_KERNEL_NAME] = { .type = NLA_NUL_STRING, .len = 31, },
	[POPCORN_A_KERNEL_CPU] = { .type = NLA_U32, },
	[POPCORN_A_KERNEL_MEMORY_BACKEND] = NLA_POLICY_MAX(NLA_U32, 1),
	[POPCORN_A_KERNEL_MEMORY_START] = { .type = NLA_U64, },
	[POPCORN_A_KERNEL_MEMORY_SIZE] = { .type = NLA_U64, },
};

static const struct nla_policy pcn_nl_kernel_prepare_policy[POPCORN_A_KERNEL_ID + 1] = {
	[POPCORN_A_KERNEL_ID] = NLA_POLICY_RANGE(NLA_U32, 1, 15),
};

static const struct nla_policy pcn_nl_kernel_boot_policy[POPCORN_A_KERNEL_RECIPE + 1] = {
	[POPCORN_A_KERNEL_ID] = NLA_POLICY_RANGE(NLA_U32, 1, 15),
	[POPCORN_A_KERNEL_ENTRY] = { .type = NLA_U64, },
	[POPCORN_A_KERNEL_BOOT_PARAMS] = { .type = NLA_U64, },
	[POPCORN_A_KERNEL_PAGE_TABLE_ROOT] = { .type = NLA_U64, },
	[POPCORN_A_KERNEL_IMAGE] = { .type = NLA_NUL_STRING, .len = 255, },
	[POPCORN_A_KERNEL_RECIPE] = { .type = NLA_NUL_STRING, .len = 2047, },
};

static const struct nla_policy pcn_nl_kernel_stop_policy[POPCORN_A_KERNEL_ID + 1] = {
	[POPCORN_A_KERNEL_ID] = NLA_POLICY_RANGE(NLA_U32, 1, 15),
};

static const struct nla_policy pcn_nl_kernel_kill_policy[POPCORN_A_KERNEL_ID + 1] = {
	[POPCORN_A_KERNEL_ID] = NLA_POLICY_RANGE(NLA_U32, 1, 15),
};

static const struct nla_policy pcn_nl_kernel_del_policy[POPCORN_A_KERNEL_ID + 1] = {
	[POPCORN_A_KERNEL_ID] = NLA_POLICY_RANGE(NLA_U32, 1, 15),
};

static const struct nla_policy pcn_nl_node_set_policy[POPCORN_A_NODE_THREADED + 1] = {
	[POPCORN_A_NODE_WINDOW_MAX] = NLA_POLICY_FULL_RANGE(NLA_U32, &pcn_nl_node_window_max_range),
	[POPCORN_A_NODE_THREADED] = NLA_POLICY_MAX(NLA_U32, 1),
};

static const struct nla_policy pcn_nl_kernel_nmi_policy[POPCORN_A_KERNEL_ID + 1] = {
	[POPCORN_A_KERNEL_ID] = NLA_POLICY_RANGE(NLA_U32, 1, 15),
};

const struct genl_ops pcn_nl_ops[PCN_NL_NR_OPS] = {
	{
		.cmd     = POPCORN_CMD_FABRIC_GET,
		.doit    = pcn_nl_fabric_get_doit,
	},
	{
		.cmd     = POPCORN_CMD_NODE_GET,
		.doit    = pcn_nl_node_get_doit,
		.start   = pcn_nl_dump_start,
		.dumpit  = pcn_nl_node_get_dumpit,
		.policy  = pcn_nl_node_get_policy,
		.maxattr = POPCORN_A_NODE_ID,
	},
	{
		.cmd     = POPCORN_CMD_PING,
		.doit    = pcn_nl_ping_doit,
		.policy  = pcn_nl_ping_policy,
		.maxattr = POPCORN_A_PING_BUSY,
		.flags   = GENL_ADMIN_PERM,
	},
	{
		.cmd     = POPCORN_CMD_KERNEL_GET,
		.doit    = pcn_nl_kernel_get_doit,
		.start   = pcn_nl_dump_start,
		.dumpit  = pcn_nl_kernel_get_dumpit,
		.policy  = pcn_nl_kernel_get_policy,
		.maxattr = POPCORN_A_KERNEL_NAME,
	},
	{
		.cmd     = POPCORN_CMD_KERNEL_NEW,
		.doit    = pcn_nl_kernel_new_doit,
		.policy  = pcn_nl_kernel_new_policy,
		.maxattr = POPCORN_A_KERNEL_MEMORY_SIZE,
		.flags   = GENL_ADMIN_PERM,
	},
	{
		.cmd     = POPCORN_CMD_KERNEL_PREPARE,
		.doit    = pcn_nl_kernel_prepare_doit,
		.policy  = pcn_nl_kernel_prepare_policy,
		.maxattr = POPCORN_A_KERNEL_ID,
		.flags   = GENL_ADMIN_PERM,
	},
	{
		.cmd     = POPCORN_CMD_KERNEL_BOOT,
		.doit    = pcn_nl_kernel_boot_doit,
		.policy  = pcn_nl_kernel_boot_policy,
		.maxattr = POPCORN_A_KERNEL_RECIPE,
		.flags   = GENL_ADMIN_PERM,
	},
	{
		.cmd     = POPCORN_CMD_KERNEL_STOP,
		.doit    = pcn_nl_kernel_stop_doit,
		.policy  = pcn_nl_kernel_stop_policy,
		.maxattr = POPCORN_A_KERNEL_ID,
		.flags   = GENL_ADMIN_PERM,
	},
	{
		.cmd     = POPCORN_CMD_KERNEL_KILL,
		.doit    = pcn_nl_kernel_kill_doit,
		.policy  = pcn_nl_kernel_kill_policy,
		.maxattr = POPCORN_A_KERNEL_ID,
		.flags   = GENL_ADMIN_PERM,
	},
	{
		.cmd     = POPCORN_CMD_KERNEL_DEL,
		.doit    = pcn_nl_kernel_del_doit,
		.policy  = pcn_nl_kernel_del_policy,
		.maxattr = POPCORN_A_KERNEL_ID,
		.flags   = GENL_ADMIN_PERM,
	},
	{
		.cmd     = POPCORN_CMD_SERVICE_GET,
		.dumpit  = pcn_nl_service_get_dumpit,
	},
	{
		.cmd     = POPCORN_CMD_CHANNEL_GET,
		.dumpit  = pcn_nl_channel_get_dumpit,
	},
	{
		.cmd     = POPCORN_CMD_QUEUE_GET,
		.dumpit  = pcn_nl_queue_get_dumpit,
	},
	{
		.cmd     = POPCORN_CMD_LATENCY_GET,
		.dumpit  = pcn_nl_latency_get_dumpit,
	},
	{
		.cmd     = POPCORN_CMD_NODE_SET,
		.doit    = pcn_nl_node_set_doit,
		.policy  = pcn_nl_node_set_policy,
		.maxattr = POPCORN_A_NODE_THREADED,
		.flags   = GENL_ADMIN_PERM,
	},
	{
		.cmd     = POPCORN_CMD_KERNEL_NMI,
		.doit    = pcn_nl_kernel_nmi_doit,
		.policy  = pcn_nl_kernel_nmi_policy,
		.maxattr = POPCORN_A_KERNEL_ID,
		.flags   = GENL_ADMIN_PERM,
	},
};

const struct genl_multicast_group pcn_nl_mcgrps[PCN_NL_NR_MCGRPS] = {
	[PCN_NLGRP_NODE] = { .name = POPCORN_MCGRP_NODE, },
	[PCN_NLGRP_KERNEL] = { .name = POPCORN_MCGRP_KERNEL, },
	[PCN_NLGRP_SERVICE] = { .name = POPCORN_MCGRP_SERVICE, },
};
