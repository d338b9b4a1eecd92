// SPDX-License-Identifier: GPL-2.0-only
//! Host to guest.

use powerpc::{Msr, Spr};

use super::facilities::has_tm;
use super::serve::Run;
use super::{Doorbell, PCR_MASK, PSSCR_EC, PSSCR_FAKE_SUSPEND_SHIFT, slb};
use crate::context::{Context, GuestKind, Kernel, Profile};
use crate::layout::kernel as layout;
use crate::light::Registers;
use crate::sprs::{Conditions, GuestOnly, Interrupt, Supervisor, Transactions, User};
use crate::views::VcpuView;

/// The host's values that only registers hold.
pub(super) struct Host {
	pub(super) user: User,
	pub(super) supervisor: Supervisor,
	guest: GuestOnly,
	interrupt: Interrupt,
	hfscr: u64,
	pub(super) pidr: u64,
	psscr: u64,
}

/// Of them those that say what problem state may do, and how the CPU stops.
#[derive(Clone, Copy)]
pub(super) struct Facilities {
	pub(super) hfscr: u64,
	pub(super) psscr: u64,
}

impl Host {
	/// See [`Facilities`].
	#[inline(always)]
	pub(super) fn facilities(&self) -> Facilities {
		Facilities {
			hfscr: self.hfscr,
			psscr: self.psscr,
		}
	}

	/// Reads them all.
	#[inline(always)]
	pub(super) fn read<P: Profile, K: Kernel>(k: &mut K, when: Conditions) -> Self {
		Self {
			user: User::host(k, when),
			supervisor: Supervisor::host(k, when),
			guest: GuestOnly::host(k, when),
			interrupt: Interrupt::host(k, when),
			hfscr: k.mfspr::<{ Spr::HFSCR.0 }>(),
			pidr: k.mfspr::<{ Spr::PIDR.0 }>(),
			psscr: if P::tm_assist() {
				k.mfspr::<{ Spr::PSSCR.0 }>()
			} else {
				k.mfspr::<{ Spr::PSSCR_PR.0 }>()
			},
		}
	}

	/// What a light exit needs of them.
	#[inline(always)]
	pub(super) fn light(&self, lpcr: u64) -> Registers {
		Registers {
			lpcr,
			pidr: self.pidr,
			amr: self.supervisor.amr,
			iamr: self.supervisor.iamr,
		}
	}

	/// Loads the guest's registers that problem state and accesses to user memory depend on, and
	/// the run latch.
	///
	/// # Safety
	///
	/// The guest must run next, but for code that does not depend on these registers.
	#[inline(always)]
	pub(super) unsafe fn load_user_and_supervisor<K: Kernel>(
		&self,
		k: &mut K,
		context: &Context,
		when: Conditions,
	) {
		// SAFETY: `self` is what the registers hold; none of this module accesses user memory.
		unsafe {
			self.user.load(k, context, when);
			self.supervisor.load(k, context, when);
			if context.vcpu.ctrl() & 1 == 0 {
				// The run latch; a hint to the host's other threads.
				k.mtspr::<{ Spr::CTRLT.0 }>(0);
			}
		}
	}

	/// Loads the registers that interrupts overwrite.
	///
	/// # Safety
	///
	/// The guest must run next.
	#[inline(always)]
	pub(super) unsafe fn load_interrupt<K: Kernel>(
		&self,
		k: &mut K,
		context: &Context,
		when: Conditions,
	) {
		// SAFETY: an interrupt that the host survives before the guest runs has the trampoline load
		// them once more: see `kvm_p9_interrupted`.
		unsafe { self.interrupt.load(k, context, when) };
	}
}

/// Hard-disables interrupts, enables the facilities that the switch uses, and returns the MSR
/// that the host has to get back.
#[inline(always)]
pub(super) fn disable_interrupts<K: Kernel>(k: &mut K, when: Conditions) -> u64 {
	let mut facilities = Msr::FP | Msr::VEC | Msr::VSX;
	facilities.set(Msr::TM, when.tm);
	let mut msr = k.mfmsr() & !Msr::EE.bits();
	if Msr::from_bits_retain(msr).contains(facilities) {
		// SAFETY: [EE] off and [RI] as it was; the host is soft-disabled already.
		unsafe { k.mtmsrd_ee_ri(Msr::RI.bits()) };
	} else {
		msr |= facilities.bits();
		// SAFETY: [EE] off, the rest as it was, with facilities on that only more code may use.
		unsafe { k.mtmsrd(msr) };
	}
	msr
}

/// Records that interrupts are hard-disabled, and says whether one was recorded before.
#[inline(always)]
pub(super) fn interrupt_is_pending(context: &Context) -> bool {
	let irqs = context.paca.irq_happened() | layout::IRQ_HARD_DIS as u8;
	context.paca.set_irq_happened(irqs);
	irqs != layout::IRQ_HARD_DIS as u8
}

/// Loads the vector registers, and the registers of transactional memory or the transaction.
///
/// # Safety
///
/// The facilities must be on in MSR, the task's vector registers saved, and the guest must run next.
#[inline(always)]
pub(super) unsafe fn load_facilities<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	host: &Host,
	when: Conditions,
	msr: &mut u64,
) {
	let vcpu = context.vcpu;
	if has_tm::<P>() && Msr::from_bits_retain(vcpu.msr()).intersects(Msr::TS) {
		k.restore_tm(vcpu, vcpu.msr());
		// What loads the guest's compares them with the host's. (Where a suspended
		// transaction is faked, as the kernel does on CPUs with assistance, these are there
		// still.)
		// SAFETY: `host` was read from these registers.
		unsafe {
			host.user.restore_checkpointed(k, context, when);
			host.supervisor.restore_checkpointed(k, context, when);
		}
		// Perhaps with other facilities. The transaction is not the host's.
		*msr = k.mfmsr() & !Msr::TS.bits();
	} else {
		let transactions = Transactions::host(k, when);
		// SAFETY: the host has no use for them, and [TM] is on if they are switched.
		unsafe { transactions.load(k, context, when) };
	}
	// SAFETY: the facilities are on, and the caller's registers are saved or were
	// declared so.
	unsafe { k.load_vectors(vcpu) };
}

/// Loads the guest's SPRs that host code does not depend on, up to the mode byte.
///
/// # Safety
///
/// The guest must run next. What each register does to the code until then is said where it is not
/// nothing.
#[inline(always)]
pub(super) unsafe fn load_guest_sprs<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	host: &Host,
	run: &Run,
	when: Conditions,
) {
	let Context {
		vcpu, vcore, paca, ..
	} = *context;
	// SAFETY: the guest runs next, and none of the code before it depends on these registers.
	unsafe {
		host.guest.load(k, context, when);
		k.mtspr::<{ Spr::PURR.0 }>(vcpu.purr());
		k.mtspr::<{ Spr::SPURR.0 }>(vcpu.spurr());
		if vcore.pcr() != 0 {
			// Only problem state is restricted by it.
			k.mtspr::<{ Spr::PCR.0 }>(vcore.pcr() | PCR_MASK);
		}
		if run.doorbell.requested {
			Doorbell::request::<P>(vcpu, 0);
			// Taken when the guest's [EE] is on; the host's is off.
			k.mtspr::<{ Spr::DPDES.0 }>(1);
		}
		run.debug.load(k, context, when);
		if P::tm_assist() {
			let fake_suspend = u64::from(paca.fake_suspend()) << PSSCR_FAKE_SUSPEND_SHIFT;
			k.mtspr::<{ Spr::PSSCR.0 }>(vcpu.psscr() | PSSCR_EC | fake_suspend);
		} else if vcpu.psscr() != host.psscr {
			k.mtspr::<{ Spr::PSSCR_PR.0 }>(vcpu.psscr());
		}
		load_hfscr(k, vcpu);
		load_way_in(k, vcpu);
	}
	paca.set_in_guest(layout::GUEST_MODE_P9_RS as u8);
}

/// Loads HFSCR. The kernel takes \[PM\] out of the vcpu's value when it switches the PMU to the host
/// for a guest that does not announce the PMU. With a stale \[PM\] such a guest would read and write
/// the host's PMU. So load HFSCR on each way into the guest after [`Kernel::pmu_to_host`].
///
/// # Safety
///
/// The guest must run next.
#[inline(always)]
pub(super) unsafe fn load_hfscr<K: Kernel>(k: &mut K, vcpu: VcpuView) {
	// SAFETY: HFSCR restricts facilities of [HV]=0 only.
	unsafe { k.mtspr::<{ Spr::HFSCR.0 }>(vcpu.hfscr()) };
}

/// Loads the way into the guest.
///
/// # Safety
///
/// The guest must run next.
#[inline(always)]
pub(super) unsafe fn load_way_in<K: Kernel>(k: &mut K, vcpu: VcpuView) {
	// SAFETY: interrupts that use these are disabled.
	unsafe {
		k.mtspr::<{ Spr::HSRR0.0 }>(vcpu.nip());
		k.mtspr::<{ Spr::HSRR1.0 }>(vcpu.msr() & !Msr::HV.bits() | Msr::ME.bits());
	}
}

/// Loads the way into the guest again, after a light exit.
///
/// # Safety
///
/// The guest must run next, and its SRR0 and SRR1 must be loaded after this.
#[inline(always)]
pub(super) unsafe fn load_way_back<K: Kernel>(k: &mut K, vcpu: VcpuView) {
	let msr = vcpu.msr() & !Msr::HV.bits() | Msr::ME.bits();
	// SAFETY: interrupts that use these are disabled.
	unsafe { k.load_way_in(vcpu.nip(), msr) };
}

/// Switches the MMU context to the guest's, and flushes translations that another CPU left to this
/// one.
///
/// # Safety
///
/// The guest must run next. A hash guest's code until then runs with the MMU off.
#[inline(always)]
pub(super) unsafe fn switch_mmu_context<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	lpcr: u64,
) {
	let Context { vcpu, kvm, .. } = *context;
	let radix = !matches!(P::KIND, GuestKind::Hash);
	let nested = match P::KIND {
		GuestKind::L2 => context.nested,
		_ => None,
	};
	// SAFETY: what is accessed from here on is in quadrant 3, or has the MMU off and is in the
	// linear map.
	unsafe {
		if !radix {
			turn_mmu_off(k);
		}
		// See "Barriers" in docs/entry-exit.md.
		k.hwsync();
		k.isync();
		k.mtspr::<{ Spr::LPIDR.0 }>(match nested {
			Some(nested) => nested.shadow_lpid().into(),
			None => kvm.lpid(),
		});
		k.mtspr::<{ Spr::LPCR.0 }>(lpcr);
		k.mtspr::<{ Spr::PIDR.0 }>(vcpu.pid().into());
		if !radix {
			slb::load(k, vcpu);
		}
	}
	// By LPIDR, so not earlier.
	k.flush_tlb_if_needed(context, nested);
}

/// Turns the MMU off for a hash guest: see "Hash guests" in docs/entry-exit.md. \[RI\] stays as it is. The
/// kernel's own handlers turn the MMU on; where the context is the guest's, see `kvm_p9_interrupted`.
///
/// # Safety
///
/// What is accessed from here on must be in the linear map.
#[inline(always)]
pub(super) unsafe fn turn_mmu_off<K: Kernel>(k: &mut K) {
	let now = k.mfmsr();
	// SAFETY: the kernel's text and stack are at the same address with translation off.
	unsafe { k.mtmsrd(now & !(Msr::IR | Msr::DR).bits()) };
}

/// DEC for a time of expiry. A decrementer of 32 bits can't hold every distance: one that
/// expired long ago must stay expired, and one that expires in the far future must not
/// expire now. An expired one keeps 2^30 ticks until its sign changes; every exit and entry
/// before then sets it back to that.
#[inline(always)]
fn guest_dec(expires: u64, tb: u64, lpcr: u64) -> u64 {
	let dec = expires.wrapping_sub(tb);
	if lpcr & layout::HV_LPCR_LD as u64 != 0 {
		return dec;
	}
	(dec as i64).clamp(-(1 << 30), i32::MAX.into()) as u64
}

/// Loads HDEC and DEC, one after the other, for a guest timebase of `tb`.
///
/// # Safety
///
/// The guest must run next, with its LPCR loaded.
#[inline(always)]
pub(super) unsafe fn load_decrementers<K: Kernel>(
	k: &mut K,
	context: &Context,
	hdec: u64,
	tb: u64,
	lpcr: u64,
) {
	// SAFETY: HDEC only counts as an exception once LPCR[HDICE] is on, which it is; interrupts are
	// hard-disabled until the guest runs.
	unsafe {
		k.mtspr::<{ Spr::HDEC.0 }>(hdec);
		k.mtspr::<{ Spr::DEC.0 }>(guest_dec(context.vcpu.dec_expires(), tb, lpcr));
	}
}
