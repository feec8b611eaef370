/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The message layer, for modules that stand on it (links, TTYs, shared memory, your own).
 */
#ifndef _POPCORN_H
#define _POPCORN_H

#include <linux/types.h>

#include "../uapi/popcorn.h"
#include "../uapi/popcorn_shm.h"

/**
 * struct pcn_msg - one received message, copied out of shared memory and checked
 * @src: node that sent it
 * @service: id of the service in this kernel
 * @len: bytes of @data, at most PCN_SHM_INLINE_BYTES
 * @seq: its sequence word in the channel
 * @queued: TSC when the sender queued it
 * @data: payload
 */
struct pcn_msg {
	u32 src;
	u16 service;
	u8 len;
	u32 seq;
	u64 queued;
	u8 data[PCN_SHM_INLINE_BYTES] __aligned(8);
};

/**
 * struct pcn_service - an endpoint that has the same name on every kernel that wants to talk
 * @name: at most PCN_SHM_SERVICE_BYTES - 1 bytes of printable ASCII
 * @version: kernels with another version of it are no peers
 * @recv: called for each message
 * @peer_up: a node has the service too: it can be sent to from here on; may be NULL
 * @peer_down: that node, or its service, is gone; nothing more comes from it; may be NULL
 * @id: private: what messages to this kernel carry
 * @peer: private: what messages to each node carry, 0 for one that is not up
 *
 * Callbacks run in softirq context or like it, one at a time for each node, and must not sleep. They may
 * send. A node's messages come between its peer_up and its peer_down, and never afterwards.
 */
struct pcn_service {
	const char *name;
	u32 version;
	void (*recv)(struct pcn_service *service, const struct pcn_msg *msg);
	void (*peer_up)(struct pcn_service *service, u32 node);
	void (*peer_down)(struct pcn_service *service, u32 node);

	u16 id;
	u32 peer[POPCORN_NODES_MAX];
};

int pcn_service_register(struct pcn_service *service);
void pcn_service_unregister(struct pcn_service *service);

/**
 * pcn_service_send() - queue a message to a node and ring its doorbell if it waits for one
 * @service: as registered
 * @dst: node id
 * @data: payload; copied before the call returns
 * @len: its bytes, at most PCN_SHM_INLINE_BYTES
 *
 * From any context but NMI.
 *
 * Return: 0, -EAGAIN if the channel is full, -ENOTCONN if the node is not up or does not have the service
 * in this version, -EMSGSIZE, -ENODEV without a fabric, -EINVAL for a node that cannot be or is this one.
 */
int pcn_service_send(struct pcn_service *service, u32 dst, const void *data, size_t len);

/**
 * pcn_service_multicast() - send to every peer that is up
 * @service: as registered
 * @data: payload
 * @len: its bytes
 * @missed: set to the nodes (bit by id) whose channel was full; may be NULL
 *
 * Return: how many it was queued for, or -EMSGSIZE.
 */
int pcn_service_multicast(struct pcn_service *service, const void *data, size_t len, u32 *missed);

#endif
