// SPDX-License-Identifier: GPL-2.0-only
//! What the tests compare the bodies with: a world for them to run in, and a simple model
//! of the C handlers that takes one entry at a time.
//!
//! For hardware tables the model does what C does if nothing fails half-way, with two
//! corrections. An entry of H_PUT_TCE_INDIRECT that gives the device no permission is no
//! mapping; an unpatched C handler counts it as one and never drops the count. And a page ends
//! with its memory slot, unless another slot follows; C continues in memory of userspace.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use hcall::Code;
use proptest::prelude::*;

use crate::{
	Attached, EntrySlice, Extent, GuestMemory, List, MAX_ATTACHED, MAX_ENTRIES, MAX_WRITES, Piece,
	Progress, Range, Refusal, Region, Table, Tce, TooHard, Window, hcalls,
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

/// The world of the instance under test.
pub struct World {
	setup: Setup,
	table: Vec<OnceLock<Vec<AtomicU64>>>,
	attached: Vec<Arc<HardwareTable>>,
	regions: Arc<Vec<RegionState>>,
	list: Mutex<Vec<u64>>,
	reads: Mutex<Vec<usize>>,
	spoil: AtomicBool,
	attempts: AtomicU64,
}

pub struct HardwareTable {
	page_shift: u32,
	arrays: Vec<OnceLock<[Vec<AtomicU64>; 2]>>,
	forgotten: Mutex<Vec<(u64, u64)>>,
}

pub struct RegionState {
	region: Registered,
	/// One more than there are entries, or 0.
	mapped: AtomicU64,
	written: Mutex<BTreeSet<u64>>,
}

/// A [`RegionState`] as a body sees it.
#[derive(Clone, Copy)]
pub struct RegionOf<'w>(&'w RegionState);

impl PartialEq for RegionOf<'_> {
	fn eq(&self, other: &Self) -> bool {
		core::ptr::eq(self.0, other.0)
	}
}

impl Region for RegionOf<'_> {
	fn extent(&self) -> Extent {
		let Registered { user, length, .. } = self.0.region;
		Extent {
			start: user,
			length,
		}
	}

	fn piece(&self, user: u64, shift: u32) -> Option<Piece> {
		let region = &self.0.region;
		let host = region.host(user, shift)?;
		let offset = user - region.user;
		let start = match region.apart {
			0 => 0,
			_ => offset >> region.page_shift << region.page_shift,
		};
		let length = match region.apart {
			0 => region.length,
			_ => (region.length - start).min(1 << region.page_shift),
		};
		Some(Piece {
			user: Extent {
				start: region.user + start,
				length,
			},
			host: host.wrapping_sub(offset - start),
		})
	}

	fn inc_mapped(&self, count: u64) -> bool {
		let taken = self
			.0
			.mapped
			.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |mapped| {
				(mapped > 0).then_some(mapped + count)
			});
		taken.is_ok()
	}

	fn dec_mapped(&self, count: u64) {
		let before = self.0.mapped.fetch_sub(count, Ordering::Relaxed);
		assert!(before > count, "{count} were given back of {before}");
	}

	fn set_dirty(&self, user: u64) -> Extent {
		let start = dirty_page(user);
		self.0.written.lock().unwrap().insert(start);
		Extent {
			start,
			length: DIRTY_PAGE,
		}
	}
}

impl Attached for &HardwareTable {
	fn page_shift(&self) -> u32 {
		self.page_shift
	}

	fn entries(&self, index: u64) -> Option<EntrySlice<'_>> {
		let [tces, users] = self.arrays[(index / ARRAY) as usize].get()?;
		let at = (index % ARRAY) as usize;
		Some(EntrySlice {
			tces: &tces[at..],
			users: &users[at..],
		})
	}

	fn invalidate(&self, first: u64, count: u64) {
		self.forgotten.lock().unwrap().push((first, count));
	}
}

fn new_page() -> Vec<AtomicU64> {
	new_array(PAGE)
}

fn new_array(length: u64) -> Vec<AtomicU64> {
	(0..length).map(|_| AtomicU64::new(0)).collect()
}

/// What a hardware table has: its entries, and their userspace addresses.
pub type Entries = BTreeMap<u64, (u64, u64)>;

impl World {
	pub fn new(setup: &Setup) -> Self {
		let table = (0..setup.pages()).map(|number| {
			let page = OnceLock::new();
			if setup.present.get(number).copied().unwrap_or(false) {
				page.get_or_init(new_page);
			}
			page
		});
		let attached = setup.hardware.iter().map(|hardware| {
			let arrays = (setup.window.size * setup.parts(hardware)).div_ceil(ARRAY) as usize;
			let world = HardwareTable {
				page_shift: hardware.page_shift,
				arrays: (0..arrays).map(|_| OnceLock::new()).collect(),
				forgotten: Mutex::new(vec![]),
			};
			for (array, _) in world
				.arrays
				.iter()
				.zip(&hardware.present)
				.filter(|(_, present)| **present)
			{
				array.get_or_init(|| [new_array(ARRAY), new_array(ARRAY)]);
			}
			Arc::new(world)
		});
		let regions = setup.regions.iter().map(|region| RegionState {
			region: *region,
			mapped: AtomicU64::new(1),
			written: Mutex::default(),
		});
		Self {
			table: table.collect(),
			attached: attached.collect(),
			regions: Arc::new(regions.collect()),
			setup: setup.clone(),
			list: Mutex::new(vec![]),
			reads: Mutex::new(vec![]),
			spoil: AtomicBool::new(false),
			attempts: AtomicU64::new(0),
		}
	}

	/// Another table of the same guest, to which the same hardware tables are attached.
	pub fn sibling(&self, setup: &Setup) -> Self {
		Self {
			attached: self.attached.clone(),
			regions: self.regions.clone(),
			..Self::new(setup)
		}
	}

	pub fn set_list(&self, entries: &[u64]) {
		*self.list.lock().unwrap() = entries.to_vec();
	}

	pub fn spoil_list(&self) {
		self.spoil.store(true, Ordering::Relaxed);
	}

	pub fn reads(&self) -> Vec<usize> {
		self.reads.lock().unwrap().clone()
	}

	/// How many calls of bodies there were.
	pub fn attempts(&self) -> u64 {
		self.attempts.load(Ordering::Relaxed)
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

	/// What maps something in each hardware table.
	pub fn hardware(&self) -> Vec<Entries> {
		let entries = |table: &Arc<HardwareTable>| {
			let mut entries = Entries::new();
			for (number, array) in table.arrays.iter().enumerate() {
				let Some([tces, users]) = array.get() else {
					continue;
				};
				for (at, (tce, user)) in tces.iter().zip(users).enumerate() {
					let tce = u64::from_be(tce.load(Ordering::Relaxed));
					let user = u64::from_be(user.load(Ordering::Relaxed));
					if tce & 3 != 0 {
						entries.insert(number as u64 * ARRAY + at as u64, (tce, user));
					} else {
						assert_eq!(user, 0, "of what maps nothing");
					}
				}
			}
			entries
		};
		self.attached.iter().map(entries).collect()
	}

	/// How many entries each region thinks there are.
	pub fn mapped(&self) -> Vec<u64> {
		let mapped = |region: &RegionState| region.mapped.load(Ordering::Relaxed) - 1;
		self.regions.iter().map(mapped).collect()
	}

	/// The pages that a device may have written, as the regions know.
	pub fn set_dirty(&self) -> BTreeSet<u64> {
		let written = |region: &RegionState| region.written.lock().unwrap().clone();
		self.regions.iter().flat_map(written).collect()
	}

	/// What each hardware table was told to forget since this was asked last.
	pub fn forgotten(&self) -> Vec<Vec<(u64, u64)>> {
		let tables = self.attached.iter();
		tables
			.map(|table| core::mem::take(&mut *table.forgotten.lock().unwrap()))
			.collect()
	}

	/// From now on no entry more may map the region.
	pub fn unregister(&self, region: usize) {
		assert_eq!(self.regions[region].mapped.swap(0, Ordering::Relaxed), 1);
	}

	pub fn prepare(&self, call: &Call) {
		if let Call::Indirect { entries, .. } = call {
			self.set_list(entries);
		}
	}

	/// Takes over what C has made of its tables.
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
		for (table, entries) in self.attached.iter().zip(&c.hardware) {
			for index in entries.keys() {
				table.make(*index);
			}
			for (number, array) in table.arrays.iter().enumerate() {
				let Some([tces, users]) = array.get() else {
					continue;
				};
				for (at, (tce, user)) in tces.iter().zip(users).enumerate() {
					let entry = entries.get(&(number as u64 * ARRAY + at as u64));
					let (new_tce, new_user) = entry.copied().unwrap_or_default();
					tce.store(new_tce.to_be(), Ordering::Relaxed);
					user.store(new_user.to_be(), Ordering::Relaxed);
				}
			}
		}
		for (region, mapped) in self.regions.iter().zip(c.mapped()) {
			region.mapped.store(mapped + 1, Ordering::Relaxed);
			*region.written.lock().unwrap() = c.written.clone();
		}
	}

	/// Does an hcall as the full path does: what is missing is made, and then it is tried
	/// again. What takes several steps is continued.
	fn full(
		&self,
		mut attempt: impl FnMut(&mut Progress) -> Result<(), Refusal>,
	) -> Result<(), Refusal> {
		let mut progress = Progress::default();
		loop {
			self.attempts.fetch_add(1, Ordering::Relaxed);
			let before = progress.done;
			match attempt(&mut progress) {
				Err(Refusal::TooHard(TooHard::Resched)) if self.setup.full => {
					assert!(progress.done > before, "a step without progress");
				}
				Err(Refusal::TooHard(TooHard::TablePage(number))) if self.setup.full => {
					self.table[number as usize].get_or_init(new_page);
				}
				Err(Refusal::TooHard(TooHard::TableLevel { table, index })) if self.setup.full => {
					self.attached[table].make(index);
				}
				result => return result,
			}
		}
	}

	pub fn perform(&self, call: &Call) -> (Code, Option<u64>) {
		let (table, guest) = (&self, &self);
		let result = match *call {
			Call::Get { ioba } => match hcalls::get(table, ioba) {
				Ok(tce) => return (Code::SUCCESS, Some(tce.0)),
				Err(refusal) => Err(refusal),
			},
			Call::Put { ioba, tce } => self.full(|_| hcalls::put(table, guest, ioba, Tce(tce))),
			Call::Stuff { ioba, value, pages } => self.full(|progress| {
				if pages > MAX_ENTRIES as u64 && !self.setup.full {
					let checked = self.window().index(ioba, pages);
					return checked.and(Err(TooHard::Resched.into()));
				}
				hcalls::stuff(table, guest, ioba, Tce(value), pages, progress)
			}),
			Call::Indirect {
				ioba, list, pages, ..
			} => {
				let buffer = [const { Cell::new(0x5a) }; MAX_ENTRIES];
				self.full(|progress| {
					hcalls::put_indirect(table, guest, &buffer, ioba, list, pages, progress)
				})
			}
		};
		(result.err().map_or(Code::SUCCESS, Refusal::code), None)
	}
}

impl HardwareTable {
	fn make(&self, index: u64) {
		self.arrays[(index / ARRAY) as usize].get_or_init(|| [new_array(ARRAY), new_array(ARRAY)]);
	}
}

impl<'w> Table for &'w World {
	const PAGE_SHIFT: u32 = PAGE.trailing_zeros();
	const IN_LINE: bool = true;

	type Attached = &'w HardwareTable;

	fn window(&self) -> Window {
		self.setup.window
	}

	fn is_emulated(&self) -> bool {
		self.attached.is_empty()
	}

	fn most_writes(&self) -> u64 {
		self.setup.most_writes()
	}

	fn may_continue(&self) -> bool {
		self.setup.full
	}

	fn attached(&self) -> Result<[Option<&'w HardwareTable>; MAX_ATTACHED], Refusal> {
		let mut attached = [None; MAX_ATTACHED];
		for (number, table) in self.attached.iter().enumerate() {
			*attached.get_mut(number).ok_or(TooHard::CFallback)? = Some(&**table);
		}
		Ok(attached)
	}

	fn page(&self, number: u64) -> Option<&[AtomicU64]> {
		Some(self.table[number as usize].get()?)
	}
}

impl<'w> GuestMemory for &'w World {
	type List<'a>
		= &'a World
	where
		Self: 'a;

	type Region = RegionOf<'w>;

	fn memory(&self, address: u64) -> Option<Range> {
		self.setup.slot(address)
	}

	fn list(&self, address: u64) -> Option<&World> {
		(self.setup.full || address < self.setup.readable).then_some(self)
	}

	fn region(&self, user: u64, length: u64) -> Result<RegionOf<'w>, Refusal> {
		let has = |state: &&RegionState| {
			let region = &state.region;
			user >= region.user
				&& u128::from(user - region.user) + u128::from(length) <= u128::from(region.length)
		};
		let region = self.regions.iter().find(has).map(RegionOf);
		region.ok_or(TooHard::Userspace.into())
	}
}

impl List for &World {
	fn entry(&self, index: usize) -> Tce {
		self.reads.lock().unwrap().push(index);
		let mut list = self.list.lock().unwrap();
		let value = list.get(index).copied().unwrap_or(0);
		if self.spoil.load(Ordering::Relaxed) {
			list[index] = !0;
		}
		Tce(value)
	}
}

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
	let table = (
		prop_oneof![3 => Just(0_u32), 1 => Just(1), 1 => Just(4)],
		prop_oneof![
			Just(vec![true; 125]),
			proptest::collection::vec(any::<bool>(), 125)
		],
	);
	let hardware = prop_oneof![
		3 => Just(vec![]),
		3 => proptest::collection::vec(table.clone(), 1),
		1 => proptest::collection::vec(table, 2..4),
	];
	let memory = prop_oneof![
		3 => Just(vec![(0, 1 << 24)]),
		1 => Just(vec![(0, 1 << 16), (1 << 16, 1 << 16), (1 << 34, 1 << 34)]),
		1 => Just(vec![(0, 1 << 20), (1 << 20, 7 << 20), (8 << 20, 8 << 20), (1 << 24, 1 << 12)]),
		1 => Just(vec![(1 << 20, 1 << 20), (u64::MAX - 0xffff, 0x1_0000)]),
		1 => Just(vec![]),
	];
	(
		shift,
		prop_oneof![Just(0_u64), 0..0x1_0000_u64, any::<u64>()],
		size,
		proptest::collection::vec(any::<bool>(), 4),
		// How much smaller the pages of the hardware tables are than those of the guest's
		// table, and which of their arrays exist.
		hardware,
		memory,
		// How much of each slot is registered, in sixteenths, and how well it lies.
		proptest::collection::vec(
			(
				prop_oneof![Just(16_u64), Just(8), 0..17_u64],
				prop_oneof![3 => Just(34_u32), 2 => 12..25_u32],
				0..2_u64,
			),
			4,
		),
		// Where they are in userspace: apart, or one after the other.
		prop_oneof![Just(1_u64), Just(2)],
		prop_oneof![Just(u64::MAX), Just(0_u64), Just(1 << 15)],
	)
		.prop_map(
			|(
				page_shift,
				offset,
				size,
				mut present,
				hardware,
				memory,
				registered,
				apart,
				readable,
			)| {
				// What KVM creates ends within the address space.
				let most = (u64::MAX >> page_shift) - size;
				let window = Window {
					page_shift,
					offset: offset % (most + 1),
					size,
				};
				present.truncate(window.size.div_ceil(PAGE) as usize);
				let memory = memory.into_iter().map(|(start, length): (u64, u64)| Range {
					start,
					length,
					user: USER.wrapping_add(start.wrapping_mul(apart)),
				});
				let memory: Vec<_> = memory.collect();
				let regions = memory.iter().zip(registered).enumerate();
				let regions =
					regions.map(
						|(number, (slot, (sixteenths, page_shift, apart)))| Registered {
							user: slot.user,
							length: slot.length / 16 * sixteenths,
							host: (number as u64 + 1) << 40,
							page_shift,
							apart,
						},
					);
				let hardware = hardware.into_iter().map(|(less, present)| Hardware {
					page_shift: (page_shift - less.min(page_shift - 12)),
					present,
				});
				Setup {
					window,
					present,
					hardware: hardware.collect(),
					regions: regions.collect(),
					memory,
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

/// Tables and memory that runs of entries meet the ends of: small slots, one after the other in
/// the guest and now and then in userspace, regions that end elsewhere, and pieces of the host of
/// a few pages.
pub fn broken_memory() -> impl Strategy<Value = Setup> {
	let hole = || prop_oneof![6 => Just(0_u64), 1 => Just(1)];
	let slots = proptest::collection::vec((4..32_u64, hole(), 0..2_u64), 2..6);
	let regions = proptest::collection::vec((8..60_u64, 12..17_u32, 0..2_u64), 2..6);
	let hardware = proptest::collection::vec(prop_oneof![5 => Just(12_u32), 1 => Just(16)], 1..4);
	let page_shift = prop_oneof![3 => Just(12_u32), 1 => Just(16)];
	(page_shift, slots, regions, hardware, 0..2000_u64).prop_map(
		|(page_shift, slots, regions, hardware, offset)| {
			let (mut start, mut user) = (0, USER);
			let memory = slots.into_iter().map(|(pages, hole, user_hole)| {
				let slot = Range {
					start: start + (hole << 12),
					length: pages << 12,
					user: user + (user_hole << 12),
				};
				(start, user) = (slot.start + slot.length, slot.user + slot.length);
				slot
			});
			let memory = memory.collect();
			let mut registered = USER;
			let regions = (1..)
				.zip(regions)
				.map(|(number, (pages, page_shift, apart))| {
					let region = Registered {
						user: registered,
						length: pages << 12,
						host: number << 40,
						page_shift,
						apart,
					};
					registered += region.length;
					region
				});
			let size = 700;
			Setup {
				window: Window {
					page_shift,
					offset,
					size,
				},
				present: vec![true; 2],
				hardware: hardware
					.into_iter()
					.map(|shift| Hardware {
						page_shift: shift.min(page_shift),
						present: vec![true; 125],
					})
					.collect(),
				regions: regions.collect(),
				memory,
				..Setup::default()
			}
		},
	)
}

/// Hcalls with consecutive pages, most of them in memory.
pub fn runs() -> impl Strategy<Value = Call> {
	let ioba = || prop_oneof![4 => 4..24_u64, 1 => 500..520_u64].prop_map(|page| page << 12);
	let permissions = prop_oneof![3 => Just(3_u64), 1 => 0..4_u64];
	let parts = (0..30_u64, 0..3_u64, permissions, 1..16_usize);
	let entries = proptest::collection::vec(parts, 1..3).prop_map(|parts| {
		let mut entries = vec![];
		for (page, step, permission, count) in parts {
			// Upwards, downwards, or the same page.
			let page =
				|n: usize| page.wrapping_add((step.wrapping_sub(1)).wrapping_mul(n as u64)) % 64;
			entries.extend((0..count).map(|n| page(n) << 12 | permission));
		}
		entries
	});
	prop_oneof![
		3 => (ioba(), entries).prop_map(|(ioba, entries)| Call::Indirect {
			ioba,
			list: 0,
			pages: entries.len() as u64,
			entries,
		}),
		2 => (ioba(), 1..40_u64, prop_oneof![4 => Just(0_u64), 1 => Just(0x5a_5000)])
			.prop_map(|(ioba, pages, value)| Call::Stuff { ioba, value, pages }),
		1 => (ioba(), 0..40_u64).prop_map(|(ioba, page)| Call::Put { ioba, tce: page << 12 | 3 }),
	]
}
