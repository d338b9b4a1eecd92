// SPDX-License-Identifier: GPL-2.0-only
//! What the tests compare the bodies with: a world for them to run in, and a simple model
//! of the C handlers that takes one entry at a time.
//!
//! For hardware tables the model does what C does if nothing fails half-way, with two
//! corrections. An entry of H_PUT_TCE_INDIRECT that gives the device no permission is no
//! mapping; an unpatched C handler counts it as one and never drops the count. And a page ends
//! with its memory slot, unless another slot follows; C continues in memory of userspace.

mod strategies;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use hcall::Code;

pub use self::strategies::*;
pub use self::world::*;

use crate::{
	Extent, MAX_ATTACHED, MAX_ENTRIES, MAX_WRITES, Range, Refusal, Tce, TooHard, Window, hcalls,
};

/// Entries of a page of the table, as with 4 KiB pages: the least that a body allows.
const PAGE: u64 = 512;

/// The world at the beginning.
#[derive(Clone, Debug)]
pub struct Setup {
	/// The window.
	pub window: Window,
	/// Which pages of the table exist.
	pub present: Vec<bool>,
	/// Hardware tables.
	pub hardware: Vec<Hardware>,
	/// The guest's memory slots.
	pub memory: Vec<Range>,
	/// Parts of them that are registered for DMA, by userspace addresses.
	pub regions: Vec<Registered>,
	/// Lists below this address can be read at once.
	pub readable: u64,
	/// The instance can make pages, read every list, and do a part of an hcall.
	pub full: bool,
}

/// Entries of an array of a hardware table.
const ARRAY: u64 = 256;

/// Of which size a page is that is marked as written.
pub const DIRTY_PAGE: u64 = 1 << 14;

/// The page that is marked when a device may have written this address of userspace.
pub const fn dirty_page(user: u64) -> u64 {
	user & !(DIRTY_PAGE - 1)
}

/// A hardware table at the beginning, without entries.
#[derive(Clone, Debug)]
pub struct Hardware {
	/// Size of its pages, as a shift.
	pub page_shift: u32,
	/// Which of its arrays exist.
	pub present: Vec<bool>,
}

/// Memory that is registered for DMA.
#[derive(Clone, Copy, Debug)]
pub struct Registered {
	pub user: u64,
	pub length: u64,
	/// Where it begins in the host.
	pub host: u64,
	/// In pieces of this size at least.
	pub page_shift: u32,
	/// What lies between two pieces in the host, in pieces.
	pub apart: u64,
}

impl Registered {
	fn host(&self, user: u64, shift: u32) -> Option<u64> {
		let offset = user.checked_sub(self.user)?;
		let host = self.host.wrapping_add(offset);
		let apart = ((offset >> self.page_shift) * self.apart) << self.page_shift;
		let host = host.wrapping_add(apart);
		let inside = u128::from(offset) + (1 << shift) <= u128::from(self.length);
		let whole = shift <= self.page_shift && host.is_multiple_of(1 << shift);
		(inside && whole).then_some(host)
	}
}

/// GuestMemory address 0 in userspace, unless a slot says something else.
pub const USER: u64 = 0x7fff_0000_0000;

impl Default for Setup {
	fn default() -> Self {
		Self {
			window: Window {
				page_shift: 12,
				offset: 0,
				size: 1,
			},
			present: vec![],
			hardware: vec![],
			memory: vec![Range {
				start: 0,
				length: 1 << 24,
				user: USER,
			}],
			regions: vec![],
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

	/// How many of a hardware table's entries there are for one of the guest's.
	fn parts(&self, hardware: &Hardware) -> u64 {
		1 << (self.window.page_shift - hardware.page_shift)
	}

	/// How many of all hardware tables' entries there are for one of the guest's.
	pub fn all_parts(&self) -> u64 {
		self.hardware.iter().map(|one| self.parts(one)).sum()
	}

	/// Limit of hardware entries that one call may write.
	pub fn most_writes(&self) -> u64 {
		match self.full {
			true => 2 * MAX_WRITES as u64,
			false => MAX_WRITES as u64,
		}
	}

	/// The region and the host address of part of a page; `None` if it can't be mapped.
	fn translate(&self, tce: u64, part: u64, shift: u32) -> Option<(usize, u64, u64)> {
		let address = (tce & !3).checked_add(part << shift)?;
		let slot = self.slot(address)?;
		let offset = address - slot.start;
		if u128::from(offset) + (1 << shift) > u128::from(slot.length) {
			return None;
		}
		let user = slot.user.wrapping_add(offset);
		let mut regions = self.regions.iter().enumerate();
		let (number, region) = regions.find(|(_, region)| {
			user >= region.user
				&& u128::from(user - region.user) + (1 << shift) <= u128::from(region.length)
		})?;
		Some((number, user, region.host(user, shift)?))
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

	/// How many of the guest's entries the call may write.
	fn pages(&self) -> u64 {
		match *self {
			Self::Stuff { pages, .. } | Self::Indirect { pages, .. } => pages,
			_ => 1,
		}
	}

	/// How many steps write them, if it is done in steps.
	pub fn steps(&self, setup: &Setup) -> u64 {
		let step = match setup.all_parts() {
			0 => MAX_ENTRIES as u64,
			parts => (MAX_WRITES as u64 / parts).max(1),
		};
		self.pages().div_ceil(step)
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

/// What a hardware table has: its entries, and their userspace addresses.
pub type Entries = BTreeMap<u64, (u64, u64)>;

/// The C handlers.
#[derive(Clone)]
pub struct C {
	setup: Setup,
	table: Vec<u64>,
	pub present: Vec<bool>,
	/// What maps something in each hardware table.
	pub hardware: Vec<Entries>,
	/// Pages of which the device may have written something.
	pub written: BTreeSet<u64>,
	/// Entries of each hardware table that were changed and mapped something, or do now.
	stale: Vec<BTreeSet<u64>>,
}

impl C {
	pub fn new(setup: &Setup) -> Self {
		let mut present = setup.present.clone();
		present.resize(setup.pages(), false);
		Self {
			setup: setup.clone(),
			table: vec![0; setup.pages() * PAGE as usize],
			present,
			hardware: vec![Entries::new(); setup.hardware.len()],
			written: BTreeSet::new(),
			stale: vec![BTreeSet::new(); setup.hardware.len()],
		}
	}

	/// How many entries map each region.
	pub fn mapped(&self) -> Vec<u64> {
		let mut mapped = vec![0; self.setup.regions.len()];
		for (_, user) in self.hardware.iter().flat_map(Entries::values) {
			let mut regions = self.setup.regions.iter();
			let of = regions.position(|region| user.wrapping_sub(region.user) < region.length);
			mapped[of.expect("mapped, so registered")] += 1;
		}
		mapped
	}

	/// What the hardware has to forget since this was asked last.
	pub fn stale(&mut self) -> Vec<BTreeSet<u64>> {
		self.stale.iter_mut().map(core::mem::take).collect()
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
		let registered = self.setup.hardware.iter().all(|hardware| {
			(0..self.setup.parts(hardware)).all(|part| {
				self.setup
					.translate(tce, part, hardware.page_shift)
					.is_some()
			})
		});
		tce & 3 == 0 || aligned && self.setup.slot(tce).is_some() && registered
	}

	fn write(&mut self, index: usize, tce: u64) {
		for (number, hardware) in self.setup.hardware.iter().enumerate() {
			let parts = self.setup.parts(hardware);
			for part in 0..parts {
				let at = index as u64 * parts + part;
				if let Some((old, user)) = self.hardware[number].remove(&at) {
					self.stale[number].insert(at);
					if old & 2 != 0 {
						self.written.insert(dirty_page(user));
					}
				}
				if tce & 3 != 0 {
					let translated = self.setup.translate(tce, part, hardware.page_shift);
					let (_, user, host) = translated.expect("it was good");
					let permission = if tce & 2 != 0 { 3 } else { tce & 3 };
					self.stale[number].insert(at);
					self.hardware[number].insert(at, (host | permission, user));
				}
			}
		}
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
		let mut c = self.clone();
		let code = c.perform(call).0;
		if matches!(call, Call::Get { .. }) {
			return false;
		}
		// It would have to be written where there is no array yet.
		let lacking = c
			.hardware
			.iter()
			.zip(&world.attached)
			.any(|(entries, table)| {
				let absent = |index: &u64| table.arrays[(index / ARRAY) as usize].get().is_none();
				entries.keys().any(absent)
			});
		let writes = call.pages().min(MAX_ENTRIES as u64) * self.setup.all_parts();
		let many = writes > self.setup.most_writes();
		let long = matches!(call, Call::Stuff { pages, .. } if *pages > MAX_ENTRIES as u64);
		let unreadable =
			matches!(call, Call::Indirect { list, .. } if *list >= self.setup.readable);
		code == Code::TOO_HARD || lacking || many || absent || long || unreadable
	}
}
