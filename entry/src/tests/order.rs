// SPDX-License-Identifier: GPL-2.0-only
//! The order of accesses, and how many there are.

use powerpc::{Msr, Spr};

use super::fake_cpu::*;
use super::registers::*;
use crate::sprs::GROUPS;
use crate::switch::{hfscr, trap};

/// How many there are of each costly operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Costs {
	mfspr: usize,
	mtspr: usize,
	mftb: usize,
	mtmsrd: usize,
	isync: usize,
	hwsync: usize,
	slbmte: usize,
}

fn costs(events: &[Event]) -> Costs {
	let count = |f: fn(&Event) -> bool| events.iter().filter(|event| f(event)).count();
	Costs {
		mfspr: count(|e| matches!(e, Event::Read(_))),
		mtspr: count(|e| matches!(e, Event::Write(..))),
		mftb: count(|e| *e == Event::Timebase),
		mtmsrd: count(|e| matches!(e, Event::WriteMsr(_) | Event::WriteEeRi(_))),
		isync: count(|e| *e == Event::Isync),
		hwsync: count(|e| *e == Event::Hwsync),
		slbmte: count(|e| matches!(e, Event::SlbClear(_) | Event::SlbWrite(..))),
	}
}

#[test]
fn only_listed_sprs_are_accessed() {
	for kind in [Sort::Radix, Sort::Hash] {
		for way_out in [trap::SYSCALL, trap::H_DATA_STORAGE, trap::HV_SOFTPATCH] {
			let all = hfscr::EBB | hfscr::TM | hfscr::MSGP;
			let mut m = distinct(all);
			m.of(kind);
			m.dawr = true;
			m.traps = vec![way_out];
			m.run(true);
			for event in &m.events {
				if let Event::Read(spr) | Event::Write(spr, _) = event {
					let grouped = GROUPS.iter().any(|group| group.contains(spr));
					let ruled = Spr::RULED.iter().any(|(ruled, _)| ruled == spr);
					assert!(grouped != ruled, "{spr:?}");
				}
			}
		}
	}
}

/// The round trip that an hcall is for a guest like Linux: most registers that problem
/// state has are as the host's are, facilities are not in use, no timebase offset. An
/// operation more is a decision, so this says exactly how many there are.
#[test]
fn costly_operations_of_an_hcall() {
	let linux = || {
		let mut m = uniform([0; 3], 0);
		m.context.vcpu.set_ctrl(1);
		m.guest_writes.insert(Spr::CTRLT.0, 1);
		m
	};
	let mut m = linux();
	m.run(true);
	let ours = Costs {
		mfspr: 8 + 22,
		mtspr: 20 + 8,
		mftb: 0,
		mtmsrd: 2,
		isync: 1,
		hwsync: 2,
		slbmte: 4,
	};
	assert_eq!(costs(&m.events), ours, "{}", m.journal());
	assert_ne!(m.msr & Msr::EE.bits(), 0);

	// C's, by its source (Linux 6.12, kvmhv_vcpu_entry_p9() and what it calls), for
	// the same values; and the mtmsrd with which its caller enables interrupts.
	let c = Costs {
		mfspr: 9 + 26,
		mtspr: 21 + 9,
		mftb: 1,
		mtmsrd: 3,
		isync: 2,
		hwsync: 2,
		slbmte: 4,
	};
	// The trampoline reads SRR0, SRR1, DAR and DSISR.
	assert!(ours.mfspr + 4 < c.mfspr && ours.mtspr < c.mtspr && ours.mftb < c.mftb);
	assert!(ours.mtmsrd < c.mtmsrd && ours.isync + ours.hwsync < c.isync + c.hwsync);
	assert_eq!(ours.slbmte, c.slbmte);

	// An offset costs a reading more than in C: it takes the real time to move it, and
	// there is a second look for the carry, both ways.
	let mut m = linux();
	m.context.vcore.set_tb_offset(1 << 40);
	m.run(true);
	assert_eq!(costs(&m.events).mftb, 4);
	assert_eq!(costs(&m.events).mtspr, ours.mtspr + 2);
}

#[test]
fn interrupts_come_on_with_the_last_mtmsrd_if_nothing_is_against_it() {
	type Change = fn(&mut Machine);
	let cases: [(&str, Change, bool); 6] = [
		("nothing", |_| {}, true),
		(
			"an interrupt context",
			|m| m.context.vcpu.set_xive_pushed(1),
			false,
		),
		("a timer", |m| m.timer_due = true, false),
		("an external interrupt", |m| m.traps = vec![H_VIRT], false),
		("real mode", |m| m.arrives_virtual = false, false),
		(
			"a transaction",
			|m| {
				m.context.vcpu.set_hfscr(hfscr::TM);
				m.guest_writes
					.insert(Spr::SRR1.0, (GUEST_MSR | Msr::TS_S).bits());
			},
			false,
		),
	];
	for (what, change, on) in cases {
		let mut m = uniform([0; 3], 0);
		change(&mut m);
		m.run(true);
		assert_eq!(m.msr & Msr::EE.bits() != 0, on, "{what}");
	}
}

#[test]
fn dpdes_is_read_if_it_can_be_other_than_zero() {
	for (request, facilities, read) in [(0, 0, false), (1, 0, true), (0, hfscr::MSGP, true)] {
		let mut m = uniform([0; 3], facilities);
		m.context.vcpu.set_doorbell_request(request);
		m.guest_writes.insert(Spr::DPDES.0, request.into());
		m.run(true);
		assert_eq!(m.events.contains(&Event::Read(Spr::DPDES)), read);
	}
}

#[test]
fn suspended_transaction_is_saved_before_fake_suspend_goes() {
	let mut m = uniform([0; 3], hfscr::TM);
	m.context.vcpu.set_msr((GUEST_MSR | Msr::TS_S).bits());
	m.guest_writes
		.insert(Spr::SRR1.0, (GUEST_MSR | Msr::TS_S).bits());
	m.run(true);
	let save = m.position(|e| *e == Event::Call("save_tm"));
	let ran = m.position(|e| *e == Event::Guest);
	assert!(m.position(|e| *e == Event::Call("restore_tm")) < ran);
	let psscr = m
		.events
		.iter()
		.rposition(|e| matches!(e, Event::Write(Spr::PSSCR, _)))
		.unwrap();
	assert!(save < psscr);
}
