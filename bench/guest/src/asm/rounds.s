# SPDX-License-Identifier: GPL-2.0-only
# Rounds that leave the guest in a way of their own.

# A round that leaves the guest in its own way: what to call, the address of the
# instruction that leaves and of where it goes on.
	.macro ROUND name, exit:vararg
round_\name:
	KEEP_OWN
	mfmsr 0
	std 0, {SAVE} + {MSR}(0)
	FILL_REGISTERS 1
exit_\name:
	\exit
after_\name:
	STORE_REGISTERS 1
	BACK_TO_OWN
	blr
	.pushsection .rodata.rounds, "a", @progbits
	.balign 8
	.globl instance_\name
instance_\name:
	.quad round_\name, exit_\name, after_\name
	.popsection
	.endm
	.macro WAIT
	.rept 16384
	nop
	.endr
	.endm
# In problem state; the system call's vector leads back.
	.macro IN_PROBLEM_STATE
	rfid
	WAIT
	sc
	.endm
# Should it end early, there is still an interrupt to wait for.
	.macro CEDE
	sc 1
	b .
	.endm
	ROUND sc, sc 1
	ROUND cede, CEDE
	ROUND interrupt, WAIT
	ROUND problem, IN_PROBLEM_STATE
	ROUND spin, b .
	ROUND branch, bctr
	ROUND illegal, .long 0
	ROUND trap, trap
	ROUND tir, mfspr 5, 446
# msgsndp. isync first, as QEMU takes the interrupt (facility unavailable) with
# the address of the last instruction that ended a block of its translation.
	.macro SEND_MESSAGE
	isync
	.long 31 << 26 | 5 << 11 | 142 << 1
	.endm
	ROUND doorbell, SEND_MESSAGE
	ROUND ebbrr, mfspr 5, 805
	ROUND tfhar, mfspr 5, 128
	ROUND mmcr2, mfspr 5, 785
	ROUND lbz, lbz 5, 0(6)
	ROUND lha, lha 5, 0(6)
	ROUND lwbrx, lwbrx 5, 0, 6
	ROUND ld, ld 5, 0(6)
	ROUND ldu, ldu 5, 8(6)
	ROUND stb, stb 5, 0(6)
	ROUND sthbrx, sthbrx 5, 0, 6
	ROUND stw, stw 5, 0(6)
	ROUND std, std 5, 0(6)
	ROUND lfd, .long 50 << 26 | 5 << 21 | 6 << 16
	ROUND stfd, .long 54 << 26 | 5 << 21 | 6 << 16
# lxvd2x and stxvd2x of vs5.
	ROUND lxvd2x, .long 31 << 26 | 5 << 21 | 6 << 11 | 844 << 1
	ROUND stxvd2x, .long 31 << 26 | 5 << 21 | 6 << 11 | 972 << 1
