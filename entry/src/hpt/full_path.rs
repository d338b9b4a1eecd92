// SPDX-License-Identifier: GPL-2.0-only
//! Page table hcalls on the full path.
//!
//! After a full exit the same functions answer as in a fast handler, before the run loop gets the
//! hcall. What they leave, C answers.
//!
//! The place keeps the promises of a fast handler: interrupts are hard-disabled since the exit, so a
//! resize of the HPT waits for this CPU, and the run loop still holds `kvm->srcu`. Only LPIDR and the
//! rest of the context are the host's.

use core::ptr::NonNull;

use hcall::{Code, Number};
use powerpc::{Counter, Counters, FastHcall, LightCounter, Msr};

use crate::entry_point::p9;
use crate::fast;
use crate::layout::kernel as layout;
use crate::light;
use crate::switch::trap;
use crate::views::VcpuView;

/// Answers the hcall that ended the run of a hash guest, if it is a page table hcall. Returns the trap,
/// or that there is none, as after other hcalls that are answered before the run loop gets them, such
/// as H_CEDE. If the hcall is not answered, nothing has changed.
///
/// # Safety
///
/// The switch must have just returned with this trap, on this CPU.
#[inline(never)]
pub(crate) unsafe fn answer(vcpu: VcpuView, counters: &Counters, trap: u32) -> u32 {
	if trap != trap::SYSCALL || Msr::from_bits_retain(vcpu.msr()).contains(Msr::PR) {
		return trap;
	}
	// SAFETY: the vcpu has just left the guest, on this CPU, and nothing else uses it.
	let code = unsafe { fast::page_table(NonNull::from(p9(&vcpu)), Number(vcpu.gpr3())) };
	let Some((hcall, code)) = code.filter(|(_, code)| *code != Code::TOO_HARD) else {
		return trap;
	};
	vcpu.set_gpr3(code.0 as u64);
	full(&vcpu, hcall).add(1);
	counters.full_page_table.add(1);
	if counters.reason.get() == LightCounter::NONE {
		// The exit was full. Without its trap the entry point can't tell why.
		counters.reason.set(light::reason_of_trap(trap, 0) as u64);
	}
	trap::NONE
}

/// The hcalls that the kernel has answered for the vcpu on the full path.
fn full(vcpu: &VcpuView, hcall: FastHcall) -> &Counter {
	// SAFETY: an array of a counter for each hcall, which only this thread writes. It stays as long
	// as the vcpu.
	unsafe {
		let array = vcpu.address().add(layout::VCPU_P9_FULL).cast::<Counter>();
		array.add(hcall as usize).as_ref()
	}
}
