/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_SYSFS_H
#define _PCN_SYSFS_H

struct pcn_node;

int pcn_sysfs_init(void);
void pcn_sysfs_exit(void);
void pcn_sysfs_update(struct pcn_node *node);

#endif
