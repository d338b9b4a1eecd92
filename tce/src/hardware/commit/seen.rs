// SPDX-License-Identifier: GPL-2.0-only
//! What consecutive entries have in common, as far as it was looked up.

use core::mem;
use core::sync::atomic::Ordering;

use super::super::Attached;
use super::super::regions::{Extent, Owner, Place, Region, Tally};
use super::run::{Run, Stale};
use super::{is_mapping, may_have_written};
use crate::{Refusal, TooHard};

/// What is remembered while entries are looked at, and then while they are written: what the next
/// ones may have in common.
pub(super) struct Seen<R> {
	pub(super) place: Option<Place<R>>,
	pub(super) owner: Option<Owner<R>>,
	/// How many places were looked up.
	pub(super) places: u64,
	/// Entries that were found in the place, or were taken from the owner, and are not in a
	/// tally yet.
	pub(super) count: u64,
	/// What of the owner is marked as written.
	pub(super) dirty: Extent,
	/// What the hardware has to forget.
	pub(super) stale: Stale,
	/// An entry could not be written.
	pub(super) has_failed: bool,
}

impl<R: Region> Seen<R> {
	pub(super) const fn new() -> Self {
		Self {
			place: None,
			owner: None,
			places: 0,
			count: 0,
			dirty: Extent::NONE,
			stale: Stale::NONE,
			has_failed: false,
		}
	}

	/// Is the page at this guest address in the place that is remembered?
	#[inline]
	pub(super) fn has_place(&self, address: u64) -> bool {
		self.place
			.as_ref()
			.is_some_and(|place| place.span().has(address))
	}

	/// Is the page at this address of userspace one of the owner that is remembered?
	#[inline]
	pub(super) fn has_owner(&self, user: u64) -> bool {
		self.owner
			.as_ref()
			.is_some_and(|owner| owner.span().has(user))
	}

	/// All that were found in the place are in the tally now.
	#[inline]
	pub(super) fn settle_place(&mut self, new: &mut Tally<R>) {
		if let (Some(place), 1..) = (&self.place, self.count) {
			new.add(place.region, self.count);
		}
		self.count = 0;
	}

	/// All that were taken from the owner are in the tally now, which has room for one.
	#[inline]
	pub(super) fn settle_owner(&mut self, old: &mut Tally<R>) {
		if let (Some(owner), 1..) = (&self.owner, self.count) {
			old.add(owner.region, self.count);
		}
		self.count = 0;
	}

	/// Entries are written from now on. If there was just one place, all is there. If there were
	/// more, the first is to be found first, as before.
	#[inline]
	pub(super) fn begin_to_write(&mut self) {
		self.count = 0;
		if self.places != 1 {
			self.place = None;
		}
	}

	/// Entry `at` of a run probably has in common with others what is remembered. A page that it
	/// maps until now may be marked as written before it is known not to be mapped any more.
	#[inline]
	pub(super) fn may_run(&mut self, run: &Run<'_>, at: usize) -> bool {
		let (value, address) = run.value(at);
		if value.is_mapping() {
			return self.has_place(address);
		}
		let Some(entry) = run.entry(at) else {
			return false;
		};
		let stored = entry.tce.load(Ordering::Relaxed);
		if !is_mapping(stored) {
			return true;
		}
		let user = entry.user();
		let Some(owner) = self.owner.as_ref().filter(|owner| owner.span().has(user)) else {
			return false;
		};
		if may_have_written(stored) && !self.dirty.has(user) {
			self.dirty = owner.region.set_dirty(user);
		}
		true
	}

	#[inline]
	pub(super) fn result(&self) -> Result<(), Refusal> {
		match self.has_failed {
			true => Err(TooHard::CFallback.into()),
			false => Ok(()),
		}
	}

	/// The hardware has forgotten all that was written, and it is in the tally.
	#[inline]
	pub(super) fn finish(&mut self, attached: &impl Attached, old: &mut Tally<R>) {
		self.invalidate(attached);
		self.make_room(attached, old);
		self.settle_owner(old);
	}

	/// Makes room for one more region in the tally. No lock may be held, because a call of firmware
	/// takes long.
	#[inline]
	pub(super) fn make_room(&mut self, attached: &impl Attached, old: &mut Tally<R>) {
		if !old.has_room() {
			// Seldom: pages of that many regions were mapped here. Each of them is forgotten by
			// the hardware before it is counted back.
			self.invalidate(attached);
			old.dec_mapped();
		}
	}

	#[inline]
	pub(super) fn invalidate(&mut self, attached: &impl Attached) {
		let stale = mem::replace(&mut self.stale, Stale::NONE);
		stale.invalidate(attached);
	}
}
