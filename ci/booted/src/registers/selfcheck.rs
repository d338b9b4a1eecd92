// SPDX-License-Identifier: GPL-2.0-only
//! The proof that the comparison in the guest works: between two rounds each register is
//! changed while the guest waits for userspace, one by one.

use protocol::regs;
use protocol::round::{self, RoundKind, RoundPlan};
use protocol::{Column, GuestMode};
use vmm::abi::{self, KVM_REG_PPC_U32, KVM_REG_PPC_U64, KVM_REG_PPC_U128};
use vmm::machine::{Failure, Machine};

use super::arena::{self, Arena};
use super::exits::{DEC_TOLERANCE, LONGEST};
use crate::common::choose;

/// How to change a register while its guest waits for userspace.
#[derive(Clone, Copy, Debug)]
enum Handle {
	/// Among what KVM_SET_REGS sets.
	Regs(fn(&mut abi::Regs) -> &mut u64),
	/// A GPR, by number, not of those that go through the run structure.
	Gpr(usize),
	/// r4 to r12: from 0, its place in the run structure.
	Argument(usize),
	/// By KVM_SET_ONE_REG; the bit's position there is that in the register, plus this.
	One(u64, u32),
}

/// Every register that userspace can change: its word, a bit of it, and how.
fn handles(guest: GuestMode, pmu: bool) -> Vec<(usize, u32, Handle)> {
	let mut handles = vec![];
	for gpr in (0..32).filter(|&gpr| gpr != 3) {
		let handle = match gpr {
			4..=12 => Handle::Argument(gpr - 4),
			_ => Handle::Gpr(gpr),
		};
		handles.push((regs::GPR + gpr, (gpr * 2) as u32, handle));
	}
	handles.push((regs::LR, 17, Handle::Regs(|regs| &mut regs.lr)));
	// XER[CA]; a field of CR that hcalls keep.
	handles.push((regs::XER, 29, Handle::Regs(|regs| &mut regs.xer)));
	handles.push((regs::CR, 5, Handle::Regs(|regs| &mut regs.cr)));
	for (spr, field) in [(272, 0), (273, 1), (274, 2), (275, 3)] {
		let handle = match field {
			0 => Handle::Regs(|regs| &mut regs.sprg[0]),
			1 => Handle::Regs(|regs| &mut regs.sprg[1]),
			2 => Handle::Regs(|regs| &mut regs.sprg[2]),
			_ => Handle::Regs(|regs| &mut regs.sprg[3]),
		};
		handles.push((regs::spr_index(spr), 40, handle));
	}
	handles.push((regs::SRR0, 33, Handle::Regs(|regs| &mut regs.srr0)));
	handles.push((regs::SRR1, 15, Handle::Regs(|regs| &mut regs.srr1)));
	for vsr in 0..64_usize {
		// The second half of them are the vector registers, with numbers of their own.
		let id = KVM_REG_PPC_U128 | if vsr < 32 { 0x60 } else { 0x20 };
		let id = id + vsr as u64;
		let word = regs::VSR + 2 * vsr;
		handles.push((word, vsr as u32, Handle::One(id, 0)));
		handles.push((word + 1, 63 - vsr as u32, Handle::One(id, 64)));
	}
	// The rounding mode. Not VSCR: KVM_REG_PPC_VSCR sets another word than the one that a
	// little-endian kernel loads.
	handles.push((regs::FPSCR, 0, Handle::One(KVM_REG_PPC_U64 | 0x80, 0)));
	let one = |spr: u32, bit: u32, id: u64| (regs::spr_index(spr), bit, Handle::One(id, 0));
	handles.extend([
		one(19, 51, KVM_REG_PPC_U64 | 0xc),
		one(18, 9, KVM_REG_PPC_U32 | 0xd),
		one(17, 3, KVM_REG_PPC_U64 | 0x9),
		one(815, 22, KVM_REG_PPC_U64 | 0xa8),
		one(157, 30, KVM_REG_PPC_U64 | 0xf),
		one(29, 20, KVM_REG_PPC_U64 | 0xe),
		one(61, 20, KVM_REG_PPC_U64 | 0x9f),
		one(159, 11, KVM_REG_PPC_U32 | 0xa4),
		one(144, 7, KVM_REG_PPC_U64 | 0xbc),
		one(256, 19, KVM_REG_PPC_U32 | 0xb4),
		one(804, 27, KVM_REG_PPC_U64 | 0xa5),
		one(805, 28, KVM_REG_PPC_U64 | 0xa6),
		one(806, 33, KVM_REG_PPC_U64 | 0xa7),
		one(128, 35, KVM_REG_PPC_U64 | 0xa0),
		one(129, 36, KVM_REG_PPC_U64 | 0xa1),
		one(130, 37, KVM_REG_PPC_U64 | 0xa2),
		one(896, 50, KVM_REG_PPC_U64 | 0xb6),
	]);
	// FSCR[TAR].
	handles.push(one(153, 8, KVM_REG_PPC_U64 | 0xa3));
	if guest == GuestMode::Real {
		handles.push(one(48, 13, KVM_REG_PPC_U64 | 0xb2));
	}
	if pmu {
		let ids = [
			KVM_REG_PPC_U64 | 0x10,
			KVM_REG_PPC_U64 | 0x11,
			KVM_REG_PPC_U64 | 0x13,
			KVM_REG_PPC_U64 | 0x12,
			KVM_REG_PPC_U32 | 0x18,
			KVM_REG_PPC_U32 | 0x19,
			KVM_REG_PPC_U32 | 0x1a,
			KVM_REG_PPC_U32 | 0x1b,
			KVM_REG_PPC_U32 | 0x1c,
			KVM_REG_PPC_U32 | 0x1d,
			KVM_REG_PPC_U64 | 0x17,
			KVM_REG_PPC_U64 | 0x15,
			KVM_REG_PPC_U64 | 0x16,
		];
		for (index, id) in ids.into_iter().enumerate() {
			handles.push((round::PMU + index, 12, Handle::One(id, 0)));
		}
	}
	handles
}

impl Handle {
	/// Flips a bit.
	fn flip(self, machine: &mut Machine, bit: u32) -> Result<(), Failure> {
		let vcpu = machine.vcpu();
		match self {
			Self::Argument(index) => vcpu.change_args(|args| args[index] ^= 1 << bit),
			Self::Gpr(gpr) => {
				let mut regs = vcpu.regs()?;
				regs.gpr[gpr] ^= 1 << bit;
				vcpu.set_regs(&regs)?;
			}
			Self::Regs(field) => {
				let mut regs = vcpu.regs()?;
				*field(&mut regs) ^= 1 << bit;
				vcpu.set_regs(&regs)?;
			}
			Self::One(id, shift) => {
				let value = vcpu.one_reg(id)?;
				vcpu.set_one_reg(id, value ^ (1 << ((bit + shift) % 128)))?;
			}
		}
		Ok(())
	}
}

/// Rounds would find a register that changed: of every class, each register that
/// userspace can change is changed once, and just it must be found.
pub fn exits(guest: GuestMode, seed: u64, cfar: u64) -> Result<String, Failure> {
	choose(Column::C)?;
	let handles = handles(guest, true);
	let mut arena = Arena::new(guest)?;
	let plan = RoundPlan {
		kinds: RoundKind::Unknown.bit(),
		pmu: 1,
		dec_tolerance: DEC_TOLERANCE,
		dec_slip: 0,
		longest: LONGEST,
		table_is_ours: 1,
		..RoundPlan::default()
	};
	let rounds = handles.len() as u64;
	arena.start(arena::command(rounds, seed, cfar), plan);
	let mut next = handles.iter();
	let outcome = arena.finish(|machine| match next.next() {
		Some(&(_, bit, handle)) => handle.flip(machine, bit),
		None => Err(Failure::Wrong("more hcalls than rounds".into())),
	})?;
	let report = arena.report();
	let (mut missed, mut unswitched) = (vec![], vec![]);
	let found = &report.mismatches[..(outcome.mismatches as usize).min(round::MAX_MISMATCHES)];
	for (number, &(word, bit, _)) in handles.iter().enumerate() {
		let name = round::name(word);
		let mut of_round = found.iter().filter(|m| m.round == number as u64);
		match (of_round.next(), of_round.next()) {
			// DSCR has two numbers.
			(Some(one), rest) if one.register == word as u64 => {
				let twice = word == regs::spr_index(17)
					&& rest.is_some_and(|m| m.register == regs::spr_index(3) as u64);
				if one.got ^ one.expected != 1 << bit || rest.is_some() && !twice {
					missed.push(format!("{name} and more"));
				}
			}
			(Some(other), _) => {
				let other = round::name(other.register as usize);
				missed.push(format!("{other} instead of {name}"));
			}
			(None, _) if round::is_on_demand(word) => {
				unswitched.push(name.to_string());
			}
			(None, _) => missed.push(format!("not {name}")),
		}
	}
	if !unswitched.is_empty() && unswitched.len() != round::ON_DEMAND.len() {
		missed.push(format!("not {}", unswitched.join(", not ")));
	}
	if !missed.is_empty() {
		return Err(Failure::Wrong(format!("found {}", missed.join(", "))));
	}
	// And time: a decrementer that is off, and a clock that goes back.
	const VTB: u64 = KVM_REG_PPC_U64 | 0xae;
	let clocks = [
		(
			round::DEC,
			abi::KVM_REG_PPC_DEC_EXPIRY,
			2 * u128::from(DEC_TOLERANCE),
		),
		(round::VTB, VTB, 0_u128.wrapping_sub(1 << 30)),
		(round::TB, abi::KVM_REG_PPC_TB_OFFSET, 1 << 30),
	];
	arena.start(arena::command(clocks.len() as u64, seed, cfar), plan);
	let mut next = clocks.iter();
	let outcome = arena.finish(|machine| match next.next() {
		Some(&(_, id, add)) => {
			let vcpu = machine.vcpu();
			let value = vcpu.one_reg(id)?;
			let value = value.wrapping_add(add) & u128::from(u64::MAX);
			Ok(vcpu.set_one_reg(id, value)?)
		}
		None => Err(Failure::Wrong("more hcalls than rounds".into())),
	})?;
	let report = arena.report();
	let found = &report.mismatches[..(outcome.mismatches as usize).min(round::MAX_MISMATCHES)];
	for (number, (word, ..)) in clocks.iter().enumerate() {
		let of_round = |m: &&protocol::block::Mismatch| m.round == number as u64;
		let all = found.iter().filter(of_round);
		if !all.clone().any(|m| m.register == *word as u64) {
			let others: Vec<_> = all
				.map(|m| round::name(m.register as usize).to_string())
				.collect();
			return Err(Failure::Wrong(format!(
				"found {others:?} instead of {}",
				round::name(*word)
			)));
		}
	}
	let what = format!(
		"found {} registers and {} clocks, each changed once",
		handles.len() - unswitched.len(),
		clocks.len()
	);
	if unswitched.is_empty() {
		return Ok(what);
	}
	Ok(format!(
		"{what}; this machine lets guests use {} unasked, so that KVM doesn't switch them",
		unswitched.join(", ")
	))
}
