/* SPDX-License-Identifier: GPL-2.0 */
/* GENERATED from kmod/uapi/popcorn.yaml by `make gen` */
/* (PYTHONPATH=tools python3 -m codegen). Do not edit. */
#ifndef _PCN_CORE_NL_GEN_H
#define _PCN_CORE_NL_GEN_H

#include <net/genetlink.h>

#include "../uapi/popcorn.h"

/* Indices into pcn_nl_mcgrps, as genlmsg_multicast() takes them. */
enum {
	PCN_NLGRP_NODE,
	PCN_NLGRP_KERNEL,
	PCN_NLGRP_SERVICE,
	PCN_NL_NR_MCGRPS
};

#define PCN_NL_NR_OPS	16

extern const struct genl_ops pcn_nl_ops[PCN_NL_NR_OPS];
extern const struct genl_multicast_group pcn_nl_mcgrps[PCN_NL_NR_MCGRPS];

/* Handlers, in nl.c. */
int pcn_nl_fabric_get_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_node_get_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_node_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int pcn_nl_ping_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_kernel_get_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_kernel_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int pcn_nl_kernel_new_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_kernel_prepare_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_kernel_boot_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_kernel_stop_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_kernel_kill_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_kernel_del_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_service_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int pcn_nl_channel_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int pcn_nl_queue_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int pcn_nl_latency_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int pcn_nl_node_set_doit(struct sk_buff *skb, struct genl_info *info);
int pcn_nl_kernel_nmi_doit(struct sk_buff *skb, struct genl_info *info);

#endif /* _PCN_CORE_NL_GEN_H */
