# SPDX-License-Identifier: GPL-2.0-only
# Where vcpus start.

# Entered by the VMM with everything zero but PC and MSR. But for another vcpu
# than the first r3 has an hcall to begin with, and r20 the doorbell to answer
# to; or r21 has the block of one that contends; or r22 has the block of two that
# take turns; or r26 has the block of one that does hcalls while slots change, or r27 of
# one that does them while pages and the page table change, and r1 its stack. r4 goes to
# main.
	.section .text.start, "ax", @progbits
	.globl _start
_start:
	cmpdi 3, 0
	bne peer
	cmpdi 21, 0
	bne contend
	cmpdi 22, 0
	bne turns
	cmpdi 26, 0
	bne storm_of_slots
	cmpdi 27, 0
	bne hammer
	mr 31, 4
	lis 2, .TOC.@ha
	addi 2, 2, .TOC.@l
	lis 1, {STACK} >> 16
	addi 1, 1, -256
# A decrementer that has run out is work at every guest entry.
	lis 3, 0x7fff
	mtspr 22, 3
# Floating point, vector and VSX, and transactional memory for its SPRs.
	mfmsr 3
	ori 3, 3, 0x2000
	oris 3, 3, 0x0280
	li 4, 1
	sldi 4, 4, 32
	or 3, 3, 4
	mtmsrd 3
	isync
	mr 3, 31
	bl main
	b .

storm_of_slots:
	lis 2, .TOC.@ha
	addi 2, 2, .TOC.@l
	mr 3, 26
	bl slots_main
	b .

hammer:
	lis 2, .TOC.@ha
	addi 2, 2, .TOC.@l
	mr 3, 27
	bl hammer_main
	b .

# The other vcpu, which has no stack. r26 counts its interrupts.
peer:
	lis 7, 0x7fff
	mtspr 22, 7
	sc 1
	cmpdi 3, 0
	li 4, {PEER_FAILED}
	bne exception
	li 26, 0
	li 27, 0
1:	li 3, {CEDE}
	sc 1
	cmpd 26, 27
	beq 1b
	mr 27, 26
	RING 20
	b 1b
