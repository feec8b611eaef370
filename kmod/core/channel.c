// SPDX-License-Identifier: GPL-2.0
/*
 * Channels: rings and doorbells put together. Receiving is done in a NAPI context, so the kernel's own
 * budget, threaded mode and accounting apply; it hangs on a net device that nobody else sees.
 */
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <asm/tsc.h>

#include "channel.h"
#include "doorbell.h"
#include "node.h"
#include "service.h"
#include "trace.h"

/**
 * struct pcn_poller - the receiving side of this kernel
 * @netdev: carries @napi
 * @napi: its context
 * @irq_tsc: when the doorbell last rang
 * @poll_tsc: when the poll that is running began
 * @turn: node that the next poll begins with, so that none starves the others
 * @running: @napi may be scheduled
 */
static struct pcn_poller {
	struct net_device *netdev;
	struct napi_struct napi;
	u64 irq_tsc;
	u64 poll_tsc;
	u32 turn;
	bool running;
} pcn_poller;

/**
 * pcn_channel_send() - queue a message to a node and ring its doorbell if it waits for one
 * @dst: node id
 * @service: service id, as the receiver has it
 * @data: payload
 * @len: its bytes
 *
 * Return: as pcn_service_send().
 */
int pcn_channel_send(u32 dst, u16 service, const void *data, size_t len)
{
	struct pcn_node *node;
	unsigned long flags;
	bool kick = false;
	u64 tsc;
	u32 seq;
	int ret;

	if (dst >= PCN_NODES)
		return -EINVAL;
	node = &pcn_nodes[dst];

	rcu_read_lock();
	if (!READ_ONCE(pcn_local.live)) {
		rcu_read_unlock();
		return -ENODEV;
	}
	if (dst == pcn_local.id) {
		rcu_read_unlock();
		return -EINVAL;
	}
	spin_lock_irqsave(&node->tx_lock, flags);
	if (!node->reachable || READ_ONCE(pcn_fabric_node(dst)->epoch) != node->epoch) {
		ret = -ENOTCONN;
	} else {
		tsc = rdtsc_ordered();
		ret = pcn_ring_send(&node->tx, service, data, len, tsc, &seq);
	}
	if (!ret) {
		node->sent++;
		trace_popcorn_msg_queued(pcn_local.id, dst, 0, seq, service, len, tsc);
		kick = pcn_ring_take_kick(&node->tx);
	}
	if (kick) {
		/* Where the receiver finds it, to tell waiting for a doorbell from its travelling. */
		WRITE_ONCE(node->tx.shm->tx.doorbell_tsc, rdtsc_ordered());
		pcn_doorbell_ring(node);
	}
	spin_unlock_irqrestore(&node->tx_lock, flags);
	rcu_read_unlock();
	return ret;
}

/* Which stages this message went through: one that came while we polled had no doorbell of its own. */
static void pcn_channel_trace_delivered(struct pcn_node *node, const struct pcn_ring_msg *msg)
{
	u64 now = rdtsc_ordered(), doorbell, irq = 0, poll = 0;

	doorbell = READ_ONCE(node->rx.shm->tx.doorbell_tsc);
	if (doorbell < msg->tsc || doorbell > now)
		doorbell = 0;
	if (doorbell && pcn_poller.irq_tsc >= doorbell)
		irq = pcn_poller.irq_tsc;
	if (pcn_poller.poll_tsc >= msg->tsc)
		poll = pcn_poller.poll_tsc;
	trace_popcorn_msg_delivered(node->id, pcn_local.id, 0, msg->seq, msg->service, msg->len, msg->tsc,
				    doorbell, irq, poll, now);
}

static int pcn_channel_drain(struct pcn_node *node, int budget)
{
	struct pcn_ring_msg raw;
	struct pcn_msg msg;
	int work = 0, ret;

	spin_lock(&node->rx_lock);
	if (!node->reachable)
		goto out;
	pcn_ring_disarm(&node->rx);
	while (work < budget) {
		ret = pcn_ring_receive(&node->rx, &raw);
		if (!ret)
			break;
		work++;
		if (ret < 0) {
			node->rejected++;
			continue;
		}
		if (trace_popcorn_msg_delivered_enabled())
			pcn_channel_trace_delivered(node, &raw);
		msg.src = node->id;
		msg.service = raw.service;
		msg.len = raw.len;
		msg.seq = raw.seq;
		msg.queued = raw.tsc;
		memcpy(msg.data, raw.data, sizeof(msg.data));
		if (pcn_service_deliver(node, &msg))
			node->received++;
		else
			node->rejected++;
	}
out:
	spin_unlock(&node->rx_lock);
	return work;
}

/* Asks every peer for a doorbell. Returns true if one of them was faster: poll again. */
static bool pcn_channel_arm(void)
{
	bool ready = false;
	u32 id;

	for (id = 0; id < pcn_fabric.nr_nodes; id++) {
		struct pcn_node *node = &pcn_nodes[id];

		if (!READ_ONCE(node->reachable))
			continue;
		spin_lock(&node->rx_lock);
		if (node->reachable) {
			pcn_ring_arm(&node->rx);
			ready |= pcn_ring_ready(&node->rx);
		}
		spin_unlock(&node->rx_lock);
	}
	return ready;
}

static int pcn_channel_poll(struct napi_struct *napi, int budget)
{
	u32 nr = pcn_fabric.nr_nodes, i, turn = pcn_poller.turn++;
	bool changed = false;
	int work = 0;

	pcn_poller.poll_tsc = rdtsc_ordered();
	for (i = 0; i < nr; i++) {
		struct pcn_node *node = &pcn_nodes[(turn + i) % nr];

		if (node->id == pcn_local.id)
			continue;
		changed |= pcn_node_changed(node);
		if (work < budget && READ_ONCE(node->reachable))
			work += pcn_channel_drain(node, budget - work);
	}
	if (changed)
		pcn_node_scan_soon();
	if (work < budget && napi_complete_done(napi, work) && pcn_channel_arm())
		napi_schedule(napi);
	return work;
}

/**
 * pcn_channel_doorbell() - the doorbell of this kernel rang
 * @tsc: when
 */
void pcn_channel_doorbell(u64 tsc)
{
	WRITE_ONCE(pcn_poller.irq_tsc, tsc);
	napi_schedule_irqoff(&pcn_poller.napi);
}

/**
 * pcn_channel_poll_soon() - look at the channels without having been rung
 */
void pcn_channel_poll_soon(void)
{
	if (!READ_ONCE(pcn_poller.running))
		return;
	local_bh_disable();
	napi_schedule(&pcn_poller.napi);
	local_bh_enable();
}

/**
 * pcn_channel_start() - be ready to receive
 *
 * Return: 0 or -ENOMEM.
 */
int pcn_channel_start(void)
{
	pcn_poller.netdev = pcn_netdev_create();
	if (!pcn_poller.netdev)
		return -ENOMEM;
	netif_napi_add(pcn_poller.netdev, &pcn_poller.napi, pcn_channel_poll);
	napi_enable(&pcn_poller.napi);
	WRITE_ONCE(pcn_poller.running, true);
	return 0;
}

/**
 * pcn_channel_stop() - stop receiving; the doorbell is gone already
 */
void pcn_channel_stop(void)
{
	WRITE_ONCE(pcn_poller.running, false);
	synchronize_rcu();
	napi_disable(&pcn_poller.napi);
	netif_napi_del(&pcn_poller.napi);
	pcn_netdev_destroy(pcn_poller.netdev);
}
