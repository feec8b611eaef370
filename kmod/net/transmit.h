/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_TRANSMIT_H
#define _PCN_TRANSMIT_H

#include <linux/netdevice.h>
#include <linux/virtio_net.h>

struct pcn_link;

netdev_tx_t pcn_transmit_start(struct sk_buff *skb, struct net_device *dev);
bool pcn_transmit_bytes(struct pcn_link *link, const void *data, u32 len, const struct virtio_net_hdr *offload,
			u32 index);
void pcn_transmit_resume(struct pcn_link *link);
void pcn_transmit_drop_held(struct pcn_link *link);

#endif
