/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A sender that waits for room is woken when there is some. kmod/core/ring.c (want_room, publish_done).
 *
 * The sender writes what it waits for and looks once more how far the receiver is; the receiver tells how far it
 * is and looks whether somebody waits. TSO as in doorbell.pml; a lost wake-up is an invalid end state.
 *
 * Left out by the tests: NO_H the sender's barrier, NO_Y the receiver's, NO_AGAIN the sender's second look.
 */
#define SLOTS	2
#define MESSAGES 4

#define SEQ	0
#define DONE	1
#define WANTED	2
#define SENDER	0
#define RECEIVER 1

byte memory[3];
chan buffer[2] = [3] of { byte, byte };
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
	byte pos = 0, done = 0;

	do
	:: pos == MESSAGES -> break
	:: pos < MESSAGES && pos - done < SLOTS ->
		pos++;
		store(SENDER, SEQ, pos)
	:: pos < MESSAGES && pos - done == SLOTS ->
		done = memory[DONE];			/* [D] */
		if
		:: pos - done == SLOTS ->
			store(SENDER, WANTED, pos);	/* all of them; the 0 is for nobody */
#ifndef NO_H
			barrier(SENDER);		/* [H] */
#endif
#ifndef NO_AGAIN
			done = memory[DONE];
#endif
			if
			:: done == pos -> store(SENDER, WANTED, 0)
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
	byte pos = 0, wanted;

	do
	:: pos == MESSAGES -> break
	:: pos < MESSAGES && memory[SEQ] > pos ->
		pos++;
		store(RECEIVER, DONE, pos);
#ifndef NO_Y
		barrier(RECEIVER);			/* [Y] */
#endif
		wanted = memory[WANTED];
		if
		:: wanted && wanted <= pos ->
			atomic {
				empty(buffer[RECEIVER]) ->
				wanted = memory[WANTED];
				memory[WANTED] = 0
			};
			if
			:: wanted -> bell++
			:: else
			fi
		:: else
		fi
	od
}
