/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_NL_H
#define _PCN_NL_H

#include <linux/types.h>

struct pcn_node;
struct pcn_service;

int pcn_nl_init(void);
void pcn_nl_exit(void);
void pcn_nl_notify_node(struct pcn_node *node);
void pcn_nl_notify_service(u32 node, const struct pcn_service *service, u32 id, bool up);

#endif
