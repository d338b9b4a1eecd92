// SPDX-License-Identifier: GPL-2.0-only
//! TCE hcalls of several vcpus while memory slots are added, moved and deleted.
//!
//! The VMM says in a word of guest memory where a slot is, before and after each change. A vcpu
//! reads the word before and after an hcall. If the word is the same and no change was going on,
//! there is exactly one right answer. Otherwise the answer of either side of the change is right.

use core::mem::offset_of;
use static_assertions::{assert_eq_size, const_assert, const_assert_eq};

use crate::map;

/// The slot that lists of H_PUT_TCE_INDIRECT are in.
pub const LISTS: usize = 0;
/// The slot that TCEs point to.
pub const TARGETS: usize = 1;
/// How many slots there are.
pub const SLOTS: usize = 2;

/// Where each slot may be, one place at a time.
pub const ADDRESSES: [[u64; 2]; SLOTS] = [[0x5000_0000, 0x6000_0000], [0x4000_0000, 1 << 34]];
/// The size of each slot.
pub const SIZES: [u64; SLOTS] = [256 << 10, 2 << 20];

/// Size of a list.
pub const LIST_SIZE: u64 = 4096;
/// Lists in the slot for lists.
pub const LIST_COUNT: u64 = SIZES[LISTS] / LIST_SIZE;
/// The numbers of two lists in memory that stays, at [`map::TCE_LIST`]. The targets of each are in
/// the other place of their slot.
pub const LISTS_THAT_STAY: [u64; 2] = [1, 3];
/// Entries of a list that are used.
pub const LIST_ENTRIES: u64 = 16;

/// Entries of the table that one vcpu has for itself.
pub const OWN: usize = 64;
/// The first entry of those that all vcpus use.
pub const SHARED: u64 = 512;
/// How many those are.
pub const SHARED_COUNT: u64 = 64;

/// Bits of a TCE.
const READ_WRITE: u64 = 3;

/// Where a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
	/// Nowhere.
	Nowhere,
	/// At one of its addresses.
	At(usize),
	/// It is being changed.
	Changing,
}

/// What the VMM says of a slot: a sequence number that grows with each word, the number of what is
/// in the memory of the slot, and the place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(pub u64);

impl Word {
	/// The word of that place, after `self`.
	pub const fn next(self, contents: u64, place: Place) -> Self {
		let place = match place {
			Place::Nowhere => 0,
			Place::At(which) => 1 + which as u64,
			Place::Changing => 3,
		};
		let sequence = ((self.0 >> 2) + 1) & 0x3fff_ffff;
		Self(contents << 32 | sequence << 2 | place)
	}

	/// Where the slot is.
	pub const fn place(self) -> Place {
		match self.0 & 3 {
			0 => Place::Nowhere,
			3 => Place::Changing,
			place => Place::At(place as usize - 1),
		}
	}

	/// The number of what was in its memory last.
	pub const fn contents(self) -> u64 {
		self.0 >> 32
	}
}

/// What an hcall is to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowed {
	/// H_SUCCESS by KVM.
	Success,
	/// KVM passes the hcall to userspace, whose code the guest gets.
	Userspace,
	/// One of the two.
	Either,
}

impl Allowed {
	/// The answer to an hcall that needs a slot to be at one of its addresses, if these were its
	/// words before and after the hcall.
	pub fn for_slot(before: Word, after: Word, wanted: usize) -> Self {
		match (before == after, before.place()) {
			(false, _) | (_, Place::Changing) => Self::Either,
			(true, Place::At(which)) if which == wanted => Self::Success,
			(true, _) => Self::Userspace,
		}
	}

	/// The answer if both are needed.
	pub fn and(self, other: Self) -> Self {
		match (self, other) {
			(Self::Userspace, _) | (_, Self::Userspace) => Self::Userspace,
			(Self::Either, _) | (_, Self::Either) => Self::Either,
			(Self::Success, Self::Success) => Self::Success,
		}
	}
}

/// A TCE of a page of the slot for targets.
pub const fn target(place: usize, page: u64) -> u64 {
	let page = page % (SIZES[TARGETS] >> map::TCE_SHIFT);
	(ADDRESSES[TARGETS][place] + (page << map::TCE_SHIFT)) | READ_WRITE
}

/// The place of the slot for targets that the entries of a list need, if they need the slot.
pub const fn needs(list: u64) -> Option<usize> {
	match list & 3 {
		1 => Some(0),
		3 => Some(1),
		_ => None,
	}
}

/// An entry of a list, in memory with these contents.
pub const fn entry(contents: u64, list: u64, index: u64) -> u64 {
	let key = contents << 32 | list << 16 | index;
	let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
	match needs(list) {
		Some(place) => target(place, mixed),
		None => map::tce(mixed % 512),
	}
}

/// Can this be in the table?
pub fn is_possible(entry: u64) -> bool {
	let page = entry & !READ_WRITE;
	let is_in = |start: u64, size: u64| page >= start && page < start + size;
	let place = ADDRESSES[TARGETS];
	let is_target = place.iter().any(|&start| is_in(start, SIZES[TARGETS]));
	let is_main = is_in(map::TCE_TARGET, 512 << map::TCE_SHIFT);
	let is_aligned = page.is_multiple_of(1 << map::TCE_SHIFT);
	let is_allowed = match entry & READ_WRITE {
		READ_WRITE => is_target || is_main,
		0 => is_target,
		_ => false,
	};
	entry == 0 || is_aligned && is_allowed
}

/// What the VMM tells all vcpus.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Shared {
	/// The [`Word`] of each slot.
	pub words: [u64; SLOTS],
	/// Not 0: the vcpus are to end.
	pub stop: u64,
	/// What userspace answers: no code of KVM's.
	pub refusal: u64,
}

assert_eq_size!(Shared, [u64; SLOTS + 2]);
const_assert_eq!(offset_of!(Shared, words), 0);
const_assert_eq!(offset_of!(Shared, stop), 8 * SLOTS);
const_assert_eq!(offset_of!(Shared, refusal), 8 * SLOTS + 8);

/// What a vcpu works with, and what came of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Storm {
	/// Where its random numbers start.
	pub seed: u64,
	/// The first entry of its own.
	pub first: u64,
	/// Hcalls so far, without those that read back.
	pub rounds: u64,
	/// Of them, those that H_SUCCESS was the only right answer for, and whose answer that was.
	pub succeeded: u64,
	/// The same for an answer of userspace.
	pub refused: u64,
	/// Hcalls during a change: how many were answered H_SUCCESS, and how many by userspace.
	pub raced: [u64; 2],
	/// Hcalls whose answer does not depend on slots.
	pub fixed: u64,
	/// How often something was wrong.
	pub bad: u64,
	/// The first time: what was wrong, then what is known of it.
	pub first_bad: [u64; 8],
	/// Its entries as they should be.
	pub table: [u64; OWN],
}

impl Default for Storm {
	fn default() -> Self {
		Self {
			seed: 0,
			first: 0,
			rounds: 0,
			succeeded: 0,
			refused: 0,
			raced: [0; 2],
			fixed: 0,
			bad: 0,
			first_bad: [0; 8],
			table: [0; OWN],
		}
	}
}

impl Storm {
	/// A code that is not allowed at that moment: number, r4 to r7, code, [`Allowed`] as a number.
	pub const BAD_CODE: u64 = 1;
	/// An entry that is not what it should be: number and r5 to r7 of the hcall before, its code,
	/// the index of the entry, and what it is.
	pub const BAD_ENTRY: u64 = 2;
}

assert_eq_size!(Storm, [u64; 17 + OWN]);
const_assert_eq!(offset_of!(Storm, table), 17 * 8);
const_assert!(size_of::<Storm>() as u64 <= map::CONTENDER_VPA);
const_assert!(size_of::<Shared>() as u64 <= map::CONTENDER_SIZE);
const_assert!(SHARED + SHARED_COUNT <= map::TCE_PAGES);
const_assert!(LIST_ENTRIES <= SHARED_COUNT && LIST_ENTRIES <= OWN as u64);
const_assert!(LISTS_THAT_STAY.len() as u64 * LIST_SIZE <= map::TCE_LISTS_SIZE);

#[cfg(test)]
mod tests {
	use super::*;

	const START: Word = Word(0);

	#[test]
	fn words_say_what_they_were_made_of() {
		for place in [Place::Nowhere, Place::At(0), Place::At(1), Place::Changing] {
			let word = START.next(77, place);
			assert_eq!((word.contents(), word.place()), (77, place));
			assert_ne!(word, word.next(77, place));
		}
	}

	#[test]
	fn the_answer_is_certain_without_a_change_only() {
		let here = START.next(1, Place::At(1));
		let gone = here.next(1, Place::Nowhere);
		let changing = gone.next(1, Place::Changing);
		let again = changing.next(2, Place::At(1));
		assert_eq!(Allowed::for_slot(here, here, 1), Allowed::Success);
		assert_eq!(Allowed::for_slot(here, here, 0), Allowed::Userspace);
		assert_eq!(Allowed::for_slot(gone, gone, 1), Allowed::Userspace);
		for (before, after) in [
			(here, gone),
			(gone, changing),
			(changing, changing),
			(here, again),
		] {
			assert_eq!(Allowed::for_slot(before, after, 1), Allowed::Either);
		}
	}

	#[test]
	fn a_slot_that_is_missing_decides() {
		let (success, userspace, either) = (Allowed::Success, Allowed::Userspace, Allowed::Either);
		assert_eq!(success.and(success), success);
		assert_eq!(success.and(either), either);
		assert_eq!(either.and(userspace), userspace);
		assert_eq!(userspace.and(success), userspace);
	}

	#[test]
	fn every_entry_of_a_list_is_possible_and_contents_differ() {
		for list in 0..LIST_COUNT {
			let entries = |contents| {
				core::array::from_fn::<u64, 16, _>(|index| entry(contents, list, index as u64))
			};
			assert!(entries(1).iter().all(|&entry| is_possible(entry)));
			assert_ne!(entries(1), entries(2));
			assert_ne!(entries(0), entries(1));
		}
		assert!(is_possible(0));
		assert!(is_possible(target(1, 3) & !3));
		for entry in [
			target(0, 0) | 1 << 5,
			target(0, 0) & !1,
			map::tce(1) & !3,
			3,
		] {
			assert!(!is_possible(entry), "{entry:#x}");
		}
	}

	#[test]
	fn lists_that_stay_need_one_place_each() {
		assert_eq!(LISTS_THAT_STAY.map(needs), [Some(0), Some(1)]);
	}
}
