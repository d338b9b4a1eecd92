// SPDX-License-Identifier: GPL-2.0-only
//! The evidence that a figure is the case's.
//!
//! A figure is worth nothing if the guest did something else than the case's name says. The
//! guest compares r3 after every round trip, the kernel's counters tell which code served
//! it ([`check_served`]), and what the round trips have to leave behind is in the case's row
//! ([`cases::Evidence`]; [`Scene::check`]).

use cases::{Case, Evidence, Served, ServedBy, Setup};
use protocol::{Column, Outcome, hpte, map};
use vmm::machine::{Failure, Machine};
use vmm::{abi, host};

use crate::scene::{FRESH_SIZE, Scene, Seen, wrong};

/// The state when the measurement begins.
pub struct Before {
	pub served: Option<Served>,
	pub reasons: Vec<(String, u64)>,
	pub decrementer_exits: u64,
	pub last_r4: u64,
}

/// Checks that the column's code served the round trips, and returns how many fast
/// handlers answered, where that is counted.
pub fn check_served(
	state: &Before,
	case: &Case,
	column: Column,
	rounds: u64,
) -> Result<Option<u64>, Failure> {
	let (Some(before), Some(after)) = (state.served, host::served(case)) else {
		return Ok(None);
	};
	let served = Served {
		fast: after.fast - before.fast,
		also_fast: after.also_fast - before.also_fast,
		other_fast: after.other_fast - before.other_fast,
		rust: after.rust - before.rust,
		c: after.c - before.c,
	};
	match served.judge(case, column, rounds) {
		ServedBy::Column => Ok(Some(served.fast)),
		ServedBy::C => {
			let mut reasons = host::reasons();
			reasons.retain(|reason| !state.reasons.contains(reason));
			let names: Vec<_> = reasons.into_iter().map(|(name, _)| name).collect();
			let names = names.join(", ");
			Err(Failure::Unsupported(format!(
				"the C path enters these guests (counter {names})"
			)))
		}
		ServedBy::Other => wrong(format!(
			"of {rounds} round trips {} were answered by the case's fast handler and {} by \
			 others, with {} entries by Rust and {} by C",
			served.fast, served.other_fast, served.rust, served.c
		)),
	}
}

impl Scene {
	/// Checks that the round trips left behind what the row says, and no more.
	pub fn check(
		&mut self,
		before: &Before,
		outcome: &Outcome,
		seen: &Seen,
		iterations: u64,
		rounds: u64,
	) -> Result<(), Failure> {
		let case = self.case;
		let all_if = |condition: bool| if condition { rounds } else { 0 };
		let counts = [
			("hcalls", seen.hcalls, Evidence::UserHcalls),
			("stores", seen.stores, Evidence::UserStores),
			("loads", seen.loads, Evidence::UserLoads),
		];
		for (what, came, evidence) in counts {
			let expected = all_if(case.leaves(evidence));
			if came != expected {
				return wrong(format!(
					"{came} instead of {expected} {what} reached userspace"
				));
			}
		}
		let interrupts = all_if(case.body.vector() != 0);
		if outcome.interrupts != interrupts {
			let taken = outcome.interrupts;
			return wrong(format!(
				"the guest took {taken} interrupts instead of {interrupts}"
			));
		}
		for &evidence in case.evidence {
			self.check_one(evidence, before, outcome, seen, iterations, rounds)?;
		}
		Ok(())
	}

	fn check_one(
		&mut self,
		evidence: Evidence,
		before: &Before,
		outcome: &Outcome,
		seen: &Seen,
		iterations: u64,
		rounds: u64,
	) -> Result<(), Failure> {
		match evidence {
			// Scene::check() has compared the counts, of every case.
			Evidence::UserHcalls | Evidence::UserStores | Evidence::UserLoads => Ok(()),
			Evidence::LastR4(expected) => match outcome.last_r4 {
				found if found == expected => Ok(()),
				found => wrong(format!("found {found:#x} instead of {expected:#x}")),
			},
			Evidence::LastIndex => match outcome.last_r4 {
				found if found == hpte::FIRST + iterations - 1 => Ok(()),
				found => wrong(format!("found index {found:#x} after {iterations} HPTEs")),
			},
			Evidence::NewR4 => match outcome.last_r4 {
				found if found == before.last_r4 => {
					wrong(format!("{found:#x} twice is not random"))
				}
				_ => Ok(()),
			},
			Evidence::Entries(count) => check_entries(count, &self.machine.table()?),
			Evidence::LastEntry => self.check_last_entry(),
			Evidence::CiabrCleared => match self.machine.vcpu().one_reg(abi::KVM_REG_PPC_CIABR)? {
				0 => Ok(()),
				ciabr => wrong(format!("CIABR is {ciabr:#x}")),
			},
			Evidence::Signals => {
				let signals = match &self.event {
					Some(event) => event.take()?,
					None => 0,
				};
				if signals == rounds {
					Ok(())
				} else {
					wrong(format!(
						"the eventfd was signalled {signals} times, not {rounds}"
					))
				}
			}
			Evidence::TimerExits => {
				let exits = host::decrementer_exits()? - before.decrementer_exits;
				// The host's own ticks come on top.
				let expected = self.case.exits(rounds)..=rounds + rounds / 4 + 8;
				if self.timers == rounds && expected.contains(&exits) {
					Ok(())
				} else {
					wrong(format!(
						"{} of {rounds} timers went off, and made {exits} exits",
						self.timers
					))
				}
			}
			Evidence::EndedRuns => {
				let expected = self.case.exits(rounds)..=rounds;
				if self.timers == rounds && expected.contains(&seen.signals) {
					Ok(())
				} else {
					wrong(format!(
						"{} of {rounds} timers went off, and ended KVM_RUN {} times",
						self.timers, seen.signals
					))
				}
			}
			Evidence::Pages => {
				let page = |index| map::FRESH + index * map::FRESH_PAGE;
				let lost = (0..iterations)
					.filter(|&index| {
						self.machine.memory().read::<u64>(page(index)) != map::FRESH_VALUE
					})
					.count();
				match lost {
					0 => Ok(()),
					_ => wrong(format!("{lost} of {iterations} stores are lost")),
				}
			}
		}
	}

	/// The last entry of the first table is what was put there, and all else is empty.
	fn check_last_entry(&self) -> Result<(), Failure> {
		let Setup::Tables(tables) = self.case.setup else {
			return wrong("the case has no tables of its own".to_owned());
		};
		let last = tables.entries as usize - 1;
		for (number, window) in self.windows.iter().enumerate() {
			let table = window.table()?;
			let expected = if number == 0 { map::tce(0) } else { 0 };
			if table[last] != expected || table[..last].iter().any(|&entry| entry != 0) {
				return wrong(format!("table {number} is not as it should be"));
			}
			// Reading a table allocates its pages: of the large ones, one is enough.
			if last > 0 {
				break;
			}
		}
		Ok(())
	}
}

/// Whether the host has memory in exactly so many of the fresh pages.
pub fn check_fresh(machine: &Machine, pages: u64) -> Result<(), Failure> {
	let has = machine.memory().resident(map::FRESH, FRESH_SIZE)? as u64;
	if has == pages * map::FRESH_PAGE {
		Ok(())
	} else {
		wrong(format!("{has} bytes are there instead of {pages} pages"))
	}
}

/// Whether the table's first entries, so many, are the list's, and all others 0.
fn check_entries(count: usize, table: &[u64]) -> Result<(), Failure> {
	let expected = |index: usize| match index {
		index if index < count => map::tce(index as u64),
		_ => 0,
	};
	match (0..table.len()).find(|&index| table[index] != expected(index)) {
		None => Ok(()),
		Some(index) => wrong(format!(
			"entry {index} is {:#x} instead of {:#x}",
			table[index],
			expected(index)
		)),
	}
}

/// Whether a load or store of the guest looks right to userspace.
pub fn check_access(access: &abi::Mmio) -> Result<(), Failure> {
	let stored = access.is_write == 0 || access.data[..4] == map::MMIO_VALUE.to_le_bytes()[..4];
	if access.phys_addr == map::MMIO_USER && access.len == 4 && stored {
		Ok(())
	} else {
		wrong(format!("not the guest's access: {access:x?}"))
	}
}
