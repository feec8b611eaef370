// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "service.h"

static const struct pcn_service __rcu *pcn_services[PCN_SERVICES];
static DEFINE_SPINLOCK(pcn_service_lock);

/**
 * pcn_service_register() - receive the messages of a service
 * @service: stays in use until pcn_service_unregister()
 *
 * Return: 0, -EINVAL for an id that cannot be, -EBUSY if the service has a receiver.
 */
int pcn_service_register(const struct pcn_service *service)
{
	int ret = 0;

	if (service->id >= PCN_SERVICES || !service->recv)
		return -EINVAL;
	spin_lock(&pcn_service_lock);
	if (rcu_access_pointer(pcn_services[service->id]))
		ret = -EBUSY;
	else
		rcu_assign_pointer(pcn_services[service->id], service);
	spin_unlock(&pcn_service_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(pcn_service_register);

/**
 * pcn_service_unregister() - receive no more
 * @service: as registered
 *
 * Waits for a callback that is running; none runs afterwards.
 */
void pcn_service_unregister(const struct pcn_service *service)
{
	spin_lock(&pcn_service_lock);
	RCU_INIT_POINTER(pcn_services[service->id], NULL);
	spin_unlock(&pcn_service_lock);
	synchronize_rcu();
}
EXPORT_SYMBOL_GPL(pcn_service_unregister);

/**
 * pcn_service_deliver() - hand a message to its receiver
 * @msg: a checked copy; its service id is still only what the sender wrote
 *
 * Return: false if nobody wants it.
 */
bool pcn_service_deliver(const struct pcn_msg *msg)
{
	const struct pcn_service *service = NULL;

	rcu_read_lock();
	if (msg->service < PCN_SERVICES)
		service = rcu_dereference(pcn_services[msg->service]);
	if (service)
		service->recv(msg);
	rcu_read_unlock();
	return service;
}
