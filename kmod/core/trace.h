/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: the stable surface for tracing/. All times are TSC cycles, and the TSC is common to all
 * kernels. docs/tracepoints.md tells every field.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM popcorn

#if !defined(_PCN_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _PCN_TRACE_H

#include <linux/tracepoint.h>

/*
 * Who sent what to whom as one number, for histograms of ftrace, which take three keys at most (TRACING_MAP_KEYS_MAX
 * in kernel/trace/tracing_map.h). Each fits 16 bits.
 */
#define pcn_trace_flow(src, dst, queue, service) \
	((u64)(src) << 48 | (u64)(dst) << 32 | (u64)(queue) << 16 | (service))

/* Cycles of a stage, for histograms, which cannot subtract; 0 if it was not passed, or ended before it began. */
#define pcn_trace_span(begin, end)	((begin) && (end) > (begin) ? (end) - (begin) : 0)

TRACE_EVENT(popcorn_msg_queued,
	TP_PROTO(u32 src, u32 dst, u32 queue, u32 seq, u32 service, u32 len, u64 tsc),
	TP_ARGS(src, dst, queue, seq, service, len, tsc),
	TP_STRUCT__entry(
		__field(u32, src)
		__field(u32, dst)
		__field(u32, queue)
		__field(u32, seq)
		__field(u32, service)
		__field(u32, len)
		__field(u64, tsc)
		__field(u64, flow)
	),
	TP_fast_assign(
		__entry->src = src;
		__entry->dst = dst;
		__entry->queue = queue;
		__entry->seq = seq;
		__entry->service = service;
		__entry->len = len;
		__entry->tsc = tsc;
		__entry->flow = pcn_trace_flow(src, dst, queue, service);
	),
	TP_printk("src=%u dst=%u queue=%u seq=%#x service=%u len=%u tsc=%llu", __entry->src,
		  __entry->dst, __entry->queue, __entry->seq, __entry->service, __entry->len,
		  __entry->tsc)
);

TRACE_EVENT(popcorn_doorbell_sent,
	TP_PROTO(u32 src, u32 dst, u32 queue, u32 apic_id, u32 vector, u64 tsc),
	TP_ARGS(src, dst, queue, apic_id, vector, tsc),
	TP_STRUCT__entry(
		__field(u32, src)
		__field(u32, dst)
		__field(u32, queue)
		__field(u32, apic_id)
		__field(u32, vector)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->src = src;
		__entry->dst = dst;
		__entry->queue = queue;
		__entry->apic_id = apic_id;
		__entry->vector = vector;
		__entry->tsc = tsc;
	),
	TP_printk("src=%u dst=%u queue=%u apic_id=%u vector=%u tsc=%llu", __entry->src, __entry->dst,
		  __entry->queue, __entry->apic_id, __entry->vector, __entry->tsc)
);

TRACE_EVENT(popcorn_doorbell_irq,
	TP_PROTO(u32 node, u32 queue, u64 tsc),
	TP_ARGS(node, queue, tsc),
	TP_STRUCT__entry(
		__field(u32, node)
		__field(u32, queue)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->node = node;
		__entry->queue = queue;
		__entry->tsc = tsc;
	),
	TP_printk("node=%u queue=%u tsc=%llu", __entry->node, __entry->queue, __entry->tsc)
);

TRACE_EVENT(popcorn_msg_delivered,
	TP_PROTO(u32 src, u32 dst, u32 queue, u32 seq, u32 service, u32 len, u64 queued, u64 doorbell,
		 u64 irq, u64 poll, u64 delivered),
	TP_ARGS(src, dst, queue, seq, service, len, queued, doorbell, irq, poll, delivered),
	TP_STRUCT__entry(
		__field(u32, src)
		__field(u32, dst)
		__field(u32, queue)
		__field(u32, seq)
		__field(u32, service)
		__field(u32, len)
		__field(u64, queued)
		__field(u64, doorbell)
		__field(u64, irq)
		__field(u64, poll)
		__field(u64, delivered)
		__field(u64, flow)
		__field(u64, queued_doorbell_cycles)
		__field(u64, doorbell_interrupt_cycles)
		__field(u64, interrupt_poll_cycles)
		__field(u64, poll_delivered_cycles)
		__field(u64, queued_delivered_cycles)
	),
	TP_fast_assign(
		__entry->src = src;
		__entry->dst = dst;
		__entry->queue = queue;
		__entry->seq = seq;
		__entry->service = service;
		__entry->len = len;
		__entry->queued = queued;
		__entry->doorbell = doorbell;
		__entry->irq = irq;
		__entry->poll = poll;
		__entry->delivered = delivered;
		__entry->flow = pcn_trace_flow(src, dst, queue, service);
		__entry->queued_doorbell_cycles = pcn_trace_span(queued, doorbell);
		__entry->doorbell_interrupt_cycles = pcn_trace_span(doorbell, irq);
		__entry->interrupt_poll_cycles = pcn_trace_span(irq, poll);
		__entry->poll_delivered_cycles = pcn_trace_span(poll, delivered);
		__entry->queued_delivered_cycles = pcn_trace_span(queued, delivered);
	),
	TP_printk("src=%u dst=%u queue=%u seq=%#x service=%u len=%u queued=%llu doorbell=%llu irq=%llu poll=%llu delivered=%llu",
		  __entry->src, __entry->dst, __entry->queue, __entry->seq, __entry->service,
		  __entry->len, __entry->queued, __entry->doorbell, __entry->irq, __entry->poll,
		  __entry->delivered)
);

TRACE_EVENT(popcorn_poll,
	TP_PROTO(u32 node, u32 queue, u32 work, u32 budget, u64 begin, u64 end),
	TP_ARGS(node, queue, work, budget, begin, end),
	TP_STRUCT__entry(
		__field(u32, node)
		__field(u32, queue)
		__field(u32, work)
		__field(u32, budget)
		__field(u64, begin)
		__field(u64, end)
	),
	TP_fast_assign(
		__entry->node = node;
		__entry->queue = queue;
		__entry->work = work;
		__entry->budget = budget;
		__entry->begin = begin;
		__entry->end = end;
	),
	TP_printk("node=%u queue=%u work=%u budget=%u begin=%llu end=%llu", __entry->node, __entry->queue,
		  __entry->work, __entry->budget, __entry->begin, __entry->end)
);

DECLARE_EVENT_CLASS(popcorn_channel,
	TP_PROTO(u32 src, u32 dst, u32 queue, u64 tsc),
	TP_ARGS(src, dst, queue, tsc),
	TP_STRUCT__entry(
		__field(u32, src)
		__field(u32, dst)
		__field(u32, queue)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->src = src;
		__entry->dst = dst;
		__entry->queue = queue;
		__entry->tsc = tsc;
	),
	TP_printk("src=%u dst=%u queue=%u tsc=%llu", __entry->src, __entry->dst, __entry->queue,
		  __entry->tsc)
);

DEFINE_EVENT(popcorn_channel, popcorn_channel_full,
	TP_PROTO(u32 src, u32 dst, u32 queue, u64 tsc),
	TP_ARGS(src, dst, queue, tsc)
);

DEFINE_EVENT(popcorn_channel, popcorn_channel_room,
	TP_PROTO(u32 src, u32 dst, u32 queue, u64 tsc),
	TP_ARGS(src, dst, queue, tsc)
);

TRACE_EVENT(popcorn_service_peer,
	TP_PROTO(u32 node, u32 peer, u32 service, bool up, u64 tsc),
	TP_ARGS(node, peer, service, up, tsc),
	TP_STRUCT__entry(
		__field(u32, node)
		__field(u32, peer)
		__field(u32, service)
		__field(bool, up)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->node = node;
		__entry->peer = peer;
		__entry->service = service;
		__entry->up = up;
		__entry->tsc = tsc;
	),
	TP_printk("node=%u peer=%u service=%u up=%d tsc=%llu", __entry->node, __entry->peer,
		  __entry->service, __entry->up, __entry->tsc)
);

TRACE_EVENT(popcorn_node_state,
	TP_PROTO(u32 node, u32 epoch, u32 state, u64 tsc),
	TP_ARGS(node, epoch, state, tsc),
	TP_STRUCT__entry(
		__field(u32, node)
		__field(u32, epoch)
		__field(u32, state)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->node = node;
		__entry->epoch = epoch;
		__entry->state = state;
		__entry->tsc = tsc;
	),
	TP_printk("node=%u epoch=%u state=%u tsc=%llu", __entry->node, __entry->epoch, __entry->state,
		  __entry->tsc)
);

TRACE_EVENT(popcorn_kernel_state,
	TP_PROTO(u32 kernel, u32 state, u64 tsc),
	TP_ARGS(kernel, state, tsc),
	TP_STRUCT__entry(
		__field(u32, kernel)
		__field(u32, state)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->kernel = kernel;
		__entry->state = state;
		__entry->tsc = tsc;
	),
	TP_printk("kernel=%u state=%u tsc=%llu", __entry->kernel, __entry->state, __entry->tsc)
);

/* A stage of starting a kernel begins (enum pcn_kernel_stage), and the one before it is over. */
TRACE_EVENT(popcorn_kernel_stage,
	TP_PROTO(u32 kernel, u32 stage, u64 tsc),
	TP_ARGS(kernel, stage, tsc),
	TP_STRUCT__entry(
		__field(u32, kernel)
		__field(u32, stage)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->kernel = kernel;
		__entry->stage = stage;
		__entry->tsc = tsc;
	),
	TP_printk("kernel=%u stage=%u tsc=%llu", __entry->kernel, __entry->stage, __entry->tsc)
);

/*
 * Those of links (kmod/net) are here as well, so that they can be traced from before that module is loaded. An
 * ifindex is of a network namespace; the node that a link belongs to is one for each link.
 */
TRACE_EVENT(popcorn_net_transmit,
	TP_PROTO(u32 ifindex, u32 src, u32 dst, u32 queue, u32 len, u32 gso_size, u32 gso_segs, bool first,
		 u64 tsc),
	TP_ARGS(ifindex, src, dst, queue, len, gso_size, gso_segs, first, tsc),
	TP_STRUCT__entry(
		__field(u32, ifindex)
		__field(u32, src)
		__field(u32, dst)
		__field(u32, queue)
		__field(u32, len)
		__field(u32, gso_size)
		__field(u32, gso_segs)
		__field(bool, first)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->ifindex = ifindex;
		__entry->src = src;
		__entry->dst = dst;
		__entry->queue = queue;
		__entry->len = len;
		__entry->gso_size = gso_size;
		__entry->gso_segs = gso_segs;
		__entry->first = first;
		__entry->tsc = tsc;
	),
	TP_printk("ifindex=%u src=%u dst=%u queue=%u len=%u gso_size=%u gso_segs=%u first=%d tsc=%llu",
		  __entry->ifindex, __entry->src, __entry->dst, __entry->queue, __entry->len,
		  __entry->gso_size, __entry->gso_segs, __entry->first, __entry->tsc)
);

TRACE_EVENT(popcorn_net_receive,
	TP_PROTO(u32 ifindex, u32 src, u32 dst, u32 queue, u32 len, u64 queued, u64 tsc),
	TP_ARGS(ifindex, src, dst, queue, len, queued, tsc),
	TP_STRUCT__entry(
		__field(u32, ifindex)
		__field(u32, src)
		__field(u32, dst)
		__field(u32, queue)
		__field(u32, len)
		__field(u64, queued)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->ifindex = ifindex;
		__entry->src = src;
		__entry->dst = dst;
		__entry->queue = queue;
		__entry->len = len;
		__entry->queued = queued;
		__entry->tsc = tsc;
	),
	TP_printk("ifindex=%u src=%u dst=%u queue=%u len=%u queued=%llu tsc=%llu", __entry->ifindex,
		  __entry->src, __entry->dst, __entry->queue, __entry->len, __entry->queued, __entry->tsc)
);

TRACE_EVENT(popcorn_net_drop,
	TP_PROTO(u32 ifindex, u32 node, u32 peer, u32 queue, bool rx, u32 reason, u32 len, u64 tsc),
	TP_ARGS(ifindex, node, peer, queue, rx, reason, len, tsc),
	TP_STRUCT__entry(
		__field(u32, ifindex)
		__field(u32, node)
		__field(u32, peer)
		__field(u32, queue)
		__field(bool, rx)
		__field(u32, reason)
		__field(u32, len)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->ifindex = ifindex;
		__entry->node = node;
		__entry->peer = peer;
		__entry->queue = queue;
		__entry->rx = rx;
		__entry->reason = reason;
		__entry->len = len;
		__entry->tsc = tsc;
	),
	TP_printk("ifindex=%u node=%u peer=%d queue=%u rx=%d reason=%u len=%u tsc=%llu", __entry->ifindex,
		  __entry->node, (int)__entry->peer, __entry->queue, __entry->rx, __entry->reason,
		  __entry->len, __entry->tsc)
);

/* Those of lines (kmod/tty). */
DECLARE_EVENT_CLASS(popcorn_tty,
	TP_PROTO(u32 src, u32 dst, u32 line, u32 len, u32 left, u64 tsc),
	TP_ARGS(src, dst, line, len, left, tsc),
	TP_STRUCT__entry(
		__field(u32, src)
		__field(u32, dst)
		__field(u32, line)
		__field(u32, len)
		__field(u32, left)
		__field(u64, tsc)
	),
	TP_fast_assign(
		__entry->src = src;
		__entry->dst = dst;
		__entry->line = line;
		__entry->len = len;
		__entry->left = left;
		__entry->tsc = tsc;
	),
	TP_printk("src=%u dst=%u line=%u len=%u left=%u tsc=%llu", __entry->src, __entry->dst, __entry->line,
		  __entry->len, __entry->left, __entry->tsc)
);

DEFINE_EVENT(popcorn_tty, popcorn_tty_transmit,
	TP_PROTO(u32 src, u32 dst, u32 line, u32 len, u32 left, u64 tsc),
	TP_ARGS(src, dst, line, len, left, tsc)
);

DEFINE_EVENT(popcorn_tty, popcorn_tty_receive,
	TP_PROTO(u32 src, u32 dst, u32 line, u32 len, u32 left, u64 tsc),
	TP_ARGS(src, dst, line, len, left, tsc)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
