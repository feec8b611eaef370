// SPDX-License-Identifier: GPL-2.0
/*
 * Growing: a ring that turned out too small for its service moves from the channel into the sender's area.
 */
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <asm/tsc.h>

#include "channel.h"
#include "grow.h"
#include "node.h"
#include "room.h"
#include "self.h"
#include "wake.h"

/**
 * pcn_grow_ask() - have a ring moved to a larger place, soon
 * @channel: whose ring is full; under its tx_lock
 * @slots: that it should have
 */
void pcn_grow_ask(struct pcn_channel *channel, u32 slots)
{
	struct pcn_self *self = channel->node->self;

	if (slots <= channel->tx.nr_slots || channel->grow_to >= slots)
		return;
	channel->grow_to = slots;
	queue_work(self->wq, &self->grow);
}

/* Under tx_lock. Returns the old circle, to be freed. */
static struct pcn_area_loan *pcn_grow_swap_loans(struct pcn_area_loans *loans, struct pcn_area_loan *more,
						 u32 nr)
{
	struct pcn_area_loan *old = loans->loan;
	u32 i;

	for (i = loans->first; i != loans->next; i++)
		more[i & (nr - 1)] = old[i & (loans->nr_loans - 1)];
	loans->loan = more;
	loans->nr_loans = nr;
	return old;
}

static u32 pcn_grow_ring_units(const struct pcn_self *self)
{
	u32 id, queue, units = 0;

	for (id = 0; id < pcn_fabric.nr_nodes; id++)
		for (queue = 0; queue < pcn_fabric.nr_queues; queue++)
			units += self->node[id].channel[queue].ring_units;
	return units;
}

static void pcn_grow_one(struct pcn_channel *channel, u32 slots)
{
	u32 units = slots * PCN_SHM_SLOT_BYTES / PCN_SHM_UNIT_BYTES, unit, move_pos, in_rings;
	struct pcn_self *self = channel->node->self;
	struct pcn_area_loan *loans = kvmalloc_array(slots, sizeof(*loans), GFP_KERNEL);
	unsigned long flags;
	int ret;

	if (!loans)
		return;
	in_rings = pcn_grow_ring_units(self);
	spin_lock_irqsave(&channel->tx_lock, flags);
	ret = pcn_self_reaches(channel->node);
	if (ret || slots <= channel->tx.nr_slots)
		goto out;
	/* All grown rings together leave as much of the area as they take. */
	spin_lock(&self->area_lock);
	ret = pcn_area_get(&self->area, units, in_rings, &unit);
	spin_unlock(&self->area_lock);
	if (ret)
		goto out;
	move_pos = channel->tx.pos;
	if (!pcn_ring_move(&channel->tx, unit * PCN_SHM_UNIT_BYTES, slots, rdtsc())) {
		spin_lock(&self->area_lock);
		pcn_area_put(&self->area, unit, units);
		spin_unlock(&self->area_lock);
		/* The next send that finds it full asks again. */
		goto out;
	}
	loans = pcn_grow_swap_loans(&channel->loans, loans, slots);
	if (channel->ring_units) {
		/* Where it was before is free once the receiver has left it. */
		pcn_area_lend(&channel->loans, move_pos, channel->ring_unit, channel->ring_units);
		channel->units += channel->ring_units;
	}
	channel->ring_unit = unit;
	channel->ring_units = units;
	if (pcn_ring_take_kick(&channel->tx))
		pcn_wake_peer(channel, false);
out:
	channel->grow_to = 0;
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	kvfree(loans);
	/* There is room in a ring that has grown. */
	pcn_room_tell(channel);
}

/**
 * pcn_grow_all() - move the rings that turned out too small to a larger place
 * @work: of a struct pcn_self
 */
void pcn_grow_all(struct work_struct *work)
{
	struct pcn_self *self = container_of(work, struct pcn_self, grow);
	u32 id, queue;

	for (id = 0; id < pcn_fabric.nr_nodes; id++)
		for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
			struct pcn_channel *channel = &self->node[id].channel[queue];
			u32 slots = READ_ONCE(channel->grow_to);

			if (slots)
				pcn_grow_one(channel, slots);
		}
}
