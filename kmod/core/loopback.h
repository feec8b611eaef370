/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_LOOPBACK_H
#define _PCN_LOOPBACK_H

#include <linux/types.h>

int pcn_loopback_start(u32 nr);
void pcn_loopback_stop(void);

#endif
