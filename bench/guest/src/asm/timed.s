# SPDX-License-Identifier: GPL-2.0-only
# The timing loops: one macro, an instance for each loop body and for none.

# What a round trip is, if it is more than one instruction.
	.macro TIMED_TOUCH
	std 4, 0(5)
	add 16, 16, 6
	.endm
	.macro TIMED_CEDE
	mtspr 22, 4
	sc 1
	.endm
	.macro TIMED_SPIN
	mtctr 4
9:	bdnz 9b
	.endm
# H_ENTER leaves r5 alone, and so does H_PROTECT: the index. The flags of H_PROTECT make
# the page read-only for problem state.
	.macro TIMED_ENTER_REMOVE
	sc 1
	li 3, {REMOVE}
	li 4, 0
	sc 1
	.endm
	.macro TIMED_ENTER_PROTECT_REMOVE
	sc 1
	li 3, {PROTECT}
	li 4, 1
	sc 1
	li 3, {REMOVE}
	li 4, 0
	sc 1
	.endm
# The next iteration's index of an HPTE is in r16, and the requests of an H_BULK_REMOVE are in r15, r17 and
# what follows from them.
	.macro TIMED_AT_HPTE
	sc 1
	addi 16, 16, 1
	.endm
	.macro BULK_REQUESTS
	addi 8, 4, 2
	li 9, 0
	addi 10, 4, 3
	li 11, 0
	addi 15, 15, {BULK}
	addi 17, 17, {BULK}
	.endm
	.macro TIMED_BULK_REMOVE
	BULK_REQUESTS
	sc 1
	.endm
	.macro TIMED_DOORBELL
	RING 4
	sc 1
	.endm

	.macro TIMED name, call:vararg
	.globl \name
	.balign 128
\name:
	stdu 1, -256(1)
	.irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26
	std \n, 8 * \n(1)
	.endr
	mflr 0
	std 0, 272(1)
	mr 23, 3
	li 26, 0
	ld 14, 0(3)
	ld 15, 8(3)
	ld 16, 16(3)
	ld 17, 24(3)
	ld 18, 32(3)
	ld 19, 40(3)
	ld 20, 48(3)
	li 21, 0
	li 22, 0
# For who watches the instructions; outside of what is timed.
	.long {MARK_BEGIN}
	mftb 24
	.balign 32
1:	mr 3, 14
	mr 4, 15
	mr 5, 16
	mr 6, 17
	mr 7, 18
	\call
	cmpd 3, 19
	bne 3f
2:	addi 20, 20, -1
	cmpdi 20, 0
	bne 1b
	mftb 25
	.long {MARK_END}
	std 21, 56(23)
	std 22, 64(23)
	std 4, 72(23)
	std 26, 80(23)
	subf 3, 24, 25
	ld 0, 272(1)
	mtlr 0
	.irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26
	ld \n, 8 * \n(1)
	.endr
	addi 1, 1, 256
	blr
3:	cmpdi 21, 0
	bne 4f
	mr 22, 3
4:	addi 21, 21, 1
	b 2b
	.endm
	TIMED time_hcalls, sc 1
	TIMED time_nothing
	TIMED time_stores, stw 4, 0(5)
	TIMED time_loads, lwz 3, 0(5)
	TIMED time_touches, TIMED_TOUCH
	TIMED time_no_touches, add 16, 16, 6
	TIMED time_cedes, TIMED_CEDE
	TIMED time_spins, TIMED_SPIN
	TIMED time_doorbells, TIMED_DOORBELL
	TIMED time_enters, TIMED_ENTER_REMOVE
	TIMED time_protects, TIMED_ENTER_PROTECT_REMOVE
	TIMED time_at_hptes, TIMED_AT_HPTE
	TIMED time_no_hptes, addi 16, 16, 1
	TIMED time_bulk_removes, TIMED_BULK_REMOVE
	TIMED time_no_bulk_removes, BULK_REQUESTS
