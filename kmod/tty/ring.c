// SPDX-License-Identifier: GPL-2.0
/*
 * Rings of bytes, both ends in this kernel. The caller has the lock.
 */
#include <linux/minmax.h>
#include <linux/string.h>

#include "tty.h"

/**
 * pcn_tty_ring_put() - put bytes in
 * @ring: the ring
 * @from: bytes; a peer may still be writing them
 * @len: how many
 *
 * Return: how many there was room for.
 */
u32 pcn_tty_ring_put(struct pcn_tty_ring *ring, const void *from, u32 len)
{
	u32 at = ring->in & (ring->size - 1), first;

	len = min(len, pcn_tty_ring_room(ring));
	if (!len)
		return 0;
	first = min_t(u32, len, ring->size - at);
	memcpy(ring->data + at, from, first);
	memcpy(ring->data, from + first, len - first);
	ring->in += len;
	return len;
}

/**
 * pcn_tty_ring_peek() - copy what would come out next; add to @out to take it
 * @ring: the ring
 * @to: filled
 * @len: how many bytes at most
 *
 * Return: how many.
 */
u32 pcn_tty_ring_peek(const struct pcn_tty_ring *ring, void *to, u32 len)
{
	u32 at = ring->out & (ring->size - 1), first;

	len = min(len, pcn_tty_ring_len(ring));
	if (!len)
		return 0;
	first = min_t(u32, len, ring->size - at);
	memcpy(to, ring->data + at, first);
	memcpy(to + first, ring->data, len - first);
	return len;
}

/**
 * pcn_tty_ring_front() - what would come out next, in place
 * @ring: the ring
 * @len: set to how much of it lies in one piece
 *
 * Return: where.
 */
const u8 *pcn_tty_ring_front(const struct pcn_tty_ring *ring, u32 *len)
{
	u32 at = ring->out & (ring->size - 1);

	*len = min_t(u32, pcn_tty_ring_len(ring), ring->size - at);
	return ring->data + at;
}
