/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_ECHO_H
#define _PCN_ECHO_H

#include <linux/types.h>

#define PCN_ECHO_COOKIE_BYTES	8	/* that a message to the service begins with */

struct pcn_service;

int pcn_echo_init(void);
void pcn_echo_exit(void);
int pcn_echo_add_at(u32 node);
void pcn_echo_remove_at(u32 node);
struct pcn_service *pcn_echo_service(void);
u64 pcn_echo_unanswered(u32 node);

#endif
