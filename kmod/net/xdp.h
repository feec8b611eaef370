/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_XDP_H
#define _PCN_XDP_H

#include <linux/netdevice.h>
#include <linux/virtio_net.h>

#include "popcorn.h"

struct pcn_link;

int pcn_xdp_open(struct pcn_link *link);
void pcn_xdp_close(struct pcn_link *link);
int pcn_xdp_command(struct net_device *dev, struct netdev_bpf *bpf);
int pcn_xdp_transmit(struct net_device *dev, int nr, struct xdp_frame **frames, u32 flags);
struct sk_buff *pcn_xdp_run(struct pcn_link *link, struct bpf_prog *program, const struct pcn_msg *msg,
			    struct virtio_net_hdr *offload);
bool pcn_xdp_takes(const struct pcn_msg *msg, const struct virtio_net_hdr *offload);

#endif
