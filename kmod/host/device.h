/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_DEVICE_H
#define _PCN_DEVICE_H

int pcn_device_init(void);
void pcn_device_exit(void);

#endif
