/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Attributes of the rtnetlink link kind `popcorn` (IFLA_INFO_DATA). Append; never renumber.
 */
#ifndef _UAPI_POPCORN_LINK_H
#define _UAPI_POPCORN_LINK_H

/**
 * enum popcorn_link_attribute - what a link has besides what every interface has
 * @IFLA_POPCORN_UNSPEC: none
 * @IFLA_POPCORN_NODE: u32, node that it belongs to; when it is made: one of the nodes in this kernel, for tests
 *	on loopback nodes. This kernel's own if it is not given
 * @IFLA_POPCORN_MACHINE: u32, what the default MAC address is made from, the same in all kernels
 * @IFLA_POPCORN_PEERS: u32, nodes (bit by id) on the other ends
 * @__IFLA_POPCORN_MAX: one more than the last
 */
enum popcorn_link_attribute {
	IFLA_POPCORN_UNSPEC,
	IFLA_POPCORN_NODE,
	IFLA_POPCORN_MACHINE,
	IFLA_POPCORN_PEERS,
	__IFLA_POPCORN_MAX,
};

#define IFLA_POPCORN_MAX	(__IFLA_POPCORN_MAX - 1)

#endif
