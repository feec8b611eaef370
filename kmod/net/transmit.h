/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_TRANSMIT_H
#define _PCN_TRANSMIT_H

#include <linux/netdevice.h>

struct pcn_link;

netdev_tx_t pcn_transmit_start(struct sk_buff *skb, struct net_device *dev);
void pcn_transmit_resume(struct pcn_link *link);
void pcn_transmit_drop_held(struct pcn_link *link);

#endif
