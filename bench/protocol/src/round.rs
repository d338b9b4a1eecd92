// SPDX-License-Identifier: GPL-2.0-only
//! Rounds: fill every register, leave the guest in one of many ways, compare.
//!
//! A round is like those of [`Job::REGISTERS`](crate::Job::REGISTERS), with more
//! registers and more ways out. Each round's values, and which way it takes, follow
//! from the seed alone, and so does everything that is found afterwards but clocks;
//! the [`RoundReport`]'s digest of it is therefore the same on every path.
//!
//! The words of a round are those of [`regs`](crate::regs), and behind them the ones
//! below.

use core::fmt;
use core::mem::offset_of;
use static_assertions::{assert_eq_size, const_assert, const_assert_eq};

use crate::block::Mismatch;
use crate::{map, regs, slb};

/// How a round leaves the guest. What isn't said to reach userspace is answered by KVM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum RoundKind {
	/// The NULL hcall.
	Null,
	/// H_PROD.
	Prod,
	/// An hcall for userspace.
	Unknown,
	/// H_GET_TCE.
	GetTce,
	/// H_PUT_TCE.
	PutTce,
	/// H_PUT_TCE_INDIRECT.
	PutTceIndirect,
	/// H_STUFF_TCE.
	StuffTce,
	/// H_CEDE, ended by the decrementer, whose interrupt the guest then takes.
	Cede,
	/// A load from a device, or more than one load; userspace answers.
	MmioLoad,
	/// A store to a device; userspace takes it.
	MmioStore,
	/// A load from a page that has no translation yet.
	TouchLoad,
	/// A store to one.
	TouchStore,
	/// A branch into one.
	TouchFetch,
	/// An illegal instruction: emulation assistance, then the guest's program interrupt.
	Illegal,
	/// A trap: the guest's own program interrupt, without the hypervisor.
	Trap,
	/// TIR, which KVM emulates (facility unavailable).
	Tir,
	/// A doorbell to itself, which KVM emulates (facility unavailable) and then delivers.
	Doorbell,
	/// First use of event-based branches after KVM has taken them away.
	Ebb,
	/// First use of transactional memory's registers after KVM has taken them away.
	Tm,
	/// First use of the PMU since the last exit.
	Pmu,
	/// Enough instructions for the host's timers, interrupts and signals to come in between.
	Interrupt,
	/// The same in problem state.
	Problem,
	/// The guest's own decrementer, waited for.
	Decrementer,
	/// H_PROD to itself, which is awake. The next H_CEDE goes on at once.
	ProdAwake,
	/// H_RANDOM.
	Random,
	/// H_CONFER to itself.
	Confer,
	/// H_PAGE_INIT that clears a page.
	PageInit,
	/// H_LOGICAL_CI_STORE to an eventfd.
	EventCall,
	/// A store to an eventfd that takes any length.
	EventStore,
	/// A load from an address that the guest has not mapped: its own fault.
	Missing,
	/// A branch to one.
	MissingFetch,
	/// A store to a page that the guest has mapped for reading only.
	ReadOnly,
}

impl RoundKind {
	/// All of them, each at its own index.
	pub const ALL: [Self; 32] = [
		Self::Null,
		Self::Prod,
		Self::Unknown,
		Self::GetTce,
		Self::PutTce,
		Self::PutTceIndirect,
		Self::StuffTce,
		Self::Cede,
		Self::MmioLoad,
		Self::MmioStore,
		Self::TouchLoad,
		Self::TouchStore,
		Self::TouchFetch,
		Self::Illegal,
		Self::Trap,
		Self::Tir,
		Self::Doorbell,
		Self::Ebb,
		Self::Tm,
		Self::Pmu,
		Self::Interrupt,
		Self::Problem,
		Self::Decrementer,
		Self::ProdAwake,
		Self::Random,
		Self::Confer,
		Self::PageInit,
		Self::EventCall,
		Self::EventStore,
		Self::Missing,
		Self::MissingFetch,
		Self::ReadOnly,
	];

	/// Its bit in [`RoundPlan::kinds`].
	pub const fn bit(self) -> u64 {
		1 << self as u8
	}

	/// Its name in messages.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Null => "null",
			Self::Prod => "h_prod",
			Self::Unknown => "unknown",
			Self::GetTce => "h_get_tce",
			Self::PutTce => "h_put_tce",
			Self::PutTceIndirect => "h_put_tce_indirect",
			Self::StuffTce => "h_stuff_tce",
			Self::Cede => "h_cede",
			Self::MmioLoad => "mmio-load",
			Self::MmioStore => "mmio-store",
			Self::TouchLoad => "touch-load",
			Self::TouchStore => "touch-store",
			Self::TouchFetch => "touch-fetch",
			Self::Illegal => "illegal",
			Self::Trap => "trap",
			Self::Tir => "tir",
			Self::Doorbell => "doorbell",
			Self::Ebb => "ebb",
			Self::Tm => "tm",
			Self::Pmu => "pmu",
			Self::Interrupt => "interrupt",
			Self::Problem => "problem-state",
			Self::Decrementer => "decrementer",
			Self::ProdAwake => "h_prod-awake",
			Self::Random => "h_random",
			Self::Confer => "h_confer",
			Self::PageInit => "h_page_init",
			Self::EventCall => "h_logical_ci_store",
			Self::EventStore => "event-store",
			Self::Missing => "missing",
			Self::MissingFetch => "missing-fetch",
			Self::ReadOnly => "read-only",
		}
	}
}

/// First of the PMU's registers, [`PMU_SPRS`].
pub const PMU: usize = regs::COUNT;
/// First of [`CLOCKS`].
pub const CLOCK: usize = PMU + PMU_SPRS.len();
/// PSSCR as a guest sees it. It isn't filled, only compared.
pub const PSSCR: usize = CLOCK + CLOCKS.len();
/// MSR to leave with.
pub const MSR: usize = PSSCR + 1;
/// Nonzero if the PMU is filled and compared.
pub const WITH_PMU: usize = MSR + 1;
/// How many H_PROD to do once the SPRs are filled.
pub const CALLS_BEFORE: usize = WITH_PMU + 1;
/// What DEC is set to.
pub const SET_DEC: usize = CALLS_BEFORE + 1;
/// Words of a round.
pub const COUNT: usize = SET_DEC + 1;

const _: () = assert!(COUNT * 8 <= 0x1000);

/// Words of one moment of a round.
pub type Words = [u64; COUNT];

/// A register of the PMU: name, SPR number, bits to fill and bits always set.
#[derive(Clone, Copy, Debug)]
pub struct PmuSpr {
	/// What to call it.
	pub name: &'static str,
	/// The number by which a guest's kernel reads and writes it.
	pub spr: u32,
	/// Bits to fill.
	pub mask: u64,
	/// Bits always set.
	pub set: u64,
}

/// Calls `$table!` with its arguments and the registers of the PMU: name, number, bits to
/// fill, bits always set. MMCR0 comes first: it stops the counters, so that the others keep
/// the written value.
#[macro_export]
macro_rules! pmu_table {
	($table:ident $($more:tt)*) => {
		$table! {
			$($more)*
			// Frozen (FC); without the bits that make or ask for interrupts, and FCECE, with
			// which an overflow would change the register.
			("MMCR0", 795, 0x5800_1f00, 0x8000_0000),
			("MMCR1", 798, !0, 0),
			("MMCR2", 785, !0, 0),
			// Without random sampling, which goes on although counters are frozen.
			("MMCRA", 786, 0x0000_0000_7fff_fffe, 0),
			("PMC1", 787, 0xffff_ffff, 0),
			("PMC2", 788, 0xffff_ffff, 0),
			("PMC3", 789, 0xffff_ffff, 0),
			("PMC4", 790, 0xffff_ffff, 0),
			("PMC5", 791, 0xffff_ffff, 0),
			("PMC6", 792, 0xffff_ffff, 0),
			("SIER", 784, !0, 0),
			("SIAR", 796, !0, 0),
			("SDAR", 797, !0, 0),
		}
	};
}

macro_rules! pmu_sprs {
	($(($name:literal, $spr:literal, $mask:expr, $set:expr),)*) => {
		/// The PMU's registers, in the order in which they are written.
		pub const PMU_SPRS: &[PmuSpr] = &[$(PmuSpr {
			name: $name,
			spr: $spr,
			mask: $mask,
			set: $set,
		}),*];
	};
}
pmu_table!(pmu_sprs);

/// The clocks, in the order in which they are read.
pub const CLOCKS: [&str; 6] = ["TB", "DEC", "VTB", "PURR", "SPURR", "IC"];
/// Index of TB.
pub const TB: usize = CLOCK;
/// Index of DEC.
pub const DEC: usize = CLOCK + 1;
/// Index of VTB.
pub const VTB: usize = CLOCK + 2;
/// Index of PURR.
pub const PURR: usize = CLOCK + 3;
/// Index of SPURR.
pub const SPURR: usize = CLOCK + 4;
/// Index of IC.
pub const IC: usize = CLOCK + 5;
/// Not a register: what a store should have left in memory, or a device.
pub const MEMORY: usize = COUNT;
/// First of the entries of the SLB, which are not words of a round.
pub const SLB: usize = MEMORY + 1;

/// The readable name of a word of a round.
pub fn name(index: usize) -> impl fmt::Display {
	Name(index)
}

const SLB_END: usize = SLB + slb::ENTRIES;

struct Name(usize);

impl fmt::Display for Name {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self.0 {
			pmu @ PMU..CLOCK => f.write_str(PMU_SPRS[pmu - PMU].name),
			clock @ CLOCK..PSSCR => f.write_str(CLOCKS[clock - CLOCK]),
			PSSCR => f.write_str("PSSCR"),
			MEMORY => f.write_str("memory"),
			entry @ SLB..SLB_END => write!(f, "SLB entry {}", entry - SLB),
			other => write!(f, "{}", regs::name(other)),
		}
	}
}

/// What is compared after a round, but clocks.
pub const fn is_compared(index: usize) -> bool {
	regs::exists(index) || index >= PMU && index < CLOCK || index == PSSCR
}

/// What the VMM wants. Number of rounds and seed are in the
/// [`Command`](crate::Command).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct RoundPlan {
	/// The [`RoundKind`]s to choose from, a bit for each.
	pub kinds: u64,
	/// Nonzero if the PMU is filled as well, and the VPA says that it is in use.
	pub pmu: u64,
	/// How far DEC may be off after a round, in ticks.
	pub dec_tolerance: u64,
	/// What DEC may be off besides that without being wrong: what the C path is known to
	/// take off with a timebase offset. Counted.
	pub dec_slip: u64,
	/// How long a round may take, in ticks. From [`SHARED`](Self::SHARED) on there are other
	/// guests on the same CPUs.
	pub longest: u64,
	/// Nonzero if no other vcpu uses the table. Then the value of r4 after H_GET_TCE and the
	/// other TCE hcalls is known.
	pub table_is_ours: u64,
	/// Nonzero if all entries of the SLB are filled as well: of a hash guest.
	pub slb: u64,
}

impl RoundPlan {
	/// A guest that shares CPUs with others can say nothing of time. Nor of what KVM
	/// switches only for guests that asked for it, where the machine (QEMU) lets them use
	/// it unasked: event-based branches and transactional memory.
	pub const SHARED: u64 = 1 << 40;

	/// Are there other guests on the same CPUs?
	pub const fn is_shared(&self) -> bool {
		self.longest >= Self::SHARED
	}
}

/// SPRs of facilities that a guest has from the first time it asks.
pub const ON_DEMAND: [u32; 6] = [804, 805, 806, 128, 129, 130];

/// Is the word at that index one of those?
pub const fn is_on_demand(index: usize) -> bool {
	let mut i = 0;
	while i < ON_DEMAND.len() {
		if index == regs::spr_index(ON_DEMAND[i]) {
			return true;
		}
		i += 1;
	}
	false
}

assert_eq_size!(RoundPlan, [u64; 7]);
const_assert_eq!(offset_of!(RoundPlan, kinds), 0);
const_assert_eq!(offset_of!(RoundPlan, pmu), 8);
const_assert_eq!(offset_of!(RoundPlan, dec_tolerance), 16);
const_assert_eq!(offset_of!(RoundPlan, dec_slip), 24);
const_assert_eq!(offset_of!(RoundPlan, longest), 32);
const_assert_eq!(offset_of!(RoundPlan, table_is_ours), 40);
const_assert_eq!(offset_of!(RoundPlan, slb), 48);

/// Most mismatches that are listed.
pub const MAX_MISMATCHES: usize = 1024;

/// What came of it. The rest is in the [`Outcome`](crate::Outcome): rounds, and how many
/// mismatches.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RoundReport {
	/// All that was found after each round, but clocks, in one number.
	pub digest: u64,
	/// How many rounds left in which way.
	pub kinds: [u64; RoundKind::ALL.len()],
	/// The largest error of DEC, in ticks.
	pub dec_error: u64,
	/// How often DEC was off by [`RoundPlan::dec_slip`].
	pub dec_slips: u64,
	/// The first mismatches.
	pub mismatches: [Mismatch; MAX_MISMATCHES],
	/// The kind of round of each.
	pub mismatch_kinds: [u64; MAX_MISMATCHES],
	/// Per word, the bits that changed from round to round.
	pub varied: [u64; COUNT],
}

const_assert_eq!(offset_of!(RoundReport, digest), 0);
const_assert_eq!(offset_of!(RoundReport, kinds), 8);
const_assert_eq!(
	offset_of!(RoundReport, dec_error),
	8 + 8 * RoundKind::ALL.len()
);
const_assert_eq!(
	offset_of!(RoundReport, dec_slips),
	16 + 8 * RoundKind::ALL.len()
);
const_assert_eq!(
	offset_of!(RoundReport, mismatches),
	24 + 8 * RoundKind::ALL.len()
);
const_assert_eq!(
	offset_of!(RoundReport, mismatch_kinds),
	24 + 8 * RoundKind::ALL.len() + 32 * MAX_MISMATCHES
);
const_assert_eq!(
	offset_of!(RoundReport, varied),
	24 + 8 * RoundKind::ALL.len() + 40 * MAX_MISMATCHES
);
const_assert!(core::mem::size_of::<RoundReport>() as u64 <= map::ROUND_SHADOW - map::ROUND_REPORT);

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn kinds_are_at_their_index_and_have_names() {
		let mut seen = std::collections::BTreeSet::new();
		for (index, kind) in RoundKind::ALL.into_iter().enumerate() {
			assert_eq!(kind.bit(), 1 << index);
			assert!(seen.insert(kind.name()));
		}
	}

	#[test]
	fn every_word_has_a_name_of_its_own() {
		let mut seen = std::collections::BTreeSet::new();
		let words = (0..COUNT).filter(|&index| is_compared(index));
		for index in words.chain(CLOCK..PSSCR).chain([MEMORY]) {
			assert!(seen.insert(name(index).to_string()), "{}", name(index));
		}
	}

	#[test]
	fn the_pmu_stays_frozen_and_silent() {
		let mmcr0 = PMU_SPRS[0];
		assert_eq!(mmcr0.name, "MMCR0");
		// FC; PMAE, FCECE and PMAO; PMXE; EBE.
		assert_eq!(mmcr0.set, 0x8000_0000);
		assert_eq!(mmcr0.mask & (0x0200_0080 | 0x0400_0000 | 0x0010_0000), 0);
	}
}
