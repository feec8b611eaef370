/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls that are answered in their own slot: an answer that comes late harms no later message, and one that is
 * waited for is not lost. kmod/core/ring.c: pcn_ring_hold(), pcn_ring_answer().
 *
 * Each message is a call. Every other one may be given up at any moment; the sender goes on while calls are under
 * way. A slot is used again when the receiver has told that it is done with it and the caller waits no more. TSO
 * as in doorbell.pml. A message or an answer that was overwritten is one that somebody waits for for ever.
 *
 * Left out by the tests: NO_DONE a call that was given up leaves its slot at once; NO_HOLD the slot of a call that
 * waits is used again; DONE_EARLY the receiver tells that it is done before it has answered.
 */
#define SLOTS		2
#define CALLS		4

#define WORD	0	/* of each slot: number of the call, from 1 on, */
#define ANSWER	16	/* and this once it is answered */
#define DATA	2
#define DONE	4

#define SENDER	0
#define RECEIVER 1

byte memory[5];
chan buffer[2] = [6] of { byte, byte };

inline store(who, where, what) { buffer[who] ! where, what }

active [2] proctype drain()
{
	byte where, what;

end:	do
	:: atomic { buffer[_pid] ? where, what -> memory[where] = what }
	od
}

active proctype sender()
{
	byte n = 0;		/* calls sent */
	byte oldest = 0;	/* calls that are not waited for any more */
	byte free = 0;		/* of them those whose slots can be used again */

	do
	:: n == CALLS && oldest == n -> break
	:: n < CALLS && n - free < SLOTS ->
		store(SENDER, DATA + n % SLOTS, n + 1);
		store(SENDER, WORD + n % SLOTS, n + 1);	/* [S] */
		n++
	:: n < CALLS && n - free == SLOTS ->
		/* Not fresher than it is: what is done and not waited for. */
		free = memory[DONE];
#ifndef NO_HOLD
		free = (free > oldest -> oldest : free);
#endif
#ifdef NO_DONE
		free = oldest;
#endif
	:: oldest < n && memory[WORD + oldest % SLOTS] == oldest + 1 + ANSWER ->	/* [Q] */
		assert(memory[DATA + oldest % SLOTS] == oldest + 1 + ANSWER);
		oldest++
	:: oldest < n && oldest % 2 ->			/* given up */
		oldest++
	od
}

active proctype receiver()
{
	byte n = 0, data;

	do
	:: n == CALLS -> break
	:: else ->
		memory[WORD + n % SLOTS] == n + 1;	/* [R] */
		data = memory[DATA + n % SLOTS];
		assert(data == n + 1);
#ifdef DONE_EARLY
		store(RECEIVER, DONE, n + 1);
#endif
		store(RECEIVER, DATA + n % SLOTS, data + ANSWER);
		store(RECEIVER, WORD + n % SLOTS, n + 1 + ANSWER);	/* [P] */
#ifndef DONE_EARLY
		store(RECEIVER, DONE, n + 1);		/* [D] */
#endif
		n++
	od
}
