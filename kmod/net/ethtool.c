// SPDX-License-Identifier: GPL-2.0
#include <linux/ethtool.h>

#include "link.h"

static void pcn_ethtool_get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, "popcorn", sizeof(info->driver));
	strscpy(info->version, PCN_VERSION, sizeof(info->version));
}

static int pcn_ethtool_get_sset_count(struct net_device *dev, int sset)
{
	return sset == ETH_SS_STATS ? PCN_COUNT_NR : -EOPNOTSUPP;
}

static void pcn_ethtool_get_strings(struct net_device *dev, u32 sset, u8 *data)
{
	static_assert(sizeof(pcn_count_names[0]) == ETH_GSTRING_LEN);
	if (sset == ETH_SS_STATS)
		memcpy(data, pcn_count_names, sizeof(pcn_count_names));
}

static void pcn_ethtool_get_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	pcn_count_read(netdev_priv(dev), data);
}

static void pcn_ethtool_get_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct pcn_link *link = netdev_priv(dev);

	channels->max_combined = link->nr_queues;
	channels->combined_count = dev->real_num_tx_queues;
}

static int pcn_ethtool_set_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	if (!channels->combined_count)
		return -EINVAL;
	return netif_set_real_num_queues(dev, channels->combined_count, channels->combined_count);
}

/* Memory has no line rate. */
static int pcn_ethtool_get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *settings)
{
	settings->base.speed = SPEED_UNKNOWN;
	settings->base.duplex = DUPLEX_FULL;
	settings->base.port = PORT_OTHER;
	settings->base.autoneg = AUTONEG_DISABLE;
	return 0;
}

const struct ethtool_ops pcn_ethtool_ops = {
	.get_drvinfo = pcn_ethtool_get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_sset_count = pcn_ethtool_get_sset_count,
	.get_strings = pcn_ethtool_get_strings,
	.get_ethtool_stats = pcn_ethtool_get_stats,
	.get_channels = pcn_ethtool_get_channels,
	.set_channels = pcn_ethtool_set_channels,
	.get_link_ksettings = pcn_ethtool_get_link_ksettings,
	.get_ts_info = ethtool_op_get_ts_info,
};
