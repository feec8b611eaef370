// SPDX-License-Identifier: GPL-2.0
/*
 * Waking the receiver of a channel, be it for a message, for room or for what a service shows. The receiver's
 * half, falling asleep, is the poller's.
 */
#include <asm/tsc.h>

#include "channel.h"
#include "doorbell.h"
#include "node.h"
#include "self.h"
#include "wake.h"

/**
 * pcn_wake_peer() - have the other node look at this channel
 * @channel: the channel, whose flag was taken back
 * @for_room: it waits for room, and not for a message
 *
 * The second of two steps: the channel's own flag told that its receiver does not look at it by itself.
 * Whether the receiver is asleep altogether is the queue's. Takes no lock.
 */
void pcn_wake_peer(struct pcn_channel *channel, bool for_room)
{
	struct pcn_node *node = channel->node;
	struct pcn_shm_queue *queue = &pcn_fabric_node(node->id)->queue[channel->queue];

	WRITE_ONCE(queue->pending[node->self->id], 1);
	/* [W] The exchange is a full barrier: the byte before the look at @asleep. Pairs with [Z] in
	 * pcn_poller_sleep(): either the receiver sees the byte or this side sees that it sleeps.
	 */
	if (!xchg(&queue->asleep, 0))
		return;
	if (for_room) {
		channel->room_doorbells++;
	} else {
		channel->doorbells++;
		/* Where the receiver finds it, to tell waiting for a doorbell from its travelling. */
		WRITE_ONCE(channel->tx.shm->tx.doorbell_tsc, rdtsc());
	}
	pcn_doorbell_ring(node, channel->queue);
}
