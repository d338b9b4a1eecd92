// SPDX-License-Identifier: GPL-2.0-only
//! Hcall return codes.

/// What the guest finds in r3 after an hcall (LoPAR 14.1.3, `hvcall.h`).
///
/// Open, for the same reason as [`Number`](crate::Number): userspace may answer
/// an hcall with a code that we never heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Code(pub i64);

impl Code {
	/// The hcall did what was asked.
	pub const SUCCESS: Self = Self(0);
	/// The hcall is not implemented, or not enabled.
	pub const FUNCTION: Self = Self(-2);
	/// A parameter is out of range.
	pub const PARAMETER: Self = Self(-4);
	/// The group of the page table has no free place.
	pub const PTEG_FULL: Self = Self(-6);
	/// There is no such page table entry.
	pub const NOT_FOUND: Self = Self(-7);
	/// The second parameter is not valid, or names what the platform lacks.
	pub const P2: Self = Self(-55);
	/// Never reaches a guest: this handler can't do it, take the full path.
	///
	/// The kernel's H_TOO_HARD, outside the range that PAPR assigns.
	pub const TOO_HARD: Self = Self(9999);
}
