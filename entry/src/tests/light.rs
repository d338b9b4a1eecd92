// SPDX-License-Identifier: GPL-2.0-only
//! Light exits: what the host and the guest find, and in which order.

use std::collections::BTreeMap;

use ::hpt::fault::Owner;
use hcall::{Code, Number};
use powerpc::{Msr, Served, Spr};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::fake_cpu::*;
use super::registers::*;
use super::strategies::*;
use crate::layout::kernel as layout;
use crate::light::{self, Structures};
use crate::switch::{Context, Loaded, Profile, Service, hfscr, trap};

impl Machine {
	/// The handler runs: is all that it depends on the host's, and is the rest kept?
	pub(super) fn in_window(&mut self, light: Light) {
		self.event(Event::Call("handler"));
		let Context {
			vcore, kvm, paca, ..
		} = self.context;
		let host = self.registers.expect("there was a full entry");
		assert_eq!(self.spr(Spr::LPIDR), u64::from(kvm.host_lpid()));
		assert_eq!(
			self.spr(Spr::LPCR),
			kvm.host_lpcr() | layout::HV_LPCR_HDICE as u64
		);
		assert_eq!(self.spr(Spr::PIDR), host.pidr);
		assert_eq!(self.spr(Spr::AMR), host.amr);
		assert_eq!(vcore.tb_offset_applied(), 0, "guest's timebase");
		assert_eq!(paca.in_guest(), layout::GUEST_MODE_NONE as u8);
		self.c_may_run();
		self.window_tb = Some(self.tb);
		self.tb += light.takes;
		if let Some(dec) = light.timer {
			self.set(Spr::DEC, dec.wrapping_add(self.tb));
		}
		if light.interrupt {
			paca.set_srr_valid(0);
			for spr in [
				Spr::SRR0,
				Spr::SRR1,
				Spr::DAR,
				Spr::DSISR,
				Spr::HSRR0,
				Spr::HSRR1,
			] {
				self.set(spr, 0xdead);
			}
			let area = self.exceptions;
			area.set_r9(0xdead);
			area.set_r10(0xdead);
			area.set_r11(0xdead);
			area.set_r12(0xdead);
			area.set_r13(0xdead);
			area.set_ppr(0xdead);
			area.set_cfar(0xdead);
			area.set_ctr(0xdead);
		}
	}

	/// MSR, and the SLB, of which a radix host can reach four entries only.
	fn c_may_run(&self) {
		let msr = Msr::from_bits_retain(self.msr);
		assert!(msr.contains(Msr::RI | Msr::IR | Msr::DR));
		assert!(!msr.intersects(Msr::EE | Msr::FP | Msr::VEC | Msr::VSX));
		if self.context.kvm.radix() == 0 {
			assert!(self.slb.is_empty(), "a hash guest's SLB");
		}
	}

	/// Makes it a hash guest, which leaves these entries in its SLB.
	fn hash_with(&mut self, slb: &Slb, large: bool) {
		self.hash();
		if large {
			self.lpcr |= layout::HV_LPCR_LD as u64;
		} else {
			self.lpcr &= !(layout::HV_LPCR_LD as u64);
		}
		self.guest_slb = Some(slb.clone());
	}

	/// Interrupts of the host are served, or a page is mapped: is all that they depend on the host's?
	/// If the guest can't go on, or the thread is scheduled out, the flush takes its context away.
	pub(super) fn serve<P: Profile>(
		&mut self,
		loaded: &Loaded<'_>,
		service: Service,
		trap: u32,
	) -> Served {
		let sleeps = !matches!(service, Service::Interrupts);
		self.event(Event::Call(match service {
			Service::Interrupts => "light_serve",
			Service::Fault { .. } => "light_fault",
			Service::Hcall => "light_call",
		}));
		let light = self.light.expect("light exits are on");
		assert_eq!(trap, self.context.vcpu.trap() & !2);
		let Context {
			vcpu,
			vcore,
			paca,
			task,
			..
		} = self.context;
		for spr in [
			Spr::LPIDR,
			Spr::LPCR,
			Spr::PIDR,
			Spr::AMR,
			Spr::IAMR,
			Spr::CIABR,
			Spr::DPDES,
		] {
			assert_eq!(self.spr(spr), self.host_before[&spr.0], "{spr:?}");
		}
		if self.dawr {
			for spr in [Spr::DAWR0, Spr::DAWRX0] {
				assert_eq!(self.spr(spr), self.host_before[&spr.0], "{spr:?}");
			}
		}
		let count = |spr: Spr| self.host_before.get(&spr.0).copied().unwrap_or(0);
		let used = self.guest_used;
		assert_eq!(self.spr(Spr::PURR), count(Spr::PURR).wrapping_add(used));
		assert_eq!(self.spr(Spr::SPURR), count(Spr::SPURR).wrapping_add(used));
		assert_eq!(vcore.tb_offset_applied(), 0, "guest's timebase");
		assert_eq!(paca.in_guest(), layout::GUEST_MODE_NONE as u8);
		assert_eq!(vcpu.pid(), self.guest_writes[&Spr::PIDR.0] as u32);
		assert!(self.events.contains(&Event::Call("rearm_host_dec")));
		self.c_may_run();
		self.window_tb = Some(self.tb);
		self.tb += light.takes;
		// Interrupts use these. Other CPUs' calls write DSCR, and breakpoints of the host.
		for spr in [
			Spr::SRR0,
			Spr::SRR1,
			Spr::DAR,
			Spr::DSISR,
			Spr::HSRR0,
			Spr::HSRR1,
			Spr::DEC,
			Spr::DSCR,
		] {
			self.set(spr, 0xdead);
		}
		task.set_dscr(0xdead);
		self.host_before.insert(Spr::DSCR.0, 0xdead);
		let breakpoint = light.timer.unwrap_or(0);
		self.set(Spr::CIABR, breakpoint);
		self.host_before.insert(Spr::CIABR.0, breakpoint);
		if self.dawr_changes {
			self.dawr = !self.dawr;
			for spr in [Spr::DAWR0, Spr::DAWRX0] {
				let watched = if self.dawr { 0xbee8 } else { 0 };
				self.set(spr, watched);
				self.host_before.insert(spr.0, watched);
			}
		}
		for spr in [Spr::PURR, Spr::SPURR] {
			let host = self.spr(spr).wrapping_add(light.takes);
			self.set(spr, host);
			self.host_before.insert(spr.0, host.wrapping_sub(used));
		}
		let kicked = u8::from(light.interrupt);
		vcpu.set_doorbell_request(vcpu.doorbell_request() | kicked);
		let flushed = sleeps && light.leaves_work;
		if matches!(service, Service::Hcall) && light.answers {
			vcpu.set_gpr3(ANSWER);
		}
		if light.answers && !flushed {
			return Served::GoOn(self.tb + 500_000);
		}
		self.event(Event::Call("flush"));
		// SAFETY: no processor is involved.
		unsafe { loaded.flush::<P, _>(self) };
		self.event(Event::Call("end of the flush"));
		self.host_is_back(vcpu.hfscr())
			.expect("the flush has it back");
		match sleeps && !light.answers {
			true => Served::Refused,
			false => Served::Left,
		}
	}

	/// The vcpu has what the guest left in its registers.
	fn vcpu_has_all(&self, facilities: u64) -> Result<(), TestCaseError> {
		for (spr, _) in guest_sprs() {
			if switched(spr, facilities, false, false) {
				let value = self.guest_writes[&spr.0];
				prop_assert_eq!(in_vcpu(&self.context, spr), value, "{:?}", spr);
			}
		}
		Ok(())
	}

	/// The guest's second run began with what the guest had at the end of its first.
	fn guest_goes_on(&self, facilities: u64) -> Result<(), TestCaseError> {
		for (spr, _) in guest_sprs() {
			if switched(spr, facilities, false, false)
				&& ![Spr::CTRLT, Spr::PSSCR_PR].contains(&spr)
			{
				prop_assert_eq!(self.found[&spr.0], self.guest_writes[&spr.0], "{:?}", spr);
			}
		}
		Ok(())
	}

	/// The first exit was of this `kind`, and a light exit answered it if it `is_served`. Either the guest has
	/// gone on with all that it had; or the vcpu has all of it, and the host's was back after the flush. The
	/// last exit was a full one, with that trap, at that time of the caller's.
	fn has_gone_on_or_left(
		&self,
		facilities: u64,
		light: Light,
		is_served: bool,
		kind: u32,
		(trap, tb): (u32, u64),
	) -> Result<(), TestCaseError> {
		let Context {
			vcpu, vcore, paca, ..
		} = self.context;
		let count = |event| self.events.iter().filter(|e| **e == event).count();
		let is_flushed = is_served && (light.leaves_work || !light.answers);
		prop_assert_eq!(count(Event::Call("flush")), usize::from(is_flushed));
		let runs = count(Event::Guest);
		if is_flushed {
			let out = if light.answers { trap::NONE } else { kind };
			prop_assert_eq!((trap, runs), (out, 1));
			self.vcpu_has_all(facilities)?;
			// Nothing is switched after the flush: the thread may be on another CPU.
			let end = self.position(|e| *e == Event::Call("end of the flush"));
			prop_assert_eq!(&self.events[end + 1..], &[Event::Timebase]);
		} else if is_served {
			prop_assert_eq!((trap, runs), (trap::SYSCALL, 2));
			prop_assert_eq!(self.found[&Spr::HSRR0.0], vcpu.nip());
			self.guest_goes_on(facilities)?;
		} else {
			prop_assert_eq!((trap, runs), (kind, 1));
		}
		let late = self.tb.wrapping_sub(tb);
		prop_assert!(late < 400, "the caller's time is {} late", late);
		prop_assert_eq!(vcore.tb_offset_applied(), 0);
		prop_assert_eq!(paca.in_guest(), layout::GUEST_MODE_NONE as u8);
		self.host_is_back(facilities)
	}

	/// After the full exit the host has what it had.
	fn host_is_back(&self, facilities: u64) -> Result<(), TestCaseError> {
		for spr in host_sprs() {
			if switched(spr, facilities, self.dawr, false) && spr != Spr::PSSCR {
				prop_assert_eq!(self.spr(spr), self.host_before[&spr.0], "{:?}", spr);
			}
		}
		Ok(())
	}

	/// Enters the guest once, comes out by an hcall, and answers the hcall in a light exit
	/// before the full one. Returns the registers before it.
	pub(super) fn light_hcall(&mut self, light: Light) -> BTreeMap<u16, u64> {
		let Context {
			vcore, kvm, paca, ..
		} = self.context;
		let structures = Structures { vcore, kvm, paca };
		let registers = self.registers.expect("there was a full entry");
		let (srr0, srr1) = (self.spr(Spr::SRR0), self.spr(Spr::SRR1));
		let before = self.sprs.clone();
		let offset = vcore.tb_offset_applied();
		let area = self.exceptions;
		// SAFETY: no processor is involved.
		let code = unsafe {
			light::hcall(self, structures, registers, area, (srr0, srr1), |m| {
				m.in_window(light);
				17
			})
		};
		assert_eq!(code, 17);
		assert_eq!(vcore.tb_offset_applied(), offset, "for the full exit");
		before
	}
}

/// Entries of a hash guest's SLB by their index: all are valid.
type Slb = BTreeMap<u64, (u64, u64)>;

fn slb() -> impl Strategy<Value = Slb> {
	let entry = (any::<u64>(), any::<u64>())
		.prop_map(|(esid, vsid)| ((esid & !0xfff_ffff) | layout::SLB_VALID as u64, vsid));
	proptest::collection::btree_map(0..32_u64, entry, 0..32)
}

fn light() -> impl Strategy<Value = Light> {
	let timer = prop_oneof![Just(None), any::<u32>().prop_map(|dec| Some(dec.into()))];
	(
		any::<bool>(),
		any::<bool>(),
		any::<bool>(),
		any::<bool>(),
		timer,
		0..100_000_u64,
	)
		.prop_map(
			|(answers, leaves_work, may_serve, interrupt, timer, takes)| Light {
				answers,
				leaves_work,
				may_serve,
				interrupt,
				timer,
				takes,
			},
		)
}

/// A machine in a guest's context, as after the trampoline's arrival.
fn in_guest(
	host: &[u64],
	vcpu_values: &[u64],
	guest: &[u64],
	facilities: u64,
	offset: u64,
	large: bool,
) -> Machine {
	let mut m = machine(host, vcpu_values, guest, facilities);
	m.context.vcore.set_tb_offset(offset);
	if large {
		m.lpcr |= layout::HV_LPCR_LD as u64;
	} else {
		m.lpcr &= !(layout::HV_LPCR_LD as u64);
	}
	m.light = Some(Light {
		answers: true,
		leaves_work: false,
		may_serve: true,
		interrupt: false,
		timer: None,
		takes: 0,
	});
	m
}

proptest! {
	/// In the window the host has its own, after it the guest has its own: the MMU
	/// context, the timebase, what interrupts overwrite, and the decrementer. All else is
	/// never touched.
	#[test]
	fn hcall_gives_all_back(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		facilities in facilities(),
		offset in prop_oneof![Just(0_u64), any::<u64>().prop_map(|offset| offset & !0xff_ffff)],
		large in any::<bool>(),
		dec in any::<u32>(),
		light in light(),
	) {
		let mut m = in_guest(&host, &vcpu_values, &guest, facilities, offset, large);
		m.guest_writes.insert(Spr::DEC.0, dec.into());
		m.hcall = Some(light);
		let (trap, _) = m.run(false);
		prop_assert_eq!(trap, trap::SYSCALL);
		let (before, after, area, tb) = m.seen.take().expect("there was a light exit");
		for spr in untouched_sprs().into_iter().chain([
			Spr::LPIDR, Spr::LPCR, Spr::PIDR, Spr::AMR, Spr::IAMR,
			Spr::SRR0, Spr::SRR1, Spr::DAR, Spr::DSISR,
		]) {
			prop_assert_eq!(before.get(&spr.0), after.get(&spr.0), "{:?}", spr);
		}
		if light.interrupt {
			// The way back to the guest is laid again.
			prop_assert_eq!(after.get(&Spr::HSRR0.0), before.get(&Spr::SRR0.0));
			prop_assert_eq!(after.get(&Spr::HSRR1.0), before.get(&Spr::SRR1.0));
		}
		prop_assert_eq!(area, [1, 2, 3, 4, 5, 6, 7, 8]);
		prop_assert_eq!(m.context.vcore.tb_offset_applied(), 0, "after the full exit");
		// The timebase is the host's in the window, and has not lost a tick after it. Each
		// access takes a tick.
		let [start, window, end] = tb;
		prop_assert!(window.wrapping_sub(start.wrapping_sub(offset)) < 50);
		prop_assert!(end.wrapping_sub(start).wrapping_sub(light.takes) < 100);
		// HDEC and DEC, as times when they are 0, are where they were.
		prop_assert_eq!(after[&Spr::HDEC.0], before[&Spr::HDEC.0]);
		let moved = (after[&Spr::DEC.0].wrapping_sub(before[&Spr::DEC.0]) as i32).unsigned_abs();
		prop_assert!(moved <= 64, "DEC moved by {}", moved);
		prop_assert_eq!(m.context.paca.srr_valid(), 0);
		prop_assert_eq!(m.context.paca.hsrr_valid(), 0);
	}

	/// A store that is answered: the guest goes on after it, with all that the vcpu has, or leaves
	/// by an exit in which nothing has happened. One that is not answered leaves as without light
	/// exits.
	#[test]
	fn store_is_answered_once_or_leaves(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		facilities in facilities(),
		light in light(),
		odd in prop_oneof![Just(0_u32), Just(0x0002_0000), Just(0x0400_0000), Just(0x0008_0000)],
		store in prop_oneof![4 => Just(true), 1 => Just(false)],
	) {
		let mut m = in_guest(&host, &vcpu_values, &guest, facilities, 0, false);
		// So that it leaves after a second run.
		m.light = Some(Light { may_serve: false, ..light });
		let kind = if store { layout::DSISR_STORE as u32 } else { 0 };
		m.exceptions.set_dsisr(0x4000_0000 | kind | odd);
		let is_light = store && odd == 0;
		m.traps = vec![trap::H_DATA_STORAGE, trap::HV_DECREMENTER];
		let nip = m.context.vcpu.nip();
		let (trap, _) = m.run(false);
		let handled = m.events.iter().filter(|e| **e == Event::Call("handler")).count();
		prop_assert_eq!(handled, usize::from(is_light));
		let runs = m.events.iter().filter(|e| **e == Event::Guest).count();
		if is_light && light.answers && light.leaves_work {
			prop_assert_eq!((trap, runs), (trap::NONE, 1));
			prop_assert_eq!(m.context.vcpu.nip(), nip + 4);
		} else if is_light && light.answers {
			prop_assert_eq!((trap, runs), (trap::HV_DECREMENTER, 2));
			prop_assert_eq!(m.found[&Spr::HSRR0.0], nip + 4);
			m.guest_goes_on(facilities)?;
		} else {
			prop_assert_eq!((trap, runs), (trap::H_DATA_STORAGE, 1));
		}
		m.host_is_back(facilities)?;
	}

	/// What a hash guest leaves for: an hcall of the kernel's, or a store to a device. The guest goes
	/// on with its SLB, and with all else that it had, or leaves by a full exit.
	#[test]
	fn hash_guest_is_answered_once_or_leaves(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		facilities in facilities(),
		slb in slb(),
		light in light(),
		number in prop_oneof![
			2 => proptest::sample::select(vec![0x3c_u64, 0x40, 0xe4, 0xe8]),
			1 => any::<u64>(),
		],
		is_hcall in any::<bool>(),
		is_on in prop_oneof![4 => Just(true), 1 => Just(false)],
		is_device in prop_oneof![4 => Just(true), 1 => Just(false)],
		store in prop_oneof![4 => Just(true), 1 => Just(false)],
		translation in prop_oneof![4 => Just(3_u64), 1 => 0..4_u64],
		problem in prop_oneof![4 => Just(false), 1 => Just(true)],
		transaction in prop_oneof![4 => Just(false), 1 => Just(true)],
	) {
		let mut m = in_guest(&host, &vcpu_values, &guest, facilities, 0, false);
		m.hash_with(&slb, false);
		// So that it leaves after a second run.
		m.light = Some(Light { may_serve: false, ..light });
		m.fault = is_on.then_some(Owner::Host);
		m.device = is_device.then_some(0xd00d);
		m.exceptions.set_dar(0xd00d);
		m.exceptions.set_dsisr(0x4000_0000 | if store { layout::DSISR_STORE as u32 } else { 0 });
		m.context.vcpu.set_gpr3(number);
		let mut msr = GUEST_MSR | Msr::from_bits_retain(translation << 4);
		msr.set(Msr::PR, problem);
		msr.set(Msr::TS_S, transaction);
		m.guest_writes.insert(Spr::SRR1.0, msr.bits());
		// `sc` leaves there where it was.
		m.guest_writes.insert(Spr::SRR0.0, m.context.vcpu.nip());
		let kind = if is_hcall { trap::SYSCALL } else { trap::H_DATA_STORAGE };
		m.traps = vec![kind, trap::HV_DECREMENTER];
		let nip = m.context.vcpu.nip();
		let (trap, _) = m.run(false);
		let is_light = is_on && !transaction && if is_hcall {
			!problem && [0x3c, 0x40, 0xe4, 0xe8].contains(&number)
		} else {
			is_device && store && translation & 1 != 0
		};
		let handled = m.events.iter().filter(|e| **e == Event::Call("handler")).count();
		prop_assert_eq!(handled, usize::from(is_light));
		let runs = m.events.iter().filter(|e| **e == Event::Guest).count();
		let answered = is_light && light.answers;
		let next = if answered && !is_hcall { nip + 4 } else { nip };
		prop_assert_eq!(m.context.vcpu.nip(), next);
		if answered && !light.leaves_work {
			prop_assert_eq!((trap, runs), (trap::HV_DECREMENTER, 2));
			prop_assert_eq!(m.found[&Spr::HSRR0.0], next);
			prop_assert_eq!(&m.found_slb, &slb);
			m.guest_goes_on(facilities)?;
		} else {
			prop_assert_eq!((trap, runs), (if answered { trap::NONE } else { kind }, 1));
		}
		prop_assert_eq!(usize::from(m.context.vcpu.slb_max() as u16), slb.len());
		m.host_is_back(facilities & !hfscr::TM)?;
	}

	/// A doorbell that the guest sends (msgsndp): the same rules as for a store. Other facilities that
	/// the guest may not use leave as without light exits.
	#[test]
	fn doorbell_is_sent_once_or_leaves(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		facilities in facilities(),
		light in light(),
		cause in prop_oneof![Just(10_u64), 0..16_u64],
		is_real in prop_oneof![4 => Just(false), 1 => Just(true)],
		transaction in prop_oneof![4 => Just(false), 1 => Just(true)],
	) {
		let mut m = in_guest(&host, &vcpu_values, &guest, facilities, 0, false);
		// So that it leaves after a second run.
		m.light = Some(Light { may_serve: false, ..light });
		m.arrives_virtual = !is_real;
		let suspended = if transaction { Msr::TS_S.bits() } else { 0 };
		m.guest_writes.insert(Spr::SRR1.0, GUEST_MSR.bits() | suspended);
		m.guest_writes.insert(Spr::HFSCR.0, cause << 56 | facilities & !(0xff << 56));
		let is_light = cause == 10 && !is_real && !transaction;
		m.traps = vec![trap::H_FAC_UNAVAIL, trap::HV_DECREMENTER];
		let nip = m.context.vcpu.nip();
		let (trap, _) = m.run(false);
		let handled = m.events.iter().filter(|e| **e == Event::Call("handler")).count();
		prop_assert_eq!(handled, usize::from(is_light));
		let runs = m.events.iter().filter(|e| **e == Event::Guest).count();
		if is_light && light.answers && light.leaves_work {
			prop_assert_eq!((trap, runs), (trap::NONE, 1));
			prop_assert_eq!(m.context.vcpu.nip(), nip + 4);
		} else if is_light && light.answers {
			prop_assert_eq!((trap, runs), (trap::HV_DECREMENTER, 2));
			prop_assert_eq!(m.found[&Spr::HSRR0.0], nip + 4);
			m.guest_goes_on(facilities)?;
		} else {
			prop_assert_eq!((trap, runs), (trap::H_FAC_UNAVAIL, 1));
		}
	}

	/// An interrupt of the host: the host has its own while it is served. After it the guest goes
	/// on with all that it had, or the exit is a full one in which nothing has happened.
	#[test]
	fn interrupt_is_served_and_the_guest_goes_on(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		facilities in facilities(),
		offset in prop_oneof![Just(0_u64), any::<u64>().prop_map(|offset| offset & !0xff_ffff)],
		large in any::<bool>(),
		dawr in any::<bool>(),
		dawr_changes in any::<bool>(),
		dec in any::<u32>(),
		used in 0..1_000_000_u64,
		counts in proptest::array::uniform4(any::<u64>()),
		light in light(),
		doorbell in any::<bool>(),
		is_real in prop_oneof![4 => Just(false), 1 => Just(true)],
		hash in proptest::option::of(slb()),
		kind in proptest::sample::select(vec![trap::HV_DECREMENTER, trap::H_DOORBELL, trap::H_VIRT]),
	) {
		let mut m = in_guest(&host, &vcpu_values, &guest, facilities, offset, large);
		let Context { vcpu, vcore, paca, .. } = m.context;
		m.dawr = dawr;
		m.dawr_changes = dawr_changes;
		m.light = Some(light);
		m.arrives_virtual = !is_real;
		if let Some(slb) = &hash {
			m.hash_with(slb, large);
		}
		m.guest_used = used;
		let [purr, spurr, guest_purr, guest_spurr] = counts;
		m.set(Spr::PURR, purr);
		m.set(Spr::SPURR, spurr);
		vcpu.set_purr(guest_purr);
		vcpu.set_spurr(guest_spurr);
		m.guest_writes.insert(Spr::DEC.0, dec.into());
		// Asked for before the entry, and not taken by the guest.
		vcpu.set_doorbell_request(doorbell.into());
		m.traps = vec![kind, trap::SYSCALL];
		let is_served = light.may_serve && (!is_real || hash.is_some());
		let (trap, tb) = m.run(false);
		let served = m.events.iter().filter(|e| **e == Event::Call("light_serve")).count();
		prop_assert_eq!(served, usize::from(is_served));
		let runs = m.events.iter().filter(|e| **e == Event::Guest).count();
		if is_served && light.answers {
			prop_assert_eq!((trap, runs), (trap::SYSCALL, 2));
			prop_assert_eq!(m.found[&Spr::HSRR0.0], vcpu.nip());
			m.guest_goes_on(facilities)?;
			if let Some(slb) = &hash {
				prop_assert_eq!(&m.found_slb, slb);
			}
			prop_assert_eq!(m.found[&Spr::CIABR.0], vcpu.ciabr());
			if m.dawr {
				prop_assert_eq!(m.found[&Spr::DAWR0.0], vcpu.dawr0());
			}
			prop_assert_eq!(m.found[&Spr::DPDES.0], u64::from(doorbell || light.interrupt));
			prop_assert_eq!(m.found[&Spr::PURR.0], vcpu.purr().wrapping_sub(used));
			prop_assert_eq!(m.found[&Spr::SPURR.0], vcpu.spurr().wrapping_sub(used));
			// The decrementer was not held up while the host was at work.
			let elapsed = m.found_tb.wrapping_sub(m.first_exit_tb);
			let left = m.found[&Spr::DEC.0].wrapping_sub(m.found_tb) as i64;
			let (left, expected) = if large {
				(left, i64::from(dec) - elapsed as i64)
			} else {
				let expected = i64::from(dec as i32) - elapsed as i64;
				(i64::from(left as i32), expected.max(-(1 << 30)))
			};
			prop_assert!((left - expected).abs() < 100, "{} is not {}", left, expected);
		} else {
			let out = if is_served { trap::NONE } else { kind };
			prop_assert_eq!((trap, runs), (out, 1));
			prop_assert_eq!(
				vcpu.doorbell_request(),
				u8::from(doorbell || is_served && light.interrupt)
			);
		}
		prop_assert!(m.tb.wrapping_sub(tb) < 400, "the caller's time is {} late", m.tb.wrapping_sub(tb));
		prop_assert_eq!(vcore.tb_offset_applied(), 0);
		prop_assert_eq!(paca.in_guest(), layout::GUEST_MODE_NONE as u8);
		m.host_is_back(facilities)?;
		let runs = runs as u64;
		prop_assert_eq!(vcpu.purr(), guest_purr.wrapping_add(used * runs));
		prop_assert_eq!(vcpu.spurr(), guest_spurr.wrapping_add(used * runs));
		for spr in [Spr::PURR, Spr::SPURR] {
			let before = m.host_before.get(&spr.0).copied().unwrap_or(0);
			prop_assert_eq!(m.spr(spr), before.wrapping_add(used * runs), "{:?}", spr);
		}
	}

	/// A page fault of a radix guest: the host has its own while it maps the page. After it the guest goes
	/// on with all that it had. If the thread was scheduled out, or the page can't be mapped, the
	/// vcpu has all of it, and the host's is back already.
	#[test]
	fn page_is_mapped_and_the_guest_goes_on(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		facilities in facilities(),
		offset in prop_oneof![Just(0_u64), any::<u64>().prop_map(|offset| offset & !0xff_ffff)],
		large in any::<bool>(),
		dawr in any::<bool>(),
		used in 0..1_000_000_u64,
		light in light(),
		is_real in prop_oneof![4 => Just(false), 1 => Just(true)],
		is_memory in prop_oneof![4 => Just(true), 1 => Just(false)],
		kind in proptest::sample::select(vec![trap::H_DATA_STORAGE, trap::H_INST_STORAGE]),
		odd in prop_oneof![4 => Just(0_u32), 1 => Just(0x0002_0000), 1 => Just(0x0004_0000)],
		asdr in any::<u64>(),
		assist in any::<bool>(),
		store in any::<bool>(),
	) {
		let mut m = in_guest(&host, &vcpu_values, &guest, facilities, offset, large);
		let Context { paca, .. } = m.context;
		m.dawr = dawr;
		m.light = Some(light);
		m.arrives_virtual = !is_real;
		m.memory = is_memory;
		m.guest_used = used;
		m.guest_writes.insert(Spr::ASDR.0, asdr);
		// A store is found where an eventfd is looked for. A store to no memory has its own test.
		let store = store && is_memory && kind == trap::H_DATA_STORAGE;
		let direction = if store { layout::DSISR_STORE as u32 } else { 0 };
		m.exceptions.set_dsisr(0x4000_0000 | odd | direction);
		let msr = (GUEST_MSR | Msr::from_bits_retain(u64::from(odd))).bits();
		m.guest_writes.insert(Spr::SRR1.0, msr);
		m.traps = vec![kind, trap::SYSCALL];
		let (trap, tb) = m.run(assist);
		let is_asked = !is_real && odd == 0;
		let asked = (is_asked && !store).then_some((asdr & 0x0fff_ffff_ffff_f000, false));
		prop_assert_eq!(m.asked_memory, asked);
		let is_served = is_asked && is_memory;
		let count = |what| m.events.iter().filter(|e| **e == Event::Call(what)).count();
		prop_assert_eq!(count("light_fault"), usize::from(is_served));
		m.has_gone_on_or_left(facilities, light, is_served, kind, (trap, tb))?;
		prop_assert_eq!(paca.irq_happened() & !(layout::IRQ_HARD_DIS as u8), 0);
	}

	/// An hcall that may sleep: the same as for a page fault. Other hcalls are not asked for.
	#[test]
	fn hcall_that_may_sleep_is_answered_once(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		facilities in facilities(),
		offset in prop_oneof![Just(0_u64), any::<u64>().prop_map(|offset| offset & !0xff_ffff)],
		large in any::<bool>(),
		dawr in any::<bool>(),
		used in 0..1_000_000_u64,
		light in light(),
		is_real in prop_oneof![4 => Just(false), 1 => Just(true)],
		number in prop_oneof![
			3 => proptest::sample::select(vec![
				Number::CONFER,
				Number::PAGE_INIT,
				Number::PUT_TCE_INDIRECT,
			]),
			1 => any::<u64>().prop_map(Number),
		],
		wants_list in any::<bool>(),
		problem in prop_oneof![4 => Just(Msr::empty()), 1 => Just(Msr::PR)],
		assist in any::<bool>(),
	) {
		let mut m = in_guest(&host, &vcpu_values, &guest, facilities, offset, large);
		let Context { vcpu, .. } = m.context;
		m.dawr = dawr;
		m.light = Some(light);
		m.arrives_virtual = !is_real;
		m.wants_list = wants_list;
		m.guest_used = used;
		// `sc` leaves NIA and MSR there.
		m.guest_writes.insert(Spr::SRR0.0, vcpu.nip());
		m.guest_writes.insert(Spr::SRR1.0, (GUEST_MSR | problem).bits());
		m.traps = vec![trap::SYSCALL, trap::SYSCALL];
		vcpu.set_gpr3(number.0);
		let (trap, tb) = m.run(assist);
		let may = match number {
			Number::CONFER | Number::PAGE_INIT => true,
			Number::PUT_TCE_INDIRECT => wants_list,
			_ => false,
		};
		let count = |what| m.events.iter().filter(|e| **e == Event::Call(what)).count();
		let is_asked = may && !is_real && problem.is_empty();
		prop_assert_eq!(count("light_may_call"), usize::from(is_asked));
		let is_called = is_asked && light.may_serve;
		prop_assert_eq!(count("light_call"), usize::from(is_called));
		let answered = is_called && light.answers;
		prop_assert_eq!(vcpu.gpr3(), if answered { ANSWER } else { number.0 });
		m.has_gone_on_or_left(facilities, light, is_called, trap::SYSCALL, (trap, tb))?;
	}

	/// H_CEDE goes on if it was prodded, or if the decrementer has run out, and takes the prod.
	#[test]
	fn cede_goes_on_with_work_only(
		prodded in any::<bool>(),
		dec in any::<u32>(),
		large in any::<bool>(),
		srr1 in any::<u64>(),
	) {
		let mut m = Machine::new();
		let lpcr = if large { layout::HV_LPCR_LD as u64 } else { 0 };
		m.lpcr = lpcr;
		let vcpu = m.context.vcpu;
		vcpu.set_prodded(prodded.into());
		let dec = dec as i32 as i64 as u64;
		m.set(Spr::DEC, dec.wrapping_add(m.tb + 1));
		m.set(Spr::HSRR1, 5);
		// SAFETY: no processor is involved.
		let goes_on = unsafe { light::cede(&mut m, vcpu, lpcr, srr1) };
		prop_assert_eq!(goes_on, prodded || (dec as i64) < 0);
		prop_assert_eq!(vcpu.prodded(), 0);
		prop_assert_eq!(m.spr(Spr::HSRR1), if goes_on { srr1 | Msr::EE.bits() } else { 5 });
		prop_assert_eq!(m.events.contains(&Event::Hwsync), prodded);
	}
}

/// What an hcall that may sleep is answered with: no hcall's number.
const ANSWER: u64 = 0xa5;

proptest! {
	/// H_SET_MODE refuses a watchpoint that no guest may set, and sets CIABR for no other arguments than those for which the kernel does, and in
	/// the register and the vcpu together.
	#[test]
	fn set_mode_sets_ciabr_or_nothing(
		flags in prop_oneof![3 => Just(0), 1 => any::<u64>()],
		resource in prop_oneof![4 => Just(1), 1 => 0..7_u64, 1 => any::<u64>()],
		value1 in any::<u64>(),
		value2 in prop_oneof![3 => Just(0), 1 => any::<u64>()],
		pcr in prop_oneof![3 => Just(0), 1 => any::<u64>()],
		dawr: bool,
	) {
		let mut m = Machine::new();
		let Context { vcpu, vcore, .. } = m.context;
		vcpu.set_gpr4(flags);
		vcpu.set_gpr5(resource);
		vcpu.set_gpr6(value1);
		vcpu.set_gpr7(value2);
		vcpu.set_ciabr(5);
		vcore.set_pcr(pcr);
		m.set(Spr::CIABR, 5);
		let code = light::set_mode(&mut m, vcpu, vcore, |_| dawr);
		let valid = (flags, resource, value2, pcr) == (0, 1, 0, 0) && value1 % 4 != 3;
		let expected = match resource {
			_ if valid => Some(Code::SUCCESS),
			2 | 5 if !dawr => Some(Code::P2),
			_ => None,
		};
		prop_assert_eq!(code, expected);
		let expected = if valid { value1 } else { 5 };
		prop_assert_eq!((m.spr(Spr::CIABR), vcpu.ciabr()), (expected, expected));
	}
}

/// The order, in a journal that was reviewed.
#[test]
fn journal_of_an_hcall() {
	let mut m = in_guest(
		&vec![0x55; host_sprs().len()],
		&vec![1; vcpu_sprs().len()],
		&vec![2; guest_sprs().len()],
		0,
		1 << 30,
		false,
	);
	m.hcall = Some(Light {
		answers: true,
		leaves_work: false,
		may_serve: true,
		interrupt: true,
		timer: Some(77),
		takes: 500,
	});
	m.run(false);
	let start = m.position(|e| *e == Event::Guest);
	let end = m.position(|e| *e == Event::Call("end of the light exit"));
	m.events = m.events[start..end].to_vec();
	insta::assert_snapshot!(m.journal());
}

/// The same for a page fault in which the thread is scheduled out: the flush.
#[test]
fn journal_of_a_flush() {
	let mut m = in_guest(
		&vec![0x55; host_sprs().len()],
		&vec![1; vcpu_sprs().len()],
		&vec![2; guest_sprs().len()],
		0,
		1 << 30,
		false,
	);
	m.memory = true;
	m.light = Some(Light {
		leaves_work: true,
		..m.light.expect("light exits are on")
	});
	m.traps = vec![trap::H_DATA_STORAGE];
	m.run(true);
	let start = m.position(|e| *e == Event::Guest);
	m.events.drain(..start);
	insta::assert_snapshot!(m.journal());
}

/// The same for an interrupt of the host.
#[test]
fn journal_of_an_interrupt() {
	let mut m = in_guest(
		&vec![0x55; host_sprs().len()],
		&vec![1; vcpu_sprs().len()],
		&vec![2; guest_sprs().len()],
		0,
		1 << 30,
		false,
	);
	m.traps = vec![trap::H_VIRT, trap::SYSCALL];
	m.run(false);
	let start = m.position(|e| *e == Event::Guest);
	m.events.drain(..start);
	let end = 1 + m.events[1..]
		.iter()
		.position(|e| *e == Event::Guest)
		.expect("the guest goes on");
	m.events.truncate(end + 1);
	insta::assert_snapshot!(m.journal());
}
