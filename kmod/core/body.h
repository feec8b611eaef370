/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_BODY_H
#define _PCN_BODY_H

#include "channel.h"

int pcn_body_reserve(struct pcn_channel *channel, u32 len, struct pcn_body *body);
void pcn_body_release(const struct pcn_body *body);
void pcn_body_reap(struct pcn_channel *channel);

/**
 * pcn_body_lend() - the receiver has a body from now on
 * @channel: that it went through; under its tx_lock
 * @pos: of its message
 * @body: from pcn_body_reserve()
 *
 * Inline, as each send with a body does it.
 */
static inline void pcn_body_lend(struct pcn_channel *channel, u32 pos, const struct pcn_body *body)
{
	if (channel->loans.next - channel->loans.first == channel->loans.nr_loans)
		pcn_body_reap(channel);
	pcn_area_lend(&channel->loans, pos, body->unit, body->nr_units);
}

#endif
