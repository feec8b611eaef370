/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_ROOM_H
#define _PCN_ROOM_H

#include <linux/types.h>

struct pcn_channel;
struct pcn_self;

bool pcn_room_want(struct pcn_channel *channel);
bool pcn_room_none(struct pcn_channel *channel, u64 tsc);
bool pcn_room_came(struct pcn_channel *channel);
void pcn_room_tell(struct pcn_channel *channel);
void pcn_room_tell_all(struct pcn_self *self);

#endif
