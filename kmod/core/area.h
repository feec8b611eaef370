/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who has which part of this node's area: bodies of messages that their receivers are not done with, and
 * rings that have outgrown their channels. Kept privately; nothing of it is in shared memory.
 */
#ifndef _PCN_AREA_H
#define _PCN_AREA_H

#include "ring_port.h"
#include "../uapi/popcorn_shm.h"

/**
 * struct pcn_area - the allocator of one area; the caller serialises
 * @map: a bit for each unit that is given out
 * @nr_units: units of PCN_SHM_UNIT_BYTES
 * @nr_free: of them free
 * @low: none is free before this one
 */
struct pcn_area {
	unsigned long *map;
	u32 nr_units;
	u32 nr_free;
	u32 low;
};

/**
 * struct pcn_area_loan - a body that a receiver has
 * @pos: of its message in the channel
 * @unit: where it begins
 * @nr_units: how long it is
 */
struct pcn_area_loan {
	u32 pos;
	u32 unit;
	u32 nr_units;
};

/**
 * struct pcn_area_loans - the bodies that one channel's receiver has, in the order of their messages
 * @loan: a circle of them
 * @nr_loans: its length, a power of two, at least the slots of the ring
 * @first: number of the oldest
 * @next: number of the next one
 * @nr_units: units of all of them: what this channel has of the area
 */
struct pcn_area_loans {
	struct pcn_area_loan *loan;
	u32 nr_loans;
	u32 first;
	u32 next;
	u32 nr_units;
};

void pcn_area_init(struct pcn_area *area, unsigned long *map, u32 nr_units);
int pcn_area_get(struct pcn_area *area, u32 nr_units, u32 had, u32 *unit);
void pcn_area_put(struct pcn_area *area, u32 unit, u32 nr_units);

void pcn_area_lend(struct pcn_area_loans *loans, u32 pos, u32 unit, u32 nr_units);
u32 pcn_area_reap(struct pcn_area *area, struct pcn_area_loans *loans, u32 done);

#endif
