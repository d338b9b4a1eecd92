// SPDX-License-Identifier: GPL-2.0-only
//! The processor and the kernel as they are: [`Cpu`] and [`Kernel`] on a POWER9.

use core::arch::asm;
use core::ffi::c_int;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use ::hpt::fault::{self, Fault, Owner};
use hcall::FastTable;
use powerpc::{Answered, Counters, Cpu, LightCounter, P9Vcpu, Served, Target};

use crate::entry_point::{p9, set_fast_table};
use crate::fast::{self, FAST_REAL_MODE, NO_FAST, REAL_MODE};
use crate::hpt::guest::KernelGuest;
use crate::layout::kernel as layout;
use crate::light::Registers;
use crate::switch::{Context, GuestKind, Kernel, Loaded, Profile, Service, hfscr, trap};
use crate::timing::pmu;
use crate::views::{ExceptionView, KvmView, MmioCacheView, NestedView, PacaView, VcpuView};

/// Room for `struct p9_host_os_sprs`, in which the kernel's PMU code keeps the
/// host's PMU.
pub(crate) type HostPmu = [u64; layout::SIZEOF_HOST_OS_SPRS / 8];

// SAFETY: functions and variables of the kernel with these types (asm/kvm_ppc.h, asm/time.h,
// asm/hw_breakpoint.h, book3s_hv.h), of the glue and of the assembly beside it. Variables that
// other CPUs write at any time are atomic; the others are written during boot only.
unsafe extern "C" {
	fn kvm_p9_load_way_in(nia: u64, msr: u64);
	fn kvm_p9_run_guest_site(vcpu: *mut u8);
	fn kvm_p9_load_vectors(fp: *const u8, vr: *const u8);
	fn kvm_p9_store_vectors(fp: *mut u8, vr: *mut u8);
	fn kvm_p9_light_find_target(vcpu: *mut u8, address: u64) -> *mut u8;
	fn kvm_p9_light_hash_finds_device(vcpu: *mut u8, address: u64) -> bool;
	fn kvm_p9_light_hash_hcall(vcpu: *mut u8) -> c_int;
	fn kvm_p9_light_hash_store(vcpu: *mut u8) -> c_int;
	fn kvm_p9_light_ring(vcpu: *mut u8) -> c_int;
	fn kvm_p9_light_store(vcpu: *mut u8, device: *mut u8) -> c_int;
	fn kvm_p9_light_may_serve(vcpu: *mut u8) -> bool;
	fn kvm_p9_light_may_call(vcpu: *mut u8) -> bool;
	fn kvm_p9_light_call(vcpu: *mut u8) -> u64;
	fn kvm_p9_light_find_memory(vcpu: *mut u8, address: u64, store: bool) -> *mut u8;
	fn kvm_p9_light_serve(vcpu: *mut u8, trap: c_int) -> u64;
	fn kvm_p9_light_fault(vcpu: *mut u8, slot: *mut u8, store: bool) -> u64;
	fn kvm_p9_flush_guest_tlb(kvm: *mut u8, wanted: *mut u8, pcpu: c_int);
	fn kvm_p9_clear_slb();
	fn switch_pmu_to_guest(vcpu: *mut u8, host: *mut HostPmu);
	fn switch_pmu_to_host(vcpu: *mut u8, host: *mut HostPmu);
	fn kvmppc_realmode_machine_check(vcpu: *mut u8);
	fn kvmppc_p9_realmode_hmi_handler(vcpu: *mut u8) -> i64;
	fn timer_rearm_host_dec(now: u64);
	safe static decrementer_max: u64;
	safe static dawr_force_enable: AtomicU8;
}

#[cfg(have_tm)]
// SAFETY: functions of the kernel with these types (asm/kvm_book3s.h).
unsafe extern "C" {
	fn kvmppc_restore_tm_hv(vcpu: *mut u8, msr: u64, preserve_nv: bool);
	fn kvmppc_save_tm_hv(vcpu: *mut u8, msr: u64, preserve_nv: bool);
	fn kvmhv_p9_tm_emulation_early(vcpu: *mut u8) -> c_int;
}

#[cfg(have_timing)]
// SAFETY: a function of the kernel with this type (book3s_hv.h).
unsafe extern "C" {
	fn accumulate_time(vcpu: *mut u8, next: *mut u8);
}

/// The CPU that runs this code, and the kernel around it.
pub(crate) struct Power9 {
	pub(crate) host_pmu: MaybeUninit<HostPmu>,
	pub(crate) paca: PacaView,
	/// This CPU's counters, which light exits add to. Null in a handler, which finds them by
	/// the vcpu.
	pub(crate) counters: *const Counters,
	/// Which hcalls have a fast handler, if the guest does not use the PMU.
	pub(crate) table: &'static FastTable,
}

impl Power9 {
	/// For code that uses the registers only.
	#[inline(always)]
	pub(crate) const fn for_handler(paca: PacaView) -> Self {
		Self {
			host_pmu: MaybeUninit::uninit(),
			paca,
			counters: core::ptr::null(),
			table: &NO_FAST,
		}
	}

	/// Has the glue do what it may sleep for. Returns what became of it, and whether the guest's context is
	/// still loaded: the flush takes the pointer to `loaded` when the thread is scheduled out.
	#[inline(always)]
	fn light_sleep(
		&mut self,
		loaded: &Loaded<'_>,
		glue: impl FnOnce(*mut u8) -> u64,
	) -> (Served, bool) {
		let vcpu = loaded.vcpu();
		let own = &p9(&vcpu).light;
		// `loaded` lives until the glue returns, and only this thread flushes it.
		own.loaded.set((&raw const *loaded).cast());
		let served = glue(pointer(vcpu));
		// The thread may be on another CPU now.
		self.counters = own.counters.get();
		let is_loaded = !own.loaded.replace(ptr::null()).is_null();
		(Served::from_glue(served), is_loaded)
	}
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
		// SAFETY: what runs next is right with the value, which `Cpu::mtspr` requires.
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
		// SAFETY: `Cpu::mtmsrd` requires that what runs next is right with the value, and at the same
		// address with translation on and off.
		unsafe { asm!("mtmsrd {}, 0", in(reg) msr, options(nostack, preserves_flags)) };
	}

	#[inline(always)]
	unsafe fn mtmsrd_ee_ri(&mut self, msr: u64) {
		// SAFETY: what runs next is right with these two bits, which `Cpu::mtmsrd_ee_ri` requires.
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

/// The host's registers, and the guest's LPCR, of a vcpu's last full entry.
#[inline(always)]
pub(crate) fn light_registers(own: &P9Vcpu) -> Registers {
	Registers {
		lpcr: own.light.lpcr.get(),
		pidr: own.light.host_pidr.get(),
		amr: own.light.host_amr.get(),
		iamr: own.light.host_iamr.get(),
	}
}

/// The pointer that the kernel's functions take.
pub(crate) fn pointer(vcpu: VcpuView) -> *mut u8 {
	vcpu.address().as_ptr()
}

// `switch::run` calls each of these where the C path makes the same call, with the same vcpu and
// the same state of the CPU.
impl Kernel for Power9 {
	fn pmu_to_guest(&mut self, vcpu: VcpuView) {
		// SAFETY: the vcpu is loaded and interrupts are disabled, as where C calls it.
		unsafe { switch_pmu_to_guest(pointer(vcpu), self.host_pmu.as_mut_ptr()) };
		// The guest's PMU counts in hypervisor state until the kernel freezes it, and
		// its samples there would carry kernel addresses. A full exit freezes it. The kernel takes the
		// PMU away from a guest that does not announce it, between two runs of a light exit, too.
		let table = match vcpu.hfscr() & hfscr::PM {
			0 => self.table,
			_ => &NO_FAST,
		};
		set_fast_table(&vcpu, table);
	}

	fn pmu_to_host(&mut self, vcpu: VcpuView) {
		// SAFETY: interrupts are disabled, as where C calls it; the host's PMU was saved here on the way in.
		unsafe { switch_pmu_to_host(pointer(vcpu), self.host_pmu.as_mut_ptr()) };
	}

	#[inline(always)]
	unsafe fn load_vectors(&mut self, vcpu: VcpuView) {
		// SAFETY: the vcpu's register arrays, at the kernel's offsets. MSR has the
		// facilities, and no value in the registers is needed: `Kernel::load_vectors` requires both.
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
		// SAFETY: the vcpu's register arrays, at the kernel's offsets; storing changes only a register whose value is dead.
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
		// SAFETY: MSR[TM] is on and the vcpu is loaded, as where C calls it.
		unsafe { kvmppc_restore_tm_hv(pointer(vcpu), msr, true) };
	}

	#[cfg(have_tm)]
	fn save_tm(&mut self, vcpu: VcpuView, msr: u64) {
		// SAFETY: MSR[TM] is on and the vcpu is loaded, as where C calls it.
		unsafe { kvmppc_save_tm_hv(pointer(vcpu), msr, true) };
	}

	#[cfg(have_tm)]
	fn tm_emulation_early(&mut self, vcpu: VcpuView) -> bool {
		// SAFETY: called after a softpatch interrupt of the loaded vcpu, as C does.
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
		// Relaxed: the other CPU set the bit before this vcpu was allowed onto this CPU.
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
	unsafe fn load_way_in(&mut self, nia: u64, msr: u64) {
		// SAFETY: interrupts that use the registers are disabled, and the guest runs next.
		unsafe { kvm_p9_load_way_in(nia, msr) };
	}

	#[inline(always)]
	unsafe fn run_guest(&mut self, vcpu: VcpuView) {
		// SAFETY: the caller has loaded the guest's state. The trampoline keeps what
		// the C calling convention says.
		unsafe { kvm_p9_run_guest_site(pointer(vcpu)) };
	}

	fn machine_check(&mut self, vcpu: VcpuView) {
		// SAFETY: called after a machine check of the loaded vcpu, as C does.
		unsafe { kvmppc_realmode_machine_check(pointer(vcpu)) };
	}

	fn hmi(&mut self, vcpu: VcpuView) {
		// SAFETY: called after an HMI of the loaded vcpu, as C does. It says whether the timebase needs work, as to callers
		// with several threads; there is one.
		unsafe { kvmppc_p9_realmode_hmi_handler(pointer(vcpu)) };
	}

	#[inline(always)]
	fn rearm_host_dec(&mut self, tb: u64) {
		// SAFETY: the host's timebase is loaded and interrupts are disabled, as where C calls it.
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
		// SAFETY: the vcpu is loaded, so only this thread uses its accumulators.
		unsafe {
			accumulate_time(pointer(vcpu), pointer(vcpu).add(layout::VCPU_TIME_IN_GUEST));
		}
		#[cfg(not(have_timing))]
		let _ = vcpu;
	}

	#[inline(always)]
	fn time_guest_exit(&mut self, vcpu: VcpuView) {
		#[cfg(have_timing)]
		// SAFETY: the vcpu is loaded, so only this thread uses its accumulators.
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
	fn entered(&mut self) {
		// SAFETY: an entry has this CPU's counters.
		let reason = unsafe { &(*self.counters).reason };
		if reason.get() == LightCounter::NotEntered as u64 {
			reason.set(LightCounter::NONE);
		}
	}

	#[inline(always)]
	fn set_light(&mut self, vcpu: VcpuView, registers: Registers, limit: u64) {
		let own = &p9(&vcpu).light;
		own.lpcr.set(registers.lpcr);
		own.host_pidr.set(registers.pidr);
		own.host_amr.set(registers.amr);
		own.host_iamr.set(registers.iamr);
		own.limit.set(limit);
	}

	#[inline(always)]
	fn light(&self, vcpu: VcpuView) -> Registers {
		light_registers(p9(&vcpu))
	}

	#[inline(always)]
	fn light_find_target(&mut self, vcpu: VcpuView, address: u64) -> Target {
		// SAFETY: it looks at the VM's devices and memory slots, which the run loop keeps by SRCU.
		Target::from_glue(unsafe { kvm_p9_light_find_target(pointer(vcpu), address) })
	}

	#[inline(always)]
	fn nobody_has_the_pmu(&mut self, vcpu: VcpuView) -> bool {
		let may = pmu::nobody_has_the_pmu(vcpu, self.paca);
		if !may {
			fast::light::refuse(p9(&vcpu), LightCounter::FullPmu);
		}
		may
	}

	#[inline(always)]
	fn light_ring(&mut self, vcpu: VcpuView) -> Answered {
		// SAFETY: called in the window that it is made for.
		Answered::from_glue(unsafe { kvm_p9_light_ring(pointer(vcpu)) })
	}

	#[inline(always)]
	fn light_hash_finds_device(&mut self, vcpu: VcpuView, address: u64) -> bool {
		// SAFETY: it looks at the VM's devices, which the run loop keeps by SRCU, and at the vcpu.
		unsafe { kvm_p9_light_hash_finds_device(pointer(vcpu), address) }
	}

	#[inline(always)]
	fn light_hash_store(&mut self, vcpu: VcpuView) -> Answered {
		// SAFETY: called in the window that it is made for.
		Answered::from_glue(unsafe { kvm_p9_light_hash_store(pointer(vcpu)) })
	}

	#[inline(always)]
	fn light_hash_hcall(&mut self, vcpu: VcpuView) -> Answered {
		// SAFETY: called in the window that it is made for.
		Answered::from_glue(unsafe { kvm_p9_light_hash_hcall(pointer(vcpu)) })
	}

	#[inline(always)]
	fn light_store(&mut self, vcpu: VcpuView, device: NonNull<u8>) -> Answered {
		// SAFETY: called in the window that it is made for. SRCU keeps the device.
		Answered::from_glue(unsafe { kvm_p9_light_store(pointer(vcpu), device.as_ptr()) })
	}

	#[inline(always)]
	fn light_may_serve(&mut self, vcpu: VcpuView) -> bool {
		// SAFETY: it only reads kernel memory, and counts.
		unsafe { kvm_p9_light_may_serve(pointer(vcpu)) }
	}

	#[inline(always)]
	fn light_may_call(&mut self, vcpu: VcpuView) -> bool {
		// SAFETY: it only reads kernel memory, and counts.
		unsafe { kvm_p9_light_may_call(pointer(vcpu)) }
	}

	#[inline(always)]
	fn wants_list(&self, vcpu: VcpuView) -> bool {
		p9(&vcpu).tce_list_wanted.get() != 0
	}

	#[inline(always)]
	fn light_find_memory(
		&mut self,
		vcpu: VcpuView,
		address: u64,
		store: bool,
	) -> Option<NonNull<u8>> {
		// SAFETY: it looks at the VM's memory slots, which the run loop keeps by SRCU.
		NonNull::new(unsafe { kvm_p9_light_find_memory(pointer(vcpu), address, store) })
	}

	#[inline(always)]
	fn light_serve<P: Profile>(
		&mut self,
		loaded: &Loaded<'_>,
		service: Service,
		trap: u32,
	) -> Served {
		let vcpu = loaded.vcpu();
		let (served, is_loaded) = match service {
			Service::Interrupts => {
				// SAFETY: the switch calls it with all in place that interrupts of the host need.
				let served = unsafe { kvm_p9_light_serve(pointer(vcpu), trap as c_int) };
				(Served::from_glue(served), true)
			}
			Service::Fault { slot, store } => self.light_sleep(loaded, |vcpu| {
				// SAFETY: the same. SRCU keeps the slot.
				unsafe { kvm_p9_light_fault(vcpu, slot.as_ptr(), store) }
			}),
			Service::Hcall => self.light_sleep(loaded, |vcpu| {
				// SAFETY: the same.
				unsafe { kvm_p9_light_call(vcpu) }
			}),
		};
		if is_loaded && matches!(served, Served::Left | Served::Refused) {
			// SAFETY: interrupts are disabled, and nothing has flushed it: no other task has run.
			unsafe { loaded.flush::<P, _>(self) };
		}
		served
	}

	#[inline(always)]
	fn answers_faults(&self, vcpu: VcpuView) -> bool {
		pmu::nobody_has_the_pmu(vcpu, self.paca)
	}

	#[inline(always)]
	fn is_known_device(&self, vcpu: VcpuView, kvm: KvmView, address: u64) -> bool {
		is_in_mmio_cache(vcpu, kvm, address)
	}

	#[inline(always)]
	fn fault_owner(&mut self, vcpu: VcpuView, fault: Fault) -> Owner {
		// SAFETY: as in a fast handler, the guest's context is loaded, `kvm->srcu` is held and
		// interrupts are disabled until the guest goes on or its context is taken away.
		match unsafe { KernelGuest::new(vcpu) } {
			Some(guest) => fault::owner(&guest, fault),
			None => Owner::Host,
		}
	}

	#[inline(always)]
	fn count_fault(&mut self, vcpu: VcpuView) {
		fast::light::count(p9(&vcpu), LightCounter::HashFault);
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

/// Whether C remembers the address as a device's (`mmio_cache_search()`).
#[inline(never)]
fn is_in_mmio_cache(vcpu: VcpuView, kvm: KvmView, address: u64) -> bool {
	let updates = kvm.mmio_update();
	(0..layout::MMIO_CACHE_ENTRIES).any(|number| {
		let offset = layout::VCPU_MMIO_CACHE + number * layout::SIZEOF_MMIO_CACHE_ENTRY;
		// SAFETY: an element of the array in the vcpu.
		let entry = unsafe { MmioCacheView::new(vcpu.address().add(offset)) };
		// A shift that is none finds nothing.
		let same = (entry.address_of() ^ address).checked_shr(entry.page_shift());
		same == Some(0) && entry.update() == updates
	})
}

/// POWER9 and a kind of guest.
pub(crate) struct Power9Profile<G>(PhantomData<G>);

impl<G: GuestType> Profile for Power9Profile<G> {
	const KIND: GuestKind = G::KIND;
	const LIGHT: bool = G::LIGHT;

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
pub(crate) trait GuestType {
	const KIND: GuestKind;
	const LIGHT: bool = false;
}

pub(crate) struct Radix;

impl GuestType for Radix {
	const KIND: GuestKind = GuestKind::Radix;
}

/// A radix guest, with light exits.
pub(crate) struct RadixLight;

impl GuestType for RadixLight {
	const KIND: GuestKind = GuestKind::Radix;
	const LIGHT: bool = true;
}

pub(crate) struct L2;

impl GuestType for L2 {
	const KIND: GuestKind = GuestKind::L2;
}

pub(crate) struct Hash;

impl GuestType for Hash {
	const KIND: GuestKind = GuestKind::Hash;
}

/// A hash guest, with light exits.
pub(crate) struct HashLight;

impl GuestType for HashLight {
	const KIND: GuestKind = GuestKind::Hash;
	const LIGHT: bool = true;
}

/// Nothing here may panic. The function that this calls exists nowhere: a
/// panic that the compiler could not rule out fails the link and the gates.
#[panic_handler]
pub(crate) fn panic(_: &PanicInfo<'_>) -> ! {
	// SAFETY: never linked, so never called.
	unsafe extern "C" {
		safe fn kvm_p9_panic_was_not_ruled_out() -> !;
	}
	kvm_p9_panic_was_not_ruled_out()
}
