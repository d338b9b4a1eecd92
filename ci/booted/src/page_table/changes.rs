// SPDX-License-Identifier: GPL-2.0-only
//! What userspace does to memory and page table while vcpus use them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is done to memory and HPT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
	Unmap,
	Remap,
	WriteProtect,
	/// Pages of private memory become others.
	Fork,
	/// Pages move in the memory of the host.
	Compact,
	/// A memory slot is added, moved or deleted.
	MoveSlot,
	/// Dirty pages are copied.
	CopyPages,
	/// Changed HPTEs are copied.
	CopyHptes,
	Resize,
}

/// Each with how often it is done in 100.
pub const CHANGES: [(Change, u64); 9] = [
	(Change::Unmap, 18),
	(Change::Remap, 12),
	(Change::WriteProtect, 14),
	(Change::Fork, 12),
	(Change::Compact, 4),
	(Change::MoveSlot, 12),
	(Change::CopyPages, 10),
	(Change::CopyHptes, 10),
	(Change::Resize, 8),
];

/// How often each was done.
pub type Counts = [AtomicU64; CHANGES.len()];

/// The counts as they are now.
pub fn counts(counts: &Counts) -> [u64; CHANGES.len()] {
	counts.each_ref().map(|count| count.load(Ordering::Relaxed))
}
