/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What popcorn.vsock messages look like. Kernels of other versions and word sizes read them.
 */
#ifndef _PCN_VSOCK_WIRE_H
#define _PCN_VSOCK_WIRE_H

#include <linux/build_bug.h>
#include <linux/types.h>

#include "popcorn.h"

#define PCN_WIRE_SERVICE	"popcorn.vsock"
#define PCN_WIRE_VERSION	1

/* The primary, node 0, is VMADDR_CID_HOST, and node n is the n-th after it. So no message carries a CID. */
#define PCN_WIRE_CID(node)	(VMADDR_CID_HOST + (node))
#define PCN_WIRE_NODE(cid)	((cid) - VMADDR_CID_HOST)	/* for a CID below VMADDR_CID_HOST: too large */

/*
 * Nothing but itself: all connections that were there before it are over, on the sender's side already. It is
 * the first message after the sender reset them for a reason that the receiver does not know.
 */
#define PCN_WIRE_OP_RESET	VIRTIO_VSOCK_OP_INVALID

#define PCN_WIRE_BYTES_MAX	(64 << 10)	/* payload of one message, virtio's limit */

/**
 * struct pcn_wire_head - what each message begins with
 * @src_port: of the sender
 * @dst_port: of the receiver
 * @len: bytes of payload; not 0 if and only if @op is VIRTIO_VSOCK_OP_RW
 * @flags: depend on @op, as in struct virtio_vsock_hdr
 * @buf_alloc: how much the sender buffers for this connection
 * @fwd_cnt: how much of it went to its reader so far
 * @type: enum virtio_vsock_type
 * @op: enum virtio_vsock_op, or PCN_WIRE_OP_RESET
 *
 * The payload follows, or is the message's body if it does not fit the slot.
 */
struct pcn_wire_head {
	__le32 src_port;
	__le32 dst_port;
	__le32 len;
	__le32 flags;
	__le32 buf_alloc;
	__le32 fwd_cnt;
	__le16 type;
	__le16 op;
};

#define PCN_WIRE_INLINE_BYTES	(PCN_SHM_INLINE_BYTES - sizeof(struct pcn_wire_head))

static_assert(sizeof(struct pcn_wire_head) == 28);
static_assert(sizeof(struct pcn_wire_head) <= PCN_SHM_HEAD_BYTES);
static_assert(PCN_WIRE_BYTES_MAX <= PCN_SHM_BODY_BYTES);

#endif
