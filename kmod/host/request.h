/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_REQUEST_H
#define _PCN_REQUEST_H

struct netlink_ext_ack;
struct pcn_kernel_request;

int pcn_request_check(const struct pcn_kernel_request *req, struct netlink_ext_ack *extack);

#endif
