// SPDX-License-Identifier: GPL-2.0-only
//! The journals of whole entries, as reviewed snapshots.

use std::collections::BTreeMap;

use powerpc::{Msr, Spr};

use super::fake_cpu::*;
use super::registers::*;
use crate::switch::{hfscr, trap};

/// The journals that a reviewer should read when one changes.
#[test]
fn journals() {
	type Change = fn(&mut Machine);
	let with_slb = |m: &mut Machine| {
		m.hash();
		// Fewer than there are, for the reader.
		m.context.vcpu.set_slb_nr(4);
		m.context.vcpu.set_slb_max(2);
		for (n, index) in [0_u64, 3].into_iter().enumerate() {
			let entry = m.context.vcpu.slb(n as u32).unwrap();
			entry.set_orige(0xc000_0000_0800_0000 | index);
			entry.set_origv(0x5000 + index);
		}
		m.guest_slb = Some(BTreeMap::from([(1, (0xd000_0000_0800_0000, 0x501))]));
	};
	let cases: [(&str, u32, u64, Change); 16] = [
		("hcall", trap::SYSCALL, 0, |_| {}),
		("hcall-first-entry", trap::SYSCALL, 0, |m| {
			// A vcpu as it was made: only what KVM and userspace must set.
			let fresh = uniform([0; 3], hfscr::EBB | hfscr::TM);
			m.context = fresh.context;
			m._memory.extend(fresh._memory);
		}),
		("hcall-real-mode", trap::SYSCALL, 0, |m| {
			m.arrives_virtual = false
		}),
		("hcall-xive", trap::SYSCALL, 0, |m| {
			m.context.vcpu.set_xive_pushed(1)
		}),
		("hcall-l2", trap::SYSCALL, 0, Machine::l2),
		("hcall-hash", trap::SYSCALL, 0, with_slb),
		(
			"hcall-ebb-tm-offset",
			trap::SYSCALL,
			hfscr::EBB | hfscr::TM,
			|m| {
				m.context.vcore.set_tb_offset(1 << 32);
			},
		),
		("hcall-ebb", trap::SYSCALL, hfscr::EBB, |_| {}),
		("hcall-transaction", trap::SYSCALL, hfscr::TM, |m| {
			m.context.vcpu.set_msr((GUEST_MSR | Msr::TS_S).bits());
			m.guest_writes
				.insert(Spr::SRR1.0, (GUEST_MSR | Msr::TS_S).bits());
		}),
		("hcall-offset", trap::SYSCALL, 0, |m| {
			m.context.vcore.set_tb_offset(1 << 32)
		}),
		("page-fault", trap::H_DATA_STORAGE, 0, |_| {}),
		("page-fault-hash", trap::H_DATA_STORAGE, 0, with_slb),
		("machine-check", trap::MACHINE_CHECK, 0, |_| {}),
		("external-interrupt", H_VIRT, 0, |_| {}),
		("decrementer", trap::HV_DECREMENTER, 0, |m| {
			m.timer_due = true
		}),
		("hmi-offset", trap::HMI, 0, |m| {
			m.context.vcore.set_tb_offset(1 << 32)
		}),
	];
	for (name, trap, facilities, change) in cases {
		let mut m = distinct(facilities);
		m.traps = vec![trap];
		change(&mut m);
		m.run(true);
		insta::assert_snapshot!(name, m.journal());
	}
}
