// SPDX-License-Identifier: GPL-2.0-only
//! Random TCE hcalls on the C path and on the fast handlers.
//!
//! Two VMs alike, one for each path, do the same random hcalls on the same tables, and
//! have to get the same codes, the same r4 and the same entries. What is random is
//! chosen so that most hcalls do something and every check of the handlers fails now
//! and then. Meanwhile userspace does to both VMs what a handler must not miss: it
//! replaces the page that the lists are in, takes memory slots away and gives them
//! back, maps tables before or after their pages exist.

use std::sync::Arc;

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Column, GuestMode, map};

use vmm::abi::SpaprTce64;
use vmm::host;
use vmm::kvm::{Memory, Slot, TceWindow};
use vmm::machine::{Config, Failure, Machine};

use super::{
	Answers, BATCH, LIST, PAGE, PAGE_ENTRIES, Random, TCES, fast, perform, window, write_list,
};

/// Batches on the same tables.
const ROUND: u64 = 8;

/// More guest memory: slot, address, size. The last comes and goes.
const SLOTS: [(u32, u64, u64); 3] = [
	(1, 1 << 34, 1 << 20),
	(2, 0x4000_0000, PAGE),
	(3, 0x5000_0000, PAGE),
];

/// The windows that hcalls go to.
const WINDOWS: [SpaprTce64; 8] = [
	window(0x8000_0000, 12, 0, 0x3000),
	// As QEMU places the 64-bit window; more than 4 GiB.
	window(0x8000_0001, 16, 1 << 43, 0x1_1000),
	window(0x8000_0100, 24, 0, 300),
	window(0x8000_0101, 12, 0x1234, PAGE_ENTRIES + 10),
	window(0x7100_0000, 16, 3, 20),
	window(0x8000_0200, 34, 1, 600),
	window(0x8000_0201, 21, 0, 1),
	window(0xffff_ffff_0000_0000, 12, 0x10_0000, 2000),
];

/// More windows, to have 64 in all.
const OTHERS: u64 = 56;

/// Their LIOBNs.
const fn other(index: u64) -> u64 {
	0x9000_0000 | index << 8
}

impl Random {
	/// An entry for a window with that page size.
	fn tce(&mut self, page_shift: u32) -> u64 {
		let low = if self.chance(75) { 3 } else { self.below(4) };
		let page = 1 << page_shift;
		match self.below(100) {
			// A page of guest memory, or just behind its end.
			0..70 => {
				let behind = u64::from(self.chance(3));
				(self.below((map::RAM / page).max(1) + behind) * page) | low
			}
			// In another slot, aligned for all page sizes up to some.
			70..78 => self.of(&SLOTS).1 | low,
			78..81 => (self.of(&SLOTS).1 + self.below(40) * 4096) | low,
			// Behind a slot.
			81..84 => {
				let (_, start, size) = self.of(&SLOTS);
				(start + size) | low
			}
			// Misaligned for larger pages, or for all.
			84..88 => (self.below(map::RAM >> 12) << 12) | low,
			88..90 => self.below(map::RAM) | low,
			// Poison.
			90..93 => self.next() & !3,
			93..97 => 0,
			97..99 => self.next(),
			_ => self.of(&[u64::MAX, 1 << 63, 3 << 62 | 3, map::RAM | 1, 4, 1 << 60 | 2]),
		}
	}

	fn ioba(&mut self, window: &SpaprTce64) -> u64 {
		let size = window.size;
		let index = match self.below(100) {
			0..60 => self.below(size.min(32)),
			// Around the boundary of two pages of the table.
			60..75 => (PAGE_ENTRIES - 300 + self.below(310)) % size,
			75..88 => self.below(size),
			88..94 => size.saturating_sub(self.below(600)),
			94..96 => size + self.below(2),
			96..98 => 0_u64.wrapping_sub(1 + self.below(3)),
			_ => self.next(),
		};
		let ioba = window.offset.wrapping_add(index) << window.page_shift;
		match self.below(100) {
			0..95 => ioba,
			95..98 => ioba | 1 << self.below(u64::from(window.page_shift)),
			_ => self.next(),
		}
	}

	/// Where the list is: most often in the host page at `home`.
	fn list(&mut self, home: u64) -> u64 {
		let lists = map::TCE_LISTS_SIZE / LIST;
		match self.below(100) {
			0..88 => home + self.below(PAGE / LIST) * LIST,
			88..92 => map::TCE_LIST + self.below(lists) * LIST,
			92..95 => self.of(&SLOTS).1,
			95..97 => map::TCE_LIST | 1 << self.below(12),
			97..98 => map::RAM + self.below(16) * LIST,
			_ => self.next() & if self.chance(50) { !0xfff } else { !0 },
		}
	}

	fn call(&mut self, home: u64) -> Call {
		let window = &WINDOWS[self.below(WINDOWS.len() as u64) as usize];
		let liobn = match self.below(100) {
			0..92 => window.liobn,
			92..97 => other(self.below(OTHERS)),
			_ => self.of(&[0, u64::MAX, window.liobn | 1 << 40, other(OTHERS), self.0]),
		};
		let ioba = self.ioba(window);
		let (number, third, fourth) = match self.below(100) {
			0..25 => (Number::GET_TCE, self.next(), self.next()),
			25..55 => (Number::PUT_TCE, self.tce(window.page_shift), self.next()),
			55..80 => (
				Number::PUT_TCE_INDIRECT,
				self.list(home),
				self.pages(window.size),
			),
			_ => {
				let value = match self.below(10) {
					0..5 => 0,
					5..8 => self.next() & !3,
					_ => self.next(),
				};
				(Number::STUFF_TCE, value, self.pages(window.size))
			}
		};
		Call {
			number: number.0,
			args: [liobn, ioba, third, fourth],
			code: 0x5ca1_ab1e,
			r4: 0x5ca1_ab1e,
			..Call::default()
		}
	}

	/// A list for a window with that page size: mostly good to the end.
	fn entries(&mut self) -> [u64; 512] {
		let page_shift = self.of(&WINDOWS).page_shift;
		let good = self.chance(50);
		core::array::from_fn(|_| {
			if good || !self.chance(2) {
				let page = 1 << page_shift;
				(self.below((map::RAM / page).max(1)) * page) | 3
			} else {
				self.tce(page_shift)
			}
		})
	}
}

/// One of the two VMs.
// The order of the fields is the order in which they are dropped.
struct Side {
	path: Column,
	windows: Vec<TceWindow>,
	others: Vec<TceWindow>,
	_slots: [Slot; 2],
	/// The slot that comes and goes.
	coming_and_going: Option<Slot>,
	/// Its memory before: unchanged, so that an access to the wrong memory shows.
	gone: Vec<Arc<Memory>>,
	machine: Machine,
}

impl Side {
	fn new(guest: GuestMode, path: Column) -> Result<Self, Failure> {
		let machine = Machine::new(Config {
			guest,
			enable: &TCES,
			window: false,
		})?;
		let vm = machine.vm();
		let windows = WINDOWS.iter().map(|window| vm.create_window(window));
		let windows = windows.collect::<Result<_, _>>()?;
		let others = (0..OTHERS).map(|index| vm.create_window(&window(other(index), 12, 0, 64)));
		let others = others.collect::<Result<_, _>>()?;
		let [first, second, last] = SLOTS.map(|(slot, address, size)| {
			let memory = Memory::new(size as usize)?;
			machine.vm().add_memory(slot, address, memory)
		});
		Ok(Self {
			path,
			windows,
			others,
			_slots: [first?, second?],
			coming_and_going: Some(last?),
			gone: vec![],
			machine,
		})
	}

	/// Takes a memory slot away if there is one, and gives another if wanted.
	fn change_slots(&mut self, another: bool) -> Result<(), Failure> {
		if let Some(slot) = self.coming_and_going.take() {
			self.gone.push(slot.memory.clone());
		}
		if another {
			let (slot, address, size) = SLOTS[2];
			let memory = Memory::new(size as usize)?;
			let added = self.machine.vm().add_memory(slot, address, memory)?;
			self.coming_and_going = Some(added);
		}
		Ok(())
	}

	/// Does the calls on the side's path.
	fn perform(&mut self, calls: &[Call]) -> Result<(Vec<Call>, Vec<usize>), Failure> {
		host::choose(self.path).map_err(Failure::Unsupported)?;
		perform(&mut self.machine, calls)
	}
}

/// The same entries on both sides; `which` chooses the tables, and so those whose pages
/// all come into being.
fn compare(sides: &[Side; 2], which: impl Fn(usize) -> bool) -> Result<u64, Failure> {
	let mut filled = 0;
	let tables = |side: &Side, index: usize| match index.checked_sub(WINDOWS.len()) {
		None => side.windows[index].table(),
		Some(index) => side.others[index].table(),
	};
	for index in (0..WINDOWS.len() + OTHERS as usize).filter(|&index| which(index)) {
		let [c, fast] = [tables(&sides[0], index)?, tables(&sides[1], index)?];
		let different = c.iter().zip(&fast).position(|(c, fast)| c != fast);
		if let Some(entry) = different {
			return Err(Failure::Wrong(format!(
				"table {index}, entry {entry}: {:#x} instead of {:#x}",
				fast[entry], c[entry]
			)));
		}
		filled += c.iter().filter(|&&entry| entry != 0).count() as u64;
	}
	Ok(filled)
}

/// The same calls on both paths.
pub fn differential(guest: GuestMode, seed: u64, calls: u64) -> Result<String, Failure> {
	let mut random = Random(seed);
	let (mut done, mut served, mut filled, mut to_userspace) = (0, 0, 0, 0);
	let mut answers = Answers::default();
	while done < calls {
		let mut sides = [
			Side::new(guest, Column::C)?,
			Side::new(guest, Column::RustFast)?,
		];
		let mapped = random.next();
		let homes = [map::TCE_LIST, SLOTS[2].1];
		let mut home = random.of(&homes);
		for batch in 0..ROUND {
			if random.chance(25) {
				home = random.of(&homes);
			}
			if random.chance(25) {
				for side in &sides {
					let memory = side.machine.memory();
					memory.renew(map::TCE_LIST, PAGE as usize)?;
				}
			}
			if random.chance(50) {
				let another = random.chance(80);
				for side in &mut sides {
					side.change_slots(another)?;
				}
			}
			for list in 0..map::TCE_LISTS_SIZE / LIST {
				let entries = random.entries();
				for side in &sides {
					write_list(side.machine.memory(), map::TCE_LIST + list * LIST, &entries);
				}
			}
			for list in 0..PAGE / LIST {
				let entries = random.entries();
				for slot in sides
					.iter()
					.filter_map(|side| side.coming_and_going.as_ref())
				{
					write_list(&slot.memory, list * LIST, &entries);
				}
			}
			let calls: Vec<Call> = (0..BATCH).map(|_| random.call(home)).collect();
			let [c, rust] = &mut sides;
			let before = fast()?;
			let c = c.perform(&calls)?;
			let between = fast()?;
			let rust = rust.perform(&calls)?;
			served += fast()? - between;
			if between != before {
				return Err(Failure::Wrong("fast handlers on the C path".into()));
			}
			for (index, (c_call, rust_call)) in c.0.iter().zip(&rust.0).enumerate() {
				let [c_seen, rust_seen] = [&c, &rust].map(|side| side.1.contains(&index));
				answers.agree((*c_call, c_seen), (*rust_call, rust_seen), || {
					format!("batch {batch} from {done}")
				})?;
			}
			to_userspace += c.1.len();
			compare(&sides, |index| mapped >> index & 1 != 0)?;
			done += BATCH;
		}
		filled += compare(&sides, |_| true)?;
	}
	// Tests that nothing passes through would pass as well.
	if served < done / 2 || filled == 0 {
		return Err(Failure::Wrong(format!(
			"only {served} of {done} hcalls served fast, {filled} entries written"
		)));
	}
	answers.cover(done, &[Code::SUCCESS, Code::PARAMETER, Code::FUNCTION])?;
	Ok(format!(
		"{done} hcalls, {served} fast, {to_userspace} to userspace, {filled} entries at the end"
	))
}
