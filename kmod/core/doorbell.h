/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_DOORBELL_H
#define _PCN_DOORBELL_H

#include <linux/types.h>

struct pcn_node;
struct pcn_self;

int pcn_doorbell_start(struct pcn_self *self);
void pcn_doorbell_stop(struct pcn_self *self);
bool pcn_doorbell_ring(struct pcn_node *node, u32 queue);
bool pcn_doorbell_where(u32 id, u32 queue, u32 *apic_id, u32 *vector);
int pcn_doorbell_irq(u32 queue);
u64 pcn_doorbell_cost(void);

#endif
