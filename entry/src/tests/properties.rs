// SPDX-License-Identifier: GPL-2.0-only
//! Properties of whole entries: what is loaded, saved and restored.

use std::collections::BTreeMap;

use powerpc::{Msr, Spr};
use proptest::prelude::*;

use super::fake_cpu::*;
use super::registers::*;
use super::strategies::*;
use crate::layout::kernel as layout;
use crate::switch::{self, hfscr, trap};
use crate::views::VcpuView;

proptest! {
	/// For any register values of the host, the vcpu and the guest: the guest finds the
	/// values of the vcpu, the vcpu gets the values that the guest leaves, and the host has its
	/// own values again. A suspended transaction, loaded, saved or both, has registers of its
	/// own.
	#[test]
	fn nobody_sees_anothers_registers(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		checkpoint in values(checkpointed_sprs().len()),
		suspended in proptest::array::uniform2(any::<bool>()),
		facilities in facilities(),
		assist in any::<bool>(),
		dawr in any::<bool>(),
		kind in kinds(),
		way_out in traps(),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, facilities);
		m.of(kind);
		m.dawr = dawr;
		m.traps = vec![way_out];
		let vcpu = m.context.vcpu;
		m.checkpoint = checkpointed_sprs().into_iter().map(|spr| spr.0).zip(checkpoint).collect();
		let [loaded, saved] = suspended.map(|suspended| {
			if suspended { GUEST_MSR | Msr::TS_S } else { GUEST_MSR }.bits()
		});
		vcpu.set_msr(loaded);
		m.guest_writes.insert(Spr::SRR1.0, saved);
		let before = m.sprs.clone();
		let had: BTreeMap<_, _> = guest_sprs().into_iter().map(|(spr, _)| (spr.0, in_vcpu(&m.context, spr))).collect();
		// `sc` leaves these.
		if way_out == trap::SYSCALL {
			m.guest_writes.insert(Spr::SRR0.0, m.context.vcpu.nip());
		}
		// A facility that it doesn't have it can't write.
		m.guest_writes.retain(|spr, _| switched(Spr(*spr), facilities, dawr, assist));
		let (trap, _) = m.run(assist);
		prop_assert_eq!(trap, way_out);

		for (spr, _) in guest_sprs() {
			if !switched(spr, facilities, dawr, assist) || assist && spr == Spr::PSSCR_PR {
				continue;
			}
			let found = m.found.get(&spr.0).copied().unwrap_or(0);
			prop_assert_eq!(found, had[&spr.0], "the guest's {:?}", spr);
			prop_assert_eq!(in_vcpu(&m.context, spr), m.guest_writes[&spr.0], "the vcpu's {:?}", spr);
		}
		let lpid = if matches!(kind, Sort::L2) { 77 } else { 7 };
		for (spr, value) in [(Spr::CIABR, vcpu.ciabr()), (Spr::HFSCR, facilities),
			(Spr::LPCR, m.lpcr), (Spr::LPIDR, lpid)]
		{
			prop_assert_eq!(m.found[&spr.0], value, "the guest's {:?}", spr);
		}
		for spr in host_sprs() {
			prop_assert_eq!(m.spr(spr), before[&spr.0], "the host's {:?}", spr);
		}
		prop_assert!(m.slb.is_empty(), "the guest's SLB is left");
		prop_assert_eq!(m.context.paca.in_guest(), layout::GUEST_MODE_NONE as u8);
		// Interrupts are either off, and the host knows, or on.
		let msr = Msr::from_bits_retain(m.msr);
		prop_assert_eq!(msr | Msr::EE, HOST_MSR);
		let known = if msr.contains(Msr::EE) { 0 } else { layout::IRQ_HARD_DIS as u8 };
		prop_assert_eq!(m.context.paca.irq_happened(), known);
	}

	/// The order of things, for any values.
	#[test]
	fn order_is_kept(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
		facilities in facilities(),
		assist in any::<bool>(),
		kind in kinds(),
		way_out in traps(),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, facilities);
		m.of(kind);
		m.traps = vec![way_out];
		m.run(assist);
		let ran = m.position(|e| *e == Event::Guest);
		let (entry, exit) = m.events.split_at(ran);
		for half in [entry, exit] {
			// An mfspr behind an mtspr waits for it. Those of transactional memory
			// can only be read once MSR has its facility on.
			let first = half.iter().position(|e| matches!(e, Event::Write(..))).unwrap();
			for event in &half[first..] {
				let late = match event {
					Event::Read(Spr::TEXASR | Spr::TFHAR | Spr::TFIAR) => false,
					Event::Read(_) | Event::Timebase => true,
					_ => false,
				};
				prop_assert!(!late, "{:?} behind the first write", event);
			}
		}
		// The barriers stand before the first of these three is written.
		let mmu = |half: &[Event]| half.iter().position(|e| {
			matches!(e, Event::Write(Spr::LPIDR | Spr::PIDR | Spr::LPCR, _))
		}).unwrap();
		let (there, back) = (mmu(entry), mmu(exit));
		prop_assert_eq!(&entry[there - 2..there], &[Event::Hwsync, Event::Isync]);
		prop_assert_eq!(&exit[back - 1], &Event::Hwsync);
		let write = |half: &[Event], spr| {
			half.iter().position(|e| matches!(e, Event::Write(s, _) if *s == spr)).unwrap()
		};
		prop_assert!(write(entry, Spr::LPIDR) < write(entry, Spr::LPCR));
		prop_assert!(write(entry, Spr::LPCR) < write(entry, Spr::HDEC));
		// In the same order, or the time between them counts twice.
		prop_assert_eq!(write(entry, Spr::HDEC) + 1, write(entry, Spr::DEC));
		let read = |spr| exit.iter().position(|e| *e == Event::Read(spr)).unwrap();
		prop_assert_eq!(read(Spr::HDEC) + 1, read(Spr::DEC));
		let mmu_back = write(exit, Spr::LPCR);
		let msr = exit.iter().position(|e| matches!(e, Event::WriteMsr(_))).unwrap();
		prop_assert!(mmu_back < msr, "MSR before the host's MMU context");
		let cleared = exit.iter().rposition(|e| {
			matches!(e, Event::SlbClear(_) | Event::SlbClearAll | Event::SlbReadVsid(_))
		}).unwrap();
		prop_assert!(cleared < write(exit, Spr::PIDR));
		// A guest that came out by an interrupt leaves it to C to enable them.
		if [H_VIRT, trap::HV_DECREMENTER, trap::HMI].contains(&way_out) {
			prop_assert_eq!(m.msr & Msr::EE.bits(), 0);
		}
	}

	/// A hash guest has its own SLB, with any entries, and no other guest has it.
	#[test]
	fn slb_is_the_hash_guests(
		slbs in proptest::collection::vec(
			proptest::collection::btree_map(0..32_u64, (any::<u64>(), any::<u64>()), 0..32), 2),
	) {
		let valid = |slb: &BTreeMap<u64, (u64, u64)>| -> BTreeMap<u64, (u64, u64)> {
			slb.iter().map(|(i, (e, v))| (*i, (e & !0xfff | 1 << 27, *v))).collect()
		};
		let (before, after) = (valid(&slbs[0]), valid(&slbs[1]));
		let mut m = uniform([0x11, 0, 0], 0);
		m.hash();
		let vcpu = m.context.vcpu;
		vcpu.set_slb_max(before.len() as u32);
		for (n, (index, (esid, vsid))) in before.iter().enumerate() {
			let entry = vcpu.slb(n as u32).unwrap();
			entry.set_orige(esid | index);
			entry.set_origv(*vsid);
		}
		// Not all entries that the guest leaves have to be valid.
		let mut left = after.clone();
		left.entry(31).or_insert((0xabc0_0000, 5));
		m.guest_slb = Some(left);
		m.run(true);
		prop_assert_eq!(&m.found_slb, &before);
		let saved: BTreeMap<u64, (u64, u64)> = (0..vcpu.slb_max()).map(|n| {
			let entry = vcpu.slb(n).unwrap();
			(entry.orige() & 0xfff, (entry.orige() & !0xfff, entry.origv()))
		}).collect();
		prop_assert_eq!(saved.len(), vcpu.slb_max() as usize);
		let after: BTreeMap<_, _> = after.into_iter().chain(
			(!slbs[1].contains_key(&31) && 0xabc0_0000_u64 & 1 << 27 != 0)
				.then_some((31, (0xabc0_0000, 5)))).collect();
		prop_assert_eq!(&saved, &after);
	}

	/// No SPR of these groups is written with the value that it has.
	#[test]
	fn equal_values_are_not_written(
		host in values(host_sprs().len()),
		vcpu_values in values(vcpu_sprs().len()),
		guest in values(guest_sprs().len()),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, hfscr::EBB);
		let mut file = m.sprs.clone();
		m.run(true);
		let groups = [Spr::TAR, Spr::VRSAVE, Spr::EBBHR, Spr::EBBRR, Spr::BESCR, Spr::TIDR,
			Spr::FSCR, Spr::DSCR, Spr::PSPB, Spr::SPRG3, Spr::IAMR, Spr::AMR, Spr::UAMOR,
			Spr::CIABR];
		for event in &m.events {
			match event {
				Event::Write(spr, value) => {
					let old = file.insert(spr.0, *value);
					prop_assert!(!groups.contains(spr) || old != Some(*value), "{:?}", event);
				}
				Event::Guest => file.extend(&m.guest_writes),
				_ => {}
			}
		}
	}

	/// The guest's timebase differs from the host's by the offset, for any low bits and any
	/// delay of the CPU before the switch.
	#[test]
	fn timebase_comes_back(low in any::<u32>(), offset in 0..1_u64 << 40, late in late()) {
		let offset = offset & !0xff_ffff;
		let mut m = uniform([0; 3], 0);
		m.tb = 1 << 50 | u64::from(low);
		m.late = late;
		m.context.vcore.set_tb_offset(offset);
		let start = m.tb;
		let (_, tb) = m.run(true);
		let way_in = late + m.position(|e| *e == Event::Guest) as u64 + 1;
		prop_assert_eq!(m.found_tb, start + way_in + offset, "the guest's");
		// A tick for each access, and what the guest ran.
		let passed = late + m.runs + m.events.len() as u64;
		prop_assert_eq!(m.tb, start + passed, "{:#x} to {:#x}", start, m.tb);
		prop_assert!(tb >= start && tb <= m.tb);
		prop_assert_eq!(m.context.vcore.tb_offset_applied(), 0);
	}

	/// An L1 may want its L2's timebase moved by what TBU40 can't: the host's stays.
	#[test]
	fn timebase_comes_back_from_an_absurd_offset(low in any::<u32>(), offset in any::<u64>()) {
		let mut m = uniform([0; 3], 0);
		m.l2();
		m.tb = 1 << 50 | u64::from(low);
		m.context.vcore.set_tb_offset(offset);
		let start = m.tb;
		m.run(true);
		let passed = m.runs + m.events.len() as u64;
		prop_assert_eq!(m.tb, start + passed, "{:#x} to {:#x}", start, m.tb);
	}

	/// An expiry time that the guest leaves alone stays what it is, however long the
	/// ways in and out take, and one that it sets is off by less than a way in.
	#[test]
	fn decrementer_does_not_drift(
		low in any::<u32>(),
		offset in prop_oneof![Just(0), (0..1_u64 << 40).prop_map(|offset| offset & !0xff_ffff)],
		after in 0..1_u64 << 40,
		runs in 0..1_u64 << 30,
		late in late(),
		kind in kinds(),
		set in proptest::option::of(0..1_u64 << 30),
		way_out in prop_oneof![Just(trap::SYSCALL), Just(trap::H_DATA_STORAGE), Just(H_VIRT)],
	) {
		let mut m = uniform([0; 3], 0);
		m.of(kind);
		m.tb = 1 << 50 | u64::from(low);
		m.runs = runs;
		m.late = late;
		m.traps = vec![way_out];
		m.context.vcore.set_tb_offset(offset);
		let expires = m.tb.wrapping_add(offset).wrapping_add(after);
		m.context.vcpu.set_dec_expires(expires);
		if let Some(dec) = set {
			m.guest_writes.insert(Spr::DEC.0, dec);
		}
		let start = m.tb;
		let (_, tb) = m.run(true);
		let way_in = late + m.position(|e| *e == Event::Guest) as u64;
		let left = m.context.vcpu.dec_expires();
		match set {
			None => prop_assert_eq!(left, expires),
			Some(dec) => {
				let exact = start + way_in + runs + offset + dec;
				prop_assert!(left <= exact + 1 && exact - left <= way_in + 1);
			}
		}
		// The time told is behind by less than a way in and the rest of the way out.
		prop_assert!(tb <= m.tb && m.tb - tb <= late + m.events.len() as u64);
	}

	/// Out by HDEC is out of time, also by the time told.
	#[test]
	fn limit_that_was_reached_is_in_the_past(limit in 1..1_u64 << 40, more in 0..100_u64) {
		let mut m = uniform([0; 3], 0);
		let limit = m.tb + limit;
		let (context, mut tb) = (m.context, m.tb);
		m.traps = vec![trap::HV_DECREMENTER];
		// HDEC is negative by then.
		m.runs = limit - m.tb + 1 + more;
		// SAFETY: no processor is involved.
		unsafe { switch::run::<Model<true, 0>, _>(&mut m, context, limit, LPCR, &mut tb) };
		prop_assert!(tb >= limit);
	}
}

#[test]
fn usage_is_charged_to_the_guest() {
	let mut m = uniform([0; 3], 0);
	m.set(Spr::PURR, 1000);
	m.context.vcpu.set_purr(50);
	m.guest_writes.insert(Spr::PURR.0, 80);
	m.run(true);
	assert_eq!(m.context.vcpu.purr(), 80);
	assert_eq!(m.spr(Spr::PURR), 1030);
}

#[test]
fn limit_in_the_past_is_no_entry() {
	let mut m = Machine::new();
	let (context, mut tb) = (m.context, m.tb);
	let limit = tb - 1;
	// SAFETY: no processor is involved.
	let trap = unsafe { switch::run::<Model<true, 0>, _>(&mut m, context, limit, LPCR, &mut tb) };
	assert_eq!((trap, m.events.len()), (trap::HV_DECREMENTER, 0));
}

#[test]
fn pending_interrupt_is_no_entry() {
	const DOORBELL: u8 = 2;
	let mut m = uniform([0; 3], 0);
	m.context.paca.set_irq_happened(DOORBELL);
	let (trap, _) = m.run(true);
	assert_eq!(trap, trap::NONE);
	assert!(
		!m.events
			.iter()
			.any(|e| matches!(e, Event::Write(..) | Event::Guest))
	);
	// The record has to say that interrupts are hard-disabled.
	assert_eq!(
		m.context.paca.irq_happened(),
		DOORBELL | layout::IRQ_HARD_DIS as u8
	);
}

#[test]
fn facilities_that_a_context_switch_took_away_are_put_back() {
	let mut m = uniform([0; 3], 0);
	m.msr &= !Msr::VSX.bits();
	m.run(true);
	let set = m.events.iter().find(|e| matches!(e, Event::WriteMsr(_)));
	let expected = HOST_MSR.bits() & !Msr::EE.bits();
	assert_eq!(set, Some(&Event::WriteMsr(expected)));
}

#[test]
fn each_trap_keeps_what_its_handler_needs() {
	for (trap, asdr, heir, fault) in [
		(trap::H_DATA_STORAGE, true, false, true),
		(trap::H_INST_STORAGE, true, false, false),
		(trap::H_EMUL_ASSIST, false, true, false),
		(trap::MACHINE_CHECK, false, false, true),
		(trap::SYSCALL, false, false, false),
		(0xea0, false, false, false),
	] {
		let mut m = uniform([0; 3], 0);
		m.traps = vec![trap | 2];
		m.guest_writes.insert(Spr::ASDR.0, 0xa5d0);
		m.guest_writes.insert(Spr::HEIR.0, 0x4e18);
		m.exceptions.set_dar(0xda0);
		m.exceptions.set_dsisr(0xd51);
		m.exceptions.set_r13(0x13);
		m.exceptions.set_ppr(0x44);
		let (got, _) = m.run(true);
		let vcpu = m.context.vcpu;
		assert_eq!(got, trap);
		assert_eq!(vcpu.fault_gpa(), if asdr { 0xa5d0 } else { 0 }, "{trap:#x}");
		assert_eq!(vcpu.emul_inst(), if heir { 0x4e18 } else { 0 }, "{trap:#x}");
		assert_eq!(vcpu.fault_dar(), if fault { 0xda0 } else { 0 }, "{trap:#x}");
		assert_eq!(
			vcpu.fault_dsisr(),
			if fault { 0xd51 } else { 0 },
			"{trap:#x}"
		);
		assert_eq!((vcpu.gpr13(), vcpu.ppr()), (0x13, 0x44));
		let called = m.events.contains(&Event::Call("machine_check"));
		assert_eq!(called, trap == trap::MACHINE_CHECK);
	}
}

#[test]
fn unavailable_facility_is_told_by_hfscr() {
	let mut m = uniform([0; 3], 0);
	m.traps = vec![trap::H_FAC_UNAVAIL];
	m.guest_writes.insert(Spr::HFSCR.0, 7 << 56);
	m.run(true);
	assert_eq!(m.context.vcpu.hfscr(), 7 << 56);
}

#[test]
fn doorbell_goes_in_and_comes_out() {
	let mut m = uniform([0; 3], 0);
	m.context.vcpu.set_doorbell_request(1);
	m.run(true);
	// The guest took it not: it is asked for again, and the host has none.
	assert_eq!(m.found[&Spr::DPDES.0], 1);
	assert_eq!(m.context.vcpu.doorbell_request(), 1);
	assert_eq!(m.spr(Spr::DPDES), 0);
}

#[test]
fn doorbells_of_l1_and_l2_are_apart() {
	for (l1, l2) in [(1, 0), (0, 1)] {
		let mut m = uniform([0; 3], 0);
		m.l2();
		m.context.vcpu.set_doorbell_request(l1);
		m.context.vcpu.set_nested_doorbell_request(l2);
		m.run(true);
		let found = m.found.get(&Spr::DPDES.0).copied().unwrap_or(0);
		assert_eq!(found, u64::from(l2));
		// The L2 did not take its doorbell, and the L1's is not touched.
		assert_eq!(m.context.vcpu.nested_doorbell_request(), l2);
		assert_eq!(m.context.vcpu.doorbell_request(), l1);
		assert_eq!(m.spr(Spr::DPDES), 0);
	}
}

#[test]
fn decrementer_of_32_bits_stays_expired_or_pending() {
	const LD: u64 = layout::HV_LPCR_LD as u64;
	for (lpcr, distance, expected) in [
		(0, -1000, -1000),
		(0, -(5 << 29), -(1 << 30)),
		(0, i64::MIN / 2, -(1 << 30)),
		(0, 5 << 29, i32::MAX.into()),
		(0, i32::MAX.into(), i32::MAX.into()),
		(LD, -(5 << 29), -(5 << 29)),
		(LD, 5 << 29, 5 << 29),
	] {
		let mut m = uniform([0; 3], 0);
		m.lpcr = LPCR & !LD | lpcr;
		let expires = m.tb.wrapping_add_signed(distance);
		m.context.vcpu.set_dec_expires(expires);
		m.run(true);
		let written = m.events.iter().find_map(|event| match event {
			Event::Write(Spr::DEC, value) => Some(*value as i64),
			_ => None,
		});
		assert_eq!(written, Some(expected), "{distance:#x} with LPCR {lpcr:#x}");
	}
}

#[test]
fn compatibility_mode_ends_with_the_guest() {
	const ARCH_207: u64 = 4;
	let mut m = uniform([0; 3], 0);
	m.context.vcore.set_pcr(ARCH_207);
	m.run(true);
	assert_eq!(m.found[&Spr::PCR.0], ARCH_207 | switch::PCR_MASK);
	assert_eq!(m.spr(Spr::PCR), switch::PCR_MASK);
}

#[test]
fn decrementer_of_32_bits_has_a_sign() {
	for (lpcr, dec, expected) in [(LPCR, 0xffff_fff0, 0xffff_fff0_i64), (0, 0xffff_fff0, -16)] {
		let mut m = uniform([0; 3], 0);
		m.lpcr = lpcr;
		m.guest_writes.insert(Spr::DEC.0, dec);
		let (_, tb) = m.run(true);
		let left = m.context.vcpu.dec_expires().wrapping_sub(tb) as i64;
		// It counts until it is read.
		let ticks = m.events.len() as i64;
		assert!((expected - ticks..=expected).contains(&left), "{left:#x}");
	}
}

#[test]
fn facility_is_taken_away_when_its_count_wraps() {
	for (bit, set) in [
		(hfscr::EBB, VcpuView::set_load_ebb as fn(VcpuView, u8)),
		(hfscr::TM, VcpuView::set_load_tm),
	] {
		for (count, kept) in [(254, true), (255, false)] {
			let mut m = uniform([0; 3], bit);
			set(m.context.vcpu, count);
			m.run(true);
			assert_eq!(
				m.context.vcpu.hfscr() & bit != 0,
				kept,
				"{bit:#x} at {count}"
			);
		}
	}
}

/// Where host and guest have the same in a register there is nothing to switch, but for
/// what the transaction leaves there.
#[test]
fn checkpoint_reaches_neither_guest_nor_host() {
	for (loaded, saved) in [(true, false), (false, true), (true, true)] {
		let state = |suspended| {
			let ts = if suspended { Msr::TS_S } else { Msr::empty() };
			(GUEST_MSR | ts).bits()
		};
		let mut m = uniform([0x55; 3], hfscr::TM);
		m.checkpoint = checkpointed_sprs()
			.into_iter()
			.map(|spr| (spr.0, 0xbad))
			.collect();
		m.context.vcpu.set_msr(state(loaded));
		m.guest_writes.clear();
		m.guest_writes.insert(Spr::SRR1.0, state(saved));
		m.run(true);
		for spr in checkpointed_sprs() {
			let which = format!("{spr:?}, {loaded} {saved}");
			assert_eq!(m.found[&spr.0], 0x55, "the guest's {which}");
			assert_eq!(in_vcpu(&m.context, spr), 0x55, "the vcpu's {which}");
			assert_eq!(m.spr(spr), 0x55, "the host's {which}");
		}
	}
}

#[test]
fn transactional_memory_that_the_cpu_lacks_is_not_touched() {
	// Userspace can put any transaction state into a vcpu's MSR.
	let mut m = uniform([0; 3], hfscr::TM);
	m.context.vcpu.set_msr((GUEST_MSR | Msr::TS_S).bits());
	m.msr &= !Msr::TM.bits();
	m.run(false);
	for event in &m.events {
		let touches = match event {
			Event::Call(name) => name.ends_with("_tm"),
			Event::Read(spr) | Event::Write(spr, _) => {
				[Spr::TEXASR, Spr::TFHAR, Spr::TFIAR].contains(spr)
			}
			Event::WriteMsr(msr) => Msr::from_bits_retain(*msr).intersects(Msr::TM | Msr::TS),
			_ => false,
		};
		assert!(!touches, "{event:?}");
	}
}

#[test]
fn emulated_softpatch_goes_straight_back() {
	for (emulates, runs) in [(true, 2), (false, 1)] {
		let mut m = uniform([0; 3], hfscr::TM | hfscr::PM);
		m.guest_writes
			.insert(Spr::SRR1.0, (GUEST_MSR | Msr::TS_S).bits());
		m.traps = vec![trap::HV_SOFTPATCH, trap::SYSCALL];
		m.emulates = emulates;
		let (trap, _) = m.run(true);
		let ran = m.events.iter().filter(|e| **e == Event::Guest).count();
		assert_eq!(ran, runs);
		assert_eq!(
			trap,
			if emulates {
				trap::SYSCALL
			} else {
				trap::HV_SOFTPATCH
			}
		);
	}
}

/// Two guests of one hypervisor can each have a suspended transaction or none; mtmsrd
/// must not pretend to another state than the processor's.
#[test]
fn transaction_state_is_the_processors() {
	for (before, after) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
		let state = |suspended| {
			let ts = if suspended == 1 {
				Msr::TS_S
			} else {
				Msr::empty()
			};
			(GUEST_MSR | ts).bits()
		};
		let mut m = uniform([0; 3], hfscr::TM);
		m.context.vcpu.set_msr(state(before));
		m.guest_writes.insert(Spr::SRR1.0, state(after));
		m.run(true);
		let last = m.events.iter().rev().find_map(|e| match e {
			Event::WriteMsr(msr) => Some(*msr),
			_ => None,
		});
		let found = Msr::from_bits_retain(last.unwrap()) & Msr::TS;
		assert_eq!(
			found.bits(),
			state(after) & Msr::TS.bits(),
			"{before} {after}"
		);
	}
}

#[test]
fn facilities_of_an_l2_are_its_l1s_decision() {
	let mut m = uniform([0; 3], hfscr::EBB | hfscr::TM);
	m.l2();
	let vcpu = m.context.vcpu;
	vcpu.set_load_ebb(255);
	vcpu.set_load_tm(255);
	m.run(true);
	assert_eq!(vcpu.hfscr(), hfscr::EBB | hfscr::TM);
	assert_eq!((vcpu.load_ebb(), vcpu.load_tm()), (255, 255));
}
