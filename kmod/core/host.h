/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_HOST_H
#define _PCN_HOST_H

#include "popcorn_host.h"

const struct pcn_host_ops *pcn_host_get(void);
void pcn_host_put(const struct pcn_host_ops *ops);
void pcn_host_node_event(u32 node, u32 state, const char *reason);

#endif
