// SPDX-License-Identifier: GPL-2.0-only
//! The host's page of an address of the VMM, under `mmu_lock`.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use ::hpt::{HostEntry, HostPage, Refusal};

use crate::layout::kernel as layout;
use crate::radix::{Found, LEAF, PRESENT};

/// What the kernel's page table entry says. Marks a present page as referenced, and as dirty if it
/// is to be written and may be.
#[inline(always)]
pub(super) fn entry(found: Found, write: bool) -> Result<HostEntry, Refusal> {
	let size = 1 << found.shift;
	let entry = found.entry;
	// In the middle of a change, locked, or marked for NUMA balancing: C knows what to do.
	let odd = (layout::PTE_INVALID | layout::PTE_BUSY) as u64;
	if entry & PRESENT == 0 {
		return match entry & odd {
			0 => Ok(HostEntry { size, page: None }),
			_ => Err(Refusal::TooHard),
		};
	}
	let access = (layout::PTE_RWX) as u64;
	if entry & layout::PTE_BUSY as u64 != 0 || entry & LEAF == 0 || entry & access == 0 {
		return Err(Refusal::TooHard);
	}
	let is_writable = entry & layout::PTE_WRITE as u64 != 0;
	let mut marked = entry | layout::PTE_ACCESSED as u64;
	if write && is_writable {
		marked |= (layout::PTE_DIRTY | layout::PTE_SOFT_DIRTY) as u64;
	}
	if marked != entry {
		let at = NonNull::new((found.at | layout::LINEAR_MAP as u64) as *mut AtomicU64);
		let at = at.ok_or(Refusal::TooHard)?;
		// SAFETY: the entry that the walk has read; page tables stay, see the module `hpt`. Others
		// change entries atomically, too.
		unsafe { at.as_ref() }
			.compare_exchange(
				entry.to_be(),
				marked.to_be(),
				Ordering::Relaxed,
				Ordering::Relaxed,
			)
			.map_err(|_| Refusal::TooHard)?;
	}
	let caching = entry & layout::PTE_CACHING as u64;
	Ok(HostEntry {
		size,
		page: Some(HostPage {
			address: found.page(),
			is_writable,
			is_uncached: caching == layout::PTE_TOLERANT as u64
				|| caching == layout::PTE_NON_IDEMPOTENT as u64,
		}),
	})
}
