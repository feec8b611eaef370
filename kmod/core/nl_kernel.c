// SPDX-License-Identifier: GPL-2.0
/*
 * The part of the netlink family that is about kernels: it takes requests apart for the host, and puts
 * what the host tells into replies.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/apic.h>
#include <asm/tsc.h>

#include "fabric.h"
#include "host.h"
#include "nl_gen.h"
#include "nl_kernel.h"
#include "trace.h"

static int pcn_nl_fill_kernel(struct sk_buff *skb, const struct pcn_kernel_info *info)
{
	u32 i;
	int ret;

	ret = nla_put_u32(skb, POPCORN_A_KERNEL_ID, info->id) ?:
	      nla_put_string(skb, POPCORN_A_KERNEL_NAME, info->name) ?:
	      nla_put_u32(skb, POPCORN_A_KERNEL_STATE, info->state) ?:
	      nla_put_string(skb, POPCORN_A_KERNEL_REASON, info->reason) ?:
	      nla_put_u32(skb, POPCORN_A_KERNEL_MEMORY_BACKEND, info->memory_backend) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_MEMORY_START, info->memory_start) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_MEMORY_SIZE, info->memory_size) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_SLICE_START, info->slice_start) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_SLICE_SIZE, info->slice_size) ?:
	      nla_put_u32(skb, POPCORN_A_KERNEL_BSP_APIC_ID, info->bsp_apic_id) ?:
	      nla_put_u32(skb, POPCORN_A_KERNEL_TSC_KHZ, tsc_khz) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_FABRIC_START, pcn_fabric.phys) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_FABRIC_SIZE, pcn_fabric.bytes) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_ENTRY, info->entry) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_BOOT_PARAMS, info->boot_params) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_PAGE_TABLE_ROOT, info->page_table_root) ?:
	      nla_put_string(skb, POPCORN_A_KERNEL_IMAGE, info->image) ?:
	      nla_put_u32(skb, POPCORN_A_KERNEL_EPOCH, info->epoch) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_AGE, info->age_ms) ?:
	      pcn_nl_put_u64(skb, POPCORN_A_KERNEL_JOIN_TIME, info->join_us);
	if (!ret && x2apic_mode)
		ret = nla_put_flag(skb, POPCORN_A_KERNEL_X2APIC);
	for (i = 0; i < info->nr_cpus && !ret; i++)
		ret = nla_put_u32(skb, POPCORN_A_KERNEL_CPU, info->cpu[i]) ?:
		      nla_put_u32(skb, POPCORN_A_KERNEL_APIC_ID, info->apic_id[i]);
	return ret;
}

/**
 * pcn_nl_notify_kernel() - tell who listens that a kernel changed
 * @info: as it is now
 * @released: its lease was given back, it is gone
 */
void pcn_nl_notify_kernel(const struct pcn_kernel_info *info, bool released)
{
	u8 cmd = released ? POPCORN_CMD_KERNEL_RELEASED : POPCORN_CMD_KERNEL_NTF;
	struct sk_buff *skb;
	void *head;

	trace_popcorn_kernel_state(info->id, info->state, rdtsc());
	if (!genl_has_listeners(&pcn_nl_family, &init_net, PCN_NLGRP_KERNEL))
		return;
	skb = genlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);
	if (!skb)
		return;
	head = genlmsg_put(skb, 0, 0, &pcn_nl_family, 0, cmd);
	if (!head || pcn_nl_fill_kernel(skb, info)) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast(&pcn_nl_family, skb, 0, PCN_NLGRP_KERNEL, GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(pcn_nl_notify_kernel);

static const struct pcn_host_ops *pcn_nl_host(struct netlink_ext_ack *extack)
{
	const struct pcn_host_ops *host = pcn_host_get();

	if (!host)
		pcn_nl_refuse(extack, NULL, "popcorn_host is not loaded");
	return host;
}

static int pcn_nl_reply_kernel(struct genl_info *info, const struct pcn_kernel_info *kernel, u8 cmd)
{
	struct sk_buff *reply = genlmsg_new(NLMSG_GOODSIZE + nla_total_size(sizeof(kernel->recipe)),
					    GFP_KERNEL);
	void *head;
	int ret;

	if (!reply)
		return -ENOMEM;
	head = genlmsg_put_reply(reply, info, &pcn_nl_family, 0, cmd);
	ret = head ? pcn_nl_fill_kernel(reply, kernel) : -EMSGSIZE;
	/* Not in lists and notifications, whose messages are shorter. */
	if (!ret && cmd == POPCORN_CMD_KERNEL_GET && kernel->recipe[0])
		ret = nla_put_string(reply, POPCORN_A_KERNEL_RECIPE, kernel->recipe);
	if (ret) {
		nlmsg_free(reply);
		return -EMSGSIZE;
	}
	genlmsg_end(reply, head);
	return genlmsg_reply(reply, info);
}

int pcn_nl_kernel_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *id = info->attrs[POPCORN_A_KERNEL_ID];
	struct nlattr *name = info->attrs[POPCORN_A_KERNEL_NAME];
	const struct pcn_host_ops *host;
	struct pcn_kernel_info *kernel;
	int ret;

	if (!id == !name) {
		pcn_nl_refuse(info->extack, id, "which kernel? give its id or its name");
		return -EINVAL;
	}
	host = pcn_nl_host(info->extack);
	if (!host)
		return -EOPNOTSUPP;
	kernel = kzalloc(sizeof(*kernel), GFP_KERNEL);
	if (!kernel) {
		pcn_host_put(host);
		return -ENOMEM;
	}
	if (name) {
		ret = host->info(0, nla_data(name), kernel);
		if (ret)
			pcn_nl_refuse(info->extack, name, "there is no kernel '%s'", (char *)nla_data(name));
	} else {
		ret = host->info(nla_get_u32(id), NULL, kernel);
		if (!ret && kernel->id != nla_get_u32(id))
			ret = -ENOENT;
		if (ret)
			pcn_nl_refuse(info->extack, id, "there is no kernel %u", nla_get_u32(id));
	}
	pcn_host_put(host);
	if (!ret)
		ret = pcn_nl_reply_kernel(info, kernel, POPCORN_CMD_KERNEL_GET);
	kfree(kernel);
	return ret;
}

int pcn_nl_kernel_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct pcn_host_ops *host = pcn_nl_host(cb->extack);
	struct pcn_kernel_info *kernel;
	void *head;
	int ret = 0;

	if (!host)
		return -EOPNOTSUPP;
	kernel = kzalloc(sizeof(*kernel), GFP_KERNEL);
	if (!kernel) {
		pcn_host_put(host);
		return -ENOMEM;
	}
	while (!host->info(cb->args[0], NULL, kernel)) {
		head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &pcn_nl_family,
				   NLM_F_MULTI, POPCORN_CMD_KERNEL_GET);
		if (!head)
			break;
		ret = pcn_nl_fill_kernel(skb, kernel);
		if (ret) {
			genlmsg_cancel(skb, head);
			break;
		}
		genlmsg_end(skb, head);
		cb->args[0] = kernel->id + 1;
	}
	kfree(kernel);
	pcn_host_put(host);
	return ret && ret != -EMSGSIZE ? ret : skb->len;
}

static int pcn_nl_read_request(struct genl_info *info, struct pcn_kernel_request *req)
{
	struct nlattr **attrs = info->attrs, *attr;
	int left;

	req->attrs = attrs;
	if (!attrs[POPCORN_A_KERNEL_NAME]) {
		pcn_nl_refuse(info->extack, NULL, "attribute name is missing");
		return -EINVAL;
	}
	if (!attrs[POPCORN_A_KERNEL_MEMORY_SIZE]) {
		pcn_nl_refuse(info->extack, NULL, "attribute memory-size is missing");
		return -EINVAL;
	}
	if (!attrs[POPCORN_A_KERNEL_CPU]) {
		pcn_nl_refuse(info->extack, NULL, "attribute cpu is missing");
		return -EINVAL;
	}
	req->name = nla_data(attrs[POPCORN_A_KERNEL_NAME]);
	req->memory_size = nla_get_u64(attrs[POPCORN_A_KERNEL_MEMORY_SIZE]);
	if (attrs[POPCORN_A_KERNEL_MEMORY_START])
		req->memory_start = nla_get_u64(attrs[POPCORN_A_KERNEL_MEMORY_START]);
	if (attrs[POPCORN_A_KERNEL_MEMORY_BACKEND])
		req->memory_backend = nla_get_u32(attrs[POPCORN_A_KERNEL_MEMORY_BACKEND]);
	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, left) {
		if (nla_type(attr) != POPCORN_A_KERNEL_CPU)
			continue;
		if (req->nr_cpus == PCN_KERNEL_CPUS_MAX) {
			pcn_nl_refuse(info->extack, attr, "a kernel can have at most %d CPUs",
				      PCN_KERNEL_CPUS_MAX);
			return -E2BIG;
		}
		req->cpu[req->nr_cpus++] = nla_get_u32(attr);
	}
	return 0;
}

int pcn_nl_kernel_new_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct pcn_kernel_request *req = kzalloc(sizeof(*req), GFP_KERNEL);
	struct pcn_kernel_info *kernel = kzalloc(sizeof(*kernel), GFP_KERNEL);
	const struct pcn_host_ops *host;
	int ret = -ENOMEM;

	if (!req || !kernel)
		goto out;
	ret = pcn_nl_read_request(info, req);
	if (ret)
		goto out;
	host = pcn_nl_host(info->extack);
	if (!host) {
		ret = -EOPNOTSUPP;
		goto out;
	}
	ret = host->new(req, kernel, info->extack);
	pcn_host_put(host);
	if (!ret)
		ret = pcn_nl_reply_kernel(info, kernel, POPCORN_CMD_KERNEL_NEW);
out:
	kfree(kernel);
	kfree(req);
	return ret;
}

static struct nlattr *pcn_nl_kernel_id(struct genl_info *info, u32 *id)
{
	struct nlattr *attr = info->attrs[POPCORN_A_KERNEL_ID];

	if (attr)
		*id = nla_get_u32(attr);
	else
		pcn_nl_refuse(info->extack, NULL, "which kernel? attribute id is missing");
	return attr;
}

/* What is done to a kernel and answered with what it is then. */
static int pcn_nl_kernel_answered(struct genl_info *info, u8 cmd)
{
	const struct pcn_host_ops *host;
	struct pcn_kernel_info *kernel;
	u32 id;
	int ret;

	if (!pcn_nl_kernel_id(info, &id))
		return -EINVAL;
	host = pcn_nl_host(info->extack);
	if (!host)
		return -EOPNOTSUPP;
	kernel = kzalloc(sizeof(*kernel), GFP_KERNEL);
	if (!kernel)
		ret = -ENOMEM;
	else if (cmd == POPCORN_CMD_KERNEL_NMI)
		ret = host->nmi(id, kernel, info->extack);
	else
		ret = host->prepare(id, kernel, info->extack);
	pcn_host_put(host);
	if (!ret)
		ret = pcn_nl_reply_kernel(info, kernel, cmd);
	kfree(kernel);
	return ret;
}

int pcn_nl_kernel_prepare_doit(struct sk_buff *skb, struct genl_info *info)
{
	return pcn_nl_kernel_answered(info, POPCORN_CMD_KERNEL_PREPARE);
}

int pcn_nl_kernel_nmi_doit(struct sk_buff *skb, struct genl_info *info)
{
	return pcn_nl_kernel_answered(info, POPCORN_CMD_KERNEL_NMI);
}

int pcn_nl_kernel_boot_doit(struct sk_buff *skb, struct genl_info *info)
{
	static const struct {
		int attr;
		const char *name;
	} needed[] = {
		{ POPCORN_A_KERNEL_ENTRY, "entry" },
		{ POPCORN_A_KERNEL_BOOT_PARAMS, "boot-params" },
		{ POPCORN_A_KERNEL_PAGE_TABLE_ROOT, "page-table-root" },
	};
	struct nlattr **attrs = info->attrs;
	struct pcn_boot_request req = { .attrs = attrs };
	const struct pcn_host_ops *host;
	unsigned int i;
	u32 id;
	int ret;

	if (!pcn_nl_kernel_id(info, &id))
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(needed); i++) {
		if (!attrs[needed[i].attr]) {
			pcn_nl_refuse(info->extack, NULL, "attribute %s is missing", needed[i].name);
			return -EINVAL;
		}
	}
	req.entry = nla_get_u64(attrs[POPCORN_A_KERNEL_ENTRY]);
	req.boot_params = nla_get_u64(attrs[POPCORN_A_KERNEL_BOOT_PARAMS]);
	req.page_table_root = nla_get_u64(attrs[POPCORN_A_KERNEL_PAGE_TABLE_ROOT]);
	if (attrs[POPCORN_A_KERNEL_IMAGE])
		req.image = nla_data(attrs[POPCORN_A_KERNEL_IMAGE]);
	if (attrs[POPCORN_A_KERNEL_RECIPE])
		req.recipe = nla_data(attrs[POPCORN_A_KERNEL_RECIPE]);
	host = pcn_nl_host(info->extack);
	if (!host)
		return -EOPNOTSUPP;
	ret = host->boot(id, &req, info->extack);
	pcn_host_put(host);
	return ret;
}

enum pcn_nl_simple {
	PCN_NL_STOP,
	PCN_NL_KILL,
	PCN_NL_DEL,
};

static int pcn_nl_kernel_simple(struct genl_info *info, enum pcn_nl_simple what)
{
	const struct pcn_host_ops *host;
	u32 id;
	int ret;

	if (!pcn_nl_kernel_id(info, &id))
		return -EINVAL;
	host = pcn_nl_host(info->extack);
	if (!host)
		return -EOPNOTSUPP;
	switch (what) {
	case PCN_NL_STOP:
		ret = host->stop(id, info->extack);
		break;
	case PCN_NL_KILL:
		ret = host->kill(id, info->extack);
		break;
	default:
		ret = host->del(id, info->extack);
	}
	pcn_host_put(host);
	return ret;
}

int pcn_nl_kernel_stop_doit(struct sk_buff *skb, struct genl_info *info)
{
	return pcn_nl_kernel_simple(info, PCN_NL_STOP);
}

int pcn_nl_kernel_kill_doit(struct sk_buff *skb, struct genl_info *info)
{
	return pcn_nl_kernel_simple(info, PCN_NL_KILL);
}

int pcn_nl_kernel_del_doit(struct sk_buff *skb, struct genl_info *info)
{
	return pcn_nl_kernel_simple(info, PCN_NL_DEL);
}
