// SPDX-License-Identifier: GPL-2.0-only
//! Tests of the page table hcalls of hash guests: the C path against the fast handlers, or against the
//! same code on the full path.
//!
//! Two VMs alike, one for each path, do the same random hcalls in the same groups of their page
//! tables (HPTs), and have to get the same codes, the same registers and the same HPTEs. Meanwhile
//! userspace takes pages of the guest away: all HPTEs of such a page have to become absent, which
//! shows that the handlers have linked each one into the chain of its page.

use std::collections::BTreeMap;

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Column, GuestMode, map};

use vmm::host;
use vmm::kvm::{Memory, Slot};
use vmm::machine::{Config, Failure, Machine};

use crate::tce::{BATCH, PAGE, Random, perform};

pub use allocate::allocation_fails;
pub use bits::bits;
pub use hammer::hammer;

mod allocate;
mod bits;
mod changes;
mod hammer;

/// Batches on the same tables.
const ROUND: u64 = 12;

/// The hcalls, each with how often it is made in 100.
const HCALLS: [(Number, u64); 7] = [
	(Number::ENTER, 40),
	(Number::REMOVE, 12),
	(Number::BULK_REMOVE, 10),
	(Number::PROTECT, 14),
	(Number::READ, 10),
	(Number::CLEAR_REF, 7),
	(Number::CLEAR_MOD, 7),
];

/// Memory that HPTEs name: slot, address, size. The second has room for pages of 16 MiB.
const SLOTS: [(u32, u64, u64); 2] = [(1, 1 << 34, 16 * PAGE), (2, 1 << 35, 32 << 20)];

/// HPTEs of an HPT.
const ENTRIES: u64 = 1 << (map::HPT_ORDER - 4);
/// HPTEs of a group.
const GROUP: u64 = 8;
/// Groups that hcalls go to: few, so that they become full.
const GROUPS: usize = 6;

const V_VALID: u64 = 1;
/// The real page number of an HPTE, by pages of the host. The VMs have different pages.
const REAL_PAGE: u64 = 0x01ff_ffff_ffff_0000;

const EXACT: u64 = 1 << 39;
const READ_4: u64 = 1 << 37;
const AVPN: u64 = 1 << 31;
const ANDCOND: u64 = 1 << 30;

/// An HPTE: what the MMU has, and the guest's second doubleword.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hpte {
	v: u64,
	r: u64,
	guest_r: u64,
}

/// The HPTEs that are in use, by index.
type Table = BTreeMap<u64, Hpte>;

/// One of the two VMs.
// The order of the fields is the order in which they are dropped.
struct Side {
	path: Column,
	slots: [Slot; 2],
	machine: Machine,
}

impl Side {
	fn new(guest: GuestMode, path: Column) -> Result<Self, Failure> {
		let machine = Machine::new(Config {
			guest,
			enable: &[Number::CLEAR_MOD, Number::CLEAR_REF],
			window: false,
		})?;
		let [first, second] = SLOTS.map(|(slot, address, size)| {
			let memory = Memory::new(size as usize)?;
			machine.vm().add_memory(slot, address, memory)
		});
		Ok(Self {
			path,
			slots: [first?, second?],
			machine,
		})
	}

	fn perform(&mut self, calls: &[Call]) -> Result<Vec<Call>, Failure> {
		host::choose(self.path).map_err(Failure::Unsupported)?;
		let (done, to_userspace) = perform(&mut self.machine, calls)?;
		if !to_userspace.is_empty() {
			return Err(Failure::Wrong(
				"a page table hcall reached userspace".into(),
			));
		}
		Ok(done)
	}

	/// The HPT, as debugfs shows it.
	fn table(&self) -> Result<Table, Failure> {
		let file = format!("{}/htab", self.machine.vm().debugfs());
		let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
		let entry = |line: &str| {
			let mut words = line
				.split_whitespace()
				.map(|word| u64::from_str_radix(word, 16).ok());
			let mut next = || words.next().flatten();
			let (index, v, r, guest_r) = (next()?, next()?, next()?, next()?);
			Some((index, Hpte { v, r, guest_r }))
		};
		let entries: Option<Table> = text.lines().map(entry).collect();
		entries.ok_or_else(|| Failure::Wrong(format!("{file}: not as expected")))
	}

	/// Takes all pages away that HPTEs name, and looks whether one is still valid.
	fn take_pages(&self) -> Result<(), Failure> {
		for (slot, (_, _, size)) in self.slots.iter().zip(SLOTS) {
			slot.memory.renew(0, size as usize)?;
		}
		if has_pages(&self.table()?) {
			let path = self.path.name();
			let why = format!("{path}: HPTEs of pages that were taken away");
			return Err(Failure::Wrong(why));
		}
		Ok(())
	}

	/// Has the host make some pages of the memory. Always some of each 2 MiB: both processes have
	/// page tables for all of the memory then, wherever it is.
	fn make_pages(&self, random: &mut Random) {
		for (slot, (_, _, size)) in self.slots.iter().zip(SLOTS) {
			let touch = |address| slot.memory.write(address, 1_u64);
			(0..size).step_by(1 << 20).for_each(touch);
			touch(size - PAGE);
			for _ in 0..6 {
				touch(random.below(size.min(1 << 22) / PAGE) * PAGE);
			}
		}
	}
}

/// An index: most often in one of the groups, and never of an HPTE that the guest needs.
fn index(random: &mut Random, groups: &[u64]) -> u64 {
	match random.below(100) {
		0..92 => random.of(groups) * GROUP + random.below(GROUP),
		92..94 => ENTRIES + random.below(2),
		94..96 => random.of(&[1 << 32, 1 << 55, u64::MAX, u64::MAX - 7, 1 << 63]),
		_ => ENTRIES | random.next(),
	}
}

/// A first doubleword: few AVPNs, so that some match.
fn v(random: &mut Random) -> u64 {
	match random.below(100) {
		0..90 => {
			let large = if random.chance(70) { 4 } else { 0 };
			let b = random.of(&[0, 0, 1, 1, 2]);
			b << 62 | random.below(4) << 40 | random.below(4) << 7 | random.below(128) & !4 | large
		}
		_ => random.next() & !(1 << 63),
	}
}

/// A second doubleword.
fn r(random: &mut Random) -> u64 {
	let address = match random.below(100) {
		0..60 => SLOTS[0].1 + random.below(17) * PAGE,
		60..80 => SLOTS[1].1 + random.below(64) * PAGE,
		80..84 => SLOTS[1].1 + random.below(3) * (16 << 20),
		84..94 => map::MMIO_USER & !0xffff,
		_ => random.next() & 0x0fff_ffff_ffff_0000,
	};
	let size = random.of(&[0x1000, 0x1000, 0x1000, 0x7000, 0x8000, 0x3_8000, 0, 0x3000]);
	let low = random.below(0x1000);
	let low = if random.chance(85) {
		low & !0x78 | 0x10
	} else {
		low
	};
	let high = if random.chance(30) {
		random.next() & 0xf << 60
	} else {
		0
	};
	address | size | low | high
}

fn call(random: &mut Random, groups: &[u64]) -> Call {
	let mut choice = random.below(100);
	let hcalls = HCALLS.iter().find(|(_, weight)| {
		let is_this = choice < *weight;
		choice = choice.wrapping_sub(*weight);
		is_this
	});
	let number = hcalls.expect("the weights are 100").0;
	let at = index(random, groups);
	let flags = match random.below(10) {
		0..3 => 0,
		3 => EXACT,
		4 => READ_4,
		5 => AVPN,
		6 => ANDCOND,
		7 | 8 => random.below(0x1000),
		_ => random.next(),
	};
	let avpn = match random.below(6) {
		0..4 => v(random) & !0x7f,
		4 => 1 << random.below(8),
		_ => random.next(),
	};
	let (args, more) = match number {
		Number::ENTER => ([flags, at, v(random), r(random)], [0; 4]),
		Number::BULK_REMOVE => {
			let mut words = [0; 8];
			for pair in words.as_chunks_mut::<2>().0 {
				let kind = random.of(&[0x40, 0x40, 0x41, 0x42]);
				pair[0] = match random.below(20) {
					0..17 => kind << 56 | index(random, groups) & 0xff_ffff_ffff_ffff,
					17 => 0xc0 << 56,
					18 => kind << 56 | (random.of(groups) * GROUP),
					// Only what is beyond the table, or no request.
					_ => random.next() | ENTRIES,
				};
				pair[1] = v(random) & !0x7f;
			}
			let [a, b, c, d, e, f, g, h] = words;
			([a, b, c, d], [e, f, g, h])
		}
		_ => ([flags, at, avpn, random.next()], [0; 4]),
	};
	Call {
		number: number.0,
		args,
		more,
		..Call::default()
	}
}

/// What H_READ must not tell: what is left in an HPTE that is not in use.
fn leftover(call: &Call) -> Option<[u64; 2]> {
	if call.number != Number::READ.0 || call.code != 0 {
		return None;
	}
	let mut words = [call.r4; 8];
	words[1..].copy_from_slice(&call.results);
	let count = if call.args[0] & READ_4 != 0 { 4 } else { 1 };
	let read = words.as_chunks::<2>().0.iter().take(count);
	let is_left = |&[v, r]: &[u64; 2]| v & V_VALID == 0 && (v, r) != (0, 0);
	read.copied().find(is_left)
}

/// The same HPTEs in these groups on both sides; hardware writes R and C of others. Returns them.
fn compare(sides: &[Side; 2], groups: &[u64]) -> Result<Table, Failure> {
	let [mut c, mut rust] = [sides[0].table()?, sides[1].table()?];
	for table in [&mut c, &mut rust] {
		table.retain(|index, _| groups.contains(&(index / GROUP)));
	}
	let comparable = |table: &Table| -> Table {
		let without = |hpte: &Hpte| Hpte {
			r: hpte.r & !REAL_PAGE,
			..*hpte
		};
		let entries = table.iter().map(|(index, hpte)| (*index, without(hpte)));
		entries.collect()
	};
	let [c_alike, rust_alike] = [comparable(&c), comparable(&rust)];
	if c_alike != rust_alike {
		let indexes = c.keys().chain(rust.keys());
		let different = indexes
			.filter(|index| c_alike.get(index) != rust_alike.get(index))
			.min()
			.expect("they differ");
		return Err(Failure::Wrong(format!(
			"HPTE {different:#x}: {:x?} instead of {:x?}",
			rust.get(different),
			c.get(different)
		)));
	}
	Ok(rust)
}

/// Whether a valid HPTE names a page of the slots.
fn has_pages(table: &Table) -> bool {
	table.values().any(|hpte| {
		let address = hpte.guest_r & 0x0fff_ffff_ffff_0000;
		let is_there = |&(_, start, size): &(u32, u64, u64)| address.wrapping_sub(start) < size;
		hpte.v & V_VALID != 0 && SLOTS.iter().any(is_there)
	})
}

/// Groups that none of the tables uses.
fn free_groups(sides: &[Side; 2]) -> Result<Vec<u64>, Failure> {
	let [c, rust] = [sides[0].table()?, sides[1].table()?];
	let is_free = |group: &u64| {
		let range = group * GROUP..(group + 1) * GROUP;
		c.range(range.clone()).next().is_none() && rust.range(range).next().is_none()
	};
	let groups: Vec<u64> = (0..ENTRIES / GROUP)
		.filter(is_free)
		.step_by(3)
		.take(GROUPS)
		.collect();
	if groups.len() < GROUPS || c.is_empty() {
		return Err(Failure::Wrong(format!(
			"{} free groups, {} HPTEs of the guest",
			groups.len(),
			c.len()
		)));
	}
	Ok(groups)
}

/// Hcalls that fast handlers answered so far, and page table hcalls that Rust answered on the full path.
fn answered() -> Result<[u64; 2], Failure> {
	let none = || "no counters".to_owned();
	Ok([
		host::fast_total().ok_or_else(none)?,
		host::full_page_table().ok_or_else(none)?,
	])
}

/// The same calls on the C path and on a Rust path.
pub fn differential(
	guest: GuestMode,
	path: Column,
	seed: u64,
	calls: u64,
) -> Result<String, Failure> {
	let mut random = Random(seed);
	let (mut done, mut fast, mut full, mut valid, mut taken_away) = (0, 0, 0, 0, 0);
	let mut answers: BTreeMap<(u64, i64), u64> = BTreeMap::new();
	while done < calls {
		let mut sides = [Side::new(guest, Column::C)?, Side::new(guest, path)?];
		// The first run makes the HPTEs that the guest needs.
		let harmless = Call {
			number: Number::READ.0,
			..Call::default()
		};
		for side in &mut sides {
			side.perform(&[harmless])?;
		}
		let groups = free_groups(&sides)?;
		for batch in 0..ROUND {
			if random.chance(30) {
				taken_away += u64::from(has_pages(&sides[1].table()?));
				for side in &sides {
					side.take_pages()?;
				}
			}
			let same = random.next();
			for side in &sides {
				side.make_pages(&mut Random(same));
			}
			let calls: Vec<Call> = (0..BATCH).map(|_| call(&mut random, &groups)).collect();
			let c = sides[0].perform(&calls)?;
			let before = answered()?;
			let rust = sides[1].perform(&calls)?;
			let after = answered()?;
			fast += after[0] - before[0];
			full += after[1] - before[1];
			for (index, (&c, &rust)) in c.iter().zip(&rust).enumerate() {
				for (path, call) in [(Column::C, &c), (path, &rust)] {
					if let Some([v, r]) = leftover(call) {
						return Err(Failure::Wrong(format!(
							"{}: H_READ of an HPTE that is not in use: {v:#x}, {r:#x}",
							path.name()
						)));
					}
				}
				if c != rust {
					return Err(Failure::Wrong(format!(
						"call {index} of batch {batch} from {done}: {rust:x?} instead of {c:x?}"
					)));
				}
				*answers.entry((c.number, c.code as i64)).or_insert(0) += 1;
			}
			let table = compare(&sides, &groups)?;
			valid += table.values().filter(|hpte| hpte.v & V_VALID != 0).count();
			done += BATCH;
		}
	}
	// Tests that nothing passes through would pass as well.
	let is_by_rust = match path {
		Column::RustFast => fast >= done * 9 / 10,
		_ => fast == 0 && full >= done * 9 / 10,
	};
	if !is_by_rust || valid == 0 || taken_away == 0 {
		return Err(Failure::Wrong(format!(
			"of {done} hcalls {fast} fast and {full} by Rust on the full path, {valid} HPTEs valid after \
			 a batch, {taken_away} times taken away"
		)));
	}
	for (number, _) in HCALLS {
		for code in [Code::SUCCESS, Code::PARAMETER] {
			if answers.get(&(number.0, code.0)).copied().unwrap_or(0) < done / 1000 {
				let (number, code) = (number.0, code.0);
				return Err(Failure::Wrong(format!(
					"too few calls of {number:#x} with code {code}: {answers:?}"
				)));
			}
		}
	}
	Ok(format!(
		"{done} hcalls, {fast} fast, {full} by Rust on the full path, {valid} valid HPTEs after batches, \
		 pages taken away {taken_away} times"
	))
}
