/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_DOORBELL_H
#define _PCN_DOORBELL_H

#include <linux/types.h>

struct pcn_node;

/* Called in hard interrupt context when this kernel's doorbell rings. */
typedef void (*pcn_doorbell_handler)(u64 tsc);

int pcn_doorbell_start(pcn_doorbell_handler handler);
void pcn_doorbell_stop(void);
bool pcn_doorbell_ring(struct pcn_node *node);
bool pcn_doorbell_where(u32 id, u32 *apic_id, u32 *vector);

#endif
