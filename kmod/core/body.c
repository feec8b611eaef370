// SPDX-License-Identifier: GPL-2.0
/*
 * Bodies: what does not fit into a slot goes through the sender's area, which all its channels share. Units are
 * reserved, lent to the receiver with the message that tells of them, and reaped when it is done with that.
 */
#include <linux/rcupdate.h>

#include "body.h"
#include "channel.h"
#include "node.h"
#include "room.h"
#include "self.h"

#define PCN_BODY_LOANS	8	/* bodies after which the sender looks which ones are back */

/**
 * pcn_body_reap() - take back the bodies that the receiver is done with
 * @channel: that they went through; under its tx_lock
 */
void pcn_body_reap(struct pcn_channel *channel)
{
	struct pcn_self *self = channel->node->self;
	unsigned long flags;

	if (channel->loans.first == channel->loans.next)
		return;
	pcn_ring_room(&channel->tx); /* reads how far the receiver is */
	spin_lock_irqsave(&self->area_lock, flags);
	channel->units -= pcn_area_reap(&self->area, &channel->loans, pcn_ring_free(&channel->tx));
	spin_unlock_irqrestore(&self->area_lock, flags);
}

/* What comes back on one channel may be what a sender on another one waits for. No lock held. */
static void pcn_body_reap_all(struct pcn_self *self, bool want_room)
{
	u32 id, queue;

	for (id = 0; id < pcn_fabric.nr_nodes; id++) {
		for (queue = 0; queue < pcn_fabric.nr_queues; queue++) {
			struct pcn_channel *channel = &self->node[id].channel[queue];
			unsigned long flags;

			if (!READ_ONCE(self->node[id].reachable) || !READ_ONCE(channel->units))
				continue;
			spin_lock_irqsave(&channel->tx_lock, flags);
			pcn_body_reap(channel);
			if (want_room && channel->units && !pcn_self_reaches(channel->node) &&
			    pcn_room_want(channel))
				pcn_body_reap(channel);
			spin_unlock_irqrestore(&channel->tx_lock, flags);
		}
	}
}

static int pcn_body_try_reserve(struct pcn_channel *channel, u32 nr_units, bool reap, u32 *unit)
{
	struct pcn_self *self = channel->node->self;
	unsigned long flags;
	int ret;

	rcu_read_lock();
	spin_lock_irqsave(&channel->tx_lock, flags);
	ret = pcn_self_reaches(channel->node);
	if (!ret) {
		if (reap || channel->loans.next - channel->loans.first >= PCN_BODY_LOANS)
			pcn_body_reap(channel);
		spin_lock(&self->area_lock);
		ret = pcn_area_get(&self->area, nr_units, channel->units, unit);
		spin_unlock(&self->area_lock);
		if (!ret)
			channel->units += nr_units;
	}
	spin_unlock_irqrestore(&channel->tx_lock, flags);
	rcu_read_unlock();
	return ret;
}

/**
 * pcn_body_reserve() - get room for a body
 * @channel: that it will go through
 * @len: bytes
 * @body: filled
 *
 * Return: as pcn_service_reserve().
 */
int pcn_body_reserve(struct pcn_channel *channel, u32 len, struct pcn_body *body)
{
	struct pcn_self *self = channel->node->self;
	u32 nr_units = DIV_ROUND_UP(len, PCN_SHM_UNIT_BYTES), unit;
	int ret;

	if (!len || len > PCN_SHM_BODY_BYTES)
		return -EMSGSIZE;
	ret = pcn_body_try_reserve(channel, nr_units, false, &unit);
	if (ret == -EAGAIN) {
		pcn_body_reap_all(self, false);
		ret = pcn_body_try_reserve(channel, nr_units, true, &unit);
	}
	if (ret == -EAGAIN) {
		/* Whoever has some of it wakes us; what came back while we asked is seen by the last try. */
		WRITE_ONCE(self->area_short, true);
		pcn_body_reap_all(self, true);
		ret = pcn_body_try_reserve(channel, nr_units, true, &unit);
	}
	if (ret)
		return ret;
	body->data = pcn_fabric_area(self->id) + (size_t)unit * PCN_SHM_UNIT_BYTES;
	body->len = len;
	body->channel = channel;
	body->unit = unit;
	body->nr_units = nr_units;
	return 0;
}

/**
 * pcn_body_release() - give a body back that was not sent
 * @body: from pcn_body_reserve()
 */
void pcn_body_release(const struct pcn_body *body)
{
	struct pcn_channel *channel = body->channel;
	struct pcn_self *self = channel->node->self;
	unsigned long flags;

	spin_lock_irqsave(&channel->tx_lock, flags);
	spin_lock(&self->area_lock);
	pcn_area_put(&self->area, body->unit, body->nr_units);
	spin_unlock(&self->area_lock);
	channel->units -= body->nr_units;
	spin_unlock_irqrestore(&channel->tx_lock, flags);
}
