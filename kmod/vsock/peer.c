// SPDX-License-Identifier: GPL-2.0
/*
 * The other kernels: packets to them, which wait here while there is no room, and packets from them, which
 * wait here for process context. Both in order.
 *
 * What waits is bounded. Payload is, by the credit that AF_VSOCK's common code gives to each connection.
 * Packets without payload are answers to what was received, so nothing more is received while too many
 * wait to be sent (@paused); only requests to connect are not, and are refused. What a peer has sent is
 * bounded by the credit that it was given if it is sane, and by memory if it is not.
 */
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/ratelimit.h>
#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <linux/virtio_vsock.h>
#include <linux/workqueue.h>

#include "peer.h"
#include "transport.h"
#include "wire.h"

#define PCN_PEER_WAITING_MAX	512	/* packets to send after which no more are received */
#define PCN_PEER_REQUESTS_MAX	1024	/* packets to send after which no more connections are asked for */
#define PCN_PEER_BURST		16	/* packets that are sent without a pause for others */

/**
 * struct pcn_peer - another node
 * @node: its id
 * @tx: packets that wait for room; its lock serialises senders
 * @present: the node has the service. Under the lock of @tx, as the next ones
 * @open: packets are sent: it is present, and connections of former epochs are reset
 * @tell: it is to be told of that before anything else
 * @paused: nothing is received until some of @tx are sent
 * @rx: packets that came
 * @rx_bytes: memory that they take. Under the lock of @rx, as the next ones
 * @epoch: grows whenever all connections end: with the node, because a packet of it was lost, or because it
 *	says so
 * @reset: connections of all epochs before this one are reset
 * @tx_work: sends what waits
 * @rx_work: hands over what came
 */
struct pcn_peer {
	u32 node;

	struct sk_buff_head tx;
	bool present;
	bool open;
	bool tell;
	bool paused;

	struct sk_buff_head rx;
	unsigned long rx_bytes;
	u32 epoch;
	u32 reset;

	struct work_struct tx_work;
	struct work_struct rx_work;
};

/**
 * struct pcn_peer_cb - what is in skb->cb of a received packet
 * @virtio: the common code's
 * @epoch: of the peer, when it came
 */
struct pcn_peer_cb {
	struct virtio_vsock_skb_cb virtio;
	u32 epoch;
};

static struct pcn_peer pcn_peers[POPCORN_NODES_MAX];
static struct pcn_service pcn_peer_service;
static struct workqueue_struct *pcn_peer_wq;
static unsigned long pcn_peer_rx_bytes_max;

static ulong rejected;
module_param(rejected, ulong, 0444);
MODULE_PARM_DESC(rejected, "Read it: how many messages made no sense");

static struct pcn_peer_cb *pcn_peer_cb(struct sk_buff *skb)
{
	BUILD_BUG_ON(sizeof(struct pcn_peer_cb) > sizeof(skb->cb));
	return (struct pcn_peer_cb *)skb->cb;
}

/**
 * pcn_peer_local_cid() - the CID of this kernel
 *
 * Return: VMADDR_CID_ANY while it is on no fabric.
 */
u32 pcn_peer_local_cid(void)
{
	int node = pcn_service_node(&pcn_peer_service);

	return node < 0 ? VMADDR_CID_ANY : PCN_WIRE_CID(node);
}

/* Under the lock of @tx. Return: as pcn_service_send(). */
static int pcn_peer_transmit(struct pcn_peer *peer, const struct sk_buff *skb)
{
	const struct virtio_vsock_hdr *hdr = virtio_vsock_hdr((struct sk_buff *)skb);
	struct {
		struct pcn_wire_head head;
		u8 payload[PCN_WIRE_INLINE_BYTES];
	} msg = {
		.head = {
			.src_port = hdr->src_port,
			.dst_port = hdr->dst_port,
			.len = cpu_to_le32(skb->len),
			.flags = hdr->flags,
			.buf_alloc = hdr->buf_alloc,
			.fwd_cnt = hdr->fwd_cnt,
			.type = hdr->type,
			.op = hdr->op,
		},
	};
	struct pcn_out out = { .data = &msg, .len = sizeof(msg.head) };
	struct pcn_body body;
	int ret;

	if (skb->len <= sizeof(msg.payload)) {
		skb_copy_bits(skb, 0, msg.payload, skb->len);
		out.len += skb->len;
	} else {
		ret = pcn_service_reserve(&pcn_peer_service, peer->node, 0, skb->len, &body);
		if (ret)
			return ret;
		skb_copy_bits(skb, 0, body.data, skb->len);
		out.body = &body;
	}
	ret = pcn_service_send_batch(&pcn_peer_service, peer->node, 0, &out, 1);
	if (ret == 1)
		return 0;
	if (out.body)
		pcn_service_release(&pcn_peer_service, &body);
	return ret;
}

static bool pcn_peer_is_request(struct sk_buff *skb)
{
	return virtio_vsock_hdr(skb)->op == cpu_to_le16(VIRTIO_VSOCK_OP_REQUEST);
}

/* What a connection that was reset still says might reach another one that has its ports by now. */
static bool pcn_peer_is_stale(struct sk_buff *skb)
{
	return skb->sk && sock_flag(skb->sk, SOCK_DONE) && !virtio_vsock_skb_reply(skb);
}

/**
 * pcn_peer_send() - send a packet to whom it is for
 * @skb: a packet of the common code; taken over
 *
 * What cannot be sent because its connection is about to be reset, or was, counts as sent. Only who asks for
 * a connection is told.
 *
 * Return: bytes of payload, -ENODEV if the node does not exist or has no AF_VSOCK, -ENOBUFS if too many ask
 * for connections to it.
 */
int pcn_peer_send(struct sk_buff *skb)
{
	u64 node = PCN_WIRE_NODE(le64_to_cpu(virtio_vsock_hdr(skb)->dst_cid));
	int len = skb->len, ret = -ENODEV;
	struct pcn_peer *peer;

	if (node >= POPCORN_NODES_MAX || pcn_peer_is_stale(skb))
		goto out;
	virtio_transport_deliver_tap_pkt(skb);
	peer = &pcn_peers[node];
	spin_lock_bh(&peer->tx.lock);
	if (peer->open || (peer->present && pcn_peer_is_request(skb))) {
		ret = -EAGAIN;
		if (peer->open && !peer->tell && skb_queue_empty(&peer->tx))
			ret = pcn_peer_transmit(peer, skb);
		if (ret == -EAGAIN && skb_queue_len(&peer->tx) >= PCN_PEER_REQUESTS_MAX &&
		    pcn_peer_is_request(skb)) {
			ret = -ENOBUFS;
		} else if (ret == -EAGAIN) {
			/* Under the lock since -EAGAIN: whoever is told of room by now finds it here. */
			__skb_queue_tail(&peer->tx, skb);
			skb = NULL;
		} else if (ret) {
			ret = -ENODEV;
		}
	}
	spin_unlock_bh(&peer->tx.lock);
	if (!skb)
		return len;
out:
	if (!ret || !pcn_peer_is_request(skb))
		ret = len;
	virtio_transport_consume_skb_sent(skb, true);
	return ret;
}

/**
 * pcn_peer_cancel() - drop what a socket has waiting
 * @vsk: the socket
 */
void pcn_peer_cancel(struct vsock_sock *vsk)
{
	u32 node = PCN_WIRE_NODE(vsk->remote_addr.svm_cid);

	if (node < POPCORN_NODES_MAX)
		virtio_transport_purge_skbs(vsk, &pcn_peers[node].tx);
}

static void pcn_peer_consume(struct sk_buff_head *skbs)
{
	struct sk_buff *skb;

	while ((skb = __skb_dequeue(skbs)))
		virtio_transport_consume_skb_sent(skb, true);
}

/* Under the lock of @tx, and first. Return: true if there is no room for it. */
static bool pcn_peer_must_tell(struct pcn_peer *peer)
{
	struct pcn_wire_head head = { .op = cpu_to_le16(PCN_WIRE_OP_RESET) };

	if (peer->tell)
		peer->tell = pcn_service_send(&pcn_peer_service, peer->node, &head, sizeof(head)) == -EAGAIN;
	return peer->tell;
}

static void pcn_peer_tx_work(struct work_struct *work)
{
	struct pcn_peer *peer = container_of(work, struct pcn_peer, tx_work);
	struct sk_buff_head sent;
	struct sk_buff *skb;
	bool resume;
	int n;

	__skb_queue_head_init(&sent);
	do {
		spin_lock_bh(&peer->tx.lock);
		for (n = 0; n < PCN_PEER_BURST && peer->open && !pcn_peer_must_tell(peer); n++) {
			skb = skb_peek(&peer->tx);
			if (!skb || (!pcn_peer_is_stale(skb) && pcn_peer_transmit(peer, skb) == -EAGAIN))
				break;
			__skb_unlink(skb, &peer->tx);
			__skb_queue_tail(&sent, skb);
		}
		resume = peer->paused && skb_queue_len(&peer->tx) <= PCN_PEER_WAITING_MAX / 2;
		if (resume)
			peer->paused = false;
		spin_unlock_bh(&peer->tx.lock);
		pcn_peer_consume(&sent);
		if (resume)
			queue_work(pcn_peer_wq, &peer->rx_work);
		cond_resched();
	} while (n == PCN_PEER_BURST);
}

/* Ends all connections with a peer, and has it told if it may not know. In softirq or the like. */
static void pcn_peer_break(struct pcn_peer *peer, bool present, bool tell)
{
	/* In this order, so that pcn_peer_try_open() opens nothing that was closed. */
	spin_lock_bh(&peer->rx.lock);
	peer->epoch++;
	spin_unlock_bh(&peer->rx.lock);
	spin_lock_bh(&peer->tx.lock);
	peer->present = present;
	peer->open = false;
	if (tell)
		peer->tell = true;
	spin_unlock_bh(&peer->tx.lock);
	queue_work(pcn_peer_wq, &peer->rx_work);
}

/* Under both locks, that of @tx inside. */
static void pcn_peer_try_open(struct pcn_peer *peer)
{
	if (peer->open || !peer->present || peer->reset != peer->epoch)
		return;
	peer->open = true;
	queue_work(pcn_peer_wq, &peer->tx_work); /* for what waits */
}

/*
 * Takes the next packet out of @rx, if it is its turn: not before the connections of former epochs are reset,
 * and not while too much waits to be sent. Return: NULL if there is none; @epoch is what to reset for, then.
 */
static struct sk_buff *pcn_peer_next(struct pcn_peer *peer, u32 *epoch)
{
	struct sk_buff *skb;

	spin_lock_bh(&peer->rx.lock);
	skb = skb_peek(&peer->rx);
	*epoch = skb ? pcn_peer_cb(skb)->epoch : peer->epoch;
	if (*epoch != peer->reset) {
		skb = NULL;
		goto out;
	}
	spin_lock(&peer->tx.lock);
	pcn_peer_try_open(peer);
	peer->paused = peer->open && skb_queue_len(&peer->tx) >= PCN_PEER_WAITING_MAX;
	if (peer->paused)
		skb = NULL;
	spin_unlock(&peer->tx.lock);
	if (skb) {
		__skb_unlink(skb, &peer->rx);
		peer->rx_bytes -= skb->truesize;
	}
out:
	spin_unlock_bh(&peer->rx.lock);
	return skb;
}

static void pcn_peer_reset(struct pcn_peer *peer, u32 epoch)
{
	struct sk_buff_head unsent;
	struct sk_buff *skb, *next;

	/* Who asks for a connection has none yet that could be over. But it needs somebody to ask. */
	__skb_queue_head_init(&unsent);
	spin_lock_bh(&peer->tx.lock);
	skb_queue_walk_safe(&peer->tx, skb, next) {
		if (!peer->present || !pcn_peer_is_request(skb)) {
			__skb_unlink(skb, &peer->tx);
			__skb_queue_tail(&unsent, skb);
		}
	}
	spin_unlock_bh(&peer->tx.lock);
	pcn_peer_consume(&unsent);

	pcn_transport_reset(PCN_WIRE_CID(peer->node));

	spin_lock_bh(&peer->rx.lock);
	peer->reset = epoch;
	spin_unlock_bh(&peer->rx.lock);
}

static void pcn_peer_rx_work(struct work_struct *work)
{
	struct pcn_peer *peer = container_of(work, struct pcn_peer, rx_work);
	struct sk_buff *skb;
	u32 epoch;

	while (true) {
		skb = pcn_peer_next(peer, &epoch);
		if (skb)
			pcn_transport_deliver(skb);
		else if (epoch != peer->reset)
			pcn_peer_reset(peer, epoch);
		else
			break;
		cond_resched();
	}
}

/* What the common code understands, and nothing else: it has no reason to distrust a hypervisor. */
static bool pcn_peer_check(const struct pcn_wire_head *head, const struct pcn_msg *msg)
{
	u32 len = le32_to_cpu(head->len);
	u16 type = le16_to_cpu(head->type), op = le16_to_cpu(head->op);

	if (op == PCN_WIRE_OP_RESET)
		return msg->len == sizeof(*head) && !msg->body_len;
	if (type != VIRTIO_VSOCK_TYPE_STREAM && type != VIRTIO_VSOCK_TYPE_SEQPACKET)
		return false;
	if (op > VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		return false;
	/* Credit counts bytes, so packets without any would be free. */
	if (len > PCN_WIRE_BYTES_MAX || !len != (op != VIRTIO_VSOCK_OP_RW))
		return false;
	if (msg->body_len)
		return msg->body_len == len && msg->len == sizeof(*head);
	return msg->len == sizeof(*head) + len;
}

static struct sk_buff *pcn_peer_alloc(u32 *len)
{
	/* Orders that the allocator has even if it must not wait, then what it has always. */
	static const int orders[] = { PAGE_ALLOC_COSTLY_ORDER, 0 };
	struct sk_buff *skb;
	u32 size;
	int i;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		size = min_t(u32, *len, SKB_MAX_ORDER(VIRTIO_VSOCK_SKB_HEADROOM, orders[i]));
		skb = alloc_skb(VIRTIO_VSOCK_SKB_HEADROOM + size, GFP_ATOMIC | __GFP_NOWARN);
		if (skb) {
			skb_reserve(skb, VIRTIO_VSOCK_SKB_HEADROOM);
			*len = size;
			return skb;
		}
	}
	return NULL;
}

/*
 * Makes packets of a message: several, if it is long, since a packet is one piece of memory. The last one
 * carries the flags, which tell where a record ends. Return: false if there is no memory.
 */
static bool pcn_peer_unpack(const struct pcn_wire_head *head, const struct pcn_msg *msg,
			    struct sk_buff_head *skbs)
{
	const void *payload = msg->body_len ? msg->body : msg->data + sizeof(*head);
	u32 left = le32_to_cpu(head->len), len;
	struct virtio_vsock_hdr *hdr;
	struct sk_buff *skb;

	do {
		len = left;
		skb = pcn_peer_alloc(&len);
		if (!skb)
			return false;
		left -= len;
		skb_put_data(skb, payload, len);
		payload += len;
		hdr = virtio_vsock_hdr(skb);
		hdr->src_cid = cpu_to_le64(PCN_WIRE_CID(msg->src));
		hdr->dst_cid = cpu_to_le64(pcn_peer_local_cid());
		hdr->src_port = head->src_port;
		hdr->dst_port = head->dst_port;
		hdr->len = cpu_to_le32(len);
		hdr->type = head->type;
		hdr->op = head->op;
		hdr->flags = left ? 0 : head->flags;
		hdr->buf_alloc = head->buf_alloc;
		hdr->fwd_cnt = head->fwd_cnt;
		__skb_queue_tail(skbs, skb);
	} while (left);
	return true;
}

static void pcn_peer_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
	struct pcn_peer *peer = &pcn_peers[msg->src];
	struct pcn_wire_head head;
	struct sk_buff_head skbs;
	struct sk_buff *skb;
	u32 bytes = 0;
	bool fits;

	memcpy(&head, msg->data, sizeof(head));
	if (msg->len < sizeof(head) || !pcn_peer_check(&head, msg)) {
		WRITE_ONCE(rejected, rejected + 1);
		return;
	}
	if (head.op == cpu_to_le16(PCN_WIRE_OP_RESET)) {
		pcn_peer_break(peer, true, false);
		return;
	}
	__skb_queue_head_init(&skbs);
	fits = pcn_peer_unpack(&head, msg, &skbs);
	skb_queue_walk(&skbs, skb)
		bytes += skb->truesize;

	spin_lock_bh(&peer->rx.lock);
	fits = fits && peer->rx_bytes + bytes <= pcn_peer_rx_bytes_max;
	if (fits) {
		skb_queue_walk(&skbs, skb)
			pcn_peer_cb(skb)->epoch = peer->epoch;
		skb_queue_splice_tail_init(&skbs, &peer->rx);
		peer->rx_bytes += bytes;
	}
	spin_unlock_bh(&peer->rx.lock);
	if (fits) {
		queue_work(pcn_peer_wq, &peer->rx_work);
		return;
	}
	/* Never silently: who had a packet in it must not go on as if there had been none. */
	__skb_queue_purge(&skbs);
	pr_warn_ratelimited("no memory for what node %u sends: all connections with it are reset\n", msg->src);
	pcn_peer_break(peer, true, true);
}

static void pcn_peer_up(struct pcn_service *service, u32 node)
{
	struct pcn_peer *peer = &pcn_peers[node];

	spin_lock_bh(&peer->rx.lock);
	spin_lock(&peer->tx.lock);
	peer->present = true;
	pcn_peer_try_open(peer); /* at once, as a rule; else once its former life is cleared away */
	spin_unlock(&peer->tx.lock);
	spin_unlock_bh(&peer->rx.lock);
}

static void pcn_peer_down(struct pcn_service *service, u32 node)
{
	/* It may have been silent only. Then it comes back without knowing that it was given up. */
	pcn_peer_break(&pcn_peers[node], false, true);
}

static void pcn_peer_room(struct pcn_service *service, u32 node)
{
	queue_work(pcn_peer_wq, &pcn_peers[node].tx_work);
}

static struct pcn_service pcn_peer_service = {
	.name = PCN_WIRE_SERVICE,
	.version = PCN_WIRE_VERSION,
	.ring_slots = 512, /* for what fits slots; of bodies there is no room for as many */
	.recv = pcn_peer_recv,
	.peer_up = pcn_peer_up,
	.peer_down = pcn_peer_down,
	.room = pcn_peer_room,
};

/**
 * pcn_peer_start() - be there for the other kernels
 *
 * Return: as pcn_service_register(), or -ENOMEM.
 */
int pcn_peer_start(void)
{
	static struct lock_class_key rx_key;
	u32 i;
	int ret;

	pcn_peer_rx_bytes_max = (totalram_pages() << PAGE_SHIFT) / 8;
	pcn_peer_wq = alloc_workqueue("popcorn_vsock", WQ_UNBOUND, 0);
	if (!pcn_peer_wq)
		return -ENOMEM;
	for (i = 0; i < POPCORN_NODES_MAX; i++) {
		pcn_peers[i].node = i;
		skb_queue_head_init(&pcn_peers[i].tx);
		skb_queue_head_init_class(&pcn_peers[i].rx, &rx_key); /* that of @tx is taken inside its lock */
		INIT_WORK(&pcn_peers[i].tx_work, pcn_peer_tx_work);
		INIT_WORK(&pcn_peers[i].rx_work, pcn_peer_rx_work);
	}
	ret = pcn_service_register(&pcn_peer_service);
	if (ret)
		destroy_workqueue(pcn_peer_wq);
	return ret;
}

/**
 * pcn_peer_stop() - be gone for the other kernels; there are no sockets any more
 */
void pcn_peer_stop(void)
{
	u32 i;

	pcn_service_unregister(&pcn_peer_service);
	for (i = 0; i < POPCORN_NODES_MAX; i++)
		pcn_peer_break(&pcn_peers[i], false, false); /* whose work leaves nothing behind */
	destroy_workqueue(pcn_peer_wq);
}
