// SPDX-License-Identifier: GPL-2.0-only
//! The entry point: what the kernel calls to have a guest run.

use core::arch::asm;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, Ordering};

use hcall::FastTable;
use powerpc::{
	Counters, FAST_LIGHT_TABLE, FAST_TABLE, HostFacts, LIGHT_TABLE, LightCounter, Msr,
	NO_FAST_TABLE, P9Vcpu, TIMED_FAST_LIGHT_TABLE, TIMED_LIGHT_TABLE,
};

use crate::fast::{
	FAST, FAST_LIGHT, FAST_REAL_MODE, LIGHT, NO_FAST, REAL_MODE, TIMED_FAST, TIMED_FAST_LIGHT,
	TIMED_FAST_REAL_MODE, TIMED_LIGHT, TIMED_REAL_MODE,
};
use crate::hpt::full_path;
use crate::layout::kernel as layout;
use crate::light;
use crate::power9::{Hash, HashLight, L2, Power9, Power9Profile, Radix, RadixLight, pointer};
use crate::switch::{self, Context, GuestKind, Loaded};
use crate::views::{KvmView, NestedView, PacaView, TaskView, VcoreView, VcpuView};
use crate::{EntryPath, GuestFacts, choose};

/// The kernel's `struct kvm_vcpu`, known only by offsets.
#[repr(C)]
pub struct KvmVcpu {
	opaque: [u8; 0],
}

// SAFETY: functions and variables of the kernel with these types (asm/kvm_ppc.h, asm/time.h,
// asm/hw_breakpoint.h, book3s_hv.h), of the glue and of the assembly beside it. Variables that
// other CPUs write at any time are atomic; the others are written during boot only.
unsafe extern "C" {
	fn kvmhv_vcpu_entry_p9(vcpu: *mut KvmVcpu, limit: u64, lpcr: u64, tb: *mut u64) -> c_int;
	safe static kvm_p9_host_facts: u64;
	safe static kvm_p9_fast_table: AtomicU8;
}

pub(crate) fn paca() -> PacaView {
	let paca: *mut u8;
	// SAFETY: r13 is the PACA of this CPU in all kernel code; reading it has no effect.
	// Preemption is off, so it stays this CPU's.
	unsafe {
		asm!("mr {}, 13", out(reg) paca, options(nomem, nostack, preserves_flags));
		PacaView::new(NonNull::new_unchecked(paca))
	}
}

pub(crate) fn facts(context: &Context) -> GuestFacts {
	GuestFacts {
		nested: context.nested.is_some(),
		radix: context.kvm.radix() != 0,
		secure: context.kvm.secure_guest() != 0,
	}
}

/// Our own part of the vcpu.
pub(crate) fn p9(vcpu: &VcpuView) -> &P9Vcpu {
	// SAFETY: the offset is the kernel's own, the layout is asserted, and the vcpu stays
	// as long as its view. `P9Vcpu` allows all accesses of handlers and other CPUs.
	unsafe { vcpu.address().add(layout::VCPU_P9).cast().as_ref() }
}

/// The vcpu that `p9` is part of.
///
/// # Safety
///
/// `p9` must be part of a vcpu, which is in a handler, so that no other code uses its fields.
#[inline(always)]
pub(crate) unsafe fn vcpu_of(p9: NonNull<P9Vcpu>) -> VcpuView {
	// SAFETY: the kernel has the part at this offset in each vcpu.
	unsafe { VcpuView::new(p9.cast().sub(layout::VCPU_P9)) }
}

/// The handlers of a guest, and whether it makes light exits.
type Choice = (&'static FastTable, bool);

/// The choice for a hash guest. Its handlers run with the MMU off and reach the linear map only: there are none, if
/// what each handler uses is elsewhere. If only the counters are elsewhere, the handlers that need
/// no counters. The rest comes from the slab allocator (tables, memory slots), which has no other
/// memory than the linear map's.
#[inline(never)]
fn real_mode_table(context: &Context, counters: &Counters, wanted: u8) -> Choice {
	let vcpu = &context.vcpu;
	let structures = [vcpu.kvm(), vcpu.vcore(), pointer(*vcpu) as u64];
	if !structures.into_iter().all(linear_map_has) {
		return (&NO_FAST, false);
	}
	if wanted < LIGHT_TABLE {
		return match wanted {
			FAST_TABLE => (&FAST, false),
			_ => (&TIMED_FAST, false),
		};
	}
	let counters = &raw const *counters;
	// Memory of other nodes' CPUs may be in vmalloc space: these counters, and what the glue reads of
	// the kernel's per-CPU variables before a light exit.
	if !linear_map_has(counters as u64) {
		return match wanted {
			FAST_LIGHT_TABLE => (&FAST, false),
			TIMED_FAST_LIGHT_TABLE => (&TIMED_FAST, false),
			_ => (&NO_FAST, false),
		};
	}
	let own = &p9(vcpu).light;
	own.table.set(wanted.into());
	own.counters.set(counters);
	let table = match wanted {
		FAST_LIGHT_TABLE => &FAST_REAL_MODE,
		LIGHT_TABLE => &REAL_MODE,
		TIMED_FAST_LIGHT_TABLE => &TIMED_FAST_REAL_MODE,
		_ => &TIMED_REAL_MODE,
	};
	(table, true)
}

/// Whether the linear map has this address. A radix host has everything else above.
fn linear_map_has(address: u64) -> bool {
	address.wrapping_sub(layout::LINEAR_MAP as u64) < layout::LINEAR_MAP_SIZE as u64
}

/// Chooses which hcalls have a fast handler until the guest next leaves.
pub(crate) fn set_fast_table(vcpu: &VcpuView, table: &'static FastTable) {
	let table = &raw const *table;
	p9(vcpu).fast_table.set(table.cast::<c_void>());
}

/// Declares the user's FP, VMX and VSX registers saved and no longer live.
///
/// KVM_RUN saved the registers when it began. But if the task was scheduled out since then,
/// the scheduler has loaded the registers again and marked them live in the user's MSR. The
/// guest's values are about to overwrite the registers. With the mark, userspace would
/// continue with the guest's values. The saved copy is still good: the kernel does not change
/// these registers for the user, so the registers hold what was loaded. Without the mark, the
/// return to userspace loads the saved copy.
pub(crate) fn user_vectors_are_saved(task: TaskView) {
	const LIVE: Msr = Msr::FP
		.union(Msr::FE0)
		.union(Msr::FE1)
		.union(Msr::VEC)
		.union(Msr::VSX);
	if let Some(regs) = NonNull::new(task.user_regs() as *mut u8) {
		// SAFETY: the saved registers of the current task. No other CPU or task uses them
		// while the task runs. KVM_RUN marks them as changed (`srr_regs_clobbered()`).
		unsafe {
			let msr = regs.add(layout::PT_REGS_MSR).cast::<u64>();
			msr.write(msr.read() & !LIVE.bits());
		}
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
pub unsafe extern "C" fn kvm_p9_rs_vcpu_entry(
	vcpu: *mut KvmVcpu,
	limit: u64,
	lpcr: u64,
	tb: &mut u64,
	counters: &Counters,
) -> c_int {
	let paca = paca();
	// SAFETY: the caller passes a vcpu that it has loaded. Its VM and vcore live as
	// long, and a POWER9's vcore is one vcpu's; the current task is ourselves. None of
	// the pointers is ever null.
	let context = unsafe {
		let view = VcpuView::new(NonNull::new_unchecked(vcpu.cast()));
		let at = |address: u64| NonNull::new_unchecked(address as *mut u8);
		Context {
			vcpu: view,
			vcore: VcoreView::new(at(view.vcore())),
			kvm: KvmView::new(at(view.kvm())),
			paca,
			task: TaskView::new(at(paca.current())),
			// An L2 that a vcpu is stays for as long as the vcpu is it.
			nested: NonNull::new(view.nested() as *mut u8).map(|l2| NestedView::new(l2)),
		}
	};
	let host = HostFacts::from_bits_retain(kvm_p9_host_facts);
	let guest = facts(&context);
	let path = choose(host, guest);
	let kind = guest.kind();
	path.counter(counters).add(1);

	if path != EntryPath::Rust {
		// SAFETY: our caller's conditions are this function's.
		return unsafe { kvmhv_vcpu_entry_p9(vcpu, limit, lpcr, tb) };
	}

	// Relaxed: no other data depends on the setting. The writer interrupts all CPUs
	// afterwards, so that an entry that read the old value ends soon.
	let wanted = kvm_p9_fast_table.load(Ordering::Relaxed);
	let (table, light) = match (kind, wanted) {
		(_, NO_FAST_TABLE) => (&NO_FAST, false),
		(GuestKind::Radix, FAST_LIGHT_TABLE) => (&FAST_LIGHT, true),
		(GuestKind::Radix, LIGHT_TABLE) => (&LIGHT, true),
		(GuestKind::Radix, TIMED_FAST_LIGHT_TABLE) => (&TIMED_FAST_LIGHT, true),
		(GuestKind::Radix, TIMED_LIGHT_TABLE) => (&TIMED_LIGHT, true),
		(GuestKind::Radix, FAST_TABLE) => (&FAST, false),
		(GuestKind::Radix, _) => (&TIMED_FAST, false),
		(GuestKind::Hash, _) => real_mode_table(&context, counters, wanted),
		// An L2's hcalls are its L1's business.
		(GuestKind::L2, _) => (&NO_FAST, false),
	};
	// Why the exit is full: each entry with light exits on has one reason.
	counters
		.reason
		.set(match wanted >= LIGHT_TABLE && kind != GuestKind::L2 {
			true => LightCounter::NotEntered as u64,
			false => LightCounter::SILENT,
		});

	user_vectors_are_saved(context.task);
	let mut power9 = Power9 {
		host_pmu: MaybeUninit::uninit(),
		paca,
		counters,
		table,
	};
	// SAFETY: a radix host and no secure guest, says `choose`; the rest is our caller's
	// word.
	let trap = unsafe {
		let k = &mut power9;
		macro_rules! run {
			($guest:ident) => {
				switch::run::<Power9Profile<$guest>, _>(k, context, limit, lpcr, tb)
			};
		}
		match kind {
			GuestKind::Radix if light => {
				let own = &p9(&context.vcpu).light;
				own.table.set(wanted.into());
				own.counters.set(counters);
				run!(RadixLight)
			}
			GuestKind::Radix => run!(Radix),
			GuestKind::L2 => run!(L2),
			GuestKind::Hash if light => {
				let trap = run!(HashLight);
				full_path::answer(context.vcpu, &*k.counters, trap)
			}
			GuestKind::Hash => {
				let trap = run!(Hash);
				full_path::answer(context.vcpu, &*k.counters, trap)
			}
		}
	};

	// SAFETY: this CPU's counters, which the caller vouched for. Read again, so that no register is
	// kept for them through the switch.
	let counters = unsafe { &*power9.counters };
	if counters.reason.get() != LightCounter::SILENT {
		count_full_exit(&context.vcpu, counters, trap);
	}
	trap as c_int
}

/// Takes away what of a guest's context a light exit has left loaded, and puts the host's in place.
/// The kernel calls this when it schedules out the thread of a vcpu whose page fault a light exit
/// handles, so the guest is a radix guest.
///
/// # Safety
///
/// As for [`Loaded::flush`]. The light exit must not have returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_p9_rs_flush(vcpu: *mut KvmVcpu) {
	// SAFETY: the caller's vcpu, which is not null.
	let vcpu = unsafe { VcpuView::new(NonNull::new_unchecked(vcpu.cast())) };
	let loaded: *const Loaded<'_> = p9(&vcpu).light.loaded.replace(ptr::null()).cast();
	// SAFETY: not null until it is taken, here; the light exit's frame has it, and waits.
	let Some(loaded) = (unsafe { loaded.as_ref() }) else {
		return;
	};
	// SAFETY: the caller's word, and this is the first call for it.
	unsafe { loaded.flush::<Power9Profile<RadixLight>, _>(&mut Power9::for_handler(paca())) };
}

/// Counts why an exit was a full one: by the reason that a light handler gave, or else by the trap.
/// Marked cold so that the switch, in whose function it would be, keeps no register for it.
#[cold]
#[inline(never)]
fn count_full_exit(vcpu: &VcpuView, counters: &Counters, trap: u32) {
	let reason = counters.reason.get() as usize;
	let which = match counters.light.get(reason) {
		Some(_) => reason,
		None => light::reason_of_trap(trap, vcpu.fault_dsisr()) as usize,
	};
	if let Some(counter) = counters.light.get(which) {
		counter.add(1);
	}
}
