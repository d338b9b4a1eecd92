// SPDX-License-Identifier: GPL-2.0-only
//! DMA windows.

use crate::Refusal;

/// Where a table's window lies in I/O bus address space, in pages of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
	/// Page size, as a shift: from 12 to 34.
	pub page_shift: u32,
	/// Number of the first page.
	pub offset: u64,
	/// Pages, and so entries of the table.
	pub size: u64,
}

impl Window {
	/// The bits of an address that lie within one page.
	#[inline]
	pub const fn page_mask(&self) -> u64 {
		1_u64.wrapping_shl(self.page_shift).wrapping_sub(1)
	}

	/// Index of the table's entry for the I/O bus address, if that is a page's, and
	/// this page and the next ones, `pages` together, are all in the window.
	/// [`Refusal::Parameter`] if not.
	///
	/// The index is below the table's size on a mispredicted path, too. With no pages it may
	/// be 0 instead of the size.
	#[inline]
	pub fn index(&self, ioba: u64, pages: u64) -> Result<u64, Refusal> {
		let number = ioba.wrapping_shr(self.page_shift);
		let end = number.checked_add(pages);
		match (number.checked_sub(self.offset), end) {
			// The sum can't overflow: it is `end` less the offset.
			(Some(index), Some(_))
				if ioba & self.page_mask() == 0 && index.wrapping_add(pages) <= self.size =>
			{
				Ok(clamp(index, self.size))
			}
			_ => Err(Refusal::Parameter),
		}
	}

	/// The same for one page, in fewer steps.
	#[inline]
	pub fn index_of_one(&self, ioba: u64) -> Result<u64, Refusal> {
		let number = ioba.wrapping_shr(self.page_shift);
		// An address below the window has an index beyond any size: the window ends within the
		// address space.
		let index = number.wrapping_sub(self.offset);
		if number.wrapping_shl(self.page_shift) == ioba && index < self.size {
			Ok(clamp(index, self.size))
		} else {
			Err(Refusal::Parameter)
		}
	}
}

/// `index` if it is below `size`, and 0 if not, without a branch.
///
/// The guest chooses the index and can train the branch that checks it. What is loaded with
/// the index must not depend on the prediction, so the choice is an isel, which is never
/// predicted.
#[cfg(target_arch = "powerpc64")]
#[inline(always)]
pub fn clamp(index: u64, size: u64) -> u64 {
	let clamped;
	// SAFETY: arithmetic on registers. 0 is the number of CR0[LT].
	unsafe {
		core::arch::asm!(
			"cmpld {index}, {size}",
			"isel {clamped}, {index}, {zero}, 0",
			index = in(reg_nonzero) index,
			size = in(reg) size,
			zero = in(reg) 0_u64,
			clamped = lateout(reg) clamped,
			lateout("cr0") _,
			options(pure, nomem, nostack),
		);
	}
	clamped
}

/// `index` if it is below `size`, and 0 if not. Only a POWER9 runs handlers.
#[cfg(not(target_arch = "powerpc64"))]
#[inline(always)]
pub fn clamp(index: u64, size: u64) -> u64 {
	if index < size { index } else { 0 }
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	#[test]
	fn edges_of_a_window() {
		let window = Window {
			page_shift: 16,
			offset: 0x100,
			size: 0x80,
		};
		let index = |ioba, pages| window.index(ioba, pages).ok();
		assert_eq!(index(0x100_0000, 1), Some(0));
		assert_eq!(index(0x100_0000, 0x80), Some(0));
		assert_eq!(index(0x100_0000, 0x81), None);
		assert_eq!(index(0x17f_0000, 1), Some(0x7f));
		assert_eq!(index(0x17f_0000, 2), None);
		assert_eq!(index(0x180_0000, 0), Some(0));
		assert_eq!(index(0x180_0000, 1), None);
		assert_eq!(index(0x181_0000, 0), None);
		assert_eq!(index(0xff_0000, 1), None);
		assert_eq!(index(0x100_1000, 1), None);
		assert_eq!(index(0x101_0000, u64::MAX), None);
		assert_eq!(index(0x101_0000, u64::MAX - 0x100), None);
		assert_eq!(window.index(0x181_0000, 1), Err(Refusal::Parameter));
	}

	proptest! {
		/// Against arithmetic that can't overflow.
		#[test]
		fn index_follows_the_rule(
			page_shift in 12..=34_u32,
			offset in prop_oneof![Just(0), 0..0x1_0000_u64, any::<u64>()],
			size in prop_oneof![1..0x2_0000_u64, any::<u64>()],
			start in prop_oneof![0..0x2_0000_u64, any::<u64>()],
			low in prop_oneof![3 => Just(0_u64), 1 => any::<u64>()],
			pages in prop_oneof![0..=513_u64, any::<u64>()],
		) {
			// What KVM creates ends within the address space.
			let most = (u64::MAX >> page_shift) as u128;
			prop_assume!(u128::from(offset) + u128::from(size) <= most);
			let window = Window { page_shift, offset, size };
			let page = offset.wrapping_add(start).wrapping_shl(page_shift) >> page_shift;
			let ioba = page << page_shift | low & window.page_mask();
			let end = u128::from(page) + u128::from(pages);
			let inside = page >= offset && end <= u128::from(offset) + u128::from(size);
			let aligned = ioba.is_multiple_of(1 << page_shift);
			let index = page.wrapping_sub(offset);
			let index = if index == size { 0 } else { index };
			let expected = if inside && aligned { Ok(index) } else { Err(Refusal::Parameter) };
			prop_assert_eq!(window.index(ioba, pages), expected);
			prop_assert_eq!(window.index_of_one(ioba), window.index(ioba, 1));
		}
	}
}
