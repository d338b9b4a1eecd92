// SPDX-License-Identifier: GPL-2.0-only
//! Where the entries of an hcall are in a hardware table, and what is to be written there.

use core::cell::Cell;
use core::iter;

use super::super::lock::Entry;
use super::super::{Attached, EntrySlice};
use crate::Tce;

/// Entries of a table that were changed, and mapped something or do now: the first, and the last
/// if it isn't below the first.
#[derive(Clone, Copy)]
pub(super) struct Stale {
	pub(super) first: u64,
	pub(super) last: u64,
}

impl Stale {
	pub(super) const NONE: Self = Self {
		first: u64::MAX,
		last: 0,
	};

	/// This one, too, which is after all others.
	#[inline]
	pub(super) fn add(&mut self, index: u64) {
		self.first = self.first.min(index);
		self.last = index;
	}

	/// Has the hardware forget them.
	#[inline]
	pub(super) fn invalidate(self, attached: &impl Attached) {
		if self.first <= self.last {
			attached.invalidate(self.first, self.last - self.first + 1);
		}
	}
}

/// Where the entries of an hcall are in a hardware table.
#[derive(Clone, Copy)]
pub(super) struct Parts {
	/// Size of the hardware's pages, as a shift.
	pub(super) page_shift: u32,
	/// How many entries there are for one of the guest's, as a shift.
	pub(super) shift: u32,
	/// The first.
	pub(super) first: u64,
	/// How many.
	pub(super) count: u64,
}

impl Parts {
	/// Which part of the guest's page the hardware's entry `number` of these is for.
	#[inline]
	pub(super) fn part(&self, number: u64) -> u64 {
		number & !(u64::MAX << self.shift)
	}

	/// Which entry of the guest's that is.
	#[inline]
	pub(super) fn guest(&self, number: u64) -> u64 {
		number >> self.shift
	}
}

/// Consecutive entries of a hardware table, in one array, and what is to be written there.
pub(super) struct Run<'a> {
	pub(super) entries: EntrySlice<'a>,
	/// The first one's index.
	pub(super) index: u64,
	pub(super) values: RunValues<'a>,
	/// The first entry of the guest's own table that is written together with these.
	pub(super) own_index: u64,
	/// From which entry of the run on one is written with each.
	pub(super) own_from: usize,
}

/// What is to be written to the entries of a run.
#[derive(Clone, Copy)]
pub(super) enum RunValues<'a> {
	/// One value to each.
	Each(&'a [Cell<u64>]),
	/// The same to each, but for the address: what the first entry adds to that of the value,
	/// and each one more than the one before.
	One { value: Tce, offset: u64, step: u64 },
}

impl Run<'_> {
	/// What is to be written to entry `at`, and the guest address that the entry is to map if
	/// that is a mapping. Each part of a page of the guest's is looked up alone: the page may
	/// continue in another slot, or end with its slot.
	#[inline]
	pub(super) fn value(&self, at: usize) -> (Tce, u64) {
		match self.values {
			RunValues::Each(values) => {
				let value = Tce(values.get(at).map_or(0, Cell::get));
				(value, value.address())
			}
			RunValues::One {
				value,
				offset,
				step,
			} => {
				let offset = offset.wrapping_add(step.wrapping_mul(at as u64));
				(value, value.address().wrapping_add(offset))
			}
		}
	}

	/// The entry, if there is one.
	#[inline]
	pub(super) fn entry(&self, at: usize) -> Option<Entry<'_>> {
		Some(Entry {
			tce: self.entries.tces.get(at)?,
			user: self.entries.users.get(at)?,
		})
	}

	/// The entries from `at` on, each with what is to be written there.
	#[inline]
	pub(super) fn each<'b, const EACH: bool>(
		&'b self,
		at: usize,
	) -> impl Iterator<Item = (Entry<'b>, Tce, u64)> {
		let entries = self.entries.from(at as u64);
		let (values, one, mut offset, step) = match self.values {
			RunValues::Each(values) => (values.get(at..).unwrap_or(&[]), Tce(0), 0, 0),
			RunValues::One {
				value,
				offset,
				step,
			} => {
				let offset = offset.wrapping_add(step.wrapping_mul(at as u64));
				(&[][..], value, offset, step)
			}
		};
		let mut values = values.iter();
		iter::zip(entries.tces, entries.users).map_while(move |(tce, user)| {
			let value = match EACH {
				true => Tce(values.next()?.get()),
				false => one,
			};
			let address = value.address().wrapping_add(offset);
			if !EACH {
				offset = offset.wrapping_add(step);
			}
			Some((Entry { tce, user }, value, address))
		})
	}
}
