/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_WATCH_H
#define _PCN_WATCH_H

int pcn_watch_init(void);
void pcn_watch_exit(void);

#endif
