// SPDX-License-Identifier: GPL-2.0
/*
 * The real kmod/core/ring.c and area.c in user space.
 *
 *	ring_check stream MESSAGES	two processes: every payload, order and count, in slots and bodies,
 *					in batches, as calls that are answered in place, refused or given up, in
 *					a ring that moves; both sides sleep, so a lost wake-up ends in a timeout
 *	ring_check threads MESSAGES	the same as two threads, for the thread sanitizer
 *	ring_check rules		what the interface promises, one by one
 *	ring_check epoch		messages of an earlier incarnation are never delivered
 *	ring_check fuzz SEED ROUNDS	the receiver against a scribbling sender, and the other way round
 *	ring_check area SEED ROUNDS	the allocator against a model that is as simple as can be
 *
 * Exit status 0 and a line of figures, or 1 and what is wrong.
 */
#include "check.h"

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	if (argc == 3 && !strcmp(argv[1], "stream"))
		return stream(strtoull(argv[2], NULL, 0));
	if (argc == 3 && !strcmp(argv[1], "threads"))
		return threads(strtoull(argv[2], NULL, 0));
	if (argc == 2 && !strcmp(argv[1], "rules"))
		return rules();
	if (argc == 2 && !strcmp(argv[1], "epoch"))
		return epoch();
	if (argc == 4 && !strcmp(argv[1], "fuzz"))
		return fuzz(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	if (argc == 4 && !strcmp(argv[1], "area"))
		return area(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	fprintf(stderr, "usage: ring_check stream MESSAGES | threads MESSAGES | rules | epoch | "
			"fuzz SEED ROUNDS | area SEED ROUNDS\n");
	return 2;
}
