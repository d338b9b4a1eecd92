// SPDX-License-Identifier: GPL-2.0-only
//! The payload's assembly.
//!
//! The folder `asm` has the pieces, in the order of the payload's text. The operands in braces are
//! listed here, and so are the functions that Rust calls.
//!
//! - `start.s`, `calls.s`: where vcpus start; single hcalls.
//! - `timed.s`: the timing loops are one macro, instantiated with a loop body and without. The
//!   difference of their times is the time of a round trip.
//! - `contend.s`, `turns.s`: vcpus that make TCE hcalls at the same time, or wake each other.
//! - `hammer.s`: a load and a store by the page table, from code with translation off.
//! - `exceptions.s`: the vectors report an exception and never return, but for two: the program
//!   check that [`problem_state_hcall`] waits for, and the interrupt that ends a round trip of
//!   [`save::WAITED`].
//! - `registers.s`: the register round is a single straight line from the first load to the last
//!   store. Between them no register is free, so the round reaches memory by displacement from zero
//!   (see `protocol::map`), and no branch is between its `sc 1` and the read of CFAR.
//! - `rounds.s`: the same line with more registers, and with another instruction instead of `sc 1`.
//!
//! The crate is compiled without VSX, AltiVec and hard float, so that no compiler
//! puts anything into the registers which a round fills; the assembler then refuses
//! those instructions by name and they are spelled as words.

use core::arch::global_asm;
use core::mem::offset_of;
use hcall::Number;
use protocol::block::{Call, Contender, Turns};
use protocol::{hpte, map, marker, private, regs, round, slb};

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
	/// The loop with `sc 1` for one index after the other.
	///
	/// # Safety
	///
	/// As [`hcall`].
	pub fn time_at_hptes(state: &mut Loop) -> u64;
	/// The loop that computes the indexes, without `sc 1`.
	pub safe fn time_no_hptes(state: &mut Loop) -> u64;
	/// The loop with H_BULK_REMOVE.
	///
	/// # Safety
	///
	/// As [`hcall`].
	pub fn time_bulk_removes(state: &mut Loop) -> u64;
	/// The loop that computes its requests, without `sc 1`.
	pub safe fn time_no_bulk_removes(state: &mut Loop) -> u64;

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

	/// Loads with data translation on, and instruction translation as it is.
	///
	/// # Safety
	///
	/// The address must be translated.
	pub fn load_translated(address: u64) -> u64;

	/// Stores in the same way.
	///
	/// # Safety
	///
	/// The address must be translated, to memory that Rust does not rely on.
	pub fn store_translated(address: u64, value: u64);

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
/// Ticks that it takes at most to read all clocks, if the guest is not left meanwhile: some ten instructions.
const CLOCKS_AT_ONCE: u64 = 128;

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
			include_str!("asm/macros.s"),
			// The SPRs of the two tables, from or to words in memory. These macros change r3.
			".macro WRITE_SPRS words:vararg",
			".set at, \\words",
			$(concat!("ld 3, at(0)\nmtspr ", $write, ", 3\n.set at, at + 8"),)*
			".endm",
			".macro READ_SPRS words:vararg",
			".set at, \\words",
			$(concat!("mfspr 3, ", $read, "\nstd 3, at(0)\n.set at, at + 8"),)*
			".endm",
			".macro WRITE_PMU words:vararg",
			".set at, \\words",
			$(concat!("ld 3, at(0)\nmtspr ", $pmu, ", 3\n.set at, at + 8"),)*
			".endm",
			".macro READ_PMU words:vararg",
			".set at, \\words",
			$(concat!("mfspr 3, ", $pmu, "\nstd 3, at(0)\n.set at, at + 8"),)*
			".endm",
			include_str!("asm/start.s"),
			include_str!("asm/calls.s"),
			include_str!("asm/timed.s"),
			include_str!("asm/contend.s"),
			include_str!("asm/turns.s"),
			include_str!("asm/hammer.s"),
			include_str!("asm/exceptions.s"),
			include_str!("asm/registers.s"),
			include_str!("asm/rounds.s"),
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
			SLB_ENTRIES = const slb::ENTRIES,
			LIOBN_HIGH = const (map::LIOBN >> 16) as u16 as i16,
			TCE = const map::tce(0),
			TCE_SHIFT = const map::TCE_SHIFT,
			REMOVE = const hcall::Number::REMOVE.0,
			BULK = const hpte::BULK,
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
			CLOCKS_AT_ONCE = const CLOCKS_AT_ONCE,
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
