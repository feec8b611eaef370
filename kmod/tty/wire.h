/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What service "popcorn.tty" sends. Every message begins with a head; for all but DATA it is all, or there
 * are a few bytes more in the slot. The other kernel may be of another version: append, and count
 * PCN_TTY_VERSION up when what is there changes its meaning.
 *
 * Flow control: each side counts the bytes of a line that it got, from 0 at peer_up. CREDIT says up to which
 * count the other may send, at most PCN_TTY_WINDOW more than were taken. Nothing may be sent before the
 * first CREDIT.
 */
#ifndef _PCN_TTY_WIRE_H
#define _PCN_TTY_WIRE_H

#include <linux/types.h>

#define PCN_TTY_SERVICE		"popcorn.tty"
#define PCN_TTY_VERSION		1
#define PCN_TTY_LINES		8		/* between each two nodes */
#define PCN_TTY_WINDOW		(32 << 10)	/* bytes under way in each direction of a line */

/**
 * enum pcn_tty_kind - what a message is
 * @PCN_TTY_DATA: bytes, in the rest of the slot or in the body
 * @PCN_TTY_CREDIT: value is the count up to which may be sent; value - PCN_TTY_WINDOW were taken
 * @PCN_TTY_SYNC: a CREDIT is wanted when all that was sent is taken
 * @PCN_TTY_MODEM: value is 1 while the line is open at the sender's, which is the receiver's carrier
 * @PCN_TTY_BREAK: a break, at this place in the stream
 * @PCN_TTY_SIZE: of the terminal's window; struct pcn_tty_size follows
 */
enum pcn_tty_kind {
	PCN_TTY_DATA,
	PCN_TTY_CREDIT,
	PCN_TTY_SYNC,
	PCN_TTY_MODEM,
	PCN_TTY_BREAK,
	PCN_TTY_SIZE,
};

struct pcn_tty_head {
	__u8 kind;
	__u8 line;
	__u16 reserved;
	__u32 value;
};

struct pcn_tty_size {
	__u16 rows;
	__u16 columns;
	__u16 width;
	__u16 height;
};

#endif
