/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_SERVICE_H
#define _PCN_SERVICE_H

#include "popcorn.h"

struct pcn_node;

bool pcn_service_deliver(struct pcn_node *node, const struct pcn_msg *msg);
bool pcn_service_entry(const struct pcn_shm_node *shm, unsigned int index, struct pcn_shm_service *entry);
bool pcn_service_talks(u32 node, u32 entry_id);
void pcn_service_publish(struct pcn_shm_node *shm);
void pcn_service_withdraw(void);
void pcn_service_look(struct pcn_node *node);

#endif
