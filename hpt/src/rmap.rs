// SPDX-License-Identifier: GPL-2.0-only
//! Reverse map: which HPTEs map a page of the guest.
//!
//! Each page of a memory slot has a word. Its low half is the index of one HPTE of the chain, if
//! [`PRESENT`] is set. The chain is a ring through [`Rev::next`] and [`Rev::prev`]. Only valid
//! HPTEs are in a chain.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::lock::TRIES;
use crate::pte::{self, R_C, R_R};
use crate::{Guest, Refusal, Rev, Slot};

/// The word is locked.
pub const LOCK: u64 = 1 << 43;
/// Where R and C are that were collected, for the kernel's own page.
pub const RC_SHIFT: u32 = 32;
/// R.
pub const REFERENCED: u64 = R_R << RC_SHIFT;
/// There is a chain.
pub const PRESENT: u64 = 1 << 32;
/// An HPTE of the chain.
pub const INDEX: u64 = 0xffff_ffff;
/// The word is a hash guest's.
pub const HPT: u64 = 1 << 56;

/// A reverse map word that is locked.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
	word: &'a AtomicU64,
	/// What it will have when it is unlocked.
	value: u64,
}

impl<'a> Locked<'a> {
	/// Locks the word.
	#[inline]
	pub(crate) fn new(word: &'a AtomicU64) -> Result<Self, Refusal> {
		for _ in 0..TRIES {
			let value = word.load(Ordering::Relaxed);
			if value & LOCK == 0
				&& word
					.compare_exchange_weak(
						value,
						value | LOCK,
						Ordering::Acquire,
						Ordering::Relaxed,
					)
					.is_ok()
			{
				return Ok(Self { word, value });
			}
		}
		Err(Refusal::TooHard)
	}

	/// Whether this is the lock of that word.
	#[inline]
	pub(crate) fn is_of(&self, word: &AtomicU64) -> bool {
		core::ptr::eq(self.word, word)
	}

	/// R and C that were collected.
	#[inline]
	pub(crate) const fn rc(&self) -> u64 {
		self.value >> RC_SHIFT & (R_R | R_C)
	}

	/// Collects R and C.
	#[inline]
	pub(crate) const fn collect(&mut self, rc: u64) {
		self.value |= (rc & (R_R | R_C)) << RC_SHIFT;
	}

	/// The HPTE at the head of the chain and the last one, if there is a chain.
	#[inline]
	pub(crate) fn ends<'g>(
		&self,
		guest: &'g impl Guest,
	) -> Result<Option<(&'g Rev, &'g Rev)>, Refusal> {
		if self.value & PRESENT == 0 {
			return Ok(None);
		}
		let head = guest.rev(self.value & INDEX).ok_or(Refusal::TooHard)?;
		let last = head.prev.load(Ordering::Relaxed);
		let last = guest.rev(last.into()).ok_or(Refusal::TooHard)?;
		Ok(Some((head, last)))
	}

	/// Appends an HPTE to the chain that has these ends.
	#[inline]
	pub(crate) fn append(&mut self, index: u64, rev: &Rev, ends: Option<(&Rev, &Rev)>) {
		let own = index as u32;
		if let Some((head, last)) = ends {
			rev.next
				.store((self.value & INDEX) as u32, Ordering::Relaxed);
			rev.prev
				.store(head.prev.load(Ordering::Relaxed), Ordering::Relaxed);
			last.next.store(own, Ordering::Relaxed);
			head.prev.store(own, Ordering::Relaxed);
		} else {
			rev.next.store(own, Ordering::Relaxed);
			rev.prev.store(own, Ordering::Relaxed);
			self.value = self.value & !INDEX | u64::from(own) | PRESENT | HPT;
		}
	}

	/// The neighbours of an HPTE in the chain: the next and the one before.
	#[inline]
	pub(crate) fn neighbours<'g>(
		&self,
		guest: &'g impl Guest,
		rev: &Rev,
	) -> Result<(&'g Rev, &'g Rev), Refusal> {
		let next = guest.rev(rev.next.load(Ordering::Relaxed).into());
		let prev = guest.rev(rev.prev.load(Ordering::Relaxed).into());
		next.zip(prev).ok_or(Refusal::TooHard)
	}

	/// Takes an HPTE out of the chain.
	#[inline]
	pub(crate) fn unlink(&mut self, index: u64, rev: &Rev, (next, prev): (&Rev, &Rev)) {
		let following = rev.next.load(Ordering::Relaxed);
		next.prev
			.store(rev.prev.load(Ordering::Relaxed), Ordering::Relaxed);
		prev.next.store(following, Ordering::Relaxed);
		if self.value & INDEX == index {
			self.value &= !INDEX;
			if u64::from(following) == index {
				self.value &= !PRESENT;
			} else {
				self.value |= u64::from(following);
			}
		}
	}
}

impl Drop for Locked<'_> {
	#[inline]
	fn drop(&mut self) {
		self.word.store(self.value, Ordering::Release);
	}
}

/// The memory slot and number of the page of an HPTE, if a slot has the page. `v` has L of the
/// HPTE, and `guest_r` is what the guest gave.
#[inline]
pub(crate) fn slot_of<G: Guest>(
	guest: &G,
	v: u64,
	guest_r: u64,
) -> Result<Option<(Slot, u64)>, Refusal> {
	let shifts = pte::shifts(v, guest_r).ok_or(Refusal::TooHard)?;
	let page = pte::page_number(guest_r, shifts.actual, G::PAGE_SHIFT);
	match guest.slot(page) {
		Some(slot) if slot.is_logged => Err(Refusal::TooHard),
		slot => Ok(slot.map(|slot| (slot, page))),
	}
}

/// The reverse map word of the page.
#[inline]
pub(crate) fn word_of<G: Guest>(
	guest: &G,
	v: u64,
	guest_r: u64,
) -> Result<Option<&AtomicU64>, Refusal> {
	let Some((slot, page)) = slot_of(guest, v, guest_r)? else {
		return Ok(None);
	};
	guest.rmap(&slot, page).map(Some).ok_or(Refusal::TooHard)
}
