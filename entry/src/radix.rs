// SPDX-License-Identifier: GPL-2.0-only
//! A walk of a radix tree of the kernel or of a process.

/// An entry is a leaf.
pub const LEAF: u64 = 1 << 62;
/// An entry can be used by the MMU.
pub const PRESENT: u64 = 1 << 63;
/// Where the next table is.
const NEXT_TABLE: u64 = 0x0fff_ffff_ffff_ff00;
/// The page of a leaf.
const PAGE: u64 = (1 << 53) - 1;

/// Bits of the tree, and of each level but the last.
pub(crate) const TREE_BITS: u32 = 52;
pub(crate) const LEVEL_BITS: [u32; 3] = [13, 9, 9];
/// What an entry of the level before the last stands for.
#[allow(dead_code)]
pub(crate) const LAST_SHIFT: u32 = TREE_BITS - 13 - 9 - 9;

/// An entry that the kernel is not known to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Where a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
	/// Real address of the entry.
	pub at: u64,
	/// The entry: a leaf, or no entry of a table that stands for a page each.
	pub entry: u64,
	/// Logarithm of what the entry stands for.
	pub shift: u32,
}

impl Found {
	/// The real address of the page.
	#[inline]
	pub const fn page(&self) -> u64 {
		self.entry & PAGE & !((1 << self.shift) - 1)
	}
}

/// Walks from the table at a real address. `read` reads an entry at a real address. `Ok(None)` if
/// there is no table for `address`; an error if an entry is none that the kernel is known to make.
#[inline]
pub fn walk(
	root: u64,
	address: u64,
	page_shift: u32,
	mut read: impl FnMut(u64) -> u64,
) -> Result<Option<Found>, Malformed> {
	let mut table = root;
	let mut shift = TREE_BITS;
	for bits in LEVEL_BITS {
		shift -= bits;
		let at = table + 8 * (address >> shift & ((1 << bits) - 1));
		let entry = u64::from_be(read(at));
		if entry == 0 {
			return Ok(None);
		}
		if entry & LEAF != 0 {
			return Ok(Some(Found { at, entry, shift }));
		}
		if entry & PRESENT == 0 {
			return Err(Malformed);
		}
		table = entry & NEXT_TABLE;
	}
	let bits = shift - page_shift;
	let at = table + 8 * (address >> page_shift & ((1 << bits) - 1));
	let entry = u64::from_be(read(at));
	Ok(Some(Found {
		at,
		entry,
		shift: page_shift,
	}))
}
