/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The message layer, for modules that stand on it (links, TTYs, shared memory, your own).
 */
#ifndef _POPCORN_H
#define _POPCORN_H

#include <linux/types.h>

#include "../uapi/popcorn.h"
#include "../uapi/popcorn_shm.h"

struct napi_struct;
struct pcn_channel;
struct pcn_self;

#define PCN_MSG_BYTES	PCN_SHM_BODY_BYTES	/* longest message that pcn_service_send() takes */

/**
 * struct pcn_msg - one received message; valid until the callback returns
 * @src: node that sent it
 * @queue: queue that it came through
 * @service: id of the service in this kernel
 * @call: the sender waits for pcn_msg_answer()
 * @seq: its sequence word in the channel
 * @queued: TSC when the sender queued it (or the batch that it was in)
 * @len: bytes of @data
 * @body_len: bytes of @body, 0 if there is none
 * @data: payload that came in the slot, a private copy, at most PCN_SHM_INLINE_BYTES
 * @body: payload that lies in the sender's area: length and place are checked, but **the sender can still
 *	write it**. Copy before you check, with pcn_msg_copy() or by yourself, and read nothing twice.
 * @private: of the message layer
 *
 * pcn_service_send() puts up to PCN_SHM_INLINE_BYTES into @data and anything longer into @body, so a service
 * whose messages have one size need look at one of them only.
 */
struct pcn_msg {
	u32 src;
	u32 queue;
	u16 service;
	bool call;
	u32 seq;
	u64 queued;
	u32 len;
	u32 body_len;
	u8 data[PCN_SHM_INLINE_BYTES] __aligned(8);
	const void *body;
	void *private;
};

/**
 * struct pcn_service - an endpoint that has the same name on every kernel that wants to talk
 * @name: at most PCN_SHM_SERVICE_BYTES - 1 bytes of printable ASCII
 * @version: kernels with another version of it are no peers
 * @ring_slots: messages that its channels should hold, for one that streams; 0 for what is there. A power of
 *	two up to PCN_SHM_RING_SLOTS_MAX. Taken from this node's area when a peer comes up, as far as
 *	there is room; 4096 streams best. May be changed while it is registered, with WRITE_ONCE()
 * @recv: called for each message
 * @peer_up: a node has the service too: it can be sent to from here on; may be NULL
 * @peer_down: that node, or its service, is gone; nothing more comes from it; may be NULL
 * @room: a send to that node which gave -EAGAIN may be tried again; may be NULL. Also called without need
 * @id: private: what messages to this kernel carry
 * @peer: private: what messages to each node carry, 0 for one that is not up
 * @up: private: nodes (bit by id) whose peer_up has been given
 * @leaving: private: nodes that are being parted from
 * @self: private: the node of this kernel that has it
 *
 * Callbacks run in softirq context or like it and must not sleep. They may send. A node's messages come
 * between its peer_up and its peer_down, and never afterwards; those of one queue in the order in which they
 * were sent, one at a time. Messages of different queues may be delivered at the same time on different CPUs.
 */
struct pcn_service {
	const char *name;
	u32 version;
	u32 ring_slots;
	void (*recv)(struct pcn_service *service, const struct pcn_msg *msg);
	void (*peer_up)(struct pcn_service *service, u32 node);
	void (*peer_down)(struct pcn_service *service, u32 node);
	void (*room)(struct pcn_service *service, u32 node);

	u16 id;
	u32 peer[POPCORN_NODES_MAX];
	unsigned long up;
	unsigned long leaving;
	struct pcn_self *self;
};

int pcn_service_register(struct pcn_service *service);
int pcn_service_register_at(struct pcn_service *service, u32 node);
void pcn_service_unregister(struct pcn_service *service);

/**
 * struct pcn_place - where a service would be registered
 * @node: node id
 * @queues: that this node receives through
 * @ring_slots: messages that each of its channels holds before a service has it grow
 * @machine: a number that all nodes of this machine see and that stays the same when it is booted again;
 *	other machines likely have another one
 */
struct pcn_place {
	u32 node;
	u32 queues;
	u32 ring_slots;
	u32 machine;
};

int pcn_service_place(struct pcn_place *place);
int pcn_service_place_at(struct pcn_place *place, u32 node);
int pcn_service_window_at(u32 node, u32 *max_us);
int pcn_service_set_window_at(u32 node, u32 max_us);

/**
 * pcn_service_node() - which node has this service here
 * @service: as registered
 *
 * Return: the id of this kernel's node, -ENODEV while it is not on a fabric.
 */
int pcn_service_node(const struct pcn_service *service);

/**
 * pcn_service_node_name() - what a node is called
 * @service: as registered
 * @node: node id
 * @name: set to its name, empty if there is no such node
 * @len: its room, PCN_SHM_NAME_BYTES for all of it
 */
void pcn_service_node_name(const struct pcn_service *service, u32 node, char *name, size_t len);

/**
 * pcn_service_queues() - how many queues there are to a node
 * @service: as registered
 * @dst: node id
 *
 * Messages of one queue stay in order, those of different queues need not.
 *
 * Return: 1 at least for a node that is up, 0 for one that cannot be sent to.
 */
u32 pcn_service_queues(const struct pcn_service *service, u32 dst);

/**
 * struct pcn_body - room in this node's area for what fits no slot
 * @data: write the payload here
 * @len: bytes
 * @channel: private, as the rest
 * @unit: where it lies
 * @nr_units: how much it takes
 */
struct pcn_body {
	void *data;
	u32 len;
	struct pcn_channel *channel;
	u32 unit;
	u32 nr_units;
};

/**
 * struct pcn_out - a message to send
 * @data: payload
 * @len: its bytes, at most PCN_SHM_INLINE_BYTES, or PCN_SHM_HEAD_BYTES with a body
 * @body: from pcn_service_reserve(), or NULL
 */
struct pcn_out {
	const void *data;
	u32 len;
	const struct pcn_body *body;
};

/**
 * pcn_service_send() - queue a message to a node, and wake it if it sleeps
 * @service: as registered
 * @dst: node id
 * @data: payload; copied before the call returns
 * @len: its bytes, at most PCN_MSG_BYTES
 *
 * Through queue 0. From any context but NMI.
 *
 * Return: 0, -EAGAIN if there is no room (@room is called when there is), -ENOTCONN if the node is not up or
 * does not have the service in this version, -EMSGSIZE, -ENODEV without a fabric, -EINVAL for a node that
 * cannot be or is this one.
 */
int pcn_service_send(struct pcn_service *service, u32 dst, const void *data, size_t len);

/**
 * pcn_service_send_wait() - likewise, waiting for room
 * @service: as registered
 * @dst: node id
 * @queue: below pcn_service_queues()
 * @data: payload
 * @len: its bytes
 * @timeout_ms: how long to wait at most
 *
 * May sleep. Those who wait for the same channel get their turn in the order in which they came.
 *
 * Return: as pcn_service_send(); -EAGAIN after @timeout_ms, -ERESTARTSYS on a signal.
 */
int pcn_service_send_wait(struct pcn_service *service, u32 dst, u32 queue, const void *data, size_t len,
			  unsigned int timeout_ms);

/**
 * pcn_service_send_batch() - queue several messages with one time stamp and at most one doorbell
 * @service: as registered
 * @dst: node id
 * @queue: below pcn_service_queues()
 * @out: the messages; bodies of those that were sent are gone, those of the others still yours
 * @nr: how many
 *
 * From any context but NMI.
 *
 * Return: how many were sent, from the first on; fewer than @nr, or -EAGAIN instead of 0, when there is no
 * more room. Errors as pcn_service_send().
 */
int pcn_service_send_batch(struct pcn_service *service, u32 dst, u32 queue, const struct pcn_out *out, u32 nr);

/**
 * pcn_service_reserve() - get room for a body, to fill in place
 * @service: as registered
 * @dst: node that it is for
 * @queue: below pcn_service_queues()
 * @len: bytes, 1 to PCN_SHM_BODY_BYTES
 * @body: filled; send it with pcn_service_send_batch(), or give it back with pcn_service_release()
 *
 * No receiver gets more of this node's area than is left for the others.
 *
 * Return: as pcn_service_send().
 */
int pcn_service_reserve(struct pcn_service *service, u32 dst, u32 queue, u32 len, struct pcn_body *body);

/**
 * pcn_service_release() - give a body back that was not sent
 * @service: as registered
 * @body: from pcn_service_reserve()
 */
void pcn_service_release(struct pcn_service *service, const struct pcn_body *body);

/**
 * pcn_service_call() - send a request and wait for the answer, which comes back in the request's own slot
 * @service: as registered
 * @dst: node id
 * @queue: below pcn_service_queues()
 * @data: the request
 * @len: its bytes, at most PCN_SHM_INLINE_BYTES
 * @answer: filled, PCN_SHM_INLINE_BYTES of room
 * @timeout_ms: how long to wait for room and for the answer
 *
 * May sleep; looks for the answer for as long as a doorbell would take before it does.
 *
 * Return: bytes of the answer, -EOPNOTSUPP if nobody gave one, -ETIMEDOUT, -ERESTARTSYS on a signal. Then the
 * request was sent. -EAGAIN and the others as pcn_service_send(): it was not, or the node is gone.
 */
int pcn_service_call(struct pcn_service *service, u32 dst, u32 queue, const void *data, size_t len,
		     void *answer, unsigned int timeout_ms);

/**
 * pcn_service_busy_poll() - receive in the caller's own context until it has what it waits for
 * @service: as registered
 * @queue: below the number that pcn_service_queues() gives
 * @done: asked between two polls; true ends it. Gets @arg and what the kernel's busy polling gives besides
 * @arg: for @done
 *
 * While it runs the queue's peers ring no doorbells. May sleep; @done has to end it, on a signal, too.
 *
 * Return: 0, -ENODEV without a fabric, -EINVAL for a queue that is not there.
 */
int pcn_service_busy_poll(struct pcn_service *service, u32 queue, bool (*done)(void *arg, unsigned long start),
			  void *arg);

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

/**
 * pcn_msg_answer() - answer a call; from within recv only
 * @msg: as given to recv, with @call set
 * @data: the answer
 * @len: its bytes, at most PCN_SHM_INLINE_BYTES
 *
 * A call that recv does not answer is refused (-EOPNOTSUPP at the caller). Only the first answer counts.
 *
 * Return: 0, -EMSGSIZE, -EINVAL if there is nobody who waits for it.
 */
int pcn_msg_answer(const struct pcn_msg *msg, const void *data, size_t len);

/**
 * pcn_msg_napi() - the NAPI context that recv runs in, for napi_gro_receive(); from within recv only
 * @msg: as given to recv
 *
 * What was given to it is passed on before the message layer waits for more.
 */
struct napi_struct *pcn_msg_napi(const struct pcn_msg *msg);

/**
 * pcn_msg_copy() - copy a message's payload, wherever it came: @data, then @body
 * @msg: as given to recv
 * @to: filled
 * @max: its room
 *
 * Return: bytes copied.
 */
size_t pcn_msg_copy(const struct pcn_msg *msg, void *to, size_t max);

#endif
