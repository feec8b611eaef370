// SPDX-License-Identifier: GPL-2.0
/*
 * Messages of an earlier incarnation are never delivered.
 */
#include "pair.h"

int epoch(void)
{
	struct pair p = pair_new(1);
	struct pcn_ring_msg msgs[BATCH];
	u64 delivered = 0;
	u32 e, i, nr;

	for (e = 1; e < 5000; e++) {
		/* The receiver comes back in a new epoch; the channel keeps what the old one left. */
		u32 tag = pcn_ring_tag(1, e), sent = 1 + mix(e) % (2 * SLOTS), taken = mix(e + 1) % sent;

		check(tag && tag < 1u << PCN_RING_TAG_BITS, "tag %u", tag);
		check(tag != pcn_ring_tag(1, e - 1) && tag != pcn_ring_tag(2, e), "epoch %u", e);
		pair_init(&p, tag);
		check(!pcn_ring_ready(&p.rx) && !take_all(&p, msgs, BATCH),
		      "epoch %u got a message of an earlier one", e);
		check(pcn_ring_room(&p.tx) == SLOTS, "epoch %u begins with room for %u", e, pcn_ring_room(&p.tx));
		for (i = 0; i < sent; i++) {
			struct pcn_ring_msg msg = simple((u64)e << 32 | i, 0);

			while (!pcn_ring_send(&p.tx, &msg, 1, msg.data[0])) {
				if (!taken)
					goto next;
				nr = take_all(&p, msgs, 1);
				check(!nr || msgs[0].tsc >> 32 == e, "epoch %u message %u", e, i);
				delivered += nr;
				pcn_ring_publish_done(&p.rx);
			}
			if (i < taken) {
				nr = take_all(&p, msgs, 1);
				check(nr == 1 && msgs[0].tsc >> 32 == e, "epoch %u message %u", e, i);
				delivered++;
			}
		}
next:
		;
	}
	printf("epochs %u delivered %llu\n", e - 1, (ull)delivered);
	pair_free(&p);
	return 0;
}
