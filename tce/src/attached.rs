// SPDX-License-Identifier: GPL-2.0-only
//! Tables that hardware translates with.
//!
//! A passed-through device's DMA goes through a table of the host's hardware, which
//! VFIO owns and which is *attached* to the guest's: what the guest writes into its
//! own has to be written there too, translated. The guest's table holds guest
//! addresses; a hardware table has two values for each entry, the host address of the
//! page, for the device, and the userspace address, by which KVM and VFIO find the
//! [`Region`] that the page belongs to. A region is memory that userspace has
//! registered for DMA. Its pages are pinned, and it counts the entries that map it:
//! while there is one it can't be unregistered.
//!
//! # Order
//!
//! [`write`] does all that can fail before it changes anything: every page that is to
//! be mapped is found, and counted as mapped. Then, entry by entry, it exchanges what
//! the hardware sees, writes the guest's own table, and remembers whom the old value
//! counted for. When all entries are written the hardware is told, once, to forget
//! those of them that mapped something, or do so now: we know of nothing that says a
//! host bridge doesn't cache entries that map nothing, and Linux tells it both ways.
//! Only then is the old pages' count given back: as soon as a region's count allows it,
//! its pages may become somebody else's.
//!
//! # Two vcpus at the same entry
//!
//! The lowest bit of the userspace address, which is that of a page, is a lock of this
//! one entry of the hardware table. Whoever exchanges an entry holds it, for these few
//! instructions, with interrupts off, and never two at a time; the kernel's own handlers
//! and VFIO's ioctls take it, too (`kvm_p9_tce_lock.h`). So what is removed is counted
//! back once, for the region that it was counted for, whichever guest's tables and page
//! sizes the hardware table is attached to. The guest's own table is written under the
//! lock of the last of the entries that stand for its entry: if there is just one, as
//! nearly always, the two agree whoever comes first. If there are more, two vcpus that
//! write the same entry at the same time may leave some of one's and some of the other's,
//! as with C.

use core::hint::spin_loop;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::body::{self, Values};
use crate::{Guest, Hard, Permission, Refusal, Table, Tce};

/// Attached tables of one guest's table that are written here. More are possible: one
/// for each PCI host bridge that has a device with this window.
pub const MAX_ATTACHED: usize = 4;
/// Regions that one hcall's pages may lie in, or have lain in.
const MAX_REGIONS: usize = 5;

/// The lock of an entry, in the userspace address as it is stored: big-endian.
const LOCK: u64 = 1_u64.to_be();

/// A table of the hardware's.
pub trait Attached: Copy {
	/// Size of its pages, as a shift; not above that of the guest's table.
	fn page_shift(&self) -> u32;

	/// The entry at this index, and all behind it that are in the same array. `None`
	/// if there is no array yet: then nothing is mapped there.
	fn run(&self, index: u64) -> Option<Run<'_>>;

	/// Has the hardware forget what it knows of `count` entries from `first` on, and
	/// returns when it has.
	fn forget(&self, first: u64, count: u64);
}

/// Consecutive entries of a hardware table, as many of one as of the other; big-endian,
/// both.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
	/// Host addresses with permissions, as the hardware reads them.
	pub tces: &'a [AtomicU64],
	/// Userspace addresses.
	pub users: &'a [AtomicU64],
}

/// Memory that userspace has registered for DMA.
pub trait Region: Copy + PartialEq {
	/// The host address of `1 << shift` bytes at a userspace address, if they are all of
	/// this region, in one piece in the host, and aligned there.
	fn host(&self, user: u64, shift: u32) -> Option<u64>;

	/// Counts so many entries more. Not if it is being unregistered.
	fn take(&self, count: u64) -> bool;

	/// Counts so many entries less.
	fn give(&self, count: u64);

	/// A device may have written the page at this address.
	fn written(&self, user: u64);
}

/// How many entries of which regions.
struct Tally<R> {
	regions: [Option<(R, u64)>; MAX_REGIONS],
}

impl<R: Region> Tally<R> {
	const fn new() -> Self {
		Self {
			regions: [None; MAX_REGIONS],
		}
	}

	/// Is there room for any region?
	fn has_room(&self) -> bool {
		self.regions[MAX_REGIONS - 1].is_none()
	}

	/// One more of this region; not if there are too many regions.
	#[inline(never)]
	fn add(&mut self, region: R) -> bool {
		for place in &mut self.regions {
			match place {
				Some((known, count)) if *known == region => {
					*count += 1;
					return true;
				}
				Some(_) => {}
				None => {
					*place = Some((region, 1));
					return true;
				}
			}
		}
		false
	}

	fn regions(&self) -> impl Iterator<Item = R> {
		self.regions
			.iter()
			.map_while(|place| Some(place.as_ref()?.0))
	}

	/// Counts them all at their regions, or none.
	fn take(&self) -> bool {
		for (taken, (region, count)) in self.regions.iter().flatten().enumerate() {
			if !region.take(*count) {
				for (region, count) in self.regions.iter().flatten().take(taken) {
					region.give(*count);
				}
				return false;
			}
		}
		true
	}

	/// Counts them back, and forgets them.
	#[inline(never)]
	fn give(&mut self) {
		for place in &mut self.regions {
			if let Some((region, count)) = place.take() {
				region.give(count);
			}
		}
	}
}

/// What one entry of the guest's table becomes in one of a hardware table.
struct Mapping<R> {
	region: R,
	user: u64,
	/// As the hardware wants it, in this CPU's byte order.
	tce: u64,
}

/// Finds the page, or part of a page of the guest's table, that entry `part` of those
/// for `tce` maps, in one of the regions that are `known` already if it can. `None` if
/// `tce` maps nothing.
#[inline]
fn mapping<G: Guest>(
	guest: &G,
	known: &Tally<G::Region>,
	tce: Tce,
	part: u64,
	shift: u32,
) -> Result<Option<Mapping<G::Region>>, Refusal> {
	if tce.is_mapping() {
		translate(guest, known, tce, part, shift).map(Some)
	} else {
		Ok(None)
	}
}

#[inline(never)]
fn translate<G: Guest>(
	guest: &G,
	known: &Tally<G::Region>,
	tce: Tce,
	part: u64,
	shift: u32,
) -> Result<Mapping<G::Region>, Refusal> {
	// Each part by itself: the page may go on in another slot, or end with its slot.
	let address = tce.address().wrapping_add(part << shift);
	let memory = guest.memory(address);
	let user = memory
		.and_then(|memory| memory.user(address, 1 << shift))
		.ok_or(Hard::Userspace)?;
	let in_region = |region: G::Region| Some((region, region.host(user, shift)?));
	let (region, host) = match known.regions().find_map(in_region) {
		Some(found) => found,
		None => in_region(guest.region(user, 1 << shift)?).ok_or(Hard::Userspace)?,
	};
	let mut permission = tce.permission();
	// The hardware knows no pages that can only be written.
	if permission.contains(Permission::WRITE) {
		permission |= Permission::READ;
	}
	Ok(Mapping {
		region,
		user,
		tce: host | permission.bits(),
	})
}

/// Takes an entry's lock, and returns the userspace address in it.
fn lock(user: &AtomicU64) -> u64 {
	loop {
		// Acquire: the entry is looked at behind this.
		let old = user.fetch_or(LOCK, Ordering::Acquire);
		if old & LOCK == 0 {
			return old;
		}
		while user.load(Ordering::Relaxed) & LOCK != 0 {
			spin_loop();
		}
	}
}

/// An entry whose lock is held.
struct Locked<'a> {
	entry: Entry<'a>,
	/// Its userspace address as it is stored when the lock is left.
	user: u64,
}

impl<'a> Locked<'a> {
	fn new(entry: Entry<'a>) -> Self {
		Self {
			user: lock(entry.user),
			entry,
		}
	}
}

impl Drop for Locked<'_> {
	fn drop(&mut self) {
		// Release: all that was done under the lock can be seen by whoever has it next.
		self.entry.user.store(self.user, Ordering::Release);
	}
}

/// What has to be done once all entries are written.
struct After<R> {
	/// Whom the old entries counted for.
	old: Tally<R>,
	/// For each table, the first of the entries that mapped something or do now, and the
	/// last, if it isn't below the first.
	stale: [(u64, u64); MAX_ATTACHED],
}

/// No entry.
const NONE_STALE: (u64, u64) = (u64::MAX, 0);

impl<R: Region> After<R> {
	/// Makes room for one entry more, of whatever region it was. No lock may be held, as
	/// firmware takes its time.
	fn make_room<A: Attached>(&mut self, tables: &[Option<A>; MAX_ATTACHED]) {
		if !self.old.has_room() {
			// Seldom: pages of that many regions were mapped here.
			self.forget(tables);
		}
	}

	/// An entry was changed, and mapped something of this region until then.
	fn changed(&mut self, table: usize, index: u64, old: Option<R>) {
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
	fn forget<A: Attached>(&mut self, tables: &[Option<A>; MAX_ATTACHED]) {
		for (table, stale) in tables.iter().zip(&mut self.stale) {
			let (first, last) = mem::replace(stale, NONE_STALE);
			if let Some(table) = table
				&& first <= last
			{
				table.forget(first, last - first + 1);
			}
		}
		self.old.give();
	}
}

/// One entry of a hardware table.
#[derive(Clone, Copy)]
struct Entry<'a> {
	tce: &'a AtomicU64,
	user: &'a AtomicU64,
}

/// Finds entries of hardware's tables, and remembers the array that it found last.
struct Finder<'a> {
	/// Of which table it is.
	table: usize,
	/// Its first entry, as far as it is remembered.
	first: u64,
	run: Option<Run<'a>>,
}

impl<'a> Finder<'a> {
	const fn new() -> Self {
		Self {
			table: 0,
			first: 0,
			run: None,
		}
	}

	fn entry<A: Attached>(
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
		self.run = attached.run(index);
		self.remembered(index)
	}

	#[inline]
	fn remembered(&self, index: u64) -> Option<Entry<'a>> {
		let (run, at) = (self.run?, index.wrapping_sub(self.first) as usize);
		Some(Entry {
			tce: run.tces.get(at)?,
			user: run.users.get(at)?,
		})
	}
}

/// One hcall's entries.
struct Entries<'a, T: Table, G> {
	table: &'a T,
	guest: &'a G,
	/// Taken down once: userspace may attach another one meanwhile.
	tables: [Option<T::Attached>; MAX_ATTACHED],
	/// Of the first in the guest's table.
	index: u64,
	values: Values<'a>,
	/// How many are written.
	count: usize,
	/// How many are looked at.
	checked: usize,
}

impl<T: Table, G: Guest> Entries<'_, T, G> {
	/// The hardware's tables, and their numbers.
	fn tables(&self) -> impl Iterator<Item = (usize, &T::Attached)> {
		self.tables.iter().map_while(Option::as_ref).enumerate()
	}

	/// How many entries of a hardware table there are for one of the guest's, as a shift.
	fn shift(&self, attached: &T::Attached) -> u32 {
		let shift = self.table.window().page_shift;
		shift.saturating_sub(attached.page_shift())
	}

	/// The hardware's entries for entry `n`.
	fn parts(&self, attached: &T::Attached, n: usize) -> impl Iterator<Item = (u64, u64)> {
		let shift = self.shift(attached);
		let first = self.index.wrapping_add(n as u64) << shift;
		(0..1 << shift).map(move |part| (part, first.wrapping_add(part)))
	}

	/// Finds out what can't be done, and has the regions count what will be mapped:
	/// those of `new`, which are none yet.
	#[inline(never)]
	fn reserve(&self, new: &mut Tally<G::Region>) -> Result<(), Refusal> {
		let mut writes = 0;
		for (_, attached) in self.tables() {
			writes += (self.checked as u64) << self.shift(attached);
		}
		if writes > self.table.most_writes() {
			return Err(Hard::Kernel.into());
		}
		let mut finder = Finder::new();
		for table in self.tables() {
			self.check(table, &mut finder, new)?;
		}
		// Of the guest's own table, too.
		body::ready(self.table, self.index, self.count, self.values)?;
		if new.take() {
			Ok(())
		} else {
			Err(Hard::Userspace.into())
		}
	}

	/// Writes all entries, which are [reserved](Self::reserve).
	#[inline(never)]
	fn commit(&self, new: &Tally<G::Region>) -> Result<(), Refusal> {
		let mut after = After {
			old: Tally::new(),
			stale: [NONE_STALE; MAX_ATTACHED],
		};
		let (mut result, mut finder) = (Ok(()), Finder::new());
		for n in 0..self.count {
			let tce = self.values.get(n);
			match self.write(n, tce, new, &mut finder, &mut after) {
				Ok(_locked) => body::set(self.table, self.index.wrapping_add(n as u64), tce),
				Err(refusal) => result = Err(refusal),
			}
		}
		after.forget(&self.tables);
		result
	}

	/// Looks for what can't be done, and adds up what will be mapped.
	fn check<'a>(
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
						return Err(Hard::Level { table, index }.into());
					}
					if !new.add(mapping.region) {
						return Err(Hard::Kernel.into());
					}
				}
				// What is there now must be somebody's. It may be coming or going just now,
				// so only what is seen under its lock is believed.
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
	fn is_somebodys(&self, entry: Entry<'_>, page_shift: u32) -> Result<(), Refusal> {
		if from_hardware(entry.tce.load(Ordering::Relaxed)).is_mapping() {
			let user = address(entry.user.load(Ordering::Relaxed));
			self.guest
				.region(user, 1 << page_shift)
				.map_err(|_| Hard::Kernel)?;
		}
		Ok(())
	}

	/// Writes entry `n` to all the hardware's tables. The last of its entries there stays
	/// locked, for the guest's own table to be written.
	fn write<'a>(
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
							mapping.region.give(1);
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
	fn exchange(
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

		// Whoever has the lock is alone, but for stdcx. failing without a reason, and for
		// VFIO's ioctls on containers of the first kind, which know no userspace addresses.
		let mut old = tce.load(Ordering::Relaxed);
		let removed = loop {
			let region = match from_hardware(old).is_mapping() {
				true => Some(self.guest.region(old_user, 1 << page_shift)?),
				false => None,
			};
			// Relaxed: a device reads it when the guest tells it to, by a store that the
			// guest orders behind this hcall.
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
			region.written(old_user);
		}
		Ok(removed)
	}
}

/// An entry of a hardware table as it is stored.
#[inline]
fn from_hardware(stored: u64) -> Tce {
	Tce(u64::from_be(stored))
}

/// A userspace address as it is stored, locked or not.
#[inline]
fn address(stored: u64) -> u64 {
	u64::from_be(stored & !LOCK)
}

/// Writes the first `count` values to entries from `index` on, of all attached tables and
/// of the guest's own. The pages of further values, up to `checked`, are only looked for.
///
/// [`Refusal::Hard`] if that can't be done, with nothing changed, unless userspace
/// registers memory or changes the same entries by ioctls just now.
pub fn write<T: Table, G: Guest>(
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
	entries.reserve(&mut new)?;
	entries.commit(&new)
}
