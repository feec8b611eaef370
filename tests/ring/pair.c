// SPDX-License-Identifier: GPL-2.0
#include "pair.h"

void pair_init(struct pair *p, u32 tag)
{
	pcn_ring_init(&p->tx, p->channel, SLOTS, tag, p->area, AREA_BYTES);
	pcn_ring_init(&p->rx, p->channel, SLOTS, tag, p->area, AREA_BYTES);
}

struct pair pair_new(u32 tag)
{
	struct pair p = { .channel = aligned_alloc(64, CHANNEL_BYTES), .area = aligned_alloc(64, AREA_BYTES) };

	check(p.channel && p.area, "no memory");
	memset(p.area, 0, AREA_BYTES);
	pcn_ring_clear(p.channel, SLOTS);
	pair_init(&p, tag);
	return p;
}

void pair_free(struct pair *p)
{
	free(p->channel);
	free(p->area);
}

struct pcn_ring_msg simple(u64 value, u8 flags)
{
	return (struct pcn_ring_msg){ .head = PCN_SHM_HEAD(0, 9, 8, flags), .data = { value } };
}

void send_one(struct pair *p, u64 value, u8 flags)
{
	struct pcn_ring_msg msg = simple(value, flags);

	check(pcn_ring_send(&p->tx, &msg, 1, 1) == 1, "no room for %llu", (ull)value);
}

u32 take_all(struct pair *p, struct pcn_ring_msg *msgs, u32 max)
{
	u32 got = 0, before;

	do {
		before = p->rx.pos;
		got += pcn_ring_receive(&p->rx, msgs + got, max - got);
	} while (p->rx.pos != before && got < max);
	return got;
}
