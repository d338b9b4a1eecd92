// SPDX-License-Identifier: GPL-2.0-only
//! Light exits that enable interrupts.
//!
//! The host's timer, a device or another CPU ends the guest's run, or the guest needs a page that
//! the host has to map. What interrupt handlers and softirqs depend on is switched, and interrupts are
//! enabled: until none is pending, or until the page is there. Then the guest goes on.
//!
//! For interrupts preemption stays disabled. For a page the thread may sleep: if it is scheduled out,
//! the flush takes the guest's context away. `docs/light-exit.md` says register by register why
//! the rest may stay the guest's.

use powerpc::{Msr, Served, Spr};

use super::enter::{self, Facilities};
use super::exit::{self, Service};
use super::flush::Loaded;
use super::{Doorbell, slb, timebase, trap};
use crate::context::{Context, GuestKind, Kernel, Profile};
use crate::layout::kernel as layout;
use crate::sprs::{Conditions, Debug};

/// What one run of the guest was begun with. After a light exit the next run has new values.
#[derive(Clone, Copy)]
pub(super) struct Run {
	/// The host's timebase at its begin.
	pub(super) started: u64,
	/// HDEC at that time.
	pub(super) hdec: u64,
	/// The host's breakpoints.
	pub(super) debug: Debug,
	/// Watchpoints were usable then. That can change while interrupts are served, and the host may have set one.
	dawr: bool,
	/// The host's PURR.
	pub(super) purr: u64,
	/// The host's SPURR.
	pub(super) spurr: u64,
	/// The vcpu's doorbell.
	pub(super) doorbell: Doorbell,
}

impl Run {
	/// Reads the host's values. Interrupts must be disabled in MSR\[EE\]: another CPU can
	/// have them changed by an interrupt.
	#[inline(always)]
	pub(super) fn new<K: Kernel>(
		k: &mut K,
		when: Conditions,
		started: u64,
		hdec: u64,
		doorbell: Doorbell,
	) -> Self {
		Self {
			started,
			hdec,
			debug: Debug::host(k, when),
			dawr: when.dawr,
			purr: k.mfspr::<{ Spr::PURR.0 }>(),
			spurr: k.mfspr::<{ Spr::SPURR.0 }>(),
			doorbell,
		}
	}

	/// The conditions of the entry, with which `debug` is restored.
	#[inline(always)]
	pub(super) fn when(&self, when: Conditions) -> Conditions {
		Conditions {
			dawr: self.dawr,
			..when
		}
	}
}

/// Does this service, and loads the guest's registers again. Then the guest can go straight on. Or,
/// if the result is `Some`, all of the host's context is back, and the exit is a full one with that trap.
///
/// # Safety
///
/// A radix guest must have left the trampoline with the MMU on, or a hash guest with the MMU off, and
/// all its other registers loaded by a full entry, and by `run` since. The PMU must be the host's.
#[inline(never)]
pub(super) unsafe fn serve<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	facilities: Facilities,
	when: Conditions,
	run: &mut Run,
	tb: &mut u64,
	service: Service,
) -> Option<u32> {
	let Context { vcpu, paca, .. } = *context;
	let host = k.light(vcpu);
	let is_hash = matches!(P::KIND, GuestKind::Hash);
	let out = exit::save_interrupt_state(k, context);

	// As in a full exit: all of the guest's that has to be read comes before the first write.
	let purr = k.mfspr::<{ Spr::PURR.0 }>();
	let spurr = k.mfspr::<{ Spr::SPURR.0 }>();
	let dscr = k.mfspr::<{ Spr::DSCR.0 }>();
	let iamr = k.mfspr::<{ Spr::IAMR.0 }>();
	let amr = k.mfspr::<{ Spr::AMR.0 }>();
	vcpu.set_pid(k.mfspr::<{ Spr::PIDR.0 }>() as u32);
	vcpu.set_iamr(iamr);
	vcpu.set_amr(amr);
	let guest = exit::GuestSaved::read(k, purr, spurr, run.doorbell);
	let times = exit::account::<P, _>(k, context, &guest, run, out, host.lpcr);

	// SAFETY: to the call: each value is the host's own. Until the mode byte is reset this
	// function uses quadrant 3 only, and takes no interrupt.
	unsafe {
		timebase::leave(k, context, times.applied);
		if is_hash {
			slb::take(k, vcpu);
		}
		exit::load_host_mmu_context(k, context, host.pidr);
		if is_hash {
			exit::turn_mmu_on(k);
		}
		if iamr != host.iamr {
			k.mtspr::<{ Spr::IAMR.0 }>(host.iamr);
		}
		if amr != host.amr {
			k.mtspr::<{ Spr::AMR.0 }>(host.amr);
		}
		k.mtspr::<{ Spr::PURR.0 }>(times.purr);
		k.mtspr::<{ Spr::SPURR.0 }>(times.spurr);
		run.debug.restore(k, context, run.when(when));
		if guest.doorbell {
			// With [EE] on it would be a doorbell of the host.
			k.mtspr::<{ Spr::DPDES.0 }>(0);
		}
		k.mtspr::<{ Spr::HDEC.0 }>(k.decrementer_max());
		k.rearm_host_dec(times.tb);
		// A full exit has an mtmsrd with L=0 here.
		k.isync();
		paca.set_in_guest(layout::GUEST_MODE_NONE as u8);
		k.mtmsrd_ee_ri(Msr::RI.bits());
	}
	let loaded = Loaded {
		context,
		host: facilities,
		when,
		dscr,
	};
	let served = k.light_serve::<P>(&loaded, service, out.trap);
	let limit = match served {
		Served::GoOn(limit) => limit,
		Served::Left | Served::Refused => {
			*tb = k.mftb();
			return Some(match served {
				Served::Refused => out.trap,
				_ => trap::NONE,
			});
		}
	};
	paca.set_in_guest(layout::GUEST_MODE_P9_RS as u8);

	// What an interrupt can have changed: another CPU's call may have written these.
	let dscr_now = k.mfspr::<{ Spr::DSCR.0 }>();
	let doorbell = Doorbell::of::<P>(context, vcpu.hfscr());
	let when = Conditions {
		dawr: k.dawr_enabled(),
		..when
	};
	*tb = k.mftb();
	// A timer that is due by now ends the guest's run at once.
	let hdec = limit.saturating_sub(*tb);
	*run = Run::new(k, when, *tb, hdec.min(k.decrementer_max()), doorbell);

	// SAFETY: to the end: the guest runs next, and none of this code depends on the registers.
	unsafe {
		timebase::enter(k, context, run.started, tb);
		if iamr != host.iamr {
			k.mtspr::<{ Spr::IAMR.0 }>(iamr);
		}
		if amr != host.amr {
			k.mtspr::<{ Spr::AMR.0 }>(amr);
		}
		k.mtspr::<{ Spr::PURR.0 }>(vcpu.purr());
		k.mtspr::<{ Spr::SPURR.0 }>(vcpu.spurr());
		run.debug.load(k, context, when);
		enter::load_hfscr(k, vcpu);
		if run.doorbell.requested {
			Doorbell::request::<P>(vcpu, 0);
			k.mtspr::<{ Spr::DPDES.0 }>(1);
		}
		if dscr_now != dscr {
			k.mtspr::<{ Spr::DSCR.0 }>(dscr);
		}
		enter::switch_mmu_context::<P, _>(k, context, host.lpcr);
		enter::load_decrementers(k, context, run.hdec, *tb, host.lpcr);
	}
	// SAFETY: the guest's context is loaded, and the guest runs next.
	unsafe { enter::load_way_back(k, vcpu) };
	None
}
