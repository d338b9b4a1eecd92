// SPDX-License-Identifier: GPL-2.0-only
//! The entry point, and what it uses of the kernel.

use core::ffi::{c_int, c_void};
use core::panic::PanicInfo;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use hcall::FastTable;
use powerpc::{Counters, HostFacts, P9Vcpu};

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
