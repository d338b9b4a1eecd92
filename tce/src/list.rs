// SPDX-License-Identifier: GPL-2.0-only
//! The list of H_PUT_TCE_INDIRECT: reading it, and checking what was read.

use core::cell::Cell;

use crate::{GuestMemory, List, Permission, Range, Refusal, Tce, TooHard, Window};

/// Size and alignment of a list.
pub(crate) const LIST_SIZE: u64 = 4096;

/// Entries that are looked at in one go, as most of them are good.
const STEP: usize = 8;

/// Reads the entries of a list, each once, and validates them. Returns how many come
/// before the first that poisons the table with an address which isn't memory.
#[inline(always)]
pub(crate) fn read_list<G: GuestMemory>(
	window: &Window,
	guest: &G,
	buffer: &[Cell<u64>],
	list: u64,
) -> Result<usize, Refusal> {
	let slot = guest.memory(list).ok_or(TooHard::Userspace)?;
	let list = guest.list(list).ok_or(TooHard::TceList)?;
	let mut check = Check {
		mask: window.page_mask(),
		// Most lists stay in one slot, and that is the one that they are in.
		slot,
		good: buffer.len(),
	};
	let (steps, rest) = buffer.as_chunks::<STEP>();
	let mut start = 0;
	for step in steps {
		let (mut bits, mut farthest) = (0, 0);
		for (at, value) in step.iter().enumerate() {
			let tce = list.entry(start + at).0;
			value.set(tce);
			bits |= tce;
			farthest = farthest.max(tce.wrapping_sub(check.slot.start));
		}
		// Of none of them anything below the address but permissions, and all in the slot.
		if bits & check.mask & !Permission::all().bits() != 0 || farthest >= check.slot.length {
			// Not by reference, which would keep all of this in memory.
			check = check.all(guest, start, step)?;
		}
		start += STEP;
	}
	for (at, value) in rest.iter().enumerate() {
		value.set(list.entry(start + at).0);
	}
	check = check.all(guest, start, rest)?;
	Ok(check.good)
}

/// What the entries of a list are checked against, and what came of it so far.
#[derive(Clone, Copy)]
pub(crate) struct Check {
	/// Bits of an entry below its page's address.
	pub(crate) mask: u64,
	/// The memory slot of the entry before.
	pub(crate) slot: Range,
	/// Entries before the first that can't be written.
	pub(crate) good: usize,
}

impl Check {
	/// Validates these entries, of which the first has this index.
	#[inline(never)]
	fn all(
		mut self,
		guest: &impl GuestMemory,
		start: usize,
		values: &[Cell<u64>],
	) -> Result<Self, Refusal> {
		for (at, value) in values.iter().enumerate() {
			let tce = Tce(value.get());
			// Nothing below the address but permissions, and some of those.
			let permissions_only = (tce.0 & self.mask).wrapping_sub(1) < Permission::all().bits();
			if !(permissions_only && self.slot.contains(tce.0)) {
				match Self::seldom(guest, self.mask, self.slot, tce)? {
					Some(slot) => self.slot = slot,
					None => self.good = self.good.min(start + at),
				}
			}
		}
		Ok(self)
	}

	/// The slot with the entry's address, or nothing if there is none and the entry
	/// has no permissions.
	#[cold]
	#[inline(never)]
	pub(crate) fn seldom(
		guest: &impl GuestMemory,
		mask: u64,
		slot: Range,
		tce: Tce,
	) -> Result<Option<Range>, Refusal> {
		if tce.is_mapping() && tce.address() & mask != 0 {
			return Err(TooHard::Userspace.into());
		}
		let found = if slot.contains(tce.0) {
			Some(slot)
		} else {
			guest.memory(tce.0)
		};
		if found.is_none() && tce.is_mapping() {
			return Err(TooHard::Userspace.into());
		}
		Ok(found)
	}
}

/// [`read_list`] in a frame of its own, which is gone when the entries are written.
#[inline(never)]
pub(crate) fn read_list_apart<G: GuestMemory>(
	window: &Window,
	guest: &G,
	values: &[Cell<u64>],
	list: u64,
) -> Result<usize, Refusal> {
	read_list(window, guest, values, list)
}
