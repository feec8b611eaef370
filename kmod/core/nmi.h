/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_NMI_H
#define _PCN_NMI_H

void pcn_nmi_start(void);

#endif
