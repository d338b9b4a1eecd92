# SPDX-License-Identifier: GPL-2.0-only
# Instructions that the assembler refuses by name, and what several pieces share.

# Words for what an assembler without these features refuses.
	.macro LXV t, at
	.long 61 << 26 | (\t & 31) << 21 | ((\at) & 0xfff0) | (\t >> 5) << 3 | 1
	.endm
	.macro STXV t, at
	.long 61 << 26 | (\t & 31) << 21 | ((\at) & 0xfff0) | (\t >> 5) << 3 | 5
	.endm
	.macro LFD t, at
	.long 50 << 26 | \t << 21 | (\at)
	.endm
	.macro STFD t, at
	.long 54 << 26 | \t << 21 | (\at)
	.endm
	.macro MFFS t
	.long 63 << 26 | \t << 21 | 583 << 1
	.endm
# All fields of FPSCR at once (L = 1).
	.macro MTFSF t
	.long 63 << 26 | 1 << 25 | \t << 11 | 711 << 1
	.endm
	.macro MFVSCR t
	.long 4 << 26 | \t << 21 | 1540
	.endm
	.macro MTVSCR t
	.long 4 << 26 | \t << 11 | 1604
	.endm
# Low priority and back. Both let another CPU of QEMU run.
	.macro PAUSE
	or 1, 1, 1
	or 2, 2, 2
	.endm
# msgsndp, which the hypervisor emulates, so it has to find it. isync first, as
# QEMU takes the interrupt (facility unavailable) with the address of the last
# instruction that ended a block of its translation.
	.macro RING message
	isync
	.long 31 << 26 | \message << 11 | 142 << 1
	.endm
	.macro KEEP_OWN
	std 1, {SAVE} + 8(0)
	std 2, {SAVE} + 16(0)
	.irp n, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	std \n, {SAVE} + 8 * \n(0)
	.endr
	mflr 0
	std 0, {SAVE} + {LR}(0)
	mfcr 0
	std 0, {SAVE} + {CR}(0)
	.endm
	.macro BACK_TO_OWN
	ld 0, {SAVE} + {CR}(0)
	mtcrf 255, 0
	ld 0, {SAVE} + {LR}(0)
	mtlr 0
	ld 1, {SAVE} + 8(0)
	ld 2, {SAVE} + 16(0)
	.irp n, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ld \n, {SAVE} + 8 * \n(0)
	.endr
	.endm
