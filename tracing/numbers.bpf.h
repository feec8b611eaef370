/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A histogram of numbers by powers of two, for the BPF programs here. As they are: no kernel header, and no map, as
 * bcc rewrites those in its main file only.
 */
#ifndef NUMBERS_BPF_H
#define NUMBERS_BPF_H

#define SLOTS 40	/* the last one takes all above: of nanoseconds, what is longer than 9 minutes */

/* As LogHistogram.of() in common.py reads it. */
struct numbers {
	u64 count;
	u64 total;
	u64 min;
	u64 max;
	u64 slots[SLOTS];
};

static __always_inline void numbers_add(struct numbers *numbers, u64 value)
{
	u64 slot = bpf_log2l(value) - 1;

	if (slot >= SLOTS)
		slot = SLOTS - 1;
	numbers->slots[slot]++;
	numbers->total += value;
	if (!numbers->count || value < numbers->min)
		numbers->min = value;
	if (value > numbers->max)
		numbers->max = value;
	numbers->count++;
}

/* No overflow for half an hour; a longer time can only be a forged stamp. */
static __always_inline u64 tsc_to_ns(u64 cycles, u64 khz)
{
	return (cycles >> 43 ? ~0ULL : cycles * 1000000) / khz;
}

#endif
