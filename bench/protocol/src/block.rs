// SPDX-License-Identifier: GPL-2.0-only
//! The two blocks in guest memory.
//!
//! Both sides are little-endian ppc64le, but built with different flags and
//! perhaps different compilers, so everything is `repr(C)` and made of 64-bit
//! words, and every offset is asserted.

use core::mem::offset_of;

use crate::LoopBody;
use static_assertions::{assert_eq_size, const_assert_eq};

/// Most batches of one measurement.
pub const MAX_BATCHES: usize = 64;

/// What the guest is to do. Open: the guest answers a job that it doesn't know with
/// [`Outcome::UNKNOWN_JOB`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Job(pub u64);

impl Job {
	/// Time `batches` times `iterations` round trips, and as many empty iterations.
	pub const BENCH: Self = Self(1);
	/// `iterations` rounds of filling, calling and comparing every register.
	pub const REGISTERS: Self = Self(2);
	/// Hcalls without end, counted in [`Outcome::rounds`].
	pub const STORM: Self = Self(3);
	/// Call every number of the [`Probe`] array.
	pub const PROBE: Self = Self(4);
	/// One `sc 1` from problem state.
	pub const PROBLEM: Self = Self(5);
	/// An unexpected exception, to see that it is reported.
	pub const TRAP: Self = Self(6);
	/// Do every hcall of the [`Call`] array.
	pub const CALLS: Self = Self(7);
	/// Say that the PMU is in use, touch the first page of [`map::FRESH`](crate::map::FRESH), tell the VMM
	/// MMCR0 and PMC6 (in the upper half), and take it back.
	pub const CLAIM_PMU: Self = Self(8);
	/// `iterations` rounds as the [`RoundPlan`](crate::round::RoundPlan) says.
	pub const ROUNDS: Self = Self(32);
}

/// Written by the VMM, read by the guest.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Command {
	/// The job.
	pub job: Job,
	/// r3 at the `sc 1`.
	pub number: u64,
	/// r4 to r7 (not in a register round, where they are filled like the others).
	pub args: [u64; 4],
	/// r3 afterwards.
	pub code: i64,
	/// Hcalls per batch, or rounds, or probes, or calls.
	pub iterations: u64,
	/// Batches.
	pub batches: u64,
	/// Where the pattern of a register round starts.
	pub seed: u64,
	/// What the hcall leaves in CFAR.
	pub cfar: u64,
	/// What the hcall leaves in CTR.
	pub ctr: u64,
	/// What to time.
	pub body: LoopBody,
	/// Not 0: the VMM wants to be told before each batch.
	pub announce: u64,
	/// Not 0: a register round fills the SLB of a hash guest, too.
	pub slb: u64,
}

assert_eq_size!(Command, [u64; 15]);
const_assert_eq!(offset_of!(Command, job), 0);
const_assert_eq!(offset_of!(Command, number), 8);
const_assert_eq!(offset_of!(Command, args), 16);
const_assert_eq!(offset_of!(Command, code), 48);
const_assert_eq!(offset_of!(Command, iterations), 56);
const_assert_eq!(offset_of!(Command, batches), 64);
const_assert_eq!(offset_of!(Command, seed), 72);
const_assert_eq!(offset_of!(Command, cfar), 80);
const_assert_eq!(offset_of!(Command, ctr), 88);
const_assert_eq!(offset_of!(Command, body), 96);
const_assert_eq!(offset_of!(Command, announce), 104);
const_assert_eq!(offset_of!(Command, slb), 112);

/// A register that didn't hold what it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mismatch {
	/// Index into a [`Registers`](crate::regs::Registers).
	pub register: u64,
	/// What it should have held.
	pub expected: u64,
	/// What it held.
	pub got: u64,
	/// In which round.
	pub round: u64,
}

assert_eq_size!(Mismatch, [u64; 4]);
const_assert_eq!(offset_of!(Mismatch, register), 0);
const_assert_eq!(offset_of!(Mismatch, expected), 8);
const_assert_eq!(offset_of!(Mismatch, got), 16);
const_assert_eq!(offset_of!(Mismatch, round), 24);

/// Written by the guest, read by the VMM.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Outcome {
	/// [`OK`](Self::OK) or why not.
	pub status: u64,
	/// Hcalls (or rounds) so far.
	pub rounds: u64,
	/// How many hcalls came back with a wrong code, or registers with a wrong value.
	pub mismatches: u64,
	/// The first wrong code.
	pub wrong_code: u64,
	/// r4 after the last hcall of a measurement.
	pub last_r4: u64,
	/// The first register that was wrong.
	pub mismatch: Mismatch,
	/// Exception taken after `sc 1` in problem state: SRR0 less the address after it.
	pub srr0: u64,
	/// Its SRR1.
	pub srr1: u64,
	/// TB ticks of each batch of empty iterations.
	pub empty_ticks: [u64; MAX_BATCHES],
	/// TB ticks of each batch of hcalls.
	pub ticks: [u64; MAX_BATCHES],
	/// Per register, the bits that changed from round to round.
	pub varied: [u64; crate::regs::COUNT],
	/// Interrupts that ended a round trip.
	pub interrupts: u64,
}

impl Outcome {
	/// The job was done.
	pub const OK: u64 = 1;
	/// No such job.
	pub const UNKNOWN_JOB: u64 = 2;
	/// KVM refused the VPA; `wrong_code` has its answer.
	pub const NO_VPA: u64 = 3;
	/// The guest started on a job and hasn't finished it.
	pub const RUNNING: u64 = 4;
}

const_assert_eq!(offset_of!(Outcome, status), 0);
const_assert_eq!(offset_of!(Outcome, rounds), 8);
const_assert_eq!(offset_of!(Outcome, mismatches), 16);
const_assert_eq!(offset_of!(Outcome, wrong_code), 24);
const_assert_eq!(offset_of!(Outcome, last_r4), 32);
const_assert_eq!(offset_of!(Outcome, mismatch), 40);
const_assert_eq!(offset_of!(Outcome, srr0), 72);
const_assert_eq!(offset_of!(Outcome, srr1), 80);
const_assert_eq!(offset_of!(Outcome, empty_ticks), 88);
const_assert_eq!(offset_of!(Outcome, ticks), 88 + 8 * MAX_BATCHES);
const_assert_eq!(offset_of!(Outcome, varied), 88 + 16 * MAX_BATCHES);
const_assert_eq!(
	offset_of!(Outcome, interrupts),
	88 + 16 * MAX_BATCHES + 8 * crate::regs::COUNT
);

/// One number to call, and what came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Probe {
	/// r3 at the `sc 1`.
	pub number: u64,
	/// r3 afterwards.
	pub code: u64,
}

assert_eq_size!(Probe, [u64; 2]);
const_assert_eq!(offset_of!(Probe, number), 0);
const_assert_eq!(offset_of!(Probe, code), 8);

impl Probe {
	/// r4 of the probe at `index`; r5 to r12 count up from there. Large enough that no
	/// handler takes it for a flag, a vcpu or an address that it should act on.
	pub const fn first_arg(index: u64) -> u64 {
		0x5a5a_0000_0000_0000 | (index << 16)
	}
}

/// One hcall to do, and what came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Call {
	/// r3 at the `sc 1`.
	pub number: u64,
	/// r4 to r7.
	pub args: [u64; 4],
	/// r8 to r11.
	pub more: [u64; 4],
	/// r3 afterwards.
	pub code: u64,
	/// r4 afterwards.
	pub r4: u64,
	/// r5 to r11 afterwards.
	pub results: [u64; 7],
}

assert_eq_size!(Call, [u64; 18]);
const_assert_eq!(offset_of!(Call, number), 0);
const_assert_eq!(offset_of!(Call, args), 8);
const_assert_eq!(offset_of!(Call, more), 40);
const_assert_eq!(offset_of!(Call, code), 72);
const_assert_eq!(offset_of!(Call, r4), 80);
const_assert_eq!(offset_of!(Call, results), 88);

/// What a vcpu works with that does nothing but TCE hcalls on the same few entries, and
/// what came of it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Contender {
	/// Where its random numbers start; not 0.
	pub seed: u64,
	/// Two lists for H_PUT_TCE_INDIRECT.
	pub lists: [u64; 2],
	/// Hcalls so far.
	pub rounds: u64,
	/// Of them, those that were answered H_SUCCESS.
	pub answered: u64,
	/// Of them, those that were answered H_PARAMETER or H_FUNCTION.
	pub refused: u64,
	/// Of them, those with another code, or with an entry that no vcpu wrote.
	pub bad: u64,
	/// The last such hcall, its code and its r4.
	pub last_bad: [u64; 3],
	/// Bits of an hcall's entry that are always 0.
	pub cleared: u64,
	/// Bits of an hcall's number of entries, less one, that are always 1.
	pub more: u64,
}

assert_eq_size!(Contender, [u64; 12]);
const_assert_eq!(offset_of!(Contender, seed), 0);
const_assert_eq!(offset_of!(Contender, lists), 8);
const_assert_eq!(offset_of!(Contender, rounds), 24);
const_assert_eq!(offset_of!(Contender, answered), 32);
const_assert_eq!(offset_of!(Contender, refused), 40);
const_assert_eq!(offset_of!(Contender, bad), 48);
const_assert_eq!(offset_of!(Contender, last_bad), 56);
const_assert_eq!(offset_of!(Contender, cleared), 80);
const_assert_eq!(offset_of!(Contender, more), 88);

/// What two vcpus work with that wake each other: the one whose turn it is gives the turn to the
/// other and prods it, and the other one sleeps until then.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Turns {
	/// Whose turn it is, 0 or 1.
	pub turn: u64,
	/// The VMM wants them to end.
	pub stop: u64,
	/// How many turns each has had.
	pub rounds: [u64; 2],
	/// A code that an hcall should not have had.
	pub bad: u64,
	/// The timebase before the H_PROD that ended the last turn.
	pub prodded_at: u64,
	/// Of each: how often it was woken for its turn.
	pub wakes: [u64; 2],
	/// Of each: ticks of the timebase from that H_PROD to its first instruction after H_CEDE, all
	/// wake-ups together.
	pub ticks: [u64; 2],
	/// If not 0, the first vcpu does not sleep, and lets so many other threads run before each
	/// H_PROD: then the second one sleeps by that time.
	pub pause: u64,
}

assert_eq_size!(Turns, [u64; 11]);
const_assert_eq!(offset_of!(Turns, turn), 0);
const_assert_eq!(offset_of!(Turns, stop), 8);
const_assert_eq!(offset_of!(Turns, rounds), 16);
const_assert_eq!(offset_of!(Turns, bad), 32);
const_assert_eq!(offset_of!(Turns, prodded_at), 40);
const_assert_eq!(offset_of!(Turns, wakes), 48);
const_assert_eq!(offset_of!(Turns, ticks), 64);
const_assert_eq!(offset_of!(Turns, pause), 80);

impl Contender {
	/// Entries that it works on, and a few more behind them: at most this many at once,
	/// if `more` is 0.
	pub const ENTRIES: u64 = 16;
}
