/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the two sides of a stream sleep and wake each other, and what they share.
 */
#ifndef RING_CHECK_BELL_H
#define RING_CHECK_BELL_H

#include "check.h"

struct bell {
	u32 rung;	/* a futex */
	u8 pad[60];
};

struct shared {
	struct bell message;	/* the receiver sleeps on it */
	struct bell room;	/* the sender */
	struct pcn_shm_channel channel __attribute__((aligned(64)));
};

void ring_bell(struct bell *bell);
u32 bell_look(const struct bell *bell);

/* Returns when the bell was rung since `rung` was looked at; else message n is where it failed. */
void bell_wait(struct bell *bell, u32 rung, const char *what, u64 n);

/* The sender of a stream, in sender.c. */
void produce(struct shared *shared, u8 *memory, u64 count);

#endif
