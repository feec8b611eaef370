/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_TABLE_H
#define _PCN_TABLE_H

#include <linux/types.h>

struct pcn_link;

bool pcn_table_hear(struct pcn_link *link, u32 node, const u8 *address);
void pcn_table_learn(struct pcn_link *link, u32 node, const u8 *address);
void pcn_table_forget(struct pcn_link *link, u32 node);
void pcn_table_clear(struct pcn_link *link);
unsigned long pcn_table_find(struct pcn_link *link, const u8 *address);

#endif
