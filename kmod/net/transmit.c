// SPDX-License-Identifier: GPL-2.0
/*
 * Sending. A frame is written straight into the body of a message, once for each peer that it is for, and is
 * done with: what is on its way is bounded by the room that the message layer gives one receiver.
 *
 * If there is no room, the queue stops and keeps that one frame, until the message layer tells of room or of
 * the peer's end. So a frame is lost only with its receiver. The price is that a peer which does not keep up
 * holds up what the same queue has for others.
 */
#include <linux/etherdevice.h>
#include <linux/skbuff.h>

#include "link.h"
#include "table.h"
#include "trace.h"
#include "transmit.h"
#include "wire.h"

/* One copy of @skb, or of @data without one, for one peer. Errors as pcn_service_send(). */
static int pcn_transmit_copy(struct pcn_link *link, const struct sk_buff *skb, const void *data, u32 len,
			     const struct pcn_net_frame *frame, u32 node, u32 index)
{
	u32 queues = pcn_service_queues(&link->service, node);
	struct pcn_out out = { .data = frame, .len = sizeof(*frame) };
	struct pcn_body body;
	int ret;

	if (!queues)
		return -ENOTCONN;
	ret = pcn_service_reserve(&link->service, node, index % queues, len, &body);
	if (ret)
		return ret;
	if (skb)
		skb_copy_bits(skb, 0, body.data, len);
	else
		memcpy(body.data, data, len);
	out.body = &body;
	ret = pcn_service_send_batch(&link->service, node, index % queues, &out, 1);
	if (ret < 0)
		pcn_service_release(&link->service, &body);
	return ret < 0 ? ret : 0;
}

/* @skb, or NULL for a frame that has none, is on its way to @node; the first copy of it if @first. */
static void pcn_transmit_copied(struct pcn_link *link, const struct sk_buff *skb, u32 len, u32 node, u32 index,
				bool first)
{
	pcn_count_add(link, PCN_COUNT_tx_copies, 1);
	if (trace_popcorn_net_transmit_enabled()) {
		bool gso = skb && skb_is_gso(skb);

		trace_popcorn_net_transmit(link->dev->ifindex, link->node, node, index, len,
					   gso ? skb_shinfo(skb)->gso_size : 0,
					   gso ? skb_shinfo(skb)->gso_segs : 0, first, rdtsc());
	}
}

/*
 * To every node of @to; @sent is set if one of them gets it. Returns those that have no room yet. Under the
 * lock of the netdev's queue.
 */
static unsigned long pcn_transmit_to(struct pcn_link *link, const struct sk_buff *skb, unsigned long to,
				     u32 index, bool *sent)
{
	struct pcn_net_frame frame = { .kind = PCN_NET_FRAME };
	unsigned long id, wait = 0;

	if (virtio_net_hdr_from_skb(skb, &frame.offload, true, true, 0)) {
		pcn_count_drop(link, PCN_COUNT_tx_bad_offload, index, PCN_COUNT_NO_PEER, skb->len);
		return 0;
	}
	for_each_set_bit(id, &to, POPCORN_NODES_MAX) {
		int ret = pcn_transmit_copy(link, skb, NULL, skb->len, &frame, id, index);

		if (ret == -EAGAIN) {
			wait |= BIT(id);
		} else if (ret) {
			pcn_count_drop(link, PCN_COUNT_tx_peer_gone, index, id, skb->len);
		} else {
			pcn_transmit_copied(link, skb, skb->len, id, index, !*sent);
			*sent = true;
		}
	}
	return wait;
}

/**
 * pcn_transmit_bytes() - send a frame that is no sk_buff
 * @link: from where
 * @data: the frame
 * @len: its bytes, at least those of an Ethernet header
 * @offload: what is left to do to it
 * @index: transmit queue
 *
 * It does not wait for room. With bottom halves disabled, under RCU.
 *
 * Return: whether a peer gets it.
 */
bool pcn_transmit_bytes(struct pcn_link *link, const void *data, u32 len, const struct virtio_net_hdr *offload,
			u32 index)
{
	struct pcn_net_frame frame = { .kind = PCN_NET_FRAME, .offload = *offload };
	unsigned long id, to = pcn_table_find(link, data);
	bool sent = false;

	for_each_set_bit(id, &to, POPCORN_NODES_MAX) {
		if (pcn_transmit_copy(link, NULL, data, len, &frame, id, index))
			continue;
		pcn_transmit_copied(link, NULL, len, id, index, !sent);
		sent = true;
	}
	if (sent)
		pcn_count_frame(link, PCN_COUNT_tx_packets, PCN_COUNT_tx_bytes, len);
	return sent;
}

static void pcn_transmit_done(struct pcn_link *link, struct sk_buff *skb, bool sent)
{
	if (sent) {
		pcn_count_frame(link, PCN_COUNT_tx_packets, PCN_COUNT_tx_bytes, skb->len);
		consume_skb(skb);
	} else {
		kfree_skb(skb);
	}
}

/**
 * pcn_transmit_start() - ndo_start_xmit
 * @skb: the frame
 * @dev: a link
 */
netdev_tx_t pcn_transmit_start(struct sk_buff *skb, struct net_device *dev)
{
	u32 index = skb_get_queue_mapping(skb);
	struct pcn_link *link = netdev_priv(dev);
	struct pcn_link_queue *queue = &link->queue[index];
	unsigned long to;
	bool sent = false;

	if (unlikely(skb->len > PCN_NET_FRAME_MAX || skb->len < ETH_HLEN)) {
		pcn_count_drop(link, PCN_COUNT_tx_too_long, index, PCN_COUNT_NO_PEER, skb->len);
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	/* The destination is read below, and a packet socket may have put all of it into fragments. */
	if (unlikely(!pskb_may_pull(skb, ETH_HLEN))) {
		pcn_count_drop(link, PCN_COUNT_tx_too_long, index, PCN_COUNT_NO_PEER, skb->len);
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	if (WARN_ON_ONCE(queue->held)) /* it is stopped */
		return NETDEV_TX_BUSY;
	rcu_read_lock();
	to = pcn_table_find(link, skb->data);
	rcu_read_unlock();
	if (unlikely(!to)) {
		pcn_count_drop(link, PCN_COUNT_tx_no_peer, index, PCN_COUNT_NO_PEER, skb->len);
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	if (!is_power_of_2(to) || is_multicast_ether_addr(skb->data))
		pcn_count_add(link, PCN_COUNT_tx_flooded, 1);
	skb_tx_timestamp(skb);
	to = pcn_transmit_to(link, skb, to, index, &sent);
	if (likely(!to)) {
		pcn_transmit_done(link, skb, sent);
		return NETDEV_TX_OK;
	}
	/* Room that comes from here on is told of, and whoever tells waits for the lock that we hold. */
	queue->held = skb;
	queue->held_for = to;
	queue->held_sent = sent;
	/* The sender's socket goes on paying for it. */
	netif_tx_stop_queue(netdev_get_tx_queue(dev, index));
	pcn_count_add(link, PCN_COUNT_tx_stopped, 1);
	return NETDEV_TX_OK;
}

static void pcn_transmit_resume_queue(struct pcn_link *link, u32 index)
{
	struct netdev_queue *txq = netdev_get_tx_queue(link->dev, index);
	struct pcn_link_queue *queue = &link->queue[index];

	__netif_tx_lock(txq, smp_processor_id());
	if (queue->held) {
		queue->held_for = pcn_transmit_to(link, queue->held, queue->held_for, index,
						  &queue->held_sent);
		if (!queue->held_for) {
			pcn_transmit_done(link, queue->held, queue->held_sent);
			queue->held = NULL;
			netif_tx_wake_queue(txq);
		}
	}
	__netif_tx_unlock(txq);
}

/**
 * pcn_transmit_resume() - there may be room, or a peer is gone: go on
 * @link: the link
 *
 * With bottom halves disabled.
 */
void pcn_transmit_resume(struct pcn_link *link)
{
	u32 index;

	for (index = 0; index < link->dev->num_tx_queues; index++)
		pcn_transmit_resume_queue(link, index);
}

/**
 * pcn_transmit_drop_held() - the link goes down: nothing waits any more
 * @link: the link
 */
void pcn_transmit_drop_held(struct pcn_link *link)
{
	u32 index;

	local_bh_disable();
	for (index = 0; index < link->dev->num_tx_queues; index++) {
		struct netdev_queue *txq = netdev_get_tx_queue(link->dev, index);
		struct pcn_link_queue *queue = &link->queue[index];

		__netif_tx_lock(txq, smp_processor_id());
		if (queue->held) {
			if (!queue->held_sent)
				pcn_count_drop(link, PCN_COUNT_tx_peer_gone, index, PCN_COUNT_NO_PEER,
					       queue->held->len);
			pcn_transmit_done(link, queue->held, queue->held_sent);
			queue->held = NULL;
		}
		__netif_tx_unlock(txq);
	}
	local_bh_enable();
}
