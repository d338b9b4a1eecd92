# SPDX-License-Identifier: GPL-2.0-only
# A vcpu that makes TCE hcalls on entries that others work on, too.

# TCE hcalls for ever, on a few entries that others work on, too. r21 has the
# block; no stack. Every entry is 0 or one of 512 pages, read and write.
contend:
	mr 14, 21
	ld 15, {CONTEND_SEED}(14)
	ld 21, {CONTEND_LISTS}(14)
	ld 22, {CONTEND_LISTS} + 8(14)
	ld 26, {CONTEND_CLEARED}(14)
	ld 27, {CONTEND_MORE}(14)
	lis 16, {LIOBN_HIGH}
	clrldi 16, 16, 32
	lis 20, {TCE} >> 16
	ori 20, 20, {TCE} & 0xffff
	li 17, 0
	li 18, 0
	li 19, 0
	li 24, 0
# xorshift64.
1:	sldi 0, 15, 13
	xor 15, 15, 0
	srdi 0, 15, 7
	xor 15, 15, 0
	sldi 0, 15, 17
	xor 15, 15, 0
	mr 4, 16
	srdi 5, 15, 20
	andi. 5, 5, {ENTRIES} - 1
	andc 5, 5, 26
	sldi 5, 5, {TCE_SHIFT}
	srdi 7, 15, 40
	andi. 7, 7, {ENTRIES} - 1
	or 7, 7, 27
	addi 7, 7, 1
	andi. 0, 15, 2
	bne 3f
	andi. 0, 15, 1
	bne 2f
	li 3, {PUT_TCE}
	srdi 6, 15, 30
	andi. 6, 6, 511
	sldi 6, 6, {TCE_SHIFT}
	add 6, 6, 20
	b 5f
2:	li 3, {GET_TCE}
	b 5f
3:	andi. 0, 15, 1
	bne 4f
	li 3, {PUT_TCE_INDIRECT}
	mr 6, 21
	andi. 0, 15, 4
	beq 5f
	mr 6, 22
	b 5f
4:	li 3, {STUFF_TCE}
	li 6, 0
5:	mr 23, 3
	sc 1
	addi 17, 17, 1
	std 17, {CONTEND_ROUNDS}(14)
	cmpdi 3, 0
	bne 7f
	cmpdi 23, {GET_TCE}
	bne 6f
	cmpdi 4, 0
	beq 6f
	subf 5, 20, 4
	andi. 0, 5, 0xfff
	bne 8f
	srdi. 0, 5, 9 + {TCE_SHIFT}
	bne 8f
6:	addi 18, 18, 1
	std 18, {CONTEND_ANSWERED}(14)
	b 1b
7:	addi 19, 19, 1
	std 19, {CONTEND_REFUSED}(14)
	cmpdi 3, {H_PARAMETER}
	beq 1b
	cmpdi 3, {H_FUNCTION}
	beq 1b
8:	addi 24, 24, 1
	std 23, {CONTEND_LAST_BAD}(14)
	std 3, {CONTEND_LAST_BAD} + 8(14)
	std 4, {CONTEND_LAST_BAD} + 16(14)
	std 24, {CONTEND_BAD}(14)
	b 1b
