/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Both sides in one hand. On the heap and exactly as large, so that a sanitizer sees a step beyond it.
 */
#ifndef RING_CHECK_PAIR_H
#define RING_CHECK_PAIR_H

#include "check.h"

struct pair {
	struct pcn_shm_channel *channel;
	u8 *area;
	struct pcn_ring tx, rx;
};

/* A pair on memory of its own, until pair_free(). */
struct pair pair_new(u32 tag);
void pair_free(struct pair *p);

/* Both sides begin anew, on what is left of before. */
void pair_init(struct pair *p, u32 tag);

struct pcn_ring_msg simple(u64 value, u8 flags);
void send_one(struct pair *p, u64 value, u8 flags);

/* Receives until there is nothing left, at most max. */
u32 take_all(struct pair *p, struct pcn_ring_msg *msgs, u32 max);

#endif
