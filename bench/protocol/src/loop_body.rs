// SPDX-License-Identifier: GPL-2.0-only
//! What the guest times.

use crate::hpte;

/// What a guest does once per iteration of a timing loop. Open, like every code in the
/// command block.
///
/// Each iteration starts with r3 to r7 set and ends with a comparison of r3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct LoopBody(pub u64);

impl LoopBody {
	/// `sc 1`
	pub const HCALL: Self = Self(0);
	/// Stores the low 4 bytes of r4 at r5.
	pub const STORE: Self = Self(1);
	/// Loads 4 bytes at r5 into r3.
	pub const LOAD: Self = Self(2);
	/// Stores r4 at r5, and adds r6 to r5.
	pub const TOUCH: Self = Self(3);
	/// Sets DEC to r4, `sc 1`. Takes the decrementer interrupt.
	pub const CEDE: Self = Self(4);
	/// Counts down from r4.
	pub const SPIN: Self = Self(5);
	/// `msgsndp r4`, `sc 1`. Takes the doorbell interrupt.
	pub const DOORBELL: Self = Self(6);

	/// An hcall (H_ENTER), then H_REMOVE of the index in r5.
	pub const ENTER_REMOVE: Self = Self(7);
	/// The same with an H_PROTECT in between.
	pub const ENTER_PROTECT_REMOVE: Self = Self(8);
	/// `sc 1` with the next index in r5 each time. The HPTEs of all these indexes are in the page table
	/// before a batch, and not after it ([`hpte`](crate::hpte)).
	pub const AT_HPTE: Self = Self(9);
	/// The same for H_ENTER: the HPTEs are not there before.
	pub const ENTER: Self = Self(10);
	/// The same for H_REMOVE: the HPTEs are there before, and the hcall removes them.
	pub const REMOVE: Self = Self(11);
	/// The same for H_BULK_REMOVE of four HPTEs, by absolute indexes: the first two in r4 and r6.
	pub const BULK_REMOVE: Self = Self(12);

	/// How many HPTEs are in the page table before a batch, for each iteration.
	pub const fn hptes_before(self) -> u64 {
		match self {
			Self::AT_HPTE | Self::REMOVE => 1,
			Self::BULK_REMOVE => hpte::BULK,
			_ => 0,
		}
	}

	/// How many are there after a batch.
	pub const fn hptes_after(self) -> u64 {
		match self {
			Self::AT_HPTE | Self::ENTER => 1,
			_ => 0,
		}
	}

	/// The vector of the interrupt that ends each iteration, or 0.
	pub const fn vector(self) -> u64 {
		match self {
			Self::CEDE => 0x900,
			Self::DOORBELL => 0xa00,
			_ => 0,
		}
	}
}

/// A message of `msgsndp` that rings a thread's doorbell: type 5.
pub const fn doorbell(thread: u64) -> u64 {
	5 << 27 | thread
}
