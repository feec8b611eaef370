/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_RECEIVE_H
#define _PCN_RECEIVE_H

#include "popcorn.h"
#include "count.h"

struct pcn_link;

void pcn_receive_message(struct pcn_service *service, const struct pcn_msg *msg);
void pcn_receive_drop(struct pcn_link *link, const struct pcn_msg *msg, enum pcn_count reason);
void pcn_receive_want(struct pcn_link *link);
void pcn_receive_free_pages(struct pcn_link *link);

#endif
