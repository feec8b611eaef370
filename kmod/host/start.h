/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_START_H
#define _PCN_START_H

struct netlink_ext_ack;
struct pcn_boot_request;
struct pcn_kernel;

int pcn_start_check(const struct pcn_kernel *kernel, const struct pcn_boot_request *req,
		    struct netlink_ext_ack *extack);
int pcn_start_send_off(struct pcn_kernel *kernel, const struct pcn_boot_request *req,
		       struct netlink_ext_ack *extack);

#endif
