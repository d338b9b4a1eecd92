# SPDX-License-Identifier: GPL-2.0-only
# Accesses by the page table of a hash guest whose code runs with translation off.

# Data translation only: the code and its stack are not in the page table.
	.macro TRANSLATED access:vararg
	mfmsr 5
	ori 6, 5, 0x10
	mtmsrd 6
	isync
	\access
	isync
	mtmsrd 5
	isync
	blr
	.endm

	.globl load_translated
load_translated:
	TRANSLATED ld 3, 0(3)

	.globl store_translated
store_translated:
	TRANSLATED std 4, 0(3)
