/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What ring.c and area.c need from around them, so that the same source is built into the module and into
 * user-space programs (tests/ring).
 */
#ifndef _PCN_RING_PORT_H
#define _PCN_RING_PORT_H

#ifdef __KERNEL__

#include <linux/bitmap.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/prefetch.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/barrier.h>
#include <asm/cmpxchg.h>
#include <asm/processor.h>
#include <asm/tsc.h>

#define pcn_load_acquire(p)	smp_load_acquire(p)
#define pcn_store_release(p, v)	smp_store_release(p, v)
#define pcn_full_barrier()	smp_mb()
#define pcn_exchange(p, v)	xchg(p, v)
#define pcn_prefetch(p)		prefetch(p)
#define pcn_prefetchw(p)	prefetchw(p)
#define pcn_cycles()		rdtsc()
#define pcn_relax()		cpu_relax()

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
typedef int32_t s32;
typedef int64_t s64;

#define likely(x)		__builtin_expect(!!(x), 1)
#define unlikely(x)		__builtin_expect(!!(x), 0)
#define noinline		__attribute__((noinline))
#define READ_ONCE(x)		__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_RELAXED)
#define pcn_load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define pcn_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define pcn_exchange(p, v)	__atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
#define pcn_prefetch(p)		__asm__ volatile("prefetcht0 %0" : : "m" (*(const char *)(p)))
#define pcn_prefetchw(p)	__asm__ volatile("prefetchw %0" : : "m" (*(const char *)(p)))
#define pcn_cycles()		__builtin_ia32_rdtsc()
#define pcn_relax()		__builtin_ia32_pause()

#ifdef __SANITIZE_THREAD__
/* The thread sanitizer knows no fences; a locked instruction is one on this machine. */
static inline void pcn_full_barrier(void)
{
	u32 nothing = 0;

	__atomic_fetch_add(&nothing, 1, __ATOMIC_SEQ_CST);
	__asm__ volatile("lock orl $0, %0" : "+m" (nothing) : : "memory");
}
#else
#define pcn_full_barrier()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

#define BITS_PER_LONG		(8 * sizeof(long))

static inline bool pcn_test_bit(const unsigned long *map, unsigned long bit)
{
	return map[bit / BITS_PER_LONG] >> bit % BITS_PER_LONG & 1;
}

static inline void bitmap_set(unsigned long *map, unsigned int start, unsigned int nr)
{
	for (; nr; nr--, start++)
		map[start / BITS_PER_LONG] |= 1UL << start % BITS_PER_LONG;
}

static inline void bitmap_clear(unsigned long *map, unsigned int start, unsigned int nr)
{
	for (; nr; nr--, start++)
		map[start / BITS_PER_LONG] &= ~(1UL << start % BITS_PER_LONG);
}

/* Like the kernel's: something larger than size - nr if there is none. */
static inline unsigned long bitmap_find_next_zero_area(unsigned long *map, unsigned long size,
						       unsigned long start, unsigned int nr,
						       unsigned long align_mask)
{
	unsigned long run = 0, at;

	(void)align_mask; /* always 0 */
	for (at = start; at < size; at++) {
		if (pcn_test_bit(map, at))
			run = 0;
		else if (++run == nr)
			return at - nr + 1;
	}
	return size;
}

#endif
#endif
