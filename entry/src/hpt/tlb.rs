// SPDX-License-Identifier: GPL-2.0-only
//! TLB invalidation for a hash guest (Power ISA 3.0B, Book III, 5.9.3.3 and 5.10.1).

use core::arch::asm;

use powerpc::HostFacts;

/// The ptesync, eieio and tlbsync instructions have no operands and change no register.
macro_rules! barrier {
	($(#[$doc:meta])* $name:ident: $text:literal) => {
		$(#[$doc])*
		#[inline(always)]
		pub(crate) fn $name() {
			// SAFETY: a barrier changes no register and no memory. Without `nomem` the compiler moves
			// no access across it.
			unsafe { asm!($text, options(nostack, preserves_flags)) };
		}
	};
}

barrier! {
	/// Earlier stores to page tables are visible to all MMUs.
	ptesync: "ptesync"
}
barrier! {
	/// Orders stores to cached memory.
	eieio: "eieio"
}
barrier! {
	/// Waits until all CPUs have done earlier tlbie.
	end: "eieio; tlbsync; ptesync"
}

/// The instruction word of tlbie or tlbiel with RS in r9 and RB in r10, RIC=0, PRS=0.
const fn word(extended: u32, radix: bool) -> u32 {
	31 << 26 | 9 << 21 | (radix as u32) << 16 | 10 << 11 | extended << 1
}

const TLBIE: u32 = word(306, false);
const TLBIE_RADIX: u32 = word(306, true);
const TLBIEL: u32 = word(274, false);

/// Executes the instruction with that word.
///
/// # Safety
///
/// It must be one of the three above.
#[inline(always)]
unsafe fn invalidate<const WORD: u32>(rb: u64, rs: u64) {
	// SAFETY: the word is tlbie's or tlbiel's, which change TLBs only, and a TLB that has less is never
	// wrong. LLVM does not know the form with five operands.
	unsafe {
		asm!(
			".long {word}",
			word = const WORD,
			in("r9") rs,
			in("r10") rb,
			options(nostack, preserves_flags),
		);
	}
}

/// Invalidates translations of a hash guest on this CPU's core, whose LPIDR is loaded.
#[inline(always)]
pub(crate) fn local(translations: &[u64]) {
	ptesync();
	for &translation in translations {
		// SAFETY: the word is tlbie's or tlbiel's.
		unsafe { invalidate::<TLBIEL>(translation, 0) };
	}
	ptesync();
}

/// Invalidates translations of a hash guest on all CPUs.
#[inline(always)]
pub(crate) fn global(translations: &[u64], lpid: u64, facts: HostFacts, after_store: bool) {
	if after_store {
		ptesync();
	}
	let mut last = 0;
	for &translation in translations {
		// SAFETY: the word is tlbie's or tlbiel's.
		unsafe { invalidate::<TLBIE>(translation, lpid) };
		last = translation;
	}
	// POWER9 errata: an ERAT may keep a translation until a tlbie for radix follows, and a store
	// that was translated before the tlbie may be performed after it until another tlbie follows.
	// (CPU_FTR_P9_TLBIE_ERAT_BUG, CPU_FTR_P9_TLBIE_STQ_BUG.)
	if facts.contains(HostFacts::TLBIE_ERAT_BUG) {
		/// IS=2: all of LPID 0, partition scoped. The host has no such translations.
		const ALL_OF_LPID: u64 = 1 << 11;
		ptesync();
		// SAFETY: the word is tlbie's or tlbiel's.
		unsafe { invalidate::<TLBIE_RADIX>(ALL_OF_LPID, 0) };
	}
	if facts.contains(HostFacts::TLBIE_STQ_BUG) {
		ptesync();
		// SAFETY: the word is tlbie's or tlbiel's.
		unsafe { invalidate::<TLBIE>(last, lpid) };
	}
	end();
}
