// SPDX-License-Identifier: GPL-2.0
/*
 * The netlink family: channels, queues and latencies.
 */
#include <net/genetlink.h>

#include "popcorn_host.h"
#include "channel.h"
#include "nl.h"
#include "nl_gen.h"
#include "nl_kernel.h"
#include "stats.h"

/* Puts what @at counts on from, until the message is full. */
static int pcn_nl_dump(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd, u32 nr,
		       int (*fill)(struct sk_buff *skb, u32 at))
{
	int ret = 0;

	for (; cb->args[0] < nr; cb->args[0]++) {
		void *head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &pcn_nl_family,
					 NLM_F_MULTI, cmd);

		ret = head ? fill(skb, cb->args[0]) : -EMSGSIZE;
		if (ret == -ENOENT) {
			genlmsg_cancel(skb, head);
			ret = 0;
			continue;
		}
		if (ret) {
			if (head)
				genlmsg_cancel(skb, head);
			break;
		}
		genlmsg_end(skb, head);
	}
	return ret && ret != -EMSGSIZE ? ret : skb->len;
}

static int pcn_nl_dump_shape(struct netlink_callback *cb, struct pcn_shape *shape)
{
	if (pcn_shape_get(shape))
		return 0;
	pcn_nl_refuse(cb->extack, NULL, "this kernel is on no fabric");
	return -ENODEV;
}

static int pcn_nl_fill_channel(struct sk_buff *skb, u32 at)
{
	u32 node = at / PCN_SHM_QUEUES, queue = at % PCN_SHM_QUEUES;
	struct pcn_channel_stats stats;
	int ret;

	if (!pcn_channel_stats(node, queue, &stats))
		return -ENOENT;
	ret = nla_put_u32(skb, POPCORN_A_CHANNEL_NODE_ID, node) ?:
	      nla_put_u32(skb, POPCORN_A_CHANNEL_QUEUE, queue) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_SENT, stats.sent) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_SENT_BYTES, stats.sent_bytes) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_RECEIVED, stats.received) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_RECEIVED_BYTES, stats.received_bytes) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_DOORBELLS_SENT, stats.doorbells) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_ROOM_DOORBELLS, stats.room_doorbells) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_FULL, stats.full) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_WAITS, stats.waits) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_REJECTED, stats.rejected) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_ANSWERED, stats.answered) ?:
	      nla_put_u32(skb, POPCORN_A_CHANNEL_RING_SLOTS, stats.ring_slots) ?:
	      nla_put_u32(skb, POPCORN_A_CHANNEL_RING_SLOTS_FROM, stats.ring_slots_from) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_CHANNEL_AREA_BYTES, stats.area_bytes);
	if (!ret && stats.armed)
		ret = nla_put_flag(skb, POPCORN_A_CHANNEL_ARMED);
	return ret;
}

int pcn_nl_channel_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct pcn_shape shape;
	int ret = pcn_nl_dump_shape(cb, &shape);

	return ret ?: pcn_nl_dump(skb, cb, POPCORN_CMD_CHANNEL_GET, shape.nr_nodes * PCN_SHM_QUEUES,
				  pcn_nl_fill_channel);
}

static int pcn_nl_fill_queue(struct sk_buff *skb, u32 at)
{
	struct pcn_queue_stats stats;

	if (!pcn_queue_stats(at, &stats))
		return -ENOENT;
	return nla_put_u32(skb, POPCORN_A_QUEUE_QUEUE, at) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_QUEUE_POLLS, stats.polls) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_QUEUE_POLL_MESSAGES, stats.messages) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_QUEUE_DOORBELL_IRQS, stats.irqs) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_QUEUE_SPURIOUS, stats.spurious) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_QUEUE_SLEEPS, stats.sleeps) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_QUEUE_WINDOW, stats.window_ns) ?:
	       pcn_nl_put_u64(skb, POPCORN_A_QUEUE_WINDOW_HITS, stats.window_hits) ?:
	       nla_put_u32(skb, POPCORN_A_QUEUE_CPU, stats.cpu) ?:
	       nla_put_u32(skb, POPCORN_A_QUEUE_IRQ, stats.irq);
}

int pcn_nl_queue_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct pcn_shape shape;
	int ret = pcn_nl_dump_shape(cb, &shape);

	return ret ?: pcn_nl_dump(skb, cb, POPCORN_CMD_QUEUE_GET, PCN_SHM_QUEUES, pcn_nl_fill_queue);
}

static_assert(PCN_SHM_BUCKETS == POPCORN_LATENCY_BUCKETS);
static_assert(PCN_SHM_STAGE_DELIVER == (int)POPCORN_LATENCY_STAGE_DELIVER);
static_assert(PCN_SHM_STAGE_DOORBELL == (int)POPCORN_LATENCY_STAGE_DOORBELL);
static_assert(PCN_SHM_STAGE_POLL == (int)POPCORN_LATENCY_STAGE_POLL);

static int pcn_nl_fill_latency(struct sk_buff *skb, u32 at)
{
	u32 stage = at % PCN_SHM_STAGES, queue = at / PCN_SHM_STAGES % PCN_SHM_QUEUES;
	u32 pair = at / PCN_SHM_STAGES / PCN_SHM_QUEUES;
	u32 dst = pair % POPCORN_NODES_MAX, src = pair / POPCORN_NODES_MAX;
	u64 buckets[PCN_SHM_BUCKETS] = {};
	u32 i;
	int ret;

	if (src == dst)
		return -ENOENT;
	pcn_latency_read(src, dst, queue, stage, buckets);
	if (!memchr_inv(buckets, 0, sizeof(buckets)))
		return -ENOENT;
	ret = nla_put_u32(skb, POPCORN_A_LATENCY_SRC, src) ?:
	      nla_put_u32(skb, POPCORN_A_LATENCY_DST, dst) ?:
	      nla_put_u32(skb, POPCORN_A_LATENCY_QUEUE, queue) ?:
	      nla_put_u32(skb, POPCORN_A_LATENCY_STAGE, stage);
	for (i = 0; i < PCN_SHM_BUCKETS && !ret; i++)
		ret = pcn_nl_put_u64(skb, POPCORN_A_LATENCY_COUNT, buckets[i]);
	return ret;
}

int pcn_nl_latency_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct pcn_shape shape;
	int ret = pcn_nl_dump_shape(cb, &shape);

	return ret ?: pcn_nl_dump(skb, cb, POPCORN_CMD_LATENCY_GET,
				  POPCORN_NODES_MAX * POPCORN_NODES_MAX * PCN_SHM_QUEUES * PCN_SHM_STAGES,
				  pcn_nl_fill_latency);
}
