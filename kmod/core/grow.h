/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_GROW_H
#define _PCN_GROW_H

#include <linux/types.h>

struct pcn_channel;
struct work_struct;

void pcn_grow_ask(struct pcn_channel *channel, u32 slots);
void pcn_grow_all(struct work_struct *work);

#endif
