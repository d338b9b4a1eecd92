// SPDX-License-Identifier: GPL-2.0-only
//! One entry.

use bitflags::bitflags;

bitflags! {
	/// What a device may do with the page (LoPAR 14.5.4.1, `asm/tce.h`).
	#[derive(Clone, Copy, PartialEq, Eq, Debug)]
	pub struct Permission: u64 {
		/// Read it.
		const READ = 1 << 0;
		/// Write it.
		const WRITE = 1 << 1;
	}
}

/// An entry, as guests write and read it: any value at all.
///
/// The lowest two bits are permissions, the others the guest address of a page
/// that is as big as the window's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Tce(pub u64);

impl Tce {
	/// What the device may do.
	#[inline]
	pub const fn permission(self) -> Permission {
		Permission::from_bits_truncate(self.0)
	}

	/// The device may do something, so the address matters.
	#[inline]
	pub const fn is_mapping(self) -> bool {
		!self.permission().is_empty()
	}

	/// The guest address.
	#[inline]
	pub const fn address(self) -> u64 {
		self.0 & !Permission::all().bits()
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn permissions_are_the_lowest_two_bits() {
		for (value, permission) in [
			(0x1_0000, Permission::empty()),
			(0x1_0001, Permission::READ),
			(0x1_0002, Permission::WRITE),
			(0x1_0003, Permission::READ | Permission::WRITE),
			(0x1_0004, Permission::empty()),
		] {
			let tce = Tce(value);
			assert_eq!(tce.permission(), permission);
			assert_eq!(tce.is_mapping(), value & 3 != 0);
			assert_eq!(tce.address() | permission.bits(), value);
		}
	}
}
