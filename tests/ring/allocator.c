// SPDX-License-Identifier: GPL-2.0
/*
 * The allocator against a model that is as simple as can be.
 */
#include "../../kmod/core/area.h"
#include "check.h"

#define AREA_UNITS	200
#define USERS		3
#define LOANS		16

struct user {
	struct pcn_area_loan loan[LOANS];
	struct pcn_area_loans loans;
	struct { u32 pos, unit, nr; } held[LOANS]; /* the model's: in order */
	u32 nr_held;
	u32 units;
	u32 pos;
	u32 done;
};

static bool model_free(const u8 *owner, u32 from, u32 nr)
{
	u32 i;

	for (i = from; i < from + nr; i++)
		if (owner[i])
			return false;
	return true;
}

static u32 model_count(const u8 *owner, u8 who)
{
	u32 i, count = 0;

	for (i = 0; i < AREA_UNITS; i++)
		count += owner[i] == who;
	return count;
}

int area(u64 seed, u64 rounds)
{
	unsigned long *map = calloc((AREA_UNITS + BITS_PER_LONG - 1) / BITS_PER_LONG, sizeof(long));
	struct user *users = calloc(USERS, sizeof(*users));
	u64 r, given = 0, refused = 0, fair = 0, reaped = 0;
	u8 owner[AREA_UNITS] = {};
	struct pcn_area area;
	u32 i;

	check(map && users, "no memory");
	pcn_area_init(&area, map, AREA_UNITS);
	for (i = 0; i < USERS; i++) {
		users[i].loans.loan = users[i].loan;
		users[i].loans.nr_loans = LOANS;
		users[i].pos = users[i].done = 0xfffffff0; /* numbers wrap */
	}
	for (r = 0; r < rounds; r++) {
		u64 x = mix(seed * 1000003 + r);
		u32 who = x % USERS, nr = 1 + (x >> 8) % (x >> 7 & 1 ? 100 : 6), unit = ~0u, at;
		struct user *u = &users[who];

		if (x >> 32 & 1) { /* get, and lend it or give it back at once */
			u32 nr_free = model_count(owner, 0), had = model_count(owner, 1 + who);
			bool allowed = nr <= nr_free && (!had || had + nr <= nr_free - nr);
			int ret;

			check(had == u->units && nr_free == area.nr_free, "%u units, %u free", u->units,
			      area.nr_free);
			for (at = 0; at + nr <= AREA_UNITS && !model_free(owner, at, nr); at++)
				;
			ret = pcn_area_get(&area, nr, u->units, &unit);
			if (!allowed || at + nr > AREA_UNITS) {
				check(ret == -EAGAIN, "%u units of %u free: %d", nr, nr_free, ret);
				refused++;
				fair += !allowed && nr <= nr_free;
				continue;
			}
			check(!ret && unit == at, "%u units at %u and not at %u", nr, unit, at);
			given++;
			if (u->nr_held == LOANS || x >> 33 & 1) {
				pcn_area_put(&area, unit, nr);
				continue;
			}
			memset(owner + at, 1 + who, nr);
			u->units += nr;
			u->held[u->nr_held].pos = u->pos;
			u->held[u->nr_held].unit = unit;
			u->held[u->nr_held++].nr = nr;
			pcn_area_lend(&u->loans, u->pos, unit, nr);
			u->pos += 1 + (x >> 40) % 3;
		} else { /* the receiver gets on */
			u32 back = 0, kept = 0;

			u->done += (x >> 34) % (u->pos - u->done + 1);
			for (i = 0; i < u->nr_held; i++) {
				if ((s32)(u->done - u->held[i].pos) > 0) {
					memset(owner + u->held[i].unit, 0, u->held[i].nr);
					back += u->held[i].nr;
				} else {
					u->held[kept++] = u->held[i];
				}
			}
			u->nr_held = kept;
			at = pcn_area_reap(&area, &u->loans, u->done);
			check(at == back, "%u units came back and not %u", at, back);
			u->units -= back;
			reaped += back;
			check(u->loans.nr_units == u->units, "%u units are lent", u->loans.nr_units);
		}
	}
	check(given && refused && fair && reaped, "given %llu refused %llu fair %llu reaped %llu", (ull)given,
	      (ull)refused, (ull)fair, (ull)reaped);
	printf("given %llu refused %llu (%llu for the others' sake) reaped %llu\n", (ull)given, (ull)refused,
	       (ull)fair, (ull)reaped);
	free(map);
	free(users);
	return 0;
}
