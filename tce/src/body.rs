// SPDX-License-Identifier: GPL-2.0-only
//! The bodies of the hcalls.
//!
//! Each does everything that can fail first and writes afterwards, and what it
//! writes is what it has checked: the list of H_PUT_TCE_INDIRECT is memory that
//! the guest may change meanwhile, so its entries are read once, into a buffer.

use core::sync::atomic::{AtomicU64, Ordering};

use hcall::Code;

use crate::{Permission, Tce, Window};

/// Most entries that one call of a body takes.
pub const MAX_ENTRIES: usize = 512;
/// Size and alignment of a list.
const LIST_SIZE: u64 = 4096;

/// A table, as a body reaches it.
///
/// Entries are atomics: other vcpus write the same table, and userspace may have
/// it mapped. Nothing is published by an entry, so relaxed is enough.
pub trait Table {
	/// Entries of one of the pages that the table is made of, as a shift; from 9.
	const PAGE_SHIFT: u32;

	/// The window.
	fn window(&self) -> Window;

	/// No hardware translates with this table: writing the entries is all.
	fn is_emulated(&self) -> bool;

	/// All the entries of a page of the table, if it has come into being.
	fn page(&self, number: u64) -> Option<&[AtomicU64]>;

	/// The same, but makes the page if it has to be made; [`Code::TOO_HARD`] if it
	/// can't be made here and now.
	fn make_page(&self, number: u64) -> Result<&[AtomicU64], Code>;
}

/// Guest addresses from `start`, `length` bytes of them, that are memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
	/// The first.
	pub start: u64,
	/// How many.
	pub length: u64,
}

impl Range {
	/// No address at all.
	pub const EMPTY: Self = Self {
		start: 0,
		length: 0,
	};

	/// Is this one of them?
	#[inline]
	pub const fn contains(&self, address: u64) -> bool {
		address.wrapping_sub(self.start) < self.length
	}
}

/// The guest, as a body reaches it.
pub trait Guest {
	/// A list that can be read.
	type List<'a>: List
	where
		Self: 'a;

	/// The memory slot that has this address, if there is one.
	fn memory(&self, address: u64) -> Option<Range>;

	/// The list at this address, a multiple of 4096; `None` if it can't be read here
	/// and now.
	fn list(&self, address: u64) -> Option<Self::List<'_>>;
}

/// A list in guest memory.
pub trait List {
	/// Reads entry `index`, which is below 512.
	fn entry(&self, index: usize) -> Tce;
}

/// Is it an entry that H_PUT_TCE may write? Anything without permissions is.
#[inline]
fn validate(window: &Window, guest: &impl Guest, tce: Tce) -> Result<(), Code> {
	if tce.is_mapping()
		&& (tce.address() & window.page_mask() != 0 || guest.memory(tce.0).is_none())
	{
		return Err(Code::TOO_HARD);
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
) -> Result<&[AtomicU64], Code> {
	if count == 0 {
		return Ok(&[]);
	}
	let page = match table.page(number) {
		Some(page) => page,
		None if is_zero() => return Ok(&[]),
		None => table.make_page(number)?,
	};
	// A page that is too short would be the table's fault, and no harm is done.
	page.get(at..)
		.and_then(|page| page.get(..count))
		.ok_or(Code::TOO_HARD)
}

/// The table is nobody's but ours and userspace's, or the hcall is too hard.
#[inline]
fn emulated(table: &impl Table) -> Result<(), Code> {
	if table.is_emulated() {
		Ok(())
	} else {
		Err(Code::TOO_HARD)
	}
}

/// H_GET_TCE: the entry for an I/O bus address.
#[inline]
pub fn get<T: Table>(table: &T, ioba: u64) -> Result<Tce, Code> {
	let index = table.window().index(ioba, 1)?;
	let (number, at, _) = place::<T>(index, 1);
	let Some(page) = table.page(number) else {
		return Ok(Tce(0));
	};
	page.get(at)
		.map(|cell| Tce(cell.load(Ordering::Relaxed)))
		.ok_or(Code::TOO_HARD)
}

/// H_PUT_TCE: writes the entry for an I/O bus address.
#[inline]
pub fn put<T: Table>(table: &T, guest: &impl Guest, ioba: u64, tce: Tce) -> Result<(), Code> {
	let window = table.window();
	let index = window.index(ioba, 1)?;
	emulated(table)?;
	validate(&window, guest, tce)?;
	let (number, at, count) = place::<T>(index, 1);
	for cell in cells(table, number, at, count, || tce.0 == 0)? {
		cell.store(tce.0, Ordering::Relaxed);
	}
	Ok(())
}

/// H_STUFF_TCE: writes one value into `pages` consecutive entries. More than
/// [`MAX_ENTRIES`] of them are too hard.
#[inline]
pub fn stuff<T: Table>(table: &T, ioba: u64, value: Tce, pages: u64) -> Result<(), Code> {
	let index = table.window().index(ioba, pages)?;
	if value.is_mapping() {
		return Err(Code::PARAMETER);
	}
	emulated(table)?;
	let Some(count) = usize::try_from(pages).ok().filter(|&n| n <= MAX_ENTRIES) else {
		return Err(Code::TOO_HARD);
	};

	// Both runs first: a page that can't be made must be found out in time.
	let (number, at, first) = place::<T>(index, count);
	let runs = [
		cells(table, number, at, first, || value.0 == 0)?,
		cells(table, number.wrapping_add(1), 0, count - first, || {
			value.0 == 0
		})?,
	];
	for run in runs {
		for cell in run {
			cell.store(value.0, Ordering::Relaxed);
		}
	}
	Ok(())
}

/// H_PUT_TCE_INDIRECT: writes consecutive entries from a list in guest memory.
///
/// The list goes through `buffer`, whose content before and after means nothing.
#[inline]
pub fn put_indirect<T: Table>(
	table: &T,
	guest: &impl Guest,
	buffer: &mut [u64; MAX_ENTRIES],
	ioba: u64,
	list: u64,
	pages: u64,
) -> Result<(), Code> {
	let window = table.window();
	let Some(count) = usize::try_from(pages).ok().filter(|&n| n <= MAX_ENTRIES) else {
		return Err(Code::PARAMETER);
	};
	if list & (LIST_SIZE - 1) != 0 {
		return Err(Code::PARAMETER);
	}
	let index = window.index(ioba, pages)?;
	emulated(table)?;

	let values = buffer.get_mut(..count).ok_or(Code::PARAMETER)?;
	let good = read_list(&window, guest, values, list)?;

	let (number, at, first) = place::<T>(index, good);
	let (lower, upper) = buffer.split_at_checked(first).ok_or(Code::TOO_HARD)?;
	let upper = upper.get(..good - first).ok_or(Code::TOO_HARD)?;
	let is_zero = |values: &[u64]| values.iter().all(|&value| value == 0);
	let runs = [
		(
			cells(table, number, at, lower.len(), || is_zero(lower))?,
			lower,
		),
		(
			cells(table, number.wrapping_add(1), 0, upper.len(), || {
				is_zero(upper)
			})?,
			upper,
		),
	];
	for (run, values) in runs {
		for (cell, &value) in run.iter().zip(values) {
			cell.store(value, Ordering::Relaxed);
		}
	}
	if good == count {
		Ok(())
	} else {
		Err(Code::PARAMETER)
	}
}

/// Reads the entries of a list, each once, and validates them. Returns how many come
/// before the first that poisons the table with an address which isn't memory.
#[inline]
fn read_list<G: Guest>(
	window: &Window,
	guest: &G,
	buffer: &mut [u64],
	list: u64,
) -> Result<usize, Code> {
	/// Entries that are looked at in one go: the loop costs nearly as much as they do.
	const STEP: usize = 8;

	if guest.memory(list).is_none() {
		return Err(Code::TOO_HARD);
	}
	let list = guest.list(list).ok_or(Code::TOO_HARD)?;
	let mut check = Check {
		mask: window.page_mask(),
		// Most lists stay in one slot.
		slot: Range::EMPTY,
		good: buffer.len(),
	};
	let (steps, rest) = buffer.as_chunks_mut::<STEP>();
	let mut start = 0;
	for step in steps {
		for (at, value) in step.iter_mut().enumerate() {
			*value = check.entry(guest, start + at, list.entry(start + at))?;
		}
		start += STEP;
	}
	for (at, value) in rest.iter_mut().enumerate() {
		*value = check.entry(guest, start + at, list.entry(start + at))?;
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
	fn entry(&mut self, guest: &impl Guest, index: usize, tce: Tce) -> Result<u64, Code> {
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
	fn seldom(guest: &impl Guest, mask: u64, slot: Range, tce: Tce) -> Result<Option<Range>, Code> {
		if tce.is_mapping() && tce.address() & mask != 0 {
			return Err(Code::TOO_HARD);
		}
		let found = if slot.contains(tce.0) {
			Some(slot)
		} else {
			guest.memory(tce.0)
		};
		if found.is_none() && tce.is_mapping() {
			return Err(Code::TOO_HARD);
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

	#[test]
	fn a_list_is_read_once_and_written_as_it_was_read() {
		let world = World::new(&setup());
		world.set_list(&[0x3003, 0x4001, 0x5002]);
		// The guest changes each entry as soon as it was read.
		world.spoil_list();
		let mut buffer = [0; MAX_ENTRIES];
		let result = put_indirect(&world, &world, &mut buffer, 0x1000, 0, 3);
		assert_eq!(result, Ok(()));
		assert_eq!(world.reads(), [0, 1, 2]);
		assert_eq!(world.contents()[..5], [0, 0x3003, 0x4001, 0x5002, 0]);
	}

	#[test]
	fn poison_outside_memory_ends_a_list_with_what_came_before_written() {
		let world = World::new(&setup());
		let nowhere = 0xdead_0000_0000;
		world.set_list(&[0x3003, nowhere, 0x5003]);
		let mut buffer = [0; MAX_ENTRIES];
		let mut put = || put_indirect(&world, &world, &mut buffer, 0, 0, 3);
		assert_eq!(put(), Err(Code::PARAMETER));
		assert_eq!(world.contents()[..3], [0x3003, 0, 0]);
		// A worse one behind it is found before anything is written.
		world.set_list(&[0x7003, nowhere, nowhere | 1]);
		assert_eq!(put(), Err(Code::TOO_HARD));
		assert_eq!(world.contents()[..3], [0x3003, 0, 0]);
	}

	#[test]
	fn pages_of_the_table_are_not_made_for_zeroes() {
		let world = World::new(&setup());
		let last = 1 << World::PAGE_SHIFT;
		assert_eq!(stuff(&world, (last - 2) << 12, Tce(0), 4), Ok(()));
		assert_eq!(put(&world, &world, last << 12, Tce(0)), Ok(()));
		assert_eq!(get(&world, last << 12), Ok(Tce(0)));
		assert_eq!(put(&world, &world, last << 12, Tce(4)), Err(Code::TOO_HARD));
		// Not even in the half that exists.
		assert_eq!(
			stuff(&world, (last - 2) << 12, Tce(4), 4),
			Err(Code::TOO_HARD)
		);
		assert!(world.contents().iter().all(|&tce| tce == 0));
	}

	#[test]
	fn poison_is_written_unchecked() {
		let world = World::new(&setup());
		let poison = Tce(0xffff_ffff_ffff_fffc);
		assert_eq!(put(&world, &world, 0x1000, poison), Ok(()));
		assert_eq!(stuff(&world, 0x2000, poison, 2), Ok(()));
		assert_eq!(world.contents()[..5], [0, poison.0, poison.0, poison.0, 0]);
		assert_eq!(get(&world, 0x3000), Ok(poison));
	}

	#[test]
	fn permissions_in_h_stuff_tce_are_a_bad_parameter() {
		let world = World::new(&setup());
		for low in 1..4 {
			assert_eq!(stuff(&world, 0, Tce(low), 1), Err(Code::PARAMETER));
		}
	}

	#[test]
	fn tables_of_hardware_are_only_read() {
		let world = World::new(&Setup {
			hardware: true,
			..setup()
		});
		let mut buffer = [0; MAX_ENTRIES];
		assert_eq!(put(&world, &world, 0, Tce(0)), Err(Code::TOO_HARD));
		assert_eq!(stuff(&world, 0, Tce(0), 1), Err(Code::TOO_HARD));
		let indirect = put_indirect(&world, &world, &mut buffer, 0, 0, 1);
		assert_eq!(indirect, Err(Code::TOO_HARD));
		assert_eq!(get(&world, 0), Ok(Tce(0)));
		// Bad parameters are bad parameters still.
		assert_eq!(put(&world, &world, 1, Tce(0)), Err(Code::PARAMETER));
		assert_eq!(stuff(&world, 0, Tce(1), 1), Err(Code::PARAMETER));
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
			let world = World::new(&setup);
			let mut c = model::C::new(&setup);
			for call in &calls {
				let call = call.within(&setup);
				world.prepare(&call);
				let before = world.contents();
				let fast = world.perform(&call);
				if fast.0 == Code::TOO_HARD {
					prop_assert_eq!(world.contents(), before, "changed by {:?}", call);
					prop_assert!(c.may_be_hard(&call, &world), "why is this hard: {:?}", call);
					// As in the kernel, where C then does it and userspace and other
					// vcpus see what it did.
					c.perform(&call);
					world.follow(&c);
				} else {
					prop_assert_eq!(fast, c.perform(&call), "{:?}", call);
					prop_assert_eq!(world.contents(), c.contents(), "after {:?}", call);
				}
			}
		}

		/// An instance that can make pages and read every list, as the full path's
		/// will, answers as C does without exception.
		#[test]
		fn full_is_c(
			setup in model::setups(),
			calls in proptest::collection::vec(model::calls(), 1..40),
		) {
			let setup = Setup { full: true, hardware: false, ..setup };
			let world = World::new(&setup);
			let mut c = model::C::new(&setup);
			for call in &calls {
				let call = call.within(&setup);
				// H_STUFF_TCE goes on in steps there.
				if matches!(call, Call::Stuff { pages, .. } if pages > MAX_ENTRIES as u64) {
					continue;
				}
				world.prepare(&call);
				prop_assert_eq!(world.perform(&call), c.perform(&call), "{:?}", call);
				prop_assert_eq!(world.contents(), c.contents(), "after {:?}", call);
			}
			// And has made the same pages.
			prop_assert_eq!(world.present(), c.present);
		}
	}

	/// The properties above would hold of calls that are all refused.
	#[test]
	fn generated_calls_have_all_outcomes() {
		use proptest::strategy::ValueTree;
		use proptest::test_runner::TestRunner;
		use std::collections::BTreeMap;

		let mut runner = TestRunner::deterministic();
		let mut outcomes = BTreeMap::new();
		for _ in 0..2000 {
			let setup = model::setups().new_tree(&mut runner).unwrap().current();
			let world = World::new(&setup);
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

	const _: () = assert!(1 << World::PAGE_SHIFT >= MAX_ENTRIES);
}
