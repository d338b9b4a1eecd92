// SPDX-License-Identifier: GPL-2.0-only
//! The SLB of a hash guest.

/// Entries of a POWER9.
pub const ENTRIES: usize = 32;
/// The bit of a valid entry.
pub const VALID: u64 = 1 << 27;

/// An entry as slbmfee and slbmfev read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Entry {
	/// The segment, and whether the entry is valid.
	pub esid: u64,
	/// The virtual segment, and flags.
	pub vsid: u64,
}

impl Entry {
	/// Whether it is valid.
	pub const fn is_valid(self) -> bool {
		self.esid & VALID != 0
	}

	/// Whether it is still what was written. Nothing is kept of an invalid entry.
	pub fn is_kept_in(self, found: Self) -> bool {
		match self.is_valid() {
			true => self == found,
			false => !found.is_valid(),
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn an_invalid_entry_stays_invalid_and_a_valid_one_the_same() {
		let valid = Entry {
			esid: 5 << 28 | VALID,
			vsid: 7 << 12,
		};
		let invalid = Entry {
			esid: 5 << 28,
			..valid
		};
		let other = Entry {
			vsid: 8 << 12,
			..valid
		};
		let nothing = Entry { esid: 0, vsid: 0 };
		assert!(valid.is_kept_in(valid) && invalid.is_kept_in(nothing));
		assert!(!valid.is_kept_in(other) && !valid.is_kept_in(invalid));
		assert!(!invalid.is_kept_in(valid) && invalid.is_kept_in(invalid));
	}
}
