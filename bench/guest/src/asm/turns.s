# SPDX-License-Identifier: GPL-2.0-only
# Two vcpus that wake each other.

# Two vcpus that wake each other. r22 has the block, r23 is 0 or 1, r25 is the other
# one's id. The decrementer must not run out: H_CEDE enables interrupts.
turns:
	sldi 15, 23, 3
	add 15, 15, 22
	xori 16, 23, 1
	li 17, 0
	cmpdi 24, 0
	bne ipis
	li 18, 0
	li 19, 0
	li 24, 0
# r20: the pauses of a vcpu that does not sleep.
	li 20, 0
	cmpdi 23, 0
	bne 1f
	ld 20, {TURNS_PAUSE}(22)
1:	lis 0, 0x7fff
	mtspr 22, 0
	ld 0, {TURNS_STOP}(22)
	cmpdi 0, 0
	bne 4f
	ld 0, {TURNS_TURN}(22)
	cmpd 0, 23
	beq 2f
	cmpdi 20, 0
	bne 6f
	li 3, {CEDE}
	sc 1
	mftb 24
	cmpdi 3, 0
	beq 1b
	b 3f
# The turn that H_CEDE ended for, unless H_CEDE ended before the H_PROD, or there
# was none.
2:	ld 0, {TURNS_PRODDED_AT}(22)
	subf 0, 0, 24
	li 24, 0
	cmpdi 0, 0
	ble 5f
	addi 18, 18, 1
	add 19, 19, 0
	std 18, {TURNS_WAKES}(15)
	std 19, {TURNS_TICKS}(15)
5:	cmpdi 20, 0
	beq 8f
	mtctr 20
7:	PAUSE
	bdnz 7b
8:	addi 17, 17, 1
	std 17, {TURNS_ROUNDS}(15)
	mftb 0
	std 0, {TURNS_PRODDED_AT}(22)
	sync
	std 16, {TURNS_TURN}(22)
	sync
	li 3, {PROD}
	mr 4, 25
	sc 1
	cmpdi 3, 0
	beq 1b
	b 3f
6:	PAUSE
	b 1b
3:	std 3, {TURNS_BAD}(22)
end_of_turns:
4:	li 3, {PROD}
	mr 4, 25
	sc 1
	li 3, 0
	ori 3, 3, {EXCEPTION}
	sc 1
	b 4b

# The same by interrupts of XICS. r24 is the own id. Each sends an IPI after it has taken
# the other one's, and sleeps until then. The first one begins. An interrupt changes r26
# and CR0.
ipis:
	li 26, 0
	li 27, 0
	li 0, 0x500
	std 0, {SAVE} + {WAITED}(0)
	li 3, {CPPR}
	li 4, 0xff
	sc 1
	cmpdi 3, 0
	bne 3f
	cmpdi 23, 0
	beq 2f
1:	lis 0, 0x7fff
	mtspr 22, 0
	ld 0, {TURNS_STOP}(22)
	cmpdi cr1, 0, 0
	bne cr1, end_of_turns
	li 3, {CEDE}
	sc 1
	cmpd cr1, 26, 27
	beq cr1, 1b
	mr 27, 26
# Accept it, take the priority back, end it.
	li 3, {XIRR}
	sc 1
	mr 28, 4
	rldicl 4, 4, 0, 40
	cmpdi 4, 2
	mr 3, 4
	bne 3f
	li 3, {IPI}
	mr 4, 24
	li 5, 0xff
	sc 1
	cmpdi 3, 0
	bne 3f
	li 3, {EOI}
	mr 4, 28
	sc 1
	cmpdi 3, 0
	bne 3f
# There is one only: the other one sends after it has taken this one's.
	li 3, {XIRR}
	sc 1
	rldicl. 3, 4, 0, 40
	bne 3f
	li 3, {CPPR}
	li 4, 0xff
	sc 1
2:	addi 17, 17, 1
	std 17, {TURNS_ROUNDS}(15)
	sync
	li 3, {IPI}
	mr 4, 25
	li 5, 4
	sc 1
	cmpdi 3, 0
	beq 1b
# A code, or an interrupt that should not be there; not 0.
3:	oris 3, 3, 1
	std 3, {TURNS_BAD}(22)
	b end_of_turns
