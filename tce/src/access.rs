// SPDX-License-Identifier: GPL-2.0-only
//! How an hcall body reaches the table, the guest's memory and the list.

use core::sync::atomic::AtomicU64;

use crate::{Attached, MAX_ATTACHED, Refusal, Region, Tce, Window};

/// A table, as a body reaches it.
///
/// Entries are atomics: other vcpus write the same table, and userspace may have
/// it mapped. Nothing is published by an entry, so relaxed is enough.
pub trait Table {
	/// Entries of one of the pages that the table is made of, as a shift; from 9.
	const PAGE_SHIFT: u32;

	/// Inline the hcall bodies. The generic instance does not, to save text.
	const IN_LINE: bool;

	/// A hardware table.
	type Attached: Attached;

	/// The window.
	fn window(&self) -> Window;

	/// No hardware translates with this table: writing the entries is all.
	fn is_emulated(&self) -> bool;

	/// Limit of hardware entries that one call may write.
	fn most_writes(&self) -> u64;

	/// A call may do a part of the entries, and then needs another call
	/// ([`TooHard::Resched`](crate::TooHard::Resched)).
	fn may_continue(&self) -> bool;

	/// The hardware tables that are attached to this table.
	/// [`TooHard::CFallback`] if there are too many, or one of an unsupported kind.
	fn attached(&self) -> Result<[Option<Self::Attached>; MAX_ATTACHED], Refusal>;

	/// All the entries of a page of the table, if it has come into being.
	fn page(&self, number: u64) -> Option<&[AtomicU64]>;
}

/// Guest addresses from `start`, `length` bytes of them, that are memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
	/// The first.
	pub start: u64,
	/// How many.
	pub length: u64,
	/// Where the first is in userspace.
	pub user: u64,
}

impl Range {
	/// No address at all.
	pub const EMPTY: Self = Self {
		start: 0,
		length: 0,
		user: 0,
	};

	/// Is this one of them?
	#[inline]
	pub const fn contains(&self, address: u64) -> bool {
		address.wrapping_sub(self.start) < self.length
	}

	/// Where `length` of them from this one on are in userspace, if they all are of them.
	#[inline]
	pub const fn user(&self, address: u64, length: u64) -> Option<u64> {
		let offset = address.wrapping_sub(self.start);
		match self.length.checked_sub(length) {
			Some(last) if offset <= last => Some(self.user.wrapping_add(offset)),
			_ => None,
		}
	}
}

/// The guest, as a body reaches it.
pub trait GuestMemory {
	/// A list that can be read.
	type List<'a>: List
	where
		Self: 'a;

	/// Memory that is registered for DMA.
	type Region: Region;

	/// The memory slot that has this address, if there is one.
	fn memory(&self, address: u64) -> Option<Range>;

	/// Is there a memory slot that has this address?
	#[inline]
	fn has(&self, address: u64) -> bool {
		self.memory(address).is_some()
	}

	/// The list at this address, a multiple of 4096; `None` if it can't be read here
	/// and now.
	fn list(&self, address: u64) -> Option<Self::List<'_>>;

	/// The region that has all of these bytes of userspace. [`TooHard::Userspace`] if there
	/// is none, [`TooHard::CFallback`] if it can't be found here.
	fn region(&self, user: u64, length: u64) -> Result<Self::Region, Refusal>;
}

/// A list in guest memory.
pub trait List {
	/// Reads entry `index`, which is below 512.
	fn entry(&self, index: usize) -> Tce;
}
