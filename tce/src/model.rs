// SPDX-License-Identifier: GPL-2.0-only
//! What the tests hold the bodies against: a world for them to run in, and a model
//! of the C handlers that takes one entry at a time and knows no tricks.

use core::cell::{Cell, OnceCell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};

use hcall::Code;
use proptest::prelude::*;

use crate::body::{self, Guest, List, MAX_ENTRIES, Range, Table};
use crate::{Tce, Window};

/// Entries of a page of the table, as with 4 KiB pages: the least that a body allows.
const PAGE: u64 = 512;

/// What there is at first.
#[derive(Clone, Debug)]
pub struct Setup {
	/// The window.
	pub window: Window,
	/// Which pages of the table exist.
	pub present: Vec<bool>,
	/// The table is attached to hardware.
	pub hardware: bool,
	/// The guest's memory slots.
	pub memory: Vec<Range>,
	/// Lists below this address can be read at once.
	pub readable: u64,
	/// The instance can make pages and read every list.
	pub full: bool,
}

impl Default for Setup {
	fn default() -> Self {
		Self {
			window: Window {
				page_shift: 12,
				offset: 0,
				size: 1,
			},
			present: vec![],
			hardware: false,
			memory: vec![Range {
				start: 0,
				length: 1 << 24,
			}],
			readable: 1 << 20,
			full: false,
		}
	}
}

impl Setup {
	fn pages(&self) -> usize {
		self.window.size.div_ceil(PAGE) as usize
	}

	fn slot(&self, address: u64) -> Option<Range> {
		self.memory
			.iter()
			.copied()
			.find(|slot| address >= slot.start && address - slot.start < slot.length)
	}
}

/// An hcall.
#[derive(Clone, Debug)]
pub enum Call {
	Get {
		ioba: u64,
	},
	Put {
		ioba: u64,
		tce: u64,
	},
	Stuff {
		ioba: u64,
		value: u64,
		pages: u64,
	},
	Indirect {
		ioba: u64,
		list: u64,
		pages: u64,
		entries: Vec<u64>,
	},
}

impl Call {
	pub fn name(&self) -> &'static str {
		match self {
			Self::Get { .. } => "get",
			Self::Put { .. } => "put",
			Self::Stuff { .. } => "stuff",
			Self::Indirect { .. } => "indirect",
		}
	}

	/// The same with small I/O bus addresses moved to the window: their page numbers are
	/// meant from there, and four less.
	pub fn within(&self, setup: &Setup) -> Self {
		let window = &setup.window;
		let mut call = self.clone();
		let (Self::Get { ioba }
		| Self::Put { ioba, .. }
		| Self::Stuff { ioba, .. }
		| Self::Indirect { ioba, .. }) = &mut call;
		if *ioba < 1 << 32 {
			let (page, low) = (*ioba >> 12, *ioba & 0xfff);
			*ioba = (page.wrapping_add(window.offset).wrapping_sub(4) << window.page_shift) | low;
		}
		// And the pages of entries, where there are 16 of that size.
		if let Self::Indirect { entries, .. } = &mut call
			&& window.page_shift <= 20
		{
			for tce in entries.iter_mut().filter(|tce| **tce < 1 << 16) {
				*tce = (*tce >> 12 << window.page_shift) | (*tce & 0xfff);
			}
		}
		call
	}
}

/// The world of the instance under test.
pub struct World {
	setup: Setup,
	table: Vec<OnceCell<Vec<AtomicU64>>>,
	list: RefCell<Vec<u64>>,
	reads: RefCell<Vec<usize>>,
	spoil: Cell<bool>,
}

fn new_page() -> Vec<AtomicU64> {
	(0..PAGE).map(|_| AtomicU64::new(0)).collect()
}

impl World {
	pub fn new(setup: &Setup) -> Self {
		let table = (0..setup.pages()).map(|number| {
			let page = OnceCell::new();
			if setup.present.get(number).copied().unwrap_or(false) {
				page.get_or_init(new_page);
			}
			page
		});
		Self {
			table: table.collect(),
			setup: setup.clone(),
			list: RefCell::new(vec![]),
			reads: RefCell::new(vec![]),
			spoil: Cell::new(false),
		}
	}

	pub fn set_list(&self, entries: &[u64]) {
		*self.list.borrow_mut() = entries.to_vec();
	}

	pub fn spoil_list(&self) {
		self.spoil.set(true);
	}

	pub fn reads(&self) -> Vec<usize> {
		self.reads.borrow().clone()
	}

	pub fn contents(&self) -> Vec<u64> {
		let mut contents = vec![];
		for page in &self.table {
			match page.get() {
				Some(page) => contents.extend(page.iter().map(|e| e.load(Ordering::Relaxed))),
				None => contents.resize(contents.len() + PAGE as usize, 0),
			}
		}
		contents
	}

	pub fn present(&self) -> Vec<bool> {
		self.table.iter().map(|page| page.get().is_some()).collect()
	}

	pub fn prepare(&self, call: &Call) {
		if let Call::Indirect { entries, .. } = call {
			self.set_list(entries);
		}
	}

	/// Takes over what C has made of its table.
	pub fn follow(&self, c: &C) {
		for (number, page) in self.table.iter().enumerate() {
			if !c.present[number] {
				continue;
			}
			let page = page.get_or_init(new_page);
			let entries = &c.table[number * PAGE as usize..];
			for (cell, &entry) in page.iter().zip(entries) {
				cell.store(entry, Ordering::Relaxed);
			}
		}
	}

	pub fn perform(&self, call: &Call) -> (Code, Option<u64>) {
		let result = match *call {
			Call::Get { ioba } => match body::get(self, ioba) {
				Ok(tce) => return (Code::SUCCESS, Some(tce.0)),
				Err(code) => Err(code),
			},
			Call::Put { ioba, tce } => body::put(self, self, ioba, Tce(tce)),
			Call::Stuff { ioba, value, pages } => body::stuff(self, ioba, Tce(value), pages),
			Call::Indirect {
				ioba, list, pages, ..
			} => {
				let mut buffer = [0x5a; MAX_ENTRIES];
				body::put_indirect(self, self, &mut buffer, ioba, list, pages)
			}
		};
		(result.err().unwrap_or(Code::SUCCESS), None)
	}
}

impl Table for World {
	const PAGE_SHIFT: u32 = PAGE.trailing_zeros();

	fn window(&self) -> Window {
		self.setup.window
	}

	fn is_emulated(&self) -> bool {
		!self.setup.hardware
	}

	fn page(&self, number: u64) -> Option<&[AtomicU64]> {
		Some(self.table[number as usize].get()?)
	}

	fn make_page(&self, number: u64) -> Result<&[AtomicU64], Code> {
		if !self.setup.full {
			return Err(Code::TOO_HARD);
		}
		Ok(self.table[number as usize].get_or_init(new_page))
	}
}

impl Guest for World {
	type List<'a> = &'a World;

	fn memory(&self, address: u64) -> Option<Range> {
		self.setup.slot(address)
	}

	fn list(&self, address: u64) -> Option<&World> {
		(self.setup.full || address < self.setup.readable).then_some(self)
	}
}

impl List for &World {
	fn entry(&self, index: usize) -> Tce {
		self.reads.borrow_mut().push(index);
		let mut list = self.list.borrow_mut();
		let value = list.get(index).copied().unwrap_or(0);
		if self.spoil.get() {
			list[index] = !0;
		}
		Tce(value)
	}
}

/// The C handlers, with an emulated table.
pub struct C {
	setup: Setup,
	table: Vec<u64>,
	pub present: Vec<bool>,
}

impl C {
	pub fn new(setup: &Setup) -> Self {
		let mut present = setup.present.clone();
		present.resize(setup.pages(), false);
		Self {
			setup: setup.clone(),
			table: vec![0; setup.pages() * PAGE as usize],
			present,
		}
	}

	pub fn contents(&self) -> Vec<u64> {
		self.table.clone()
	}

	fn inside(&self, ioba: u64, pages: u64) -> bool {
		let window = &self.setup.window;
		let size = 1_u128 << window.page_shift;
		let (ioba, pages) = (u128::from(ioba), u128::from(pages));
		let start = u128::from(window.offset) * size;
		let end = start + u128::from(window.size) * size;
		ioba.is_multiple_of(size) && ioba >= start && ioba + pages * size <= end
	}

	fn entry(&self, ioba: u64) -> usize {
		((ioba >> self.setup.window.page_shift) - self.setup.window.offset) as usize
	}

	fn good(&self, tce: u64) -> bool {
		let aligned = (tce & !3).is_multiple_of(1 << self.setup.window.page_shift);
		tce & 3 == 0 || aligned && self.setup.slot(tce).is_some()
	}

	fn write(&mut self, index: usize, tce: u64) {
		if tce != 0 {
			self.present[index / PAGE as usize] = true;
		}
		self.table[index] = tce;
	}

	pub fn perform(&mut self, call: &Call) -> (Code, Option<u64>) {
		let mut value = None;
		let code = match *call {
			Call::Get { ioba } if self.inside(ioba, 1) => {
				value = Some(self.table[self.entry(ioba)]);
				Code::SUCCESS
			}
			Call::Put { ioba, tce } if self.inside(ioba, 1) => {
				if self.good(tce) {
					self.write(self.entry(ioba), tce);
					Code::SUCCESS
				} else {
					Code::TOO_HARD
				}
			}
			Call::Stuff { ioba, value, pages } if self.inside(ioba, pages) && value & 3 == 0 => {
				for page in 0..pages as usize {
					self.write(self.entry(ioba) + page, value);
				}
				Code::SUCCESS
			}
			Call::Indirect {
				ioba,
				list,
				pages,
				ref entries,
			} if pages <= 512 && list % 4096 == 0 && self.inside(ioba, pages) => {
				let entries = (0..pages as usize).map(|i| entries.get(i).copied().unwrap_or(0));
				if self.setup.slot(list).is_none() || !entries.clone().all(|tce| self.good(tce)) {
					return (Code::TOO_HARD, None);
				}
				for (page, tce) in entries.enumerate() {
					if self.setup.slot(tce).is_none() {
						return (Code::PARAMETER, None);
					}
					self.write(self.entry(ioba) + page, tce);
				}
				Code::SUCCESS
			}
			_ => Code::PARAMETER,
		};
		(code, value)
	}

	/// Is there a reason for a fast instance to leave this to C?
	pub fn may_be_hard(&self, call: &Call, world: &World) -> bool {
		let absent = world.present().iter().any(|present| !present);
		let c = C {
			setup: self.setup.clone(),
			table: self.table.clone(),
			present: self.present.clone(),
		}
		.perform(call);
		if matches!(call, Call::Get { .. }) {
			return false;
		}
		let long = matches!(call, Call::Stuff { pages, .. } if *pages > MAX_ENTRIES as u64);
		let unreadable =
			matches!(call, Call::Indirect { list, .. } if *list >= self.setup.readable);
		c.0 == Code::TOO_HARD || self.setup.hardware || absent || long || unreadable
	}
}

/// Any table.
pub fn setups() -> impl Strategy<Value = Setup> {
	let shift = prop_oneof![
		6 => Just(12_u32),
		3 => Just(16),
		1 => Just(21),
		1 => Just(24),
		1 => Just(34),
		1 => 12..=34_u32
	];
	let size = prop_oneof![
		1..8_u64,
		Just(511),
		Just(512),
		Just(513),
		1000..1100_u64,
		1..2000_u64
	];
	let memory = prop_oneof![
		3 => Just(vec![(0, 1 << 24)]),
		1 => Just(vec![(0, 1 << 16), (1 << 16, 1 << 16), (1 << 34, 1 << 34)]),
		1 => Just(vec![(1 << 20, 1 << 20), (u64::MAX - 0xffff, 0x1_0000)]),
		1 => Just(vec![]),
	];
	(
		shift,
		prop_oneof![Just(0_u64), 0..0x1_0000_u64, any::<u64>()],
		size,
		proptest::collection::vec(any::<bool>(), 4),
		proptest::bool::weighted(0.1),
		memory,
		prop_oneof![Just(u64::MAX), Just(0_u64), Just(1 << 15)],
	)
		.prop_map(
			|(page_shift, offset, size, mut present, hardware, memory, readable)| {
				// What KVM creates ends within the address space.
				let most = (u64::MAX >> page_shift) - size;
				let window = Window {
					page_shift,
					offset: offset % (most + 1),
					size,
				};
				present.truncate(window.size.div_ceil(PAGE) as usize);
				let memory = memory
					.into_iter()
					.map(|(start, length)| Range { start, length });
				Setup {
					window,
					present,
					hardware,
					memory: memory.collect(),
					readable,
					full: false,
				}
			},
		)
}

fn tces() -> impl Strategy<Value = u64> {
	prop_oneof![
		4 => (0..16_u64, 0..4_u64).prop_map(|(page, low)| page << 12 | low),
		2 => (0..4_u64, 0..4_u64).prop_map(|(page, low)| page << 24 | low),
		1 => (0..4_u64).prop_map(|low| 1 << 34 | low),
		1 => (0..4_u64).prop_map(|low| !0xffff | low),
		2 => Just(0),
		1 => any::<u64>(),
	]
}

/// Any hcall, most of them reasonable.
pub fn calls() -> impl Strategy<Value = Call> {
	let ioba = || {
		prop_oneof![
			3 => (0..2000_u64).prop_map(|page| page << 12),
			6 => (2..12_u64).prop_map(|page| page << 12),
			1 => (0..2000_u64, 1..0x1000_u64).prop_map(|(page, low)| page << 12 | low),
			1 => any::<u64>(),
		]
	};
	let pages = || {
		prop_oneof![
			4 => 0..6_u64,
			2 => 0..600_u64,
			2 => prop_oneof![Just(511_u64), Just(512), Just(513), Just(1000)],
			1 => prop_oneof![Just(u64::MAX), Just(1 << 63), Just(u64::MAX - 3), any::<u64>()],
		]
	};
	let list = prop_oneof![
		6 => (0..32_u64).prop_map(|page| page << 12),
		1 => 0..0x2_0000_u64,
		1 => (0..0x10_0000_u64).prop_map(|page| page << 12),
		1 => any::<u64>(),
	];
	// Long lists of good entries, with something else among them now and then.
	let entries = (
		proptest::collection::vec((0..16_u64).prop_map(|page| page << 12 | 3), 512),
		proptest::collection::vec((0..512_usize, tces()), 0..4),
		prop_oneof![2 => Just(vec![]), 1 => proptest::collection::vec(tces(), 0..6)],
	)
		.prop_map(|(mut entries, others, head)| {
			for (at, tce) in others {
				entries[at] = tce;
			}
			entries[..head.len()].copy_from_slice(&head);
			entries
		});
	prop_oneof![
		ioba().prop_map(|ioba| Call::Get { ioba }),
		(ioba(), tces()).prop_map(|(ioba, tce)| Call::Put { ioba, tce }),
		(
			ioba(),
			prop_oneof![3 => Just(0_u64), 1 => Just(0x5a_5000), 1 => any::<u64>()],
			pages()
		)
			.prop_map(|(ioba, value, pages)| Call::Stuff { ioba, value, pages }),
		(ioba(), list, pages(), entries).prop_map(|(ioba, list, pages, entries)| Call::Indirect {
			ioba,
			list,
			pages,
			entries
		}),
	]
}
