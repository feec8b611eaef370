/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_CONTROL_H
#define _PCN_CONTROL_H

int pcn_control_init(void);
void pcn_control_exit(void);

#endif
