// SPDX-License-Identifier: GPL-2.0-only
//! The lock of an HPTE.

use crate::pte::{Pte, V_LOCK};
use crate::{Guest, Hpte, Refusal};

/// How often a body tries to take a lock.
pub(crate) const TRIES: usize = 32;

/// An HPTE that is locked. If it is dropped, its first doubleword is again what it was.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
	pub(crate) hpte: &'a Hpte,
	/// First doubleword in the format of POWER9, with the lock.
	pub(crate) v: u64,
}

/// The HPTE with this index.
#[inline]
pub(crate) fn find<G: Guest>(guest: &G, index: u64) -> Result<&Hpte, Refusal> {
	let table = guest.table();
	if index >= table.len() as u64 {
		return Err(Refusal::PARAMETER);
	}
	// A guest chooses the index: a mispredicted branch must not let it read past the table.
	let index = index as usize & table.len().wrapping_sub(1);
	table.get(index).ok_or(Refusal::PARAMETER)
}

impl<'a> Locked<'a> {
	/// Locks the HPTE, if none of these bits is set.
	#[inline]
	pub(crate) fn try_new(hpte: &'a Hpte, bits: u64) -> Option<Self> {
		let v = hpte.v();
		if v & bits == 0 && hpte.exchange_v(v, v | V_LOCK) {
			let v = v | V_LOCK;
			return Some(Self { hpte, v });
		}
		None
	}

	/// Locks the HPTE.
	#[inline]
	pub(crate) fn new(hpte: &'a Hpte) -> Result<Self, Refusal> {
		for _ in 0..TRIES {
			if let Some(locked) = Self::try_new(hpte, V_LOCK) {
				return Ok(locked);
			}
		}
		Err(Refusal::TooHard)
	}

	/// What guests see, but for the lock.
	#[inline]
	pub(crate) fn pte(&self) -> Pte {
		Pte::decode(self.v, self.hpte.r())
	}

	/// Unlocks the HPTE with this first doubleword, after all that was written before.
	#[inline]
	pub(crate) fn unlock(self, v: u64) {
		self.hpte.release_v(v & !V_LOCK);
		core::mem::forget(self);
	}

	/// Unlocks the HPTE with this first doubleword. The caller orders that after what it wrote.
	#[inline]
	pub(crate) fn unlock_ordered(self, v: u64) {
		self.hpte.set_v(v & !V_LOCK);
		core::mem::forget(self);
	}
}

impl Drop for Locked<'_> {
	#[inline]
	fn drop(&mut self) {
		self.hpte.set_v(self.v & !V_LOCK);
	}
}
