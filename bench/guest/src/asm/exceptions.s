# SPDX-License-Identifier: GPL-2.0-only
# Exceptions that are expected, and the vectors.

	.globl trap
trap:
	trap
	b .

	.globl problem_state_hcall
problem_state_hcall:
	KEEP_OWN
	lis 4, 5f@ha
	addi 4, 4, 5f@l
	std 4, {SAVE} + {EXPECT}(0)
	lis 4, 3f@ha
	addi 4, 4, 3f@l
	mtspr 26, 4
	mfmsr 4
	std 4, {SAVE} + {MSR}(0)
	ori 4, 4, 0x4000
	mtspr 27, 4
	rfid
3:	sc 1
	.globl after_problem_state_hcall
after_problem_state_hcall:
# Not trapped: make a different program check, so that it shows.
	mfmsr 4
	mfmsr 4
	b .
5:	BACK_TO_OWN
	blr

# The interrupt that a round trip waits for is counted in r26, and costs it CR0
# and r4 to r6. The program check that is waited for continues at EXPECT.
# Anything else is told to the VMM. r4 has the vector.
exception:
	ld 5, {SAVE} + {WAITED}(0)
	cmpd 4, 5
	beq 3f
	cmpdi 4, 0x700
	bne 1f
	ld 5, {SAVE} + {EXPECT}(0)
	cmpdi 5, 0
	bne 2f
1:	mfspr 5, 26
	mfspr 6, 27
	mfspr 7, 19
	mfspr 8, 18
	li 3, 0
	ori 3, 3, {EXCEPTION}
	sc 1
	b 1b
2:	li 6, 0
	std 6, {SAVE} + {EXPECT}(0)
	mfspr 6, 26
	std 6, {SAVE} + {SRR}(0)
	mfspr 6, 27
	std 6, {SAVE} + {SRR} + 8(0)
	mtspr 26, 5
	ld 6, {SAVE} + {MSR}(0)
	mtspr 27, 6
	rfid
3:	addi 26, 26, 1
	lis 5, 0x7fff
	mtspr 22, 5
	mfspr 5, 27
# Without MSR[EE], which H_CEDE has set.
	rldicl 5, 5, 48, 1
	rotldi 5, 5, 16
	mtspr 27, 5
	rfid

	.macro VECTORS
	.irp at, 0x100,0x200,0x300,0x380,0x400,0x480,0x500,0x600,0x700,0x800,0x900,0x980,0xa00,0xb00,0xc00,0xd00,0xe00,0xe20,0xe40,0xe60,0xe80,0xea0,0xf00,0xf20,0xf40,0xf60,0xf80,0xfa0
	.org \at - 0x100
	li 4, \at
	b exception
	.endr
	.org 0xf00
	.endm
	.section .vectors, "ax", @progbits
	VECTORS
	.section .vectors_ail, "ax", @progbits
	VECTORS
	.text
