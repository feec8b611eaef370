/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_CALL_H
#define _PCN_CALL_H

#include <linux/types.h>

struct pcn_channel;

int pcn_call_wait(struct pcn_channel *channel, u16 service, const void *data, size_t len, void *answer,
		  unsigned int timeout_ms);
void pcn_call_take_answers(struct pcn_channel *channel);
void pcn_call_end_all(struct pcn_channel *channel, int ret);

#endif
