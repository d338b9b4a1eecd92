// SPDX-License-Identifier: GPL-2.0-only
//! Spinlocks of the kernel.

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use crate::layout::kernel as layout;

/// A spinlock, as `queued_spin_trylock()` takes it and `queued_spin_unlock()` leaves it
/// (asm/qspinlock.h).
pub(crate) struct SpinLock<'a>(&'a AtomicU32);

impl<'a> SpinLock<'a> {
	/// Takes the lock, if it is free.
	#[inline(always)]
	pub(crate) fn try_new(word: &'a AtomicU32, cpu: u16) -> Option<Self> {
		if layout::HAVE_QUEUED_SPINLOCK == 0 {
			return None;
		}
		let tail = layout::SPINLOCK_TAIL as u32;
		let old = word.load(Ordering::Relaxed);
		let new = old & tail
			| layout::SPINLOCK_LOCKED as u32
			| u32::from(cpu) << layout::SPINLOCK_OWNER_SHIFT;
		if old & !tail != 0 {
			return None;
		}
		word.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed)
			.is_ok()
			.then(|| Self(word))
	}
}

impl Drop for SpinLock<'_> {
	#[inline(always)]
	fn drop(&mut self) {
		// SAFETY: the low half of the word on a little-endian CPU: `locked` of the union, the
		// only half that the kernel writes to unlock. Queued CPUs change the other half meanwhile.
		let locked = unsafe { AtomicU16::from_ptr(self.0.as_ptr().cast()) };
		locked.store(0, Ordering::Release);
	}
}
