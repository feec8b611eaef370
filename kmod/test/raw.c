// SPDX-License-Identifier: GPL-2.0
/*
 * Any message of any service, for the tests of what services do with messages that make no sense:
 *
 *	modprobe popcorn_raw name=popcorn.net version=1 node=2
 *	echo DST HEAD BODY BYTES >/sys/module/popcorn_raw/parameters/send
 *
 * HEAD and BODY are hexadecimal, or - for none; the body is filled up with zeros to BYTES. It is the service
 * with its peers, and takes no notice of what they send.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>

#include "popcorn.h"

static char *name = "test.raw";
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "Name of the service");

static unsigned int version = 1;
module_param(version, uint, 0444);
MODULE_PARM_DESC(version, "Its version");

static unsigned int node;
module_param(node, uint, 0444);
MODULE_PARM_DESC(node, "Which of this kernel's nodes has it");

static void raw_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
}

static struct pcn_service raw_service = {
	.recv = raw_recv,
};

/* Returns bytes, or -EINVAL. */
static int raw_parse(const char *text, u8 *to, size_t max)
{
	size_t len = strlen(text);

	if (!strcmp(text, "-"))
		return 0;
	if (len % 2 || len / 2 > max || hex2bin(to, text, len / 2))
		return -EINVAL;
	return len / 2;
}

static int raw_send_it(u32 dst, const u8 *head, int head_len, const u8 *content, int len, u32 bytes)
{
	struct pcn_out out = { .data = head, .len = head_len };
	struct pcn_body body;
	int ret;

	if (bytes) {
		ret = pcn_service_reserve(&raw_service, dst, 0, bytes, &body);
		if (ret)
			return ret;
		memset(body.data, 0, bytes);
		memcpy(body.data, content, min_t(u32, len, bytes));
		out.body = &body;
	}
	ret = pcn_service_send_batch(&raw_service, dst, 0, &out, 1);
	if (ret < 0 && bytes)
		pcn_service_release(&raw_service, &body);
	return ret < 0 ? ret : 0;
}

static int raw_set_send(const char *value, const struct kernel_param *kp)
{
	static u8 head[PCN_SHM_INLINE_BYTES], content[PAGE_SIZE / 2];
	char *words[4], *text, *rest, *word;
	int nr = 0, head_len, len, ret;
	u32 dst, bytes;

	text = kstrdup(value, GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	rest = strim(text);
	while (nr < ARRAY_SIZE(words) && (word = strsep(&rest, " ")))
		words[nr++] = word;
	ret = -EINVAL;
	if (nr != ARRAY_SIZE(words) || rest || kstrtou32(words[0], 0, &dst) || kstrtou32(words[3], 0, &bytes))
		goto out;
	head_len = raw_parse(words[1], head, sizeof(head));
	len = raw_parse(words[2], content, sizeof(content));
	if (head_len < 0 || len < 0)
		goto out;
	ret = raw_send_it(dst, head, head_len, content, len, bytes);
out:
	kfree(text);
	return ret;
}

static const struct kernel_param_ops raw_send_ops = {
	.set = raw_set_send,
};
module_param_cb(send, &raw_send_ops, NULL, 0200);
MODULE_PARM_DESC(send, "DST HEAD BODY BYTES: send this");

static int __init raw_init(void)
{
	raw_service.name = name;
	raw_service.version = version;
	return pcn_service_register_at(&raw_service, node);
}

static void __exit raw_exit(void)
{
	pcn_service_unregister(&raw_service);
}

module_init(raw_init);
module_exit(raw_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Popcorn: messages that make no sense, for tests");
