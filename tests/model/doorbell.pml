/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arm, recheck, doorbell: the receiver never sleeps on a message. kmod/core/ring.c and channel.c.
 *
 * The machine is TSO: each side's stores wait in a buffer of its own, in order, until they are seen. Neither
 * side reads back what it stores plainly, so loads need no forwarding. A lost wake-up is a receiver that
 * waits for ever, which the verifier reports as an invalid end state.
 *
 * Left out, one at a time, by the tests: NO_K the sender's barrier, NO_A the receiver's, NO_RECHECK the
 * second look.
 */
#define MESSAGES 3

#define SEQ	0
#define ARMED	1
#define SENDER	0
#define RECEIVER 1

byte memory[2];
chan buffer[2] = [2] of { byte, byte };
byte bell;			/* interrupts on their way or pending */

inline store(who, where, what) { buffer[who] ! where, what }
inline barrier(who) { empty(buffer[who]) }

active [2] proctype drain()
{
	byte where, what;

	/* Instances 0 and 1 serve the buffers 0 and 1. */
end:	do
	:: atomic { buffer[_pid] ? where, what -> memory[where] = what }
	od
}

active proctype sender()
{
	byte n = 0;
	bool kick;

	do
	:: n == MESSAGES -> break
	:: else ->
		n++;
		store(SENDER, SEQ, n);		/* [S] */
#ifndef NO_K
		barrier(SENDER);		/* [K] */
#endif
		kick = memory[ARMED];
		if
		:: kick ->
			/* A locked exchange: the buffer is empty when it is done. */
			atomic {
				empty(buffer[SENDER]) ->
				kick = memory[ARMED];
				memory[ARMED] = 0
			}
		:: else
		fi;
		if
		:: kick -> bell++
		:: else
		fi
	od
}

active proctype receiver()
{
	byte got = 0;

poll:
	store(RECEIVER, ARMED, 0);		/* disarm */
	do
	:: memory[SEQ] > got -> got++		/* [R] */
	:: else -> break
	od;
	if
	:: got == MESSAGES -> goto done
	:: else
	fi;
	store(RECEIVER, ARMED, 1);
#ifndef NO_A
	barrier(RECEIVER);			/* [A] */
#endif
#ifndef NO_RECHECK
	if
	:: memory[SEQ] > got -> goto poll
	:: else
	fi;
#endif
	bell > 0;				/* asleep */
	bell--;
	goto poll;
done:
	skip
}
