/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arm, recheck, byte, doorbell: a queue never sleeps on a message. kmod/core/ring.c, channel.c and poller.c.
 *
 * Two senders and one queue. A sender that finds its channel armed takes that back, sets its byte in the queue's
 * line and takes back that the queue sleeps; if it did, it rings. The receiver arms a channel that it found
 * empty and looks once more; when none is left it says that it sleeps, and looks at the bytes once more.
 *
 * The machine is TSO: each side's stores wait in a buffer of its own, in order, until they are seen. Nobody reads
 * back what it stores plainly, so loads need no forwarding. A lost wake-up is a receiver that waits for
 * ever, which the verifier reports as an invalid end state.
 *
 * Left out, one at a time, by the tests: NO_K, NO_A, NO_W and NO_Z the barriers of these names, NO_RECHECK the
 * second look at a channel, NO_LOOK the second look at the bytes; LATE_CLEAR takes a byte back only after its
 * channel was armed again.
 */
#define MESSAGES 2

#define SEQ	0	/* of each sender's ring; two of each */
#define ARMED	2
#define PENDING	4
#define ASLEEP	6
#define RECEIVER 2

byte memory[7];
chan buffer[3] = [3] of { byte, byte };
byte bell;			/* interrupts on their way or pending */

inline store(who, where, what) { buffer[who] ! where, what }
inline barrier(who) { empty(buffer[who]) }
/* A locked exchange: the buffer is empty when it is done. */
inline take(who, where, had) {
	atomic { empty(buffer[who]) -> had = memory[where]; memory[where] = 0 }
}

active [3] proctype drain()
{
	byte where, what;

	/* Instances 0 to 2 serve the buffers 0 to 2. */
end:	do
	:: atomic { buffer[_pid] ? where, what -> memory[where] = what }
	od
}

proctype sender(byte me)
{
	byte n = 0;
	bool kick, asleep;

	do
	:: n == MESSAGES -> break
	:: else ->
		n++;
		store(me, SEQ + me, n);		/* [S] */
#ifndef NO_K
		barrier(me);			/* [K] */
#endif
		kick = memory[ARMED + me];
		if
		:: kick -> take(me, ARMED + me, kick)
		:: else
		fi;
		if
		:: kick ->
			store(me, PENDING + me, 1);
#ifdef NO_W
			asleep = memory[ASLEEP];
			if
			:: asleep -> take(me, ASLEEP, asleep)
			:: else
			fi;
#else
			take(me, ASLEEP, asleep);	/* [W] */
#endif
			if
			:: asleep -> bell++
			:: else
			fi
		:: else
		fi
	od
}

proctype receiver()
{
	byte got[2], i;
	bool active_[2], found;

	/* All channels are looked at to begin with. */
	active_[0] = 1;
	active_[1] = 1;
poll:
	store(RECEIVER, ASLEEP, 0);
again:
	i = 0;
	do
	:: i == 2 -> break
	:: else ->
		if
		:: memory[PENDING + i] ->
#ifndef LATE_CLEAR
			store(RECEIVER, PENDING + i, 0);
#endif
			active_[i] = 1
		:: else
		fi;
		i++
	od;
	i = 0;
	do
	:: i == 2 -> break
	:: else ->
		do
		:: active_[i] && memory[SEQ + i] > got[i] -> got[i]++	/* [R] */
		:: else -> break
		od;
		i++
	od;
	if
	:: got[0] == MESSAGES && got[1] == MESSAGES -> goto done
	:: else
	fi;
	i = 0;
	found = 0;
	do
	:: i == 2 -> break
	:: else ->
		if
		:: active_[i] ->
			store(RECEIVER, ARMED + i, 1);
#ifndef NO_A
			barrier(RECEIVER);	/* [A] */
#endif
#ifdef LATE_CLEAR
			store(RECEIVER, PENDING + i, 0);
#endif
#ifndef NO_RECHECK
			if
			:: memory[SEQ + i] > got[i] -> found = 1
			:: else -> active_[i] = 0
			fi
#else
			active_[i] = 0
#endif
		:: else
		fi;
		i++
	od;
	if
	:: found -> goto again
	:: else
	fi;
	store(RECEIVER, ASLEEP, 1);
#ifndef NO_Z
	barrier(RECEIVER);			/* [Z] */
#endif
#ifndef NO_LOOK
	if
	:: memory[PENDING] || memory[PENDING + 1] -> goto poll
	:: else
	fi;
#endif
	bell > 0;				/* asleep */
	bell--;
	goto poll;
done:
	skip
}

init
{
	atomic { run sender(0); run sender(1); run receiver() }
}
