// SPDX-License-Identifier: GPL-2.0
/*
 * popcorn_net.ko: a network interface on one Ethernet segment with all other kernels that have it.
 *
 *	ip link add popcorn0 type popcorn
 */
#include <linux/etherdevice.h>
#include <linux/module.h>
#include <net/rtnetlink.h>

#include "../uapi/popcorn_link.h"
#include "link.h"

/* Under rtnl. */
static LIST_HEAD(pcn_main_links);

static const struct nla_policy pcn_main_policy[IFLA_POPCORN_MAX + 1] = {
	[IFLA_POPCORN_NODE] = NLA_POLICY_MAX(NLA_U32, POPCORN_NODES_MAX - 1),
};

/* Locally administered, and the same each time for the same node of the same machine. */
static void pcn_main_make_address(const struct pcn_place *place, u8 *address)
{
	address[0] = 0x02;
	address[1] = 0x50;
	address[2] = place->machine >> 16;
	address[3] = place->machine >> 8;
	address[4] = place->machine;
	address[5] = place->node;
}

static int pcn_main_validate(struct nlattr *tb[], struct nlattr *data[], struct netlink_ext_ack *extack)
{
	if (!tb[IFLA_ADDRESS])
		return 0;
	if (nla_len(tb[IFLA_ADDRESS]) != ETH_ALEN) {
		NL_SET_ERR_MSG_ATTR(extack, tb[IFLA_ADDRESS], "a MAC address has six bytes");
		return -EINVAL;
	}
	if (!is_valid_ether_addr(nla_data(tb[IFLA_ADDRESS]))) {
		NL_SET_ERR_MSG_ATTR(extack, tb[IFLA_ADDRESS],
				    "not the MAC address of an interface: it is zero or a group's");
		return -EADDRNOTAVAIL;
	}
	return 0;
}

static int pcn_main_find_place(struct nlattr *data[], struct pcn_place *place, struct netlink_ext_ack *extack)
{
	if (data && data[IFLA_POPCORN_NODE]) {
		if (!pcn_service_place_at(place, nla_get_u32(data[IFLA_POPCORN_NODE])))
			return 0;
		NL_SET_ERR_MSG_ATTR(extack, data[IFLA_POPCORN_NODE], "that node is not in this kernel");
		return -ENODEV;
	}
	if (!pcn_service_place(place))
		return 0;
	NL_SET_ERR_MSG(extack, "this kernel is on no fabric");
	return -ENODEV;
}

static int pcn_main_add(struct net_device *dev, struct nlattr *tb[], struct nlattr *data[],
			struct netlink_ext_ack *extack)
{
	struct pcn_link *link = netdev_priv(dev), *other;
	struct pcn_place place;
	u8 address[ETH_ALEN];
	int ret;

	/* Whoever made a user namespace is root in it, and has no business among the kernels. */
	if (!capable(CAP_NET_ADMIN)) {
		NL_SET_ERR_MSG(extack, "takes CAP_NET_ADMIN in the initial user namespace");
		return -EPERM;
	}
	if (dev->num_tx_queues > PCN_SHM_QUEUES || dev->num_rx_queues > PCN_SHM_QUEUES) {
		NL_SET_ERR_MSG(extack, "more queues than a node can have");
		return -EINVAL;
	}
	ret = pcn_main_find_place(data, &place, extack);
	if (ret)
		return ret;
	list_for_each_entry(other, &pcn_main_links, list)
		if (other->node == place.node) {
			NL_SET_ERR_MSG(extack, "this node has a link already");
			return -EEXIST;
		}
	link->node = place.node;
	link->node_given = data && data[IFLA_POPCORN_NODE];
	link->machine = place.machine;
	if (!tb[IFLA_ADDRESS]) {
		pcn_main_make_address(&place, address);
		eth_hw_addr_set(dev, address);
	}
	link->nr_queues = min3(place.queues, dev->num_tx_queues, dev->num_rx_queues);
	ret = netif_set_real_num_queues(dev, link->nr_queues, link->nr_queues) ?: register_netdevice(dev);
	if (ret)
		return ret;
	list_add(&link->list, &pcn_main_links);
	return 0;
}

static void pcn_main_del(struct net_device *dev, struct list_head *head)
{
	struct pcn_link *link = netdev_priv(dev);

	list_del(&link->list);
	unregister_netdevice_queue(dev, head);
}

static int pcn_main_change(struct net_device *dev, struct nlattr *tb[], struct nlattr *data[],
			   struct netlink_ext_ack *extack)
{
	struct pcn_link *link = netdev_priv(dev);

	if (data && data[IFLA_POPCORN_NODE] && nla_get_u32(data[IFLA_POPCORN_NODE]) != link->node) {
		NL_SET_ERR_MSG_ATTR(extack, data[IFLA_POPCORN_NODE], "a link stays with its node");
		return -EOPNOTSUPP;
	}
	return 0;
}

static size_t pcn_main_get_size(const struct net_device *dev)
{
	return nla_total_size(sizeof(u32)) + /* IFLA_POPCORN_NODE */
	       nla_total_size(sizeof(u32)) + /* IFLA_POPCORN_MACHINE */
	       nla_total_size(sizeof(u32));  /* IFLA_POPCORN_PEERS */
}

static int pcn_main_fill_info(struct sk_buff *skb, const struct net_device *dev)
{
	struct pcn_link *link = netdev_priv(dev);

	return nla_put_u32(skb, IFLA_POPCORN_NODE, link->node) ?:
	       nla_put_u32(skb, IFLA_POPCORN_MACHINE, link->machine) ?:
	       nla_put_u32(skb, IFLA_POPCORN_PEERS, READ_ONCE(link->peers));
}

static unsigned int pcn_main_num_queues(void)
{
	return PCN_SHM_QUEUES;
}

PCN_RTNL_NEWLINK(pcn_main_newlink, pcn_main_add)

static struct rtnl_link_ops pcn_main_link_ops = {
	.kind = "popcorn",
	.priv_size = sizeof(struct pcn_link),
	.setup = pcn_link_setup,
	.maxtype = IFLA_POPCORN_MAX,
	.policy = pcn_main_policy,
	.validate = pcn_main_validate,
	.newlink = pcn_main_newlink,
	.changelink = pcn_main_change,
	.dellink = pcn_main_del,
	.get_size = pcn_main_get_size,
	.fill_info = pcn_main_fill_info,
	.get_num_tx_queues = pcn_main_num_queues,
	.get_num_rx_queues = pcn_main_num_queues,
};

static int __init pcn_main_init(void)
{
	return rtnl_link_register(&pcn_main_link_ops);
}

static void __exit pcn_main_exit(void)
{
	rtnl_link_unregister(&pcn_main_link_ops);
}

module_init(pcn_main_init);
module_exit(pcn_main_exit);
MODULE_DESCRIPTION("Popcorn: a network between Linux kernels on one machine");
MODULE_LICENSE("GPL");
MODULE_VERSION(PCN_VERSION);
MODULE_ALIAS_RTNL_LINK("popcorn");
