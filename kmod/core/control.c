// SPDX-License-Identifier: GPL-2.0
/*
 * The control service: what the primary asks of a secondary.
 */
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/workqueue.h>

#include "popcorn_host.h"
#include "control.h"
#include "self.h"

enum pcn_control_request {
	PCN_CONTROL_STOP = 1,
};

static void pcn_control_stop(struct work_struct *work)
{
	pr_info("the primary asks this kernel to power off\n");
	/* With force: an image without /sbin/poweroff ends too. */
	orderly_poweroff(true);
}

static DECLARE_WORK(pcn_control_stop_work, pcn_control_stop);

static void pcn_control_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
	u32 request;

	/* Only the primary may, and the primary obeys nobody. */
	if (msg->src || !pcn_main.id || msg->len != sizeof(request))
		return;
	memcpy(&request, msg->data, sizeof(request));
	if (request == PCN_CONTROL_STOP)
		schedule_work(&pcn_control_stop_work);
}

static struct pcn_service pcn_control_service = {
	.name = "popcorn.control",
	.version = 1,
	.recv = pcn_control_recv,
};

/**
 * pcn_control_ask_stop() - ask a node to power off
 * @id: node id
 *
 * Return: 0 when the request is in the channel, or what pcn_service_send() gave.
 */
int pcn_control_ask_stop(u32 id)
{
	u32 request = PCN_CONTROL_STOP;

	return pcn_service_send(&pcn_control_service, id, &request, sizeof(request));
}
EXPORT_SYMBOL_GPL(pcn_control_ask_stop);

int pcn_control_init(void)
{
	return pcn_service_register(&pcn_control_service);
}

void pcn_control_exit(void)
{
	pcn_service_unregister(&pcn_control_service);
	cancel_work_sync(&pcn_control_stop_work);
}
