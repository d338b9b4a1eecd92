// SPDX-License-Identifier: GPL-2.0-only
//! Random hcalls against the model, with something in the way of some.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::fake::{Fake, Host, Obstacle, SLOTS};
use super::model::Model;
use crate::{Guest, Refusal, bulk_remove, hcalls};

const ENTRIES: usize = 32;

#[derive(Clone, Debug)]
enum Op {
	Enter(u64, u64, u64, u64),
	Remove(u64, u64, u64),
	Bulk([u64; 8]),
	Protect(u64, u64, u64),
	Read(u64, u64),
	ClearRef(u64),
	ClearMod(u64),
	Touch(usize, u64),
	Unmap(u64),
	Host(usize, Host),
}

/// Almost always in the table.
fn index() -> impl Strategy<Value = u64> {
	prop_oneof![
		30 => 0..ENTRIES as u64,
		1 => Just(ENTRIES as u64),
		1 => any::<u64>(),
		1 => Just(1 << 56),
	]
}

/// A few values of the AVPN, so that some match, and any others.
fn v() -> impl Strategy<Value = u64> {
	prop_oneof![
		8 => (0..4_u64, any::<bool>(), 0..2_u64, 0..128_u64).prop_map(|(avpn, large, b, flags)| {
			b << 62 | avpn << 40 | avpn << 7 | flags & !4 | if large { 4 } else { 0 }
		}),
		1 => any::<u64>(),
	]
}

fn r() -> impl Strategy<Value = u64> {
	let page = prop_oneof![
		8 => 0..0x20_u64,
		1 => 0x20..0x40_u64,
		2 => 0x100..0x300_u64,
		1 => 0x400..0x600_u64,
		1 => any::<u64>(),
	];
	// Page size bits: 64 KiB twice as often, and 16 MiB.
	let size = prop_oneof![
		Just(0x1000),
		Just(0x1000),
		Just(0x7000),
		Just(0x8000),
		Just(0x3_8000),
		Just(0),
		(0..256_u64).prop_map(|lp| lp << 12)
	];
	let low = prop_oneof![4 => (0..4096_u64).prop_map(|low| low & !0x78 | 0x10), 1 => 0..4096_u64];
	let high = prop_oneof![4 => Just(0_u64), 1 => any::<u64>()];
	(page, size, low, high).prop_map(|(page, size, low, high)| {
		page << 16 & 0x0fff_ffff_ffff_f000 | size | low | high & 0xf << 60
	})
}

fn flags() -> impl Strategy<Value = u64> {
	prop_oneof![
		Just(0),
		Just(1 << 31),
		Just(1 << 30),
		Just(1 << 37),
		Just(1 << 39),
		(0..0x1000_u64),
		any::<u64>()
	]
}

fn request() -> impl Strategy<Value = u64> {
	prop_oneof![
		12 => (0..3_u64, index()).prop_map(|(kind, index)| {
			(0x40 | kind) << 56 | index & 0xff_ffff_ffff_ffff
		}),
		1 => any::<u64>(),
		1 => Just(0xc0 << 56),
	]
}

fn avpn() -> impl Strategy<Value = u64> {
	prop_oneof![
		v().prop_map(|v| v & !0x7f),
		Just(0x20),
		Just(0x40),
		Just(0),
		any::<u64>()
	]
}

fn host() -> impl Strategy<Value = Host> {
	(0..10_u8, prop_oneof![3 => Just(true), 1 => Just(false)])
		.prop_map(|(kind, is_writable)| Host { kind, is_writable })
}

fn op() -> impl Strategy<Value = Op> {
	prop_oneof![
		12 => (flags(), index(), v(), r()).prop_map(|(f, i, v, r)| Op::Enter(f, i, v, r)),
		3 => (flags(), index(), avpn()).prop_map(|(f, i, a)| Op::Remove(f, i, a)),
		3 => (proptest::array::uniform4(request()), proptest::array::uniform4(avpn())).prop_map(
			|(r, a)| Op::Bulk([r[0], a[0], r[1], a[1], r[2], a[2], r[3], a[3]])
		),
		3 => (flags(), index(), avpn()).prop_map(|(f, i, a)| Op::Protect(f, i, a)),
		2 => (flags(), index()).prop_map(|(f, i)| Op::Read(f, i)),
		2 => index().prop_map(Op::ClearRef),
		2 => index().prop_map(Op::ClearMod),
		4 => (0..ENTRIES, 0..4_u64).prop_map(|(index, rc)| Op::Touch(index, rc << 7)),
		1 => prop_oneof![0..0x20_u64, 0x100..0x300_u64].prop_map(Op::Unmap),
		1 => (0..31_usize, host()).prop_map(|(at, host)| Op::Host(at, host)),
	]
}

fn obstacle() -> impl Strategy<Value = Obstacle> {
	prop_oneof![
		6 => Just(Obstacle::None),
		2 => (0..ENTRIES).prop_map(Obstacle::Hpte),
		2 => (0..0x20_u64).prop_map(Obstacle::Rmap),
		2 => (0..ENTRIES as u64).prop_map(Obstacle::Rev),
		1 => Just(Obstacle::MmuLock),
		1 => Just(Obstacle::Rmaps),
		1 => Just(Obstacle::Notified),
		1 => Just(Obstacle::NotifiedLater),
	]
}

/// What an hcall gives back, as text: a code and registers.
type Outcome = Result<Vec<u64>, i64>;

fn answer(result: Result<Vec<u64>, Refusal>) -> Option<Outcome> {
	match result {
		Ok(registers) => Some(Ok(registers)),
		Err(Refusal::Answer(code)) => Some(Err(code.0)),
		Err(Refusal::TooHard) => None,
	}
}

/// Has the body answer; `None` for H_TOO_HARD.
fn call(fake: &Fake, op: &Op) -> Option<Outcome> {
	answer(match *op {
		Op::Enter(flags, index, v, r) => hcalls::enter(fake, flags, index, v, r).map(|i| vec![i]),
		Op::Remove(flags, index, avpn) => {
			hcalls::remove(fake, flags, index, avpn).map(|pte| vec![pte.v, pte.r])
		}
		Op::Bulk(arguments) => {
			let mut done = arguments;
			let result = bulk_remove(fake, &mut done);
			if result == Err(Refusal::TooHard) {
				assert_eq!(done, arguments);
				return None;
			}
			// Responses come with H_PARAMETER, too.
			let code = result.map_or_else(|refusal| refusal.code().0, |()| 0);
			let mut registers = done.to_vec();
			registers.push(code as u64);
			Ok(registers)
		}
		Op::Protect(flags, index, avpn) => {
			hcalls::protect(fake, flags, index, avpn).map(|()| vec![])
		}
		Op::Read(flags, index) => hcalls::read(fake, flags, index).map(|(ptes, count)| {
			ptes[..count]
				.iter()
				.flat_map(|pte| [pte.v, pte.r])
				.collect()
		}),
		Op::ClearRef(index) => hcalls::clear_ref(fake, index).map(|r| vec![r]),
		Op::ClearMod(index) => hcalls::clear_mod(fake, index).map(|r| vec![r]),
		_ => unreachable!(),
	})
}

fn expect(model: &mut Model, op: &Op, late: u64, obstacle: Obstacle) -> Outcome {
	match *op {
		Op::Enter(flags, index, v, r) => model.enter(flags, index, v, r, obstacle).map(|i| vec![i]),
		Op::Remove(flags, index, avpn) => model
			.remove(flags, index, avpn, late)
			.map(|(v, r)| vec![v, r]),
		Op::Bulk(mut arguments) => {
			let code = model.bulk_remove(&mut arguments, late).err().unwrap_or(0);
			let mut registers = arguments.to_vec();
			registers.push(code as u64);
			Ok(registers)
		}
		Op::Protect(flags, index, avpn) => model.protect(flags, index, avpn, late).map(|()| vec![]),
		Op::Read(flags, index) => model
			.read(flags, index)
			.map(|read| read.into_iter().flat_map(|(v, r)| [v, r]).collect()),
		Op::ClearRef(index) => model.clear_ref(index, late).map(|r| vec![r]),
		Op::ClearMod(index) => model.clear_mod(index, late).map(|r| vec![r]),
		_ => unreachable!(),
	}
}

/// C would have to write a dirty bitmap.
fn is_logged(model: &Model, op: &Op) -> bool {
	match op {
		Op::Remove(_, index, _) | Op::ClearMod(index) | Op::ClearRef(index) => {
			model.is_logged(*index)
		}
		Op::Bulk(arguments) => (0..4).any(|n| {
			let word = arguments[2 * n];
			word >> 62 == 1 && model.is_logged(word & 0xff_ffff_ffff_ffff)
		}),
		_ => false,
	}
}

/// Table, reverse map and counts are the model's.
fn compare(fake: &Fake, model: &Model) {
	for (index, (entry, hpte)) in model.entries.iter().zip(&fake.table).enumerate() {
		let v = entry.v | u64::from(entry.is_valid) | if entry.is_absent { 0x20 } else { 0 };
		// B is in the second doubleword.
		let expected = (v & !(0xfff << 52), entry.r & !(3 << 58) | v >> 62 << 58);
		if entry.is_valid || entry.is_absent {
			assert_eq!((hpte.v(), hpte.r()), expected, "HPTE {index}: {entry:x?}");
			assert_eq!(
				fake.revs[index].guest_r(),
				entry.guest_r,
				"what the guest sees of {index}"
			);
		} else {
			assert_eq!(hpte.v(), 0, "HPTE {index} is not in use");
			assert_eq!(hpte.r(), expected.1, "HPTE {index}");
		}
	}
	for (slot, words) in SLOTS.iter().zip(&fake.rmaps) {
		for (page, word) in (slot.0..).zip(words) {
			let word = word.load(Ordering::Relaxed);
			let rc = model.rc.get(&page).copied().unwrap_or_default();
			assert_eq!(word >> 32 & 0x180, rc, "R and C of page {page:#x}");
			assert_eq!(word & 1 << 43, 0, "page {page:#x} is locked");
			let chain: Vec<u64> = model
				.chains
				.get(&page)
				.into_iter()
				.flatten()
				.map(|&index| index as u64)
				.collect();
			assert_eq!(fake.chain(page), chain, "chain of page {page:#x}");
		}
	}
	assert_eq!(fake.devices.load(Ordering::Relaxed), model.devices);
}

/// Each flush was of a translation of an HPTE that the hcall changed.
fn flushes(fake: &Fake, before: &Model, after: &Model) {
	let mut changed = Vec::new();
	for (index, (old, new)) in before.entries.iter().zip(&after.entries).enumerate() {
		let pte = crate::pte::Pte { v: old.v, r: old.r };
		if old.is_valid && (old.is_valid, old.r) != (new.is_valid, new.r) {
			changed.push(pte.translation(index as u64));
		}
	}
	let flushed: Vec<_> = fake.flushed.lock().unwrap().drain(..).collect();
	for translation in changed {
		assert!(
			flushed.iter().any(|flushed| flushed.0 == translation),
			"an HPTE changed and {translation:#x} was not flushed"
		);
	}
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(250))]

	#[test]
	fn hcalls_do_what_the_model_does(
		hosts in proptest::collection::vec(host(), 31),
		wants_changes in any::<bool>(),
		ops in proptest::collection::vec((op(), obstacle(), 0..4_u64), 1..120),
	) {
		let fake = Fake::new(ENTRIES, hosts.clone(), wants_changes);
		let mut model = Model::new(ENTRIES, hosts, wants_changes);
		for (op, obstacle, late) in ops {
			match &op {
				Op::Touch(index, rc) => {
					model.touch(*index, *rc);
					let hpte = &fake.table[*index];
					if hpte.v() & 1 != 0 {
						hpte.set_r(hpte.r() | rc);
					}
				}
				Op::Unmap(page) => {
					model.unmap(*page);
					fake.unmap(*page);
				}
				Op::Host(at, host) => {
					model.host[*at] = *host;
					fake.host.lock().unwrap()[*at] = *host;
				}
				_ => {
					let late = late << 7;
					fake.late.store(late, Ordering::Relaxed);
					fake.remember();
					let before = fake.snapshot();
					fake.obstruct(obstacle);
					let mut outcome = call(&fake, &op);
					fake.clear();
					let mut met = obstacle;
					if outcome.is_none() {
						prop_assert_eq!(fake.snapshot(), before, "{:?} with {:?} changed", op, obstacle);
						met = Obstacle::None;
						outcome = call(&fake, &op);
					}
					let Some(outcome) = outcome else {
						prop_assert!(is_logged(&model, &op), "{op:x?} is too hard");
						continue;
					};
					let old = model.clone();
					let expected = expect(&mut model, &op, late, met);
					prop_assert_eq!(outcome, expected, "{:x?} with {:?}", op, met);
					flushes(&fake, &old, &model);
				}
			}
			compare(&fake, &model);
		}
	}
}

/// Any registers at all: no panic, and the table stays sound.
#[test]
fn any_registers() {
	let mut runner = proptest::test_runner::TestRunner::deterministic();
	let hosts = vec![
		Host {
			kind: 9,
			is_writable: true
		};
		31
	];
	let fake = Fake::new(ENTRIES, hosts, true);
	let strategy = (0..7_u8, proptest::array::uniform8(any::<u64>()));
	for _ in 0..100_000 {
		use proptest::strategy::ValueTree;
		let (which, r) = strategy.new_tree(&mut runner).unwrap().current();
		let op = match which {
			0 => Op::Enter(r[0], r[1], r[2], r[3]),
			1 => Op::Remove(r[0], r[1], r[2]),
			2 => Op::Bulk(r),
			3 => Op::Protect(r[0], r[1], r[2]),
			4 => Op::Read(r[0], r[1]),
			5 => Op::ClearRef(r[0]),
			_ => Op::ClearMod(r[0]),
		};
		call(&fake, &op);
	}
	assert_eq!(fake.table().len(), ENTRIES);
	assert!(fake.table.iter().all(|hpte| hpte.v() & 0x40 == 0));
}
