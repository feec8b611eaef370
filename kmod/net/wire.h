/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What links send each other. Little-endian, fixed widths: the other kernel may be of another version or
 * word size. Who changes it raises PCN_NET_VERSION; links of different versions are no peers.
 */
#ifndef _PCN_WIRE_H
#define _PCN_WIRE_H

#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#include "../uapi/popcorn_shm.h"

#define PCN_NET_SERVICE		"popcorn.net"
#define PCN_NET_VERSION		1

#define PCN_NET_FRAME_MAX	(ETH_HLEN + 2 * 4 + 65536)	/* two VLAN tags and a whole GSO packet */

enum pcn_net_kind {
	PCN_NET_FRAME = 1,
	PCN_NET_HELLO = 2,
};

/**
 * struct pcn_net_frame - goes with an Ethernet frame, which is the body
 * @kind: PCN_NET_FRAME
 * @reserved: 0
 * @offload: what is left to do to the frame, if anybody wants it on a wire: checksum and segmentation. Counts
 *	from the start of the frame, as in virtio-net
 */
struct pcn_net_frame {
	__u8 kind;
	__u8 reserved[5];
	struct virtio_net_hdr offload;
};

/**
 * struct pcn_net_hello - what a link tells each peer about itself, when they meet and when it changes
 * @kind: PCN_NET_HELLO
 * @reserved: 0
 * @address: MAC address
 * @mtu: of the link there
 * @reserved2: 0
 */
struct pcn_net_hello {
	__u8 kind;
	__u8 reserved;
	__u8 address[ETH_ALEN];
	__le32 mtu;
	__u32 reserved2;
};

static_assert(sizeof(struct pcn_net_frame) == 16);
static_assert(offsetof(struct pcn_net_frame, offload) == 6);
static_assert(sizeof(struct virtio_net_hdr) == 10);
static_assert(sizeof(struct pcn_net_hello) == 16);
static_assert(offsetof(struct pcn_net_hello, mtu) == 8);
static_assert(sizeof(struct pcn_net_frame) <= PCN_SHM_HEAD_BYTES);
static_assert(sizeof(struct pcn_net_hello) <= PCN_SHM_INLINE_BYTES);
static_assert(PCN_NET_FRAME_MAX <= PCN_SHM_BODY_BYTES);

#endif
