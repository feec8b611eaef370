// SPDX-License-Identifier: GPL-2.0
/*
 * One side works as it should, the other one writes what it likes to all that it can reach.
 */
#include "pair.h"

/* A word that is likely to matter: small, a power of two or next to one, a multiple of the unit, or any. */
static u32 interesting(u64 x)
{
	u64 y = mix(x);

	switch (x % 8) {
	case 0:
		return y % 200;
	case 1:
		return (1u << y % 32) + (y >> 8) % 3 - 1;
	case 2:
	case 3:
	case 4:
		return y % (AREA_BYTES / PCN_SHM_UNIT_BYTES + 2) * PCN_SHM_UNIT_BYTES;
	case 5:
		return 1u << y % 18;
	default:
		return y;
	}
}

static void scribble(struct pair *p, u64 x)
{
	struct pcn_shm_slot *slot = &p->rx.slot[p->rx.pos & (p->rx.nr_slots - 1)];
	u64 y = mix(x), z = mix(y);
	u32 words[2] = { interesting(y), interesting(z) };
	u8 flags;

	switch (x % 12) {
	case 0: /* anywhere */
		((u8 *)p->channel)[y % CHANNEL_BYTES] = z;
		break;
	case 1:
		p->area[y % AREA_BYTES] = z;
		break;
	case 2: /* a run of the same byte */
		memset((u8 *)p->channel + y % (CHANNEL_BYTES - 64), z, 64);
		break;
	case 3: /* a message that the receiver will take, with any length and flags, */
	case 4:
		slot->head = PCN_SHM_HEAD(pcn_ring_seq(&p->rx, p->rx.pos), (u16)z, y % 64, z >> 16 & z >> 24 & 0xff);
		slot->tsc = z;
		memcpy(&slot->data[5], words, sizeof(words));
		break;
	case 5: /* with a body anywhere, */
	case 6:
		flags = PCN_SHM_FLAG_BODY | (z >> 8 & 3 ? 0 : PCN_SHM_FLAG_CALL);
		slot->head = PCN_SHM_HEAD(pcn_ring_seq(&p->rx, p->rx.pos), (u16)z, z % 44, flags);
		memcpy(&slot->data[5], words, sizeof(words));
		break;
	case 7: /* a move anywhere */
		slot->head = PCN_SHM_HEAD(pcn_ring_seq(&p->rx, p->rx.pos), 0, 8, PCN_SHM_FLAG_MOVE);
		memcpy(&slot->data[0], words, sizeof(words));
		break;
	case 8: /* what is done, with the right tag and without */
		p->channel->rx.done = (z & 3 ? (u64)p->tx.tag << 32 : y & 0xffffffff00000000) |
				      (u32)(z & 4 ? y : p->tx.pos - y % 100);
		break;
	case 9:
		p->channel->arm.armed = y;
		break;
	case 10:
		p->channel->room.wanted = (z & 1 ? (u64)p->rx.tag << 32 : 0) | interesting(y);
		break;
	default: /* an answer in any slot of the sender's */
		slot = &p->tx.slot[y & (p->tx.nr_slots - 1)];
		slot->head = PCN_SHM_HEAD(pcn_ring_seq(&p->tx, p->tx.pos - y % 70), 0, z % 64,
					  PCN_SHM_FLAG_ANSWER | (z >> 8 & z >> 16 & 0xff));
		break;
	}
}

static bool in_place(const struct pair *p, const struct pcn_ring *ring)
{
	const u8 *start = (const u8 *)ring->slot, *end = (const u8 *)(ring->slot + ring->nr_slots);
	bool in_channel = ring->slot == p->channel->slot && ring->nr_slots == SLOTS;
	bool in_area = start >= p->area && end <= p->area + AREA_BYTES &&
		       !((start - p->area) % PCN_SHM_UNIT_BYTES);

	return ring->nr_slots >= 4 && !(ring->nr_slots & (ring->nr_slots - 1)) && (in_channel || in_area);
}

int fuzz(u64 seed, u64 rounds)
{
	struct pair p = pair_new(pcn_ring_tag(3, 4));
	u64 r, got = 0, sent = 0, full = 0, bodies = 0, calls = 0, moves = 0, answers[4] = {}, sum = 0, bad = 0;
	struct pcn_ring_msg out[4] = {}, msgs[8], msg;
	u32 i;

	for (r = 0; r < rounds; r++) {
		u64 x = mix(seed * 1000003 + r), y = mix(x);
		u32 before = p.rx.pos, max = 1 + y % 8, nr, tx_done = p.tx.done, tx_free, room;
		u32 nr_slots = p.rx.nr_slots;
		int ret;

		if (r % 200 == 0) { /* both sides begin anew, on what is left of before */
			bad += p.rx.rejected;
			pair_init(&p, pcn_ring_tag(3, r));
			before = 0;
			tx_done = 0;
			nr_slots = SLOTS;
		}
		scribble(&p, x);

		/* The sender. */
		if (y >> 8 & 1)
			pcn_ring_hold(&p.tx, 1, p.tx.pos - (y >> 9) % (p.tx.nr_slots + 1));
		else
			pcn_ring_hold(&p.tx, 0, 0);
		for (i = 0; i < 4; i++)
			out[i] = simple(y, y >> 16 & 1 ? PCN_SHM_FLAG_CALL : 0);
		nr = pcn_ring_send(&p.tx, out, 1 + (y >> 20) % 4, y);
		check(nr <= 4, "sent %u", nr);
		sent += nr;
		full += !nr;
		check(p.tx.done - tx_done <= p.tx.nr_slots && p.tx.pos - p.tx.done <= p.tx.nr_slots,
		      "the sender believes %u of %u", p.tx.done, p.tx.pos);
		tx_free = pcn_ring_free(&p.tx);
		check(p.tx.pos - tx_free <= p.tx.nr_slots, "free before %u of %u", tx_free, p.tx.pos);
		room = pcn_ring_room(&p.tx);
		check(room <= p.tx.nr_slots, "room for %u", room);
		pcn_ring_take_kick(&p.tx);
		pcn_ring_want_room(&p.tx, p.tx.pos - (y >> 40) % 64);
		ret = pcn_ring_take_answer(&p.tx.slot[(y >> 24) & (p.tx.nr_slots - 1)],
					   pcn_ring_seq(&p.tx, p.tx.pos - (y >> 24) % 64), &msg);
		check(ret == 0 || ret == 1 || ret == -EOPNOTSUPP || ret == -EBADMSG, "answer %d", ret);
		check(ret != 1 || PCN_SHM_HEAD_LEN(msg.head) <= PCN_SHM_INLINE_BYTES, "head %#llx",
		      (ull)msg.head);
		answers[ret == 1 ? 0 : ret == 0 ? 1 : ret == -EBADMSG ? 2 : 3]++;

		/* The receiver. */
		scribble(&p, y);
		pcn_ring_pace(&p.rx);
		nr = pcn_ring_receive(&p.rx, msgs, max);
		check(nr <= max && p.rx.pos - before <= max, "%u of %u, to %u from %u", nr, max, p.rx.pos,
		      before);
		check(in_place(&p, &p.rx), "the ring is at %p, %u slots", (void *)p.rx.slot, p.rx.nr_slots);
		moves += p.rx.nr_slots != nr_slots;
		for (i = 0; i < nr; i++) {
			u8 flags = PCN_SHM_HEAD_FLAGS(msgs[i].head);
			u32 len, at;
			u8 *body;

			check(!(flags & ~(PCN_SHM_FLAG_BODY | PCN_SHM_FLAG_CALL)), "flags %#x", flags);
			check(PCN_SHM_HEAD_LEN(msgs[i].head) <=
			      (flags & PCN_SHM_FLAG_BODY ? PCN_SHM_HEAD_BYTES : PCN_SHM_INLINE_BYTES),
			      "head %#llx", (ull)msgs[i].head);
			if (flags & PCN_SHM_FLAG_BODY) {
				body = pcn_ring_body(&p.rx, &msgs[i], &len);
				check(len && len <= PCN_SHM_BODY_BYTES && body >= p.area &&
				      body + len <= p.area + AREA_BYTES, "a body of %u bytes at %td", len,
				      body - p.area);
				for (at = 0; at < len; at += 64)
					sum += body[at];
				sum += body[len - 1];
				bodies++;
			}
			if (flags & PCN_SHM_FLAG_CALL) {
				pcn_ring_answer(&p.rx, PCN_SHM_HEAD_SEQ(msgs[i].head), &msgs[i]);
				calls++;
			}
		}
		got += nr;
		pcn_ring_settle(&p.rx);
		check(p.rx.pos - p.rx.done < p.rx.nr_slots, "%u are owed", p.rx.pos - p.rx.done);
		if (y >> 50 & 1) {
			pcn_ring_publish_done(&p.rx);
			pcn_ring_arm(&p.rx);
			pcn_ring_disarm(&p.rx);
		}
		p.rx.wait[0] = 0; /* time is of no matter here */
		p.rx.wait[1] = 0;
	}
	bad += p.rx.rejected;
	/* Otherwise this was no fuzzing: each of these paths has to be walked. */
	check(got && bad && sent && full && bodies && calls && moves && answers[0] && answers[1] && answers[2] &&
	      answers[3], "got %llu bad %llu sent %llu full %llu bodies %llu calls %llu moves %llu", (ull)got,
	      (ull)bad, (ull)sent, (ull)full, (ull)bodies, (ull)calls, (ull)moves);
	printf("rounds %llu got %llu bad %llu bodies %llu calls %llu moves %llu (%llu)\n", (ull)r, (ull)got,
	       (ull)bad, (ull)bodies, (ull)calls, (ull)moves, (ull)(sum & 1));
	pair_free(&p);
	return 0;
}
