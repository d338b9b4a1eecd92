// SPDX-License-Identifier: GPL-2.0-only
//! The bodies of the hcalls.
//!
//! Each does everything that can fail first and writes afterwards, and what it
//! writes is what it has checked: the list of H_PUT_TCE_INDIRECT is memory that
//! the guest may change meanwhile, so its entries are read once, into a buffer.
//!
//! A table of hardware's, if there is one, is written before the guest's own, by
//! [`attached::write`].

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use hcall::Code;

use crate::attached::{self, Attached, MAX_ATTACHED, Region};
use crate::{Permission, Tce, Window};

/// Most entries that one call of a body takes.
pub const MAX_ENTRIES: usize = 512;
/// Size and alignment of a list.
const LIST_SIZE: u64 = 4096;

/// Why a body doesn't do what it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
	/// The hcall's parameters are bad: H_PARAMETER.
	Parameter,
	/// It can't be done here and now, and nothing was changed.
	Hard(Hard),
}

/// What would have to be done first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hard {
	/// Userspace may know better: where C has no code of PAPR's, either.
	Userspace,
	/// This page of the table must be made.
	Page(u64),
	/// The list must be brought here.
	List,
	/// The hardware's table of that number must be given what it lacks for this entry
	/// of its own.
	Level {
		/// Which of [`Table::attached`].
		table: usize,
		/// The entry.
		index: u64,
	},
	/// It takes several steps.
	Steps,
	/// Hardware's tables are written with interrupts off, and they are on.
	Quiet,
	/// Too odd for this: there are more attached tables than a body takes, or one of
	/// another make.
	Kernel,
}

impl From<Hard> for Refusal {
	#[inline]
	fn from(hard: Hard) -> Self {
		Self::Hard(hard)
	}
}

impl Refusal {
	/// The hcall's code.
	#[inline]
	pub const fn code(self) -> Code {
		match self {
			Self::Parameter => Code::PARAMETER,
			Self::Hard(_) => Code::TOO_HARD,
		}
	}
}

/// A table, as a body reaches it.
///
/// Entries are atomics: other vcpus write the same table, and userspace may have
/// it mapped. Nothing is published by an entry, so relaxed is enough.
pub trait Table {
	/// Entries of one of the pages that the table is made of, as a shift; from 9.
	const PAGE_SHIFT: u32;

	/// Bodies are compiled for speed. If not, what they have in common is here once.
	const IN_LINE: bool;

	/// A table of the hardware's.
	type Attached: Attached;

	/// The window.
	fn window(&self) -> Window;

	/// No hardware translates with this table: writing the entries is all.
	fn is_emulated(&self) -> bool;

	/// Entries of hardware's tables that one call may write.
	fn most_writes(&self) -> u64;

	/// The tables of the hardware's that translate with this one's entries.
	/// [`Hard::Kernel`] if they are too many or unknown here.
	fn attached(&self) -> Result<[Option<Self::Attached>; MAX_ATTACHED], Refusal>;

	/// All the entries of a page of the table, if it has come into being.
	fn page(&self, number: u64) -> Option<&[AtomicU64]>;
}

/// Guest addresses from `start`, `length` bytes of them, that are memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
	/// The first.
	pub start: u64,
	/// How many.
	pub length: u64,
	/// Where the first is in userspace.
	pub user: u64,
}

impl Range {
	/// No address at all.
	pub const EMPTY: Self = Self {
		start: 0,
		length: 0,
		user: 0,
	};

	/// Is this one of them?
	#[inline]
	pub const fn contains(&self, address: u64) -> bool {
		address.wrapping_sub(self.start) < self.length
	}

	/// Where `length` of them from this one on are in userspace, if they all are of them.
	#[inline]
	pub const fn user(&self, address: u64, length: u64) -> Option<u64> {
		let offset = address.wrapping_sub(self.start);
		match self.length.checked_sub(length) {
			Some(last) if offset <= last => Some(self.user.wrapping_add(offset)),
			_ => None,
		}
	}
}

/// The guest, as a body reaches it.
pub trait Guest {
	/// A list that can be read.
	type List<'a>: List
	where
		Self: 'a;

	/// Memory that is registered for DMA.
	type Region: Region;

	/// The memory slot that has this address, if there is one.
	fn memory(&self, address: u64) -> Option<Range>;

	/// The list at this address, a multiple of 4096; `None` if it can't be read here
	/// and now.
	fn list(&self, address: u64) -> Option<Self::List<'_>>;

	/// The region that has all of these bytes of userspace. [`Hard::Userspace`] if there
	/// is none, [`Hard::Kernel`] if it can't be found here.
	fn region(&self, user: u64, length: u64) -> Result<Self::Region, Refusal>;
}

/// A list in guest memory.
pub trait List {
	/// Reads entry `index`, which is below 512.
	fn entry(&self, index: usize) -> Tce;
}

/// Is it an entry that H_PUT_TCE may write? Anything without permissions is.
#[inline]
fn validate(window: &Window, guest: &impl Guest, tce: Tce) -> Result<(), Refusal> {
	if tce.is_mapping()
		&& (tce.address() & window.page_mask() != 0 || guest.memory(tce.0).is_none())
	{
		return Err(Hard::Userspace.into());
	}
	Ok(())
}

/// Where entries from `index` on begin in their page, and how many of `count` fit.
#[inline]
fn place<T: Table>(index: u64, count: usize) -> (u64, usize, usize) {
	let entries = 1_usize << T::PAGE_SHIFT;
	let at = index as usize & (entries - 1);
	(index >> T::PAGE_SHIFT, at, count.min(entries - at))
}

/// The cells of `count` entries of a page, from `at` on, to be written with
/// something. No cells at all if it is nothing but zeroes and the page needn't be
/// made for them.
#[inline]
fn cells<T: Table>(
	table: &T,
	number: u64,
	at: usize,
	count: usize,
	is_zero: impl FnOnce() -> bool,
) -> Result<&[AtomicU64], Refusal> {
	if count == 0 {
		return Ok(&[]);
	}
	let page = match table.page(number) {
		Some(page) => page,
		None if is_zero() => return Ok(&[]),
		None => return Err(Hard::Page(number).into()),
	};
	// A page that is too short would be the table's fault, and no harm is done.
	page.get(at..)
		.and_then(|page| page.get(..count))
		.ok_or(Hard::Kernel.into())
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
	/// The same to each entry.
	Same(Tce),
	/// One to each.
	Each(&'a [Cell<u64>]),
}

impl Values<'_> {
	/// To entry `n`.
	#[inline]
	pub fn get(&self, n: usize) -> Tce {
		match self {
			Self::Same(tce) => *tce,
			Self::Each(values) => Tce(values.get(n).map_or(0, Cell::get)),
		}
	}

	/// None of so many from there on is anything but zero.
	#[inline]
	fn are_zero(&self, from: usize, count: usize) -> bool {
		match self {
			Self::Same(tce) => tce.0 == 0,
			Self::Each(values) => all_zero(values, from, count),
		}
	}
}

/// Only asked where there is no page yet.
#[cold]
#[inline(never)]
fn all_zero(values: &[Cell<u64>], from: usize, count: usize) -> bool {
	let mut values = values.iter().skip(from).take(count);
	values.all(|value| value.get() == 0)
}

/// Consecutive cells of a table, in one of its pages or in two. Where there are no cells
/// there is nothing but zeroes to be written.
#[derive(Debug)]
struct Runs<'a> {
	lower: &'a [AtomicU64],
	upper: &'a [AtomicU64],
	/// How many there would be in the lower page.
	first: usize,
}

/// There are cells for all of these values that need one.
pub(crate) fn ready<T: Table>(
	table: &T,
	index: u64,
	count: usize,
	values: Values<'_>,
) -> Result<(), Refusal> {
	let (number, _, first) = place::<T>(index, count);
	let runs = [
		(number, 0, first),
		(number.wrapping_add(1), first, count - first),
	];
	for (number, from, count) in runs {
		if count > 0 && table.page(number).is_none() && !values.are_zero(from, count) {
			return Err(Hard::Page(number).into());
		}
	}
	Ok(())
}

/// Writes an entry whose page there is, unless it is to be zero.
pub(crate) fn set<T: Table>(table: &T, index: u64, tce: Tce) {
	let (number, at, _) = place::<T>(index, 1);
	if let Some(cell) = table.page(number).and_then(|page| page.get(at)) {
		cell.store(tce.0, Ordering::Relaxed);
	}
}

/// The cells of `count` entries from `index` on, to be written with these values.
#[inline]
fn runs<'a, T: Table>(
	table: &'a T,
	index: u64,
	count: usize,
	values: Values<'_>,
) -> Result<Runs<'a>, Refusal> {
	let (number, at, first) = place::<T>(index, count);
	let rest = count - first;
	let lower = cells(table, number, at, first, || values.are_zero(0, first))?;
	let upper = cells(table, number.wrapping_add(1), 0, rest, || {
		values.are_zero(first, rest)
	})?;
	Ok(Runs {
		lower,
		upper,
		first,
	})
}

/// H_GET_TCE: the entry for an I/O bus address.
#[inline]
pub fn get<T: Table>(table: &T, ioba: u64) -> Result<Tce, Refusal> {
	let index = table.window().index(ioba, 1)?;
	let (number, at, _) = place::<T>(index, 1);
	let Some(page) = table.page(number) else {
		return Ok(Tce(0));
	};
	page.get(at)
		.map(|cell| Tce(cell.load(Ordering::Relaxed)))
		.ok_or(Hard::Kernel.into())
}

/// H_PUT_TCE: writes the entry for an I/O bus address.
#[inline]
pub fn put<T: Table>(table: &T, guest: &impl Guest, ioba: u64, tce: Tce) -> Result<(), Refusal> {
	let window = table.window();
	let index = window.index(ioba, 1)?;
	validate(&window, guest, tce)?;
	if T::IN_LINE && table.is_emulated() {
		let (number, at, count) = place::<T>(index, 1);
		for cell in cells(table, number, at, count, || tce.0 == 0)? {
			cell.store(tce.0, Ordering::Relaxed);
		}
		return Ok(());
	}
	write(table, guest, index, Values::Same(tce), (1, 1))
}

/// H_STUFF_TCE: writes one value into `pages` consecutive entries, but for the first
/// `done` of them, which have it by then. Returns how many have it now: one call takes
/// [`MAX_ENTRIES`] at most.
#[inline]
pub fn stuff<T: Table>(
	table: &T,
	guest: &impl Guest,
	ioba: u64,
	value: Tce,
	pages: u64,
	done: u64,
) -> Result<u64, Refusal> {
	let index = table.window().index(ioba, pages)?.wrapping_add(done);
	if value.is_mapping() {
		return Err(Refusal::Parameter);
	}
	let count = pages.saturating_sub(done).min(MAX_ENTRIES as u64) as usize;

	write(table, guest, index, Values::Same(value), (count, count))?;
	Ok(done + count as u64)
}

/// H_PUT_TCE_INDIRECT: writes consecutive entries from a list in guest memory.
///
/// The list goes through `buffer`, whose content before and after means nothing. Only
/// this call may use it.
#[inline]
pub fn put_indirect<T: Table>(
	table: &T,
	guest: &impl Guest,
	buffer: &[Cell<u64>; MAX_ENTRIES],
	ioba: u64,
	list: u64,
	pages: u64,
) -> Result<(), Refusal> {
	let window = table.window();
	let Some(count) = usize::try_from(pages).ok().filter(|&n| n <= MAX_ENTRIES) else {
		return Err(Refusal::Parameter);
	};
	if list & (LIST_SIZE - 1) != 0 {
		return Err(Refusal::Parameter);
	}
	let index = window.index(ioba, pages)?;

	let values = buffer.get(..count).ok_or(Refusal::Parameter)?;
	// Entries that are looked at in one go: the loop costs nearly as much as they do.
	let good = if T::IN_LINE {
		read_list::<4, _>(&window, guest, values, list)?
	} else {
		read_list::<1, _>(&window, guest, values, list)?
	};
	write(table, guest, index, Values::Each(values), (good, count))?;
	if good == count {
		Ok(())
	} else {
		Err(Refusal::Parameter)
	}
}

/// Writes the first of `counts` values to entries from `index` on. On hardware's tables the
/// others are looked at, too: see [`attached::write`].
#[inline(always)]
fn write<T: Table, G: Guest>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	counts: (usize, usize),
) -> Result<(), Refusal> {
	if T::IN_LINE {
		write_here(table, guest, index, values, counts)
	} else {
		write_apart(table, guest, index, values, counts)
	}
}

#[inline(never)]
fn write_apart<T: Table, G: Guest>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	counts: (usize, usize),
) -> Result<(), Refusal> {
	write_here(table, guest, index, values, counts)
}

#[inline(always)]
fn write_here<T: Table, G: Guest>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	counts: (usize, usize),
) -> Result<(), Refusal> {
	if table.is_emulated() {
		write_emulated(table, index, values, counts.0)
	} else {
		attached::write(table, guest, index, values, counts)
	}
}

#[inline(always)]
fn write_emulated<T: Table>(
	table: &T,
	index: u64,
	values: Values<'_>,
	count: usize,
) -> Result<(), Refusal> {
	// Both runs first: a page that can't be made must be found out in time.
	let Runs {
		lower,
		upper,
		first,
	} = runs(table, index, count, values)?;
	match values {
		Values::Same(value) => {
			fill(lower, value);
			fill(upper, value);
		}
		Values::Each(values) => {
			let (below, above) = values.split_at_checked(first).ok_or(Hard::Kernel)?;
			copy(lower, below);
			copy(upper, above);
		}
	}
	Ok(())
}

// Apart, as the compiler unrolls them.

#[inline(never)]
fn fill(cells: &[AtomicU64], value: Tce) {
	for cell in cells {
		cell.store(value.0, Ordering::Relaxed);
	}
}

#[inline(never)]
fn copy(cells: &[AtomicU64], values: &[Cell<u64>]) {
	for (cell, value) in cells.iter().zip(values) {
		cell.store(value.get(), Ordering::Relaxed);
	}
}

/// Reads the entries of a list, each once, and validates them. Returns how many come
/// before the first that poisons the table with an address which isn't memory.
#[inline(always)]
fn read_list<const STEP: usize, G: Guest>(
	window: &Window,
	guest: &G,
	buffer: &[Cell<u64>],
	list: u64,
) -> Result<usize, Refusal> {
	if guest.memory(list).is_none() {
		return Err(Hard::Userspace.into());
	}
	let list = guest.list(list).ok_or(Hard::List)?;
	let mut check = Check {
		mask: window.page_mask(),
		// Most lists stay in one slot.
		slot: Range::EMPTY,
		good: buffer.len(),
	};
	let (steps, rest) = buffer.as_chunks::<STEP>();
	let mut start = 0;
	for step in steps {
		for (at, value) in step.iter().enumerate() {
			value.set(check.entry(guest, start + at, list.entry(start + at))?);
		}
		start += STEP;
	}
	for (at, value) in rest.iter().enumerate() {
		value.set(check.entry(guest, start + at, list.entry(start + at))?);
	}
	Ok(check.good)
}

/// What the entries of a list are checked against, and what came of it so far.
struct Check {
	/// Bits of an entry below its page's address.
	mask: u64,
	/// The memory slot of the entry before.
	slot: Range,
	/// Entries before the first that can't be written.
	good: usize,
}

impl Check {
	/// Validates the entry at `index`.
	#[inline]
	fn entry(&mut self, guest: &impl Guest, index: usize, tce: Tce) -> Result<u64, Refusal> {
		// Nothing below the address but permissions, and some of those.
		let permissions_only = (tce.0 & self.mask).wrapping_sub(1) < Permission::all().bits();
		if !(permissions_only && self.slot.contains(tce.0)) {
			// Not by reference, which would keep all of this in memory.
			match Self::seldom(guest, self.mask, self.slot, tce)? {
				Some(slot) => self.slot = slot,
				None => self.good = self.good.min(index),
			}
		}
		Ok(tce.0)
	}

	/// The slot with the entry's address, or nothing if there is none and the entry
	/// has no permissions.
	#[cold]
	#[inline(never)]
	fn seldom(
		guest: &impl Guest,
		mask: u64,
		slot: Range,
		tce: Tce,
	) -> Result<Option<Range>, Refusal> {
		if tce.is_mapping() && tce.address() & mask != 0 {
			return Err(Hard::Userspace.into());
		}
		let found = if slot.contains(tce.0) {
			Some(slot)
		} else {
			guest.memory(tce.0)
		};
		if found.is_none() && tce.is_mapping() {
			return Err(Hard::Userspace.into());
		}
		Ok(found)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::model::{self, Call, Setup, World};
	use proptest::prelude::*;

	fn setup() -> Setup {
		Setup {
			window: Window {
				page_shift: 12,
				offset: 0,
				size: 0x3000,
			},
			present: vec![true, false],
			..Setup::default()
		}
	}

	fn buffer() -> [Cell<u64>; MAX_ENTRIES] {
		[const { Cell::new(0x5a) }; MAX_ENTRIES]
	}

	const HARD: Result<(), Refusal> = Err(Refusal::Hard(Hard::Userspace));

	#[test]
	fn a_list_is_read_once_and_written_as_it_was_read() {
		let world = &World::new(&setup());
		world.set_list(&[0x3003, 0x4001, 0x5002]);
		// The guest changes each entry as soon as it was read.
		world.spoil_list();
		let buffer = buffer();
		let result = put_indirect(&world, &world, &buffer, 0x1000, 0, 3);
		assert_eq!(result, Ok(()));
		assert_eq!(world.reads(), [0, 1, 2]);
		assert_eq!(world.contents()[..5], [0, 0x3003, 0x4001, 0x5002, 0]);
	}

	#[test]
	fn poison_outside_memory_ends_a_list_with_what_came_before_written() {
		let world = &World::new(&setup());
		let nowhere = 0xdead_0000_0000;
		world.set_list(&[0x3003, nowhere, 0x5003]);
		let buffer = buffer();
		let put = || put_indirect(&world, &world, &buffer, 0, 0, 3);
		assert_eq!(put(), Err(Refusal::Parameter));
		assert_eq!(world.contents()[..3], [0x3003, 0, 0]);
		// A worse one behind it is found before anything is written.
		world.set_list(&[0x7003, nowhere, nowhere | 1]);
		assert_eq!(put(), HARD);
		assert_eq!(world.contents()[..3], [0x3003, 0, 0]);
	}

	#[test]
	fn pages_of_the_table_are_not_made_for_zeroes() {
		let world = &World::new(&setup());
		let last = 1 << <&World>::PAGE_SHIFT;
		let stuff = |ioba, tce, pages| stuff(&world, &world, ioba, tce, pages, 0);
		assert_eq!(stuff((last - 2) << 12, Tce(0), 4), Ok(4));
		assert_eq!(put(&world, &world, last << 12, Tce(0)), Ok(()));
		assert_eq!(get(&world, last << 12), Ok(Tce(0)));
		let missing = Refusal::Hard(Hard::Page(1));
		assert_eq!(put(&world, &world, last << 12, Tce(4)), Err(missing));
		// Not even in the half that exists.
		assert_eq!(stuff((last - 2) << 12, Tce(4), 4), Err(missing));
		assert!(world.contents().iter().all(|&tce| tce == 0));
	}

	#[test]
	fn poison_is_written_unchecked() {
		let world = &World::new(&setup());
		let poison = Tce(0xffff_ffff_ffff_fffc);
		assert_eq!(put(&world, &world, 0x1000, poison), Ok(()));
		assert_eq!(stuff(&world, &world, 0x2000, poison, 2, 0), Ok(2));
		assert_eq!(world.contents()[..5], [0, poison.0, poison.0, poison.0, 0]);
		assert_eq!(get(&world, 0x3000), Ok(poison));
	}

	#[test]
	fn permissions_in_h_stuff_tce_are_a_bad_parameter() {
		let world = &World::new(&setup());
		for low in 1..4 {
			let stuffed = stuff(&world, &world, 0, Tce(low), 1, 0);
			assert_eq!(stuffed, Err(Refusal::Parameter));
		}
	}

	/// A table with one of the hardware's, which lacks its second array.
	fn attached() -> Setup {
		let memory = Setup::default().memory[0];
		Setup {
			hardware: vec![model::Hardware {
				page_shift: 12,
				present: vec![true, false],
			}],
			regions: vec![
				model::Registered {
					user: model::USER,
					length: 0x8000,
					host: 1 << 40,
					page_shift: 16,
				},
				model::Registered {
					user: memory.user + 0x1_0000,
					length: 0x8000,
					host: 2 << 40,
					page_shift: 12,
				},
			],
			window: Window {
				page_shift: 12,
				offset: 0x800,
				size: 0x400,
			},
			present: vec![true, true],
			..Setup::default()
		}
	}

	const IOBA: u64 = 0x800 << 12;

	#[test]
	fn a_mapping_goes_to_the_hardware_and_back() {
		let world = &World::new(&attached());
		assert_eq!(put(&world, &world, IOBA + 0x1000, Tce(0x3002)), Ok(()));
		// What can be written can be read, too.
		let entry = |guest: u64| ((1 << 40) | guest | 3, model::USER + guest);
		assert_eq!(world.hardware(), [[(1, entry(0x3000))].into()]);
		assert_eq!(world.mapped(), [1, 0]);
		// It was nothing before, and even that may be cached.
		assert_eq!(world.forgotten(), [[(1, 1)]]);
		assert!(world.written().is_empty());

		let other = ((2 << 40) | 0x2000 | 1, model::USER + 0x1_2000);
		assert_eq!(put(&world, &world, IOBA + 0x1000, Tce(0x1_2001)), Ok(()));
		assert_eq!(world.hardware(), [[(1, other)].into()]);
		assert_eq!(world.mapped(), [0, 1]);
		assert_eq!(world.forgotten(), [[(1, 1)]]);
		assert_eq!(world.written(), [model::USER + 0x3000].into());

		// Once for all of them.
		assert_eq!(put(&world, &world, IOBA + 0x5000, Tce(0x3001)), Ok(()));
		assert_eq!(world.forgotten(), [[(5, 1)]]);
		assert_eq!(stuff(&world, &world, IOBA, Tce(0), 16, 0), Ok(16));
		assert_eq!(world.hardware(), [[].into()]);
		assert_eq!(world.mapped(), [0, 0]);
		assert_eq!(world.forgotten(), [[(1, 5)]]);
		assert!(world.contents().iter().all(|&tce| tce == 0));
	}

	#[test]
	fn what_the_hardware_cannot_have_changes_nothing() {
		let world = &World::new(&attached());
		let put = |index: u64, tce| put(&world, &world, IOBA + (index << 12), Tce(tce));
		assert_eq!(put(1, 0x3003), Ok(()));
		world.forgotten();
		let before = (world.contents(), world.hardware(), world.mapped());
		// Memory, but not registered; beyond the end of a region.
		assert_eq!(put(1, 0x2_0003), HARD);
		assert_eq!(put(1, 0x8003), HARD);
		let level = Hard::Level {
			table: 0,
			index: 256,
		};
		assert_eq!(put(256, 0x3003), Err(level.into()));
		world.set_list(&[0x1003, 0x2003, 0x2_0003]);
		let indirect = |pages| put_indirect(&world, &world, &buffer(), IOBA, 0, pages);
		assert_eq!(indirect(3), HARD);
		world.unregister(1);
		world.set_list(&[0x1003, 0x1_2003]);
		assert_eq!(indirect(2), HARD);
		let mapped = world.hardware();
		assert_eq!((world.contents(), mapped), (before.0, before.1));
		assert_eq!(world.forgotten(), [[]]);
		// Nothing is mapped where there is no array.
		assert_eq!(put(256, 0), Ok(()));
		assert_eq!(put(256, 0x5a5a_0000), Ok(()));
		assert_eq!(get(&world, IOBA + (256 << 12)), Ok(Tce(0x5a5a_0000)));
	}

	#[test]
	fn a_page_ends_with_its_slot_or_goes_on_in_the_next() {
		const SHIFT: u32 = 16;
		let slot = |start, length, user| Range {
			start,
			length,
			user: model::USER + user,
		};
		let setup = Setup {
			window: Window {
				page_shift: SHIFT,
				..attached().window
			},
			// The first two pages, in another order in userspace; then half a page, and in
			// userspace the memory goes on.
			memory: vec![
				slot(0, 0x8000, 0x10_0000),
				slot(0x8000, 0x1_8000, 0x8_0000),
				slot(0x2_0000, 0x8000, 0),
				slot(0x3_0000, 0x8800, 0x20_0000),
			],
			regions: vec![model::Registered {
				user: model::USER,
				length: 1 << 24,
				host: 1 << 40,
				page_shift: 12,
			}],
			..attached()
		};
		let world = &World::new(&setup);
		let ioba = 0x800 << SHIFT;
		let put = |page: u64, tce| put(&world, &world, ioba + (page << SHIFT), Tce(tce));
		assert_eq!(put(0, 0x3), Ok(()));
		assert_eq!(put(1, 0x1_0003), Ok(()));
		let mapped = world.hardware();
		let users: Vec<_> = mapped[0]
			.values()
			.map(|(_, user)| user - model::USER)
			.collect();
		let expected: Vec<_> = (0..8)
			.map(|part| 0x10_0000 + (part << 12))
			.chain((0..24).map(|part| 0x8_0000 + (part << 12)))
			.collect();
		assert_eq!(users, expected);
		let before = (world.contents(), world.mapped());
		// Its slot ends at a page of the hardware's, or within one.
		assert_eq!(put(0, 0x2_0003), HARD);
		assert_eq!(put(1, 0x3_0003), HARD);
		assert_eq!((world.contents(), world.mapped()), before);
		assert_eq!(world.hardware(), mapped);
	}

	#[test]
	fn more_regions_than_are_counted_together() {
		let mut setup = attached();
		setup.regions = (0..32)
			.map(|number| model::Registered {
				user: model::USER + number * 0x1000,
				length: 0x1000,
				host: (number + 1) << 40,
				page_shift: 12,
			})
			.collect();
		let world = &World::new(&setup);
		for number in 0..32 {
			let ioba = IOBA + (number << 12);
			assert_eq!(put(&world, &world, ioba, Tce(number << 12 | 3)), Ok(()));
		}
		world.forgotten();
		// To unmap them takes more than one telling.
		assert_eq!(stuff(&world, &world, IOBA, Tce(0), 32, 0), Ok(32));
		assert_eq!(world.mapped(), [0; 32]);
		let forgotten = world.forgotten().concat();
		let covered: u64 = forgotten.iter().map(|(_, count)| count).sum();
		assert!(forgotten.len() > 1 && covered == 32, "{forgotten:?}");
		// To map them is too much.
		let entries: Vec<_> = (0..32).map(|number| number << 12 | 3).collect();
		world.set_list(&entries);
		let indirect = put_indirect(&world, &world, &buffer(), IOBA, 0, 32);
		assert_eq!(indirect, Err(Hard::Kernel.into()));
		assert_eq!(world.mapped(), [0; 32]);
	}

	#[test]
	fn more_tables_than_are_written_here() {
		let mut setup = attached();
		setup.hardware = vec![setup.hardware[0].clone(); MAX_ATTACHED + 1];
		let world = &World::new(&setup);
		let hard = Err(Hard::Kernel.into());
		assert_eq!(put(&world, &world, IOBA, Tce(0x3003)), hard);
		assert_eq!(get(&world, IOBA), Ok(Tce(0)));
	}

	/// Threads that write the same few entries, as vcpus do, each time of one of these
	/// tables.
	fn write_at_once(worlds: &[World]) {
		let rounds = if cfg!(miri) { 20 } else { 20_000 };
		std::thread::scope(|scope| {
			for vcpu in 0..4_u64 {
				scope.spawn(move || {
					let mut random = vcpu + 1;
					for _ in 0..rounds {
						random = random
							.wrapping_mul(6364136223846793005)
							.wrapping_add(1442695040888963407);
						let world = &worlds[(random >> 45) as usize % worlds.len()];
						let Window {
							page_shift, offset, ..
						} = world.window();
						let (index, page) = (random >> 62, random >> 40 & 7);
						let region = random >> 39 & 1;
						let ioba = (offset + index) << page_shift;
						let tce = match page_shift {
							12 => region << 16 | page << 12 | 3,
							_ => region << 16 | 3,
						};
						let result = match random >> 50 & 3 {
							0 => stuff(&world, &world, ioba, Tce(0), 3, 0).map(drop),
							1 => put(&world, &world, ioba, Tce(0)),
							_ => put(&world, &world, ioba, Tce(tce)),
						};
						assert_eq!(result, Ok(()));
					}
				});
			}
		});
	}

	/// Each entry of the hardware's tables is one that was written, and the counts are
	/// those of the entries.
	fn assert_whole(world: &World) {
		let mut mapped = vec![0; world.mapped().len()];
		for (tce, user) in world.hardware().iter().flat_map(model::Entries::values) {
			let (region, at) = (tce >> 40, tce & 0xf_ffff_f000);
			let region_user = model::USER + ((region - 1) << 16);
			assert_eq!((*user, tce & 0xfff), (region_user + (at & 0xffff), 3));
			mapped[region as usize - 1] += 1;
		}
		assert_eq!(world.mapped(), mapped);
	}

	/// If one entry of the hardware's stands for one of the guest's, the guest's table
	/// agrees with it, too.
	#[test]
	fn vcpus_at_the_same_entries_leave_them_whole() {
		let worlds = [World::new(&attached())];
		write_at_once(&worlds);
		let [world] = &worlds;
		assert_whole(world);
		let contents = world.contents();
		for index in 0..7 {
			let own = contents[index as usize];
			let user = (own != 0).then(|| model::USER + (own & !3));
			let entry = world.hardware()[0].get(&index).map(|(_, user)| *user);
			assert_eq!(entry, user, "entry {index}");
		}
	}

	/// Tables of two page sizes, to which the same tables of the hardware's are attached: a
	/// guest page of one is many entries there, any of which the other may be writing.
	#[test]
	fn tables_of_several_page_sizes_leave_shared_entries_whole() {
		let mut setup = attached();
		setup.hardware.push(setup.hardware[0].clone());
		setup.regions.iter_mut().for_each(|region| {
			(region.length, region.page_shift) = (1 << 16, 16);
		});
		let small = World::new(&setup);
		let large = small.sibling(&Setup {
			window: Window {
				page_shift: 16,
				offset: setup.window.offset >> 4,
				size: setup.window.size >> 4,
			},
			..setup
		});
		let worlds = [small, large];
		write_at_once(&worlds);
		assert_whole(&worlds[0]);
	}

	/// The regions that an hcall's pages were found in are those that its entries count
	/// for, even if they can't be found again.
	#[test]
	fn what_was_reserved_is_what_is_written() {
		let world = World::new(&attached());
		let forgetful = &Forgetful {
			world: &world,
			left: Cell::new(2),
		};
		world.set_list(&[0x3003, 0x1_2003]);
		let written = put_indirect(&&world, forgetful, &buffer(), IOBA, 0, 2);
		assert_eq!(written, Ok(()));
		assert_eq!(world.hardware()[0].len(), 2);
		assert_eq!(world.mapped(), [1, 1]);
	}

	/// A guest of which some regions can be looked for, and no more.
	struct Forgetful<'w> {
		world: &'w World,
		left: Cell<u32>,
	}

	impl<'w> Guest for Forgetful<'w> {
		type List<'a>
			= &'a World
		where
			Self: 'a;

		type Region = model::RegionOf<'w>;

		fn memory(&self, address: u64) -> Option<Range> {
			self.world.memory(address)
		}

		fn list(&self, address: u64) -> Option<&World> {
			self.world.list(address)
		}

		fn region(&self, user: u64, length: u64) -> Result<Self::Region, Refusal> {
			let left = self.left.get().checked_sub(1).ok_or(Hard::Kernel)?;
			self.left.set(left);
			self.world.region(user, length)
		}
	}

	proptest! {
		#![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 512 }))]

		/// Any calls on any table: what the model of C answers, and the same entries
		/// afterwards; or "too hard", and nothing has changed.
		#[test]
		fn fast_is_c_or_too_hard(
			setup in model::setups(),
			calls in proptest::collection::vec(model::calls(), 1..40),
		) {
			let world = &World::new(&setup);
			let mut c = model::C::new(&setup);
			for call in &calls {
				let call = call.within(&setup);
				world.prepare(&call);
				let state = || (world.contents(), world.hardware(), world.mapped(), world.written());
				let before = state();
				let fast = world.perform(&call);
				if fast.0 == Code::TOO_HARD {
					prop_assert_eq!(state(), before, "changed by {:?}", call);
					prop_assert!(world.forgotten().concat().is_empty());
					prop_assert!(c.may_be_hard(&call, world), "why is this hard: {:?}", call);
					// As in the kernel, where C then does it and userspace and other
					// vcpus see what it did.
					c.perform(&call);
					c.stale();
					world.follow(&c);
				} else {
					prop_assert_eq!(fast, c.perform(&call), "{:?}", call);
					agree(world, &mut c, &call)?;
				}
			}
		}

		/// An instance that can make pages and read every list, as the full path's
		/// does, answers as C does without exception.
		#[test]
		fn full_is_c(
			setup in model::setups(),
			calls in proptest::collection::vec(model::calls(), 1..40),
		) {
			let setup = Setup { full: true, ..setup };
			let world = &World::new(&setup);
			let mut c = model::C::new(&setup);
			for call in &calls {
				let call = call.within(&setup);
				if call.writes(&setup) > model::MOST_WRITES {
					continue;
				}
				world.prepare(&call);
				prop_assert_eq!(world.perform(&call), c.perform(&call), "{:?}", call);
				agree(world, &mut c, &call)?;
			}
			// And has made the same pages.
			prop_assert_eq!(world.present(), c.present);
		}
	}

	/// The world is as C would have made it, and the hardware was told so: once a table.
	fn agree(world: &World, c: &mut model::C, call: &Call) -> Result<(), TestCaseError> {
		prop_assert_eq!(world.contents(), c.contents(), "after {:?}", call);
		prop_assert_eq!(world.hardware(), c.hardware.clone(), "after {:?}", call);
		prop_assert_eq!(world.mapped(), c.mapped(), "after {:?}", call);
		prop_assert_eq!(world.written(), c.written.clone(), "after {:?}", call);
		let steps = match call {
			Call::Stuff { pages, .. } => pages.div_ceil(MAX_ENTRIES as u64),
			_ => 1,
		};
		for (forgotten, stale) in world.forgotten().iter().zip(c.stale()) {
			prop_assert!(forgotten.len() as u64 <= steps, "{:?}", forgotten);
			let told = |index: &u64| {
				let mut ranges = forgotten.iter();
				ranges.any(|(first, count)| index.wrapping_sub(*first) < *count)
			};
			prop_assert!(stale.iter().all(told), "{:?} of {:?}", forgotten, stale);
			// And of nothing if nothing was mapped.
			prop_assert!(!stale.is_empty() || forgotten.is_empty());
		}
		Ok(())
	}

	/// The properties above would hold of calls that are all refused.
	#[test]
	fn generated_calls_have_all_outcomes() {
		use proptest::strategy::ValueTree;
		use proptest::test_runner::TestRunner;
		use std::collections::BTreeMap;

		let mut runner = TestRunner::deterministic();
		let mut outcomes = BTreeMap::new();
		for _ in 0..3000 {
			let setup = model::setups().new_tree(&mut runner).unwrap().current();
			let world = &World::new(&setup);
			for _ in 0..4 {
				let call = model::calls().new_tree(&mut runner).unwrap().current();
				let call = call.within(&setup);
				world.prepare(&call);
				let code = world.perform(&call).0;
				*outcomes.entry((call.name(), code.0)).or_insert(0) += 1;
			}
		}
		for name in ["get", "put", "stuff", "indirect"] {
			for code in [Code::SUCCESS, Code::PARAMETER, Code::TOO_HARD] {
				let seen = outcomes.get(&(name, code.0)).copied().unwrap_or(0);
				let least = if name == "get" && code == Code::TOO_HARD {
					0
				} else {
					25
				};
				assert!(seen >= least, "{name}, {code:?}: {seen} of {outcomes:?}");
			}
		}
	}

	const _: () = assert!(1 << <&World>::PAGE_SHIFT >= MAX_ENTRIES);
}
