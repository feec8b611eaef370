// SPDX-License-Identifier: GPL-2.0
/*
 * A service in one page: every kernel that loads this module greets the others that have, and counts what
 * comes back. Copy it to begin a module of your own; docs/services.md goes through it.
 */
#include <linux/module.h>

#include "popcorn.h"

/* What travels. Fixed-width fields: the other kernel may be of another version or word size. */
struct hello_message {
	__u32 kind;
	__u32 number;
};

enum {
	HELLO_GREETING,
	HELLO_ANSWER,
};

static char *name = "example.hello";
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "Name of the service");

static unsigned int version = 1;
module_param(version, uint, 0444);
MODULE_PARM_DESC(version, "Its version; only kernels with the same one greet each other");

static unsigned int answers;
module_param(answers, uint, 0444);
MODULE_PARM_DESC(answers, "Read it: how many greetings were answered");

static void hello_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
	struct hello_message message;

	/* The message is a copy, but what is in it is the peer's word: check it. */
	if (msg->len != sizeof(message))
		return;
	memcpy(&message, msg->data, sizeof(message));
	if (message.kind == HELLO_GREETING) {
		message.kind = HELLO_ANSWER;
		if (pcn_service_send(service, msg->src, &message, sizeof(message)))
			pr_warn("node %u gets no answer\n", msg->src);
	} else if (message.kind == HELLO_ANSWER) {
		WRITE_ONCE(answers, answers + 1);
	}
}

static void hello_peer_up(struct pcn_service *service, u32 node)
{
	struct hello_message message = { .kind = HELLO_GREETING };

	pr_info("node %u is up\n", node);
	if (pcn_service_send(service, node, &message, sizeof(message)))
		pr_warn("node %u cannot be greeted\n", node);
}

static void hello_peer_down(struct pcn_service *service, u32 node)
{
	pr_info("node %u is down\n", node);
}

static struct pcn_service hello_service = {
	.recv = hello_recv,
	.peer_up = hello_peer_up,
	.peer_down = hello_peer_down,
};

static int __init hello_init(void)
{
	int ret;

	hello_service.name = name;
	hello_service.version = version;
	ret = pcn_service_register(&hello_service);
	if (ret)
		pr_err("service '%s' is not registered (%d)\n", name, ret);
	return ret;
}

static void __exit hello_exit(void)
{
	pcn_service_unregister(&hello_service);
}

module_init(hello_init);
module_exit(hello_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Popcorn: an example of a service");
