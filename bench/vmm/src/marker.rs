// SPDX-License-Identifier: GPL-2.0-only
//! Tells whoever watches the instructions what is being measured.

use core::arch::asm;

use protocol::{Case, Guest, Path, marker};

/// What follows is this cell.
pub fn arm(case: Case, guest: Guest, path: Path) {
	// SAFETY: the word is `xori 16,16,0`, which does nothing.
	unsafe {
		asm!(
			".long {}", const marker::ARM,
			in("r3") marker::tag(case, guest, path),
			options(nomem, nostack, preserves_flags)
		);
	}
}

/// It is over.
pub fn disarm() {
	// SAFETY: the word is `xori 17,17,0`, which does nothing.
	unsafe {
		asm!(
			".long {}", const marker::DISARM,
			options(nomem, nostack, preserves_flags)
		);
	}
}
