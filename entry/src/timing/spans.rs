// SPDX-License-Identifier: GPL-2.0-only
//! Where spans of time begin and end: the trampoline calls these functions around each run of the guest.

use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use hcall::Number;
use powerpc::{P9Vcpu, Spr, Stats, TimingFlags};

use super::{kind, pmu};
use crate::entry_point::{p9, paca};
use crate::power9::Power9;
use crate::switch::trap;
use crate::views::{VcoreView, VcpuView};

// SAFETY: functions and variables of the kernel with these types (asm/kvm_ppc.h, asm/time.h,
// asm/hw_breakpoint.h, book3s_hv.h), of the glue and of the assembly beside it. Variables that
// other CPUs write at any time are atomic; the others are written during boot only.
unsafe extern "C" {
	safe static kvm_p9_timing: AtomicU64;
}

/// What is to be told of this vcpu.
#[inline]
pub(crate) fn stats(p9: &P9Vcpu) -> Option<&Stats> {
	// SAFETY: what it points to stays as long as the vcpu, also after the pointer was
	// reset. Acquire: it is initialised. What others may do with it, its type allows.
	unsafe { p9.stats.load(Ordering::Acquire).as_ref() }
}

/// The timebase as it is.
pub(crate) fn timebase() -> u64 {
	let tb;
	// SAFETY: no effect.
	unsafe { asm!("mftb {}", out(reg) tb, options(nostack, preserves_flags)) };
	tb
}

/// PMC6 as it is: cycles, if it is ours.
pub(crate) fn cycle_counter() -> u32 {
	let pmc: u64;
	// SAFETY: no effect.
	unsafe {
		asm!("mfspr {}, {}", out(reg) pmc, const Spr::PMC6.0, options(nostack, preserves_flags));
	}
	pmc as u32
}

/// Record the time before the guest runs. While times are on, the trampoline calls this
/// function and [`kvm_p9_time_exit`] around each run of the guest.
///
/// # Safety
///
/// The vcpu must be the one whose state is loaded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_p9_time_entry(vcpu: NonNull<u8>) {
	let mut power9 = Power9::for_handler(paca());
	// SAFETY: the vcpu is the one whose state is loaded. Its vcore is its own, and never null.
	let (vcpu, vcore) = unsafe {
		let vcpu = VcpuView::new(vcpu);
		let vcore = VcoreView::new(NonNull::new_unchecked(vcpu.vcore() as *mut u8));
		(vcpu, vcore)
	};
	if let Some(stats) = stats(p9(&vcpu)) {
		let wanted = TimingFlags(kvm_p9_timing.load(Ordering::Relaxed));
		stats.begin(wanted);
		let free = wanted.has(TimingFlags::STATS) && pmu::nobody_has_the_pmu(vcpu, power9.paca);
		let counter = pmu::enter(&mut power9, stats, vcore.pcpu(), free);
		let (now, cycles) = (timebase(), counter.read(&mut power9));
		stats.enter(now, vcore.tb_offset_applied(), cycles);
	}
}

/// The guest has come out. The MMU is as it was in the guest, on or off.
///
/// # Safety
///
/// The vcpu must be the one whose state is loaded, with its r3 saved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_p9_time_exit(vcpu: NonNull<u8>) {
	// SAFETY: the vcpu is the one whose state is loaded, so it is not freed.
	let vcpu = unsafe { VcpuView::new(vcpu) };
	let p9 = p9(&vcpu);
	if let Some(stats) = stats(p9) {
		let now = (timebase(), u64::from(cycle_counter()));
		// Interrupts with HSRRs are told by bit 1.
		let trap = vcpu.trap() & !2;
		let kind = kind::of(trap, Number(vcpu.gpr3()));
		let (tb, cycles) = match trap {
			trap::SYSCALL => (p9.hcall_tb.get(), p9.hcall_cycles.get()),
			_ => now,
		};
		stats.leave(kind, tb, cycles as u32);
	}
}
