// SPDX-License-Identifier: GPL-2.0-only
//! Tells a plugin of QEMU what is measured.

use core::arch::asm;

use cases::Case;
use protocol::{Column, GuestMode, marker};

/// The instructions from here on are this cell.
pub fn arm(case: &Case, mode: GuestMode, column: Column) {
	// SAFETY: the word is `xori 16,16,0`, which does nothing.
	unsafe {
		asm!(
			".long {}", const marker::ARM,
			in("r3") cases::tag(case, mode, column),
			options(nomem, nostack, preserves_flags)
		);
	}
}

/// The cell is over.
pub fn disarm() {
	// SAFETY: the word is `xori 17,17,0`, which does nothing.
	unsafe {
		asm!(
			".long {}", const marker::DISARM,
			options(nomem, nostack, preserves_flags)
		);
	}
}
