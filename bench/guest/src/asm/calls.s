# SPDX-License-Identifier: GPL-2.0-only
# Functions that make hcalls, and two that the compiler asks for.

	.globl hcall
hcall:
	sc 1
	blr

# In real mode, where no entry is used. The text and the pairs are at the same address.
	.globl load_slb
load_slb:
	mfmsr 4
	li 5, 0x30
	andc 5, 4, 5
	mtmsrd 5
	isync
	li 6, {SLB_ENTRIES}
	mtctr 6
1:	ld 7, 0(3)
	ld 8, 8(3)
	slbmte 7, 8
	addi 3, 3, 16
	bdnz 1b
	isync
	mtmsrd 4
	isync
	blr

# The compiler may ask for these two, and core doesn't bring them along for
# a target that has a C library.
	.globl memset
memset:
	cmpdi 5, 0
	beqlr
	mtctr 5
	addi 6, 3, -1
1:	stbu 4, 1(6)
	bdnz 1b
	blr
	.globl memcpy
memcpy:
	cmpdi 5, 0
	beqlr
	mtctr 5
	addi 6, 3, -1
	addi 4, 4, -1
1:	lbzu 7, 1(4)
	stbu 7, 1(6)
	bdnz 1b
	blr
	.globl probe
probe:
	addi 5, 4, 1
	addi 6, 4, 2
	addi 7, 4, 3
	addi 8, 4, 4
	addi 9, 4, 5
	addi 10, 4, 6
	addi 11, 4, 7
	addi 12, 4, 8
	sc 1
	blr

	.globl call
call:
	std 31, -8(1)
	mr 31, 3
	ld 3, {CALL_NUMBER}(31)
	ld 4, {CALL_ARGS}(31)
	ld 5, {CALL_ARGS} + 8(31)
	ld 6, {CALL_ARGS} + 16(31)
	ld 7, {CALL_ARGS} + 24(31)
	ld 8, {CALL_MORE}(31)
	ld 9, {CALL_MORE} + 8(31)
	ld 10, {CALL_MORE} + 16(31)
	ld 11, {CALL_MORE} + 24(31)
	sc 1
	std 3, {CALL_CODE}(31)
	std 4, {CALL_R4}(31)
	std 5, {CALL_RESULTS}(31)
	std 6, {CALL_RESULTS} + 8(31)
	std 7, {CALL_RESULTS} + 16(31)
	std 8, {CALL_RESULTS} + 24(31)
	std 9, {CALL_RESULTS} + 32(31)
	std 10, {CALL_RESULTS} + 40(31)
	std 11, {CALL_RESULTS} + 48(31)
	ld 31, -8(1)
	blr

	.globl storm
storm:
	mr 14, 3
	mr 15, 4
	mr 16, 5
	mr 17, 6
	li 18, 0
	li 19, 0
1:	mr 3, 14
	sc 1
	addi 18, 18, 1
	std 18, 0(16)
	cmpd 3, 15
	beq 1b
	addi 19, 19, 1
	std 19, 0(17)
	b 1b
