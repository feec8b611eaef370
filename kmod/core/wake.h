/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_WAKE_H
#define _PCN_WAKE_H

#include <linux/types.h>

struct pcn_channel;

void pcn_wake_peer(struct pcn_channel *channel, bool for_room);

#endif
