/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_NL_H
#define _PCN_NL_H

struct pcn_node;

int pcn_nl_init(void);
void pcn_nl_exit(void);
void pcn_nl_notify_node(struct pcn_node *node);

#endif
