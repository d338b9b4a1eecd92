/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kvm-p9's trampoline: the last instructions before a guest and the first after
 * it, and the fast path for hcalls that a fast handler answers.
 *
 * This is what Rust cannot express: code that runs on guest registers, without a
 * stack, and perhaps with the MMU off.
 *
 *   kvm_p9_run_guest_site  called with the guest's SPRs and MMU context loaded;
 *			  loads the GPRs and returns after an exit that the host
 *			  has to handle
 *   kvm_p9_exit_hcall	  `sc 1` from a guest that was entered there
 *   kvm_p9_exit_interrupt  any other interrupt from it
 *   kvm_p9_vcpu_entry	  the seam: one branch, which kvm_p9.path patches
 *
 * How an hcall arrives. A radix guest with translation on takes `sc 1` at the
 * relocated vector with the MMU on; one in real mode takes it in real mode. In
 * hypervisor state the kernel's own addresses (quadrant 3) translate with
 * LPID 0 and PID 0, not with LPIDR and PIDR (Power ISA 3.0B, Book III,
 * 5.7.5), so kernel code and data can be used with the guest's MMU context
 * still loaded, and nothing has to be switched for a handler that touches
 * neither user nor guest addresses. The real-mode arrival first has to jump to
 * the kernel's virtual address and turn the MMU on; it takes no part in turning
 * it off again, as hrfid sets the whole MSR.
 *
 * A hash guest always takes `sc 1` in real mode, and its handlers run in real mode:
 * kernel text, the linear map and r2 have addresses whose low 60 bits are the real
 * ones, and hypervisor real mode ignores the upper four (Power ISA 3.0B, Book III,
 * 5.7.3). What is not in the linear map (vmalloc, vmemmap, per-CPU memory of other
 * nodes in vmalloc space) is out of reach.
 *
 * All of it is in .noinstr.text, where the kernel puts no kprobe: the interrupt of a probe would
 * find guest registers, or the guest's context.
 *
 * The fast path's contract. A handler runs with the guest's timebase, LPIDR,
 * PIDR, LPCR, AMR, DSCR, PMU, FP and vector registers loaded, MSR[EE] and
 * MSR[RI] zero and MSR[FP,VEC,VSX] zero, and MSR[IR,DR] zero for a hash guest. It may use the GPRs, CR, CTR, LR and
 * XER that a C function may use, and nothing else. This code gives the guest
 * all of these back as they were, but for
 *
 *   r3		the handler's return code
 *   CTR	0, as after any hcall under Linux: the vector has used it
 *   CFAR	0, as the C path leaves it. hrfid does not write CFAR, rfid does,
 *		which is why HSRR0/1 are used although SRR0/1 hold the values
 *
 * The mode byte stays KVM_GUEST_MODE_HV_P9_RS while a handler runs: PMU,
 * timebase and the rest are the guest's, so an NMI or machine check must not
 * simply carry on into host code. It finds MSR[HV] set in its SRR1 and goes to
 * kvm_p9_interrupted, which says where the host survives it.
 *
 * Nothing here keeps the host waiting. External interrupts, doorbells and the
 * hypervisor decrementer are enabled whenever MSR[HV] is 0, so one that arrives
 * while a handler runs is taken at the first guest instruction, and a guest that
 * does nothing but fast hcalls leaves as promptly as one that computes.
 */
#include <linux/linkage.h>
#include <asm/asm-offsets.h>
#include <asm/cache.h>
#include <asm/code-patching-asm.h>
#include <asm/exception-64s.h>
#include <asm/kvm_asm.h>
#include <asm/ppc-opcode.h>
#include <asm/ppc_asm.h>
#include <asm/ptrace.h>
#include <asm/reg.h>

#include "kvm_p9_layout.h"
#include "kvm_p9_abi.h"

.section ".noinstr.text", "ax"

/*
 * Frame of kvm_p9_run_guest: ABI header, then CR, then r14 to r31. Above is room that the functions
 * of the full path have below their caller's frame: see kvm_p9_interrupted.
 */
#define FRAME_CR	STACK_FRAME_MIN_SIZE
#define FRAME_NVGPRS	(FRAME_CR + 16)
#define FRAME_SIZE	(FRAME_NVGPRS + 18 * 8 + KVM_P9_ABI_FULL_PATH_STACK)

/* \op each of r\first to r\last to or from \offset(\base), 8 bytes apart */
.macro GPRS op, first, last, offset, base
	.Lgpr = \first
	.rept	\last - \first + 1
	\op	.Lgpr, \offset + (.Lgpr - \first) * 8(\base)
	.Lgpr = .Lgpr + 1
	.endr
.endm

/*
 * int kvm_p9_vcpu_entry(struct kvm_vcpu *vcpu, u64 limit, unsigned long lpcr,
 *			 u64 *tb)
 *
 * The seam: KVM-HV calls it to enter a guest.
 */
_GLOBAL_TOC(kvm_p9_vcpu_entry)
1:	b	CFUNC(kvmhv_vcpu_entry_p9)
	patch_site 1b patch__kvm_p9_seam
.size kvm_p9_vcpu_entry, . - kvm_p9_vcpu_entry

/*
 * void kvm_p9_run_guest_site(struct kvm_vcpu *vcpu)
 *
 * Rust calls it to run the guest: a branch to kvm_p9_run_guest, or to
 * kvm_p9_run_guest_timed while times are taken.
 */
_GLOBAL(kvm_p9_run_guest_site)
1:	b	kvm_p9_run_guest
	patch_site 1b patch__kvm_p9_run_guest
.size kvm_p9_run_guest_site, . - kvm_p9_run_guest_site

/*
 * void kvm_p9_run_guest_timed(struct kvm_vcpu *vcpu)
 *
 * Call Rust to record timestamps before entry and after exit. The MMU may be off
 * after exit; everything used here is in the linear map.
 */
_GLOBAL(kvm_p9_run_guest_timed)
	mflr	r0
	std	r0, PPC_LR_STKOFF(r1)
	stdu	r1, -(STACK_FRAME_MIN_SIZE + 16)(r1)
	std	r3, STACK_FRAME_MIN_SIZE(r1)
	bl	CFUNC(kvm_p9_time_entry)
	ld	r3, STACK_FRAME_MIN_SIZE(r1)
	bl	kvm_p9_run_guest
	ld	r3, STACK_FRAME_MIN_SIZE(r1)
	bl	CFUNC(kvm_p9_time_exit)
	addi	r1, r1, STACK_FRAME_MIN_SIZE + 16
	ld	r0, PPC_LR_STKOFF(r1)
	mtlr	r0
	blr
.size kvm_p9_run_guest_timed, . - kvm_p9_run_guest_timed

/*
 * void kvm_p9_run_guest(struct kvm_vcpu *vcpu)
 *
 * HSRR0/1 hold the guest's NIA and MSR. Returns, with the MMU on or off, from
 * one of the two exits below.
 */
_GLOBAL(kvm_p9_run_guest)
	mflr	r0
	mfcr	r5
	std	r0, PPC_LR_STKOFF(r1)
	stdu	r1, -FRAME_SIZE(r1)
	std	r5, FRAME_CR(r1)
	GPRS	std, 14, 31, FRAME_NVGPRS, r1
	std	r1, HSTATE_HOST_R1(r13)

	/*
	 * From here on all comes from memory: kvm_p9_interrupted begins here again.
	 * All loads that SPRs wait for first, then the SPRs, LR and CTR last.
	 */
.Lguest_loads:
	ld	r5, VCPU_CFAR(r3)
	ld	r6, VCPU_PPR(r3)
	ld	r7, VCPU_XER(r3)
	ld	r8, VCPU_LR(r3)
	ld	r9, VCPU_CTR(r3)
	ld	r10, VCPU_CR(r3)
	mtspr	SPRN_CFAR, r5
	mtspr	SPRN_PPR, r6
	mtspr	SPRN_XER, r7
	mtlr	r8
	mtctr	r9
	mtcr	r10

	GPRS	ld, 0, 2, VCPU_GPR(R0), r3
	GPRS	ld, 4, 31, VCPU_GPR(R4), r3
	ld	r3, VCPU_GPR(R3)(r3)
	HRFI_TO_GUEST
	b	.

/*
 * Where the hrfid above goes to if a system reset or a machine check has overwritten the guest's SRR0
 * and SRR1 since they were loaded: kvm_p9_interrupted writes this address to HSRR0. All registers
 * but those of the PACA have the guest's values, and get them once more.
 */
.Lguest_again:
	GET_PACA(r13)
	ld	r3, HSTATE_KVM_VCPU(r13)
	ld	r4, VCPU_SRR0(r3)
	ld	r5, VCPU_SRR1(r3)
	ld	r6, VCPU_DAR(r3)
	lwz	r7, VCPU_DSISR(r3)
	ld	r8, VCPU_PC(r3)
	ld	r9, VCPU_MSR(r3)
	ori	r9, r9, MSR_ME
	mtspr	SPRN_SRR0, r4
	mtspr	SPRN_SRR1, r5
	mtspr	SPRN_DAR, r6
	mtspr	SPRN_DSISR, r7
	mtspr	SPRN_HSRR0, r8
	mtspr	SPRN_HSRR1, r9
	b	.Lguest_loads
.Lguest_end:
.size kvm_p9_run_guest, . - kvm_p9_run_guest

/*
 * void kvm_p9_load_way_in(u64 nia, u64 msr)
 *
 * Rust calls it to load HSRR0 and HSRR1 while the mode byte has its guest value. kvm_p9_interrupted
 * writes both, so it has to know where only one of them is loaded, and begins here again.
 */
_GLOBAL(kvm_p9_load_way_in)
	mtspr	SPRN_HSRR0, r3
	mtspr	SPRN_HSRR1, r4
	blr
.Lway_in_end:
.size kvm_p9_load_way_in, . - kvm_p9_load_way_in

/*
 * From kvmppc_hcall, with
 *   r13		PACA
 *   r9			guest CR
 *   r10, r11, r12	free, like the guest's r9 to r13 and PPR saved in EXGEN
 *   CTR		lost, the guest's is defined to be 0
 *   all others		the guest's
 *
 * All but fast hcalls go to the full path with these registers unchanged.
 */
.balign	IFETCH_ALIGN_BYTES
_GLOBAL(kvm_p9_exit_hcall)
	/* While times are taken, a branch to kvm_p9_stamp_hcall, which begins with the same instruction */
1:	ld	r10, HSTATE_KVM_VCPU(r13)
	patch_site 1b patch__kvm_p9_stamp_hcall
.Lhcall:
	/*
	 * PAPR numbers are multiples of 4, and the table has a place for each that is
	 * small. The branch sends all others to the full path. If it is mispredicted, a
	 * guest still chooses from the table only: the mask sees to that.
	 * XER is the guest's still, so nothing may carry.
	 */
	rldicl.	r11, r3, 64 - 2 - KVM_P9_ABI_FAST_TABLE_BITS, KVM_P9_ABI_FAST_TABLE_BITS
	bne	.Lhcall_full
	ld	r11, VCPU_P9 + KVM_P9_ABI_VCPU_FAST_TABLE(r10)
	rlwinm	r12, r3, 1, 32 - 3 - KVM_P9_ABI_FAST_TABLE_BITS, 31 - 3
	ldx	r12, r11, r12
	cmpdi	r12, 0
	beq	.Lhcall_full

	/*
	 * There is a handler. Make room, and read the SPRs together before any
	 * of them is written: an mfspr after an mtspr waits for it.
	 */
	GPRS	std, 0, 8, VCPU_GPR(R0), r10
	mfspr	r4, SPRN_SRR1
	mfspr	r5, SPRN_SRR0
	/* From here on SRR0 and SRR1 can be had again: see kvm_p9_interrupted */
.Lhcall_read:
	mflr	r6
	mfspr	r7, SPRN_XER
	mfmsr	r8

	/*
	 * The usual case: the thread is in no transaction, and the MMU is on (MSR), and the
	 * guest was not in problem state (SRR1). An interrupt leaves MSR with these bits and all
	 * bits below [TS] at one value, so one comparison tells.
	 */
	rldicl	r2, r8, 0, 63 - MSR_TS_T_LG
	rlwimi	r2, r4, 0, 31 - MSR_PR_LG, 31 - MSR_PR_LG
	cmpldi	r2, MSR_ME | MSR_IR | MSR_DR | MSR_LE

	std	r9, VCPU_CR(r10)
	std	r6, VCPU_LR(r10)
	std	r7, VCPU_XER(r10)

	/*
	 * The handler touches neither pair, so the way back can be laid now. A guest cannot
	 * clear [ME], and every guest is entered with it.
	 */
	mtspr	SPRN_HSRR0, r5
	mtspr	SPRN_HSRR1, r4
.Lhcall_kept:

	ld	r1, HSTATE_HOST_R1(r13)
	bne	.Lhcall_unusual
.Lhcall_in_host:
	/*
	 * The call and return below are a pair, so no return of the host's is
	 * predicted from the guest's entries; the flush is for what may be
	 * speculated past them. It uses r0 and LR.
	 */
1:	nop
	patch_site 1b patch__call_kvm_flush_link_stack_p9_rs_fast

	/* r12 is what a function finds its TOC by */
	addi	r3, r10, VCPU_P9
	mtctr	r12
	bctrl

	/* From here to the hrfid all but r3 and r13 comes from memory */
.Lhcall_answered:
	ld	r10, HSTATE_KVM_VCPU(r13)
	cmpldi	r3, KVM_P9_ABI_H_TOO_HARD
	ld	r4, VCPU_LR(r10)
	ld	r5, VCPU_XER(r10)
	ld	r9, VCPU_CR(r10)
	beq	.Lhcall_too_hard

	ld	r6, PACA_EXGEN+EX_PPR(r13)
	li	r0, 0
	mtspr	SPRN_CFAR, r0
	mtspr	SPRN_XER, r5
	mtspr	SPRN_PPR, r6
	mtctr	r0
	mtlr	r4
	mtcr	r9

	GPRS	ld, 0, 2, VCPU_GPR(R0), r10
	GPRS	ld, 4, 8, VCPU_GPR(R4), r10
	ld	r9, PACA_EXGEN+EX_R9(r13)
	ld	r10, PACA_EXGEN+EX_R10(r13)
	ld	r11, PACA_EXGEN+EX_R11(r13)
	ld	r12, PACA_EXGEN+EX_R12(r13)
	ld	r13, PACA_EXGEN+EX_R13(r13)
	HRFI_TO_GUEST
	b	.

/*
 * Where the code above goes on after an interrupt of its own (kvm_p9_interrupted): after the
 * handler, and else on the full path. An hcall leaves the guest's NIA and MSR in SRR0 and SRR1, too.
 */
.Lhcall_answered_again:
	mfspr	r4, SPRN_HSRR0
	mfspr	r5, SPRN_HSRR1
	mtspr	SPRN_SRR0, r4
	mtspr	SPRN_SRR1, r5
	b	.Lhcall_answered

.Lhcall_full_again:
	ld	r10, HSTATE_KVM_VCPU(r13)
	ld	r4, VCPU_LR(r10)
	ld	r5, VCPU_XER(r10)
	mfspr	r6, SPRN_HSRR0
	mfspr	r7, SPRN_HSRR1
	mtlr	r4
	mtspr	SPRN_XER, r5
	mtspr	SPRN_SRR0, r6
	mtspr	SPRN_SRR1, r7
	GPRS	ld, 0, 8, VCPU_GPR(R0), r10
	b	.Lhcall_full

/*
 * Problem state has no hcalls, and a transaction is the full path's business. Else the MMU is
 * off. For a hash guest it stays off: LPCR[HR] is zero, so no address of the host's can be
 * translated. The guest can't change the kind of its MMU while a vcpu runs.
 *
 * A radix guest was in real mode. Without CONFIG_RELOCATABLE the vector's branch
 * has kept the real address, so take the virtual one before the MMU goes on.
 * mtmsrd with L=0 is context synchronising: the next fetch is translated.
 */
.Lhcall_unusual:
	andi.	r0, r4, MSR_PR
	bne	.Lhcall_full_r0_r8
	rldicl.	r0, r4, 64 - MSR_TS_S_LG, 62
	bne	.Lhcall_full_r0_r8
	andi.	r0, r8, MSR_IR
	ld	r11, VCPU_KVM(r10)
	bne	.Lhcall_in_host
	lbz	r11, KVM_RADIX(r11)
	cmpwi	r11, 0
	beq	.Lhcall_in_host
	LOAD_PACA_TOC()
	LOAD_REG_ADDR(r11, 1f)
	ori	r8, r8, MSR_IR | MSR_DR
	mtctr	r11
	bctr
1:	mtmsrd	r8, 0
	b	.Lhcall_in_host

/* Put back what was used, and take the full path. */
.Lhcall_too_hard:
	mtspr	SPRN_XER, r5
	mtlr	r4
.Lhcall_full_r0_r8:
	GPRS	ld, 0, 8, VCPU_GPR(R0), r10
.Lhcall_full:
	mfspr	r11, SPRN_SRR0
	mfspr	r12, SPRN_SRR1
	li	r10, BOOK3S_INTERRUPT_SYSCALL
	std	r10, HSTATE_SCRATCH0(r13)
	b	kvm_p9_exit_interrupt
.size kvm_p9_exit_hcall, . - kvm_p9_exit_hcall

/*
 * Store timebase and PMC6 when an hcall arrives. The first instruction is the one that the branch
 * to here replaces: C puts it back from here. The timebase is the guest's, as is
 * the one it is compared with. Rust checks later whether it owns PMC6.
 */
_GLOBAL(kvm_p9_stamp_hcall)
	ld	r10, HSTATE_KVM_VCPU(r13)
	mftb	r11
	mfspr	r12, SPRN_PMC6
	std	r11, VCPU_P9 + KVM_P9_ABI_VCPU_HCALL_TB(r10)
	std	r12, VCPU_P9 + KVM_P9_ABI_VCPU_HCALL_CYCLES(r10)
	b	.Lhcall
.Lhcall_end:
.size kvm_p9_stamp_hcall, . - kvm_p9_stamp_hcall

/*
 * From kvmppc_interrupt, with
 *   r13		PACA
 *   r9			guest CR
 *   r11, r12		(H)SRR0, (H)SRR1
 *   SCRATCH0		trap number
 *   r10		free; guest r9 to r13, CTR, CFAR and PPR are in the
 *			PACA's save area for this kind of interrupt
 *   all others		the guest's
 *
 * Saves the guest's GPRs, but for those in the PACA, CR, LR, XER, NIA and MSR, and what any
 * interrupt overwrites: SRR0, SRR1, DAR, DSISR and the trap number. With that the host survives a
 * system reset until the exit is over: see kvm_p9_interrupted. Returns to the caller of
 * kvm_p9_run_guest.
 */
.balign	IFETCH_ALIGN_BYTES
_GLOBAL(kvm_p9_exit_interrupt)
	/* Taken in the hypervisor: there is no guest state in the registers */
	rldicl.	r10, r12, 64 - MSR_HV_LG, 63
	bne-	.Lbad_interrupt

	ld	r10, HSTATE_KVM_VCPU(r13)
	GPRS	std, 0, 8, VCPU_GPR(R0), r10
	GPRS	std, 14, 31, VCPU_GPR(R14), r10
	ld	r2, HSTATE_SCRATCH0(r13)
	mfspr	r0, SPRN_SRR0
	mfspr	r6, SPRN_SRR1
	mfspr	r7, SPRN_DAR
	mfspr	r8, SPRN_DSISR
	mflr	r4
	mfspr	r5, SPRN_XER
	stw	r2, VCPU_TRAP(r10)
	std	r0, VCPU_SRR0(r10)
	std	r6, VCPU_SRR1(r10)
	std	r7, VCPU_DAR(r10)
	stw	r8, VCPU_DSISR(r10)
	std	r11, VCPU_PC(r10)
	std	r12, VCPU_MSR(r10)
	std	r9, VCPU_CR(r10)
	std	r4, VCPU_LR(r10)
	std	r5, VCPU_XER(r10)
	ld	r1, HSTATE_HOST_R1(r13)

	LOAD_PACA_TOC()
	GPRS	ld, 14, 31, FRAME_NVGPRS, r1
	ld	r6, FRAME_CR(r1)
	mtcr	r6

	/*
	 * The first blr of the way out must not be predicted from what the
	 * guest left in the link stack. The flush uses r0 and LR.
	 */
1:	nop
	patch_site 1b patch__call_kvm_flush_link_stack_p9_rs

	addi	r1, r1, FRAME_SIZE
	ld	r0, PPC_LR_STKOFF(r1)
	mtlr	r0
	blr
.Lexit_end:

.Lbad_interrupt:
	b	kvm_p9_interrupted
.size kvm_p9_exit_interrupt, . - kvm_p9_exit_interrupt

/*
 * A system reset or a machine check in hypervisor state, while the mode byte has its
 * guest value. From kvm_p9_exit_interrupt, with the same registers, in real mode. For a machine check
 * the kernel's early handler has run.
 *
 * Both overwrite SRR0 and SRR1. For a guest outside a transaction, host and guest go on after an
 * interrupt where SRR0 and SRR1 can be had again:
 *
 *   entry	The guest's are in the vcpu. MSR[FP] is 1, which the entry sets before it sets the mode
 *		byte, and which any exit clears. What was interrupted goes on; the trampoline's hrfid then
 *		goes to .Lguest_again.
 *   trampoline	The part that enters the guest begins again.
 *   hcall	From where the trampoline has the guest's NIA and MSR in r5 and r4 (.Lhcall_read), and
 *		then in HSRR0 and HSRR1 (.Lhcall_kept), to the hrfid. A handler goes on where it was.
 *
 *   exit	After kvm_p9_exit_interrupt. The guest's are in the vcpu. What was interrupted goes on, also
 *		to the next entry, if the exit is a light one: from an entry it cannot be told.
 *
 * From the vector to there and in kvm_p9_exit_interrupt they are lost, and with them the guest. The
 * host goes on. All else goes to kvmppc_p9_bad_interrupt, which ends the host, as on the C path.
 *
 * In all of these places kernel addresses are translated, or the MMU is off and its context a hash
 * guest's: then the kernel's handler of system resets gets the host's, and the guest's is kept. r13
 * is the PACA or a guest's that comes from memory once more, and the handlers restore all registers
 * but for those that are saved here.
 * In a handler r1 is at or below HSTATE_HOST_R1; on the full path, whose exit has the same
 * functions, r1 is above: see FRAME_SIZE. Where r1 is the guest's is known by NIP.
 */

/* How far above HSTATE_HOST_R1 r1 is in the exit, at most: where the caller of the trampoline has it */
#define EXIT_ABOVE	(FRAME_SIZE + STACK_FRAME_MIN_SIZE + 16)

/*
 * What is kept, below what a handler may use of the stack. HSTATE_SCRATCH1 has its address: it is
 * of HSTATE_HOST_R1, or of r1 before the trampoline has stored that.
 */
#define KEPT_BELOW	(KVM_P9_ABI_HANDLER_STACK + KERNEL_REDZONE_SIZE + KEPT_SIZE)
#define KEPT_NIP	0
#define KEPT_MSR	8
#define KEPT_CR		16
#define KEPT_LR		24
#define KEPT_CTR	32
#define KEPT_XER	40
#define KEPT_GPR0	48
#define KEPT_EXGEN	(KEPT_GPR0 + 14 * 8)
#define KEPT_DAR	(KEPT_EXGEN + EX_SIZE * 8)
#define KEPT_DSISR	(KEPT_DAR + 8)
#define KEPT_DEC	(KEPT_DAR + 16)
#define KEPT_HDEC	(KEPT_DAR + 24)
/* The MMU context of a hash guest; LPCR is 0 while it is that of the CPU */
#define KEPT_LPCR	(KEPT_DAR + 32)
#define KEPT_LPIDR	(KEPT_LPCR + 8)
#define KEPT_PIDR	(KEPT_LPCR + 16)
#define KEPT_SLB_COUNT	(KEPT_LPCR + 24)
#define KEPT_SLB	(KEPT_LPCR + 32)
#define KEPT_SIZE	(KEPT_SLB + SLB_ENTRIES * 16)

/* \n registers of 8 bytes from \from(\base) to \to(\base2), by \tmp */
.macro COPY n, from, base, to, base2, tmp
	.Lcopied = 0
	.rept	\n
	ld	\tmp, \from + .Lcopied(\base)
	std	\tmp, \to + .Lcopied(\base2)
	.Lcopied = .Lcopied + 8
	.endr
.endm

/* \r: the distance of r3, an address without its upper four bits, from \label */
.macro DISTANCE r, label
	LOAD_REG_ADDR(\r, \label)
	clrldi	\r, \r, 4
	subf	\r, \r, r3
.endm

/* Go to \target if r3 is from \from to before \to of the same section; spoils r4 */
.macro IF_WITHIN from, to, target
	DISTANCE r4, \from
	cmpldi	r4, \to - \from
	blt	\target
.endm

/* The same with \to elsewhere; spoils r4 and r5 */
.macro IF_BETWEEN from, to, target
	LOAD_REG_ADDR(r4, \from)
	LOAD_REG_ADDR(r5, \to)
	subf	r5, r4, r5
	clrldi	r4, r4, 4
	subf	r4, r4, r3
	cmpld	r4, r5
	blt	\target
.endm

/*
 * Go to \target if this is a machine check, of which the hardware has overwritten DAR and DSISR, and
 * the guest may need its own, because its MSR[RI] is 0; spoils \tmp
 */
.macro IF_DAR_IS_LOST tmp, target
	ld	\tmp, HSTATE_SCRATCH0(r13)
	cmpwi	\tmp, BOOK3S_INTERRUPT_MACHINE_CHECK
	bne	.Lnot_lost\@
	mfspr	\tmp, SPRN_HSRR1
	andi.	\tmp, \tmp, MSR_RI
	beq	\target
.Lnot_lost\@:
.endm

/*
 * Load the MMU context of a hash guest again, if r10 has kept it; spoils r9, r11, r12, CTR and CR0. The
 * barriers are those of an entry: see switch_mmu_context() in entry/src/switch/enter.rs. The rfid or hrfid
 * that follows synchronizes the SLB.
 */
.macro LOAD_KEPT_MMU_CONTEXT
	ld	r9, KEPT_LPCR(r10)
	cmpdi	r9, 0
	beq	.Lloaded\@
	ld	r11, KEPT_LPIDR(r10)
	ld	r12, KEPT_PIDR(r10)
	hwsync
	isync
	mtspr	SPRN_LPID, r11
	mtspr	SPRN_LPCR, r9
	mtspr	SPRN_PID, r12
	isync
	ld	r9, KEPT_SLB_COUNT(r10)
	cmpdi	r9, 0
	beq	.Lloaded\@
	mtctr	r9
	addi	r9, r10, KEPT_SLB
.Lslb\@:
	ld	r11, 0(r9)
	ld	r12, 8(r9)
	slbmte	r12, r11
	addi	r9, r9, 16
	bdnz	.Lslb\@
.Lloaded\@:
.endm

_GLOBAL(kvm_p9_interrupted)
	ld	r10, HSTATE_SCRATCH0(r13)
	cmpwi	r10, BOOK3S_INTERRUPT_SYSTEM_RESET
	beq	1f
	cmpwi	r10, BOOK3S_INTERRUPT_MACHINE_CHECK
	bne	.Lunsurvivable
1:	rldicl.	r10, r12, 64 - MSR_TS_S_LG, 62
	bne	.Lunsurvivable

	/* r2, r9 and r10 are free from here on */
	std	r2, HSTATE_SCRATCH2(r13)
	stw	r9, PACA_EXNMI + EX_CCR(r13)
	LOAD_PACA_TOC()
	clrldi	r10, r11, 4
	LOAD_REG_ADDR(r9, kvm_p9_resume)
	clrldi	r9, r9, 4
	subf	r9, r9, r10
	cmpldi	r9, .Lresume_end - kvm_p9_resume
	blt	.Linterrupted_resume

	LOAD_REG_ADDR(r9, .Lguest_loads)
	clrldi	r9, r9, 4
	subf	r9, r9, r10
	cmpldi	r9, .Lguest_end - .Lguest_loads
	ld	r10, HSTATE_HOST_R1(r13)
	blt	1f
	andi.	r9, r12, MSR_FP
	beq	1f
	/* In a transaction r1 is the guest's in between */
	ld	r9, HSTATE_KVM_VCPU(r13)
	ld	r9, VCPU_MSR(r9)
	rldicl.	r9, r9, 64 - MSR_TS_S_LG, 62
	bne	.Lin_transaction
	mr	r10, r1
1:	subi	r10, r10, KEPT_BELOW
	std	r10, HSTATE_SCRATCH1(r13)
	GPRS	std, 0, 8, KEPT_GPR0, r10
	ld	r4, HSTATE_SCRATCH2(r13)
	lwz	r5, PACA_EXNMI + EX_CCR(r13)
	std	r4, KEPT_GPR0 + 2 * 8(r10)
	std	r5, KEPT_CR(r10)
	std	r11, KEPT_NIP(r10)
	std	r12, KEPT_MSR(r10)

	/* The interrupt's save area, of which the guest's or the handler's r9 to r13 and CTR are */
	ld	r4, HSTATE_SCRATCH0(r13)
	cmpwi	r4, BOOK3S_INTERRUPT_SYSTEM_RESET
	addi	r6, r13, PACA_EXNMI
	beq	2f
	addi	r6, r13, PACA_EXMC
2:

	/* Addresses without their upper four bits: a guest in real mode, and a hash guest, arrive in real mode */
	clrldi	r3, r11, 4
	IF_WITHIN kvm_p9_lose_guest_and_registers, .Llose_end, .Linterrupted_exit
	li	r4, 0
	std	r4, KEPT_LPCR(r10)
	IF_WITHIN .Lguest_loads, .Lguest_end, .Linterrupted_loads
	IF_WITHIN kvm_p9_load_way_in, .Lway_in_end, .Linterrupted_way_in
	IF_WITHIN kvm_p9_run_guest, .Lguest_loads, .Linterrupted_entry
	andi.	r4, r12, MSR_FP
	bne	.Linterrupted_entry
	IF_WITHIN .Lhcall_kept, .Lhcall_full, .Linterrupted_trampoline
	IF_WITHIN .Lhcall_read, .Lhcall_kept, .Linterrupted_reading
	IF_WITHIN kvm_p9_exit_hcall, .Lhcall_end, .Linterrupted_arrival
	IF_WITHIN kvm_p9_exit_interrupt, .Lexit_end, .Linterrupted_exit
	IF_BETWEEN kvmppc_hcall, kvmppc_p9_enter_guest, .Linterrupted_arrival
	/* The vectors, which are executed at the beginning of memory */
	LOAD_REG_ADDR(r4, _stext)
	LOAD_REG_ADDR(r5, __end_interrupts)
	subf	r5, r4, r5
	cmpld	r3, r5
	blt	.Linterrupted_arrival

	ld	r4, HSTATE_HOST_R1(r13)
	subf	r4, r4, r1
	subi	r4, r4, 1
	cmpldi	r4, EXIT_ABOVE
	blt	.Linterrupted_way_out

	/*
	 * A leaf that handlers call is as good as the place where it returns to. Its first blr the
	 * kernel patches over; the kernel has no symbol where it ends, with the second.
	 */
	LOAD_REG_ADDR(r4, do_uaccess_flush)
	addi	r5, r4, 3 * 4
	LOAD_REG_IMMEDIATE(r7, PPC_RAW_BLR())
3:	lwzu	r8, 4(r5)
	cmpld	r8, r7
	bne	3b
	subf	r5, r4, r5
	clrldi	r4, r4, 4
	subf	r4, r4, r3
	cmpld	r4, r5
	bgt	4f
	mflr	r3
	clrldi	r3, r3, 4
4:	IF_BETWEEN kvm_p9_rs_text, kvm_p9_rs_text_end, 5f
	b	.Lunsurvivable_kept
5:	ld	r3, HSTATE_HOST_R1(r13)
	subf	r4, r1, r3
	cmpldi	r4, KVM_P9_ABI_HANDLER_STACK
	bgt	.Lunsurvivable_kept

	/*
	 * The way back to the handler is by SRR0 and SRR1. So the handler has to return to where they
	 * get the guest's values again, or to where the guest is lost. The return address is in LR, in
	 * the trampoline's frame, or on its way between both in r0. Where it is left over from before,
	 * it does no harm.
	 */
	LOAD_REG_ADDR(r5, .Lhcall_answered_again)
	IF_DAR_IS_LOST r4, 6f
	b	7f
6:	LOAD_REG_ADDR(r5, kvm_p9_lose_guest_and_registers)
7:	LOAD_REG_ADDR(r4, .Lhcall_answered)
	mflr	r7
	subf	r7, r4, r7
	cmpldi	r7, .Lhcall_answered_again - .Lhcall_answered
	bgt	8f
	mtlr	r5
8:	ld	r7, PPC_LR_STKOFF(r3)
	subf	r7, r4, r7
	cmpldi	r7, .Lhcall_answered_again - .Lhcall_answered
	bgt	9f
	std	r5, PPC_LR_STKOFF(r3)
9:	ld	r7, KEPT_GPR0(r10)
	subf	r7, r4, r7
	cmpldi	r7, .Lhcall_answered_again - .Lhcall_answered
	bgt	.Lsurvivable
	std	r5, KEPT_GPR0(r10)
	b	.Lsurvivable

	/*
	 * The trampoline begins a part of it again. After the handler the registers come back from
	 * memory one by one, r13 and CFAR with them: an rfid to the middle would leave a kernel address
	 * in CFAR. Before the handler nothing is done, and any hcall can take the full path.
	 */
.Linterrupted_reading:
	ld	r4, KEPT_GPR0 + 4 * 8(r10)
	ld	r5, KEPT_GPR0 + 5 * 8(r10)
	mtspr	SPRN_HSRR1, r4
	mtspr	SPRN_HSRR0, r5
	ld	r7, HSTATE_KVM_VCPU(r13)
	mflr	r4
	mfspr	r5, SPRN_XER
	std	r4, VCPU_LR(r7)
	std	r5, VCPU_XER(r7)
.Linterrupted_trampoline:
	IF_DAR_IS_LOST r4, .Linterrupted_exit
	LOAD_REG_ADDR(r5, .Lhcall_full_again)
	DISTANCE r4, .Lhcall_answered
	cmpldi	r4, .Lhcall_full_again - .Lhcall_answered
	bge	.Lbegin_again
	LOAD_REG_ADDR(r5, .Lhcall_answered_again)
	b	.Lbegin_again

.Linterrupted_loads:
	LOAD_REG_ADDR(r5, .Lguest_again)
.Lbegin_again:
	std	r5, KEPT_NIP(r10)
	std	r13, EX_R13(r6)
	b	.Lsurvivable

	/* Its registers are still there */
.Linterrupted_way_in:
	LOAD_REG_ADDR(r5, kvm_p9_load_way_in)
	std	r5, KEPT_NIP(r10)
	b	.Lsurvivable

	/* After an interrupt of the same kind the guest's r9 to r13 may be in its save area still */
.Linterrupted_way_out:
	ld	r4, HSTATE_KVM_VCPU(r13)
	lwz	r4, VCPU_TRAP(r4)
	cmplwi	r4, BOOK3S_INTERRUPT_MACHINE_CHECK
	ble	.Lunsurvivable_kept

	/*
	 * A guest whose entry or exit is interrupted has SRR0, SRR1, DAR and DSISR in the vcpu. A hash
	 * guest's MMU may still be on, and is off when the hrfid comes.
	 */
.Linterrupted_entry:
	LOAD_REG_ADDR(r5, .Lguest_again)
	ld	r3, HSTATE_KVM_VCPU(r13)
	ld	r3, VCPU_KVM(r3)
	lbz	r3, KVM_RADIX(r3)
	mr	r4, r12
	cmpwi	r3, 0
	bne	1f
	li	r7, MSR_IR | MSR_DR
	andc	r4, r4, r7
1:	mtspr	SPRN_HSRR0, r5
	mtspr	SPRN_HSRR1, r4

.Lsurvivable:
	COPY	4, EX_R9, r6, KEPT_GPR0 + 9 * 8, r10, r4
	COPY	EX_SIZE, PACA_EXGEN, r13, KEPT_EXGEN, r10, r4
	ld	r4, EX_CTR(r6)
	std	r4, KEPT_CTR(r10)
	mfspr	r3, SPRN_DAR
	mfspr	r4, SPRN_DSISR
	mfspr	r5, SPRN_DEC
	mfspr	r7, SPRN_HDEC
	std	r3, KEPT_DAR(r10)
	std	r4, KEPT_DSISR(r10)
	std	r5, KEPT_DEC(r10)
	std	r7, KEPT_HDEC(r10)

	/*
	 * The handler finds an interrupt of r5, which is recoverable, and that CFAR has the address that
	 * was really interrupted.
	 */
.Lresume_from_here:
	LOAD_REG_ADDR(r5, kvm_p9_resume)
.Lhandle:
	ld	r4, HSTATE_SCRATCH0(r13)
	cmpwi	r4, BOOK3S_INTERRUPT_MACHINE_CHECK
	beq	.Lhandle_machine_check

	/*
	 * The kernel's handler turns the MMU on. If it is off and the guest a hash guest, keep the MMU context,
	 * unless it is kept since an interrupt before, of which this one has interrupted the end. The
	 * SLB is a part of it if LPCR is the guest's. Then load the host's, with the barriers of a light
	 * exit. The handler uses no user addresses, so PID 0 will do. LPCR[HDICE] stays on, as in a light exit.
	 */
	andi.	r4, r12, MSR_IR
	bne	.Lhost_mmu
	ld	r3, HSTATE_KVM_VCPU(r13)
	ld	r7, VCPU_KVM(r3)
	lbz	r4, KVM_RADIX(r7)
	cmpwi	r4, 0
	bne	.Lhost_mmu
	mfspr	r6, SPRN_LPCR
	ld	r4, KEPT_LPCR(r10)
	cmpdi	r4, 0
	bne	4f
	mfspr	r4, SPRN_LPID
	mfspr	r8, SPRN_PID
	std	r4, KEPT_LPIDR(r10)
	std	r8, KEPT_PIDR(r10)
	li	r9, 0
	andis.	r4, r6, LPCR_UPRT@h
	bne	3f
	lwz	r4, VCPU_SLB_NR(r3)
	mtctr	r4
	li	r8, 0
	addi	r3, r10, KEPT_SLB
1:	slbmfee	r0, r8
	andis.	r4, r0, SLB_VALID@h
	beq	2f
	slbmfev	r4, r8
	or	r0, r0, r8
	std	r0, 0(r3)
	std	r4, 8(r3)
	addi	r3, r3, 16
	addi	r9, r9, 1
2:	addi	r8, r8, 1
	bdnz	1b
3:	std	r9, KEPT_SLB_COUNT(r10)
	std	r6, KEPT_LPCR(r10)
4:	li	r4, 0
	andis.	r8, r6, LPCR_UPRT@h
	bne	5f
	slbmte	r4, r4
	PPC_SLBIA(6)
5:	hwsync
	isync
	mtspr	SPRN_PID, r4
	lwz	r4, KVM_HOST_LPID(r7)
	ld	r8, KVM_HOST_LPCR(r7)
	ori	r8, r8, LPCR_HDICE
	mtspr	SPRN_LPID, r4
	mtspr	SPRN_LPCR, r8
	isync

.Lhost_mmu:
	std	r11, PACA_EXNMI + EX_CFAR(r13)
	mr	r11, r5
	ori	r12, r12, MSR_RI
	li	r4, KVM_GUEST_MODE_NONE
	stb	r4, HSTATE_IN_GUEST(r13)
	LOAD_REG_ADDR(r4, system_reset_common)
	mtctr	r4
	lwz	r9, KEPT_CR(r10)
	GPRS	ld, 0, 8, KEPT_GPR0, r10
	bctr

	/* A second interrupt: all is kept still, and r0 to r8 are as they were then */
.Linterrupted_resume:
	ld	r10, HSTATE_SCRATCH1(r13)
	b	.Lresume_from_here

	/*
	 * The kernel has done in real mode what can be done, and would end the host because MSR[RI] was
	 * clear. So ask whether that was enough, on the same stack that the kernel's code had.
	 */
.Lhandle_machine_check:
	lhz	r4, PACA_IN_MCE(r13)
	cmpwi	r4, 0
	bne	.Lunsurvivable_kept
	li	r4, 1
	sth	r4, PACA_IN_MCE(r13)
	mflr	r4
	mfspr	r7, SPRN_XER
	std	r4, KEPT_LR(r10)
	std	r7, KEPT_XER(r10)
	ld	r1, PACAMCEMERGSP(r13)
	li	r4, 0
	stdu	r4, -(STACK_FRAME_MIN_SIZE + 32)(r1)
	std	r5, STACK_FRAME_MIN_SIZE(r1)
	std	r10, STACK_FRAME_MIN_SIZE + 8(r1)
	std	r11, STACK_FRAME_MIN_SIZE + 16(r1)
	std	r12, STACK_FRAME_MIN_SIZE + 24(r1)
	bl	CFUNC(kvm_p9_correct_machine_check)
	ld	r5, STACK_FRAME_MIN_SIZE(r1)
	ld	r10, STACK_FRAME_MIN_SIZE + 8(r1)
	ld	r11, STACK_FRAME_MIN_SIZE + 16(r1)
	ld	r12, STACK_FRAME_MIN_SIZE + 24(r1)
	li	r4, 0
	sth	r4, PACA_IN_MCE(r13)
	ld	r4, KEPT_LR(r10)
	ld	r7, KEPT_XER(r10)
	mtlr	r4
	mtspr	SPRN_XER, r7
	cmpdi	r3, 0
	beq	.Lunsurvivable_kept
	mtctr	r5
	GPRS	ld, 0, 8, KEPT_GPR0, r10
	bctr

	/* The guest's NIA and MSR are lost, and with them the guest */
.Linterrupted_exit:
	std	r13, EX_R13(r6)
	LOAD_REG_ADDR(r5, kvm_p9_lose_guest_and_registers)
	b	.Lhandle
.Linterrupted_arrival:
	std	r13, EX_R13(r6)
	LOAD_REG_ADDR(r5, kvm_p9_lose_guest)
	b	.Lhandle

.Lin_transaction:
	ld	r2, HSTATE_SCRATCH2(r13)
	lwz	r9, PACA_EXNMI + EX_CCR(r13)
	b	.Lunsurvivable

.Lunsurvivable_kept:
	lwz	r9, KEPT_CR(r10)
	GPRS	ld, 0, 8, KEPT_GPR0, r10
.Lunsurvivable:
	b	kvmppc_p9_bad_interrupt
.size kvm_p9_interrupted, . - kvm_p9_interrupted

/*
 * Where the handler of a system reset returns to, with MSR[RI] set and all registers as they were
 * interrupted, and where the code above goes on after a machine check, with MSR[RI] clear. Once the mode
 * byte is set, a second interrupt begins here again; until then the kernel returns from it.
 *
 * The handler may have asked for a decrementer interrupt by DEC, which is the guest's. HDEC counts
 * as DEC does, and the host does not write it here.
 */
_GLOBAL(kvm_p9_resume)
	li	r9, KVM_GUEST_MODE_HV_P9_RS
	stb	r9, HSTATE_IN_GUEST(r13)
	ld	r10, HSTATE_SCRATCH1(r13)
	LOAD_KEPT_MMU_CONTEXT
	mfspr	r9, SPRN_HDEC
	ld	r11, KEPT_HDEC(r10)
	ld	r12, KEPT_DEC(r10)
	subf	r9, r9, r11
	subf	r9, r9, r12
	mtspr	SPRN_DEC, r9
	li	r9, 0
	mtmsrd	r9, 1
	ld	r9, KEPT_DAR(r10)
	ld	r11, KEPT_DSISR(r10)
	mtspr	SPRN_DAR, r9
	mtspr	SPRN_DSISR, r11
	COPY	EX_SIZE, KEPT_EXGEN, r10, PACA_EXGEN, r13, r9
	ld	r9, KEPT_NIP(r10)
	ld	r11, KEPT_MSR(r10)
	ld	r12, KEPT_CTR(r10)
	mtspr	SPRN_SRR0, r9
	mtspr	SPRN_SRR1, r11
	mtctr	r12
	ld	r12, KEPT_CR(r10)
	mtcr	r12
	ld	r9, KEPT_GPR0 + 9 * 8(r10)
	ld	r11, KEPT_GPR0 + 11 * 8(r10)
	ld	r12, KEPT_GPR0 + 12 * 8(r10)
	ld	r10, KEPT_GPR0 + 10 * 8(r10)
	RFI_TO_KERNEL
	b	.
.Lresume_end:
.size kvm_p9_resume, . - kvm_p9_resume

/*
 * Where the handler of a system reset returns to, and the code above goes on after a machine check, that
 * has overwritten the NIA and MSR of a guest. Leave the guest by a machine check, with the NIA and MSR of
 * the last entry and MSR[RI] clear: the guest cannot go on, and is told so in the way that it knows. Of
 * the registers that the vector has used the guest gets zeroes.
 *
 * Once the mode byte is set, a second interrupt begins here again.
 */
_GLOBAL(kvm_p9_lose_guest_and_registers)
	.Lgpr = 0
	.rept	32
	.if .Lgpr < 9 || .Lgpr > 13
	li	.Lgpr, 0
	.endif
	.Lgpr = .Lgpr + 1
	.endr
_GLOBAL(kvm_p9_lose_guest)
	li	r10, KVM_GUEST_MODE_HV_P9_RS
	stb	r10, HSTATE_IN_GUEST(r13)
	ld	r10, HSTATE_SCRATCH1(r13)
	LOAD_KEPT_MMU_CONTEXT
	li	r9, 0
	/* They have an address of the host, and kvm_p9_exit_interrupt saves them as the guest's */
	mtspr	SPRN_SRR0, r9
	mtspr	SPRN_SRR1, r9
	mtmsrd	r9, 1
	.Lexmc = 0
	.rept	EX_SIZE
	std	r9, PACA_EXMC + .Lexmc(r13)
	.Lexmc = .Lexmc + 8
	.endr
	li	r10, BOOK3S_INTERRUPT_MACHINE_CHECK
	std	r10, HSTATE_SCRATCH0(r13)
	mfspr	r11, SPRN_HSRR0
	mfspr	r12, SPRN_HSRR1
	li	r10, MSR_RI
	andc	r12, r12, r10
	b	kvm_p9_exit_interrupt
.Llose_end:
.size kvm_p9_lose_guest, . - kvm_p9_lose_guest
