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

mod enter;
mod exit;
mod facilities;
mod slb;
mod timebase;

use crate::layout::kernel as layout;
use crate::sprs::Conditions;

pub use crate::context::{Context, Kernel, Kind, Profile};

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

/// No instruction: it has to be fetched (`KVM_INST_FETCH_FAILED`).
const INST_FETCH_FAILED: u64 = layout::INST_FETCH_FAILED as u64;

/// What this entry switches, beyond what every entry does.
#[inline(always)]
fn conditions<P: Profile, K: Kernel>(k: &K, hfscr: u64) -> Conditions {
	Conditions {
		ebb: hfscr & hfscr::EBB != 0,
		tm: facilities::has_tm::<P>() && hfscr & hfscr::TM != 0,
		dawr: k.dawr_enabled(),
		srr: true,
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
	fn of(context: &Context, hfscr: u64) -> Self {
		let requested = context.vcpu.doorbell_request() != 0;
		Self {
			requested,
			readable: requested || hfscr & hfscr::MSGP != 0,
		}
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
	let started = *tb;
	let hdec = limit.wrapping_sub(started);
	if (hdec as i64) < 0 {
		return trap::HV_DECREMENTER;
	}
	// More does not fit, and an exit too early does no harm.
	let hdec = hdec.min(k.decrementer_max());
	context.vcpu.set_ceded(0);

	let hfscr = context.vcpu.hfscr();
	let when = conditions::<P, _>(k, hfscr);
	let doorbell = Doorbell::of(&context, hfscr);
	let mut msr = enter::disable_interrupts(k, when);
	if enter::interrupt_is_pending(&context) {
		return trap::NONE;
	}
	// All of the host's that has to be read comes before the first write.
	let host = enter::Host::read::<P, _>(k, when);
	// SAFETY: to the end of the block, the guest runs next. Until then only this module, the
	// trampoline and functions that are made for it run, on a CPU that the caller has set up.
	unsafe {
		enter::load_facilities::<P, _>(k, &context, &host, when, &mut msr);
		host.load_user_and_supervisor(k, &context, when);
		timebase::enter(k, &context, started, tb);
		enter::load_guest_sprs::<P, _>(k, &context, &host, when, doorbell);
		enter::switch_mmu_context::<P, _>(k, &context, lpcr);
		enter::load_decrementers(k, &context, hdec, *tb);
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
		k.pmu_to_host(context.vcpu);

		let out = exit::save_interrupt_state(k, &context, when);
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
	let guest = exit::Guest::save(k, &context, when, doorbell);
	let time = exit::account(k, &context, &guest, &host, out, lpcr, started, hdec);
	*tb = time.tb;
	// SAFETY: each value is the host's own, read by `Host::read` or kept by the kernel.
	unsafe { exit::restore_host::<P, _>(k, &context, &host, when, msr, out, &guest, time) };
	out.trap
}
