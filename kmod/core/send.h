/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_SEND_H
#define _PCN_SEND_H

#include "body.h"
#include "channel.h"
#include "trace.h"

int pcn_send_batch(struct pcn_channel *channel, u16 service, u32 ring_slots, const struct pcn_out *out,
		   u32 nr);
int pcn_send_bytes(struct pcn_channel *channel, u16 service, u32 ring_slots, const void *data, size_t len);
int pcn_send_wait(struct pcn_channel *channel, u16 service, u32 ring_slots, const void *data, size_t len,
		  unsigned int timeout_ms);

void pcn_send_trace_queued(const struct pcn_channel *channel, u32 pos, u16 service, const struct pcn_out *out,
			   u32 nr, u64 tsc);

/*
 * What each message takes, in a batch and as a call. Inline: a call for each message is not free, and so the
 * compiler knows where a slot is made up and copies to there as well as it can.
 */

/**
 * pcn_send_make() - make up a slot
 * @out: the message
 * @service: service id, as the receiver has it
 * @msg: filled; leaves no byte to chance that goes into the ring
 *
 * Return: 0 or -EMSGSIZE.
 */
static inline int pcn_send_make(const struct pcn_out *out, u16 service, struct pcn_ring_msg *msg)
{
	u32 max = out->body ? PCN_SHM_HEAD_BYTES : PCN_SHM_INLINE_BYTES;
	struct pcn_shm_body body;

	if (out->len > max)
		return -EMSGSIZE;
	memcpy(msg->data, out->data, out->len);
	memset((u8 *)msg->data + out->len, 0, sizeof(msg->data) - out->len);
	msg->head = PCN_SHM_HEAD(0, service, out->len, out->body ? PCN_SHM_FLAG_BODY : 0);
	if (out->body) {
		body.offset = out->body->unit * PCN_SHM_UNIT_BYTES;
		body.len = out->body->len;
		memcpy((u8 *)msg->data + PCN_SHM_HEAD_BYTES, &body, sizeof(body));
	}
	return 0;
}

/* Bytes of payload. */
static inline u32 pcn_send_len(const struct pcn_out *out)
{
	return out->len + (out->body ? out->body->len : 0);
}

/**
 * pcn_send_account() - count and trace messages that went into the ring, and lend their bodies
 * @channel: that they went into; under its tx_lock
 * @pos: of the first
 * @service: that they are for
 * @out: the messages
 * @nr: how many
 * @tsc: when
 *
 * Looks once whether they are traced, and not for each.
 */
static __always_inline void pcn_send_account(struct pcn_channel *channel, u32 pos, u16 service,
					     const struct pcn_out *out, u32 nr, u64 tsc)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		bytes += pcn_send_len(&out[i]);
		if (out[i].body)
			pcn_body_lend(channel, pos + i, out[i].body);
	}
	channel->sent += nr;
	channel->sent_bytes += bytes;
	if (trace_popcorn_msg_queued_enabled())
		pcn_send_trace_queued(channel, pos, service, out, nr, tsc);
}

#endif
