// SPDX-License-Identifier: GPL-2.0-only
//! The walk of a page table of the kernel.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::radix::{Found, LEAF, Malformed, PRESENT, walk};

const ROOT: u64 = 0x20_0000;
const TABLES: [u64; 3] = [0x30_0000, 0x31_0000, 0x32_0100];
/// What an entry of each level stands for, as a shift.
const SHIFTS: [u32; 3] = [39, 30, 21];

/// Tables for `address` that end at `level` with `entry`, and where that is.
fn tables(address: u64, page_shift: u32, level: usize, entry: u64) -> (BTreeMap<u64, u64>, u64) {
	let mut memory = BTreeMap::new();
	let mut table = ROOT;
	for depth in 0..=level {
		let (shift, bits) = match depth {
			0 => (SHIFTS[0], 13),
			1 | 2 => (SHIFTS[depth], 9),
			_ => (page_shift, 21 - page_shift),
		};
		let at = table + 8 * (address >> shift & ((1 << bits) - 1));
		if depth == level {
			memory.insert(at, entry.to_be());
			return (memory, at);
		}
		// Linux keeps bits of its own in the low byte.
		memory.insert(at, (PRESENT | TABLES[depth] | 9).to_be());
		table = TABLES[depth];
	}
	unreachable!("the level is 3 at most");
}

proptest! {
	#[test]
	fn the_walk_ends_where_the_tables_end(
		address in prop_oneof![0..1_u64 << 52, (0..1_u64 << 51).prop_map(|low| 0xc008 << 48 | low)],
		page_shift in prop_oneof![Just(12_u32), Just(16)],
		level in 1..4_usize,
		page in 0..1_u64 << 41,
		low in 0..0x1000_u64,
		present in any::<bool>(),
	) {
		let shift = if level == 3 { page_shift } else { SHIFTS[level] };
		let page = page << 12 & !((1 << shift) - 1) & ((1 << 53) - 1);
		let entry = page | low | LEAF | if present { PRESENT } else { 0 };
		let (memory, at) = tables(address, page_shift, level, entry);
		let read = |at| memory.get(&at).copied().unwrap_or_default();
		let found = walk(ROOT, address, page_shift, read);
		prop_assert_eq!(found, Ok(Some(Found { at, entry, shift })));
		prop_assert_eq!(found.unwrap().unwrap().page(), page);
	}

	#[test]
	fn what_is_missing_or_odd_is_not_followed(
		address in 0..1_u64 << 52,
		level in 0..3_usize,
		odd in 1..1_u64 << 62,
	) {
		let (memory, _) = tables(address, 16, level, 0);
		let read = |at| memory.get(&at).copied().unwrap_or_default();
		prop_assert_eq!(walk(ROOT, address, 16, read), Ok(None));
		// Neither a table nor a leaf.
		let (memory, _) = tables(address, 16, level, odd);
		let read = |at| memory.get(&at).copied().unwrap_or_default();
		prop_assert_eq!(walk(ROOT, address, 16, read), Err(Malformed));
	}
}
