/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What ring.c needs from around it, so that the same source is built into the module and into user-space
 * programs (tests/ring).
 */
#ifndef _PCN_RING_PORT_H
#define _PCN_RING_PORT_H

#ifdef __KERNEL__

#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/barrier.h>
#include <asm/cmpxchg.h>

#define pcn_load_acquire(p)	smp_load_acquire(p)
#define pcn_store_release(p, v)	smp_store_release(p, v)
#define pcn_full_barrier()	smp_mb()
#define pcn_exchange(p, v)	xchg(p, v)

#else

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define READ_ONCE(x)		__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_RELAXED)
#define pcn_load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define pcn_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define pcn_full_barrier()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define pcn_exchange(p, v)	__atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)

#endif
#endif
