/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_CHANNEL_H
#define _PCN_CHANNEL_H

#include <linux/types.h>

int pcn_channel_send(u32 dst, u16 service, const void *data, size_t len);
int pcn_channel_start(void);
void pcn_channel_stop(void);
void pcn_channel_doorbell(u64 tsc);
void pcn_channel_poll_soon(void);

#endif
