// SPDX-License-Identifier: GPL-2.0-only
//! Hcall numbers by which the guest talks to the VMM.
//!
//! They lie above everything that PAPR or KVM assigns, so every kernel hands them
//! to userspace unread.

use hcall::Number;

/// The command is done and the outcome is written.
pub const DONE: Number = Number(0xf1e0);
/// An exception that the payload did not expect: vector, SRR0, SRR1, DAR, DSISR.
pub const EXCEPTION: Number = Number(0xf1e4);
/// The payload panicked.
pub const PANIC: Number = Number(0xf1e8);
/// The VMM answers this one with H_FUNCTION, as it does every unknown number.
pub const UNKNOWN: Number = Number(0xf1ec);
/// A batch is about to be timed: sent only if the command asks for it.
pub const BATCH: Number = Number(0xf1f8);
/// Take the translations of [`TOUCH`](crate::map::TOUCH) away.
pub const UNTOUCH: Number = Number(0xf1f0);

/// In a list of calls: no hcall, but an slbmte of r4 and r5 (`slbmte r4, r5`).
pub const SET_SEGMENT: Number = Number(0xf1fc);
/// In a list of calls: no hcall, but a load of 8 bytes at r4, translated.
pub const LOAD: Number = Number(0xf200);
/// In a list of calls: no hcall, but a store of r5 at r4, translated.
pub const STORE: Number = Number(0xf204);

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn private_numbers_are_outside_the_enabled_bitmap() {
		let all = [
			DONE,
			EXCEPTION,
			PANIC,
			UNKNOWN,
			BATCH,
			UNTOUCH,
			SET_SEGMENT,
			LOAD,
			STORE,
		];
		for number in all {
			assert_eq!(number.index(Number(0x500)), None);
		}
	}
}
