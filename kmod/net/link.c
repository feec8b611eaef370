// SPDX-License-Identifier: GPL-2.0
/*
 * The network interface. Up, it has the service, and its carrier is on while another node has it too.
 */
#include <linux/etherdevice.h>
#include <linux/netdevice.h>

#include "link.h"
#include "receive.h"
#include "table.h"
#include "transmit.h"
#include "wire.h"
#include "xdp.h"

/* Nodes that have no room stay due: room comes here again. With bottom halves disabled. */
static void pcn_link_say_due(struct pcn_link *link)
{
	struct pcn_net_hello hello = {
		.kind = PCN_NET_HELLO,
		.mtu = cpu_to_le32(READ_ONCE(link->dev->mtu)),
	};
	u32 id;

	ether_addr_copy(hello.address, link->dev->dev_addr);
	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		if (!test_and_clear_bit(id, &link->hello_due))
			continue;
		if (pcn_service_send(&link->service, id, &hello, sizeof(hello)) == -EAGAIN)
			set_bit(id, &link->hello_due);
	}
}

/**
 * pcn_link_say_hello() - tell every peer what it should know of this link
 * @link: the link
 */
void pcn_link_say_hello(struct pcn_link *link)
{
	u32 id;

	for (id = 0; id < POPCORN_NODES_MAX; id++)
		if (READ_ONCE(link->peers) & BIT(id))
			set_bit(id, &link->hello_due);
	local_bh_disable();
	pcn_link_say_due(link);
	local_bh_enable();
}

static void pcn_link_peer_up(struct pcn_service *service, u32 node)
{
	struct pcn_link *link = pcn_link_of(service);

	set_bit(node, &link->peers);
	set_bit(node, &link->hello_due);
	pcn_link_say_due(link);
	netif_carrier_on(link->dev);
}

static void pcn_link_peer_down(struct pcn_service *service, u32 node)
{
	struct pcn_link *link = pcn_link_of(service);

	clear_bit(node, &link->peers);
	clear_bit(node, &link->hello_due);
	pcn_table_forget(link, node);
	/* What waits for it waits no longer. */
	pcn_transmit_resume(link);
	if (!READ_ONCE(link->peers))
		netif_carrier_off(link->dev);
}

static void pcn_link_room(struct pcn_service *service, u32 node)
{
	struct pcn_link *link = pcn_link_of(service);

	if (unlikely(READ_ONCE(link->hello_due)))
		pcn_link_say_due(link);
	pcn_transmit_resume(link);
}

static int pcn_link_open(struct net_device *dev)
{
	struct pcn_link *link = netdev_priv(dev);
	int ret;

	link->service.name = PCN_NET_SERVICE;
	link->service.version = PCN_NET_VERSION;
	link->service.ring_slots = link->ring_slots;
	link->service.recv = pcn_receive_message;
	link->service.peer_up = pcn_link_peer_up;
	link->service.peer_down = pcn_link_peer_down;
	link->service.room = pcn_link_room;
	ret = pcn_xdp_open(link);
	if (ret)
		return ret;
	/* Before the first peer is up, which may be in the next line. */
	netif_tx_start_all_queues(dev);
	if (link->node_given)
		ret = pcn_service_register_at(&link->service, link->node);
	else
		ret = pcn_service_register(&link->service);
	if (ret) {
		netif_tx_stop_all_queues(dev);
		pcn_xdp_close(link);
	}
	return ret;
}

static int pcn_link_stop(struct net_device *dev)
{
	struct pcn_link *link = netdev_priv(dev);

	netif_tx_disable(dev);
	pcn_service_unregister(&link->service); /* from here on nobody calls back */
	netif_carrier_off(dev);
	pcn_transmit_drop_held(link);
	pcn_table_clear(link);
	pcn_receive_free_pages(link);
	pcn_xdp_close(link);
	link->peers = 0;
	link->hello_due = 0;
	return 0;
}

static int pcn_link_init(struct net_device *dev)
{
	struct pcn_link *link = netdev_priv(dev);

	link->counts = netdev_alloc_pcpu_stats(struct pcn_counts);
	return link->counts ? 0 : -ENOMEM;
}

static void pcn_link_free(struct net_device *dev)
{
	struct pcn_link *link = netdev_priv(dev);

	free_percpu(link->counts);
}

static void pcn_link_set_rx_mode(struct net_device *dev)
{
	pcn_receive_want(netdev_priv(dev));
}

static int pcn_link_set_address(struct net_device *dev, void *address)
{
	int ret = eth_mac_addr(dev, address);

	if (!ret)
		pcn_link_say_hello(netdev_priv(dev));
	return ret;
}

static void pcn_link_get_stats(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	pcn_count_sum(netdev_priv(dev), stats);
}

static const struct net_device_ops pcn_link_ops = {
	.ndo_init = pcn_link_init,
	.ndo_open = pcn_link_open,
	.ndo_stop = pcn_link_stop,
	.ndo_start_xmit = pcn_transmit_start,
	.ndo_set_rx_mode = pcn_link_set_rx_mode,
	.ndo_set_mac_address = pcn_link_set_address,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_get_stats64 = pcn_link_get_stats,
	.ndo_bpf = pcn_xdp_command,
	.ndo_xdp_xmit = pcn_xdp_transmit,
};

static const struct device_type pcn_link_type = {
	.name = "popcorn",
};

/**
 * pcn_link_setup() - make a net device a link
 * @dev: the device
 */
void pcn_link_setup(struct net_device *dev)
{
	struct pcn_link *link = netdev_priv(dev);

	ether_setup(dev);
	link->dev = dev;
	link->ring_slots = PCN_LINK_RING_SLOTS;
	INIT_LIST_HEAD(&link->list);
	spin_lock_init(&link->learned_lock);
	dev->netdev_ops = &pcn_link_ops;
	dev->ethtool_ops = &pcn_ethtool_ops;
	dev->needs_free_netdev = true;
	dev->priv_destructor = pcn_link_free;
	dev->max_mtu = PCN_LINK_MTU_MAX;
	dev->priv_flags |= IFF_LIVE_ADDR_CHANGE | IFF_UNICAST_FLT;
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	dev->hw_features = NETIF_F_SG | NETIF_F_FRAGLIST | NETIF_F_HW_CSUM | NETIF_F_HIGHDMA | NETIF_F_TSO |
			   NETIF_F_TSO_ECN | NETIF_F_TSO6;
	dev->features = dev->hw_features | NETIF_F_RXCSUM;
	dev->vlan_features = dev->features;
	pcn_xdp_set_features(dev);
	SET_NETDEV_DEVTYPE(dev, &pcn_link_type);
	netif_carrier_off(dev);
}
