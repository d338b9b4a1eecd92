// SPDX-License-Identifier: GPL-2.0-only
//! The entry point, and what it uses of the kernel.

use core::arch::asm;
use core::ffi::{c_int, c_void};
use core::panic::PanicInfo;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use hcall::FastTable;
use powerpc::{Counters, HostFacts, Msr, P9Vcpu};

use crate::layout::kernel as layout;
use crate::{GuestFacts, Path, choose};

static FAST: FastTable = FastTable::all();
static NO_FAST: FastTable = FastTable::empty();

/// The kernel's `struct kvm_vcpu`, known only by offsets.
#[repr(C)]
pub struct KvmVcpu {
	opaque: [u8; 0],
}

// SAFETY: both are functions of the kernel with this signature (`asm/kvm_ppc.h`
// and kvm_p9_c_path.c), and both statics are defined in kvm_p9.c with these
// types; the first is never written after boot.
unsafe extern "C" {
	fn kvmhv_vcpu_entry_p9(vcpu: *mut KvmVcpu, limit: u64, lpcr: u64, tb: *mut u64) -> c_int;
	fn kvm_p9_c_vcpu_entry(vcpu: *mut KvmVcpu, limit: u64, lpcr: u64, tb: *mut u64) -> c_int;
	safe static kvm_p9_host_facts: u64;
	safe static kvm_p9_fast_enabled: AtomicU8;
}

/// A vcpu that is about to be, or has just been, run by the current thread.
struct Vcpu(NonNull<u8>);

impl Vcpu {
	/// # Safety
	///
	/// `vcpu` must be the kernel's `struct kvm_vcpu`, loaded on this CPU by the
	/// current thread, for as long as the value lives.
	unsafe fn new(vcpu: *mut KvmVcpu) -> Self {
		// SAFETY: the caller passes a vcpu, which is never at address 0.
		Self(unsafe { NonNull::new_unchecked(vcpu.cast()) })
	}

	fn facts(&self) -> GuestFacts {
		// SAFETY: the offsets are the kernel's own for these fields, the widths
		// are asserted in `layout`. `kvm` is set for the vcpu's whole life.
		// `nested` is the current thread's; `radix` and `secure_guest` are
		// written by others only while no vcpu runs (radix) or before the guest
		// can observe it (secure_guest), and the C path reads them just so. A
		// volatile read makes no assumption that they stay.
		unsafe {
			let kvm: *const u8 = self.0.add(layout::VCPU_KVM).cast().read();
			let nested: *const c_void = self.0.add(layout::VCPU_NESTED).cast().read();
			GuestFacts {
				nested: !nested.is_null(),
				radix: kvm.add(layout::KVM_RADIX).read_volatile() != 0,
				secure: kvm.add(layout::KVM_SECURE_GUEST).read_volatile() != 0,
			}
		}
	}

	fn p9(&mut self) -> &mut P9Vcpu {
		// SAFETY: the offset is the kernel's own, the layout is asserted, and only
		// the vcpu's thread, which we are, ever uses this part. Handlers use it
		// too, but only while the guest runs and no reference of ours is alive.
		unsafe { self.0.add(layout::VCPU_P9).cast().as_mut() }
	}
}

/// The MSR that the current task's userspace will continue with, if it has one.
fn user_msr() -> Option<NonNull<u64>> {
	let paca: *const u8;
	// SAFETY: r13 is the PACA of this CPU in all kernel code; reading it has no effect.
	// Preemption is off, so it stays this CPU's.
	unsafe { asm!("mr {}, 13", out(reg) paca, options(nomem, nostack, preserves_flags)) };
	// SAFETY: the offsets are the kernel's own. The PACA always names the current
	// task, and a task's `thread.regs` is null or its saved user registers.
	unsafe {
		let task: *const u8 = paca.add(layout::PACA_CURRENT).cast::<*const u8>().read();
		let regs: *mut u8 = task.add(layout::TASK_USER_REGS).cast::<*mut u8>().read();
		NonNull::new(regs).map(|regs| regs.add(layout::PT_REGS_MSR).cast())
	}
}

/// Declares the user's FP, VMX and VSX registers saved and no longer live.
///
/// KVM_RUN saved them when it began. But if the task was scheduled out since then, the
/// scheduler has loaded them again and marked them live in the user's MSR; the guest's
/// are about to overwrite them, and with the mark left standing userspace would
/// continue with what the guest left behind. The saved copy is still good: the kernel
/// does not change these registers on the user's behalf, so what is in them is what
/// was loaded. Without the mark, the way back to userspace loads that copy.
fn user_vectors_are_saved() {
	const LIVE: Msr = Msr::FP
		.union(Msr::FE0)
		.union(Msr::FE1)
		.union(Msr::VEC)
		.union(Msr::VSX);
	if let Some(msr) = user_msr() {
		// SAFETY: the current task's own saved registers, which nobody else uses while
		// it runs. KVM_RUN says itself that they changed (`srr_regs_clobbered()`).
		unsafe { msr.write(msr.read() & !LIVE.bits()) };
	}
}

/// Runs the guest once: the kernel calls this instead of
/// `kvmhv_vcpu_entry_p9()`, under the same conditions and for the same result,
/// the trap number that the guest came out with.
///
/// # Safety
///
/// `vcpu` must be loaded on this CPU by the current thread, preemption off,
/// interrupts soft-disabled; `tb` must be valid; `counters` must be this CPU's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_p9_vcpu_entry(
	vcpu: *mut KvmVcpu,
	limit: u64,
	lpcr: u64,
	tb: *mut u64,
	counters: &Counters,
) -> c_int {
	// SAFETY: the caller vouches for the vcpu.
	let mut view = unsafe { Vcpu::new(vcpu) };
	let path = choose(HostFacts::from_bits_retain(kvm_p9_host_facts), view.facts());
	path.counter(counters).add(1);

	if path != Path::Rust {
		// SAFETY: our caller's conditions are this function's.
		return unsafe { kvmhv_vcpu_entry_p9(vcpu, limit, lpcr, tb) };
	}

	// Relaxed: the setting stands alone. Whoever changed it interrupts all CPUs
	// afterwards, so that an entry which read the old value ends soon.
	let fast = kvm_p9_fast_enabled.load(Ordering::Relaxed) != 0;
	let table = if fast { &FAST } else { &NO_FAST };
	view.p9().fast_table = (&raw const *table).cast();

	user_vectors_are_saved();
	// SAFETY: as above; and the table that the trampoline will use is set.
	let trap = unsafe { kvm_p9_c_vcpu_entry(vcpu, limit, lpcr, tb) };

	let served = core::mem::take(&mut view.p9().fast_null);
	counters.fast_null.add(served);
	trap
}

/// Nothing here may panic. The function that this calls exists nowhere: a
/// panic that the compiler could not rule out fails the link and the gates.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
	// SAFETY: never linked, so never called.
	unsafe extern "C" {
		safe fn kvm_p9_panic_was_not_ruled_out() -> !;
	}
	kvm_p9_panic_was_not_ruled_out()
}
