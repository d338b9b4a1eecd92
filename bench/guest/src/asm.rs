// SPDX-License-Identifier: GPL-2.0-only
//! The payload's assembly.
//!
//! Five pieces. The vectors report an exception and never return, but for the one
//! program check that [`problem_state_hcall`] waits for, and the interrupt that ends a
//! round trip of [`save::WAITED`]. The timing loops are one macro, instantiated with what
//! makes a round trip and without, so that the difference of their times is the round
//! trip's. The second vcpu of a machine answers doorbells and does nothing else. The
//! register round is a single straight line from the first
//! load to the last store: between them not one register is free, so it reaches
//! memory by displacement from zero (see `protocol::map`), and there is no branch
//! between its `sc 1` and the read of CFAR. The rounds of `rounds.rs` are that line
//! again, with more registers and with other instructions in the `sc 1`'s place.
//!
//! The crate is compiled without VSX, AltiVec and hard float, so that no compiler
//! puts anything into the registers which a round fills; the assembler then refuses
//! those instructions by name and they are spelled as words.

use core::arch::global_asm;
use core::mem::offset_of;
use hcall::Number;
use protocol::block::{Call, Contender, Turns};
use protocol::{map, marker, private, regs, round};

/// What a timing loop starts from and ends with.
#[derive(Default)]
#[repr(C)]
pub struct Loop {
	/// r3 at each `sc 1`.
	pub number: u64,
	/// r4 to r7.
	pub args: [u64; 4],
	/// What r3 has to be afterwards.
	pub code: u64,
	/// How often; at least once.
	pub iterations: u64,
	/// How often r3 was something else.
	pub mismatches: u64,
	/// What it was the first time (meaningless without a mismatch).
	pub wrong_code: u64,
	/// The last r4.
	pub last_r4: u64,
	/// Interrupts that were waited for.
	pub interrupts: u64,
}

unsafe extern "C" {
	/// `sc 1` with what the C calling convention puts into r3 to r10; returns r3.
	///
	/// # Safety
	///
	/// The hcall must not change memory that Rust relies on.
	pub fn hcall(number: u64, a: u64, b: u64, c: u64, d: u64) -> u64;

	/// Runs the loop with `sc 1`; returns TB ticks.
	///
	/// # Safety
	///
	/// As [`hcall`].
	pub fn time_hcalls(state: &mut Loop) -> u64;
	/// The same with an H_REMOVE after the hcall.
	pub fn time_enters(state: &mut Loop) -> u64;
	/// The same with an H_PROTECT in between.
	pub fn time_protects(state: &mut Loop) -> u64;

	/// Runs the same loop without; returns TB ticks.
	pub safe fn time_nothing(state: &mut Loop) -> u64;

	/// The loop with a store to a device's register.
	///
	/// # Safety
	///
	/// There must be no memory at r5.
	pub fn time_stores(state: &mut Loop) -> u64;

	/// The loop with a load from a device's register.
	pub safe fn time_loads(state: &mut Loop) -> u64;

	/// The loop with a store to one page after the other.
	///
	/// # Safety
	///
	/// No other code may use the pages.
	pub fn time_touches(state: &mut Loop) -> u64;

	/// The loop that computes their addresses, without the stores.
	pub safe fn time_no_touches(state: &mut Loop) -> u64;

	/// The loop with H_CEDE while the decrementer has run out.
	///
	/// # Safety
	///
	/// [`save::WAITED`] must say that its interrupt is waited for.
	pub fn time_cedes(state: &mut Loop) -> u64;

	/// The loop with a smaller one inside.
	pub safe fn time_spins(state: &mut Loop) -> u64;

	/// The loop with a doorbell to another vcpu, and H_CEDE until its answer.
	///
	/// # Safety
	///
	/// As [`time_cedes`]; the other vcpu must be in its loop.
	pub fn time_doorbells(state: &mut Loop) -> u64;

	/// Counts hcalls in `rounds` for ever, and wrong codes in `mismatches`.
	///
	/// # Safety
	///
	/// As [`hcall`]; the pointers must be valid.
	pub fn storm(number: u64, code: u64, rounds: *mut u64, mismatches: *mut u64) -> !;

	/// `sc 1` with r4 to r12 counting up from `first`; returns r3.
	///
	/// # Safety
	///
	/// As [`hcall`].
	pub fn probe(number: u64, first: u64) -> u64;

	/// Does the hcall, and stores r3 and r4 as they are afterwards.
	///
	/// # Safety
	///
	/// As [`hcall`]; the pointer must be valid.
	pub fn call(call: *mut Call);

	/// Fills the registers from `map::FILL`, reads back what SPRs made of it, does
	/// `sc 1` and stores them to `map::GOT`.
	///
	/// # Safety
	///
	/// As [`hcall`]; what is filled must leave the payload's memory accessible.
	pub fn register_round();

	/// An unexpected program check. The vectors report it to the VMM, which does not run the
	/// guest again.
	pub safe fn trap() -> !;

	/// `sc 1` in problem state. Returns once the program check came.
	///
	/// # Safety
	///
	/// Translation must be on.
	pub fn problem_state_hcall(number: u64);
}

/// The vector that the second vcpu reports if it can't begin: none.
const PEER_FAILED: u64 = 1;

/// Offsets into `map::SAVE`, after 32 words for the GPRs (of which r1, r2 and r13 to
/// r31 are kept).
pub mod save {
	/// LR.
	pub const LR: u64 = 256;
	/// CR.
	pub const CR: u64 = 264;
	/// MSR.
	pub const MSR: u64 = 272;
	/// Where an expected program check continues; 0 when none is.
	pub const EXPECT: u64 = 280;
	/// The SRR0 and SRR1 it came with.
	pub const SRR: u64 = 288;
	/// The vector of the interrupt that is counted and returned from, or 0. It comes back
	/// with interrupts off, and the decrementer far from running out.
	pub const WAITED: u64 = 304;
}

macro_rules! assembly {
	(
		{$((
			$name:expr, $write:literal, $read:literal, $mask:expr, $translated:expr, $set:expr
		),)*}
		$(($pmu_name:literal, $pmu:literal, $pmu_mask:expr, $pmu_set:expr),)*
	) => {
		global_asm!(
			// Words for what an assembler without these features refuses.
			".macro LXV t, at",
			".long 61 << 26 | (\\t & 31) << 21 | ((\\at) & 0xfff0) | (\\t >> 5) << 3 | 1",
			".endm",
			".macro STXV t, at",
			".long 61 << 26 | (\\t & 31) << 21 | ((\\at) & 0xfff0) | (\\t >> 5) << 3 | 5",
			".endm",
			".macro LFD t, at",
			".long 50 << 26 | \\t << 21 | (\\at)",
			".endm",
			".macro STFD t, at",
			".long 54 << 26 | \\t << 21 | (\\at)",
			".endm",
			".macro MFFS t",
			".long 63 << 26 | \\t << 21 | 583 << 1",
			".endm",
			// All fields of FPSCR at once (L = 1).
			".macro MTFSF t",
			".long 63 << 26 | 1 << 25 | \\t << 11 | 711 << 1",
			".endm",
			".macro MFVSCR t",
			".long 4 << 26 | \\t << 21 | 1540",
			".endm",
			".macro MTVSCR t",
			".long 4 << 26 | \\t << 11 | 1604",
			".endm",
			// Low priority and back. Both let another CPU of QEMU run.
			".macro PAUSE",
			"or 1, 1, 1",
			"or 2, 2, 2",
			".endm",
			// msgsndp, which the hypervisor emulates, so it has to find it. isync first, as
			// QEMU takes the interrupt (facility unavailable) with the address of the last
			// instruction that ended a block of its translation.
			".macro RING message",
			"isync",
			".long 31 << 26 | \\message << 11 | 142 << 1",
			".endm",
			".macro KEEP_OWN",
			"std 1, {SAVE} + 8(0)",
			"std 2, {SAVE} + 16(0)",
			".irp n, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
			"std \\n, {SAVE} + 8 * \\n(0)",
			".endr",
			"mflr 0",
			"std 0, {SAVE} + {LR}(0)",
			"mfcr 0",
			"std 0, {SAVE} + {CR}(0)",
			".endm",
			".macro BACK_TO_OWN",
			"ld 0, {SAVE} + {CR}(0)",
			"mtcrf 255, 0",
			"ld 0, {SAVE} + {LR}(0)",
			"mtlr 0",
			"ld 1, {SAVE} + 8(0)",
			"ld 2, {SAVE} + 16(0)",
			".irp n, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
			"ld \\n, {SAVE} + 8 * \\n(0)",
			".endr",
			".endm",

			// Entered by the VMM with everything zero but PC and MSR. But for another vcpu
			// than the first r3 has an hcall to begin with, and r20 the doorbell to answer
			// to; or r21 has the block of one that contends; or r22 has the block of two that
			// take turns. r4 goes to main.
			".section .text.start, \"ax\", @progbits",
			".globl _start",
			"_start:",
			"cmpdi 3, 0",
			"bne peer",
			"cmpdi 21, 0",
			"bne contend",
			"cmpdi 22, 0",
			"bne turns",
			"mr 31, 4",
			"lis 2, .TOC.@ha",
			"addi 2, 2, .TOC.@l",
			"lis 1, {STACK} >> 16",
			"addi 1, 1, -256",
			// A decrementer that has run out is work at every guest entry.
			"lis 3, 0x7fff",
			"mtspr 22, 3",
			// Floating point, vector and VSX, and transactional memory for its SPRs.
			"mfmsr 3",
			"ori 3, 3, 0x2000",
			"oris 3, 3, 0x0280",
			"li 4, 1",
			"sldi 4, 4, 32",
			"or 3, 3, 4",
			"mtmsrd 3",
			"isync",
			"mr 3, 31",
			"bl main",
			"b .",

			// The other vcpu, which has no stack. r26 counts its interrupts.
			"peer:",
			"lis 7, 0x7fff",
			"mtspr 22, 7",
			"sc 1",
			"cmpdi 3, 0",
			"li 4, {PEER_FAILED}",
			"bne exception",
			"li 26, 0",
			"li 27, 0",
			"1: li 3, {CEDE}",
			"sc 1",
			"cmpd 26, 27",
			"beq 1b",
			"mr 27, 26",
			"RING 20",
			"b 1b",

			".globl hcall",
			"hcall:",
			"sc 1",
			"blr",

			// The compiler may ask for these two, and core doesn't bring them along for
			// a target that has a C library.
			".globl memset",
			"memset:",
			"cmpdi 5, 0",
			"beqlr",
			"mtctr 5",
			"addi 6, 3, -1",
			"1: stbu 4, 1(6)",
			"bdnz 1b",
			"blr",
			".globl memcpy",
			"memcpy:",
			"cmpdi 5, 0",
			"beqlr",
			"mtctr 5",
			"addi 6, 3, -1",
			"addi 4, 4, -1",
			"1: lbzu 7, 1(4)",
			"stbu 7, 1(6)",
			"bdnz 1b",
			"blr",
			".globl probe",
			"probe:",
			"addi 5, 4, 1",
			"addi 6, 4, 2",
			"addi 7, 4, 3",
			"addi 8, 4, 4",
			"addi 9, 4, 5",
			"addi 10, 4, 6",
			"addi 11, 4, 7",
			"addi 12, 4, 8",
			"sc 1",
			"blr",

			".globl call",
			"call:",
			"std 31, -8(1)",
			"mr 31, 3",
			"ld 3, {CALL_NUMBER}(31)",
			"ld 4, {CALL_ARGS}(31)",
			"ld 5, {CALL_ARGS} + 8(31)",
			"ld 6, {CALL_ARGS} + 16(31)",
			"ld 7, {CALL_ARGS} + 24(31)",
			"ld 8, {CALL_MORE}(31)",
			"ld 9, {CALL_MORE} + 8(31)",
			"ld 10, {CALL_MORE} + 16(31)",
			"ld 11, {CALL_MORE} + 24(31)",
			"sc 1",
			"std 3, {CALL_CODE}(31)",
			"std 4, {CALL_R4}(31)",
			"std 5, {CALL_RESULTS}(31)",
			"std 6, {CALL_RESULTS} + 8(31)",
			"std 7, {CALL_RESULTS} + 16(31)",
			"std 8, {CALL_RESULTS} + 24(31)",
			"std 9, {CALL_RESULTS} + 32(31)",
			"std 10, {CALL_RESULTS} + 40(31)",
			"std 11, {CALL_RESULTS} + 48(31)",
			"ld 31, -8(1)",
			"blr",

			".globl storm",
			"storm:",
			"mr 14, 3",
			"mr 15, 4",
			"mr 16, 5",
			"mr 17, 6",
			"li 18, 0",
			"li 19, 0",
			"1: mr 3, 14",
			"sc 1",
			"addi 18, 18, 1",
			"std 18, 0(16)",
			"cmpd 3, 15",
			"beq 1b",
			"addi 19, 19, 1",
			"std 19, 0(17)",
			"b 1b",

			// What a round trip is, if it is more than one instruction.
			".macro TIMED_TOUCH",
			"std 4, 0(5)",
			"add 16, 16, 6",
			".endm",
			".macro TIMED_CEDE",
			"mtspr 22, 4",
			"sc 1",
			".endm",
			".macro TIMED_SPIN",
			"mtctr 4",
			"9: bdnz 9b",
			".endm",
			// H_ENTER leaves r5 alone, and so does H_PROTECT: the index. The flags of H_PROTECT make
			// the page read-only for problem state.
			".macro TIMED_ENTER_REMOVE",
			"sc 1",
			"li 3, {REMOVE}",
			"li 4, 0",
			"sc 1",
			".endm",
			".macro TIMED_ENTER_PROTECT_REMOVE",
			"sc 1",
			"li 3, {PROTECT}",
			"li 4, 1",
			"sc 1",
			"li 3, {REMOVE}",
			"li 4, 0",
			"sc 1",
			".endm",
			".macro TIMED_DOORBELL",
			"RING 4",
			"sc 1",
			".endm",

			".macro TIMED name, call:vararg",
			".globl \\name",
			".balign 128",
			"\\name:",
			"stdu 1, -256(1)",
			".irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26",
			"std \\n, 8 * \\n(1)",
			".endr",
			"mflr 0",
			"std 0, 272(1)",
			"mr 23, 3",
			"li 26, 0",
			"ld 14, 0(3)",
			"ld 15, 8(3)",
			"ld 16, 16(3)",
			"ld 17, 24(3)",
			"ld 18, 32(3)",
			"ld 19, 40(3)",
			"ld 20, 48(3)",
			"li 21, 0",
			"li 22, 0",
			// For who watches the instructions; outside of what is timed.
			".long {MARK_BEGIN}",
			"mftb 24",
			".balign 32",
			"1: mr 3, 14",
			"mr 4, 15",
			"mr 5, 16",
			"mr 6, 17",
			"mr 7, 18",
			"\\call",
			"cmpd 3, 19",
			"bne 3f",
			"2: addi 20, 20, -1",
			"cmpdi 20, 0",
			"bne 1b",
			"mftb 25",
			".long {MARK_END}",
			"std 21, 56(23)",
			"std 22, 64(23)",
			"std 4, 72(23)",
			"std 26, 80(23)",
			"subf 3, 24, 25",
			"ld 0, 272(1)",
			"mtlr 0",
			".irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26",
			"ld \\n, 8 * \\n(1)",
			".endr",
			"addi 1, 1, 256",
			"blr",
			"3: cmpdi 21, 0",
			"bne 4f",
			"mr 22, 3",
			"4: addi 21, 21, 1",
			"b 2b",
			".endm",
			"TIMED time_hcalls, sc 1",
			"TIMED time_nothing",
			"TIMED time_stores, stw 4, 0(5)",
			"TIMED time_loads, lwz 3, 0(5)",
			"TIMED time_touches, TIMED_TOUCH",
			"TIMED time_no_touches, add 16, 16, 6",
			"TIMED time_cedes, TIMED_CEDE",
			"TIMED time_spins, TIMED_SPIN",
			"TIMED time_doorbells, TIMED_DOORBELL",
			"TIMED time_enters, TIMED_ENTER_REMOVE",
			"TIMED time_protects, TIMED_ENTER_PROTECT_REMOVE",

			// TCE hcalls for ever, on a few entries that others work on, too. r21 has the
			// block; no stack. Every entry is 0 or one of 512 pages, read and write.
			"contend:",
			"mr 14, 21",
			"ld 15, {CONTEND_SEED}(14)",
			"ld 21, {CONTEND_LISTS}(14)",
			"ld 22, {CONTEND_LISTS} + 8(14)",
			"ld 26, {CONTEND_CLEARED}(14)",
			"ld 27, {CONTEND_MORE}(14)",
			"lis 16, {LIOBN_HIGH}",
			"clrldi 16, 16, 32",
			"lis 20, {TCE} >> 16",
			"ori 20, 20, {TCE} & 0xffff",
			"li 17, 0",
			"li 18, 0",
			"li 19, 0",
			"li 24, 0",
			// xorshift64.
			"1: sldi 0, 15, 13",
			"xor 15, 15, 0",
			"srdi 0, 15, 7",
			"xor 15, 15, 0",
			"sldi 0, 15, 17",
			"xor 15, 15, 0",
			"mr 4, 16",
			"srdi 5, 15, 20",
			"andi. 5, 5, {ENTRIES} - 1",
			"andc 5, 5, 26",
			"sldi 5, 5, {TCE_SHIFT}",
			"srdi 7, 15, 40",
			"andi. 7, 7, {ENTRIES} - 1",
			"or 7, 7, 27",
			"addi 7, 7, 1",
			"andi. 0, 15, 2",
			"bne 3f",
			"andi. 0, 15, 1",
			"bne 2f",
			"li 3, {PUT_TCE}",
			"srdi 6, 15, 30",
			"andi. 6, 6, 511",
			"sldi 6, 6, {TCE_SHIFT}",
			"add 6, 6, 20",
			"b 5f",
			"2: li 3, {GET_TCE}",
			"b 5f",
			"3: andi. 0, 15, 1",
			"bne 4f",
			"li 3, {PUT_TCE_INDIRECT}",
			"mr 6, 21",
			"andi. 0, 15, 4",
			"beq 5f",
			"mr 6, 22",
			"b 5f",
			"4: li 3, {STUFF_TCE}",
			"li 6, 0",
			"5: mr 23, 3",
			"sc 1",
			"addi 17, 17, 1",
			"std 17, {CONTEND_ROUNDS}(14)",
			"cmpdi 3, 0",
			"bne 7f",
			"cmpdi 23, {GET_TCE}",
			"bne 6f",
			"cmpdi 4, 0",
			"beq 6f",
			"subf 5, 20, 4",
			"andi. 0, 5, 0xfff",
			"bne 8f",
			"srdi. 0, 5, 9 + {TCE_SHIFT}",
			"bne 8f",
			"6: addi 18, 18, 1",
			"std 18, {CONTEND_ANSWERED}(14)",
			"b 1b",
			"7: addi 19, 19, 1",
			"std 19, {CONTEND_REFUSED}(14)",
			"cmpdi 3, {H_PARAMETER}",
			"beq 1b",
			"cmpdi 3, {H_FUNCTION}",
			"beq 1b",
			"8: addi 24, 24, 1",
			"std 23, {CONTEND_LAST_BAD}(14)",
			"std 3, {CONTEND_LAST_BAD} + 8(14)",
			"std 4, {CONTEND_LAST_BAD} + 16(14)",
			"std 24, {CONTEND_BAD}(14)",
			"b 1b",

			// Two vcpus that wake each other. r22 has the block, r23 is 0 or 1, r25 is the other
			// one's id. The decrementer must not run out: H_CEDE enables interrupts.
			"turns:",
			"sldi 15, 23, 3",
			"add 15, 15, 22",
			"xori 16, 23, 1",
			"li 17, 0",
			"cmpdi 24, 0",
			"bne ipis",
			"li 18, 0",
			"li 19, 0",
			"li 24, 0",
			// r20: the pauses of a vcpu that does not sleep.
			"li 20, 0",
			"cmpdi 23, 0",
			"bne 1f",
			"ld 20, {TURNS_PAUSE}(22)",
			"1: lis 0, 0x7fff",
			"mtspr 22, 0",
			"ld 0, {TURNS_STOP}(22)",
			"cmpdi 0, 0",
			"bne 4f",
			"ld 0, {TURNS_TURN}(22)",
			"cmpd 0, 23",
			"beq 2f",
			"cmpdi 20, 0",
			"bne 6f",
			"li 3, {CEDE}",
			"sc 1",
			"mftb 24",
			"cmpdi 3, 0",
			"beq 1b",
			"b 3f",
			// The turn that H_CEDE ended for, unless H_CEDE ended before the H_PROD, or there
			// was none.
			"2: ld 0, {TURNS_PRODDED_AT}(22)",
			"subf 0, 0, 24",
			"li 24, 0",
			"cmpdi 0, 0",
			"ble 5f",
			"addi 18, 18, 1",
			"add 19, 19, 0",
			"std 18, {TURNS_WAKES}(15)",
			"std 19, {TURNS_TICKS}(15)",
			"5: cmpdi 20, 0",
			"beq 8f",
			"mtctr 20",
			"7: PAUSE",
			"bdnz 7b",
			"8: addi 17, 17, 1",
			"std 17, {TURNS_ROUNDS}(15)",
			"mftb 0",
			"std 0, {TURNS_PRODDED_AT}(22)",
			"sync",
			"std 16, {TURNS_TURN}(22)",
			"sync",
			"li 3, {PROD}",
			"mr 4, 25",
			"sc 1",
			"cmpdi 3, 0",
			"beq 1b",
			"b 3f",
			"6: PAUSE",
			"b 1b",
			"3: std 3, {TURNS_BAD}(22)",
			"end_of_turns:",
			"4: li 3, {PROD}",
			"mr 4, 25",
			"sc 1",
			"li 3, 0",
			"ori 3, 3, {EXCEPTION}",
			"sc 1",
			"b 4b",

			// The same by interrupts of XICS. r24 is the own id. Each sends an IPI after it has taken
			// the other one's, and sleeps until then. The first one begins. An interrupt changes r26
			// and CR0.
			"ipis:",
			"li 26, 0",
			"li 27, 0",
			"li 0, 0x500",
			"std 0, {SAVE} + {WAITED}(0)",
			"li 3, {CPPR}",
			"li 4, 0xff",
			"sc 1",
			"cmpdi 3, 0",
			"bne 3f",
			"cmpdi 23, 0",
			"beq 2f",
			"1: lis 0, 0x7fff",
			"mtspr 22, 0",
			"ld 0, {TURNS_STOP}(22)",
			"cmpdi cr1, 0, 0",
			"bne cr1, end_of_turns",
			"li 3, {CEDE}",
			"sc 1",
			"cmpd cr1, 26, 27",
			"beq cr1, 1b",
			"mr 27, 26",
			// Accept it, take the priority back, end it.
			"li 3, {XIRR}",
			"sc 1",
			"mr 28, 4",
			"rldicl 4, 4, 0, 40",
			"cmpdi 4, 2",
			"mr 3, 4",
			"bne 3f",
			"li 3, {IPI}",
			"mr 4, 24",
			"li 5, 0xff",
			"sc 1",
			"cmpdi 3, 0",
			"bne 3f",
			"li 3, {EOI}",
			"mr 4, 28",
			"sc 1",
			"cmpdi 3, 0",
			"bne 3f",
			// There is one only: the other one sends after it has taken this one's.
			"li 3, {XIRR}",
			"sc 1",
			"rldicl. 3, 4, 0, 40",
			"bne 3f",
			"li 3, {CPPR}",
			"li 4, 0xff",
			"sc 1",
			"2: addi 17, 17, 1",
			"std 17, {TURNS_ROUNDS}(15)",
			"sync",
			"li 3, {IPI}",
			"mr 4, 25",
			"li 5, 4",
			"sc 1",
			"cmpdi 3, 0",
			"beq 1b",
			// A code, or an interrupt that should not be there; not 0.
			"3: oris 3, 3, 1",
			"std 3, {TURNS_BAD}(22)",
			"b end_of_turns",

			".globl trap",
			"trap:",
			"trap",
			"b .",

			".globl problem_state_hcall",
			"problem_state_hcall:",
			"KEEP_OWN",
			"lis 4, 5f@ha",
			"addi 4, 4, 5f@l",
			"std 4, {SAVE} + {EXPECT}(0)",
			"lis 4, 3f@ha",
			"addi 4, 4, 3f@l",
			"mtspr 26, 4",
			"mfmsr 4",
			"std 4, {SAVE} + {MSR}(0)",
			"ori 4, 4, 0x4000",
			"mtspr 27, 4",
			"rfid",
			"3: sc 1",
			".globl after_problem_state_hcall",
			"after_problem_state_hcall:",
			// Not trapped: make a different program check, so that it shows.
			"mfmsr 4",
			"mfmsr 4",
			"b .",
			"5: BACK_TO_OWN",
			"blr",

			// The interrupt that a round trip waits for is counted in r26, and costs it CR0
			// and r4 to r6. The program check that is waited for continues at EXPECT.
			// Anything else is told to the VMM. r4 has the vector.
			"exception:",
			"ld 5, {SAVE} + {WAITED}(0)",
			"cmpd 4, 5",
			"beq 3f",
			"cmpdi 4, 0x700",
			"bne 1f",
			"ld 5, {SAVE} + {EXPECT}(0)",
			"cmpdi 5, 0",
			"bne 2f",
			"1: mfspr 5, 26",
			"mfspr 6, 27",
			"mfspr 7, 19",
			"mfspr 8, 18",
			"li 3, 0",
			"ori 3, 3, {EXCEPTION}",
			"sc 1",
			"b 1b",
			"2: li 6, 0",
			"std 6, {SAVE} + {EXPECT}(0)",
			"mfspr 6, 26",
			"std 6, {SAVE} + {SRR}(0)",
			"mfspr 6, 27",
			"std 6, {SAVE} + {SRR} + 8(0)",
			"mtspr 26, 5",
			"ld 6, {SAVE} + {MSR}(0)",
			"mtspr 27, 6",
			"rfid",
			"3: addi 26, 26, 1",
			"lis 5, 0x7fff",
			"mtspr 22, 5",
			"mfspr 5, 27",
			// Without MSR[EE], which H_CEDE has set.
			"rldicl 5, 5, 48, 1",
			"rotldi 5, 5, 16",
			"mtspr 27, 5",
			"rfid",

			".macro VECTORS",
			".irp at, 0x100,0x200,0x300,0x380,0x400,0x480,0x500,0x600,0x700,0x800,0x900,\
			 0x980,0xa00,0xb00,0xc00,0xd00,0xe00,0xe20,0xe40,0xe60,0xe80,0xea0,0xf00,0xf20,\
			 0xf40,0xf60,0xf80,0xfa0",
			".org \\at - 0x100",
			"li 4, \\at",
			"b exception",
			".endr",
			".org 0xf00",
			".endm",
			".section .vectors, \"ax\", @progbits",
			"VECTORS",
			".section .vectors_ail, \"ax\", @progbits",
			"VECTORS",
			".text",

			// With `more`, also what is in `protocol::round`.
			".macro FILL_REGISTERS more=0",
			"LFD 0, {FILL} + 8 * {FPSCR}",
			"MTFSF 0",
			"MFFS 0",
			"STFD 0, {FILL} + 8 * {FPSCR}",
			"LXV 32, {FILL} + 8 * {VSCR}",
			"MTVSCR 0",
			"MFVSCR 0",
			"STXV 32, {FILL} + 8 * {VSCR}",
			".if \\more",
			"ld 3, {FILL} + 8 * {WITH_PMU}(0)",
			"cmpdi 3, 0",
			"beq 77f",
			".set at, {FILL} + 8 * {PMU}",
			$(concat!("ld 3, at(0)\nmtspr ", $pmu, ", 3\n.set at, at + 8"),)*
			"isync",
			".set at, {FILL} + 8 * {PMU}",
			$(concat!("mfspr 3, ", $pmu, "\nstd 3, at(0)\n.set at, at + 8"),)*
			"77:",
			"ld 3, {FILL} + 8 * {SET_DEC}(0)",
			"mtspr 22, 3",
			"CLOCKS {FILL}",
			".endif",
			"ld 3, {FILL} + 8 * {XER}(0)",
			"mtxer 3",
			"mfxer 3",
			"std 3, {FILL} + 8 * {XER}(0)",
			"mfmsr 3",
			"std 3, {FILL} + 8 * {MSR_WORD}(0)",
			"ld 3, {FILL} + 8 * {CR_WORD}(0)",
			"mtcrf 255, 3",
			"ld 3, {FILL} + 8 * {LR_WORD}(0)",
			"mtlr 3",
			"ld 3, {FILL} + 8 * {CTR}(0)",
			"mtctr 3",
			"isync",
			".set at, {FILL} + 8 * {SPR}",
			$(concat!("ld 3, at(0)\nmtspr ", $write, ", 3\n.set at, at + 8"),)*
			"isync",
			".set at, {FILL} + 8 * {SPR}",
			$(concat!("mfspr 3, ", $read, "\nstd 3, at(0)\n.set at, at + 8"),)*
			".if \\more",
			// Hcalls that KVM counts before it takes facilities away. They change CTR, CR
			// and the SRRs.
			"ld 14, {FILL} + 8 * {CALLS_BEFORE}(0)",
			"cmpdi 14, 0",
			"beq 77f",
			"76: li 3, {PROD}",
			"li 4, -1",
			"sc 1",
			"addi 14, 14, -1",
			"cmpdi 14, 0",
			"bne 76b",
			"ld 3, {FILL} + 8 * {SRR0}(0)",
			"mtspr 26, 3",
			"ld 3, {FILL} + 8 * {SRR1}(0)",
			"mtspr 27, 3",
			"77: ld 3, {FILL} + 8 * {CR_WORD}(0)",
			"mtcrf 255, 3",
			"ld 3, {FILL} + 8 * {CTR}(0)",
			"mtctr 3",
			".endif",
			".set n, 0",
			".rept 64",
			"LXV n, {FILL} + 8 * {VSR} + 16 * n",
			".set n, n + 1",
			".endr",
			".if \\more",
			"ld 3, {FILL} + 8 * {SET_MSR}(0)",
			"mtmsrd 3",
			"mfmsr 3",
			"std 3, {FILL} + 8 * {MSR_WORD}(0)",
			".endif",
			// CFAR is set by branches only, and there is none from here on.
			"ld 3, {FILL} + 8 * {CFAR}(0)",
			"mtspr 28, 3",
			".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,\
			 27,28,29,30,31",
			"ld \\n, {FILL} + 8 * \\n(0)",
			".endr",
			".endm",

			".macro CLOCKS at",
			"mftb 3",
			"std 3, \\at + 8 * {TB}(0)",
			"mfspr 3, 22",
			"std 3, \\at + 8 * {DEC}(0)",
			"mfspr 3, 849",
			"std 3, \\at + 8 * {VTB}(0)",
			"mfspr 3, 309",
			"std 3, \\at + 8 * {PURR}(0)",
			"mfspr 3, 308",
			"std 3, \\at + 8 * {SPURR}(0)",
			"mfspr 3, 848",
			"std 3, \\at + 8 * {IC}(0)",
			"mfspr 3, 823",
			"std 3, \\at + 8 * {PSSCR}(0)",
			".endm",

			".macro STORE_REGISTERS more=0",
			".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,\
			 27,28,29,30,31",
			"std \\n, {GOT} + 8 * \\n(0)",
			".endr",
			"mfspr 3, 28",
			"std 3, {GOT} + 8 * {CFAR}(0)",
			"mfcr 3",
			"std 3, {GOT} + 8 * {CR_WORD}(0)",
			"mflr 3",
			"std 3, {GOT} + 8 * {LR_WORD}(0)",
			"mfctr 3",
			"std 3, {GOT} + 8 * {CTR}(0)",
			"mfxer 3",
			"std 3, {GOT} + 8 * {XER}(0)",
			"mfmsr 3",
			"std 3, {GOT} + 8 * {MSR_WORD}(0)",
			".if \\more",
			// Facilities that the round was without are needed to look at them.
			"ld 3, {SAVE} + {MSR}(0)",
			"mtmsrd 3",
			"CLOCKS {GOT}",
			"ld 3, {FILL} + 8 * {WITH_PMU}(0)",
			"cmpdi 3, 0",
			"beq 77f",
			".set at, {GOT} + 8 * {PMU}",
			$(concat!("mfspr 3, ", $pmu, "\nstd 3, at(0)\n.set at, at + 8"),)*
			"77:",
			".endif",
			".set at, {GOT} + 8 * {SPR}",
			$(concat!("mfspr 3, ", $read, "\nstd 3, at(0)\n.set at, at + 8"),)*
			".set n, 0",
			".rept 64",
			"STXV n, {GOT} + 8 * {VSR} + 16 * n",
			".set n, n + 1",
			".endr",
			"MFFS 0",
			"STFD 0, {GOT} + 8 * {FPSCR}",
			"MFVSCR 0",
			"STXV 32, {GOT} + 8 * {VSCR}",
			".endm",

			".globl register_round",
			"register_round:",
			"KEEP_OWN",
			"FILL_REGISTERS",
			"sc 1",
			".globl after_register_hcall",
			"after_register_hcall:",
			"STORE_REGISTERS",
			"BACK_TO_OWN",
			"blr",

			// A round that leaves the guest in its own way: what to call, the address of the
			// instruction that leaves and of where it goes on.
			".macro ROUND name, exit:vararg",
			"round_\\name:",
			"KEEP_OWN",
			"mfmsr 0",
			"std 0, {SAVE} + {MSR}(0)",
			"FILL_REGISTERS 1",
			"exit_\\name:",
			"\\exit",
			"after_\\name:",
			"STORE_REGISTERS 1",
			"BACK_TO_OWN",
			"blr",
			".pushsection .rodata.rounds, \"a\", @progbits",
			".balign 8",
			".globl instance_\\name",
			"instance_\\name:",
			".quad round_\\name, exit_\\name, after_\\name",
			".popsection",
			".endm",
			".macro WAIT",
			".rept 16384",
			"nop",
			".endr",
			".endm",
			// In problem state; the system call's vector leads back.
			".macro IN_PROBLEM_STATE",
			"rfid",
			"WAIT",
			"sc",
			".endm",
			// Should it end early, there is still an interrupt to wait for.
			".macro CEDE",
			"sc 1",
			"b .",
			".endm",
			"ROUND sc, sc 1",
			"ROUND cede, CEDE",
			"ROUND interrupt, WAIT",
			"ROUND problem, IN_PROBLEM_STATE",
			"ROUND spin, b .",
			"ROUND branch, bctr",
			"ROUND illegal, .long 0",
			"ROUND trap, trap",
			"ROUND tir, mfspr 5, 446",
			// msgsndp. isync first, as QEMU takes the interrupt (facility unavailable) with
			// the address of the last instruction that ended a block of its translation.
			".macro SEND_MESSAGE",
			"isync",
			".long 31 << 26 | 5 << 11 | 142 << 1",
			".endm",
			"ROUND doorbell, SEND_MESSAGE",
			"ROUND ebbrr, mfspr 5, 805",
			"ROUND tfhar, mfspr 5, 128",
			"ROUND mmcr2, mfspr 5, 785",
			"ROUND lbz, lbz 5, 0(6)",
			"ROUND lha, lha 5, 0(6)",
			"ROUND lwbrx, lwbrx 5, 0, 6",
			"ROUND ld, ld 5, 0(6)",
			"ROUND ldu, ldu 5, 8(6)",
			"ROUND stb, stb 5, 0(6)",
			"ROUND sthbrx, sthbrx 5, 0, 6",
			"ROUND stw, stw 5, 0(6)",
			"ROUND std, std 5, 0(6)",
			"ROUND lfd, .long 50 << 26 | 5 << 21 | 6 << 16",
			"ROUND stfd, .long 54 << 26 | 5 << 21 | 6 << 16",
			// lxvd2x and stxvd2x of vs5.
			"ROUND lxvd2x, .long 31 << 26 | 5 << 21 | 6 << 11 | 844 << 1",
			"ROUND stxvd2x, .long 31 << 26 | 5 << 21 | 6 << 11 | 972 << 1",
			TURNS_TURN = const offset_of!(Turns, turn),
			TURNS_STOP = const offset_of!(Turns, stop),
			TURNS_ROUNDS = const offset_of!(Turns, rounds),
			TURNS_BAD = const offset_of!(Turns, bad),
			TURNS_PRODDED_AT = const offset_of!(Turns, prodded_at),
			TURNS_WAKES = const offset_of!(Turns, wakes),
			TURNS_TICKS = const offset_of!(Turns, ticks),
			TURNS_PAUSE = const offset_of!(Turns, pause),
			CONTEND_SEED = const offset_of!(Contender, seed),
			CONTEND_LISTS = const offset_of!(Contender, lists),
			CONTEND_ROUNDS = const offset_of!(Contender, rounds),
			CONTEND_ANSWERED = const offset_of!(Contender, answered),
			CONTEND_REFUSED = const offset_of!(Contender, refused),
			CONTEND_BAD = const offset_of!(Contender, bad),
			CONTEND_LAST_BAD = const offset_of!(Contender, last_bad),
			CONTEND_CLEARED = const offset_of!(Contender, cleared),
			CONTEND_MORE = const offset_of!(Contender, more),
			ENTRIES = const Contender::ENTRIES,
			LIOBN_HIGH = const (map::LIOBN >> 16) as u16 as i16,
			TCE = const map::tce(0),
			TCE_SHIFT = const map::TCE_SHIFT,
			REMOVE = const hcall::Number::REMOVE.0,
			PROTECT = const hcall::Number::PROTECT.0,
			GET_TCE = const hcall::Number::GET_TCE.0,
			PUT_TCE = const hcall::Number::PUT_TCE.0,
			PUT_TCE_INDIRECT = const hcall::Number::PUT_TCE_INDIRECT.0,
			STUFF_TCE = const hcall::Number::STUFF_TCE.0,
			H_PARAMETER = const hcall::Code::PARAMETER.0,
			H_FUNCTION = const hcall::Code::FUNCTION.0,
			CALL_NUMBER = const offset_of!(Call, number),
			CALL_ARGS = const offset_of!(Call, args),
			CALL_MORE = const offset_of!(Call, more),
			CALL_RESULTS = const offset_of!(Call, results),
			CALL_CODE = const offset_of!(Call, code),
			CALL_R4 = const offset_of!(Call, r4),
			MARK_BEGIN = const marker::BEGIN,
			MARK_END = const marker::END,
			FILL = const map::FILL,
			GOT = const map::GOT,
			VSR = const regs::VSR,
			CR_WORD = const regs::CR,
			LR_WORD = const regs::LR,
			CTR = const regs::CTR,
			XER = const regs::XER,
			CFAR = const regs::CFAR,
			MSR_WORD = const regs::MSR,
			FPSCR = const regs::FPSCR,
			VSCR = const regs::VSCR,
			SPR = const regs::SPR,
			SRR0 = const regs::SRR0,
			SRR1 = const regs::SRR1,
			PMU = const round::PMU,
			WITH_PMU = const round::WITH_PMU,
			SET_DEC = const round::SET_DEC,
			SET_MSR = const round::MSR,
			CALLS_BEFORE = const round::CALLS_BEFORE,
			TB = const round::TB,
			DEC = const round::DEC,
			VTB = const round::VTB,
			PURR = const round::PURR,
			SPURR = const round::SPURR,
			IC = const round::IC,
			PSSCR = const round::PSSCR,
			PROD = const hcall::Number::PROD.0,
			SAVE = const map::SAVE,
			STACK = const map::STACK_TOP,
			LR = const save::LR,
			CR = const save::CR,
			MSR = const save::MSR,
			EXPECT = const save::EXPECT,
			WAITED = const save::WAITED,
			CEDE = const Number::CEDE.0,
			CPPR = const Number::CPPR.0,
			XIRR = const Number::XIRR.0,
			IPI = const Number::IPI.0,
			EOI = const Number::EOI.0,
			PEER_FAILED = const PEER_FAILED,
			SRR = const save::SRR,
			EXCEPTION = const private::EXCEPTION.0,
		);
	};
}
macro_rules! with_pmu {
	($($sprs:tt)*) => {
		protocol::pmu_table!(assembly { $($sprs)* });
	};
}
protocol::spr_table!(with_pmu);

const _: () = assert!(map::TEXT == 0x1_0000, "guest.ld has the same address");
const _: () = assert!(
	map::VECTORS == 0 && map::VECTORS_AIL == 0x4000,
	"guest.ld has the same"
);
const _: () = assert!(
	map::STACK_TOP.is_multiple_of(0x1_0000),
	"lis loads its upper half"
);
const _: () = assert!(private::EXCEPTION.0 < 0x1_0000, "ori loads it");
const _: () = assert!(
	map::LIOBN.is_multiple_of(0x1_0000) && map::LIOBN >> 32 == 0,
	"lis and clrldi load it"
);
const _: () = assert!(core::mem::offset_of!(Loop, number) == 0);
const _: () = assert!(core::mem::offset_of!(Loop, args) == 8);
const _: () = assert!(core::mem::offset_of!(Loop, code) == 40);
const _: () = assert!(core::mem::offset_of!(Loop, iterations) == 48);
const _: () = assert!(core::mem::offset_of!(Loop, mismatches) == 56);
const _: () = assert!(core::mem::offset_of!(Loop, wrong_code) == 64);
const _: () = assert!(core::mem::offset_of!(Loop, last_r4) == 72);
const _: () = assert!(core::mem::offset_of!(Loop, interrupts) == 80);

unsafe extern "C" {
	static after_register_hcall: u8;
	static after_problem_state_hcall: u8;
}

/// Address of the instruction after the `sc 1` of a register round.
pub fn after_register() -> u64 {
	(&raw const after_register_hcall).addr() as u64
}

/// Address of the instruction after the `sc 1` in problem state.
pub fn after_problem_state() -> u64 {
	(&raw const after_problem_state_hcall).addr() as u64
}
