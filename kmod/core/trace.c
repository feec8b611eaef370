// SPDX-License-Identifier: GPL-2.0
#define CREATE_TRACE_POINTS
#include "trace.h"

EXPORT_TRACEPOINT_SYMBOL_GPL(popcorn_kernel_stage);
EXPORT_TRACEPOINT_SYMBOL_GPL(popcorn_net_transmit);
EXPORT_TRACEPOINT_SYMBOL_GPL(popcorn_net_receive);
EXPORT_TRACEPOINT_SYMBOL_GPL(popcorn_net_drop);
EXPORT_TRACEPOINT_SYMBOL_GPL(popcorn_tty_transmit);
EXPORT_TRACEPOINT_SYMBOL_GPL(popcorn_tty_receive);
