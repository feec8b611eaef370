/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A new incarnation gets what was sent to it, all of it, in order, and nothing that was sent to the one
 * before. kmod/core/ring.c and node.c.
 *
 * A kernel has died and its slot is prepared again: the channel to it is wiped, the epoch grows, a new kernel
 * joins. The survivor that sends may have looked at the epoch just before, so that a message for the dead
 * kernel lands in the wiped channel. TSO as in doorbell.pml.
 *
 * Left out by the tests: NO_TAG the incarnation's tag in the sequence word; WIPE_LATE the channel is wiped
 * after the epoch was told, so that the wipe hits messages of the new incarnation.
 */
#define SLOTS	2
#define OLD	1
#define NEW	2

#ifdef NO_TAG
#define WORD(epoch, n)	((n) + 1)
#else
#define WORD(epoch, n)	((epoch) * 4 + (n) + 1)
#endif

byte word[SLOTS];		/* sequence word of each slot */
byte data[SLOTS];		/* payload: the epoch that it was meant for */
byte epoch = OLD;		/* in the node's slot */

chan buffer = [4] of { byte, byte, byte };	/* of the sender: is it a word, slot, value */

active proctype drain()
{
	byte is_word, slot, value;

end:	do
	:: atomic {
		buffer ? is_word, slot, value ->
		if
		:: is_word -> word[slot] = value
		:: else -> data[slot] = value
		fi
	}
	od
}

active proctype sender()
{
	byte mine = OLD, n = 0;

	do
	:: n == SLOTS && mine == NEW -> break
	:: n < SLOTS ->
		/* The look at the epoch and the message are not one step. */
		if
		:: epoch == mine ->
			buffer ! 0, n, mine;
			buffer ! 1, n, WORD(mine, n);	/* [S] */
			n++
		:: else -> mine = NEW; n = 0		/* connects again: the ring begins anew */
		fi
	:: n == SLOTS && mine == OLD && epoch != mine ->
		mine = NEW; n = 0
	od
}

active proctype primary()
{
	byte i = 0;

#ifdef WIPE_LATE
	epoch = NEW;
#endif
	do
	:: i == SLOTS -> break
	:: else -> word[i] = 0; data[i] = 0; i++
	od;
#ifndef WIPE_LATE
	epoch = NEW
#endif
}

/* The new kernel: it runs once the slot has its epoch. */
active proctype receiver()
{
	byte n = 0;

	epoch == NEW;
	do
	:: n == SLOTS -> break
	:: else ->
		word[n] == WORD(NEW, n);		/* [R] */
		assert(data[n] == NEW);
		n++
	od
}
