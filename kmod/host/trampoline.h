/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Parameter block of the trampoline, for trampoline.S and start.c.
 */
#ifndef _PCN_TRAMPOLINE_H
#define _PCN_TRAMPOLINE_H

#define PCN_TRAMPOLINE_ROOT		0
#define PCN_TRAMPOLINE_ENTRY		8
#define PCN_TRAMPOLINE_BOOT_PARAMS	16
#define PCN_TRAMPOLINE_TSC		24
#define PCN_TRAMPOLINE_STAGE		32

/* How far the CPU came. */
#define PCN_TRAMPOLINE_REAL		1	/* left the wait for SIPI */
#define PCN_TRAMPOLINE_PROTECTED	2
#define PCN_TRAMPOLINE_LONG		3	/* the next instruction is the kernel's */

/* A 32-bit kernel is entered from PROTECTED instead; it would be another word here. */

#ifndef __ASSEMBLER__

#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * struct pcn_trampoline_params - what the trampoline is told, and tells
 * @page_table_root: PML4 page, below 4 GiB; maps the trampoline's own page 1:1
 * @entry: 64-bit entry point
 * @boot_params: zero page
 * @tsc: time of arrival in long mode
 * @stage: PCN_TRAMPOLINE_REAL and on
 */
struct pcn_trampoline_params {
	u64 page_table_root;
	u64 entry;
	u64 boot_params;
	u64 tsc;
	u32 stage;
};

static_assert(offsetof(struct pcn_trampoline_params, page_table_root) == PCN_TRAMPOLINE_ROOT);
static_assert(offsetof(struct pcn_trampoline_params, entry) == PCN_TRAMPOLINE_ENTRY);
static_assert(offsetof(struct pcn_trampoline_params, boot_params) == PCN_TRAMPOLINE_BOOT_PARAMS);
static_assert(offsetof(struct pcn_trampoline_params, tsc) == PCN_TRAMPOLINE_TSC);
static_assert(offsetof(struct pcn_trampoline_params, stage) == PCN_TRAMPOLINE_STAGE);

extern const u8 pcn_trampoline_start[];
extern const u8 pcn_trampoline_params[];
extern const u8 pcn_trampoline_end[];

#endif
#endif
