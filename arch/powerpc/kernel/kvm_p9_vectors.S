/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * FP, VMX and VSX registers, between the registers and the kernel's
 * struct thread_fp_state and struct thread_vr_state.
 *
 * Assembly, because the compiler is told that these registers do not exist. The
 * kernel's own routines serve every 64-bit CPU, with lxvd2x and stxvd2x, an index
 * register to set up for each, and a swap of doublewords around each in
 * little-endian mode. ISA 3.0's lxv and stxv have a displacement and the right order:
 * one instruction a register instead of three or four. (In memory a register is a
 * quadword of the current endianness, with the FPR in the doubleword that
 * TS_FPROFFSET names.)
 */
#include <linux/linkage.h>
#include <asm/asm-offsets.h>
#include <asm/ppc_asm.h>

#include "kvm_p9_layout.h"

.section ".noinstr.text", "ax"

	.machine power9

/* \op vs\first to vs\first+31, from or to \base */
.macro VECTORS op, first, base
	.Lvsr = 0
	.rept	32
	\op	.Lvsr + \first, .Lvsr * 16(\base)
	.Lvsr = .Lvsr + 1
	.endr
.endm

/*
 * void kvm_p9_load_vectors(const struct thread_fp_state *fp,
 *			    const struct thread_vr_state *vr)
 */
_GLOBAL(kvm_p9_load_vectors)
	lfd	fr0, FP_STATE_FPSCR(r3)
	lxv	vs32, VR_STATE_VSCR(r4)
	mtfsf	0xff, fr0, 1, 0
	mtvscr	v0
	VECTORS	lxv, 0, r3
	VECTORS	lxv, 32, r4
	blr
.size kvm_p9_load_vectors, . - kvm_p9_load_vectors

/*
 * void kvm_p9_store_vectors(struct thread_fp_state *fp, struct thread_vr_state *vr)
 *
 * f0 and v0 are lost, after they were stored.
 */
_GLOBAL(kvm_p9_store_vectors)
	VECTORS	stxv, 0, r3
	VECTORS	stxv, 32, r4
	mffs	fr0
	mfvscr	v0
	stfd	fr0, FP_STATE_FPSCR(r3)
	stxv	vs32, VR_STATE_VSCR(r4)
	blr
.size kvm_p9_store_vectors, . - kvm_p9_store_vectors
