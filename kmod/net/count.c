// SPDX-License-Identifier: GPL-2.0
#include <linux/cpumask.h>

#include "count.h"
#include "link.h"
#include "trace.h"

#define PCN_COUNT_NAME(name, kind)	#name,
const char pcn_count_names[PCN_COUNT_NR][32] = {
	PCN_COUNTS(PCN_COUNT_NAME)
};

enum pcn_count_kind {
	PCN_COUNT_KIND_OK,
	PCN_COUNT_KIND_DROP,
	PCN_COUNT_KIND_BAD,
};

#define PCN_COUNT_KIND(name, kind)	PCN_COUNT_KIND_##kind,
static const u8 pcn_count_kinds[PCN_COUNT_NR] = {
	PCN_COUNTS(PCN_COUNT_KIND)
};

static bool pcn_count_is_rx(enum pcn_count what)
{
	return !strncmp(pcn_count_names[what], "rx_", 3);
}

/**
 * pcn_count_add() - count
 * @link: where
 * @what: which
 * @nr: how many
 *
 * With bottom halves disabled.
 */
void pcn_count_add(struct pcn_link *link, enum pcn_count what, u64 nr)
{
	struct pcn_counts *counts = this_cpu_ptr(link->counts);

	u64_stats_update_begin(&counts->syncp);
	u64_stats_add(&counts->value[what], nr);
	u64_stats_update_end(&counts->syncp);
}

/**
 * pcn_count_drop() - count something that ends here, and trace it
 * @link: where
 * @reason: which
 * @queue: the link's
 * @peer: node that it came from or was for, or PCN_COUNT_NO_PEER
 * @len: its bytes
 *
 * With bottom halves disabled.
 */
void pcn_count_drop(struct pcn_link *link, enum pcn_count reason, u32 queue, u32 peer, u32 len)
{
	pcn_count_add(link, reason, 1);
	if (trace_popcorn_net_drop_enabled())
		trace_popcorn_net_drop(link->dev->ifindex, link->node, peer, queue, pcn_count_is_rx(reason), reason,
				       len, rdtsc());
}

/**
 * pcn_count_frame() - count a frame and its bytes
 * @link: where
 * @packets: which
 * @bytes: likewise
 * @len: of the frame
 */
void pcn_count_frame(struct pcn_link *link, enum pcn_count packets, enum pcn_count bytes, u64 len)
{
	struct pcn_counts *counts = this_cpu_ptr(link->counts);

	u64_stats_update_begin(&counts->syncp);
	u64_stats_inc(&counts->value[packets]);
	u64_stats_add(&counts->value[bytes], len);
	u64_stats_update_end(&counts->syncp);
}

/**
 * pcn_count_read() - sum over the CPUs
 * @link: where
 * @values: filled
 */
void pcn_count_read(const struct pcn_link *link, u64 values[PCN_COUNT_NR])
{
	u64 of_cpu[PCN_COUNT_NR];
	unsigned int start, i;
	int cpu;

	memset(values, 0, PCN_COUNT_NR * sizeof(*values));
	for_each_possible_cpu(cpu) {
		const struct pcn_counts *counts = per_cpu_ptr(link->counts, cpu);

		do {
			start = u64_stats_fetch_begin(&counts->syncp);
			for (i = 0; i < PCN_COUNT_NR; i++)
				of_cpu[i] = u64_stats_read(&counts->value[i]);
		} while (u64_stats_fetch_retry(&counts->syncp, start));
		for (i = 0; i < PCN_COUNT_NR; i++)
			values[i] += of_cpu[i];
	}
}

/**
 * pcn_count_sum() - as every network interface tells it
 * @link: where
 * @sum: filled
 */
void pcn_count_sum(const struct pcn_link *link, struct rtnl_link_stats64 *sum)
{
	u64 values[PCN_COUNT_NR];
	unsigned int i;

	pcn_count_read(link, values);
	sum->rx_packets = values[PCN_COUNT_rx_packets];
	sum->rx_bytes = values[PCN_COUNT_rx_bytes];
	sum->tx_packets = values[PCN_COUNT_tx_packets];
	sum->tx_bytes = values[PCN_COUNT_tx_bytes];
	sum->multicast = values[PCN_COUNT_rx_multicast];
	sum->tx_carrier_errors = values[PCN_COUNT_tx_no_peer] + values[PCN_COUNT_tx_peer_gone];
	sum->rx_length_errors = values[PCN_COUNT_rx_bad_length] + values[PCN_COUNT_rx_too_long];
	for (i = 0; i < PCN_COUNT_NR; i++) {
		bool rx = pcn_count_is_rx(i);

		if (pcn_count_kinds[i] == PCN_COUNT_KIND_BAD)
			sum->rx_errors += values[i];
		else if (pcn_count_kinds[i] == PCN_COUNT_KIND_DROP && rx)
			sum->rx_dropped += values[i];
		else if (pcn_count_kinds[i] == PCN_COUNT_KIND_DROP)
			sum->tx_dropped += values[i];
	}
}
