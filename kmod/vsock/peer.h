/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_VSOCK_PEER_H
#define _PCN_VSOCK_PEER_H

#include <linux/types.h>

struct sk_buff;
struct vsock_sock;

int pcn_peer_start(void);
void pcn_peer_stop(void);
u32 pcn_peer_local_cid(void);
int pcn_peer_send(struct sk_buff *skb);
void pcn_peer_cancel(struct vsock_sock *vsk);

#endif
