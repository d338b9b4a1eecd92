// SPDX-License-Identifier: GPL-2.0-only
//! The list of H_PUT_TCE_INDIRECT: reading it, and checking what was read.

use core::cell::Cell;

use crate::{GuestMemory, List, Permission, Range, Refusal, Tce, TooHard, Window};

/// Size and alignment of a list.
pub(crate) const LIST_SIZE: u64 = 4096;

/// Reads the entries of a list, each once, and validates them. Returns how many come
/// before the first that poisons the table with an address which isn't memory.
#[inline(always)]
pub(crate) fn read_list<const STEP: usize, G: GuestMemory>(
	window: &Window,
	guest: &G,
	buffer: &[Cell<u64>],
	list: u64,
) -> Result<usize, Refusal> {
	if guest.memory(list).is_none() {
		return Err(TooHard::Userspace.into());
	}
	let list = guest.list(list).ok_or(TooHard::TceList)?;
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
pub(crate) struct Check {
	/// Bits of an entry below its page's address.
	pub(crate) mask: u64,
	/// The memory slot of the entry before.
	pub(crate) slot: Range,
	/// Entries before the first that can't be written.
	pub(crate) good: usize,
}

impl Check {
	/// Validates the entry at `index`.
	#[inline]
	pub(crate) fn entry(
		&mut self,
		guest: &impl GuestMemory,
		index: usize,
		tce: Tce,
	) -> Result<u64, Refusal> {
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
	read_list::<1, G>(window, guest, values, list)
}
