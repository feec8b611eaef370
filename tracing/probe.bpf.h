/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A BPF program on one of the module's tracepoints, read by position: the arguments are those of its prototype, which
 * have the order of its fields (docs/tracepoints.md).
 *
 * Not bcc's RAW_TRACEPOINT_PROBE: what has that name bcc loads and attaches itself, and here it shall only compile
 * (programs.py loads, from a fresh build or from the cache).
 */
#ifndef PROBE_BPF_H
#define PROBE_BPF_H

#ifndef PROBE
#define PROBE(event) int probe_##event(struct bpf_raw_tracepoint_args *ctx)
#endif

#endif
