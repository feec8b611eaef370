// SPDX-License-Identifier: GPL-2.0
#include <linux/ethtool.h>
#include <linux/log2.h>

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

/*
 * A doorbell is spared by looking on for a while after the last message, so that while is what there is to
 * set. It is the node's: all that receives there shares it.
 */
static int pcn_ethtool_get_coalesce(struct net_device *dev, struct ethtool_coalesce *coalesce,
				    struct kernel_ethtool_coalesce *kernel_coalesce,
				    struct netlink_ext_ack *extack)
{
	struct pcn_link *link = netdev_priv(dev);
	int ret = pcn_service_window_at(link->node, &coalesce->rx_coalesce_usecs);

	if (ret)
		NL_SET_ERR_MSG(extack, "this link's node is on no fabric");
	coalesce->use_adaptive_rx_coalesce = true;
	return ret;
}

static int pcn_ethtool_set_coalesce(struct net_device *dev, struct ethtool_coalesce *coalesce,
				    struct kernel_ethtool_coalesce *kernel_coalesce,
				    struct netlink_ext_ack *extack)
{
	struct pcn_link *link = netdev_priv(dev);
	int ret;

	if (!coalesce->use_adaptive_rx_coalesce) {
		NL_SET_ERR_MSG(extack, "the polling window always adapts; rx-usecs 0 does without one");
		return -EOPNOTSUPP;
	}
	ret = pcn_service_set_window_at(link->node, coalesce->rx_coalesce_usecs);
	if (ret == -ERANGE)
		NL_SET_ERR_MSG(extack, "rx-usecs, the longest polling window, is a second at most");
	else if (ret)
		NL_SET_ERR_MSG(extack, "this link's node is on no fabric");
	return ret;
}

/* Those of the way here are the peers'. */
static void pcn_ethtool_get_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
				      struct kernel_ethtool_ringparam *kernel_ring,
				      struct netlink_ext_ack *extack)
{
	struct pcn_link *link = netdev_priv(dev);

	ring->tx_max_pending = PCN_LINK_RING_SLOTS_MAX;
	ring->tx_pending = link->ring_slots;
}

/* Rings grow when they turn out full, and never shrink while the peer lives. */
static int pcn_ethtool_set_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
				     struct kernel_ethtool_ringparam *kernel_ring,
				     struct netlink_ext_ack *extack)
{
	struct pcn_link *link = netdev_priv(dev);
	struct pcn_place place;

	if (!is_power_of_2(ring->tx_pending)) {
		NL_SET_ERR_MSG(extack, "tx, the messages that a ring holds, must be a power of two");
		return -EINVAL;
	}
	if (pcn_service_place_at(&place, link->node)) {
		NL_SET_ERR_MSG(extack, "this link's node is on no fabric");
		return -ENODEV;
	}
	if (ring->tx_pending < place.ring_slots) {
		NL_SET_ERR_MSG(extack, "tx is less than every ring of this fabric has from the start");
		return -EINVAL;
	}
	link->ring_slots = ring->tx_pending;
	WRITE_ONCE(link->service.ring_slots, ring->tx_pending);
	return 0;
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
	.supported_coalesce_params = ETHTOOL_COALESCE_RX_USECS | ETHTOOL_COALESCE_USE_ADAPTIVE_RX,
	.get_drvinfo = pcn_ethtool_get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_sset_count = pcn_ethtool_get_sset_count,
	.get_strings = pcn_ethtool_get_strings,
	.get_ethtool_stats = pcn_ethtool_get_stats,
	.get_coalesce = pcn_ethtool_get_coalesce,
	.set_coalesce = pcn_ethtool_set_coalesce,
	.get_ringparam = pcn_ethtool_get_ringparam,
	.set_ringparam = pcn_ethtool_set_ringparam,
	.get_channels = pcn_ethtool_get_channels,
	.set_channels = pcn_ethtool_set_channels,
	.get_link_ksettings = pcn_ethtool_get_link_ksettings,
	.get_ts_info = ethtool_op_get_ts_info,
};
