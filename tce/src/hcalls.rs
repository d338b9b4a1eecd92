// SPDX-License-Identifier: GPL-2.0-only
//! The bodies of the hcalls.
//!
//! Each body does everything that can fail first and writes afterwards, and writes only
//! values that it has checked. The list of H_PUT_TCE_INDIRECT is memory that the guest may
//! change at any time, so its entries are read once, into a buffer.
//!
//! [`hardware::write`] writes a hardware table, if there is one, before the guest's own table.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::list::{LIST_SIZE, read_list, read_list_apart};
use crate::{GuestMemory, Refusal, Table, Tce, TooHard, Window, hardware};

/// Most entries that one call of a body takes.
pub const MAX_ENTRIES: usize = 512;

/// Most hardware entries that one call of a body writes or looks at, but for the parts of a single
/// entry of the guest's. All the while interrupts are disabled.
pub const MAX_WRITES: usize = 128;

/// How far an hcall is that takes several calls of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
	/// Entries of H_STUFF_TCE that are written. Of H_PUT_TCE_INDIRECT first those that were looked
	/// at, and then also those that are written.
	pub done: u64,
	/// Entries of a list, which is in the buffer by now, before the first that can't be written.
	pub good: u64,
}

/// Is it an entry that H_PUT_TCE may write? Anything without permissions is.
#[inline]
pub(crate) fn validate(window: &Window, guest: &impl GuestMemory, tce: Tce) -> Result<(), Refusal> {
	let is_aligned = tce.0 >> window.page_shift << window.page_shift == tce.address();
	if tce.is_mapping() && !(is_aligned && guest.has(tce.0)) {
		return Err(TooHard::Userspace.into());
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
		None => return Err(TooHard::TablePage(number).into()),
	};
	// A page that is too short would be the table's fault, and no harm is done.
	page.get(at..)
		.and_then(|page| page.get(..count))
		.ok_or(TooHard::CFallback.into())
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
			return Err(TooHard::TablePage(number).into());
		}
	}
	Ok(())
}

/// Writes an entry whose page there is, unless it is to be zero.
#[inline(never)]
pub(crate) fn set<T: Table>(table: &T, index: u64, tce: Tce) {
	if let Some(cell) = cells_from(table, index).first() {
		cell.store(tce.0, Ordering::Relaxed);
	}
}

/// The cells from `index` on, to the end of their page; none if there is no page.
pub(crate) fn cells_from<T: Table>(table: &T, index: u64) -> &[AtomicU64] {
	let (number, at, _) = place::<T>(index, 1);
	table
		.page(number)
		.and_then(|page| page.get(at..))
		.unwrap_or(&[])
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
	let index = table.window().index_of_one(ioba)?;
	let (number, at, _) = place::<T>(index, 1);
	let Some(page) = table.page(number) else {
		return Ok(Tce(0));
	};
	page.get(at)
		.map(|cell| Tce(cell.load(Ordering::Relaxed)))
		.ok_or(TooHard::CFallback.into())
}

/// H_PUT_TCE: writes the entry for an I/O bus address.
#[inline(always)]
pub fn put<T: Table>(
	table: &T,
	guest: &impl GuestMemory,
	ioba: u64,
	tce: Tce,
) -> Result<(), Refusal> {
	let window = table.window();
	let index = window.index_of_one(ioba)?;
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

/// How many of `left` entries one call writes or looks at.
#[inline(always)]
fn step<T: Table>(table: &T, left: u64) -> Result<usize, Refusal> {
	let left = left.min(MAX_ENTRIES as u64) as usize;
	if !table.may_continue() || table.is_emulated() {
		return Ok(left);
	}
	Ok(left.min(hardware::step(table)?))
}

/// H_STUFF_TCE: writes one value into `pages` consecutive entries, but for those that earlier calls
/// have written. One call takes [`MAX_ENTRIES`] at most, and fewer of hardware tables:
/// [`TooHard::Resched`] if there are more.
#[inline(always)]
pub fn stuff<T: Table>(
	table: &T,
	guest: &impl GuestMemory,
	ioba: u64,
	value: Tce,
	pages: u64,
	progress: &mut Progress,
) -> Result<(), Refusal> {
	let done = progress.done;
	let index = table.window().index(ioba, pages)?.wrapping_add(done);
	if value.is_mapping() {
		return Err(Refusal::Parameter);
	}
	let left = pages.saturating_sub(done);
	let count = step(table, left)?;

	write(table, guest, index, Values::Same(value), (count, count))?;
	if count as u64 == left {
		return Ok(());
	}
	progress.done = done.wrapping_add(count as u64);
	Err(TooHard::Resched.into())
}

/// H_PUT_TCE_INDIRECT: writes consecutive entries from a list in guest memory.
///
/// The list goes through `buffer`, whose content before the first call and after the last means
/// nothing. Only this hcall may use it.
///
/// One call does all, if it may write as many hardware entries as that takes. Otherwise the first
/// calls look at the entries, and further calls write them.
#[inline(always)]
pub fn put_indirect<T: Table>(
	table: &T,
	guest: &impl GuestMemory,
	buffer: &[Cell<u64>; MAX_ENTRIES],
	ioba: u64,
	list: u64,
	pages: u64,
	progress: &mut Progress,
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
	let good = if progress.done != 0 {
		progress.good as usize
	} else if T::IN_LINE {
		read_list(&window, guest, values, list)?
	} else {
		read_list_apart(&window, guest, values, list)?
	};
	if table.may_continue() && (progress.done != 0 || step(table, pages)? < count) {
		progress.good = good as u64;
		return put_part(table, guest, index, values, progress);
	}
	write(table, guest, index, Values::Each(values), (good, count))?;
	if good == count {
		Ok(())
	} else {
		Err(Refusal::Parameter)
	}
}

/// Looks at some entries of a list, or writes some.
#[cold]
#[inline(never)]
fn put_part<T: Table, G: GuestMemory>(
	table: &T,
	guest: &G,
	index: u64,
	values: &[Cell<u64>],
	progress: &mut Progress,
) -> Result<(), Refusal> {
	let count = values.len();
	let (done, good) = (progress.done as usize, progress.good as usize);
	let (at, end) = match done.checked_sub(count) {
		None => (done, count),
		Some(at) => (at, good),
	};
	let part = step(table, end.saturating_sub(at) as u64)?;
	let values = at.checked_add(part).and_then(|to| values.get(at..to));
	let values = Values::Each(values.ok_or(TooHard::CFallback)?);
	let index = index.wrapping_add(at as u64);
	if done < count {
		let good = good.saturating_sub(at).min(part);
		hardware::check(table, guest, index, values, (good, part))?;
	} else {
		write(table, guest, index, values, (part, part))?;
	}
	let done = done.wrapping_add(part);
	progress.done = done as u64;
	if done < count.wrapping_add(good) {
		Err(TooHard::Resched.into())
	} else if good < count {
		Err(Refusal::Parameter)
	} else {
		Ok(())
	}
}

/// Writes the first of `counts` values to entries from `index` on. With hardware tables the
/// other values are checked, too: see [`hardware::write`].
#[inline(always)]
fn write<T: Table, G: GuestMemory>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	counts: (usize, usize),
) -> Result<(), Refusal> {
	if !table.is_emulated() {
		hardware::write(table, guest, index, values, counts)
	} else if T::IN_LINE {
		write_emulated(table, index, values, counts.0)
	} else {
		write_emulated_apart(table, index, values, counts.0)
	}
}

#[inline(never)]
fn write_emulated_apart<T: Table>(
	table: &T,
	index: u64,
	values: Values<'_>,
	count: usize,
) -> Result<(), Refusal> {
	write_emulated(table, index, values, count)
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
			let (below, above) = values.split_at_checked(first).ok_or(TooHard::CFallback)?;
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
