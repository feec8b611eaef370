/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of ring_check share: the sizes, how a failure is told, numbers that look random.
 */
#ifndef RING_CHECK_H
#define RING_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../kmod/core/ring.h"

#define SLOTS		64
#define AREA_BYTES	(1 << 20)
#define CHANNEL_BYTES	(sizeof(struct pcn_shm_channel) + SLOTS * sizeof(struct pcn_shm_slot))
#define BATCH		16	/* messages at once, at most */

#define check(what, ...) \
	do { \
		if (!(what)) { \
			printf("failed: %s:%d: " #what ": ", __FILE_NAME__, __LINE__); \
			printf(__VA_ARGS__); \
			putchar('\n'); \
			fflush(stdout); \
			_exit(1); \
		} \
	} while (0)

typedef unsigned long long ull;

static inline u64 mix(u64 x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* What ring_check does, by the word for it. Each returns 0, or does not return. */
int stream(u64 count);
int threads(u64 count);
int rules(void);
int epoch(void);
int fuzz(u64 seed, u64 rounds);
int area(u64 seed, u64 rounds);

#endif
