/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An answer in the slot of its question damages no later message, and is not lost. kmod/core/ring.c.
 *
 * The caller may give up at any moment. Its slot is used again once the receiver is done with it, and an answer
 * is written before that is told; while the caller still waits, it keeps the slot. TSO as in doorbell.pml.
 *
 * Left out by the tests: LATE_ANSWER the answer is written after the receiver told that it is done; NO_HOLD a
 * slot whose caller still waits is used again, and it waits for ever.
 */
#define SLOTS	1
#define MESSAGES 3
#define ANSWER	16	/* in a word: this is the answer to the message of that number */

#ifdef NO_HOLD
#define MAY_REUSE	true
#else
#define MAY_REUSE	!waits
#endif

#define WORD	0	/* the slot's sequence word */
#define DATA	1
#define DONE	2
#define SENDER	0
#define RECEIVER 1

byte memory[3];
chan buffer[2] = [4] of { byte, byte };
bool waits;			/* for the answer; the sender's own */

inline store(who, where, what) { buffer[who] ! where, what }

active [2] proctype drain()
{
	byte where, what;

end:	do
	:: atomic { buffer[_pid] ? where, what -> memory[where] = what }
	od
}

/* The first message is a call. */
active proctype sender()
{
	byte pos = 0, done = 0;
	bool patient;

	if
	:: patient = 1
	:: patient = 0
	fi;
	do
	:: pos == MESSAGES && !waits -> break
	:: pos < MESSAGES && pos - done < SLOTS && MAY_REUSE ->
		waits = waits || pos == 0;
		pos++;
		store(SENDER, DATA, pos);
		store(SENDER, WORD, pos)	/* [S] */
	:: memory[DONE] != done -> done = memory[DONE]	/* [D] */
	:: waits && memory[WORD] == 1 + ANSWER ->
		assert(memory[DATA] == 1 + ANSWER);	/* [Q] */
		waits = 0
	:: waits && !patient -> waits = 0	/* gives up */
	od
}

active proctype receiver()
{
	byte n = 0;

	do
	:: n == MESSAGES -> break
	:: else ->
		memory[WORD] == n + 1;		/* [R] */
		assert(memory[DATA] == n + 1);
		n++;
#ifdef LATE_ANSWER
		store(RECEIVER, DONE, n);
#endif
		if
		:: n == 1 ->
			store(RECEIVER, DATA, n + ANSWER);
			store(RECEIVER, WORD, n + ANSWER)	/* [P] */
		:: else
		fi;
#ifndef LATE_ANSWER
		store(RECEIVER, DONE, n)
#endif
	od
}
