// SPDX-License-Identifier: GPL-2.0-only
//! What the bodies run in: tables, regions and memory.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

use super::*;
use crate::{Attached, EntrySlice, GuestMemory, List, Piece, Progress, Region, Table};

/// The world of the instance under test.
pub struct World {
	setup: Setup,
	table: Vec<OnceLock<Vec<AtomicU64>>>,
	pub(super) attached: Vec<Arc<HardwareTable>>,
	regions: Arc<Vec<RegionState>>,
	list: Mutex<Vec<u64>>,
	reads: Mutex<Vec<usize>>,
	spoil: AtomicBool,
	attempts: AtomicU64,
}

pub struct HardwareTable {
	page_shift: u32,
	pub(super) arrays: Vec<OnceLock<[Vec<AtomicU64>; 2]>>,
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
