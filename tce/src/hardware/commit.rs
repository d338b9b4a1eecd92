// SPDX-License-Identifier: GPL-2.0-only
//! Entries that are looked at, and then exchanged: what can't be done, what stays afterwards, and
//! what is counted.
//!
//! Consecutive entries mostly are in one array, map memory of one slot, of one region and of one
//! page of the host, and did so until now. What all entries of such a [`Run`] have in common is
//! looked up once. The loops over its entries, [`Entries::check_run`] and
//! [`Entries::exchange_run`], stop at an entry that has something else in common.

use core::sync::atomic::{AtomicU64, Ordering};

use super::lock::{Entry, Locked};
use super::regions::{Extent, Mapper, Owner, Place, Region, Span, Tally};
use super::{Attached, EntrySlice, MAX_ATTACHED};
use crate::hcalls::{self, Values};
use crate::{GuestMemory, Permission, Refusal, Table, Tce, TooHard};
use run::{Parts, Run, RunValues};
use seen::Seen;

mod run;
mod seen;

/// The entries are not all in one run.
pub(super) struct NotWhole;

/// Writes entries as [`write`](super::write) does, if there is one hardware table with as large
/// pages as the guest's, and all entries are in one array there and in one page of the guest's
/// table. That is nearly always so.
#[inline(never)]
pub(super) fn write_whole<T: Table, G: GuestMemory>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	(count, checked): (usize, usize),
) -> Result<Result<(), Refusal>, NotWhole> {
	let tables = match table.attached() {
		Ok(tables) => tables,
		Err(refusal) => return Ok(Err(refusal)),
	};
	let entries = Entries {
		table,
		guest,
		tables,
		index,
		values,
		count,
		checked,
	};
	let (attached, run, own) = entries.whole().ok_or(NotWhole)?;
	let page_shift = attached.page_shift();
	let (mut seen, mut new, mut old) = (Seen::new(), Tally::new(), Tally::new());
	let checked = entries
		.check_all(&run, (0, page_shift), &mut seen, &mut new)
		.and_then(|()| {
			seen.settle_place(&mut new);
			new.reserve()
		});
	if checked.is_err() {
		return Ok(checked);
	}
	seen.begin_to_write();
	entries.write_all(
		&run,
		Some(own),
		(attached, page_shift),
		&new,
		&mut seen,
		&mut old,
	);
	seen.finish(attached, &mut old);
	old.dec_mapped();
	Ok(seen.result())
}

/// Looks for what can't be done with the first `count` entries, and for the pages of further
/// values, up to `checked`. Changes nothing.
#[cold]
#[inline(never)]
pub(crate) fn check<T: Table, G: GuestMemory>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	(count, checked): (usize, usize),
) -> Result<(), Refusal> {
	let entries = Entries {
		table,
		guest,
		tables: table.attached()?,
		index,
		values,
		count,
		checked,
	};
	let mut new = Tally::new();
	entries.check_tables(&mut new)?;
	if checked > count {
		entries.look_for_rest(&new)?;
	}
	// A region that is being unregistered can't be counted any more.
	new.reserve()?;
	new.dec_mapped();
	Ok(())
}

/// Writes entries to several tables, or to several arrays, or with several of the hardware's for
/// each of the guest's.
#[cold]
#[inline(never)]
pub(super) fn write_parts<T: Table, G: GuestMemory>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	(count, checked): (usize, usize),
) -> Result<(), Refusal> {
	let entries = Entries {
		table,
		guest,
		tables: table.attached()?,
		index,
		values,
		count,
		checked,
	};
	let mut new = Tally::new();
	entries.check_tables(&mut new)?;
	if checked > count {
		entries.look_for_rest(&new)?;
	}
	new.reserve()?;
	entries.write_tables(&new)
}

/// One hcall's entries.
struct Entries<'a, T: Table, G> {
	table: &'a T,
	guest: &'a G,
	/// Read once: userspace may attach another table at any time.
	tables: [Option<T::Attached>; MAX_ATTACHED],
	/// Of the first in the guest's table.
	index: u64,
	values: Values<'a>,
	/// How many are written.
	count: usize,
	/// How many are looked at.
	checked: usize,
}

impl<T: Table, G: GuestMemory> Entries<'_, T, G> {
	/// The hardware tables, and their numbers.
	fn tables(&self) -> impl Iterator<Item = (usize, &T::Attached)> {
		self.tables.iter().map_while(Option::as_ref).enumerate()
	}

	fn parts(&self, attached: &T::Attached) -> Parts {
		let page_shift = attached.page_shift();
		let shift = self.table.window().page_shift.saturating_sub(page_shift);
		Parts {
			page_shift,
			shift,
			first: self.index << shift,
			count: (self.count as u64) << shift,
		}
	}

	/// The run that begins with entry `number`, and is no longer than `entries`.
	#[inline(always)]
	fn run<'b>(&'b self, parts: &Parts, number: u64, entries: EntrySlice<'b>) -> Run<'b> {
		let (part, guest_number) = (parts.part(number), parts.guest(number));
		let left = match parts.shift {
			0 => parts.count - number,
			_ => (1 << parts.shift) - part,
		};
		let values = match self.values {
			Values::Each(values) if parts.shift == 0 => {
				RunValues::Each(values.get(guest_number as usize..).unwrap_or(&[]))
			}
			_ => RunValues::One {
				value: self.values.get(guest_number as usize),
				offset: part << parts.page_shift,
				step: if parts.shift == 0 {
					0
				} else {
					1 << parts.page_shift
				},
			},
		};
		Run {
			entries: entries.up_to(left as usize),
			index: parts.first.wrapping_add(number),
			values,
			own_index: self.index.wrapping_add(guest_number),
			own_from: (!(u64::MAX << parts.shift) - part) as usize,
		}
	}

	/// The one hardware table, the run of all entries, and the guest's own entries.
	#[inline(always)]
	fn whole(&self) -> Option<(&T::Attached, Run<'_>, &[AtomicU64])> {
		let [Some(attached), None, ..] = &self.tables else {
			return None;
		};
		let parts = self.parts(attached);
		let is_simple = parts.shift == 0 && self.checked == self.count && self.count > 0;
		if !is_simple || self.count as u64 > self.table.most_writes() {
			return None;
		}
		let own = hcalls::cells_from(self.table, self.index).get(..self.count)?;
		let run = self.run(&parts, 0, attached.entries(self.index)?);
		(run.entries.tces.len() == self.count).then_some((attached, run, own))
	}

	/// Finds out what can't be done, with several tables or runs, and adds up what will be mapped.
	#[inline(never)]
	fn check_tables(&self, new: &mut Tally<G::Region>) -> Result<(), Refusal> {
		let mut writes = 0;
		for (_, attached) in self.tables() {
			writes += (self.checked as u64) << self.parts(attached).shift;
		}
		if writes > self.table.most_writes() {
			return Err(TooHard::CFallback.into());
		}
		let mut seen = Seen::new();
		for (number, attached) in self.tables() {
			seen.settle_place(new);
			(seen.place, seen.owner) = (None, None);
			self.check((number, attached), &mut seen, new)?;
		}
		seen.settle_place(new);
		// Of the guest's own table, too.
		hcalls::ready(self.table, self.index, self.count, self.values)
	}

	/// Writes to several tables, or several runs.
	#[inline(never)]
	fn write_tables(&self, new: &Tally<G::Region>) -> Result<(), Refusal> {
		let (mut seen, mut old) = (Seen::new(), Tally::new());
		for (number, attached) in self.tables() {
			(seen.place, seen.owner, seen.dirty) = (None, None, Extent::NONE);
			self.write((number, attached), new, &mut seen, &mut old);
			seen.finish(attached, &mut old);
		}
		old.dec_mapped();
		seen.result()
	}

	/// Looks for what can't be done, and adds up what will be mapped.
	#[inline(always)]
	fn check(
		&self,
		(table, attached): (usize, &T::Attached),
		seen: &mut Seen<G::Region>,
		new: &mut Tally<G::Region>,
	) -> Result<(), Refusal> {
		let parts = self.parts(attached);
		let mut number = 0;
		while number < parts.count {
			let index = parts.first.wrapping_add(number);
			let run = self.run(
				&parts,
				number,
				attached.entries(index).unwrap_or(EntrySlice::NONE),
			);
			let length = run.entries.tces.len();
			if length == 0 {
				// There is no array.
				self.look_up(&run, 0, parts.page_shift, seen, new)?;
				self.check_one(&run, 0, (table, parts.page_shift), seen)?;
			}
			self.check_all(&run, (table, parts.page_shift), seen, new)?;
			number += length.max(1) as u64;
		}
		Ok(())
	}

	/// Looks at all entries of a run.
	#[inline(always)]
	fn check_all(
		&self,
		run: &Run<'_>,
		table: (usize, u32),
		seen: &mut Seen<G::Region>,
		new: &mut Tally<G::Region>,
	) -> Result<(), Refusal> {
		let (mut at, length) = (0, run.entries.tces.len());
		while at < length {
			self.look_up(run, at, table.1, seen, new)?;
			self.check_one(run, at, table, seen)?;
			at += 1;
			let (value, address) = run.value(at);
			if at < length && (!value.is_mapping() || seen.has_place(address)) {
				at += match run.values {
					RunValues::Each(_) => Self::check_run::<true>(run, at, seen),
					RunValues::One { .. } => Self::check_run::<false>(run, at, seen),
				};
			}
		}
		Ok(())
	}

	/// Remembers the place of what entry `at` of a run is to map, and counts the page.
	#[inline(always)]
	fn look_up(
		&self,
		run: &Run<'_>,
		at: usize,
		page_shift: u32,
		seen: &mut Seen<G::Region>,
		new: &mut Tally<G::Region>,
	) -> Result<(), Refusal> {
		let (value, address) = run.value(at);
		if !value.is_mapping() {
			return Ok(());
		}
		if !seen.has_place(address) {
			seen.settle_place(new);
			seen.places += 1;
			Place::find(&mut seen.place, self.guest, new, (address, page_shift))?;
			// The region has its place among the known ones from now on: who looks up the same
			// pages in the same order once more finds the same regions.
			if let Some(place) = &seen.place
				&& !new.add(place.region, 0)
			{
				return Err(TooHard::CFallback.into());
			}
		}
		seen.count += 1;
		Ok(())
	}

	/// Looks at entries of a run, from `at` on, until one is to map memory of another place than
	/// is remembered, or maps memory of another owner. Returns how many these are.
	#[inline(never)]
	fn check_run<const EACH: bool>(run: &Run<'_>, at: usize, seen: &mut Seen<G::Region>) -> usize {
		let (place, owner) = (
			seen.place.as_ref().map_or(Span::NONE, Place::span),
			seen.owner.as_ref().map_or(Span::NONE, Owner::span),
		);
		let (mut found, mut done) = (0, 0);
		for (entry, value, address) in run.each::<EACH>(at) {
			if is_mapping(entry.tce.load(Ordering::Relaxed)) && !owner.has(entry.user()) {
				break;
			}
			if value.is_mapping() {
				if !place.has(address) {
					break;
				}
				found += 1;
			}
			done += 1;
		}
		seen.count += found;
		done
	}

	/// Looks at entry `at` of a run, which need not have it, and remembers its owner.
	#[inline(never)]
	fn check_one(
		&self,
		run: &Run<'_>,
		at: usize,
		(table, page_shift): (usize, u32),
		seen: &mut Seen<G::Region>,
	) -> Result<(), Refusal> {
		let Some(entry) = run.entry(at) else {
			return match run.value(at).0.is_mapping() {
				true => {
					let index = run.index.wrapping_add(at as u64);
					Err(TooHard::TableLevel { table, index }.into())
				}
				false => Ok(()),
			};
		};
		// If it maps something until now, the region is known.
		let mut look_up = || {
			if is_mapping(entry.tce.load(Ordering::Relaxed)) {
				seen.owner = Some(Owner::of(self.guest, entry.user(), page_shift)?);
			}
			Ok(())
		};
		look_up().or_else(|_: Refusal| {
			// Another vcpu may be changing the entry, so a complaint counts only under the lock
			// of the entry.
			let _locked = Locked::new(entry);
			look_up().map_err(|_| TooHard::CFallback.into())
		})
	}

	/// Looks for the pages that will not be mapped.
	#[cold]
	#[inline(never)]
	fn look_for_rest(&self, new: &Tally<G::Region>) -> Result<(), Refusal> {
		for (_, attached) in self.tables() {
			let parts = self.parts(attached);
			let mut place = None;
			for number in parts.count..(self.checked as u64) << parts.shift {
				let value = self.values.get(parts.guest(number) as usize);
				let offset = parts.part(number) << parts.page_shift;
				let address = value.address().wrapping_add(offset);
				let is_known = |place: &Place<_>| place.span().has(address);
				if value.is_mapping() && !place.as_ref().is_some_and(is_known) {
					Place::find(&mut place, self.guest, new, (address, parts.page_shift))?;
				}
			}
		}
		Ok(())
	}

	/// Writes all entries to one hardware table, and to the guest's own if this is the last one:
	/// the last of the hardware entries for an entry of the guest's is locked until that is
	/// written.
	#[inline(always)]
	fn write(
		&self,
		(table, attached): (usize, &T::Attached),
		new: &Tally<G::Region>,
		seen: &mut Seen<G::Region>,
		old: &mut Tally<G::Region>,
	) {
		let parts = self.parts(attached);
		let is_last_table = self.tables.get(table + 1).is_none_or(Option::is_none);
		let mut number = 0;
		while number < parts.count {
			let index = parts.first.wrapping_add(number);
			let mut run = self.run(
				&parts,
				number,
				attached.entries(index).unwrap_or(EntrySlice::NONE),
			);
			let mut own: &[AtomicU64] = &[];
			if is_last_table {
				own = hcalls::cells_from(self.table, run.own_index);
				if parts.shift == 0 && !own.is_empty() {
					run.entries = run.entries.up_to(own.len());
				}
			} else {
				run.own_from = usize::MAX;
			}
			// Without a page for the guest's own entries they are written one by one.
			let is_quick = !is_last_table || !own.is_empty();
			let length = run.entries.tces.len();
			if length == 0 && run.own_from == 0 {
				// There is no array, so nothing is to be mapped.
				hcalls::set(self.table, run.own_index, run.value(0).0);
			}
			let table = (attached, parts.page_shift);
			self.write_all(&run, is_quick.then_some(own), table, new, seen, old);
			number += length.max(1) as u64;
		}
	}

	/// Writes all entries of a run, and the guest's `own` entries, if there is a page for all of
	/// them or none is to be written. Without that they are written one by one.
	#[inline(always)]
	fn write_all(
		&self,
		run: &Run<'_>,
		own: Option<&[AtomicU64]>,
		(attached, page_shift): (&T::Attached, u32),
		new: &Tally<G::Region>,
		seen: &mut Seen<G::Region>,
		old: &mut Tally<G::Region>,
	) {
		let (mut at, length) = (0, run.entries.tces.len());
		while at < length {
			if let Some(own) = own
				&& seen.may_run(run, at)
			{
				at += match (run.values, run.value(at).0.is_mapping()) {
					(RunValues::Each(_), true) => {
						Self::exchange_run::<true, true>(run, at, own, seen)
					}
					(RunValues::Each(_), false) => {
						Self::exchange_run::<true, false>(run, at, own, seen)
					}
					(RunValues::One { .. }, true) => {
						Self::exchange_run::<false, true>(run, at, own, seen)
					}
					(RunValues::One { .. }, false) => {
						Self::exchange_run::<false, false>(run, at, own, seen)
					}
				};
			}
			if at < length {
				seen.make_room(attached, old);
				let (value, address) = run.value(at);
				if value.is_mapping() && !seen.has_place(address) {
					// The page was found before, in one of these regions, which count it since.
					let page = (address, page_shift);
					let _ = Place::find(&mut seen.place, self.guest, new, page);
				}
				self.exchange_one(run, at, page_shift, seen, old);
				at += 1;
			}
		}
	}

	/// Writes entries of a run, from `at` on, until one is to map memory of another place than is
	/// remembered, or mapped memory of another owner, or has to wait. Returns how many these are.
	/// With `MAP` all map memory, and without it none does.
	#[inline(never)]
	fn exchange_run<const EACH: bool, const MAP: bool>(
		run: &Run<'_>,
		at: usize,
		own: &[AtomicU64],
		seen: &mut Seen<G::Region>,
	) -> usize {
		let (pages, mapper) = match &seen.place {
			Some(place) if MAP => (place.span(), place.mapper()),
			_ => (Span::NONE, Mapper::NONE),
		};
		// What may have been mapped here: pages of the owner. If a device may have written them,
		// those that are marked.
		let owner = seen.owner.as_ref().map_or(Span::NONE, Owner::span);
		let (owner, unmarked) = match seen.dirty.length {
			0 => (owner, Permission::WRITE),
			_ => (owner.within(seen.dirty), Permission::empty()),
		};
		let unmarked = unmarked.bits().to_be();
		let own_from = run.own_from.wrapping_sub(at);
		let (mut first, mut last, mut taken, mut done) = (0, 0, 0_u64, 0_usize);
		for (entry, value, address) in run.each::<EACH>(at) {
			if value.is_mapping() != MAP || MAP && !pages.has(address) {
				break;
			}
			let Some(mut locked) = Locked::try_new(entry) else {
				break;
			};
			let before = entry.tce.load(Ordering::Relaxed);
			if is_mapping(before) {
				if before & unmarked != 0 || !owner.has(locked.user) {
					break;
				}
				if taken == 0 {
					first = done;
				}
				last = done;
				taken += 1;
			}
			let (mapping, user) = match MAP {
				true => mapper.map(address, value.permission()),
				false => (0, 0),
			};
			if entry
				.tce
				.compare_exchange(before, mapping, Ordering::Relaxed, Ordering::Relaxed)
				.is_err()
			{
				taken -= u64::from(is_mapping(before));
				break;
			}
			locked.user = user;
			if let Some(cell) = own.get(done.wrapping_sub(own_from)) {
				cell.store(value.0, Ordering::Relaxed);
			}
			drop(locked);
			done += 1;
		}
		let index = run.index.wrapping_add(at as u64);
		// What maps something now, or what has mapped something.
		if MAP {
			(first, last) = (0, done.wrapping_sub(1));
		}
		let has_changed = if MAP { done > 0 } else { taken > 0 };
		if has_changed {
			seen.stale.add(index.wrapping_add(first as u64));
			seen.stale.add(index.wrapping_add(last as u64));
		}
		seen.count += taken;
		done
	}

	/// Writes entry `at` of a run, and remembers what the next ones may have in common with it.
	#[inline(always)]
	fn exchange_one(
		&self,
		run: &Run<'_>,
		at: usize,
		page_shift: u32,
		seen: &mut Seen<G::Region>,
		old: &mut Tally<G::Region>,
	) {
		let (value, address) = run.value(at);
		let Some(entry) = run.entry(at) else { return };
		let (mut mapping, mut user) = (0, 0);
		if value.is_mapping()
			&& let Some(place) = &seen.place
		{
			(mapping, user) = place.mapper().map(address, value.permission());
		}
		let mut locked = Locked::new(entry);
		match self.exchange(entry, &locked, mapping, page_shift, seen, old) {
			Ok(was_mapping) => {
				if was_mapping || is_mapping(mapping) {
					seen.stale.add(run.index.wrapping_add(at as u64));
				}
				locked.user = user;
			}
			Err(_) => {
				if let (Some(place), true) = (&seen.place, is_mapping(mapping)) {
					place.region.dec_mapped(1);
				}
				seen.has_failed = true;
			}
		}
		if let Some(at) = at.checked_sub(run.own_from) {
			// The page is looked for under the lock: another vcpu may have made it since.
			hcalls::set(self.table, run.own_index.wrapping_add(at as u64), value);
		}
		drop(locked);
	}

	/// Puts what is stored for a mapping, or for nothing, into an entry that is locked. Returns
	/// whether it has mapped something until now.
	#[inline]
	fn exchange(
		&self,
		entry: Entry<'_>,
		locked: &Locked<'_>,
		mapping: u64,
		page_shift: u32,
		seen: &mut Seen<G::Region>,
		old: &mut Tally<G::Region>,
	) -> Result<bool, Refusal> {
		// The holder of the lock is the only writer, except for VFIO's ioctls on containers of
		// version 1, which use no userspace addresses. Also, stdcx. may fail spuriously.
		let mut before = entry.tce.load(Ordering::Relaxed);
		loop {
			if is_mapping(before) && !seen.has_owner(locked.user) {
				let owner = Owner::of(self.guest, locked.user, page_shift)?;
				// There is room for one.
				seen.settle_owner(old);
				(seen.owner, seen.dirty) = (Some(owner), Extent::NONE);
			}
			// Relaxed: a device reads it when the guest tells it to, by a store that the guest
			// orders after this hcall.
			match entry.tce.compare_exchange_weak(
				before,
				mapping,
				Ordering::Relaxed,
				Ordering::Relaxed,
			) {
				Ok(_) => break,
				Err(other) => before = other,
			}
		}
		if !is_mapping(before) {
			return Ok(false);
		}
		seen.count += 1;
		if may_have_written(before)
			&& !seen.dirty.has(locked.user)
			&& let Some(owner) = &seen.owner
		{
			seen.dirty = owner.region.set_dirty(locked.user);
		}
		Ok(true)
	}
}

/// An entry of a hardware table as it is stored.
#[inline]
fn from_hardware(stored: u64) -> Tce {
	Tce(u64::from_be(stored))
}

/// May a device have written the page that an entry of a hardware table maps?
#[inline]
fn may_have_written(stored: u64) -> bool {
	let permission = from_hardware(stored).permission();
	permission.contains(Permission::WRITE)
}

/// Does an entry of a hardware table, as it is stored, map something?
#[inline]
fn is_mapping(stored: u64) -> bool {
	from_hardware(stored).is_mapping()
}
