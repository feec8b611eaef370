// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "bell.h"

#ifndef WAKE_SECONDS
#define WAKE_SECONDS	20	/* far more than a wake-up takes on a loaded machine */
#endif

void ring_bell(struct bell *bell)
{
	__atomic_fetch_add(&bell->rung, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &bell->rung, FUTEX_WAKE, 1, NULL, NULL, 0);
}

u32 bell_look(const struct bell *bell)
{
	return __atomic_load_n(&bell->rung, __ATOMIC_SEQ_CST);
}

void bell_wait(struct bell *bell, u32 rung, const char *what, u64 n)
{
	struct timespec limit = { .tv_sec = WAKE_SECONDS };

	while (bell_look(bell) == rung) {
		long ret = syscall(SYS_futex, &bell->rung, FUTEX_WAIT, rung, &limit, NULL, 0);

		check(!(ret < 0 && errno == ETIMEDOUT), "lost wake-up for %s at message %llu", what, (ull)n);
	}
}
