// SPDX-License-Identifier: GPL-2.0-only
//! How a body reaches the HPT, the reverse map, the host's pages and the TLB.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hcall::Code;

/// Why a body returns without doing its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
	/// The hcall has this answer.
	Answer(Code),
	/// Something is not at hand. Nothing has changed.
	TooHard,
}

impl Refusal {
	/// H_PARAMETER.
	pub const PARAMETER: Self = Self::Answer(Code::PARAMETER);
	/// H_NOT_FOUND.
	pub const NOT_FOUND: Self = Self::Answer(Code::NOT_FOUND);
	/// H_PTEG_FULL.
	pub const PTEG_FULL: Self = Self::Answer(Code::PTEG_FULL);

	/// The hcall's code.
	#[inline]
	pub const fn code(self) -> Code {
		match self {
			Self::Answer(code) => code,
			Self::TooHard => Code::TOO_HARD,
		}
	}
}

/// An entry of the HPT, as the MMU has it: two big-endian doublewords.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Hpte {
	v: AtomicU64,
	r: AtomicU64,
}

impl Hpte {
	/// The first doubleword.
	#[inline]
	pub fn v(&self) -> u64 {
		u64::from_be(self.v.load(Ordering::Relaxed))
	}

	/// The second doubleword.
	#[inline]
	pub fn r(&self) -> u64 {
		u64::from_be(self.r.load(Ordering::Relaxed))
	}

	/// Writes the first doubleword.
	#[inline]
	pub fn set_v(&self, v: u64) {
		self.v.store(v.to_be(), Ordering::Relaxed);
	}

	/// Writes the first doubleword after all that was written before.
	#[inline]
	pub fn release_v(&self, v: u64) {
		self.v.store(v.to_be(), Ordering::Release);
	}

	/// Writes the second doubleword.
	#[inline]
	pub fn set_r(&self, r: u64) {
		self.r.store(r.to_be(), Ordering::Relaxed);
	}

	/// Replaces the first doubleword, if it is `old` still.
	#[inline]
	pub fn exchange_v(&self, old: u64, new: u64) -> bool {
		self.v
			.compare_exchange(
				old.to_be(),
				new.to_be(),
				Ordering::Acquire,
				Ordering::Relaxed,
			)
			.is_ok()
	}
}

/// What the kernel keeps for each entry of the HPT (`struct revmap_entry`).
#[repr(C)]
#[derive(Debug, Default)]
pub struct Rev {
	/// The second doubleword as the guest sees it, with R and C that were collected, and
	/// [`pte::GR_MODIFIED`](crate::pte::GR_MODIFIED). Under the lock of the HPTE.
	pub guest_r: AtomicU64,
	/// The next HPTE that maps the same page. Chains are rings.
	pub next: AtomicU32,
	/// The HPTE before.
	pub prev: AtomicU32,
}

impl Rev {
	/// The guest's second doubleword.
	#[inline]
	pub fn guest_r(&self) -> u64 {
		self.guest_r.load(Ordering::Relaxed)
	}

	/// Writes the guest's second doubleword.
	#[inline]
	pub fn set_guest_r(&self, r: u64) {
		self.guest_r.store(r, Ordering::Relaxed);
	}
}

/// A memory slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
	/// Number of its first page.
	pub first: u64,
	/// How many pages it has.
	pub pages: u64,
	/// Where it is in userspace.
	pub user: u64,
	/// The array of reverse map words.
	pub rmaps: u64,
	/// The slot is being deleted or moved.
	pub is_invalid: bool,
	/// Dirty pages are logged.
	pub is_logged: bool,
}

/// What the VMM's page table has for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostEntry {
	/// Bytes that the entry stands for.
	pub size: u64,
	/// The page, if it is present.
	pub page: Option<HostPage>,
}

/// A page of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostPage {
	/// Its real address.
	pub address: u64,
	/// The VMM may write it.
	pub is_writable: bool,
	/// It is mapped caching-inhibited.
	pub is_uncached: bool,
}

/// A guest and its structures, as a body reaches them.
///
/// A function that returns `None` or [`Refusal::TooHard`] has changed nothing.
pub trait Guest {
	/// Logarithm of the host's page size.
	const PAGE_SHIFT: u32;

	/// The HPT: a power of two of entries, eight to a group.
	fn table(&self) -> &[Hpte];

	/// The [`Rev`] of an HPTE; `None` if it can't be reached here, or there is none.
	///
	/// What was found once is found again during the same hcall.
	fn rev(&self, index: u64) -> Option<&Rev>;

	/// The memory slot of a guest page.
	fn slot(&self, page: u64) -> Option<Slot>;

	/// The reverse map word of a page in the slot; `None` if it can't be reached here.
	fn rmap(&self, slot: &Slot, page: u64) -> Option<&AtomicU64>;

	/// The count of MMU notifications, to be given to the two functions below. Reads after
	/// this are not performed before it.
	fn notifications(&self) -> u64;

	/// An MMU notification is in progress, or has been since `notifications` was read.
	fn is_invalidated(&self, notifications: u64) -> bool;

	/// The entry of the VMM's page table for an address of userspace, or `Ok(None)` if there is
	/// none or the address space is being changed. A present page is marked as referenced, and as
	/// dirty if it may be written and `write` says that it will be.
	fn host_entry(
		&self,
		user: u64,
		notifications: u64,
		write: bool,
	) -> Result<Option<HostEntry>, Refusal>;

	/// A reader of KVM_PPC_GET_HTAB_FD wants to know which HPTEs changed.
	fn wants_changes(&self) -> bool;

	/// Cached translations of emulated devices are out of date.
	fn forget_devices(&self);

	/// Orders the second doubleword before the first (eieio).
	fn order(&self);

	/// Makes earlier changes of the HPT visible to the MMU (ptesync).
	fn sync(&self);

	/// Makes earlier changes of the HPT visible, then removes these translations from each TLB
	/// that this guest uses, and waits until that is done.
	fn flush(&self, translations: &[u64]);

	/// The same for all TLBs of the machine; `after_store` if earlier changes are to be made
	/// visible first.
	fn flush_everywhere(&self, translation: u64, after_store: bool);

	/// Clears R of an HPTE that hardware may be writing: only the byte that has R is written.
	fn clear_reference(&self, hpte: &Hpte);
}
