/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_NL_KERNEL_H
#define _PCN_NL_KERNEL_H

#include <net/genetlink.h>

extern struct genl_family pcn_nl_family;

/* x86 reads unaligned words, so a u64 needs no padding attribute before it. */
static inline int pcn_nl_put_u64(struct sk_buff *skb, int attr, u64 value)
{
	return nla_put(skb, attr, sizeof(value), &value);
}

#endif
