// SPDX-License-Identifier: GPL-2.0
#include "area.h"

/**
 * pcn_area_init() - begin with an area of which nothing is given out
 * @area: to set up
 * @map: @nr_units bits, all 0; stays the caller's to free
 * @nr_units: units that the area has
 */
void pcn_area_init(struct pcn_area *area, unsigned long *map, u32 nr_units)
{
	area->map = map;
	area->nr_units = nr_units;
	area->nr_free = nr_units;
	area->low = 0;
}

/**
 * pcn_area_get() - give out units: the first that are free, so that what is in use stays in few cache lines
 * @area: of which
 * @nr_units: how many, in one piece; at least 1
 * @had: units that those who ask have already
 * @unit: set to where they begin
 *
 * Who has something already may not come to hold more than what then stays free for the others, however slow
 * his receiver is. Who has nothing gets whatever is free.
 *
 * Return: 0, -EAGAIN if it can be had only when others have given something back.
 */
int pcn_area_get(struct pcn_area *area, u32 nr_units, u32 had, u32 *unit)
{
	unsigned long at;

	if (nr_units > area->nr_free || (had && (u64)had + nr_units > area->nr_free - nr_units))
		return -EAGAIN;
	at = bitmap_find_next_zero_area(area->map, area->nr_units, area->low, nr_units, 0);
	if (at + nr_units > area->nr_units)
		return -EAGAIN;
	bitmap_set(area->map, at, nr_units);
	area->nr_free -= nr_units;
	if (at == area->low)
		area->low += nr_units;
	*unit = at;
	return 0;
}

/**
 * pcn_area_put() - take units back
 * @area: that they are of
 * @unit: where they begin
 * @nr_units: how many
 */
void pcn_area_put(struct pcn_area *area, u32 unit, u32 nr_units)
{
	bitmap_clear(area->map, unit, nr_units);
	area->nr_free += nr_units;
	if (unit < area->low)
		area->low = unit;
}

/**
 * pcn_area_lend() - note that a receiver has a body from now on
 * @loans: of its channel, not full
 * @pos: of the body's message, not before that of the loan before
 * @unit: where the body begins
 * @nr_units: how long it is
 */
void pcn_area_lend(struct pcn_area_loans *loans, u32 pos, u32 unit, u32 nr_units)
{
	struct pcn_area_loan *loan = &loans->loan[loans->next++ & (loans->nr_loans - 1)];

	loan->pos = pos;
	loan->unit = unit;
	loan->nr_units = nr_units;
	loans->nr_units += nr_units;
}

/**
 * pcn_area_reap() - take back the bodies that the receiver is done with
 * @area: that they are of
 * @loans: of its channel
 * @done: messages that it is done with; a position, as in pcn_ring_free()
 *
 * Return: how many units came back.
 */
u32 pcn_area_reap(struct pcn_area *area, struct pcn_area_loans *loans, u32 done)
{
	u32 units = 0;

	while (loans->first != loans->next) {
		const struct pcn_area_loan *loan = &loans->loan[loans->first & (loans->nr_loans - 1)];

		if ((s32)(done - loan->pos) <= 0)
			break;
		pcn_area_put(area, loan->unit, loan->nr_units);
		units += loan->nr_units;
		loans->first++;
	}
	loans->nr_units -= units;
	return units;
}
