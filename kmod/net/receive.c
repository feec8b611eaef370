// SPDX-License-Identifier: GPL-2.0
/*
 * Receiving. Runs in the NAPI context of the message layer's queue. A frame is copied out of the sender's
 * memory first and checked afterwards: the sender can still write what it sent.
 */
#include <linux/bitops.h>
#include <linux/etherdevice.h>
#include <linux/hash.h>
#include <linux/if_vlan.h>
#include <linux/skbuff.h>

#include "link.h"
#include "receive.h"
#include "table.h"
#include "trace.h"
#include "wire.h"
#include "xdp.h"

#define PCN_RECEIVE_LINEAR	2048	/* frames up to here are in one piece */
#define PCN_RECEIVE_HEAD	256	/* of longer ones: holds all headers */
#define PCN_RECEIVE_GSO_MIN	48	/* no TCP has a smaller segment (TCP_MIN_SND_MSS) */

/* Into page fragments, as many as it takes. */
static bool pcn_receive_fill(struct page_frag *frag, struct sk_buff *skb, const void *from, u32 len)
{
	while (len) {
		unsigned int nr = skb_shinfo(skb)->nr_frags, chunk;

		if (nr == MAX_SKB_FRAGS || !skb_page_frag_refill(SMP_CACHE_BYTES, frag, GFP_ATOMIC))
			return false;
		chunk = min(len, frag->size - frag->offset);
		memcpy(page_address(frag->page) + frag->offset, from, chunk);
		get_page(frag->page);
		skb_add_rx_frag(skb, nr, frag->page, frag->offset, chunk, chunk);
		frag->offset += chunk;
		from += chunk;
		len -= chunk;
	}
	return true;
}

static struct sk_buff *pcn_receive_copy(struct pcn_link *link, const struct pcn_msg *msg)
{
	u32 head = msg->body_len <= PCN_RECEIVE_LINEAR ? msg->body_len : PCN_RECEIVE_HEAD;
	struct sk_buff *skb = netdev_alloc_skb_ip_align(link->dev, head);

	if (!skb)
		return NULL;
	skb_put_data(skb, msg->body, head);
	if (pcn_receive_fill(&link->rx[msg->queue].frag, skb, msg->body + head, msg->body_len - head))
		return skb;
	kfree_skb(skb);
	return NULL;
}

/* The protocol behind up to two VLAN tags. */
static __be16 pcn_receive_protocol(const struct sk_buff *skb)
{
	unsigned int at = offsetof(struct ethhdr, h_proto), tags;
	__be16 protocol;

	for (tags = 0; tags <= 2 && at + sizeof(protocol) <= skb_headlen(skb); tags++) {
		memcpy(&protocol, skb->data + at, sizeof(protocol));
		if (!eth_type_vlan(protocol))
			return protocol;
		at += VLAN_HLEN;
	}
	return 0;
}

/* Does it make sense for what we offer? What it says about the frame, virtio_net_hdr_to_skb() checks. */
static bool pcn_receive_offload_ok(const struct virtio_net_hdr *offload, const struct sk_buff *skb)
{
	u8 gso = offload->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	if (offload->flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID))
		return false;
	if (offload->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (!(offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
	    le16_to_cpu((__force __le16)offload->csum_offset) != offsetof(struct tcphdr, check) ||
	    le16_to_cpu((__force __le16)offload->gso_size) < PCN_RECEIVE_GSO_MIN)
		return false;
	if (gso == VIRTIO_NET_HDR_GSO_TCPV4)
		return pcn_receive_protocol(skb) == htons(ETH_P_IP);
	if (gso == VIRTIO_NET_HDR_GSO_TCPV6)
		return pcn_receive_protocol(skb) == htons(ETH_P_IPV6);
	return false;
}

static u64 pcn_receive_bit(const u8 *address)
{
	return BIT_ULL(hash_64(ether_addr_to_u64(address), PCN_LINK_FILTER_BITS));
}

static bool pcn_receive_wanted(const struct pcn_link *link, const u8 *address)
{
	if (ether_addr_equal(address, link->dev->dev_addr) || is_broadcast_ether_addr(address))
		return true;
	return READ_ONCE(link->filter) & pcn_receive_bit(address);
}

static bool pcn_receive_too_long(const struct pcn_link *link, const struct sk_buff *skb)
{
	unsigned int room = READ_ONCE(link->dev->mtu) + ETH_HLEN + VLAN_HLEN;

	return skb->len > room && !skb_is_gso(skb);
}

/**
 * pcn_receive_drop() - a frame that came ends here
 * @link: the link
 * @msg: that it came in
 * @reason: the counter that has it
 */
void pcn_receive_drop(struct pcn_link *link, const struct pcn_msg *msg, enum pcn_count reason)
{
	pcn_count_drop(link, reason, msg->queue, msg->src, msg->body_len);
}

static void pcn_receive_frame(struct pcn_link *link, const struct pcn_msg *msg)
{
	struct bpf_prog *program = rcu_dereference(link->program);
	struct pcn_net_frame frame;
	u8 header[ETH_HLEN];
	struct sk_buff *skb;
	u32 len;

	if (msg->body_len < ETH_HLEN || msg->body_len > PCN_NET_FRAME_MAX) {
		pcn_receive_drop(link, msg, PCN_COUNT_rx_bad_length);
		return;
	}
	/* What the sender makes of it afterwards is the same to us: the kernel looks at the copy again. */
	memcpy(header, msg->body, sizeof(header));
	pcn_table_learn(link, msg->src, header + ETH_ALEN);
	if (!pcn_receive_wanted(link, header)) {
		pcn_receive_drop(link, msg, is_multicast_ether_addr(header) ? PCN_COUNT_rx_filtered_group :
									      PCN_COUNT_rx_filtered);
		return;
	}
	memcpy(&frame, msg->data, sizeof(frame));
	if (program && pcn_xdp_takes(msg, &frame.offload)) {
		skb = pcn_xdp_run(link, program, msg, &frame.offload);
		if (!skb)
			return;
		program = NULL;
	} else {
		skb = pcn_receive_copy(link, msg);
		if (unlikely(!skb)) {
			pcn_receive_drop(link, msg, PCN_COUNT_rx_no_memory);
			return;
		}
	}
	len = skb->len;
	if (frame.offload.flags & VIRTIO_NET_HDR_F_DATA_VALID)
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	if (unlikely(!pcn_receive_offload_ok(&frame.offload, skb) ||
		     virtio_net_hdr_to_skb(skb, &frame.offload, true))) {
		pcn_receive_drop(link, msg, PCN_COUNT_rx_bad_offload);
		kfree_skb(skb);
		return;
	}
	if (unlikely(pcn_receive_too_long(link, skb))) {
		pcn_receive_drop(link, msg, PCN_COUNT_rx_too_long);
		kfree_skb(skb);
		return;
	}
	if (is_multicast_ether_addr(header))
		pcn_count_add(link, PCN_COUNT_rx_multicast, 1);
	pcn_count_frame(link, PCN_COUNT_rx_packets, PCN_COUNT_rx_bytes, len);
	skb_record_rx_queue(skb, msg->queue);
	skb->protocol = eth_type_trans(skb, link->dev);
	if (trace_popcorn_net_receive_enabled())
		trace_popcorn_net_receive(link->dev->ifindex, msg->src, link->node, msg->queue, len, msg->queued,
					  rdtsc());
	if (unlikely(program) && pcn_xdp_generic(program, &skb) != XDP_PASS) {
		pcn_receive_drop(link, msg, PCN_COUNT_rx_xdp_drop);
		return;
	}
	napi_gro_receive(pcn_msg_napi(msg), skb);
}

static void pcn_receive_hello(struct pcn_link *link, const struct pcn_msg *msg)
{
	struct pcn_net_hello hello;

	memcpy(&hello, msg->data, sizeof(hello));
	if (!pcn_table_hear(link, msg->src, hello.address))
		pcn_count_drop(link, PCN_COUNT_rx_bad_hello, msg->queue, msg->src, msg->len);
}

/**
 * pcn_receive_message() - recv of the service
 * @service: a link's
 * @msg: what came
 */
void pcn_receive_message(struct pcn_service *service, const struct pcn_msg *msg)
{
	struct pcn_link *link = pcn_link_of(service);

	if (msg->len == sizeof(struct pcn_net_frame) && msg->data[0] == PCN_NET_FRAME && msg->body &&
	    msg->queue < ARRAY_SIZE(link->rx))
		pcn_receive_frame(link, msg);
	else if (msg->len == sizeof(struct pcn_net_hello) && msg->data[0] == PCN_NET_HELLO && !msg->body)
		pcn_receive_hello(link, msg);
	else
		pcn_count_drop(link, PCN_COUNT_rx_bad_message, msg->queue, msg->src, msg->len + msg->body_len);
}

/**
 * pcn_receive_want() - which addresses does the kernel want to hear; as for ndo_set_rx_mode
 * @link: the link
 */
void pcn_receive_want(struct pcn_link *link)
{
	struct net_device *dev = link->dev;
	struct netdev_hw_addr *address;
	u64 filter = 0;

	netdev_for_each_uc_addr(address, dev)
		filter |= pcn_receive_bit(address->addr);
	netdev_for_each_mc_addr(address, dev)
		filter |= pcn_receive_bit(address->addr);
	/* All groups is all there is: a word of hashes cannot tell groups from others. */
	if (dev->flags & (IFF_PROMISC | IFF_ALLMULTI))
		filter = ~0ULL;
	WRITE_ONCE(link->filter, filter);
}

/**
 * pcn_receive_free_pages() - nothing is received any more
 * @link: the link
 */
void pcn_receive_free_pages(struct pcn_link *link)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(link->rx); i++) {
		if (link->rx[i].frag.page)
			put_page(link->rx[i].frag.page);
		link->rx[i].frag.page = NULL;
	}
}
