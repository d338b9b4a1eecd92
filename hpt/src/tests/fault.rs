// SPDX-License-Identifier: GPL-2.0-only
//! Faults on pages that H_ENTER put into the table, and on others.

use proptest::prelude::*;

use super::fake::{Fake, Host, Obstacle};
use crate::fault::{Fault, KEY_FAULT, NO_HPTE, Owner, PROTECTION, STORE, owner};
use crate::hcalls::{self, EXACT};

const ENTRIES: u64 = 256;

/// A page of a guest: where it is in the virtual address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Virtual {
	is_1tb: bool,
	vsid: u64,
	/// Logarithm of the page size, of the segment and of the page.
	shift: u32,
	/// Number of the page in the segment.
	page: u64,
}

impl Virtual {
	/// As an SLB entry has the segment.
	fn segment(self) -> u64 {
		let size = match self.shift {
			12 => 0,
			16 => 0x110,
			_ => 0x100,
		};
		match self.is_1tb {
			true => 1 << 62 | self.vsid << 24 | size,
			false => self.vsid << 12 | size,
		}
	}

	/// The hash of Power ISA 3.0B, Book III, 5.7.9.3.
	fn hash(self) -> u64 {
		let vsid = match self.is_1tb {
			true => self.vsid ^ self.vsid << 25,
			false => self.vsid,
		};
		vsid ^ self.page
	}

	/// The first doubleword of its HPTE.
	fn v(self) -> u64 {
		let address = u128::from(self.vsid) << if self.is_1tb { 40 } else { 28 }
			| u128::from(self.page) << self.shift;
		let avpn = (address >> 23) as u64;
		let large = if self.shift > 12 { 4 } else { 0 };
		avpn << 7 | large | 1 | u64::from(self.is_1tb) << 62
	}

	/// Its index in the primary or secondary group.
	fn index(self, secondary: bool, place: u64) -> u64 {
		let groups = ENTRIES / 8 - 1;
		let hash = if secondary { !self.hash() } else { self.hash() };
		(hash & groups) << 3 | place
	}

	fn fault(self, offset: u64, status: u32) -> Fault {
		Fault {
			address: self.page << self.shift | offset & ((1 << self.shift) - 1),
			segment: self.segment(),
			status,
			is_fetch: false,
			is_problem_state: false,
			amr: None,
		}
	}
}

fn a_page() -> impl Strategy<Value = Virtual> {
	let shift = prop_oneof![Just(12), Just(16), Just(24)];
	// Few, so that pages share groups and upper bits.
	(any::<bool>(), 0..4_u64, shift, 0..16_u64, any::<bool>()).prop_map(
		|(is_1tb, vsid, shift, page, is_high)| Virtual {
			is_1tb,
			vsid: vsid << 3 | 0x12_0000,
			shift,
			page: if is_high {
				page
			} else {
				page << 11 & ((1 << (28 - shift)) - 1)
			},
		},
	)
}

/// A table with these pages, each in slot 0 of the guest's memory or, if it is not `present`, in a
/// part that the host has nothing behind. The second doubleword has `bits`.
fn table(pages: &[(Virtual, bool, bool)], bits: u64) -> (Fake, Vec<(Virtual, u64)>) {
	let host = |kind| Host {
		kind,
		is_writable: true,
	};
	// Pages of 16 MiB come from the fourth slot.
	let fake = Fake::new(ENTRIES as usize, vec![host(4)], false);
	let mut entered: Vec<(Virtual, u64)> = vec![];
	for &(page, secondary, present) in pages {
		if entered.iter().any(|(other, _)| *other == page) {
			continue;
		}
		fake.host
			.lock()
			.unwrap()
			.fill(host(if present { 4 } else { 1 }));
		let size = match page.shift {
			12 => 0,
			16 => 0x1000,
			_ => 0,
		};
		let r = 0x100_0000 | size | bits | 0x10;
		let v = page.v() | if secondary { 2 } else { 0 };
		let free = (0..8).find_map(|place| {
			let index = page.index(secondary, place);
			hcalls::enter(&fake, EXACT, index, v, r).ok()
		});
		if let Some(index) = free {
			entered.push((page, index));
		}
	}
	(fake, entered)
}

proptest! {
	/// What H_ENTER put there is found, and nothing else is.
	#[test]
	fn a_fault_finds_what_was_entered(
		pages in prop::collection::vec((a_page(), any::<bool>(), any::<bool>()), 1..40),
		others in prop::collection::vec(a_page(), 20),
		offset in any::<u64>(),
	) {
		let (fake, entered) = table(&pages, 2);
		let before = fake.snapshot();
		for page in others.into_iter().chain(entered.iter().map(|(page, _)| *page)) {
			let found = entered.iter().find(|(other, _)| *other == page);
			let is_valid = found.map(|(_, index)| fake.table[*index as usize].v() & 1 != 0);
			let missing = match is_valid {
				None => Owner::Guest(NO_HPTE | STORE),
				Some(true) => Owner::Nobody,
				Some(false) => Owner::Host,
			};
			prop_assert_eq!(owner(&fake, page.fault(offset, NO_HPTE | STORE)), missing);
			let protected = match is_valid {
				Some(true) => Owner::Host,
				_ => Owner::Nobody,
			};
			prop_assert_eq!(owner(&fake, page.fault(offset, PROTECTION | STORE)), protected);
		}
		prop_assert_eq!(fake.snapshot(), before);
	}

	/// Any fault on any table: no panic, and nothing changes.
	#[test]
	fn any_fault_is_survived(
		pages in prop::collection::vec((a_page(), any::<bool>(), any::<bool>()), 0..20),
		address in any::<u64>(),
		segment in any::<u64>(),
		status in any::<u32>(),
		is_fetch in any::<bool>(),
		is_problem_state in any::<bool>(),
		amr in any::<Option<u64>>(),
	) {
		let (fake, _) = table(&pages, 2);
		let before = fake.snapshot();
		let fault = Fault { address, segment, status, is_fetch, is_problem_state, amr };
		if !matches!(owner(&fake, fault), Owner::Guest(_)) {
			prop_assert!(status & (NO_HPTE | PROTECTION) != 0);
		}
		prop_assert_eq!(fake.snapshot(), before);
	}
}

const PAGE: Virtual = Virtual {
	is_1tb: false,
	vsid: 0x12_3456,
	shift: 16,
	page: 7,
};

/// Whose a protection fault is, on a page whose second doubleword has these bits.
fn protection(bits: u64, change: impl Fn(&mut Fault)) -> Owner {
	let (fake, entered) = table(&[(PAGE, false, true)], bits);
	assert_eq!(entered.len(), 1);
	let mut fault = PAGE.fault(0x123, PROTECTION);
	change(&mut fault);
	owner(&fake, fault)
}

#[test]
fn protection_is_that_of_the_architecture() {
	/// PP, and what is allowed: without the key load and store, with the key load and store.
	/// Power ISA 3.0B, Book III, 5.7.12.1.
	const TABLE: [(u64, [bool; 4]); 5] = [
		(0, [true, true, false, false]),
		(1, [true, true, true, false]),
		(2, [true, true, true, true]),
		(3, [true, false, true, false]),
		(1 << 63 | 2, [true, false, false, false]),
	];
	for (pp, allowed) in TABLE {
		for (number, allowed) in allowed.into_iter().enumerate() {
			let (key, store) = (number & 2 != 0, number & 1 != 0);
			let status = PROTECTION | if store { STORE } else { 0 };
			// The key is another for privileged and for problem state.
			for (is_problem_state, bit) in [(false, 0x800), (true, 0x400)] {
				let found = protection(pp, |fault| {
					fault.status = status;
					fault.is_problem_state = is_problem_state;
					fault.segment |= if key { bit } else { 0xc00 & !bit };
				});
				let expected = match allowed {
					true => Owner::Host,
					false => Owner::Guest(status),
				};
				assert_eq!(found, expected, "PP {pp:#x}, key {key}, store {store}");
			}
		}
	}
}

#[test]
fn a_fetch_leaves_only_for_an_absent_page() {
	let fetch = |present, page: Virtual, status| {
		let (fake, _) = table(&[(PAGE, false, present)], 2);
		let mut fault = page.fault(0, status);
		fault.is_fetch = true;
		owner(&fake, fault)
	};
	let other = Virtual { page: 9, ..PAGE };
	assert_eq!(fetch(false, PAGE, NO_HPTE), Owner::Host);
	assert_eq!(fetch(true, PAGE, NO_HPTE), Owner::Nobody);
	assert_eq!(fetch(true, other, NO_HPTE), Owner::Guest(NO_HPTE));
	// What is not for want of an HPTE is the guest's at once.
	assert_eq!(fetch(true, PAGE, PROTECTION), Owner::Guest(PROTECTION));
}

#[test]
fn storage_keys_forbid_what_the_amr_says() {
	// Key 13: the high two bits are in the second doubleword's bits 60 and 61.
	const BITS: u64 = 2 | 1 << 60 | 0x5 << 9;
	for (store, load) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
		let amr = (store << 1 | load) << (62 - 2 * 13);
		for (status, forbidden) in [(PROTECTION | STORE, store), (PROTECTION, load)] {
			let ask = |amr| protection(BITS, |fault| (fault.status, fault.amr) = (status, amr));
			let expected = match forbidden {
				0 => Owner::Host,
				_ => Owner::Guest(status | KEY_FAULT),
			};
			assert_eq!(ask(Some(amr)), expected);
			assert_eq!(ask(Some(!(3 << (62 - 2 * 13)))), Owner::Host);
			assert_eq!(ask(None), Owner::Host);
		}
	}
}

#[test]
fn what_is_locked_is_the_hosts() {
	let (fake, entered) = table(&[(PAGE, false, true)], 3);
	let fault = PAGE.fault(0, PROTECTION | STORE);
	for obstacle in [
		Obstacle::Hpte(entered[0].1 as usize),
		Obstacle::Rev(entered[0].1),
	] {
		fake.obstruct(obstacle);
		assert_eq!(owner(&fake, fault), Owner::Host);
		fake.clear();
		assert_eq!(owner(&fake, fault), Owner::Guest(PROTECTION | STORE));
	}
}
