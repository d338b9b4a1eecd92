// SPDX-License-Identifier: GPL-2.0-only
//! The timebase of a guest with an offset.

use powerpc::{Cpu, Spr};

use crate::context::Context;

/// The timebase's bits that TBU40 does not write.
pub(super) const TB_LOW: u64 = (1 << 24) - 1;

/// Moves the timebase to the guest's, and `tb` with it. `started` is the host's timebase when the
/// entry began.
///
/// # Safety
///
/// The guest must run next, but for code that does not take the time.
#[inline(always)]
pub(super) unsafe fn enter<C: Cpu>(k: &mut C, context: &Context, started: u64, tb: &mut u64) {
	let vcore = context.vcore;
	if vcore.tb_offset() == 0 {
		return;
	}
	// Nothing on this path takes the time but by `tb`. TBU40 can't move the low
	// bits; an L1 may have asked for it.
	let offset = vcore.tb_offset() & !TB_LOW;
	*tb = started.wrapping_add(offset);
	// `started` is too old for this: see "Time" in docs/entry-exit.md.
	let now = k.mftb().wrapping_add(offset);
	// SAFETY: the guest runs next, and `now` was read just above.
	unsafe { set(k, now) };
	vcore.set_tb_offset_applied(offset);
}

/// Moves the timebase back to the host's.
///
/// # Safety
///
/// The host must run next.
#[inline(always)]
pub(super) unsafe fn leave<C: Cpu>(k: &mut C, context: &Context, applied: u64) {
	if applied == 0 {
		return;
	}
	let now = k.mftb().wrapping_sub(applied);
	// SAFETY: the host runs next, and `now` was read just above.
	unsafe { set(k, now) };
	context.vcore.set_tb_offset_applied(0);
}

/// Moves the timebase to `tb`, what it should have been at some moment less than 2^24
/// ticks before, by writing its upper bits. The low ones go on counting, and if they
/// wrapped since that moment, the carry is lost with the write: put it in.
///
/// That is told by the low ones having become less, so `tb` must be a time of this
/// timebase but for the upper bits.
///
/// # Safety
///
/// What runs next must want `tb`.
pub(crate) unsafe fn set<C: Cpu>(cpu: &mut C, tb: u64) {
	// SAFETY: what runs next wants `tb`, which this function requires.
	unsafe { cpu.mtspr::<{ Spr::TBU40.0 }>(tb) };
	if cpu.mftb() & TB_LOW < tb & TB_LOW {
		// SAFETY: what runs next wants `tb`; this is the carry that the first write lost.
		unsafe { cpu.mtspr::<{ Spr::TBU40.0 }>(tb.wrapping_add(TB_LOW + 1)) };
	}
}
