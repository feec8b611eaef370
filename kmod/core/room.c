// SPDX-License-Identifier: GPL-2.0
/*
 * Room in channels and in the area: asking receivers for it, and telling those who wait for it that it came.
 */
#include <linux/wait.h>
#include <asm/tsc.h>

#include "channel.h"
#include "room.h"
#include "self.h"
#include "service.h"
#include "trace.h"

/**
 * pcn_room_want() - ask to be woken when there is room
 * @channel: that has none; under its tx_lock
 *
 * Namely when the receiver is done with three quarters of what it has: one doorbell for many messages, and work
 * for the receiver until more comes.
 *
 * Return: true if there is room by now.
 */
bool pcn_room_want(struct pcn_channel *channel)
{
	struct pcn_ring *tx = &channel->tx;
	u32 waiting = tx->pos - tx->done;

	channel->room_wanted = true;
	if (!waiting || !pcn_ring_want_room(tx, tx->done + waiting - waiting / 4))
		return false;
	channel->room_wanted = false;
	return true;
}

/* Not inline, as all that is for tracing only; see send.c. */
static noinline void pcn_room_trace_none(const struct pcn_channel *channel, u64 tsc)
{
	trace_popcorn_channel_full(channel->node->self->id, channel->node->id, channel->queue, tsc);
}

/**
 * pcn_room_none() - count a message that found no room, and ask to be woken when there is some
 * @channel: that has none; under its tx_lock
 * @tsc: when it was to be sent
 *
 * Return: as pcn_room_want().
 */
bool pcn_room_none(struct pcn_channel *channel, u64 tsc)
{
	channel->full++;
	if (trace_popcorn_channel_full_enabled())
		pcn_room_trace_none(channel, tsc);
	return pcn_room_want(channel);
}

static noinline void pcn_room_trace_came(const struct pcn_channel *channel)
{
	trace_popcorn_channel_room(channel->node->self->id, channel->node->id, channel->queue, rdtsc());
}

/**
 * pcn_room_came() - is there the room that was asked for
 * @channel: that asked for it; under its tx_lock
 *
 * Return: whether there is. Then it is not asked for any more.
 */
bool pcn_room_came(struct pcn_channel *channel)
{
	if (READ_ONCE(channel->tx.shm->room.wanted) && !pcn_ring_room(&channel->tx))
		return false;
	channel->room_wanted = false;
	if (trace_popcorn_channel_room_enabled())
		pcn_room_trace_came(channel);
	return true;
}

/**
 * pcn_room_tell() - let those go on who wait for room in a channel
 * @channel: that has some; no lock held
 */
void pcn_room_tell(struct pcn_channel *channel)
{
	wake_up(&channel->room);
	pcn_service_room(channel->node);
}

/**
 * pcn_room_tell_all() - let those go on who wait for room in the area, in whichever channel
 * @self: whose area has some; no lock held
 */
void pcn_room_tell_all(struct pcn_self *self)
{
	u32 id, queue;

	WRITE_ONCE(self->area_short, false);
	for (id = 0; id < pcn_fabric.nr_nodes; id++) {
		for (queue = 0; queue < pcn_fabric.nr_queues; queue++)
			wake_up(&self->node[id].channel[queue].room);
		pcn_service_room(&self->node[id]);
	}
}
