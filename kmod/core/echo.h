/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_ECHO_H
#define _PCN_ECHO_H

#include <linux/types.h>

int pcn_echo_init(void);
void pcn_echo_exit(void);
int pcn_echo_ping(u32 dst, u32 payload_bytes, unsigned int timeout_ms, u64 *cycles);

#endif
