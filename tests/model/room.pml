/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A sender that waits for room is woken. kmod/core/ring.c: pcn_ring_want_room(), pcn_ring_publish_done().
 *
 * The receiver tells from time to time how many messages it is done with, and always before it has nothing to
 * do. The sender whose ring is full leaves a wish and looks once more. TSO as in doorbell.pml; a lost wake-up is
 * a sender that waits for ever.
 *
 * Left out by the tests: the barriers NO_H and NO_Y, the sender's second look NO_RECHECK, and what the receiver
 * tells before it has nothing to do, NO_REST.
 */
#define SLOTS		2
#define MESSAGES	5

#define SEQ	0
#define DONE	1
#define WANTED	2	/* 0: nothing */

#define SENDER	0
#define RECEIVER 1

byte memory[3];
chan buffer[2] = [4] of { byte, byte };
byte bell;

inline store(who, where, what) { buffer[who] ! where, what }
inline barrier(who) { empty(buffer[who]) }

active [2] proctype drain()
{
	byte where, what;

end:	do
	:: atomic { buffer[_pid] ? where, what -> memory[where] = what }
	od
}

active proctype sender()
{
	byte n = 0, done = 0, wish;

	do
	:: n == MESSAGES -> break
	:: n < MESSAGES && n - done < SLOTS ->
		n++;
		store(SENDER, SEQ, n)
	:: n < MESSAGES && n - done == SLOTS ->
		done = memory[DONE];
		if
		:: n - done == SLOTS ->
			/* For one message, or for all that there can be. */
			if
			:: wish = done + 1
			:: wish = done + SLOTS
			fi;
			store(SENDER, WANTED, wish);
#ifndef NO_H
			barrier(SENDER);		/* [H] */
#endif
#ifndef NO_RECHECK
			done = memory[DONE];
#endif
			if
			:: done >= wish -> store(SENDER, WANTED, 0)
			:: else ->
				bell > 0;		/* asleep */
				bell--;
				done = memory[DONE]
			fi
		:: else
		fi
	od
}

active proctype receiver()
{
	byte got = 0, told = 0, wish;

again:
	do
	:: got == MESSAGES && told == got -> break
	:: memory[SEQ] > got ->
		assert(memory[SEQ] - told <= SLOTS);	/* none was overwritten */
		got++;
		if
		:: skip					/* later */
		:: goto tell
		fi
#ifndef NO_REST
	:: memory[SEQ] == got && told != got -> goto tell
#else
	:: memory[SEQ] == got && got == MESSAGES -> told = got
#endif
	od;
	goto over;
tell:
	told = got;
	store(RECEIVER, DONE, told);
#ifndef NO_Y
	barrier(RECEIVER);				/* [Y] */
#endif
	wish = memory[WANTED];
	if
	:: wish && told >= wish ->
		atomic {
			empty(buffer[RECEIVER]) ->
			wish = memory[WANTED];
			memory[WANTED] = 0
		};
		if
		:: wish -> bell++
		:: else
		fi
	:: else
	fi;
	goto again;
over:
	skip
}
