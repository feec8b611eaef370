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
 * @service: service id
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

/* Services that are part of the core; others will be named, see docs/architecture.md. */
enum pcn_service_id {
	PCN_SERVICE_CONTROL,
	PCN_SERVICE_ECHO,
	PCN_SERVICES,
};

/**
 * struct pcn_service - a receiver of messages
 * @id: which messages it wants
 * @recv: called for each message in NAPI (softirq) context; must not sleep. @msg lives only as long as
 *	the call
 */
struct pcn_service {
	u16 id;
	void (*recv)(const struct pcn_msg *msg);
};

int pcn_service_register(const struct pcn_service *service);
void pcn_service_unregister(const struct pcn_service *service);

/**
 * pcn_channel_send() - queue a message to a node and ring its doorbell if it waits for one
 * @dst: node id
 * @service: service id, the same on both sides
 * @data: payload; copied before the call returns
 * @len: its bytes, at most PCN_SHM_INLINE_BYTES
 *
 * From any context but NMI.
 *
 * Return: 0, -EAGAIN if the channel is full, -ENOTCONN if the node is not up, -EMSGSIZE, -ENODEV without
 * a fabric, -EINVAL for a node that cannot be or is this one.
 */
int pcn_channel_send(u32 dst, u16 service, const void *data, size_t len);

#endif
