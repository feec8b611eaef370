/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From where SIPI drops a CPU to the 64-bit entry of a kernel ("64-bit boot protocol",
 * Documentation/arch/x86/boot.rst). Copied to page 0 of a kernel's low slice; finds out itself which
 * page that is, so nothing but the parameter block is filled in. It is data here: this kernel never
 * runs it.
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "trampoline.h"

#define SEL_CODE32	0x08
#define SEL_CODE64	0x10
#define SEL_DATA	0x18
#define STACK_TOP	0x1000	/* the end of the page: nobody else is in it */

#define HERE(label)	(label - pcn_trampoline_start)
#define PARAM(offset)	(pcn_trampoline_params - pcn_trampoline_start + offset)

	.section .rodata, "a", @progbits
	.balign 16
	.globl pcn_trampoline_start
pcn_trampoline_start:
	.code16
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	movl	$PCN_TRAMPOLINE_REAL, PARAM(PCN_TRAMPOLINE_STAGE)

	/* Base of the page, and from it the linear addresses that descriptors and far jumps need. */
	movzwl	%ax, %ebx
	shll	$4, %ebx
	leal	HERE(gdt)(%ebx), %eax
	movl	%eax, HERE(gdt_base)
	leal	HERE(in_protected)(%ebx), %eax
	movl	%eax, HERE(to_protected)
	leal	HERE(in_long)(%ebx), %eax
	movl	%eax, HERE(to_long)

	lgdtl	HERE(gdt_limit)
	movl	%cr0, %eax
	/* INIT leaves the caches as they were, and after power-on they are off. */
	andl	$~(X86_CR0_CD | X86_CR0_NW), %eax
	orl	$X86_CR0_PE, %eax
	movl	%eax, %cr0
	ljmpl	*HERE(to_protected)

	.code32
in_protected:
	movl	$SEL_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	movl	$PCN_TRAMPOLINE_PROTECTED, PARAM(PCN_TRAMPOLINE_STAGE)(%ebx)

	movl	$X86_CR4_PAE, %eax
	movl	%eax, %cr4
	movl	PARAM(PCN_TRAMPOLINE_ROOT)(%ebx), %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$X86_CR0_PG, %eax
	movl	%eax, %cr0
	ljmpl	*HERE(to_long)(%ebx)

	.code64
in_long:
	movl	%ebx, %ebx	/* the upper half is undefined after the switch */
	leaq	STACK_TOP(%rbx), %rsp
	rdtsc
	movl	%eax, PARAM(PCN_TRAMPOLINE_TSC)(%rbx)
	movl	%edx, PARAM(PCN_TRAMPOLINE_TSC + 4)(%rbx)
	movq	PARAM(PCN_TRAMPOLINE_BOOT_PARAMS)(%rbx), %rsi
	movq	PARAM(PCN_TRAMPOLINE_ENTRY)(%rbx), %rax
	movl	$PCN_TRAMPOLINE_LONG, PARAM(PCN_TRAMPOLINE_STAGE)(%rbx)
	xorl	%ebp, %ebp
	xorl	%edi, %edi
	xorl	%ebx, %ebx
	jmp	*%rax

	.balign 8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* SEL_CODE32: flat, 4 GiB */
	.quad	0x00af9b000000ffff	/* SEL_CODE64 */
	.quad	0x00cf93000000ffff	/* SEL_DATA: flat, 4 GiB */
gdt_limit:
	.word	gdt_limit - gdt - 1
gdt_base:
	.long	0
	.balign 4
to_protected:
	.long	0
	.word	SEL_CODE32
	.balign 4
to_long:
	.long	0
	.word	SEL_CODE64

	.balign 8
	.globl pcn_trampoline_params
pcn_trampoline_params:
	.fill	PCN_TRAMPOLINE_STAGE + 8, 1, 0
	.globl pcn_trampoline_end
pcn_trampoline_end:
