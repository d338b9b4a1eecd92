// SPDX-License-Identifier: GPL-2.0-only
//! Storage faults of a hash guest: what the guest finds, and what leaves.

use ::hpt::fault::{Fault, Owner};
use powerpc::{Lpcr, Msr, Spr};
use proptest::prelude::*;

use super::fake_cpu::*;
use super::registers::*;
use super::strategies::*;
use crate::switch::trap;

/// Of SRR1: bits that do not come from MSR (Power ISA 3.0B, Book III, 6.2.2).
const STATUS: u64 = 0x783f_0000;

/// Of these, what says why a fetch faulted.
const FETCH_STATUS: u32 = 0x582e_0000;

fn owner() -> impl Strategy<Value = Owner> {
	prop_oneof![
		3 => proptest::sample::select(vec![0x4000_0000, 0x4200_0000, 0x0a00_0000, 0x1000_0000_u32])
			.prop_map(Owner::Guest),
		1 => Just(Owner::Nobody),
		1 => Just(Owner::Host),
	]
}

proptest! {
	/// The guest's own fault: the guest goes on in its handler, or tries again, with all that it
	/// had. Another fault leaves, and C finds all as without.
	#[test]
	fn own_fault_is_delivered_and_another_leaves(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		owner in owner(),
		may_answer in prop_oneof![8 => Just(true), 1 => Just(false)],
		is_fetch in any::<bool>(),
		relocates in any::<bool>(),
		translation in 0..4_u64,
		problem in any::<bool>(),
		transaction in prop_oneof![8 => Just(0_u64), 1 => Just(Msr::TS_S.bits())],
		canary in prop_oneof![8 => Just(false), 1 => Just(true)],
		dar in any::<u64>(),
		is_device in prop_oneof![8 => Just(false), 1 => Just(true)],
		status in prop_oneof![Just(0x4000_0000_u32), Just(0x4200_0000), Just(0x0800_0000)],
		segment in any::<u64>(),
		vrma in any::<u64>(),
		amr in any::<u64>(),
		entry_msr in any::<u64>(),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, 0);
		m.hash();
		if relocates {
			m.lpcr |= Lpcr::AIL_3.bits();
		} else {
			m.lpcr &= !Lpcr::AIL_3.bits();
		}
		m.fault = may_answer.then_some(owner);
		m.device = is_device.then_some(dar);
		// A device that refuses the store.
		m.light = Some(Light {
			answers: false,
			leaves_work: false,
			may_serve: false,
			interrupt: false,
			timer: None,
			takes: 0,
		});
		let mut msr = GUEST_MSR.bits() | Msr::EE.bits() | translation << 4 | transaction;
		if problem {
			msr |= Msr::PR.bits();
		}
		if is_fetch {
			msr |= u64::from(status);
		}
		m.guest_writes.insert(Spr::SRR1.0, msr);
		m.guest_writes.insert(Spr::SRR0.0, 0x5150);
		m.guest_writes.insert(Spr::ASDR.0, segment);
		m.guest_writes.insert(Spr::AMR.0, amr);
		m.context.kvm.set_vrma_slb_v(vrma);
		m.context.vcpu.set_intr_msr(entry_msr & !Msr::HV.bits());
		m.exceptions.set_dar(dar);
		m.exceptions.set_dsisr(if canary { 0x7fff } else { status });
		let kind = if is_fetch { trap::H_INST_STORAGE } else { trap::H_DATA_STORAGE };
		m.traps = vec![kind, trap::HV_DECREMENTER];
		let nip = m.context.vcpu.nip();
		let (trap, _) = m.run(false);

		let runs = m.events.iter().filter(|e| **e == Event::Guest).count();
		let asks = may_answer && transaction == 0 && (is_fetch || !canary && !is_device);
		let translated = translation & if is_fetch { 2 } else { 1 } != 0;
		prop_assert_eq!(m.asked, asks.then_some(Fault {
			address: if is_fetch { nip } else { dar },
			segment: if translated { segment } else { vrma },
			status: if is_fetch { status & FETCH_STATUS } else { status },
			is_fetch,
			is_problem_state: problem,
			amr: (!is_fetch && translated).then_some(amr),
		}));
		if !asks || owner == Owner::Host {
			prop_assert_eq!((trap, runs), (kind, 1));
			return Ok(());
		}
		prop_assert_eq!((trap, runs), (trap::HV_DECREMENTER, 2));
		let found = |spr: Spr| m.found.get(&spr.0).copied();
		if let Owner::Guest(status) = owner {
			let is_relocated = relocates && translation == 3;
			let (vector, flags) = if is_fetch { (0x400, status.into()) } else { (0x300, 0) };
			let offset = if is_relocated { 0xc000_0000_0000_4000 } else { 0 };
			prop_assert_eq!(found(Spr::HSRR0), Some(vector + offset));
			let extra = if is_relocated { 0x30 } else { 0 };
			let entry = entry_msr & !Msr::HV.bits() | Msr::ME.bits() | extra;
			prop_assert_eq!(found(Spr::HSRR1), Some(entry));
			prop_assert_eq!(found(Spr::SRR0), Some(nip));
			prop_assert_eq!(found(Spr::SRR1), Some(msr & !STATUS | flags));
			if !is_fetch {
				prop_assert_eq!(found(Spr::DAR), Some(dar));
				prop_assert_eq!(found(Spr::DSISR), Some(status.into()));
			}
		} else {
			prop_assert_eq!(found(Spr::HSRR0), Some(nip));
			prop_assert_eq!(found(Spr::HSRR1), Some(msr | Msr::ME.bits()));
			prop_assert_eq!(found(Spr::SRR0), Some(0x5150));
		}
		// All else is the guest's still.
		for (spr, _) in guest_sprs() {
			let overwritten = [Spr::SRR0, Spr::SRR1, Spr::DAR, Spr::DSISR].contains(&spr);
			if switched(spr, 0, false, false) && !overwritten && ![Spr::CTRLT, Spr::PSSCR_PR].contains(&spr) {
				prop_assert_eq!(m.found[&spr.0], m.guest_writes[&spr.0], "{:?}", spr);
			}
		}
	}
}
