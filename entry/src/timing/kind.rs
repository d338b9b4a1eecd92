// SPDX-License-Identifier: GPL-2.0-only
//! What the time after a guest's exit is counted as.

use hcall::Number;
use powerpc::SpanKind;

use crate::switch::trap;

/// By the trap number, and for an `sc 1` by the guest's r3.
pub fn of(trap: u32, number: Number) -> SpanKind {
	match trap {
		// In problem state it is no hcall, but takes the same way.
		trap::SYSCALL if number == Number::CEDE => SpanKind::FullCede,
		trap::SYSCALL => SpanKind::FullHcall,
		trap::H_DATA_STORAGE => SpanKind::FullDataStorage,
		trap::HV_DECREMENTER => SpanKind::FullDecrementer,
		trap::EXTERNAL | trap::H_DOORBELL | trap::H_VIRT => SpanKind::FullExternal,
		_ => SpanKind::FullOther,
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn every_trap_has_its_kind() {
		let kinds = [
			(0x100, SpanKind::FullOther),
			(0x200, SpanKind::FullOther),
			(0x500, SpanKind::FullExternal),
			(0x980, SpanKind::FullDecrementer),
			(0xc00, SpanKind::FullHcall),
			(0xe00, SpanKind::FullDataStorage),
			(0xe20, SpanKind::FullOther),
			(0xe60, SpanKind::FullOther),
			(0xe80, SpanKind::FullExternal),
			(0xea0, SpanKind::FullExternal),
			(0xf80, SpanKind::FullOther),
			(0x1500, SpanKind::FullOther),
		];
		for (trap, expected) in kinds {
			assert_eq!(of(trap, Number::PROD), expected, "{trap:#x}");
		}
		assert_eq!(of(0xc00, Number::CEDE), SpanKind::FullCede);
		assert_eq!(of(0xe00, Number::CEDE), SpanKind::FullDataStorage);
	}
}
