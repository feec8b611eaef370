// SPDX-License-Identifier: GPL-2.0
/*
 * XDP. A frame that fits a page goes to the program before there is an sk_buff for it; a longer one, or one
 * that stands for several packets, gets its sk_buff first and goes to the program in the generic way.
 */
#include <linux/bpf_trace.h>
#include <linux/etherdevice.h>
#include <linux/filter.h>
#include <net/xdp.h>

#include "link.h"
#include "receive.h"
#include "transmit.h"
#include "wire.h"
#include "xdp.h"

#define PCN_XDP_BYTES_MAX	SKB_WITH_OVERHEAD(PAGE_SIZE - XDP_PACKET_HEADROOM)

/**
 * pcn_xdp_open() - make the receiving queues known; before anything is received
 * @link: the link
 *
 * Return: 0 or a negative errno.
 */
int pcn_xdp_open(struct pcn_link *link)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(link->rx); i++) {
		ret = xdp_rxq_info_reg(&link->rx[i].xdp, link->dev, i, 0);
		if (!ret)
			ret = xdp_rxq_info_reg_mem_model(&link->rx[i].xdp, MEM_TYPE_PAGE_ORDER0, NULL);
		if (ret) {
			pcn_xdp_close(link);
			return ret;
		}
	}
	return 0;
}

/**
 * pcn_xdp_close() - undo pcn_xdp_open()
 * @link: the link
 */
void pcn_xdp_close(struct pcn_link *link)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(link->rx); i++)
		if (xdp_rxq_info_is_reg(&link->rx[i].xdp))
			xdp_rxq_info_unreg(&link->rx[i].xdp);
}

/**
 * pcn_xdp_command() - ndo_bpf
 * @dev: a link
 * @bpf: what is wanted
 */
int pcn_xdp_command(struct net_device *dev, struct netdev_bpf *bpf)
{
	struct pcn_link *link = netdev_priv(dev);
	struct bpf_prog *old;

	if (bpf->command != XDP_SETUP_PROG)
		return -EINVAL;
	old = rtnl_dereference(link->program);
	rcu_assign_pointer(link->program, bpf->prog);
	if (old)
		bpf_prog_put(old); /* frees it after a grace period */
	return 0;
}

/* A frame that has no sk_buff: there is nowhere to keep it, so no room means that it is lost. */
static bool pcn_xdp_send(struct pcn_link *link, const void *data, u32 len, const struct virtio_net_hdr *offload,
			 u32 index)
{
	bool sent = pcn_transmit_bytes(link, data, len, offload, index);

	if (sent)
		pcn_count_add(link, PCN_COUNT_tx_xdp, 1);
	else
		pcn_count_drop(link, PCN_COUNT_tx_xdp_full, index, PCN_COUNT_NO_PEER, len);
	return sent;
}

/**
 * pcn_xdp_transmit() - ndo_xdp_xmit: frames that were redirected here
 * @dev: a link
 * @nr: how many
 * @frames: those that were sent are gone
 * @flags: of the kernel
 *
 * Return: how many were sent, from the first on, or a negative errno.
 */
int pcn_xdp_transmit(struct net_device *dev, int nr, struct xdp_frame **frames, u32 flags)
{
	static const struct virtio_net_hdr nothing;
	struct pcn_link *link = netdev_priv(dev);
	u32 index = smp_processor_id() % dev->real_num_tx_queues;
	int i;

	if (flags & ~XDP_XMIT_FLAGS_MASK)
		return -EINVAL;
	if (!netif_running(dev))
		return -ENETDOWN;
	for (i = 0; i < nr; i++) {
		if (xdp_frame_has_frags(frames[i]) ||
		    !pcn_xdp_send(link, frames[i]->data, frames[i]->len, &nothing, index))
			break;
		xdp_return_frame_rx_napi(frames[i]);
	}
	return i;
}

/**
 * pcn_xdp_takes() - can a frame be given to a program without an sk_buff
 * @msg: that it came in
 * @offload: a copy of what came with it
 */
bool pcn_xdp_takes(const struct pcn_msg *msg, const struct virtio_net_hdr *offload)
{
	return msg->body_len <= PCN_XDP_BYTES_MAX && offload->gso_type == VIRTIO_NET_HDR_GSO_NONE;
}

static struct sk_buff *pcn_xdp_pass(struct pcn_link *link, const struct pcn_msg *msg, struct xdp_buff *xdp)
{
	struct sk_buff *skb = build_skb(xdp->data_hard_start, PAGE_SIZE);

	if (!skb) {
		pcn_receive_drop(link, msg, PCN_COUNT_rx_no_memory);
		put_page(virt_to_head_page(xdp->data_hard_start));
		return NULL;
	}
	skb_reserve(skb, xdp->data - xdp->data_hard_start);
	skb_put(skb, xdp->data_end - xdp->data);
	skb->dev = link->dev;
	if (xdp->data > xdp->data_meta)
		skb_metadata_set(skb, xdp->data - xdp->data_meta);
	return skb;
}

/**
 * pcn_xdp_run() - give a frame to the program
 * @link: where it came
 * @program: what is attached; under RCU
 * @msg: that it came in; pcn_xdp_takes() it
 * @offload: a copy of what came with it; moved if the program moves the frame's start
 *
 * Return: what the kernel is to get, or NULL.
 */
struct sk_buff *pcn_xdp_run(struct pcn_link *link, struct bpf_prog *program, const struct pcn_msg *msg,
			    struct virtio_net_hdr *offload)
{
	struct page *page = alloc_page(GFP_ATOMIC | __GFP_NOWARN);
	struct xdp_buff xdp;
	void *start;
	u32 action;

	if (!page) {
		pcn_receive_drop(link, msg, PCN_COUNT_rx_no_memory);
		return NULL;
	}
	xdp_init_buff(&xdp, PAGE_SIZE, &link->rx[msg->queue].xdp);
	xdp_prepare_buff(&xdp, page_address(page), XDP_PACKET_HEADROOM, msg->body_len, true);
	memcpy(xdp.data, msg->body, msg->body_len);
	start = xdp.data;
	action = bpf_prog_run_xdp(program, &xdp);
	if (offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		s32 at = le16_to_cpu((__force __le16)offload->csum_start) + (start - xdp.data);

		/* A start that is nowhere any more is found out when it is checked. */
		offload->csum_start = (__force __virtio16)cpu_to_le16(clamp(at, 0, U16_MAX));
	}
	switch (action) {
	case XDP_PASS:
		return pcn_xdp_pass(link, msg, &xdp);
	case XDP_TX:
		if (xdp.data_end - xdp.data >= ETH_HLEN)
			pcn_xdp_send(link, xdp.data, xdp.data_end - xdp.data, offload, msg->queue);
		break;
	case XDP_REDIRECT:
		if (!xdp_do_redirect(link->dev, &xdp, program)) {
			pcn_count_add(link, PCN_COUNT_rx_xdp_redirect, 1);
			xdp_do_flush();
			return NULL;
		}
		pcn_receive_drop(link, msg, PCN_COUNT_rx_xdp_bad);
		trace_xdp_exception(link->dev, program, action);
		break;
	case XDP_DROP:
		pcn_receive_drop(link, msg, PCN_COUNT_rx_xdp_drop);
		break;
	default:
		bpf_warn_invalid_xdp_action(link->dev, program, action);
		fallthrough;
	case XDP_ABORTED:
		pcn_receive_drop(link, msg, PCN_COUNT_rx_xdp_bad);
		trace_xdp_exception(link->dev, program, action);
		break;
	}
	put_page(page);
	return NULL;
}
