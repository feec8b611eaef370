// SPDX-License-Identifier: GPL-2.0
/*
 * popcorn_vsock.ko: AF_VSOCK between kernels. The protocol - connections, credit, records - is that of the
 * kernel's own virtio transports, in vmw_vsock_virtio_transport_common; peer.c carries its packets.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/virtio_vsock.h>
#include <net/af_vsock.h>

#include "peer.h"
#include "transport.h"

/**
 * struct pcn_transport_batch - connections to reset
 * @cid: whose
 * @nr: how many of @sk
 * @sk: their sockets, held
 */
struct pcn_transport_batch {
	u32 cid;
	u32 nr;
	struct sock *sk[32];
};

static DEFINE_MUTEX(pcn_transport_mutex);	/* for the batch, which callbacks find no other way */
static struct pcn_transport_batch pcn_transport_batch;

static int pcn_transport_send_pkt(struct sk_buff *skb PCN_VSOCK_NET)
{
	return pcn_peer_send(skb);
}

static int pcn_transport_cancel_pkt(struct vsock_sock *vsk)
{
	pcn_peer_cancel(vsk);
	return 0;
}

static bool pcn_transport_stream_allow(PCN_VSOCK_SK u32 cid, u32 port)
{
	return pcn_vsock_global(vsk);
}

static bool pcn_transport_seqpacket_allow(PCN_VSOCK_SK u32 cid)
{
	return pcn_vsock_global(vsk);
}

/* A connection that was reset looks open, see pcn_transport_reset_one(), even once its error was asked for. */
static int pcn_transport_check_reset(struct vsock_sock *vsk)
{
	struct sock *sk = sk_vsock(vsk);

	if (!sock_flag(sk, SOCK_DONE))
		return 0;
	return -READ_ONCE(sk->sk_err) ?: -EPIPE;
}

static int pcn_transport_notify_send_init(struct vsock_sock *vsk, struct vsock_transport_send_notify_data *data)
{
	return pcn_transport_check_reset(vsk);
}

static int pcn_transport_notify_send_pre_block(struct vsock_sock *vsk,
					       struct vsock_transport_send_notify_data *data)
{
	return pcn_transport_check_reset(vsk);
}

/*
 * Readers of records are not told of an error unless there is a record. So there is one, an empty one, for as
 * long as there is an error.
 */
static bool pcn_transport_only_error(struct vsock_sock *vsk)
{
	return pcn_transport_check_reset(vsk) == -ECONNRESET && !virtio_transport_seqpacket_has_data(vsk);
}

static u32 pcn_transport_seqpacket_has_data(struct vsock_sock *vsk)
{
	return pcn_transport_only_error(vsk) ? 1 : virtio_transport_seqpacket_has_data(vsk);
}

static ssize_t pcn_transport_seqpacket_dequeue(struct vsock_sock *vsk, struct msghdr *msg, int flags)
{
	return pcn_transport_only_error(vsk) ? 0 : virtio_transport_seqpacket_dequeue(vsk, msg, flags);
}

static struct virtio_transport pcn_transport = {
	.transport = {
		.module = THIS_MODULE,

		.get_local_cid = pcn_peer_local_cid,

		.init = virtio_transport_do_socket_init,
		.destruct = virtio_transport_destruct,
		.release = virtio_transport_release,
		.connect = virtio_transport_connect,
		.shutdown = virtio_transport_shutdown,
		.cancel_pkt = pcn_transport_cancel_pkt,

		.dgram_bind = virtio_transport_dgram_bind,
		.dgram_dequeue = virtio_transport_dgram_dequeue,
		.dgram_enqueue = virtio_transport_dgram_enqueue,
		.dgram_allow = virtio_transport_dgram_allow,

		.stream_dequeue = virtio_transport_stream_dequeue,
		.stream_enqueue = virtio_transport_stream_enqueue,
		.stream_has_data = virtio_transport_stream_has_data,
		.stream_has_space = virtio_transport_stream_has_space,
		.stream_rcvhiwat = virtio_transport_stream_rcvhiwat,
		.stream_is_active = virtio_transport_stream_is_active,
		.stream_allow = pcn_transport_stream_allow,

		.seqpacket_dequeue = pcn_transport_seqpacket_dequeue,
		.seqpacket_enqueue = virtio_transport_seqpacket_enqueue,
		.seqpacket_allow = pcn_transport_seqpacket_allow,
		.seqpacket_has_data = pcn_transport_seqpacket_has_data,

		.notify_poll_in = virtio_transport_notify_poll_in,
		.notify_poll_out = virtio_transport_notify_poll_out,
		.notify_recv_init = virtio_transport_notify_recv_init,
		.notify_recv_pre_block = virtio_transport_notify_recv_pre_block,
		.notify_recv_pre_dequeue = virtio_transport_notify_recv_pre_dequeue,
		.notify_recv_post_dequeue = virtio_transport_notify_recv_post_dequeue,
		.notify_send_init = pcn_transport_notify_send_init,
		.notify_send_pre_block = pcn_transport_notify_send_pre_block,
		.notify_send_pre_enqueue = virtio_transport_notify_send_pre_enqueue,
		.notify_send_post_enqueue = virtio_transport_notify_send_post_enqueue,
		.notify_buffer_size = virtio_transport_notify_buffer_size,

		PCN_VSOCK_MORE_OPS
	},

	.send_pkt = pcn_transport_send_pkt,
};

/**
 * pcn_transport_deliver() - hand over a packet from another node
 * @skb: taken over
 */
void pcn_transport_deliver(struct sk_buff *skb)
{
	virtio_transport_deliver_tap_pkt(skb);
	virtio_transport_recv_pkt(&pcn_transport, skb PCN_VSOCK_NO_NET);
}

/* Under the lock of the table that the socket is in. */
static void pcn_transport_collect(struct sock *sk)
{
	struct pcn_transport_batch *batch = &pcn_transport_batch;

	if (vsock_sk(sk)->remote_addr.svm_cid == batch->cid && batch->nr < ARRAY_SIZE(batch->sk)) {
		sock_hold(sk);
		batch->sk[batch->nr++] = sk;
	}
}

/* What a socket that was closed here waits for: that the other side says goodbye, too. */
static void pcn_transport_part(struct vsock_sock *vsk)
{
	struct sk_buff *skb = alloc_skb(VIRTIO_VSOCK_SKB_HEADROOM, GFP_KERNEL);
	bool stream = sk_vsock(vsk)->sk_type == SOCK_STREAM;

	if (!skb)
		return; /* it waits for a few seconds only */
	skb_reserve(skb, VIRTIO_VSOCK_SKB_HEADROOM);
	*virtio_vsock_hdr(skb) = (struct virtio_vsock_hdr) {
		.src_cid = cpu_to_le64(vsk->remote_addr.svm_cid),
		.src_port = cpu_to_le32(vsk->remote_addr.svm_port),
		.dst_cid = cpu_to_le64(pcn_peer_local_cid()),
		.dst_port = cpu_to_le32(vsk->local_addr.svm_port),
		.type = cpu_to_le16(stream ? VIRTIO_VSOCK_TYPE_STREAM : VIRTIO_VSOCK_TYPE_SEQPACKET),
		.op = cpu_to_le16(VIRTIO_VSOCK_OP_RST),
	};
	virtio_transport_recv_pkt(&pcn_transport, skb PCN_VSOCK_NO_NET);
}

/*
 * Whoever reads gets what a stream has received, and then the error instead of an end that could be taken
 * for a complete one. So the state, which would be an end at once, does not change. Nor is the peer said to
 * receive no more, which would be EPIPE to a sender who was told of no error before.
 */
static void pcn_transport_reset_one(struct sock *sk)
{
	struct vsock_sock *vsk = vsock_sk(sk);
	bool closed;

	lock_sock(sk);
	closed = vsk->close_work_scheduled;
	if (!closed) {
		sock_set_flag(sk, SOCK_DONE);
		WRITE_ONCE(vsk->peer_shutdown, vsk->peer_shutdown | SEND_SHUTDOWN);
		sk->sk_err = ECONNRESET;
		sk_error_report(sk);
	}
	release_sock(sk);
	if (closed)
		pcn_transport_part(vsk);
	/* The ports are free for another connection. */
	vsock_remove_connected(vsk);
}

/**
 * pcn_transport_reset() - end all connections with a CID, for which the other side is not there any more
 * @cid: the CID
 *
 * May sleep.
 */
void pcn_transport_reset(u32 cid)
{
	struct pcn_transport_batch *batch = &pcn_transport_batch;
	u32 i;

	mutex_lock(&pcn_transport_mutex);
	batch->cid = cid;
	do {
		batch->nr = 0;
		vsock_for_each_connected_socket(&pcn_transport.transport, pcn_transport_collect);
		for (i = 0; i < batch->nr; i++) {
			pcn_transport_reset_one(batch->sk[i]);
			sock_put(batch->sk[i]);
		}
	} while (batch->nr);
	mutex_unlock(&pcn_transport_mutex);
}

static int __init pcn_transport_init(void)
{
	int ret = pcn_peer_start();

	if (ret) {
		pr_err("service popcorn.vsock is not registered (%d)\n", ret);
		return ret;
	}
	/* Last: a socket may use us from here on, and nothing may fail then. Both, so that all CIDs are ours. */
	ret = vsock_core_register(&pcn_transport.transport, VSOCK_TRANSPORT_F_H2G | VSOCK_TRANSPORT_F_G2H);
	if (ret == -EBUSY)
		pr_err("AF_VSOCK already goes elsewhere: unload vhost_vsock, vmw_vsock_virtio_transport, vmw_vsock_vmci_transport or hv_sock first\n");
	else if (ret)
		pr_err("AF_VSOCK does not take us (%d)\n", ret);
	if (ret)
		pcn_peer_stop();
	return ret;
}

static void __exit pcn_transport_exit(void)
{
	vsock_core_unregister(&pcn_transport.transport);
	pcn_peer_stop();
}

module_init(pcn_transport_init);
module_exit(pcn_transport_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Popcorn: AF_VSOCK between kernels");
