// SPDX-License-Identifier: GPL-2.0-only
//! Entries that were looked at, and are now exchanged: what stays afterwards, and what is counted.

use core::mem;
use core::sync::atomic::Ordering;

use super::lock::{Entry, Locked, address};
use super::regions::{Mapping, Region, Tally, mapping};
use super::{Attached, EntrySlice, MAX_ATTACHED};
use crate::hcalls::{self, Values};
use crate::{GuestMemory, Permission, Refusal, Table, Tce, TooHard};

/// What has to be done once all entries are written.
pub(super) struct After<R> {
	/// Whom the old entries counted for.
	pub(super) old: Tally<R>,
	/// For each table, the first of the entries that mapped something or do now, and the
	/// last, if it isn't below the first.
	pub(super) stale: [(u64, u64); MAX_ATTACHED],
}

/// No entry.
pub(super) const NONE_STALE: (u64, u64) = (u64::MAX, 0);

impl<R: Region> After<R> {
	/// Makes room for one more old entry of any region. No lock may be held, because a call of
	/// firmware takes long.
	pub(super) fn make_room<A: Attached>(&mut self, tables: &[Option<A>; MAX_ATTACHED]) {
		if !self.old.has_room() {
			// Seldom: pages of that many regions were mapped here.
			self.invalidate(tables);
		}
	}

	/// An entry was changed, and mapped something of this region until then.
	pub(super) fn changed(&mut self, table: usize, index: u64, old: Option<R>) {
		if let Some(stale) = self.stale.get_mut(table) {
			let (first, last) = *stale;
			*stale = (first.min(index), last.max(index));
		}
		if let Some(region) = old {
			// There is room.
			self.old.add(region);
		}
	}

	/// Has the hardware forget what was replaced, and counts it back.
	#[inline(never)]
	pub(super) fn invalidate<A: Attached>(&mut self, tables: &[Option<A>; MAX_ATTACHED]) {
		for (table, stale) in tables.iter().zip(&mut self.stale) {
			let (first, last) = mem::replace(stale, NONE_STALE);
			if let Some(table) = table
				&& first <= last
			{
				table.invalidate(first, last - first + 1);
			}
		}
		self.old.dec_mapped();
	}
}

/// Finds entries of hardware tables, and remembers the last array.
pub(super) struct Finder<'a> {
	/// Of which table it is.
	pub(super) table: usize,
	/// Its first entry, as far as it is remembered.
	pub(super) first: u64,
	pub(super) run: Option<EntrySlice<'a>>,
}

impl<'a> Finder<'a> {
	pub(super) const fn new() -> Self {
		Self {
			table: 0,
			first: 0,
			run: None,
		}
	}

	pub(super) fn entry<A: Attached>(
		&mut self,
		(table, attached): (usize, &'a A),
		index: u64,
	) -> Option<Entry<'a>> {
		if self.table != table || index < self.first {
			self.run = None;
		}
		if let Some(entry) = self.remembered(index) {
			return Some(entry);
		}
		self.table = table;
		self.first = index;
		self.run = attached.entries(index);
		self.remembered(index)
	}

	#[inline]
	pub(super) fn remembered(&self, index: u64) -> Option<Entry<'a>> {
		let (run, at) = (self.run?, index.wrapping_sub(self.first) as usize);
		Some(Entry {
			tce: run.tces.get(at)?,
			user: run.users.get(at)?,
		})
	}
}

/// One hcall's entries.
pub(super) struct Entries<'a, T: Table, G> {
	pub(super) table: &'a T,
	pub(super) guest: &'a G,
	/// Read once: userspace may attach another table at any time.
	pub(super) tables: [Option<T::Attached>; MAX_ATTACHED],
	/// Of the first in the guest's table.
	pub(super) index: u64,
	pub(super) values: Values<'a>,
	/// How many are written.
	pub(super) count: usize,
	/// How many are looked at.
	pub(super) checked: usize,
}

impl<T: Table, G: GuestMemory> Entries<'_, T, G> {
	/// The hardware tables, and their numbers.
	pub(super) fn tables(&self) -> impl Iterator<Item = (usize, &T::Attached)> {
		self.tables.iter().map_while(Option::as_ref).enumerate()
	}

	/// How many entries of a hardware table there are for one of the guest's, as a shift.
	pub(super) fn shift(&self, attached: &T::Attached) -> u32 {
		let shift = self.table.window().page_shift;
		shift.saturating_sub(attached.page_shift())
	}

	/// The hardware entries for entry `n`.
	pub(super) fn parts(
		&self,
		attached: &T::Attached,
		n: usize,
	) -> impl Iterator<Item = (u64, u64)> {
		let shift = self.shift(attached);
		let first = self.index.wrapping_add(n as u64) << shift;
		(0..1 << shift).map(move |part| (part, first.wrapping_add(part)))
	}

	/// Finds out what can't be done, and has the regions count what will be mapped:
	/// those of `new`, which are none yet.
	#[inline(never)]
	pub(super) fn reserve(&self, new: &mut Tally<G::Region>) -> Result<(), Refusal> {
		let mut writes = 0;
		for (_, attached) in self.tables() {
			writes += (self.checked as u64) << self.shift(attached);
		}
		if writes > self.table.most_writes() {
			return Err(TooHard::CFallback.into());
		}
		let mut finder = Finder::new();
		for table in self.tables() {
			self.check(table, &mut finder, new)?;
		}
		// Of the guest's own table, too.
		hcalls::ready(self.table, self.index, self.count, self.values)?;
		if new.inc_mapped() {
			Ok(())
		} else {
			Err(TooHard::Userspace.into())
		}
	}

	/// Writes all entries, which are [reserved](Self::reserve).
	#[inline(never)]
	pub(super) fn commit(&self, new: &Tally<G::Region>) -> Result<(), Refusal> {
		let mut after = After {
			old: Tally::new(),
			stale: [NONE_STALE; MAX_ATTACHED],
		};
		let (mut result, mut finder) = (Ok(()), Finder::new());
		for n in 0..self.count {
			let tce = self.values.get(n);
			match self.write(n, tce, new, &mut finder, &mut after) {
				Ok(_locked) => hcalls::set(self.table, self.index.wrapping_add(n as u64), tce),
				Err(refusal) => result = Err(refusal),
			}
		}
		after.invalidate(&self.tables);
		result
	}

	/// Looks for what can't be done, and adds up what will be mapped.
	pub(super) fn check<'a>(
		&'a self,
		table: (usize, &'a T::Attached),
		finder: &mut Finder<'a>,
		new: &mut Tally<G::Region>,
	) -> Result<(), Refusal> {
		let page_shift = table.1.page_shift();
		for n in 0..self.checked {
			let tce = self.values.get(n);
			for (part, index) in self.parts(table.1, n) {
				let mapping = mapping(self.guest, new, tce, part, page_shift)?;
				if n >= self.count {
					continue;
				}
				let entry = finder.entry(table, index);
				if let Some(mapping) = mapping {
					if entry.is_none() {
						let table = table.0;
						return Err(TooHard::TableLevel { table, index }.into());
					}
					if !new.add(mapping.region) {
						return Err(TooHard::CFallback.into());
					}
				}
				// The present mapping must belong to a region. Another vcpu may be changing
				// the entry, so a complaint counts only under the lock of the entry.
				if let Some(entry) = entry
					&& self.is_somebodys(entry, page_shift).is_err()
				{
					let _locked = Locked::new(entry);
					self.is_somebodys(entry, page_shift)?;
				}
			}
		}
		Ok(())
	}

	/// If an entry maps something, its region is known.
	pub(super) fn is_somebodys(&self, entry: Entry<'_>, page_shift: u32) -> Result<(), Refusal> {
		if from_hardware(entry.tce.load(Ordering::Relaxed)).is_mapping() {
			let user = address(entry.user.load(Ordering::Relaxed));
			self.guest
				.region(user, 1 << page_shift)
				.map_err(|_| TooHard::CFallback)?;
		}
		Ok(())
	}

	/// Writes entry `n` to all hardware tables. The last of its entries there stays locked
	/// until the guest's own table is written.
	pub(super) fn write<'a>(
		&'a self,
		n: usize,
		tce: Tce,
		new: &Tally<G::Region>,
		finder: &mut Finder<'a>,
		after: &mut After<G::Region>,
	) -> Result<Option<Locked<'a>>, Refusal> {
		let (mut result, mut locked) = (Ok(()), None);
		for (number, attached) in self.tables() {
			for (part, index) in self.parts(attached, n) {
				// Never two at a time, and none while the hardware is told.
				drop(locked.take());
				after.make_room(&self.tables);
				let shift = attached.page_shift();
				// It was found before, in one of these regions, which count it since.
				let mapping = mapping(self.guest, new, tce, part, shift).unwrap_or(None);
				// If there is something to map, there was an entry, and they don't go.
				let Some(entry) = finder.entry((number, attached), index) else {
					continue;
				};
				let locked = locked.insert(Locked::new(entry));
				match self.exchange(locked, shift, &mapping) {
					Ok(None) if mapping.is_none() => {}
					Ok(old) => after.changed(number, index, old),
					Err(refusal) => {
						if let Some(mapping) = mapping {
							mapping.region.dec_mapped(1);
						}
						result = Err(refusal);
					}
				}
			}
		}
		result.map(|()| locked)
	}

	/// Puts a mapping, or nothing, into one entry of a hardware table. Returns what it
	/// has mapped until now.
	pub(super) fn exchange(
		&self,
		locked: &mut Locked<'_>,
		page_shift: u32,
		mapping: &Option<Mapping<G::Region>>,
	) -> Result<Option<G::Region>, Refusal> {
		let tce = locked.entry.tce;
		let old_user = address(locked.user);
		let (new, new_user) = match mapping {
			Some(mapping) => (mapping.tce.to_be(), mapping.user.to_be()),
			None => (0, 0),
		};

		// The holder of the lock is the only writer, except for VFIO's ioctls on containers
		// of version 1, which use no userspace addresses. Also, stdcx. may fail spuriously.
		let mut old = tce.load(Ordering::Relaxed);
		let removed = loop {
			let region = match from_hardware(old).is_mapping() {
				true => Some(self.guest.region(old_user, 1 << page_shift)?),
				false => None,
			};
			// Relaxed: a device reads it when the guest tells it to, by a store that the
			// guest orders after this hcall.
			match tce.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
				Ok(_) => break region,
				Err(other) => old = other,
			}
		};
		locked.user = new_user;

		let may_have_written = from_hardware(old).permission().contains(Permission::WRITE);
		if let Some(region) = removed
			&& may_have_written
		{
			region.set_dirty(old_user);
		}
		Ok(removed)
	}
}

/// An entry of a hardware table as it is stored.
#[inline]
pub(super) fn from_hardware(stored: u64) -> Tce {
	Tce(u64::from_be(stored))
}
