// SPDX-License-Identifier: GPL-2.0
/*
 * Channels: what goes to another node and comes from it through one queue. A ring each way, and the bodies
 * that its slots tell of. Here they begin and end, and what the other node did is seen; what goes through them
 * is in send.c, call.c and poller.c.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>

#include "body.h"
#include "call.h"
#include "channel.h"
#include "node.h"
#include "room.h"
#include "self.h"

/**
 * pcn_channel_look() - the other node may have made room or answered a call
 * @channel: the channel; no tx_lock held
 */
void pcn_channel_look(struct pcn_channel *channel)
{
	struct pcn_self *self = channel->node->self;
	bool room, came_back;
	unsigned long flags;
	u32 had;

	spin_lock_irqsave(&channel->tx_lock, flags);
	had = channel->units;
	if (channel->nr_calls)
		pcn_call_take_answers(channel);
	room = channel->room_wanted && pcn_room_came(channel);
	pcn_body_reap(channel);
	came_back = channel->units < had;
	spin_unlock_irqrestore(&channel->tx_lock, flags);

	if (came_back && READ_ONCE(self->area_short))
		pcn_room_tell_all(self);
	else if (room)
		pcn_room_tell(channel);
}

/**
 * pcn_channel_tick() - nobody waits for ever for a peer that does not wake as it should
 * @self: whose channels
 */
void pcn_channel_tick(struct pcn_self *self)
{
	u32 id, queue;

	for (id = 0; id < pcn_fabric.nr_nodes; id++)
		for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
			struct pcn_channel *channel = &self->node[id].channel[queue];

			if (!READ_ONCE(channel->room_wanted) && !READ_ONCE(channel->units) &&
			    !waitqueue_active(&channel->room))
				continue;
			if (READ_ONCE(self->node[id].reachable))
				pcn_channel_look(channel);
			wake_up(&channel->room);
		}
}

/**
 * pcn_channel_open() - begin a new incarnation of all channels to and from a node
 * @node: the node, unreachable, with its new epoch
 */
void pcn_channel_open(struct pcn_node *node)
{
	struct pcn_self *self = node->self;
	u32 queue;

	pcn_channel_forget(node);
	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		struct pcn_channel *channel = &node->channel[queue];
		unsigned long flags;

		spin_lock_bh(&self->poller[queue].lock);
		channel->rejected_before += channel->rx.rejected;
		pcn_ring_init(&channel->rx, pcn_fabric_channel(node->id, self->id, queue),
			      pcn_fabric.ring_slots, pcn_ring_tag(node->epoch, self->epoch),
			      pcn_fabric_area(node->id), pcn_fabric.area_bytes);
		spin_lock_irqsave(&channel->tx_lock, flags);
		pcn_ring_init(&channel->tx, pcn_fabric_channel(self->id, node->id, queue),
			      pcn_fabric.ring_slots, pcn_ring_tag(self->epoch, node->epoch),
			      pcn_fabric_area(self->id), pcn_fabric.area_bytes);
		channel->room_wanted = false;
		channel->grow_to = 0;
		spin_unlock_irqrestore(&channel->tx_lock, flags);
		spin_unlock_bh(&self->poller[queue].lock);
	}
}

/**
 * pcn_channel_close() - a node is not to be sent to any more: who waits for it is told
 * @node: the node, unreachable
 *
 * Its rings stay as they are: a node that only went silent goes on where it stopped.
 */
void pcn_channel_close(struct pcn_node *node)
{
	u32 queue;

	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		struct pcn_channel *channel = &node->channel[queue];
		unsigned long flags;

		spin_lock_irqsave(&channel->tx_lock, flags);
		pcn_call_end_all(channel, -ENOTCONN);
		spin_unlock_irqrestore(&channel->tx_lock, flags);
		wake_up_all(&channel->room);
	}
}

/**
 * pcn_channel_forget() - take back what a node's channels have of the area
 * @node: the node, whose kernel does not run any more
 *
 * Not earlier: a kernel that still runs might answer a call in a ring that is somebody else's body by then.
 */
void pcn_channel_forget(struct pcn_node *node)
{
	struct pcn_self *self = node->self;
	u32 queue;

	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		struct pcn_channel *channel = &node->channel[queue];
		unsigned long flags;

		spin_lock_irqsave(&channel->tx_lock, flags);
		spin_lock(&self->area_lock);
		/* A body that is being filled stays with who fills it. */
		channel->units -= pcn_area_reap(&self->area, &channel->loans, channel->tx.pos);
		if (channel->ring_units)
			pcn_area_put(&self->area, channel->ring_unit, channel->ring_units);
		channel->ring_units = 0;
		spin_unlock(&self->area_lock);
		spin_unlock_irqrestore(&channel->tx_lock, flags);
	}
}

static int pcn_channel_setup_node(struct pcn_self *self, u32 id)
{
	struct pcn_node *node = &self->node[id];
	u32 queue;

	node->channel = kvcalloc(pcn_fabric.nr_queues, sizeof(*node->channel), GFP_KERNEL);
	if (!node->channel)
		return -ENOMEM;
	for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
		struct pcn_channel *channel = &node->channel[queue];

		channel->node = node;
		channel->queue = queue;
		spin_lock_init(&channel->tx_lock);
		INIT_LIST_HEAD(&channel->calls);
		init_waitqueue_head(&channel->room);
		channel->loans.loan = kvmalloc_array(pcn_fabric.ring_slots, sizeof(*channel->loans.loan),
						     GFP_KERNEL);
		if (!channel->loans.loan)
			return -ENOMEM;
		channel->loans.nr_loans = pcn_fabric.ring_slots;
	}
	return 0;
}

/**
 * pcn_channel_setup() - make ready for channels to every node
 * @self: whose, on a mapped fabric
 *
 * Return: 0 or -ENOMEM, with nothing left to free.
 */
int pcn_channel_setup(struct pcn_self *self)
{
	u32 nr_units = pcn_fabric.area_bytes / PCN_SHM_UNIT_BYTES, id;
	unsigned long *map = bitmap_zalloc(nr_units, GFP_KERNEL);
	int ret = map ? 0 : -ENOMEM;

	spin_lock_init(&self->area_lock);
	pcn_area_init(&self->area, map, nr_units);
	self->area_short = false;
	for (id = 0; !ret && id < pcn_fabric.nr_nodes; id++)
		ret = pcn_channel_setup_node(self, id);
	if (ret)
		pcn_channel_free(self);
	return ret;
}

/**
 * pcn_channel_free() - undo pcn_channel_setup(); nobody sends or receives any more
 * @self: whose
 */
void pcn_channel_free(struct pcn_self *self)
{
	u32 id, queue;

	for (id = 0; id < pcn_fabric.nr_nodes; id++) {
		struct pcn_node *node = &self->node[id];

		for (queue = 0; node->channel && queue < pcn_fabric.nr_queues; queue++)
			kvfree(node->channel[queue].loans.loan);
		kvfree(node->channel);
		node->channel = NULL;
	}
	bitmap_free(self->area.map);
	self->area.map = NULL;
}
