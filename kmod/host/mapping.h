/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_MAPPING_H
#define _PCN_MAPPING_H

#include <linux/types.h>

struct pcn_kernel;

struct pcn_kernel *pcn_mapping_get(u64 start, u64 bytes, bool write);
void pcn_mapping_again(struct pcn_kernel *kernel);
void pcn_mapping_put(struct pcn_kernel *kernel);
int pcn_mapping_peek(u64 start, void *to, size_t bytes);

#endif
