// SPDX-License-Identifier: GPL-2.0-only
//! The lock of one entry.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

/// The lock of an entry, in the userspace address as it is stored: big-endian.
pub(super) const LOCK: u64 = 1_u64.to_be();

/// Takes an entry's lock, and returns the userspace address in it.
pub(super) fn lock(user: &AtomicU64) -> u64 {
	loop {
		// Acquire: the entry is read after this.
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
pub(super) struct Locked<'a> {
	pub(super) entry: Entry<'a>,
	/// Its userspace address as it is stored when the lock is left.
	pub(super) user: u64,
}

impl<'a> Locked<'a> {
	pub(super) fn new(entry: Entry<'a>) -> Self {
		Self {
			user: lock(entry.user),
			entry,
		}
	}
}

impl Drop for Locked<'_> {
	fn drop(&mut self) {
		// Release: the next holder of the lock sees all that was done under the lock.
		self.entry.user.store(self.user, Ordering::Release);
	}
}

/// One entry of a hardware table.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
	pub(super) tce: &'a AtomicU64,
	pub(super) user: &'a AtomicU64,
}

/// A userspace address as it is stored, locked or not.
#[inline]
pub(super) fn address(stored: u64) -> u64 {
	u64::from_be(stored & !LOCK)
}
