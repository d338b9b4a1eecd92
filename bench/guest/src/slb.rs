// SPDX-License-Identifier: GPL-2.0-only
//! All entries of the SLB of a hash guest, at random.

use core::arch::asm;

use protocol::regs::Pattern;
use protocol::slb::{ENTRIES, Entry, VALID};

use crate::VSID;

unsafe extern "C" {
	/// Writes each entry, with translation off. Each is a pair: the operands of slbmte.
	///
	/// # Safety
	///
	/// The entries must translate the memory of the payload if translation is on.
	fn load_slb(entries: *const [u64; 2]);
}

/// Pages of 4 KiB, of 64 KiB, of 16 MiB.
const PAGE_SIZES: [u64; 3] = [0, 0x110, 0x100];
/// Both keys, no execute, and class.
const FLAGS: u64 = 0x800 | 0x400 | 0x200 | 0x80;
/// Segments of 1 TiB.
const LARGE_SEGMENT: u64 = 1 << 62;

/// Entries that do not overlap. One in four is invalid. If translation is on, two of them, anywhere,
/// are those of the payload.
pub fn random(pattern: &mut Pattern, translated: bool) -> [Entry; ENTRIES] {
	let mut entries = core::array::from_fn(|index| {
		let (address, other) = (pattern.next(), pattern.next());
		// Below 0x8000000000000000 and not 0: neither of the segments of the payload. The index
		// makes segments of up to 1 TiB differ.
		let segment = 1 << 62 | (address & 0x3fff_0000_0000_0000) | (index as u64) << 40;
		let page_size = PAGE_SIZES[(other >> 60) as usize % PAGE_SIZES.len()];
		let large = other & LARGE_SEGMENT;
		let offset = if large != 0 {
			0
		} else {
			address & 0xff_f000_0000
		};
		Entry {
			esid: segment | offset | if address & 3 == 0 { 0 } else { VALID },
			vsid: large | (other & 0x0003_ffff_ffff_f000) | (other & FLAGS) | page_size,
		}
	});
	if translated {
		let first = pattern.next() as usize % ENTRIES;
		let second = (first + 1 + pattern.next() as usize % (ENTRIES - 1)) % ENTRIES;
		for (index, esid) in [(first, 0), (second, 0xc << 60)] {
			entries[index] = Entry {
				esid: esid | VALID,
				vsid: VSID << 12 | 0x110,
			};
		}
	}
	entries
}

/// Writes them.
///
/// # Safety
///
/// As [`random`] makes them.
pub unsafe fn load(entries: &[Entry; ENTRIES]) {
	let operands = core::array::from_fn::<_, ENTRIES, _>(|index| {
		let entry = entries[index];
		[entry.vsid, entry.esid | index as u64]
	});
	// SAFETY: the caller's promise.
	unsafe { load_slb(operands.as_ptr()) };
}

/// Reads them.
pub fn read() -> [Entry; ENTRIES] {
	core::array::from_fn(|index| {
		let (esid, vsid): (u64, u64);
		// SAFETY: reading the SLB has no effect.
		unsafe {
			asm!(
				"slbmfee {esid}, {index}",
				"slbmfev {vsid}, {index}",
				esid = out(reg) esid,
				vsid = out(reg) vsid,
				index = in(reg) index,
				options(nomem, nostack)
			);
		}
		Entry { esid, vsid }
	})
}

/// Writes one entry.
///
/// # Safety
///
/// The entry must be of a segment that the payload does not use.
pub unsafe fn set(vsid: u64, esid: u64) {
	// SAFETY: nothing is translated by the segment but what the VMM asks for.
	unsafe {
		core::arch::asm!("slbmte {}, {}", "isync", in(reg) vsid, in(reg) esid, options(nostack));
	}
}
