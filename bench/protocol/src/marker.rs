// SPDX-License-Identifier: GPL-2.0-only
//! Instructions by which a program under observation talks to the observer.
//!
//! A QEMU plugin sees every instruction word that is executed, but not what it is for. So the
//! payload and the VMM execute a word that does nothing and that no compiler emits:
//! `xori rN,rN,0`. Where the timing loops have one it lies outside of what the
//! timebase measures, so the figures are the same with and without it, on iron too.
//!
//! The words must not be elsewhere in what is executed: the runner checks that on
//! the kernel's image.

/// `xori register,register,0`
const fn word(register: u32) -> u32 {
	26 << 26 | register << 21 | register << 16
}

/// The VMM: what follows is to be recorded. r3 has the number of the cell (`cases::tag`).
pub const ARM: u32 = word(16);
/// The VMM: no more of it.
pub const DISARM: u32 = word(17);
/// The payload: a batch begins. The timebase is read next. Batches of empty iterations and
/// batches of round trips take turns, from when the VMM has said [`ARM`].
pub const BEGIN: u32 = word(18);
/// The payload: the batch is over. The timebase was read just before.
pub const END: u32 = word(19);

/// All of them.
pub const ALL: [u32; 4] = [ARM, DISARM, BEGIN, END];

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn words_are_what_the_assembler_makes() {
		// As GNU as encodes xori 16,16,0 and xori 19,19,0.
		assert_eq!((ARM, END), (0x6a10_0000, 0x6a73_0000));
		for (index, word) in ALL.iter().enumerate() {
			assert!(!ALL[..index].contains(word));
		}
	}
}
