/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What message number n looks like; both sides work it out.
 */
#ifndef RING_CHECK_PAYLOAD_H
#define RING_CHECK_PAYLOAD_H

#include "check.h"

enum kind { SLOT, BODY, CALL };

struct want {
	enum kind kind;
	u16 service;
	u32 len;
	u32 body_len;
	u8 data[PCN_SHM_INLINE_BYTES];
	bool refuse;
};

void want(u64 n, struct want *w);

/* The words of a body carry its number, so that all of it is told apart cheaply. */
void body_fill(u8 *body, u32 len, u64 n);
bool body_right(const u8 *body, u32 len, u64 n);

struct pcn_ring_msg answer_to(u64 n);

#endif
