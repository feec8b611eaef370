/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_SERVICE_H
#define _PCN_SERVICE_H

#include "popcorn.h"

bool pcn_service_deliver(const struct pcn_msg *msg);

#endif
