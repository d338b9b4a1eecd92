// SPDX-License-Identifier: GPL-2.0-only
//! The lock of one entry.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

/// The lock of an entry, in the userspace address as it is stored: big-endian.
const LOCK: u64 = 1_u64.to_be();

/// The lock of an entry, in the userspace address in this CPU's byte order.
const LOCK_BIT: u64 = 1;

/// Takes an entry's lock.
#[inline]
fn lock(user: &AtomicU64) {
	// Acquire: the entry is read after this.
	while user.fetch_or(LOCK, Ordering::Acquire) & LOCK != 0 {
		wait(user);
	}
}

#[cold]
#[inline(never)]
fn wait(user: &AtomicU64) {
	while user.load(Ordering::Relaxed) & LOCK != 0 {
		spin_loop();
	}
}

/// An entry whose lock is held.
pub(super) struct Locked<'a> {
	entry: Entry<'a>,
	/// Its userspace address, which it has when the lock is left.
	pub(super) user: u64,
}

impl<'a> Locked<'a> {
	/// Takes the lock, if no one has it.
	#[inline]
	pub(super) fn try_new(entry: Entry<'a>) -> Option<Self> {
		// Acquire: the entry is read after this.
		let is_free = entry.user.fetch_or(LOCK, Ordering::Acquire) & LOCK == 0;
		is_free.then(|| Self {
			user: entry.user(),
			entry,
		})
	}

	/// Takes the lock as soon as no one has it.
	#[inline]
	pub(super) fn new(entry: Entry<'a>) -> Self {
		lock(entry.user);
		Self {
			entry,
			user: entry.user(),
		}
	}
}

impl Drop for Locked<'_> {
	#[inline]
	fn drop(&mut self) {
		// Release: the next holder of the lock sees all that was done under the lock.
		store_release(self.entry.user, self.user);
	}
}

/// One entry of a hardware table.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
	pub(super) tce: &'a AtomicU64,
	pub(super) user: &'a AtomicU64,
}

impl Entry<'_> {
	/// The userspace address, locked or not.
	#[inline]
	pub(super) fn user(self) -> u64 {
		load(self.user) & !LOCK_BIT
	}
}

/// Reads a value that is stored big-endian: one instruction, where swapping the bytes of an
/// atomic value takes many.
#[cfg(target_arch = "powerpc64")]
#[inline(always)]
fn load(cell: &AtomicU64) -> u64 {
	let value;
	// SAFETY: a load of eight bytes that are there. The address is a multiple of eight, so the
	// load is one access, as a relaxed one of Rust's.
	unsafe {
		core::arch::asm!(
			"ldbrx {value}, 0, {cell}",
			value = lateout(reg) value,
			cell = in(reg) cell.as_ptr(),
			options(nostack, readonly, preserves_flags),
		);
	}
	value
}

#[cfg(not(target_arch = "powerpc64"))]
#[inline(always)]
fn load(cell: &AtomicU64) -> u64 {
	u64::from_be(cell.load(Ordering::Relaxed))
}

/// Stores a value big-endian, with release order.
#[cfg(target_arch = "powerpc64")]
#[inline(always)]
fn store_release(cell: &AtomicU64, value: u64) {
	// SAFETY: a store of eight bytes that are there, and may be written by anyone at any time. The
	// address is a multiple of eight, so the store is one access. lwsync is what release order
	// takes; the compiler moves no access to memory across this.
	unsafe {
		core::arch::asm!(
			"lwsync",
			"stdbrx {value}, 0, {cell}",
			value = in(reg) value,
			cell = in(reg) cell.as_ptr(),
			options(nostack, preserves_flags),
		);
	}
}

#[cfg(not(target_arch = "powerpc64"))]
#[inline(always)]
fn store_release(cell: &AtomicU64, value: u64) {
	cell.store(value.to_be(), Ordering::Release);
}
