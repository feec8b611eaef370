/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_SERVICE_H
#define _PCN_SERVICE_H

#include "popcorn.h"

struct pcn_node;
struct pcn_self;

/**
 * struct pcn_service_place - a place for a service
 * @service: who has it
 * @turns: how often it was given out; part of the id, so that a message to a service that is gone does
 *	not reach the one that took its place
 */
struct pcn_service_place {
	struct pcn_service __rcu *service;
	u32 turns;
};

bool pcn_service_deliver(struct pcn_node *node, const struct pcn_msg *msg);
bool pcn_service_entry(const struct pcn_shm_node *shm, unsigned int index, struct pcn_shm_service *entry);
bool pcn_service_talks(u32 node, u32 entry_id);
void pcn_service_publish(struct pcn_self *self, struct pcn_shm_node *shm);
void pcn_service_withdraw(struct pcn_self *self);
void pcn_service_look(struct pcn_node *node);
void pcn_service_room(struct pcn_node *node);

#endif
