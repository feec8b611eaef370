// SPDX-License-Identifier: GPL-2.0
/*
 * What a message of the tests looks like: a head, and bytes that follow from it.
 */
#include <linux/minmax.h>
#include <linux/string.h>

#include "stress.h"

#define STRESS_STEP	0x9e3779b97f4a7c15ULL	/* odd: no two words of a message are the same */

static u64 stress_mix(u64 x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static u64 stress_check(const struct stress_head *head)
{
	u64 word[3];

	static_assert(sizeof(word) == offsetof(struct stress_head, check));
	memcpy(word, head, sizeof(word));
	return stress_mix(word[0] + stress_mix(word[1] + stress_mix(word[2] + STRESS_STEP)));
}

/**
 * stress_payload_seal() - a head is complete
 * @head: gets its check
 */
void stress_payload_seal(struct stress_head *head)
{
	head->check = stress_check(head);
}

/**
 * stress_payload_fill() - write what follows a head
 * @to: aligned to 8 bytes
 * @check: of the head
 * @len: bytes
 */
void stress_payload_fill(void *to, u64 check, u32 len)
{
	u64 *word = to;
	u32 i;

	for (i = 0; i < len / 8; i++)
		word[i] = check += STRESS_STEP;
	check += STRESS_STEP;
	memcpy(&word[i], &check, len % 8);
}

/**
 * stress_payload_open() - take the head out of a message
 * @msg: as received
 * @head: filled
 * @rest: set to what follows it, which the sender may still write
 *
 * Return: false if it is none of ours, or not as it was sent.
 */
bool stress_payload_open(const struct pcn_msg *msg, struct stress_head *head, const void **rest)
{
	/* Senders put the head into the slot, or all of the message into the body. */
	if (msg->len >= sizeof(*head)) {
		if (msg->body_len && msg->len != sizeof(*head))
			return false;
		memcpy(head, msg->data, sizeof(*head));
		*rest = msg->body_len ? msg->body : msg->data + sizeof(*head);
	} else {
		if (msg->len || msg->body_len < sizeof(*head))
			return false;
		memcpy(head, msg->body, sizeof(*head));
		*rest = msg->body + sizeof(*head);
	}
	return head->check == stress_check(head) && head->len == msg->len + msg->body_len;
}

/**
 * stress_payload_verify() - is what follows the head as it was sent, byte for byte?
 * @rest: from stress_payload_open()
 * @check: of the head
 * @len: bytes
 */
bool stress_payload_verify(const void *rest, u64 check, u32 len)
{
	const u64 *word = rest;
	u64 last = 0, bad = 0;
	u32 i;

	for (i = 0; i < len / 8; i++)
		bad |= READ_ONCE(word[i]) ^ (check += STRESS_STEP);
	check += STRESS_STEP;
	memcpy(&last, &word[i], len % 8);
	return !bad && !memcmp(&last, &check, len % 8);
}

/**
 * stress_payload_sum() - of content that does not follow from the head
 * @data: any
 * @len: bytes
 */
u32 stress_payload_sum(const void *data, u32 len)
{
	const u8 *byte = data;
	u64 sum = len;
	u32 i;

	for (i = 0; i < len; i++)
		sum = stress_mix(sum + byte[i] + STRESS_STEP);
	return sum;
}

/**
 * stress_payload_len() - how long a message of a stream is
 * @spec: of the run
 * @stream: which
 * @seq: number of the message
 *
 * Return: bytes, sizeof(struct stress_head) to the larger of that of a slot and @spec's max.
 */
u32 stress_payload_len(const struct stress_spec *spec, u32 stream, u32 seq)
{
	u64 random = stress_mix(((u64)spec->run << 40) + ((u64)stream << 32) + seq);
	u32 dice = (u32)random % 1000, least = PCN_SHM_INLINE_BYTES + 1, most;

	random >>= 32;
	if (dice < spec->in_slot || spec->max < least)
		return sizeof(struct stress_head) +
		       random % (PCN_SHM_INLINE_BYTES - sizeof(struct stress_head) + 1);
	most = dice < spec->in_slot + spec->small ? min_t(u32, spec->max, 1023) : spec->max;
	return least + random % (most - least + 1);
}
