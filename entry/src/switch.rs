// SPDX-License-Identifier: GPL-2.0-only
//! The full switch: host to guest and back.
//!
//! The order is the matter of this module. On the way in:
//!
//! 1. Interrupts are hard-disabled, and facilities that are about to be used are
//!    enabled in MSR. Something may have happened before that; then there is no
//!    entry.
//! 2. Everything that must be read of the host is read, before anything is written.
//! 3. The guest's SPRs are loaded, those first that host code does not depend on.
//! 4. The mode byte says that a guest's state is loaded. From here on an interrupt
//!    (only a machine check or system reset can come) is not survived; see
//!    `kvmppc_p9_bad_interrupt`.
//! 5. MMU context, HDEC and DEC, then the registers that interrupts clobber.
//! 6. The trampoline loads the GPRs and goes.
//!
//! And on the way out the same backwards, with all reads in one block before the
//! first write.
//!
//! # Barriers
//!
//! Before LPIDR and PIDR change, both ways, hwsync: an earlier store that is still
//! on its way must not be overlooked by a tlbie of another CPU, which broadcasts to
//! CPUs by the LPID that they have.
//!
//! A change of MMU context wants a context synchronising instruction before it, so
//! that no earlier access is translated with the new values, and one after it (Power
//! ISA 3.0B, Book III, chapter 12). On the way in, the first is an isync, as the host
//! may have used addresses of its user's process; the second is hrfid.
//!
//! On the way out the first is the interrupt that ended the guest's run. What this
//! code accesses between it and the change is in quadrant 3, or has the MMU off. In
//! hypervisor state a quadrant-3 address is translated with LPID 0 and PID 0 whatever
//! the registers hold (5.7.5), and of LPCR only \[HR\] and \[UPRT\] matter to it, which
//! are set in the host's and in a radix guest's; with the MMU off nothing is
//! translated. So no access before the change can tell, there is nothing that an
//! isync would keep in order, and hwsync is execution synchronising already. C has
//! one there. The second is the mtmsrd that puts the host's MSR back; until then this
//! code keeps to quadrant 3.
//!
//! # Hash guests
//!
//! A hash guest has LPCR\[HR\] zero, and with that the host's addresses mean nothing.
//! From before its context is loaded until the host's is back the MMU is off: an
//! mtmsrd turns it off on the way in, and interrupts of such a guest arrive with it
//! off, as LPCR\[AIL\] works in hypervisor state under \[HR\] only. All that is used in
//! between is in the linear map, whose addresses mean the same with the MMU off. The
//! guest's SLB is loaded and saved there, too: with LPCR\[UPRT\] set most of it can't be
//! reached.
//!
//! # Time
//!
//! HDEC and DEC are written one behind the other, for a TB that was read before, and
//! read so. HDEC's difference is the time that the guest ran, and so gives the time
//! at the end without reading TB, which waits for everything before it. That time is
//! behind by as much as passed between reading TB and writing HDEC, a microsecond if
//! nothing holds the CPU up. Since DEC was written just as late, an expiry time that the
//! guest did not touch comes out as it went in. (With a TB read at the end, as C has it,
//! it moves by that microsecond at each round trip.) One that the guest wrote comes out
//! early by it, and is written late by as much at the next entry. A limit that was
//! reached is reached by this time, too. After an HMI the timebase may be another, so it
//! is read.
//!
//! For a guest with an offset the timebase itself is moved, both ways by a TB that is
//! read directly before. Only the upper bits can be written, so what is written has to
//! be less than 2^24 ticks (33 ms) old. When it is older, as it can be on an emulated
//! CPU that was held up, the timebase goes back by 2^24 ticks, and after the exit the
//! host's stays so.
//!
//! # Enabling interrupts
//!
//! The host runs soft-disabled, and its \[EE\] is on then: whoever hard-disabled has to
//! turn it on again, with an mtmsrd that costs as much as one that does more. So for
//! those exits that arrive with the MMU on, the one mtmsrd of the way out comes last,
//! and turns on what is needed to save the vector registers, \[RI\], and \[EE\], too,
//! unless
//!
//! - an interrupt is recorded already, or the guest came out by one: the record
//!   (`irq_happened`) is updated by C without regard to interrupts, as it should be off;
//! - the vcpu's interrupt context is still on this CPU: an interrupt that the guest
//!   has not taken would come to the host, to no good, at every exit. The kernel pulls
//!   the context after we return, because some hcalls must be handled before.
//!
//! With the mode byte reset and interrupts only recorded, as the soft mask demands,
//! nothing distinguishes this from any other soft-disabled part of the kernel.

use powerpc::{Cpu, Msr, Spr};

use crate::layout::kernel as layout;
use crate::sprs::{Conditions, Debug, Guest, Interrupt, Supervisor, Transactions, User};
use crate::views::{ExceptionView, KvmView, NestedView, PacaView, TaskView, VcoreView, VcpuView};

/// Trap numbers: the vector of the interrupt that ended the guest's run.
pub mod trap {
	/// Nothing happened in the guest.
	pub const NONE: u32 = 0;
	/// System reset.
	pub const SYSTEM_RESET: u32 = 0x100;
	/// Machine check.
	pub const MACHINE_CHECK: u32 = 0x200;
	/// External.
	pub const EXTERNAL: u32 = 0x500;
	/// Hypervisor decrementer.
	pub const HV_DECREMENTER: u32 = 0x980;
	/// `sc 1`.
	pub const SYSCALL: u32 = 0xc00;
	/// Hypervisor data storage.
	pub const H_DATA_STORAGE: u32 = 0xe00;
	/// Hypervisor instruction storage.
	pub const H_INST_STORAGE: u32 = 0xe20;
	/// Hypervisor emulation assistance.
	pub const H_EMUL_ASSIST: u32 = 0xe40;
	/// Hypervisor maintenance.
	pub const HMI: u32 = 0xe60;
	/// Directed hypervisor doorbell.
	pub const H_DOORBELL: u32 = 0xe80;
	/// Hypervisor virtualization: from the interrupt controller, for the host.
	pub const H_VIRT: u32 = 0xea0;
	/// Hypervisor facility unavailable.
	pub const H_FAC_UNAVAIL: u32 = 0xf80;
	/// Hypervisor softpatch: transactional memory needs a hand.
	pub const HV_SOFTPATCH: u32 = 0x1500;
}

/// HFSCR bits (Power ISA 3.0B, Book III, 6.2.11).
pub mod hfscr {
	/// Performance monitor: the PMU's registers.
	pub const PM: u64 = 1 << 3;
	/// Transactional memory.
	pub const TM: u64 = 1 << 5;
	/// Event-based branches.
	pub const EBB: u64 = 1 << 7;
	/// Doorbells that the guest sends without the hypervisor (msgsndp, DPDES).
	pub const MSGP: u64 = 1 << 10;
}

/// PCR bits that ISA 3.0 reserves and Linux keeps set.
pub const PCR_MASK: u64 = layout::PCR_RESERVED as u64;
/// PSSCR[EC]: wake-up events end a stop.
const PSSCR_EC: u64 = 1 << 20;
/// PSSCR[FAKE_SUSPEND], a POWER9 facility for its transactional memory bugs.
const PSSCR_FAKE_SUSPEND_SHIFT: u32 = 10;
/// The timebase's bits that TBU40 does not write.
const TB_LOW: u64 = (1 << 24) - 1;
/// No instruction: it has to be fetched (`KVM_INST_FETCH_FAILED`).
const INST_FETCH_FAILED: u64 = layout::INST_FETCH_FAILED as u64;

/// What a CPU model has, and what kind of guest it is. Constants, so that a switch
/// path is compiled for each and tests none of it.
pub trait Profile {
	/// The kind of guest.
	const KIND: Kind;
	/// The CPU has transactional memory, and the hypervisor has to help with it
	/// (POWER9 DD2.2 and 2.3). Without, it has none: an MSR or HFSCR that says
	/// otherwise is userspace's, and must not make this code use the facility. To ask costs
	/// nothing that matters.
	fn tm_assist() -> bool;
}

/// There is transactional memory, and the kernel knows of it.
#[inline(always)]
fn has_tm<P: Profile>() -> bool {
	layout::HAVE_TM != 0 && P::tm_assist()
}

/// What kind of guest the vcpu is at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
	/// It uses the radix MMU.
	Radix,
	/// It is a guest of a guest that is a hypervisor, and uses the radix MMU.
	L2,
	/// It uses the hash MMU.
	Hash,
}

/// What the switch needs of the rest of the kernel, besides the processor.
pub trait Kernel: Cpu {
	/// `switch_pmu_to_guest()` / `switch_pmu_to_host()`, which know by the VPA and by
	/// demand faulting whether the PMU is anybody's.
	fn pmu_to_guest(&mut self, vcpu: VcpuView);
	/// See [`pmu_to_guest`](Self::pmu_to_guest).
	fn pmu_to_host(&mut self, vcpu: VcpuView);
	/// Loads the guest's FP, VMX and VSX registers, with FPSCR and VSCR.
	///
	/// # Safety
	///
	/// MSR[FP,VEC,VSX] must be set and the registers nobody's.
	unsafe fn load_vectors(&mut self, vcpu: VcpuView);
	/// Stores them.
	fn store_vectors(&mut self, vcpu: VcpuView);
	/// `kvmppc_restore_tm_hv()` / `kvmppc_save_tm_hv()`, for an active transaction. Both
	/// may leave values of its checkpoint in the registers that are marked so.
	fn restore_tm(&mut self, vcpu: VcpuView, msr: u64);
	/// See [`restore_tm`](Self::restore_tm).
	fn save_tm(&mut self, vcpu: VcpuView, msr: u64);
	/// `kvmhv_p9_tm_emulation_early()`: whether the guest can go straight on.
	fn tm_emulation_early(&mut self, vcpu: VcpuView) -> bool;
	/// Flushes this CPU's translations for the guest if another CPU asked for it.
	fn flush_tlb_if_needed(&mut self, context: &Context, nested: Option<NestedView>);
	/// Clears the whole SLB, with what is cached of it.
	///
	/// # Safety
	///
	/// The host must not translate by the SLB.
	unsafe fn slb_clear_all(&mut self);
	/// Puts the GPRs in and runs the guest.
	///
	/// # Safety
	///
	/// All of the guest's state must be loaded.
	unsafe fn run_guest(&mut self, vcpu: VcpuView);
	/// `kvmppc_realmode_machine_check()`.
	fn machine_check(&mut self, vcpu: VcpuView);
	/// `kvmppc_p9_realmode_hmi_handler()`.
	fn hmi(&mut self, vcpu: VcpuView);
	/// `timer_rearm_host_dec()`.
	fn rearm_host_dec(&mut self, tb: u64);
	/// The largest value of the decrementer (`decrementer_max`).
	fn decrementer_max(&self) -> u64;
	/// Watchpoints are usable (`dawr_enabled()`).
	fn dawr_enabled(&self) -> bool;
	/// The phases of CONFIG_KVM_BOOK3S_HV_P9_TIMING.
	fn time_in_guest(&mut self, vcpu: VcpuView);
	/// See [`time_in_guest`](Self::time_in_guest).
	fn time_guest_exit(&mut self, vcpu: VcpuView);
	/// The save area that an interrupt with this trap number used.
	fn exception_area(&self, trap: u32) -> ExceptionView;
}

/// The structures of one entry.
#[derive(Clone, Copy)]
pub struct Context {
	/// The vcpu.
	pub vcpu: VcpuView,
	/// Its vcore.
	pub vcore: VcoreView,
	/// Its VM.
	pub kvm: KvmView,
	/// This CPU.
	pub paca: PacaView,
	/// The current task.
	pub task: TaskView,
	/// The L2 guest that the vcpu is at present, for one of that kind.
	pub nested: Option<NestedView>,
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
unsafe fn set_timebase<C: Cpu>(cpu: &mut C, tb: u64) {
	// SAFETY: the caller's word.
	unsafe { cpu.mtspr::<{ Spr::TBU40.0 }>(tb) };
	if cpu.mftb() & TB_LOW < tb & TB_LOW {
		// SAFETY: the caller's word.
		unsafe { cpu.mtspr::<{ Spr::TBU40.0 }>(tb.wrapping_add(TB_LOW + 1)) };
	}
}

/// Runs a guest once and says by what trap it came out.
///
/// `limit` is the host timebase at which it has to be out, `tb` the host timebase
/// now; on return it is the host timebase again, as the module's text has it.
///
/// # Safety
///
/// The vcpu must be loaded on this CPU, the host radix, the guest not secure and of
/// the profile's MMU; preemption off, interrupts soft-disabled.
pub unsafe fn run<P: Profile, K: Kernel>(
	k: &mut K,
	context: Context,
	limit: u64,
	lpcr: u64,
	tb: &mut u64,
) -> u32 {
	let Context {
		vcpu,
		vcore,
		kvm,
		paca,
		..
	} = context;
	let radix = !matches!(P::KIND, Kind::Hash);
	let nested = match P::KIND {
		Kind::L2 => context.nested,
		_ => None,
	};
	let started = *tb;
	let hdec = limit.wrapping_sub(started);
	if (hdec as i64) < 0 {
		return trap::HV_DECREMENTER;
	}
	// More does not fit, and an exit too early does no harm.
	let hdec = hdec.min(k.decrementer_max());
	vcpu.set_ceded(0);

	let hfscr = vcpu.hfscr();
	let on = Conditions {
		ebb: hfscr & hfscr::EBB != 0,
		tm: has_tm::<P>() && hfscr & hfscr::TM != 0,
		dawr: k.dawr_enabled(),
		tidr: true,
		srr: true,
		always: true,
	};
	// Without the guest's msgsndp, DPDES is what we write.
	let doorbell_wanted = vcpu.doorbell_request() != 0;
	let doorbells = doorbell_wanted || hfscr & hfscr::MSGP != 0;

	let mut facilities = Msr::FP | Msr::VEC | Msr::VSX;
	facilities.set(Msr::TM, on.tm);
	let mut msr = k.mfmsr() & !Msr::EE.bits();
	if Msr::from_bits_retain(msr).contains(facilities) {
		// SAFETY: [EE] off and [RI] as it was; the host is soft-disabled already.
		unsafe { k.mtmsrd_ee_ri(Msr::RI.bits()) };
	} else {
		msr |= facilities.bits();
		// SAFETY: as above, with facilities on that only more code may use.
		unsafe { k.mtmsrd(msr) };
	}
	let irqs = paca.irq_happened() | layout::IRQ_HARD_DIS as u8;
	paca.set_irq_happened(irqs);
	if irqs != layout::IRQ_HARD_DIS as u8 {
		return trap::NONE;
	}

	// All of the host's that has to be read.
	let host_user = User::host(k, on);
	let host_supervisor = Supervisor::host(k, on);
	let host_debug = Debug::host(k, on);
	let host_guest = Guest::host(k, on);
	let host_interrupt = Interrupt::host(k, on);
	let host_hfscr = k.mfspr::<{ Spr::HFSCR.0 }>();
	let host_pidr = k.mfspr::<{ Spr::PIDR.0 }>();
	let host_psscr = if P::tm_assist() {
		k.mfspr::<{ Spr::PSSCR.0 }>()
	} else {
		k.mfspr::<{ Spr::PSSCR_PR.0 }>()
	};
	let host_purr = k.mfspr::<{ Spr::PURR.0 }>();
	let host_spurr = k.mfspr::<{ Spr::SPURR.0 }>();

	if has_tm::<P>() && Msr::from_bits_retain(vcpu.msr()).intersects(Msr::TS) {
		k.restore_tm(vcpu, vcpu.msr());
		// What loads the guest's compares them with the host's. (Where a suspended
		// transaction is faked, as the kernel does on CPUs with assistance, these are there
		// still.)
		// SAFETY: they were read above.
		unsafe {
			host_user.restore_checkpointed(k, &context, on);
			host_supervisor.restore_checkpointed(k, &context, on);
		}
		// Perhaps with other facilities. The transaction is not the host's.
		msr = k.mfmsr() & !Msr::TS.bits();
	} else {
		let host_transactions = Transactions::host(k, on);
		// SAFETY: nobody's, as the group says. [TM] is on if they are switched.
		unsafe { host_transactions.load(k, &context, on) };
	}
	// SAFETY: the facilities are on, and the caller's registers are saved or were
	// declared so.
	unsafe { k.load_vectors(vcpu) };
	// SAFETY: to the end of the way in. From here on only this function, the
	// trampoline and functions that are made for it run until the guest does. What
	// each register does to them is said where it is not nothing.
	unsafe {
		host_user.load(k, &context, on);
		host_supervisor.load(k, &context, on);
		if vcpu.ctrl() & 1 == 0 {
			// The run latch; a hint to the host's other threads.
			k.mtspr::<{ Spr::CTRLT.0 }>(0);
		}

		if vcore.tb_offset() != 0 {
			// Nothing on this path takes the time but by `tb`. TBU40 can't move the low
			// bits; an L1 may have asked for it.
			let offset = vcore.tb_offset() & !TB_LOW;
			*tb = started.wrapping_add(offset);
			// `started` is too old for this: see the module's text on time.
			let now = k.mftb().wrapping_add(offset);
			set_timebase(k, now);
			vcore.set_tb_offset_applied(offset);
		}
		host_guest.load(k, &context, on);
		k.mtspr::<{ Spr::PURR.0 }>(vcpu.purr());
		k.mtspr::<{ Spr::SPURR.0 }>(vcpu.spurr());
		if vcore.pcr() != 0 {
			// Only problem state is restricted by it.
			k.mtspr::<{ Spr::PCR.0 }>(vcore.pcr() | PCR_MASK);
		}
		if doorbell_wanted {
			vcpu.set_doorbell_request(0);
			// Taken when the guest's [EE] is on; the host's is off.
			k.mtspr::<{ Spr::DPDES.0 }>(1);
		}
		host_debug.load(k, &context, on);
		if P::tm_assist() {
			let fake_suspend = u64::from(paca.fake_suspend()) << PSSCR_FAKE_SUSPEND_SHIFT;
			k.mtspr::<{ Spr::PSSCR.0 }>(vcpu.psscr() | PSSCR_EC | fake_suspend);
		} else if vcpu.psscr() != host_psscr {
			k.mtspr::<{ Spr::PSSCR_PR.0 }>(vcpu.psscr());
		}
		// Facilities of [HV]=0 only.
		k.mtspr::<{ Spr::HFSCR.0 }>(vcpu.hfscr());
		// The way into the guest. Interrupts that use these are disabled.
		k.mtspr::<{ Spr::HSRR0.0 }>(vcpu.nip());
		k.mtspr::<{ Spr::HSRR1.0 }>(vcpu.msr() & !Msr::HV.bits() | Msr::ME.bits());

		paca.set_in_guest(layout::GUEST_MODE_P9_RS as u8);

		if !radix {
			// See the module's text on hash guests. [RI] too, for what comes with the MMU
			// off is not survived.
			let now = k.mfmsr();
			k.mtmsrd(now & !(Msr::IR | Msr::DR | Msr::RI).bits());
		}
		// See the module's text on barriers.
		k.hwsync();
		k.isync();
		k.mtspr::<{ Spr::LPIDR.0 }>(match nested {
			Some(nested) => nested.shadow_lpid().into(),
			None => kvm.lpid(),
		});
		k.mtspr::<{ Spr::LPCR.0 }>(lpcr);
		k.mtspr::<{ Spr::PIDR.0 }>(vcpu.pid().into());
		if !radix {
			load_slb(k, vcpu);
		}
		// By LPIDR, so not earlier.
		k.flush_tlb_if_needed(&context, nested);
		// HDEC only counts as an exception once LPCR[HDICE] is on, so not earlier.
		k.mtspr::<{ Spr::HDEC.0 }>(hdec);
		k.mtspr::<{ Spr::DEC.0 }>(vcpu.dec_expires().wrapping_sub(*tb));
	}

	let out = loop {
		// SAFETY: as above. They are written last because a machine check would
		// overwrite them.
		unsafe { host_interrupt.load(k, &context, on) };
		k.pmu_to_guest(vcpu);
		k.time_in_guest(vcpu);
		// SAFETY: everything is loaded.
		unsafe { k.run_guest(vcpu) };
		k.time_guest_exit(vcpu);
		k.pmu_to_host(vcpu);

		let out = leave(k, &context, on);
		if has_tm::<P>()
			&& out.trap == trap::HV_SOFTPATCH
			&& paca.fake_suspend() == 0
			&& vcpu.msr() & Msr::TS_S.bits() != 0
			&& k.tm_emulation_early(vcpu)
		{
			// Emulated: straight back, with NIA and MSR as the emulation left them.
			// SAFETY: as on the way in.
			unsafe {
				k.mtspr::<{ Spr::HSRR0.0 }>(vcpu.nip());
				k.mtspr::<{ Spr::HSRR1.0 }>(vcpu.msr());
			}
			continue;
		}
		break out;
	};

	// All of the guest's that has to be read.
	let purr = k.mfspr::<{ Spr::PURR.0 }>();
	let spurr = k.mfspr::<{ Spr::SPURR.0 }>();
	User::save(k, &context, on);
	Supervisor::save(k, &context, on);
	Guest::save(k, &context, on);
	vcpu.set_ctrl(k.mfspr::<{ Spr::CTRLF.0 }>() as u32);
	vcpu.set_ic(k.mfspr::<{ Spr::IC.0 }>());
	vcpu.set_pid(k.mfspr::<{ Spr::PIDR.0 }>() as u32);
	vcpu.set_psscr(k.mfspr::<{ Spr::PSSCR_PR.0 }>());
	let doorbell = doorbells && k.mfspr::<{ Spr::DPDES.0 }>() != 0;
	let hdec_left = k.mfspr::<{ Spr::HDEC.0 }>();
	let mut dec = k.mfspr::<{ Spr::DEC.0 }>();

	// See the module's text on time.
	let applied = vcore.tb_offset_applied();
	*tb = if out.timebase_changed {
		k.mftb().wrapping_sub(applied)
	} else {
		started.wrapping_add(hdec.wrapping_sub(hdec_left))
	};
	if lpcr & layout::HV_LPCR_LD as u64 == 0 {
		// Without the large decrementer it has 32 bits.
		dec = dec as i32 as u64;
	}
	vcpu.set_dec_expires(dec.wrapping_add(*tb).wrapping_add(applied));
	if doorbell {
		vcpu.set_doorbell_request(1);
	}
	let host_purr = host_purr.wrapping_add(purr.wrapping_sub(vcpu.purr()));
	let host_spurr = host_spurr.wrapping_add(spurr.wrapping_sub(vcpu.spurr()));
	vcpu.set_purr(purr);
	vcpu.set_spurr(spurr);

	// An interrupt suspends a transaction, and mtmsrd must not change that: with another
	// [TS] than there is it would be a program interrupt.
	let active = has_tm::<P>() && Msr::from_bits_retain(vcpu.msr()).intersects(Msr::TS);
	if active {
		msr |= Msr::TS_S.bits();
	}
	// See the module's text on enabling interrupts.
	let late = radix && !active && out.by_itself && {
		Msr::from_bits_retain(k.mfmsr()).contains(Msr::IR | Msr::DR)
	};

	// SAFETY: to the end of the way out. Each value is the host's own.
	unsafe {
		if applied != 0 {
			let now = k.mftb().wrapping_sub(applied);
			set_timebase(k, now);
			vcore.set_tb_offset_applied(0);
		}

		if radix {
			// A radix guest may have put entries into the first four (it runs with
			// LPCR[UPRT], ISA 5.9.3.2): leave it no way to watch the next. slbmte, as
			// slbia would drop cached translations too.
			k.slb_clear::<0>();
			k.slb_clear::<1>();
			k.slb_clear::<2>();
			k.slb_clear::<3>();
		} else {
			save_slb(k, vcpu);
			k.slb_clear_all();
		}
		// See the module's text on barriers.
		k.hwsync();
		k.mtspr::<{ Spr::PIDR.0 }>(host_pidr);
		k.mtspr::<{ Spr::LPIDR.0 }>(kvm.host_lpid().into());
		k.mtspr::<{ Spr::LPCR.0 }>(kvm.host_lpcr());

		if !late {
			k.mtmsrd(msr);
			if active {
				k.store_vectors(vcpu);
				k.save_tm(vcpu, vcpu.msr());
				// They hold the checkpoint's values now, not those that were saved.
				host_user.restore_checkpointed(k, &context, on);
				host_supervisor.restore_checkpointed(k, &context, on);
			} else {
				store_facilities::<P, _>(k, &context, on);
			}
		}

		k.mtspr::<{ Spr::PURR.0 }>(host_purr);
		k.mtspr::<{ Spr::SPURR.0 }>(host_spurr);
		if P::tm_assist() {
			// [FAKE_SUSPEND] was needed until the transaction was saved.
			let fake_suspend = u64::from(paca.fake_suspend()) << PSSCR_FAKE_SUSPEND_SHIFT;
			k.mtspr::<{ Spr::PSSCR.0 }>(host_psscr | fake_suspend);
		}
		k.mtspr::<{ Spr::HFSCR.0 }>(host_hfscr);
		host_debug.restore(k, &context, on);
		if doorbell {
			k.mtspr::<{ Spr::DPDES.0 }>(0);
		}
		if vcore.pcr() != 0 {
			k.mtspr::<{ Spr::PCR.0 }>(PCR_MASK);
		}
		// At least as large as DEC, so that it never is what ends a host's sleep.
		k.mtspr::<{ Spr::HDEC.0 }>(k.decrementer_max());
		k.rearm_host_dec(*tb);

		host_user.restore(k, &context, on);
		host_supervisor.restore(k, &context, on);
		if vcpu.ctrl() & 1 == 0 {
			k.mtspr::<{ Spr::CTRLT.0 }>(1);
		}
		if on.ebb {
			still_uses::<P>(
				&context,
				hfscr::EBB,
				VcpuView::load_ebb,
				VcpuView::set_load_ebb,
			);
		}
	}

	paca.set_in_guest(layout::GUEST_MODE_NONE as u8);
	if late {
		if paca.irq_happened() == layout::IRQ_HARD_DIS as u8 && vcpu.xive_pushed() == 0 {
			paca.set_irq_happened(0);
			msr |= Msr::EE.bits();
		}
		// SAFETY: the host's MSR; all else is the host's, too, but for registers of
		// facilities that nobody uses before they are saved here.
		unsafe { k.mtmsrd(msr) };
		store_facilities::<P, _>(k, &context, on);
	}
	out.trap
}

/// Saves what can only be read while MSR has the host's facilities on, if there is no
/// transaction.
#[inline(always)]
fn store_facilities<P: Profile, K: Kernel>(k: &mut K, context: &Context, on: Conditions) {
	k.store_vectors(context.vcpu);
	if on.tm {
		Transactions::save(k, context, on);
		still_uses::<P>(context, hfscr::TM, VcpuView::load_tm, VcpuView::set_load_tm);
	}
}

/// Counts that a facility was switched, and now and then takes it away, to see
/// whether the guest still uses it. What an L2 has is its L1's decision.
#[inline(always)]
fn still_uses<P: Profile>(
	context: &Context,
	facility: u64,
	count: fn(VcpuView) -> u8,
	set_count: fn(VcpuView, u8),
) {
	let vcpu = context.vcpu;
	if P::KIND == Kind::L2 {
		return;
	}
	let count = count(vcpu).wrapping_add(1);
	set_count(vcpu, count);
	if count == 0 {
		vcpu.set_hfscr(vcpu.hfscr() & !facility);
	}
}

/// Loads a hash guest's SLB.
///
/// # Safety
///
/// The MMU must be off, the SLB clear, LPCR the guest's.
unsafe fn load_slb<K: Kernel>(k: &mut K, vcpu: VcpuView) {
	for index in 0..vcpu.slb_max() {
		// The array has room for more than any CPU has; should `slb_max` be wrong, the
		// guest's loss.
		let Some(entry) = vcpu.slb(index) else { break };
		// SAFETY: nothing translates by it until the guest runs.
		unsafe { k.slb_write(entry.orige(), entry.origv()) };
	}
}

/// Saves a hash guest's SLB: the valid entries, closely packed, each with its index.
fn save_slb<K: Kernel>(k: &mut K, vcpu: VcpuView) {
	let mut saved = 0;
	for index in 0..vcpu.slb_nr() {
		let esid = k.slb_esid(index.into());
		if esid & layout::SLB_VALID as u64 == 0 {
			continue;
		}
		let Some(entry) = vcpu.slb(saved) else { break };
		entry.set_orige(esid | u64::from(index));
		entry.set_origv(k.slb_vsid(index.into()));
		saved += 1;
	}
	vcpu.set_slb_max(saved);
}

/// How the guest came out.
#[derive(Clone, Copy)]
struct Out {
	/// The trap number.
	trap: u32,
	/// By what the guest did: no interrupt is pending or recorded for that.
	by_itself: bool,
	/// The timebase may have been set meanwhile.
	timebase_changed: bool,
}

/// Takes what the interrupt left behind before another can overwrite it, and lets
/// those have a look who must do so while the guest's state is loaded.
#[inline(always)]
fn leave<K: Kernel>(k: &mut K, context: &Context, on: Conditions) -> Out {
	let Context { vcpu, paca, .. } = *context;
	// Interrupts with HSRRs are told by bit 1, which only other paths use.
	let trap = paca.trap() as u32 & !2;

	// `sc` leaves in SRR0 and SRR1 what is NIA and MSR now.
	let on = Conditions {
		srr: trap != trap::SYSCALL,
		..on
	};
	Interrupt::save(k, context, on);
	if !on.srr {
		vcpu.set_srr0(vcpu.nip());
		vcpu.set_srr1(vcpu.msr());
	}

	let saved = k.exception_area(trap);
	vcpu.set_gpr9(saved.r9());
	vcpu.set_gpr10(saved.r10());
	vcpu.set_gpr11(saved.r11());
	vcpu.set_gpr12(saved.r12());
	vcpu.set_gpr13(saved.r13());
	vcpu.set_ppr(saved.ppr());
	vcpu.set_cfar(saved.cfar());
	vcpu.set_ctr(saved.ctr());
	vcpu.set_last_inst(INST_FETCH_FAILED);

	let mut out = Out {
		trap,
		by_itself: false,
		timebase_changed: false,
	};
	match trap {
		trap::SYSCALL => out.by_itself = true,
		trap::H_DATA_STORAGE => {
			out.by_itself = true;
			vcpu.set_fault_dar(saved.dar());
			vcpu.set_fault_dsisr(saved.dsisr());
			vcpu.set_fault_gpa(k.mfspr::<{ Spr::ASDR.0 }>());
		}
		trap::H_INST_STORAGE => {
			out.by_itself = true;
			vcpu.set_fault_gpa(k.mfspr::<{ Spr::ASDR.0 }>());
		}
		trap::H_EMUL_ASSIST => {
			out.by_itself = true;
			vcpu.set_emul_inst(k.mfspr::<{ Spr::HEIR.0 }>());
		}
		trap::HV_SOFTPATCH => vcpu.set_emul_inst(k.mfspr::<{ Spr::HEIR.0 }>()),
		trap::H_FAC_UNAVAIL => {
			out.by_itself = true;
			vcpu.set_hfscr(k.mfspr::<{ Spr::HFSCR.0 }>());
		}
		trap::HMI => {
			out.timebase_changed = true;
			k.hmi(vcpu);
		}
		trap::MACHINE_CHECK => {
			out.timebase_changed = true;
			vcpu.set_fault_dar(saved.dar());
			vcpu.set_fault_dsisr(saved.dsisr());
			k.machine_check(vcpu);
		}
		trap::SYSTEM_RESET => out.timebase_changed = true,
		_ => {}
	}
	out
}
