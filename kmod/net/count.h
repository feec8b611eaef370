/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_COUNT_H
#define _PCN_COUNT_H

#include <linux/if_link.h>
#include <linux/percpu.h>
#include <linux/u64_stats_sync.h>

struct pcn_link;

/*
 * What a link counts; X(name, how it counts). Those marked DROP are frames that got lost, each with its
 * reason; ethtool -S shows all of them under their names. New ones go to the end: their numbers are the
 * reasons of the tracepoint popcorn_net_drop (docs/tracepoints.md).
 */
#define PCN_COUNTS(X) \
	X(rx_packets, OK)	/* delivered to this kernel */ \
	X(rx_bytes, OK) \
	X(rx_multicast, OK) \
	X(tx_packets, OK)	/* given to the message layer for one peer at least */ \
	X(tx_bytes, OK) \
	X(tx_copies, OK)	/* the same, once for each peer */ \
	X(tx_flooded, OK)	/* went to all peers: nobody has the address, or it is a group's */ \
	X(tx_stopped, OK)	/* a channel was full: the queue waited */ \
	X(rx_hello, OK)		/* peers told their address */ \
	X(rx_learned, OK)	/* addresses found behind peers */ \
	X(rx_filtered, OK)	/* for somebody else on the segment: the sender did not know where that is */ \
	X(rx_filtered_group, OK)	/* for a group that this kernel is not in */ \
	X(rx_xdp_drop, OK)	/* an XDP program dropped or kept it */ \
	X(rx_xdp_redirect, OK)	/* or sent it elsewhere */ \
	X(tx_xdp, OK)		/* sent by one */ \
	X(tx_no_peer, DROP)	/* there was nobody to send it to */ \
	X(tx_peer_gone, DROP)	/* its receiver went while it waited */ \
	X(tx_too_long, DROP) \
	X(tx_bad_offload, DROP)	/* a kind of segmentation that cannot be told */ \
	X(tx_xdp_full, DROP)	/* no room, and what has no sk_buff cannot wait */ \
	X(rx_no_memory, DROP) \
	X(rx_xdp_bad, DROP)	/* an XDP program failed */ \
	X(rx_too_long, DROP)	/* longer than this link's MTU */ \
	X(rx_bad_message, BAD)	/* no frame and no hello, or of a wrong length */ \
	X(rx_bad_length, BAD)	/* a frame shorter or longer than can be */ \
	X(rx_bad_offload, BAD)	/* checksum or segmentation fields that make no sense */ \
	X(rx_bad_hello, BAD)	/* an address that cannot be, or that is somebody else's */

#define PCN_COUNT_ID(name, kind)	PCN_COUNT_##name,
enum pcn_count {
	PCN_COUNTS(PCN_COUNT_ID)
	PCN_COUNT_NR,
};

#define PCN_COUNT_NO_PEER	U32_MAX		/* it was for nobody in particular */

/**
 * struct pcn_counts - a link's counters, one set for each CPU
 * @syncp: for readers on 32-bit machines
 * @value: by enum pcn_count
 */
struct pcn_counts {
	struct u64_stats_sync syncp;
	u64_stats_t value[PCN_COUNT_NR];
};

extern const char pcn_count_names[PCN_COUNT_NR][32];

void pcn_count_add(struct pcn_link *link, enum pcn_count what, u64 nr);
void pcn_count_drop(struct pcn_link *link, enum pcn_count reason, u32 queue, u32 peer, u32 len);
void pcn_count_frame(struct pcn_link *link, enum pcn_count packets, enum pcn_count bytes, u64 len);
void pcn_count_read(const struct pcn_link *link, u64 values[PCN_COUNT_NR]);
void pcn_count_sum(const struct pcn_link *link, struct rtnl_link_stats64 *sum);

#endif
