/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_GUARD_H
#define _PCN_GUARD_H

int pcn_guard_start(void);
void pcn_guard_stop(void);
void pcn_guard_keep(void);

#endif
