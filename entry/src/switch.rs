// SPDX-License-Identifier: GPL-2.0-only
//! The full switch: host to guest and back.
//!
//! This module is about order. On entry:
//!
//! 1. Hard-disable interrupts, and enable the facilities in MSR that the switch uses. Return
//!    without an entry if an interrupt is recorded already.
//! 2. Read all that must be read of the host, before anything is written.
//! 3. Load the guest's SPRs. Those that host code does not depend on come first.
//! 4. Set the mode byte: a guest's state is loaded. From here on `kvm_p9_interrupted` decides
//!    whether the host survives a machine check or system reset. No other interrupt can arrive.
//! 5. Load the MMU context, HDEC and DEC, then the registers that interrupts overwrite.
//! 6. The trampoline loads the GPRs and enters the guest.
//!
//! On exit, the same backwards, with all reads in one block before the first write.
//!
//! `docs/entry-exit.md` lists each step with its function, and explains the barriers, hash
//! guests, time, and how the exit enables interrupts. Comments name its sections.

mod enter;
mod exit;
mod facilities;
mod flush;
mod serve;
mod slb;
mod storage;
mod timebase;

use crate::layout::kernel as layout;
use crate::sprs::Conditions;
use crate::views::VcpuView;

pub use crate::context::{Context, GuestKind, Kernel, Profile};
pub use exit::Service;
pub use flush::Loaded;
pub(crate) use timebase::set as set_timebase;

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

/// HFSCR\[IC\]: the number of the facility that a guest wanted and may not use.
const HFSCR_CAUSE_SHIFT: u32 = 56;

/// PCR bits that ISA 3.0 reserves and Linux keeps set.
pub const PCR_MASK: u64 = layout::PCR_RESERVED as u64;

/// PSSCR[EC]: wake-up events end a stop.
const PSSCR_EC: u64 = 1 << 20;

/// PSSCR[FAKE_SUSPEND], a POWER9 facility for its transactional memory bugs.
const PSSCR_FAKE_SUSPEND_SHIFT: u32 = 10;

/// No instruction: it has to be fetched (`KVM_INST_FETCH_FAILED`).
const INST_FETCH_FAILED: u64 = layout::INST_FETCH_FAILED as u64;

/// What this entry switches, beyond what every entry does.
#[inline(always)]
fn conditions<P: Profile, K: Kernel>(k: &K, hfscr: u64) -> Conditions {
	Conditions {
		ebb: hfscr & hfscr::EBB != 0,
		tm: facilities::has_tm::<P>() && hfscr & hfscr::TM != 0,
		dawr: k.dawr_enabled(),
	}
}

/// The vcpu's doorbell (DPDES).
#[derive(Clone, Copy)]
struct Doorbell {
	/// Another vcpu has asked for one.
	requested: bool,
	/// The register can hold other than what this code writes: the guest sends doorbells
	/// without the hypervisor (HFSCR\[MSGP\]), or may not have taken the one it got.
	readable: bool,
}

impl Doorbell {
	#[inline(always)]
	fn of<P: Profile>(context: &Context, hfscr: u64) -> Self {
		let requested = match P::KIND {
			GuestKind::L2 => context.vcpu.nested_doorbell_request() != 0,
			GuestKind::Radix | GuestKind::Hash => context.vcpu.doorbell_request() != 0,
		};
		Self {
			requested,
			readable: requested || hfscr & hfscr::MSGP != 0,
		}
	}

	/// Records whether the guest has to get a doorbell. An L1 may get one from another of its
	/// vcpus while its L2 runs, so an L2 has a field of its own.
	#[inline(always)]
	fn request<P: Profile>(vcpu: VcpuView, request: u8) {
		match P::KIND {
			GuestKind::L2 => vcpu.set_nested_doorbell_request(request),
			GuestKind::Radix | GuestKind::Hash => vcpu.set_doorbell_request(request),
		}
	}
}

/// Runs a guest once and returns the trap that ended the run.
///
/// `limit` is the host timebase at which the guest has to be out, and `tb` the host timebase
/// now. On return `tb` is the host timebase again: see "Time" in `docs/entry-exit.md`.
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
	let hdec = limit.wrapping_sub(*tb);
	if (hdec as i64) < 0 {
		return trap::HV_DECREMENTER;
	}
	// More does not fit, and an exit too early does no harm.
	let hdec = hdec.min(k.decrementer_max());
	context.vcpu.set_ceded(0);

	let hfscr = context.vcpu.hfscr();
	let when = conditions::<P, _>(k, hfscr);
	let doorbell = Doorbell::of::<P>(&context, hfscr);
	let mut msr = enter::disable_interrupts(k, when);
	if enter::interrupt_is_pending(&context) {
		return trap::NONE;
	}
	// All of the host's that has to be read comes before the first write.
	let host = enter::Host::read::<P, _>(k, when);
	let mut run = serve::Run::new(k, when, *tb, hdec, doorbell);
	if P::LIGHT {
		k.entered();
		k.set_light(context.vcpu, host.light(lpcr), limit);
	}
	// SAFETY: to the end of the block, the guest runs next. Until then only this module, the
	// trampoline and functions that are made for it run, on a CPU that the caller has set up.
	unsafe {
		enter::load_facilities::<P, _>(k, &context, &host, when, &mut msr);
		host.load_user_and_supervisor(k, &context, when);
		timebase::enter(k, &context, run.started, tb);
		enter::load_guest_sprs::<P, _>(k, &context, &host, &run, when);
		enter::switch_mmu_context::<P, _>(k, &context, lpcr);
		enter::load_decrementers(k, &context, run.hdec, *tb, lpcr);
	}
	let out = loop {
		// SAFETY: all else is loaded. These registers come last because a machine check would
		// overwrite them.
		unsafe { host.load_interrupt(k, &context, when) };
		k.pmu_to_guest(context.vcpu);
		k.time_in_guest(context.vcpu);
		// SAFETY: everything is loaded.
		unsafe { k.run_guest(context.vcpu) };
		k.time_guest_exit(context.vcpu);
		let found = match P::KIND {
			// SAFETY: a hash guest has just left the trampoline.
			GuestKind::Hash if P::LIGHT => match unsafe { storage::answer(k, context, lpcr) } {
				storage::Ended::Answered => continue,
				storage::Ended::ByDevice => exit::may_store_to_device(k, context.vcpu),
				storage::Ended::Otherwise => exit::find_hash_job(k, &context),
			},
			GuestKind::Radix if P::LIGHT => exit::find_job(k, &context),
			GuestKind::Radix | GuestKind::Hash | GuestKind::L2 => exit::Found::Nothing,
		};
		if P::LIGHT
			&& let exit::Found::Job(job) = found
		{
			// SAFETY: the guest has just left the trampoline: a radix guest with the MMU on, a
			// hash guest with it off.
			let out = unsafe { exit::leave_lightly::<P, _>(k, context, job) };
			let Some(out) = out else { continue };
			// Nothing, since the PMU is neither's. But the guest may say otherwise by now.
			k.pmu_to_host(context.vcpu);
			break out;
		}
		k.pmu_to_host(context.vcpu);
		if P::LIGHT
			&& let Some(service) = exit::find_service::<P, _>(k, &context, found)
		{
			// SAFETY: the guest has just left the trampoline: a radix guest with the MMU on, a
			// hash guest with it off. The PMU is the host's.
			let left = unsafe {
				let facilities = host.facilities();
				serve::serve::<P, _>(k, &context, facilities, when, &mut run, tb, service)
			};
			let Some(trap) = left else { continue };
			return trap;
		}

		let out = exit::save_interrupt_state(k, &context);
		if facilities::has_tm::<P>()
			&& out.trap == trap::HV_SOFTPATCH
			&& context.paca.fake_suspend() == 0
			&& context.vcpu.msr() & powerpc::Msr::TS_S.bits() != 0
			&& k.tm_emulation_early(context.vcpu)
		{
			// SAFETY: as on the way in.
			unsafe { exit::go_straight_on(k, &context) };
			continue;
		}
		break out;
	};

	// All of the guest's that has to be read comes before the first write.
	let guest = exit::GuestSaved::save(k, &context, when, run.doorbell);
	let times = exit::account::<P, _>(k, &context, &guest, &run, out, lpcr);
	*tb = times.tb;
	// These two decisions have to be here. LLVM optimises a function before it inlines it, and
	// with them in a function together with what depends on them, conditions are kept on the stack.
	let transaction = exit::suspends_transaction::<P>(&context, &mut msr);
	let msr_last = exit::may_restore_msr_last::<P, _>(k, transaction, out);
	// SAFETY: each value is the host's own, read by `Host::read` or kept by the kernel.
	unsafe {
		timebase::leave(k, &context, times.applied);
		exit::restore_mmu_context::<P, _>(k, &context, &host);
		if !msr_last {
			k.mtmsrd(msr);
			if transaction {
				exit::save_transaction(k, &context, &host, when);
			} else {
				facilities::store::<P, _>(k, &context, when);
			}
		}
		exit::restore_sprs::<P, _>(k, &context, &host, &run, when, guest.doorbell, times);
	}
	exit::age_ebb::<P>(&context, when);
	context.paca.set_in_guest(layout::GUEST_MODE_NONE as u8);
	if msr_last {
		// SAFETY: all but the facilities' registers is the host's.
		unsafe { exit::restore_msr_last(k, &context, msr) };
		facilities::store::<P, _>(k, &context, when);
	}
	out.trap
}
