// SPDX-License-Identifier: GPL-2.0-only
//! RB of `tlbie`, from the virtual address (Power ISA 3.0B, Book III, 5.9.3.3).

use proptest::prelude::*;

use crate::pte::{Pte, shifts};

/// Page sizes: L, LP, base, actual, AP.
const SIZES: [(u64, u64, u32, u32, u64); 6] = [
	(0, 0x00, 12, 12, 0),
	(1, 0x01, 16, 16, 0),
	(1, 0x07, 12, 16, 5),
	(1, 0x38, 12, 24, 4),
	(1, 0x08, 16, 24, 0),
	(1, 0x00, 24, 24, 0),
];

proptest! {
	#[test]
	fn translation_is_that_of_the_address(
		address in 0..1_u128 << 78,
		size in 0..SIZES.len(),
		is_1tb in any::<bool>(),
		is_secondary in any::<bool>(),
		order in 11..30_u32,
	) {
		let (large, lp, base, actual, ap) = SIZES[size];
		// The hash: VSID xor page number in the segment.
		let segment = if is_1tb { 40 } else { 28 };
		let vsid = (address >> segment) as u64;
		let page = (address & ((1 << segment) - 1)) >> base;
		let mut hash = page as u64 ^ if is_1tb { vsid ^ vsid << 25 } else { vsid };
		if is_secondary {
			hash = !hash;
		}
		let group = hash & ((1 << order) - 1);
		let offset = (1_u128 << base) - 1;
		let avpn = (address & !offset) >> 23;
		let pte = Pte {
			v: (avpn as u64) << 7 | large << 2 | u64::from(is_secondary) << 1 | 1
				| u64::from(is_1tb) << 62,
			// Where a page size has fewer bits of LP, the others are the page's number.
			r: lp << 12 | if lp == 1 || lp == 7 { 0xa_0000 } else { 0 },
		};
		let pte = Pte { v: pte.v & !(0x3 << 62 & !(u64::from(is_1tb) << 62)), ..pte };
		prop_assert_eq!(shifts(pte.v, pte.r).map(|s| (s.base, s.actual)), Some((base, actual)));

		let b = u64::from(is_1tb);
		// The AVPN of an HPTE has no more than bits 0 to 54 of 78.
		let address = address & ((1 << 76) - 1);
		let expected = if base == 12 {
			((address >> 12) as u64) << 12 | b << 8 | ap << 5
		} else {
			let ava = (address >> actual << actual) as u64 & !0xfffff;
			// Bits of the address from there to the page's number, if it is small.
			let ava = ava | (address as u64 >> actual << actual) & 0x7f_f000;
			let aval = (address as u64 >> base << (base - 12)) & 0xfe;
			let lp = lp << 12 | if lp == 1 { 0 } else { pte.r & 0xff000 & ((1 << actual) - 1) };
			ava | lp | b << 8 | aval | 1
		};
		prop_assert_eq!(
			pte.translation(group << 3 | 5),
			expected,
			"{:#x} {:?} {:#x}", address, SIZES[size], pte.v
		);
	}
}
