/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_VSOCK_TRANSPORT_H
#define _PCN_VSOCK_TRANSPORT_H

#include <linux/types.h>

struct sk_buff;

void pcn_transport_deliver(struct sk_buff *skb);
void pcn_transport_reset(u32 cid);

#endif
