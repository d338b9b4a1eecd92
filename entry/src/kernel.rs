// SPDX-License-Identifier: GPL-2.0-only
//! The entry point, and the processor and kernel as they are.

use core::arch::asm;
use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use hcall::{FastTable, Number};
use powerpc::{
	Counters, Cpu, FAST_TABLE, HostFacts, Msr, NO_FAST_TABLE, P9Vcpu, SpanKind, Spr, Stats,
	TimingFlags,
};

use crate::layout::kernel as layout;
use crate::switch::{self, Context, Kernel, Kind, Profile, trap};
use crate::views::{ExceptionView, KvmView, NestedView, PacaView, TaskView, VcoreView, VcpuView};
use crate::{GuestFacts, Path, choose, cycles, handlers, stats};

static FAST: FastTable = FastTable::null()
	.with(Number::GET_TCE, handlers::h_get_tce)
	.with(Number::PUT_TCE, handlers::h_put_tce)
	.with(Number::PUT_TCE_INDIRECT, handlers::h_put_tce_indirect)
	.with(Number::STUFF_TCE, handlers::h_stuff_tce);
static NO_FAST: FastTable = FastTable::empty();

/// The same handlers, timed.
static TIMED_FAST: FastTable = FastTable::empty()
	.with(Number::NULL, timed::null)
	.with(Number::GET_TCE, timed::h_get_tce)
	.with(Number::PUT_TCE, timed::h_put_tce)
	.with(Number::PUT_TCE_INDIRECT, timed::h_put_tce_indirect)
	.with(Number::STUFF_TCE, timed::h_stuff_tce);

/// The kernel's `struct kvm_vcpu`, known only by offsets.
#[repr(C)]
pub struct KvmVcpu {
	opaque: [u8; 0],
}

/// Room for `struct p9_host_os_sprs`, in which the kernel's PMU code keeps the
/// host's PMU.
type HostPmu = [u64; layout::SIZEOF_HOST_OS_SPRS / 8];

// SAFETY: functions and variables of the kernel with these types (asm/kvm_ppc.h,
// asm/time.h, asm/hw_breakpoint.h, book3s_hv.h), of kvm_p9.c and of the assembly
// beside it. The variables are written by others at any time (hence atomic) or only
// during boot.
unsafe extern "C" {
	fn kvmhv_vcpu_entry_p9(vcpu: *mut KvmVcpu, limit: u64, lpcr: u64, tb: *mut u64) -> c_int;
	fn kvm_p9_run_guest_site(vcpu: *mut u8);
	fn kvm_p9_load_vectors(fp: *const u8, vr: *const u8);
	fn kvm_p9_store_vectors(fp: *mut u8, vr: *mut u8);
	fn kvm_p9_flush_guest_tlb(kvm: *mut u8, wanted: *mut u8, pcpu: c_int);
	fn kvm_p9_clear_slb();
	fn switch_pmu_to_guest(vcpu: *mut u8, host: *mut HostPmu);
	fn switch_pmu_to_host(vcpu: *mut u8, host: *mut HostPmu);
	fn kvmppc_realmode_machine_check(vcpu: *mut u8);
	fn kvmppc_p9_realmode_hmi_handler(vcpu: *mut u8) -> i64;
	fn timer_rearm_host_dec(now: u64);
	safe static kvm_p9_host_facts: u64;
	safe static kvm_p9_fast_table: AtomicU8;
	safe static kvm_p9_timing: AtomicU64;
	safe static decrementer_max: u64;
	safe static dawr_force_enable: AtomicU8;
}

#[cfg(have_tm)]
// SAFETY: as above.
unsafe extern "C" {
	fn kvmppc_restore_tm_hv(vcpu: *mut u8, msr: u64, preserve_nv: bool);
	fn kvmppc_save_tm_hv(vcpu: *mut u8, msr: u64, preserve_nv: bool);
	fn kvmhv_p9_tm_emulation_early(vcpu: *mut u8) -> c_int;
}

#[cfg(have_timing)]
// SAFETY: as above.
unsafe extern "C" {
	fn accumulate_time(vcpu: *mut u8, next: *mut u8);
}

/// The CPU that runs this code, and the kernel around it.
struct Power9 {
	host_pmu: MaybeUninit<HostPmu>,
	paca: PacaView,
}

impl Cpu for Power9 {
	#[inline(always)]
	fn mfspr<const N: u16>(&mut self) -> u64 {
		let value;
		// SAFETY: reading an SPR that the switch path uses has no effect. Not `nomem`:
		// it must stay where it is among writes and barriers.
		unsafe { asm!("mfspr {}, {}", out(reg) value, const N, options(nostack, preserves_flags)) };
		value
	}

	#[inline(always)]
	unsafe fn mtspr<const N: u16>(&mut self, value: u64) {
		// SAFETY: the caller vouches for the value.
		unsafe { asm!("mtspr {}, {}", const N, in(reg) value, options(nostack, preserves_flags)) };
	}

	#[inline(always)]
	fn mftb(&mut self) -> u64 {
		let value;
		// SAFETY: no effect.
		unsafe { asm!("mftb {}", out(reg) value, options(nostack, preserves_flags)) };
		value
	}

	#[inline(always)]
	fn mfmsr(&mut self) -> u64 {
		let value;
		// SAFETY: no effect.
		unsafe { asm!("mfmsr {}", out(reg) value, options(nostack, preserves_flags)) };
		value
	}

	#[inline(always)]
	unsafe fn mtmsrd(&mut self, msr: u64) {
		// SAFETY: the caller vouches for the value.
		unsafe { asm!("mtmsrd {}, 0", in(reg) msr, options(nostack, preserves_flags)) };
	}

	#[inline(always)]
	unsafe fn mtmsrd_ee_ri(&mut self, msr: u64) {
		// SAFETY: the caller vouches for the value.
		unsafe { asm!("mtmsrd {}, 1", in(reg) msr, options(nostack, preserves_flags)) };
	}

	#[inline(always)]
	fn hwsync(&mut self) {
		// SAFETY: a barrier.
		unsafe { asm!("sync", options(nostack, preserves_flags)) };
	}

	#[inline(always)]
	fn isync(&mut self) {
		// SAFETY: a barrier.
		unsafe { asm!("isync", options(nostack, preserves_flags)) };
	}

	#[inline(always)]
	unsafe fn slb_clear<const INDEX: u64>(&mut self) {
		// SAFETY: an invalid entry (V=0); the caller says that none is needed.
		unsafe {
			asm!("slbmte {}, {}", in(reg) 0_u64, in(reg) INDEX, options(nostack, preserves_flags));
		}
	}

	#[inline(always)]
	unsafe fn slb_write(&mut self, esid: u64, vsid: u64) {
		// SAFETY: the caller says that the host needs none.
		unsafe {
			asm!("slbmte {}, {}", in(reg) vsid, in(reg) esid, options(nostack, preserves_flags));
		}
	}

	#[inline(always)]
	fn slb_esid(&mut self, index: u64) -> u64 {
		let esid;
		// SAFETY: no effect.
		unsafe {
			asm!("slbmfee {}, {}", out(reg) esid, in(reg) index, options(nostack, preserves_flags));
		}
		esid
	}

	#[inline(always)]
	fn slb_vsid(&mut self, index: u64) -> u64 {
		let vsid;
		// SAFETY: no effect.
		unsafe {
			asm!("slbmfev {}, {}", out(reg) vsid, in(reg) index, options(nostack, preserves_flags));
		}
		vsid
	}
}

/// The pointer that the kernel's functions take.
fn pointer(vcpu: VcpuView) -> *mut u8 {
	vcpu.address().as_ptr()
}

// Every call into the kernel below is sound for one reason: `switch::run` makes it
// where the C path makes the same call, with the same vcpu and the same state of the
// CPU.
impl Kernel for Power9 {
	fn pmu_to_guest(&mut self, vcpu: VcpuView) {
		// SAFETY: see above.
		unsafe { switch_pmu_to_guest(pointer(vcpu), self.host_pmu.as_mut_ptr()) };
	}

	fn pmu_to_host(&mut self, vcpu: VcpuView) {
		// SAFETY: see above; the host's PMU was saved here on the way in.
		unsafe { switch_pmu_to_host(pointer(vcpu), self.host_pmu.as_mut_ptr()) };
	}

	#[inline(always)]
	unsafe fn load_vectors(&mut self, vcpu: VcpuView) {
		// SAFETY: the vcpu's register arrays, at the kernel's offsets; the caller
		// vouches for MSR and for the registers.
		unsafe {
			let vcpu = vcpu.address();
			kvm_p9_load_vectors(
				vcpu.add(layout::VCPU_FP).as_ptr(),
				vcpu.add(layout::VCPU_VR).as_ptr(),
			);
		}
	}

	#[inline(always)]
	fn store_vectors(&mut self, vcpu: VcpuView) {
		// SAFETY: as above; storing changes no register but one that is nobody's.
		unsafe {
			let vcpu = vcpu.address();
			kvm_p9_store_vectors(
				vcpu.add(layout::VCPU_FP).as_ptr(),
				vcpu.add(layout::VCPU_VR).as_ptr(),
			);
		}
	}

	#[cfg(have_tm)]
	fn restore_tm(&mut self, vcpu: VcpuView, msr: u64) {
		// SAFETY: see above.
		unsafe { kvmppc_restore_tm_hv(pointer(vcpu), msr, true) };
	}

	#[cfg(have_tm)]
	fn save_tm(&mut self, vcpu: VcpuView, msr: u64) {
		// SAFETY: see above.
		unsafe { kvmppc_save_tm_hv(pointer(vcpu), msr, true) };
	}

	#[cfg(have_tm)]
	fn tm_emulation_early(&mut self, vcpu: VcpuView) -> bool {
		// SAFETY: see above.
		unsafe { kvmhv_p9_tm_emulation_early(pointer(vcpu)) != 0 }
	}

	// Without CONFIG_PPC_TRANSACTIONAL_MEM no guest has the facility.
	#[cfg(not(have_tm))]
	fn restore_tm(&mut self, _: VcpuView, _: u64) {}

	#[cfg(not(have_tm))]
	fn save_tm(&mut self, _: VcpuView, _: u64) {}

	#[cfg(not(have_tm))]
	fn tm_emulation_early(&mut self, _: VcpuView) -> bool {
		false
	}

	#[inline(always)]
	fn flush_tlb_if_needed(&mut self, context: &Context, nested: Option<NestedView>) {
		let (kvm, pcpu) = (context.kvm.address(), context.vcore.pcpu());
		let cpu = usize::from(pcpu);
		// SAFETY: each structure has a cpumask there, and a cpumask has a bit for each CPU
		// that the kernel can have. Others set bits; only this CPU clears its own.
		let (mask, word) = unsafe {
			let mask = match nested {
				Some(nested) => nested.address().add(layout::NESTED_NEED_TLB_FLUSH),
				None => kvm.add(layout::KVM_NEED_TLB_FLUSH),
			};
			(mask, mask.cast::<AtomicU64>().add(cpu / 64).as_ref())
		};
		// Relaxed: whoever set the bit did so before this vcpu was let onto this CPU.
		if word.load(Ordering::Relaxed) >> (cpu % 64) & 1 != 0 {
			// SAFETY: LPIDR is the guest's.
			unsafe { kvm_p9_flush_guest_tlb(kvm.as_ptr(), mask.as_ptr(), pcpu.into()) };
		}
	}

	unsafe fn slb_clear_all(&mut self) {
		// SAFETY: the caller says that the host needs none.
		unsafe { kvm_p9_clear_slb() };
	}

	#[inline(always)]
	unsafe fn run_guest(&mut self, vcpu: VcpuView) {
		// SAFETY: the caller has loaded the guest's state. The trampoline keeps what
		// the C calling convention says.
		unsafe { kvm_p9_run_guest_site(pointer(vcpu)) };
	}

	fn machine_check(&mut self, vcpu: VcpuView) {
		// SAFETY: see above.
		unsafe { kvmppc_realmode_machine_check(pointer(vcpu)) };
	}

	fn hmi(&mut self, vcpu: VcpuView) {
		// SAFETY: see above. It says whether the timebase needs work, as to callers
		// with several threads; there is one.
		unsafe { kvmppc_p9_realmode_hmi_handler(pointer(vcpu)) };
	}

	#[inline(always)]
	fn rearm_host_dec(&mut self, tb: u64) {
		// SAFETY: see above.
		unsafe { timer_rearm_host_dec(tb) };
	}

	fn decrementer_max(&self) -> u64 {
		decrementer_max
	}

	fn dawr_enabled(&self) -> bool {
		dawr_force_enable.load(Ordering::Relaxed) != 0
	}

	#[inline(always)]
	fn time_in_guest(&mut self, vcpu: VcpuView) {
		#[cfg(have_timing)]
		// SAFETY: see above; the accumulator is the vcpu's own.
		unsafe {
			accumulate_time(pointer(vcpu), pointer(vcpu).add(layout::VCPU_TIME_IN_GUEST));
		}
		#[cfg(not(have_timing))]
		let _ = vcpu;
	}

	#[inline(always)]
	fn time_guest_exit(&mut self, vcpu: VcpuView) {
		#[cfg(have_timing)]
		// SAFETY: see above; the accumulator is the vcpu's own.
		unsafe {
			accumulate_time(
				pointer(vcpu),
				pointer(vcpu).add(layout::VCPU_TIME_GUEST_EXIT),
			);
		}
		#[cfg(not(have_timing))]
		let _ = vcpu;
	}

	#[inline(always)]
	fn exception_area(&self, trap: u32) -> ExceptionView {
		let offset = match trap {
			trap::SYSTEM_RESET => layout::PACA_EXNMI_AREA,
			trap::MACHINE_CHECK => layout::PACA_EXMC_AREA,
			_ => layout::PACA_EXGEN_AREA,
		};
		// SAFETY: a save area of this CPU, which no interrupt uses until MSR[RI] is on
		// again.
		unsafe { ExceptionView::new(self.paca.address().add(offset)) }
	}
}

/// POWER9 and a kind of guest.
struct Power9Profile<G>(PhantomData<G>);
impl<G: Guest> Profile for Power9Profile<G> {
	const KIND: Kind = G::KIND;

	/// Firmware can disable transactional memory. As POWER9 was shipped, it needs the
	/// hypervisor's help otherwise.
	///
	/// Decided at boot by the kernel's feature patching: a branch stays where the feature is
	/// missing and becomes a nop where it is not. One path each for CPUs with and without
	/// would be decided by the compiler, but the object would be a third larger.
	#[inline(always)]
	fn tm_assist() -> bool {
		// SAFETY: a branch within this function, or a nop. The section's entry has the form of
		// `struct fixup_entry` (arch/powerpc/lib/feature-fixups.c): mask and value of the
		// features with which the code from 2 to 3 stays as it is, where it is and where what
		// replaces it is: nothing, and what is left over is filled with nops. That it has
		// this form, `kvm_p9_init()` sees by asking.
		unsafe {
			asm!(
				"2: b {without}",
				"3:",
				".pushsection __ftr_fixup, \"a\"",
				".balign 8",
				"4: .8byte {feature}, 0, 2b - 4b, 3b - 4b, 0, 0",
				".popsection",
				feature = const layout::FEATURE_TM_ASSIST,
				without = label { return false },
				options(nomem, nostack, preserves_flags),
			);
		}
		true
	}
}

/// What the kernel's feature patching has made of [`Profile::tm_assist`], for the glue to
/// compare.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_p9_assists_tm() -> bool {
	Power9Profile::<Radix>::tm_assist()
}

/// A kind of guest, as a type.
trait Guest {
	const KIND: Kind;
}

struct Radix;
impl Guest for Radix {
	const KIND: Kind = Kind::Radix;
}

struct L2;
impl Guest for L2 {
	const KIND: Kind = Kind::L2;
}

struct Hash;
impl Guest for Hash {
	const KIND: Kind = Kind::Hash;
}

fn paca() -> PacaView {
	let paca: *mut u8;
	// SAFETY: r13 is the PACA of this CPU in all kernel code; reading it has no effect.
	// Preemption is off, so it stays this CPU's.
	unsafe {
		asm!("mr {}, 13", out(reg) paca, options(nomem, nostack, preserves_flags));
		PacaView::new(NonNull::new_unchecked(paca))
	}
}

fn facts(context: &Context) -> GuestFacts {
	GuestFacts {
		nested: context.nested.is_some(),
		radix: context.kvm.radix() != 0,
		secure: context.kvm.secure_guest() != 0,
	}
}

/// What is to be told of this vcpu.
#[inline]
fn stats(p9: &P9Vcpu) -> Option<&Stats> {
	// SAFETY: what it points to stays as long as the vcpu, also after the pointer was
	// reset. Acquire: it is initialised. What others may do with it, its type allows.
	unsafe { p9.stats.load(Ordering::Acquire).as_ref() }
}

/// The fast handlers, timed.
///
/// They are functions of their own, in a table of their own, so that those which are
/// not timed don't even ask. They end with a reading of the timebase and of the counter of
/// cycles; the trampoline has taken down both when the hcall arrived.
mod timed {
	use super::*;
	use hcall::{Code, Handler};
	use powerpc::Event;

	/// Has `handler` answer the hcall, and takes the time.
	///
	/// # Safety
	///
	/// As for [`handlers::h_get_tce`].
	#[inline(always)]
	unsafe fn run(p9: NonNull<P9Vcpu>, kind: SpanKind, number: Number, handler: Handler) -> Code {
		// SAFETY: as the caller vouches; the handler's own reference to it is shared, too.
		let own = unsafe { p9.as_ref() };
		let stats = stats(own);
		if stats.is_some_and(Stats::is_full) {
			// Before the handler has done anything. On the full path the vcpu gets rid of
			// its events.
			return Code::TOO_HARD;
		}
		// SAFETY: the vcpu that this is part of, which is in this handler.
		let r4 = unsafe { VcpuView::new(p9.cast().sub(layout::VCPU_P9)) }.gpr4();
		// SAFETY: as the caller vouches.
		let code = unsafe { handler(p9) };
		if let Some(stats) = stats
			&& code != Code::TOO_HARD
		{
			record(own, stats, kind, number, r4, code);
		}
		code
	}

	/// Takes down what the hcall took until now. Here once, for all of them.
	#[inline(never)]
	fn record(own: &P9Vcpu, stats: &Stats, kind: SpanKind, number: Number, r4: u64, code: Code) {
		let (end, end_cycles) = (timebase(), cycle_counter());
		let call = Event {
			r4,
			code: code.0,
			number: number.0 as u32,
			..Event::default()
		};
		let cycles = end_cycles.wrapping_sub(own.hcall_cycles.get() as u32);
		stats.fast(kind, own.hcall_tb.get(), end, cycles, call);
	}

	macro_rules! timed {
		($($name:ident = $handler:path, $kind:ident, $number:ident;)*) => {
			$(
				/// # Safety
				///
				/// As for the handler that it has the hcall answered by.
				pub unsafe extern "C" fn $name(p9: NonNull<P9Vcpu>) -> Code {
					// SAFETY: as the caller vouches.
					unsafe { run(p9, SpanKind::$kind, Number::$number, $handler) }
				}
			)*
		};
	}

	timed! {
		null = hcall::null, FastNull, NULL;
		h_get_tce = handlers::h_get_tce, FastHGetTce, GET_TCE;
		h_put_tce = handlers::h_put_tce, FastHPutTce, PUT_TCE;
		h_put_tce_indirect = handlers::h_put_tce_indirect, FastHPutTceIndirect, PUT_TCE_INDIRECT;
		h_stuff_tce = handlers::h_stuff_tce, FastHStuffTce, STUFF_TCE;
	}
}

/// Our own part of the vcpu.
fn p9(vcpu: &VcpuView) -> &P9Vcpu {
	// SAFETY: the offset is the kernel's own, the layout is asserted, and the vcpu stays
	// as long as its view. What handlers and other CPUs may do meanwhile, the type
	// allows.
	unsafe { vcpu.address().add(layout::VCPU_P9).cast().as_ref() }
}

/// Declares the user's FP, VMX and VSX registers saved and no longer live.
///
/// KVM_RUN saved them when it began. But if the task was scheduled out since then, the
/// scheduler has loaded them again and marked them live in the user's MSR; the guest's
/// are about to overwrite them, and with the mark left standing userspace would
/// continue with what the guest left behind. The saved copy is still good: the kernel
/// does not change these registers on the user's behalf, so what is in them is what
/// was loaded. Without the mark, the way back to userspace loads that copy.
fn user_vectors_are_saved(task: TaskView) {
	const LIVE: Msr = Msr::FP
		.union(Msr::FE0)
		.union(Msr::FE1)
		.union(Msr::VEC)
		.union(Msr::VSX);
	if let Some(regs) = NonNull::new(task.user_regs() as *mut u8) {
		// SAFETY: the current task's own saved registers, which nobody else uses while
		// it runs. KVM_RUN says itself that they changed (`srr_regs_clobbered()`).
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

	if path != Path::Rust {
		// SAFETY: our caller's conditions are this function's.
		return unsafe { kvmhv_vcpu_entry_p9(vcpu, limit, lpcr, tb) };
	}

	// Relaxed: the setting stands alone. Whoever changed it interrupts all CPUs
	// afterwards, so that an entry which read the old value ends soon.
	let table = match (kind, kvm_p9_fast_table.load(Ordering::Relaxed)) {
		(Kind::Radix, FAST_TABLE) => &FAST,
		(_, NO_FAST_TABLE) => &NO_FAST,
		(Kind::Radix, _) => &TIMED_FAST,
		// An L2's hcalls are its L1's business. A hash guest's arrive with LPCR[HR] zero,
		// under which the handlers' addresses mean nothing.
		_ => &NO_FAST,
	};
	let p9 = p9(&context.vcpu);
	p9.fast_table.set((&raw const *table).cast::<c_void>());

	user_vectors_are_saved(context.task);
	let mut power9 = Power9 {
		host_pmu: MaybeUninit::uninit(),
		paca,
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
			Kind::Radix => run!(Radix),
			Kind::L2 => run!(L2),
			Kind::Hash => run!(Hash),
		}
	};

	trap as c_int
}

/// The timebase as it is.
fn timebase() -> u64 {
	let tb;
	// SAFETY: no effect.
	unsafe { asm!("mftb {}", out(reg) tb, options(nostack, preserves_flags)) };
	tb
}

/// PMC6 as it is: cycles, if it is ours.
fn cycle_counter() -> u32 {
	let pmc: u64;
	// SAFETY: no effect.
	unsafe {
		asm!("mfspr {}, {}", out(reg) pmc, const Spr::PMC6.0, options(nostack, preserves_flags));
	}
	pmc as u32
}

/// The guest is about to run, and somebody wants to know about time: then the
/// trampoline calls this and [`kvm_p9_time_exit`] around each run.
///
/// # Safety
///
/// The vcpu must be the one whose state is loaded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_p9_time_entry(vcpu: NonNull<u8>) {
	let mut power9 = Power9 {
		host_pmu: MaybeUninit::uninit(),
		paca: paca(),
	};
	// SAFETY: the caller's word; the vcore is the vcpu's own, and never null.
	let (vcpu, vcore) = unsafe {
		let vcpu = VcpuView::new(vcpu);
		let vcore = VcoreView::new(NonNull::new_unchecked(vcpu.vcore() as *mut u8));
		(vcpu, vcore)
	};
	if let Some(stats) = stats(p9(&vcpu)) {
		let wanted = TimingFlags(kvm_p9_timing.load(Ordering::Relaxed));
		stats.begin(wanted);
		let free = wanted.has(TimingFlags::STATS) && cycles::nobody_has_the_pmu(vcpu, power9.paca);
		let counter = cycles::enter(&mut power9, stats, vcore.pcpu(), free);
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
	// SAFETY: the caller's word.
	let vcpu = unsafe { VcpuView::new(vcpu) };
	let p9 = p9(&vcpu);
	if let Some(stats) = stats(p9) {
		let now = (timebase(), u64::from(cycle_counter()));
		// Interrupts with HSRRs are told by bit 1.
		let trap = paca().trap() as u32 & !2;
		let kind = stats::kind(trap, Number(vcpu.gpr3()));
		let (tb, cycles) = match trap {
			trap::SYSCALL => (p9.hcall_tb.get(), p9.hcall_cycles.get()),
			_ => now,
		};
		stats.leave(kind, tb, cycles as u32);
	}
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
