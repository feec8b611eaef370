// SPDX-License-Identifier: GPL-2.0
#include "payload.h"

static void fill(u8 *data, u32 len, u64 seed)
{
	u32 i;

	for (i = 0; i < len; i++)
		data[i] = mix(seed + i / 8) >> i % 8 * 8;
}

void want(u64 n, struct want *w)
{
	u64 x = mix(n), y = mix(x);

	memset(w, 0, sizeof(*w));
	w->service = x >> 32;
	w->kind = x % 16 < 11 ? SLOT : x % 16 < 14 ? BODY : CALL;
	w->len = y % (1 + (w->kind == BODY ? PCN_SHM_HEAD_BYTES : PCN_SHM_INLINE_BYTES));
	w->refuse = y >> 20 & 1;
	if (w->kind == BODY)
		w->body_len = 1 + (y >> 8) % (y >> 40 & 63 ? 2500 : PCN_SHM_BODY_BYTES);
	fill(w->data, w->len, x);
}

void body_fill(u8 *body, u32 len, u64 n)
{
	u32 i;

	for (i = 0; i + 8 <= len; i += 8)
		memcpy(body + i, &(u64){ n * 0x9e3779b97f4a7c15ull + i }, 8);
	for (; i < len; i++)
		body[i] = n + i;
}

bool body_right(const u8 *body, u32 len, u64 n)
{
	u64 word;
	u32 i;

	for (i = 0; i + 8 <= len; i += 8) {
		memcpy(&word, body + i, 8);
		if (word != n * 0x9e3779b97f4a7c15ull + i)
			return false;
	}
	for (; i < len; i++)
		if (body[i] != (u8)(n + i))
			return false;
	return true;
}

struct pcn_ring_msg answer_to(u64 n)
{
	struct pcn_ring_msg msg = {};
	u32 len = mix(n + 3) % (PCN_SHM_INLINE_BYTES + 1);

	fill((u8 *)msg.data, len, n + 5);
	msg.head = PCN_SHM_HEAD(0, 0, len, 0);
	return msg;
}
