/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The wake-up in two steps: the receiver never sleeps on a message. kmod/core/ring.c, wake.c and poller.c.
 *
 * A sender looks whether its channel is armed. If so it takes that back, notes itself as pending with the
 * receiver's queue, and rings if the queue was asleep. The receiver arms what it finds empty, and sleeps when
 * all is armed and nobody is pending.
 *
 * The machine is TSO: each side's stores wait in a buffer of its own, in order, until they are seen. A locked
 * exchange and a barrier wait until the buffer is empty. No side plainly reads what may still be in its own
 * buffer, but for a receiver that looks at @pending once more, which only makes it look in vain. A lost
 * wake-up is a receiver that waits for ever, which the verifier reports as an invalid end state.
 *
 * Left out, one at a time, by the tests: the barriers NO_K, NO_A, NO_W (the exchange of @asleep is one) and
 * NO_Z; the second looks NO_RECHECK (at the channel) and NO_LOOK (at the pending ones). CLEAR_LATE takes a
 * pending note back only after the channel was looked at.
 */
#define SENDERS		2
#define MESSAGES	2	/* of each */

/* Addresses: of sender i, seq is SEQ + i and so on. */
#define SEQ	0
#define ARMED	2
#define PENDING	4
#define ASLEEP	6

#define RECEIVER 2

byte memory[7];
chan buffer[3] = [4] of { byte, byte };
byte bell;			/* interrupts on their way or pending */

inline store(who, where, what) { buffer[who] ! where, what }
inline barrier(who) { empty(buffer[who]) }
inline exchange(who, where, old)
{
	atomic {
		empty(buffer[who]) ->
		old = memory[where];
		memory[where] = 0
	}
}

active [3] proctype drain()
{
	byte where, what;

	/* Instances 0 to 2 serve the buffers 0 to 2. */
end:	do
	:: atomic { buffer[_pid] ? where, what -> memory[where] = what }
	od
}

active [SENDERS] proctype sender()
{
	byte me = _pid - 3, n = 0, was;

	do
	:: n == MESSAGES -> break
	:: else ->
		n++;
		store(me, SEQ + me, n);			/* [S] */
#ifndef NO_K
		barrier(me);				/* [K] */
#endif
		was = memory[ARMED + me];
		if
		:: was -> exchange(me, ARMED + me, was)
		:: else
		fi;
		if
		:: was ->
			store(me, PENDING + me, 1);
#ifdef NO_W
			was = memory[ASLEEP];
			if
			:: was -> exchange(me, ASLEEP, was)
			:: else
			fi;
#else
			exchange(me, ASLEEP, was);	/* [W] */
#endif
			if
			:: was -> bell++
			:: else
			fi
		:: else
		fi
	od
}

active proctype receiver()
{
	byte got[SENDERS], i;
	bool active_[SENDERS], noted[SENDERS];

	/* Begins with a look at all. */
	active_[0] = true;
	active_[1] = true;
poll:
	store(RECEIVER, ASLEEP, 0);
	i = 0;
	do
	:: i == SENDERS -> break
	:: else ->
		if
		:: memory[PENDING + i] ->
#ifdef CLEAR_LATE
			noted[i] = true;
#else
			store(RECEIVER, PENDING + i, 0);
#endif
			active_[i] = true
		:: else
		fi;
		if
		:: active_[i] ->
			store(RECEIVER, ARMED + i, 0);	/* disarm */
			do
			:: memory[SEQ + i] > got[i] -> got[i]++	/* [R] */
			:: else -> break
			od
		:: else
		fi;
		i++
	od;
	if
	:: got[0] == MESSAGES && got[1] == MESSAGES -> goto done
	:: else
	fi;
	i = 0;
	do
	:: i == SENDERS -> break
	:: else ->
		if
		:: active_[i] ->
			store(RECEIVER, ARMED + i, 1);
#ifndef NO_A
			barrier(RECEIVER);		/* [A] */
#endif
#ifndef NO_RECHECK
			if
			:: memory[SEQ + i] > got[i]
			:: else -> active_[i] = false
			fi
#else
			active_[i] = false
#endif
		:: else
		fi;
#ifdef CLEAR_LATE
		if
		:: noted[i] -> store(RECEIVER, PENDING + i, 0); noted[i] = false
		:: else
		fi;
#endif
		i++
	od;
	if
	:: active_[0] || active_[1] -> goto poll
	:: else
	fi;
	store(RECEIVER, ASLEEP, 1);
#ifndef NO_Z
	barrier(RECEIVER);				/* [Z] */
#endif
#ifndef NO_LOOK
	if
	:: memory[PENDING] || memory[PENDING + 1] -> goto poll
	:: else
	fi;
#endif
	bell > 0;					/* asleep */
	bell--;
	goto poll;
done:
	skip
}
