// SPDX-License-Identifier: GPL-2.0-only
//! What the benchmark measures, in which guest, and how to tell that it did.
//!
//! A case is a round trip: something that a guest does once per iteration of a loop, and
//! that leaves the guest. [`CASES`] has one row for each. A row is all that the VMM, the
//! runner and the report know of a case: what differs between two cases is a field, and
//! no code names a case to treat it differently.
//!
//! A right r3 alone proves little. So a figure needs three kinds of evidence: the guest
//! compares r3 after every round trip ([`Case::code`]), the kernel's counters tell which
//! code served it ([`Served`]), and [`Case::evidence`] lists what the round trips have to
//! leave in memory, in a register or in userspace.
#![cfg_attr(not(test), no_std)]

mod served;
mod table;

use hcall::{Code, Number};
use protocol::{Column, GuestMode, LoopBody};

pub use served::{Served, ServedBy};
pub use table::{CASES, SPIN};

/// A round trip: one row of [`CASES`].
#[derive(PartialEq, Eq, Debug)]
pub struct Case {
	/// The name in reports and on command lines.
	pub name: &'static str,
	/// The rows of the tables that this one is with.
	pub group: Group,
	/// In which guests it is measured.
	pub modes: &'static [GuestMode],
	/// What the guest does in an iteration.
	pub body: LoopBody,
	/// What r3 holds at that moment; for an hcall, its number.
	pub number: Number,
	/// What r4 to r7 hold.
	pub args: [u64; 4],
	/// What r3 has to hold afterwards.
	pub code: Code,
	/// The hcalls that KVM hands to userspace until KVM_CAP_PPC_ENABLE_HCALL enables them.
	pub enable: &'static [Number],
	/// What the VM needs besides memory and a vcpu.
	pub setup: Setup,
	/// An hcall that the guest does once before: it leaves in the table what the case
	/// changes or finds.
	pub before: Option<Hcall>,
	/// What the round trips leave behind.
	pub evidence: &'static [Evidence],
	/// The counter of the fast handler that answers, if there is one.
	pub fast: Option<&'static str>,
	/// The counters of fast handlers that answer another hcall of each round trip.
	pub also_fast: &'static [&'static str],
	/// By how much a batch has to be smaller than others, because a round trip costs that
	/// much more, or there is room for no more.
	pub weight: u64,
	/// Why round trips do not all execute the same instructions, if so. Figures may then
	/// differ a little from run to run.
	pub varies: Option<&'static str>,
	/// Of 16 round trips, those that may leave the guest without an exit of their own.
	pub shared_exits: u64,
	/// Instructions a round trip that QEMU's virtual time counts although they are not
	/// executed. Where the hypervisor sends a message for the guest, the rest of the
	/// translated block is counted: two instructions a message.
	pub overcounted: u64,
	/// The unpatched kernel does not know this hcall.
	pub only_patched: bool,
}

/// Rows of the tables that belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
	/// Hcalls that are not about TCEs.
	Hcall,
	/// Hcalls on a TCE table.
	Tce,
	/// Hcalls on a hash guest's page table.
	PageTable,
	/// Loads and stores outside memory.
	Mmio,
	/// Interrupts, other vcpus, page faults.
	Other,
	/// What many or large TCE tables cost.
	Scale,
	/// Without a guest.
	Host,
}

impl Group {
	/// The headline of the rows.
	pub const fn title(self) -> &'static str {
		match self {
			Self::Hcall => "hypercalls",
			Self::Tce => "TCE hypercalls (emulated table)",
			Self::PageTable => "page table hypercalls (hash guests)",
			Self::Mmio => "device registers",
			Self::Other => "interrupts and page faults",
			Self::Scale => "1 or 64 TCE tables, windows of 4 KiB or 1 GiB",
			Self::Host => "for scale: the host's null system call",
		}
	}
}

/// What the VM needs besides memory and a vcpu.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
	/// Nothing.
	Plain,
	/// The DMA window of [`protocol::map::LIOBN`].
	Window,
	/// These TCE tables instead of that window.
	Tables(Tables),
	/// An ioeventfd.
	Event {
		/// Its address.
		address: u64,
		/// The length of the access that it takes; 0 is any.
		bytes: u32,
	},
	/// Before each batch, host timers that go off while the guest computes. Their signals are blocked.
	Timers,
	/// The same with signals that come through, and end KVM_RUN.
	Signals,
	/// Before each batch, pages without memory.
	FreshPages,
	/// A second vcpu that rings back.
	Peer,
	/// An interrupt controller with the interface of XICS.
	Xics,
	/// On Linux 5.10, a random number generator that the host found. Without one, the
	/// handler of 5.10 reads a device that is not there, and takes the host down.
	RandomDevice,
	/// No VM: the host itself.
	NoGuest,
}

/// TCE tables of a VM. The one in use is the oldest, which a list that grows at its head
/// finds last, and its last entry is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tables {
	/// How many there are.
	pub count: u64,
	/// Entries of each, for pages of 4 KiB.
	pub entries: u64,
}

/// An hcall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hcall {
	/// r3
	pub number: Number,
	/// r4 to r7
	pub args: [u64; 4],
}

/// What the round trips leave behind, as the VMM finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
	/// r4 is this after the last.
	LastR4(u64),
	/// r4 is not what it was after the warm-up.
	NewR4,
	/// r4 is the index of the last HPTE of the batch after the last.
	LastIndex,
	/// The window's first entries, so many, are those of the list; all others are 0.
	Entries(usize),
	/// The last entry of the first of the [`Tables`] is the list's first; all others are 0.
	LastEntry,
	/// The vcpu's CIABR, which the VMM sets before, is 0.
	CiabrCleared,
	/// Each reaches userspace as an hcall.
	UserHcalls,
	/// Each reaches userspace as a store.
	UserStores,
	/// Each reaches userspace as a load.
	UserLoads,
	/// The ioeventfd is signalled once for each.
	Signals,
	/// The timers all went off, and made so many exits by the host's decrementer.
	TimerExits,
	/// The timers all went off, and their signals ended KVM_RUN.
	EndedRuns,
	/// The host had no memory there, has it now, and it holds what was stored.
	Pages,
}

impl Evidence {
	/// The round trip ends in userspace.
	const fn is_userspace(self) -> bool {
		matches!(
			self,
			Self::UserHcalls | Self::UserStores | Self::UserLoads | Self::EndedRuns
		)
	}
}

const fn equal(a: &str, b: &str) -> bool {
	let (a, b) = (a.as_bytes(), b.as_bytes());
	if a.len() != b.len() {
		return false;
	}
	let mut index = 0;
	while index < a.len() {
		if a[index] != b[index] {
			return false;
		}
		index += 1;
	}
	true
}

impl Case {
	/// The case of that name.
	pub const fn from_name(name: &str) -> Option<&'static Self> {
		let mut index = 0;
		while index < CASES.len() {
			if equal(CASES[index].name, name) {
				return Some(&CASES[index]);
			}
			index += 1;
		}
		None
	}

	/// Whether every round trip executes the same instructions.
	pub const fn is_steady(&self) -> bool {
		self.varies.is_none()
	}

	/// Whether the VMM has to do something before each batch.
	pub const fn needs_preparation(&self) -> bool {
		matches!(
			self.setup,
			Setup::Timers | Setup::Signals | Setup::FreshPages
		)
	}

	/// Whether all round trips end in userspace. If not, none does.
	pub const fn ends_in_userspace(&self) -> bool {
		let mut index = 0;
		while index < self.evidence.len() {
			if self.evidence[index].is_userspace() {
				return true;
			}
			index += 1;
		}
		false
	}

	/// Whether the round trips have to leave this behind.
	pub fn leaves(&self, evidence: Evidence) -> bool {
		self.evidence.contains(&evidence)
	}

	/// The least number of exits that so many round trips take.
	pub const fn exits(&self, rounds: u64) -> u64 {
		rounds - rounds / 16 * self.shared_exits
	}

	/// Why there cannot be a figure.
	pub const fn absent(&self, mode: GuestMode, column: Column) -> Option<&'static str> {
		let rust = matches!(column, Column::RustFull | Column::RustFast);
		if matches!(self.setup, Setup::NoGuest) {
			return if rust {
				Some("no guest is entered: the same as C")
			} else {
				None
			};
		}
		let mmio = matches!(self.body, LoopBody::STORE | LoopBody::LOAD);
		if mmio && matches!(mode, GuestMode::HashReal) {
			return Some("a hash guest in real mode reaches nothing but its memory");
		}
		None
	}
}

/// The case of that name. A name that [`CASES`] lacks is an error of the compiler.
#[macro_export]
macro_rules! case {
	($name:literal) => {
		const {
			match $crate::Case::from_name($name) {
				Some(case) => case,
				None => panic!("CASES has no such row"),
			}
		}
	};
}

/// A number for a cell of the benchmark, by which a plugin of QEMU tells what it records.
///
/// All programs are built from one source, so positions in the lists of names will do.
pub fn tag(case: &Case, mode: GuestMode, column: Column) -> u64 {
	fn position<T: PartialEq>(all: &[T], one: &T) -> u64 {
		// Every value is in its list: a test sees to that.
		all.iter()
			.position(|other| other == one)
			.unwrap_or(usize::from(u8::MAX)) as u64
	}
	position(CASES, case) << 16
		| position(&GuestMode::ALL, &mode) << 8
		| position(&Column::ALL, &column)
}

/// The cell that has this number.
pub fn cell(tag: u64) -> Option<(&'static Case, GuestMode, Column)> {
	let index = |shift: u32| (tag >> shift & 0xff) as usize;
	if tag >> 24 != 0 {
		return None;
	}
	Some((
		CASES.get(index(16))?,
		*GuestMode::ALL.get(index(8))?,
		*Column::ALL.get(index(0))?,
	))
}

#[cfg(test)]
mod tests {
	use super::*;
	use protocol::{map, private};
	use std::collections::{BTreeMap, BTreeSet};

	#[test]
	fn names_are_unique_and_lead_back() {
		let mut names = BTreeSet::new();
		for case in CASES {
			assert!(names.insert(case.name), "two cases are {}", case.name);
			assert_eq!(Case::from_name(case.name), Some(case));
		}
		assert_eq!(Case::from_name("h_nothing"), None);
	}

	#[test]
	fn groups_are_together() {
		let mut groups: Vec<_> = CASES.iter().map(|case| case.group.title()).collect();
		groups.dedup();
		let different: BTreeSet<_> = groups.iter().collect();
		assert_eq!(different.len(), groups.len(), "{groups:?}");
	}

	#[test]
	fn names_tell_the_entries() {
		for case in CASES {
			let entries: Option<u64> = case
				.name
				.strip_prefix("h_put_tce_indirect_")
				.or(case.name.strip_prefix("h_stuff_tce_"))
				.map(|entries| entries.parse().expect("a number"));
			if let Some(entries) = entries {
				assert_eq!(case.args[3], entries, "{}", case.name);
			}
		}
	}

	#[test]
	fn names_tell_the_tables() {
		let mut found = 0;
		for case in CASES {
			let Setup::Tables(tables) = case.setup else {
				continue;
			};
			found += 1;
			let size = match tables.entries << map::TCE_SHIFT {
				0x1000 => "4k",
				0x4000_0000 => "1g",
				_ => "?",
			};
			let expected = format!("_{}x{size}", tables.count);
			assert!(case.name.ends_with(&expected), "{}", case.name);
			assert_eq!(
				(case.args[1] >> map::TCE_SHIFT) + 1,
				tables.entries,
				"not the last entry"
			);
		}
		assert_eq!(found, 8);
	}

	#[test]
	fn only_interrupts_have_vectors() {
		let with: Vec<_> = CASES
			.iter()
			.filter(|case| case.body.vector() != 0)
			.map(|case| case.name)
			.collect();
		assert_eq!(with, ["h_cede", "doorbell"]);
	}

	#[test]
	fn one_number_has_one_fast_handler() {
		let mut counters = BTreeMap::new();
		for case in CASES
			.iter()
			.filter(|case| case.body == LoopBody::HCALL && case.setup != Setup::NoGuest)
		{
			let known = *counters.entry(case.number.0).or_insert(case.fast);
			assert_eq!(known, case.fast, "{}", case.name);
		}
		assert!(counters.values().any(Option::is_some));
		assert!(counters.values().any(Option::is_none));
	}

	#[test]
	fn evidence_fits_the_setup() {
		for case in CASES {
			let name = case.name;
			for evidence in case.evidence {
				let fits = match evidence {
					Evidence::Entries(_) => case.setup == Setup::Window,
					Evidence::LastEntry => matches!(case.setup, Setup::Tables(_)),
					Evidence::Signals => matches!(case.setup, Setup::Event { .. }),
					Evidence::TimerExits => case.setup == Setup::Timers,
					Evidence::EndedRuns => case.setup == Setup::Signals,
					Evidence::Pages => case.setup == Setup::FreshPages,
					Evidence::UserHcalls => {
						case.body == LoopBody::HCALL && case.number == private::UNKNOWN
					}
					Evidence::UserStores => case.body == LoopBody::STORE,
					Evidence::UserLoads => case.body == LoopBody::LOAD,
					Evidence::CiabrCleared => case.number == Number::SET_MODE,
					Evidence::LastR4(_) => {
						case.body == LoopBody::HCALL || case.body.hptes_before() > 0
					}
					Evidence::NewR4 => case.body == LoopBody::HCALL,
					Evidence::LastIndex => case.body == LoopBody::ENTER,
				};
				assert!(fits, "{name}: {evidence:?}");
			}
			// What a setup makes possible to see has to be looked at.
			let needs = match case.setup {
				Setup::Window | Setup::Tables(_) => {
					case.leaves(Evidence::LastEntry)
						|| case
							.evidence
							.iter()
							.any(|e| matches!(e, Evidence::Entries(_) | Evidence::LastR4(_)))
				}
				Setup::Event { .. } => case.leaves(Evidence::Signals),
				Setup::Timers => case.leaves(Evidence::TimerExits),
				Setup::Signals => case.leaves(Evidence::EndedRuns),
				Setup::FreshPages => case.leaves(Evidence::Pages),
				_ => true,
			};
			assert!(needs, "{name}: no evidence of {:?}", case.setup);
		}
	}

	#[test]
	fn hcalls_done_before_are_enabled() {
		// KVM enables these without being asked.
		let default = [Number::PUT_TCE, Number::GET_TCE];
		for case in CASES {
			let Some(before) = case.before else { continue };
			assert!(
				case.enable.contains(&before.number) || default.contains(&before.number),
				"{}",
				case.name
			);
		}
	}

	#[test]
	fn a_part_of_the_exits_may_be_shared() {
		let [decrementer, null] = [case!("decrementer"), case!("null")];
		assert_eq!((decrementer.exits(160), null.exits(160)), (140, 160));
		assert_eq!(decrementer.exits(15), 15);
	}

	#[test]
	fn every_cell_has_a_number_of_its_own() {
		for case in CASES {
			for mode in GuestMode::ALL {
				for column in Column::ALL {
					assert_eq!(cell(tag(case, mode, column)), Some((case, mode, column)));
				}
			}
		}
		for wrong in [0xff, 0xff00, 0xff_0000, 1 << 24, u64::MAX] {
			assert_eq!(cell(wrong), None);
		}
	}
}
