# SPDX-License-Identifier: GPL-2.0-only
# The register round, and how each round fills and stores registers.

# With `more`, also what is in `protocol::round`.
	.macro FILL_REGISTERS more=0
	LFD 0, {FILL} + 8 * {FPSCR}
	MTFSF 0
	MFFS 0
	STFD 0, {FILL} + 8 * {FPSCR}
	LXV 32, {FILL} + 8 * {VSCR}
	MTVSCR 0
	MFVSCR 0
	STXV 32, {FILL} + 8 * {VSCR}
	.if \more
	ld 3, {FILL} + 8 * {WITH_PMU}(0)
	cmpdi 3, 0
	beq 77f
	WRITE_PMU {FILL} + 8 * {PMU}
	isync
	READ_PMU {FILL} + 8 * {PMU}
77:
	ld 3, {FILL} + 8 * {SET_DEC}(0)
	mtspr 22, 3
	CLOCKS {FILL}
	.endif
	ld 3, {FILL} + 8 * {XER}(0)
	mtxer 3
	mfxer 3
	std 3, {FILL} + 8 * {XER}(0)
	mfmsr 3
	std 3, {FILL} + 8 * {MSR_WORD}(0)
	ld 3, {FILL} + 8 * {CR_WORD}(0)
	mtcrf 255, 3
	ld 3, {FILL} + 8 * {LR_WORD}(0)
	mtlr 3
	ld 3, {FILL} + 8 * {CTR}(0)
	mtctr 3
	isync
	WRITE_SPRS {FILL} + 8 * {SPR}
	isync
	READ_SPRS {FILL} + 8 * {SPR}
	.if \more
# Hcalls that KVM counts before it takes facilities away. They change CTR, CR
# and the SRRs.
	ld 14, {FILL} + 8 * {CALLS_BEFORE}(0)
	cmpdi 14, 0
	beq 77f
76:	li 3, {PROD}
	li 4, -1
	sc 1
	addi 14, 14, -1
	cmpdi 14, 0
	bne 76b
	ld 3, {FILL} + 8 * {SRR0}(0)
	mtspr 26, 3
	ld 3, {FILL} + 8 * {SRR1}(0)
	mtspr 27, 3
77:	ld 3, {FILL} + 8 * {CR_WORD}(0)
	mtcrf 255, 3
	ld 3, {FILL} + 8 * {CTR}(0)
	mtctr 3
	.endif
	.set n, 0
	.rept 64
	LXV n, {FILL} + 8 * {VSR} + 16 * n
	.set n, n + 1
	.endr
	.if \more
	ld 3, {FILL} + 8 * {SET_MSR}(0)
	mtmsrd 3
	mfmsr 3
	std 3, {FILL} + 8 * {MSR_WORD}(0)
	.endif
# CFAR is set by branches only, and there is none from here on.
	ld 3, {FILL} + 8 * {CFAR}(0)
	mtspr 28, 3
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ld \n, {FILL} + 8 * \n(0)
	.endr
	.endm

	.macro CLOCKS at
# All at once, and once more if the guest was left meanwhile: that takes time.
78:
	mftb 3
	mfspr 4, 22
	mfspr 5, 849
	mfspr 6, 309
	mfspr 7, 308
	mfspr 8, 848
	mftb 9
	subf 9, 3, 9
	cmpldi 9, {CLOCKS_AT_ONCE}
	bgt 78b
	std 3, \at + 8 * {TB}(0)
	std 4, \at + 8 * {DEC}(0)
	std 5, \at + 8 * {VTB}(0)
	std 6, \at + 8 * {PURR}(0)
	std 7, \at + 8 * {SPURR}(0)
	std 8, \at + 8 * {IC}(0)
# QEMU has no SPR 823: nothing happens.
	li 3, 0
	mfspr 3, 823
	std 3, \at + 8 * {PSSCR}(0)
	.endm

	.macro STORE_REGISTERS more=0
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	std \n, {GOT} + 8 * \n(0)
	.endr
	mfspr 3, 28
	std 3, {GOT} + 8 * {CFAR}(0)
	mfcr 3
	std 3, {GOT} + 8 * {CR_WORD}(0)
	mflr 3
	std 3, {GOT} + 8 * {LR_WORD}(0)
	mfctr 3
	std 3, {GOT} + 8 * {CTR}(0)
	mfxer 3
	std 3, {GOT} + 8 * {XER}(0)
	mfmsr 3
	std 3, {GOT} + 8 * {MSR_WORD}(0)
	.if \more
# Facilities that the round was without are needed to look at them.
	ld 3, {SAVE} + {MSR}(0)
	mtmsrd 3
	CLOCKS {GOT}
	ld 3, {FILL} + 8 * {WITH_PMU}(0)
	cmpdi 3, 0
	beq 77f
	READ_PMU {GOT} + 8 * {PMU}
77:
	.endif
	READ_SPRS {GOT} + 8 * {SPR}
	.set n, 0
	.rept 64
	STXV n, {GOT} + 8 * {VSR} + 16 * n
	.set n, n + 1
	.endr
	MFFS 0
	STFD 0, {GOT} + 8 * {FPSCR}
	MFVSCR 0
	STXV 32, {GOT} + 8 * {VSCR}
	.endm

	.globl register_round
register_round:
	KEEP_OWN
	FILL_REGISTERS
	sc 1
	.globl after_register_hcall
after_register_hcall:
	STORE_REGISTERS
	BACK_TO_OWN
	blr
